package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
)

// progressView shows a run while it goes on: a live view of running steps on a terminal, a line an event elsewhere, one
// JSON object an event on request. What it shows was redacted before.
type progressView struct {
	mode string // live, plain, json or none
	out  io.Writer

	mu    sync.Mutex
	began time.Time
	total int
	ended int
	bars  *mpb.Progress
	rows  map[string]*liveRow
}

// liveRow is one running step.
type liveRow struct {
	bar  *mpb.Bar
	mu   sync.Mutex
	line string
}

func newProgress(mode string) (*progressView, error) {
	v := &progressView{mode: mode, out: os.Stderr, began: time.Now(), rows: map[string]*liveRow{}}
	switch mode {
	case "auto":
		v.mode = "plain"
		if term.IsTerminal(int(os.Stderr.Fd())) {
			v.mode = "live"
		}
	case "live", "plain", "none":
	case "json":
		v.out = os.Stdout
	default:
		return nil, fmt.Errorf("--progress %s: expected auto, live, plain, json or none", mode)
	}
	return v, nil
}

// machine says that the output is read by a program.
func (v *progressView) machine() bool { return v.mode == "json" }

// Start begins one part of a run, which has total events that end something.
func (v *progressView) Start(total int) {
	v.Close()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.began, v.total, v.ended = time.Now(), total, 0
	if v.mode == "live" {
		v.bars = mpb.New(mpb.WithOutput(v.out), mpb.WithRefreshRate(150*time.Millisecond))
	}
}

// Waiting tells of a step that an earlier run left running.
func (v *progressView) Waiting(node, unit string) {
	if v.mode != "none" && v.mode != "json" {
		_, _ = fmt.Fprintf(v.out, "%s: waiting for %s, which an earlier run left running\n", node, unit)
	}
}

// Event shows one event. Errors of writing are not worth stopping a run for.
func (v *progressView) Event(e plan.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if e.Type == plan.End || e.Type == plan.Failed || e.Type == plan.Skipped || e.Type == plan.Changed {
		v.ended++
	}
	switch v.mode {
	case "json":
		_ = json.NewEncoder(v.out).Encode(e)
	case "plain":
		if e.Type != plan.Output {
			_, _ = fmt.Fprintln(v.out, v.text(e))
		}
	case "live":
		v.live(e)
	}
}

func (v *progressView) text(e plan.Event) string {
	at := e.Time.Sub(v.began).Round(100 * time.Millisecond)
	s := fmt.Sprintf("%7s %3d/%d %-7s %s", at, v.ended, v.total, e.Type, e.Step)
	switch e.Type {
	case plan.Begin, plan.Changed:
		s += ": " + e.Title
	case plan.End:
		s += " in " + e.Took.Round(10*time.Millisecond).String()
	case plan.Failed, plan.Skipped:
		s += ": " + e.Error
	}
	return s
}

// live keeps a row for each running step and prints a line above them when one ends.
func (v *progressView) live(e plan.Event) {
	if v.bars == nil { // before anything was asked: a machine of an earlier run is waited for
		_, _ = fmt.Fprintln(v.out, v.text(e))
		return
	}
	switch e.Type {
	case plan.Begin:
		r := &liveRow{}
		r.bar = v.bars.New(0, mpb.SpinnerStyle(), mpb.BarRemoveOnComplete(), mpb.PrependDecorators(
			decor.Name(e.Step+" "), decor.Elapsed(decor.ET_STYLE_MMSS),
		), mpb.AppendDecorators(decor.Any(func(decor.Statistics) string {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.line
		})))
		v.rows[e.Step] = r
	case plan.Changed:
		_, _ = fmt.Fprintln(v.bars, v.text(e))
	case plan.Output:
		if r := v.rows[e.Step]; r != nil {
			r.mu.Lock()
			r.line = shorten(e.Line, 60)
			r.mu.Unlock()
		}
	default:
		if r := v.rows[e.Step]; r != nil {
			r.bar.SetTotal(-1, true)
			delete(v.rows, e.Step)
		}
		_, _ = fmt.Fprintln(v.bars, v.text(e))
	}
}

func shorten(s string, most int) string {
	r := []rune(s)
	if len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// Close ends the live view.
func (v *progressView) Close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.bars == nil {
		return
	}
	for _, r := range v.rows {
		r.bar.Abort(true)
	}
	v.bars.Wait()
	v.bars, v.rows = nil, map[string]*liveRow{}
}
