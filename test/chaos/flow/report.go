package flow

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/catamaran-k8s/catamaran/bootstrap/verify"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify/chainfile"
)

// Report is what became of a flow.
type Report struct {
	Printed int
	// Rate is lines a second, from the first to the last that was printed.
	Rate       float64
	Took       time.Duration
	Evidence   int
	Missing    []Lines
	Duplicates []Duplicates
	Alien      []string
	Loki       Loki
	Chain      Chain
	Faults     []Outcome
	// MaxDelay is the longest time from the printing of a line until it was in both stores, Median the usual one.
	MaxDelay, Median time.Duration
	// Unclocked are lines that are in the evidence, but nobody knows since when.
	Unclocked int
	Load      string // of this machine at the end, as in /proc/loadavg
}

// Chain is the verification of the whole chain.
type Chain struct {
	Objects  int64
	Verdict  verify.Verdict
	Findings []string
}

// Outcome is what a fault led to, until the next one.
type Outcome struct {
	Name string
	// At is when it began, since the flow did; Lasted how long its cause was there.
	At, Lasted time.Duration
	// Silence is the longest time in which nothing became stored.
	Silence time.Duration
	// Recovery is from the end of the cause until all that was printed by then was in both stores. Without any fault it is
	// what lines take anyway: the agent collects them for 5 s, the gateway for 1 s.
	Recovery time.Duration
	// MaxDelay is of the lines that were printed until the next fault.
	MaxDelay time.Duration
}

func newChain(d verify.Document) (Chain, error) {
	var data chainfile.Data
	if err := json.Unmarshal(d.Data, &data); err != nil {
		return Chain{}, err
	}
	c := Chain{Verdict: d.Verdict}
	for _, r := range data.Reports {
		c.Objects += r.Objects
	}
	for _, f := range d.Findings {
		c.Findings = append(c.Findings, fmt.Sprintf("%s: %s", f.Subject, f.Message))
	}
	return c, nil
}

func (f *Flow) subject() verify.Subject {
	return verify.Subject{Site: f.site.site.Inventory.Metadata.Name, Operator: f.site.site.Operator, Version: "test"}
}

// report is what the evidence tells.
func (f *Flow) report() Report {
	t := f.chain
	r := Report{
		Printed: f.lines(), Evidence: t.seen, Missing: t.missing(), Duplicates: t.duplicates(f.deeds), Alien: t.alien,
	}
	load, _ := os.ReadFile("/proc/loadavg") // where there is none, nothing is told of it
	r.Load = strings.TrimSpace(string(load))
	steps := f.watch.times()
	for i, d := range f.deeds {
		next := steps[len(steps)-1].at
		if i+1 < len(f.deeds) {
			next = f.deeds[i+1].from
		}
		begin, end := steps.silence(d.from, next)
		r.Faults = append(r.Faults, Outcome{
			Name: d.Name, At: d.from.Sub(f.begun), Lasted: d.to.Sub(d.from), Silence: end.Sub(begin),
		})
	}
	r.delays(t, steps, f.deeds)
	return r
}

// delays measures how long lines took.
func (r *Report) delays(t *tally, steps times, deeds []deed) {
	var first, last int64
	var all []time.Duration
	for _, found := range t.found {
		for _, s := range found {
			if s.printed == 0 {
				continue
			}
			if first == 0 || s.printed < first {
				first = s.printed
			}
			last = max(last, s.printed)
			at, ok := steps.stored(s.object)
			if !ok {
				r.Unclocked++
				continue
			}
			printed := time.Unix(0, s.printed)
			delay := at.Sub(printed)
			all = append(all, delay)
			until := true
			for i := len(deeds) - 1; i >= 0; i-- {
				if until && !printed.Before(deeds[i].from) {
					r.Faults[i].MaxDelay, until = max(r.Faults[i].MaxDelay, delay), false
				}
				if !printed.After(deeds[i].to) {
					r.Faults[i].Recovery = max(r.Faults[i].Recovery, at.Sub(deeds[i].to))
				}
			}
		}
	}
	if len(all) == 0 {
		return
	}
	r.MaxDelay, r.Median = spread(all)
	r.Took = time.Duration(last - first)
	r.Rate = float64(r.Evidence) / r.Took.Seconds()
}

// Problems are what is not as it has to be; none: no line was lost, none is there twice but for a reason, the chain is whole.
func (r Report) Problems() error {
	var p []error
	add := func(bad bool, format string, args ...any) {
		if bad {
			p = append(p, fmt.Errorf(format, args...))
		}
	}
	add(r.Printed == 0, "no line was printed: nothing is proven")
	add(len(r.Missing) > 0, "%d lines are not in the evidence: %v", count(r.Missing), r.Missing)
	add(len(r.Alien) > 0, "%d records in the evidence are not as they were printed, such as %.300q", len(r.Alien), first(r.Alien))
	for _, d := range r.Duplicates {
		add(d.Kill == "", "%d lines are in the evidence again, in objects %d and %d: %s", d.To-d.From+1, d.First, d.Second, d.Lines)
	}
	add(len(r.Loki.Missing) > 0, "%d lines are not in Loki: %v", count(r.Loki.Missing), r.Loki.Missing)
	add(r.Loki.More > r.more(), "%d lines are in Loki again, %d in the evidence", r.Loki.More, r.more())
	add(len(r.Loki.Alien) > 0, "%d records in Loki are not as they were printed, such as %.300q", len(r.Loki.Alien), first(r.Loki.Alien))
	add(r.Chain.Verdict != verify.Pass, "the chain: %s %v", r.Chain.Verdict, r.Chain.Findings)
	return errors.Join(p...)
}

// more is how many copies of lines there are beside the first ones.
func (r Report) more() int {
	n := 0
	for _, d := range r.Duplicates {
		n += d.To - d.From + 1
	}
	return n
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// String is the report for people.
func (r Report) String() string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	say("%d lines printed in %s, %.0f a second", r.Printed, r.Took.Round(time.Second), r.Rate)
	say("evidence: %d lines, %d missing, %d more copies; Loki: %d lines, %d missing, %d more copies",
		r.Evidence, count(r.Missing), r.more(), r.Loki.Lines, count(r.Loki.Missing), r.Loki.More)
	for _, d := range r.Duplicates {
		why := d.Kill
		if why == "" {
			why = "no reason"
		}
		say("  twice: %s, in objects %d and %d: %s", d.Lines, d.First, d.Second, why)
	}
	say("chain: %s, %d objects", r.Chain.Verdict, r.Chain.Objects)
	say("until a line was in both stores: median %s, at most %s (watched every %s)", tenth(r.Median), tenth(r.MaxDelay), interval)
	if r.Unclocked > 0 {
		say("  %d lines are without a time", r.Unclocked)
	}
	say("load of this machine: %s", r.Load)
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "at\tfault\tlasted\tnothing stored for\tcaught up after\tlongest delay") // the writer keeps the error for Flush
	for _, o := range r.Faults {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", o.At.Round(time.Second), o.Name, tenth(o.Lasted), tenth(o.Silence), tenth(o.Recovery), tenth(o.MaxDelay))
	}
	_ = w.Flush() // to memory
	return b.String()
}

func tenth(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }

// spread returns the greatest and the median.
func spread(all []time.Duration) (greatest, median time.Duration) {
	slices.Sort(all)
	return all[len(all)-1], all[len(all)/2]
}
