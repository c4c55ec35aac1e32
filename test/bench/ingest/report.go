package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// clientName is this process, which makes the load.
const clientName = "load"

// moment is what stood on the counters once.
type moment struct {
	time   time.Time
	amount amount
	cpu    map[string]time.Duration
}

// result is what a phase gave.
type result struct {
	amount amount
	wall   time.Duration
	cpu    map[string]time.Duration // of each process
	peak   map[string]int64         // the most memory of each, in bytes
	// means of the objects that the gateway wrote: records, bytes before and after compression. 0: there was no gateway.
	objectRecords, objectPlain, objectStored float64
}

// between is what happened between two moments.
func between(begin, end moment, running []*process) (result, error) {
	r := result{
		amount: amount{end.amount.records - begin.amount.records, end.amount.bytes - begin.amount.bytes, end.amount.parts - begin.amount.parts},
		wall:   end.time.Sub(begin.time), cpu: map[string]time.Duration{}, peak: map[string]int64{},
	}
	for name, used := range end.cpu {
		r.cpu[name] = used - begin.cpu[name]
	}
	for _, p := range running {
		var err error
		if r.peak[p.name], err = peakOf(p.cmd.Process.Pid); err != nil {
			return r, p.said(err)
		}
	}
	if r.amount.parts == 0 {
		return r, fmt.Errorf("nothing was acknowledged within %s: measure for longer", r.wall)
	}
	return r, nil
}

// servers is the processor time of all but the load, which stands on other machines in an installation.
func (r result) servers() time.Duration {
	var sum time.Duration
	for name, used := range r.cpu {
		if name != clientName {
			sum += used
		}
	}
	return sum
}

func (r result) String() string {
	text := fmt.Sprintf("%7.0f records/s %6.1f MB/s", float64(r.amount.records)/r.wall.Seconds(), megabytes(r)/r.wall.Seconds())
	for _, name := range []string{gatewayName, lokiName, storeName, clientName} {
		if used, ok := r.cpu[name]; ok {
			text += fmt.Sprintf("  %s %.1f s", name, used.Seconds())
		}
	}
	return text
}

func megabytes(r result) float64 { return float64(r.amount.bytes) / 1e6 }

// spread is the median of results, and the least and most.
func spread(results []result, format string, of func(result) float64) string {
	v := make([]float64, len(results))
	for i, r := range results {
		v[i] = of(r)
	}
	slices.Sort(v)
	return fmt.Sprintf(format+" ("+format+"-"+format+")", median(results, of), v[0], v[len(v)-1])
}

func median(results []result, of func(result) float64) float64 {
	v := make([]float64, len(results))
	for i, r := range results {
		v[i] = of(r)
	}
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// What the tables say of a result.
func recordsPerSecond(r result) float64 { return float64(r.amount.records) / r.wall.Seconds() }
func bytesPerSecond(r result) float64   { return megabytes(r) / r.wall.Seconds() }
func wholeRecords(r result) float64     { return float64(r.amount.records) / r.servers().Seconds() }
func wholeBytes(r result) float64       { return megabytes(r) / r.servers().Seconds() }
func gatewayRecords(r result) float64 {
	return float64(r.amount.records) / r.cpu[gatewayName].Seconds()
}
func gatewayBytes(r result) float64 { return megabytes(r) / r.cpu[gatewayName].Seconds() }

func report(to io.Writer, all []contender, results [][]result) error {
	w := tabwriter.NewWriter(to, 0, 4, 2, ' ', tabwriter.AlignRight)
	row := func(cells ...string) { fmt.Fprintln(w, strings.Join(cells, "\t")+"\t") } //nolint:errcheck // Flush tells
	row("\nmedians (least-most)", "records/s", "MB/s", "records/s a core of the gateway", "MB/s", "records/s a core of all servers", "MB/s")
	for i, c := range all {
		r := results[i]
		cells := []string{c.name, spread(r, "%.0f", recordsPerSecond), spread(r, "%.1f", bytesPerSecond), "-", "-"}
		if slices.Contains(c.servers, gatewayName) {
			cells[3], cells[4] = spread(r, "%.0f", gatewayRecords), spread(r, "%.1f", gatewayBytes)
		}
		row(append(cells, spread(r, "%.0f", wholeRecords), spread(r, "%.1f", wholeBytes))...)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	names := []string{gatewayName, lokiName, storeName}
	head := []string{"\nmedians"}
	for _, name := range append(slices.Clone(names), clientName) {
		head = append(head, "cores of "+name)
	}
	for _, name := range names {
		head = append(head, "most RSS of "+name)
	}
	row(append(head, "objects/s", "bytes before", "bytes stored")...)
	for i, c := range all {
		cells := []string{c.name}
		for _, name := range append(slices.Clone(names), clientName) {
			cell := "-"
			if _, ok := results[i][0].cpu[name]; ok {
				cell = fmt.Sprintf("%.2f", median(results[i], func(r result) float64 { return r.cpu[name].Seconds() / r.wall.Seconds() }))
			}
			cells = append(cells, cell)
		}
		for _, name := range names {
			most := int64(0)
			for _, r := range results[i] {
				most = max(most, r.peak[name])
			}
			cell := "-"
			if most > 0 {
				cell = fmt.Sprintf("%d MiB", most>>20)
			}
			cells = append(cells, cell)
		}
		if results[i][0].objectRecords > 0 {
			of := func(f func(result) float64) string { return fmt.Sprintf("%.0f", median(results[i], f)) }
			cells = append(cells, fmt.Sprintf("%.1f", median(results[i], func(r result) float64 { return recordsPerSecond(r) / r.objectRecords })),
				of(func(r result) float64 { return r.objectPlain }), of(func(r result) float64 { return r.objectStored }))
		} else {
			cells = append(cells, "-", "-", "-")
		}
		row(cells...)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for i, c := range all[:2] {
		_, err := fmt.Fprintf(to, "\n%s: %s", c.name, compared(results[i], all[2:], results[2:]))
		if err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(to)
	return err
}

func compared(own []result, others []contender, results [][]result) string {
	var parts []string
	for i, c := range others {
		parts = append(parts, fmt.Sprintf("%.2f of %s's records/s (%.2f a core of all servers)", median(own, recordsPerSecond)/median(results[i], recordsPerSecond),
			c.name, median(own, wholeRecords)/median(results[i], wholeRecords)))
	}
	return strings.Join(parts, ", ")
}
