package flow

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/catamaran-k8s/catamaran/bootstrap/verify/canary"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify/chainfile"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// Options are a flow's.
type Options struct {
	// Rate is how many records are made a second, all writers together.
	Rate     int
	Duration time.Duration
	// Stall is how long Wait bears that no further line arrives, 5 min when 0: above the time after which an agent sends
	// again what was not acknowledged (embedded/charts/fluentd), with the longest pause between two tries.
	Stall time.Duration
	// Log is told what happens; it may be nil.
	Log func(format string, args ...any)
}

// Flow is one run. Its methods are called one after the other.
type Flow struct {
	site      *Site
	opt       Options
	namespace string // and marker of its lines
	writers   []writer
	before    chain.Point // where the chain ended before
	begun     time.Time
	watch     *watch
	deeds     []deed
	chain     *tally
	printed   bool
	next      uint64 // the first object that was not read yet
}

// deed is a fault that was made.
type deed struct {
	Fault
	from, to time.Time
}

// Start lets writers print, and returns when all of them do.
func Start(ctx context.Context, s *Site, o Options) (*Flow, error) {
	if o.Stall == 0 {
		o.Stall = 5 * time.Minute
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	f := &Flow{site: s, opt: o, namespace: "flow-" + strings.ToLower(rand.Text()[:10])}
	var nodes []string
	for _, n := range s.site.Inventory.Clusters.Workload.PresentNodes() {
		nodes = append(nodes, n.Name)
	}
	f.writers = makeWriters(nodes, o)
	f.chain = newTally(f.namespace, f.writers)
	var err error
	if f.before, err = s.end(ctx); err != nil {
		return nil, err
	}
	f.next = f.before.Sequence + 1
	f.watch = startWatch(ctx, s, f.before.Sequence)
	if err := f.start(ctx); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	f.begun = time.Now()
	o.Log("%d writers in %s print %d lines, %d a second", len(f.writers), f.namespace, f.lines(), o.Rate)
	return f, nil
}

func (f *Flow) start(ctx context.Context) error {
	if err := makeNamespace(ctx, f.workload(), f.namespace); err != nil {
		return err
	}
	for _, w := range f.writers {
		if err := w.start(ctx, f.workload(), f.namespace, f.opt.Rate/len(f.writers)); err != nil {
			return err
		}
	}
	return f.await(ctx, 2*time.Minute, corev1.PodRunning, corev1.PodSucceeded)
}

// Close removes what Start made.
func (f *Flow) Close() error {
	f.watch.stop()
	made := canary.Workload{Client: f.workload(), Namespace: f.namespace}
	return made.Clean(context.Background()) // also after an interrupt
}

func (f *Flow) workload() kubernetes.Interface { return f.site.clients[inventory.Workload] }

func (f *Flow) lines() int {
	n := 0
	for _, w := range f.writers {
		n += w.lines
	}
	return n
}

// Nodes are the nodes of the workload cluster on which lines are written.
func (f *Flow) Nodes() []string {
	var out []string
	for _, w := range f.writers {
		out = append(out, w.node)
	}
	return out
}

// Run makes faults one after the other, with the same time before each and behind the last. One that takes longer than it
// should takes that time from what is behind it.
func (f *Flow) Run(ctx context.Context, faults []Fault) error {
	rest := f.opt.Duration
	for _, x := range faults {
		rest -= x.lasts
	}
	gap := rest / time.Duration(len(faults)+1)
	if gap <= 0 {
		return fmt.Errorf("the faults take longer than the %s for which records flow", f.opt.Duration)
	}
	next := f.begun
	for _, x := range faults {
		next = next.Add(gap)
		if err := pause(ctx, time.Until(next)); err != nil {
			return err
		}
		next = next.Add(x.lasts)
		f.opt.Log("%s: %s", time.Since(f.begun).Round(time.Second), x.Name)
		d := deed{Fault: x, from: time.Now()}
		if err := x.do(ctx, f.site); err != nil {
			return fmt.Errorf("%s: %w", x.Name, err)
		}
		d.to = time.Now()
		f.deeds = append(f.deeds, d)
	}
	return nil
}

// Wait returns when every line is in the evidence, or when none came for so long that no more can be expected: Check tells
// which. An error says that it could not be seen.
func (f *Flow) Wait(ctx context.Context) error {
	if !f.printed {
		if err := f.finish(ctx); err != nil {
			return err
		}
	}
	return f.drain(ctx)
}

// finish waits until every writer has printed all its lines.
func (f *Flow) finish(ctx context.Context) error {
	left := time.Until(f.begun.Add(f.opt.Duration))
	if err := f.await(ctx, max(0, left)+5*time.Minute, corev1.PodSucceeded); err != nil {
		return err
	}
	f.printed = true
	f.opt.Log("%s: all lines are printed", time.Since(f.begun).Round(time.Second))
	return nil
}

// drain reads objects as they come.
func (f *Flow) drain(ctx context.Context) error {
	progress, seen := time.Now(), 0
	for {
		if err := f.read(ctx, f.watch.newest()); err != nil {
			return err
		}
		if f.chain.seen == f.lines() {
			f.opt.Log("%s: all lines are in the evidence", time.Since(f.begun).Round(time.Second))
			return nil
		}
		if f.chain.seen > seen {
			progress, seen = time.Now(), f.chain.seen
		}
		if time.Since(progress) > f.opt.Stall {
			f.opt.Log("%s: %d of %d lines are in the evidence, no more came for %s", time.Since(f.begun).Round(time.Second), seen, f.lines(), f.opt.Stall)
			return nil
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
}

// read takes the objects up to a number.
func (f *Flow) read(ctx context.Context, to uint64) error {
	for ; f.next <= to; f.next++ {
		body, err := f.site.bucket.Get(ctx, chain.Key(f.site.tenant, f.next), 0)
		if err != nil {
			return err
		}
		if err := f.chain.object(body); err != nil {
			return fmt.Errorf("object %d: %w", f.next, err)
		}
	}
	return nil
}

// Check looks for every line, in the evidence and in Loki, and verifies the chain.
func (f *Flow) Check(ctx context.Context) (Report, error) {
	// what was stored twice may come behind what was waited for
	numbers, err := f.site.stores.Sequences(ctx)
	if err != nil {
		return Report{}, err
	}
	if err := f.read(ctx, numbers[f.site.tenant]); err != nil {
		return Report{}, err
	}
	r := f.report()
	f.opt.Log("%s: reading Loki", time.Since(f.begun).Round(time.Second))
	if r.Loki, err = f.loki(ctx); err != nil {
		return Report{}, err
	}
	f.opt.Log("%s: verifying the chain", time.Since(f.begun).Round(time.Second))
	if r.Chain, err = f.verify(ctx); err != nil {
		return Report{}, err
	}
	return r, nil
}

func (f *Flow) verify(ctx context.Context) (Chain, error) {
	d, err := chainfile.Run(ctx, f.subject(), chainfile.Options{
		Archive: f.site.bucket, Tenants: []string{f.site.tenant}, Sequences: f.site.stores.Sequences,
		Known: map[string]chain.Point{f.site.tenant: f.before},
	})
	if err != nil {
		return Chain{}, err
	}
	return newChain(d)
}
