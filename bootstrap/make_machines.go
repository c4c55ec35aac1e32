package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/embedded"
	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

// makeMachines makes the machines that are missing, once the bundle was checked and the operator agreed, and waits until new ones
// answer. A saved plan is compared before anything is made; afterwards its steps can not be the same any more.
func (s *Site) makeMachines(ctx context.Context, o *ApplyOptions) (plan.Plan, bool, error, error) {
	if len(s.found.changes()) == 0 && len(s.found.pending(s.wanted)) == 0 {
		deaf, err := s.awaitMachines(ctx, nil, emitter(nil, o.Events))
		return plan.Plan{}, true, deaf, err
	}
	if err := s.checkBundle(ctx); err != nil {
		return plan.Plan{}, false, nil, err
	}
	p := s.preview()
	if o.Saved != nil {
		fresh, err := s.planFound(ctx)
		if err != nil {
			return p, false, nil, err
		}
		if diff := plan.Moved(*o.Saved, fresh); len(diff) > 0 {
			return fresh, false, nil, &MovedError{Differences: diff}
		}
		o.Saved = nil
	}
	if o.ApproveMachines != nil && len(p.Changes) > 0 {
		if ok, err := o.ApproveMachines(p); err != nil || !ok {
			return p, false, nil, err
		}
	}
	deaf, err := s.ensure(ctx, p, o)
	return p, err == nil, deaf, err
}

// ensure makes the machines of both clusters at once, under the journal.
func (s *Site) ensure(ctx context.Context, p plan.Plan, o *ApplyOptions) (deaf, err error) {
	fresh := s.found.pending(s.wanted)
	if err := s.expect(fresh); err != nil {
		return nil, err
	}
	journal, err := s.openJournal(o.Version, p)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, journal.Close()) }()
	emit := emitter(journal, o.Events)
	f := found{}
	var mu sync.Mutex
	err = s.eachCluster(func(prov provider.Provider, r provider.Request) error {
		var machines []provider.Machine
		err := phase(emit, string(r.Cluster)+"/machines", "make the machines", func(report func(provider.Change)) error {
			var err error
			machines, err = prov.Ensure(ctx, r, report)
			return err
		})
		mu.Lock()
		defer mu.Unlock()
		f[r.Cluster] = provider.Plan{Changes: []provider.Change{}, Machines: machines, Surplus: s.found[r.Cluster].Surplus}
		return err
	})
	if err != nil {
		return nil, err
	}
	s.settleMachines(f)
	return s.awaitMachines(ctx, fresh, emit)
}

// emitter hands events to the journal, where there is one, and to who watches, one at a time.
func emitter(journal *plan.Journal, watch func(plan.Event)) func(plan.Event) {
	var mu sync.Mutex
	return func(e plan.Event) {
		mu.Lock()
		defer mu.Unlock()
		e.Time = time.Now()
		if journal != nil {
			journal.Record(e)
		}
		if watch != nil {
			watch(e)
		}
	}
}

// phase tells of one part of a run that is not a step: its begin, the provider's changes, its end.
func phase(emit func(plan.Event), id, title string, do func(report func(provider.Change)) error) error {
	begin := time.Now()
	emit(plan.Event{Type: plan.Begin, Step: id, Title: title})
	err := do(func(c provider.Change) { emit(plan.Event{Type: plan.Changed, Step: id, Title: changeWords(c)}) })
	e := plan.Event{Type: plan.End, Step: id, Title: title, Took: time.Since(begin)}
	if err != nil {
		e.Type, e.Error = plan.Failed, err.Error()
	}
	emit(e)
	return err
}

func changeWords(c provider.Change) string { return fmt.Sprintf("%s %s %s", c.Verb, c.Kind, c.Name) }

// checkBundle refuses to make machines that nothing can be installed on.
func (s *Site) checkBundle(ctx context.Context) error {
	if s.Bundle == nil {
		return plan.CheckBundle(plan.Input{Inventory: s.wanted})
	}
	in := plan.Input{Inventory: s.found.assumed(s.wanted), Bundle: s.Bundle, Releases: map[inventory.ClusterName][]embedded.Release{}}
	for _, c := range s.wanted.ClusterNames() {
		releases, err := embedded.Releases(ctx, in.Inventory, c)
		if err != nil {
			return err
		}
		in.Releases[c] = releases
	}
	return plan.CheckBundle(in)
}

// Assumed is an inventory whose nodes without an address have one of a documentation network, for what can be said of a site before its
// machines are there: which images it needs does not depend on addresses.
func Assumed(inv *inventory.Inventory) *inventory.Inventory { return found{}.assumed(inv) }

func (f found) assumed(wanted *inventory.Inventory) *inventory.Inventory {
	all := found{}
	address := netip.MustParseAddr("192.0.2.1") // RFC 5737
	for _, c := range wanted.ClusterNames() {
		machines := slices.Clone(f[c].Machines)
		have := byName(machines)
		for _, n := range wanted.Cluster(c).PresentNodes() {
			if _, ok := have[n.Name]; ok {
				continue
			}
			m := provider.Machine{Cluster: c, Name: n.Name, Role: n.Role, Address: n.Address}
			if m.Address == "" {
				m.Address = address.String()
				address = address.Next()
			}
			machines = append(machines, m)
		}
		all[c] = provider.Plan{Machines: machines}
	}
	return all.inventory(wanted)
}
