package main

import (
	"encoding/json"
	"fmt"
	"sort"
	"text/tabwriter"
	"time"

	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
)

// summary is the end of a run, for machines.
type summary struct {
	Type        string            `json:"type"` // always "summary"
	Succeeded   int               `json:"succeeded"`
	Failed      int               `json:"failed"`
	Skipped     int               `json:"skipped"`
	TookMS      int64             `json:"tookMs"`
	Unreachable map[string]string `json:"unreachable,omitempty"`
}

// Summary tells how a run ended: the time of every step, what failed and why, and which machines were never seen.
func (v *progressView) Summary(p plan.Plan, s plan.Summary) {
	switch v.mode {
	case "none":
	case "json":
		_ = json.NewEncoder(v.out).Encode(summary{
			Type: "summary", Succeeded: s.Count(plan.End), Failed: s.Count(plan.Failed), Skipped: s.Count(plan.Skipped),
			TookMS: s.Took.Milliseconds(), Unreachable: p.Unreachable,
		})
	default:
		v.table(p, s)
	}
}

func (v *progressView) table(p plan.Plan, s plan.Summary) {
	w := tabwriter.NewWriter(v.out, 0, 4, 2, ' ', 0)
	row := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	switch {
	case s.Empty() && p.Empty():
		row("%s: nothing to do", p.Site)
	case s.Empty():
		row("%s: nothing was done", p.Site)
	}
	done := append([]plan.Outcome{}, s.Outcomes...)
	sort.SliceStable(done, func(i, j int) bool { return done[i].Took > done[j].Took })
	for _, o := range done {
		if o.Type == plan.End {
			row("  %s\t%s\t%s", o.Took.Round(10*time.Millisecond), o.Step.ID, o.Step.Title)
		}
	}
	for _, o := range s.Outcomes {
		if o.Type != plan.End {
			row("%s\t%s\t%v", o.Type, o.Step.ID, o.Err)
		}
	}
	nodes := make([]string, 0, len(p.Unreachable))
	for n := range p.Unreachable {
		nodes = append(nodes, n)
	}
	sort.Strings(nodes)
	for _, n := range nodes {
		row("unreachable\t%s\t%s", n, p.Unreachable[n])
	}
	if !s.Empty() {
		row("%d steps done, %d failed, %d skipped in %s", s.Count(plan.End), s.Count(plan.Failed), s.Count(plan.Skipped), s.Took.Round(100*time.Millisecond))
	}
	_ = w.Flush() // the exit code tells the same
}
