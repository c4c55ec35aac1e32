package providertest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
	"github.com/catamaran-k8s/catamaran/provider/providertest"
)

// cloud is a test double: a cloud in memory, with the operations that a real one has.
type cloud struct {
	mu      sync.Mutex
	servers []server
	ids     int
	watch   func()
	broken  bool
	fault   fault
}

type server struct {
	id, name, address string
	mark              string // "created" or "adopted" by the provider, else empty
}

var errDenied = errors.New("access denied")

// operate changes the cloud, and lets the watcher in before and after.
func (c *cloud) operate(ctx context.Context, f func()) error {
	c.call()
	if err := ctx.Err(); err != nil && c.fault != ignoresContext {
		return err
	}
	c.mu.Lock()
	broken := c.broken
	if !broken {
		f()
	}
	c.mu.Unlock()
	if broken {
		return errDenied
	}
	c.call()
	if c.fault == ignoresContext {
		return nil
	}
	return ctx.Err() // the answer does not arrive
}

func (c *cloud) call() {
	c.mu.Lock()
	watch := c.watch
	c.mu.Unlock()
	if watch != nil {
		watch()
	}
}

func (c *cloud) create(ctx context.Context, name, mark string) (server, error) {
	var s server
	err := c.operate(ctx, func() {
		c.ids++
		s = server{id: fmt.Sprintf("srv-%d", c.ids), name: name, address: fmt.Sprintf("192.0.2.%d", c.ids), mark: mark}
		c.servers = append(c.servers, s)
	})
	return s, err
}

func (c *cloud) setMark(ctx context.Context, id, mark string) error {
	return c.operate(ctx, func() {
		for i := range c.servers {
			if c.servers[i].id == id {
				c.servers[i].mark = mark
			}
		}
	})
}

func (c *cloud) remove(ctx context.Context, id string) error {
	return c.operate(ctx, func() {
		c.servers = slices.DeleteFunc(c.servers, func(s server) bool { return s.id == id })
	})
}

func (c *cloud) list(ctx context.Context) ([]server, error) {
	if err := ctx.Err(); err != nil && c.fault != ignoresContext {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken {
		return nil, errDenied
	}
	return slices.Clone(c.servers), nil
}

func (c *cloud) Provider(testing.TB) provider.Provider { return &memory{cloud: c, fault: c.fault} }

func (c *cloud) Watch(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watch = f
}

func (c *cloud) Break(testing.TB) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = true
	return true
}

func (c *cloud) Resources(testing.TB) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := []string{}
	for _, s := range c.servers {
		out = append(out, s.id)
	}
	sort.Strings(out)
	return out
}

func (c *cloud) Request(t testing.TB, w providertest.Want) provider.Request {
	cluster := &inventory.Cluster{}
	for i := range w.Nodes {
		n := inventory.Node{Name: "wc-" + strconv.Itoa(i), Role: inventory.Worker, State: inventory.Present}
		if i == 0 {
			n.Role = inventory.ControlPlane
		} else if i == w.Nodes-2 {
			n.State = inventory.Absent
		}
		cluster.Nodes = append(cluster.Nodes, n)
		if i < w.Adopted {
			_, err := c.create(t.Context(), n.Name, "")
			require.NoError(t, err)
		}
	}
	return provider.Request{Inventory: &inventory.Inventory{Clusters: inventory.Clusters{Workload: cluster}}, Cluster: inventory.Workload}
}

// fault is one way to break the contract.
type fault string

const (
	sound             fault = "sound"
	planCreates       fault = "plan creates"
	planForgets       fault = "plan leaves a machine out"
	planNil           fault = "plan returns nil for nothing"
	planNeverEnds     fault = "plan is never empty"
	planWithoutReason fault = "plan gives no reason"
	makesAlways       fault = "ensure makes machines each time"
	makesAllAnew      fault = "ensure makes all anew when one is missing"
	marksLater        fault = "ensure marks a machine after it made it"
	skipsAbsent       fault = "ensure leaves absent nodes out"
	wrongOrder        fault = "ensure returns another order"
	noAddress         fault = "ensure returns no addresses"
	oneAddress        fault = "ensure returns one address for all"
	neverAdopts       fault = "ensure makes what is there"
	reportsLate       fault = "ensure reports after it returned"
	reportsLocked     fault = "ensure reports with a lock held"
	reportsNil        fault = "ensure calls a nil report"
	reportsAgain      fault = "ensure reports what was done before"
	remembers         fault = "destroy knows only what this process made"
	destroysAdopted   fault = "destroy deletes adopted machines"
	destroysFirst     fault = "destroy deletes one machine only"
	destroySilent     fault = "destroy reports nothing"
	destroyTwiceFails fault = "destroy fails where nothing is left"
	ignoresContext    fault = "the context is ignored"
	contextPermanent  fault = "being cut off is called permanent"
	losesCause        fault = "being cut off loses its cause"
	deniedPassing     fault = "access denied is called passing"
	noClusterPassing  fault = "a cluster that is not there is called passing"
	sharedState       fault = "two calls at once disturb each other"
)

// memory is a test double: a provider of that cloud, sound or with one fault.
type memory struct {
	cloud *cloud
	fault fault
	mu    sync.Mutex
	made  map[string]bool
	busy  bool
}

func (m *memory) is(f fault) bool { return m.fault == f }

func (m *memory) wrap(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errDenied) && !m.is(deniedPassing):
		return fmt.Errorf("memory: %w: %w", err, provider.ErrPermanent)
	case m.is(contextPermanent):
		return fmt.Errorf("memory: %w: %w", err, provider.ErrPermanent)
	case m.is(losesCause):
		return fmt.Errorf("memory: %v", err) //nolint:errorlint // the fault is that it does not wrap
	}
	return fmt.Errorf("memory: %w", err)
}

func (m *memory) nodes(r provider.Request) ([]inventory.Node, error) {
	c := r.Inventory.Cluster(r.Cluster)
	if c != nil {
		return c.Nodes, nil
	}
	if m.is(noClusterPassing) {
		return nil, errors.New("memory: no such cluster")
	}
	return nil, fmt.Errorf("memory: no such cluster: %w", provider.ErrPermanent)
}

func (m *memory) Plan(ctx context.Context, r provider.Request) ([]provider.Change, error) {
	if m.is(reportsLocked) {
		m.mu.Lock()
		defer m.mu.Unlock()
	}
	nodes, err := m.nodes(r)
	if err != nil {
		return nil, err
	}
	there, err := m.cloud.list(ctx)
	if err != nil {
		return nil, m.wrap(err)
	}
	out := []provider.Change{}
	for i, n := range nodes {
		s := find(there, n.Name)
		switch {
		case s == nil && m.is(planCreates):
			if _, err := m.cloud.create(ctx, n.Name, "created"); err != nil {
				return nil, err
			}
			fallthrough
		case s == nil || m.is(planNeverEnds):
			if !m.is(planForgets) || i < len(nodes)-1 {
				out = append(out, change(provider.Create, n.Name))
			}
		case s.mark == "":
			out = append(out, change(provider.Adopt, n.Name))
		}
	}
	if m.is(planWithoutReason) {
		for i := range out {
			out[i].Reason = ""
		}
	}
	if m.is(planNil) && len(out) == 0 {
		return nil, nil
	}
	return out, nil
}

func change(v provider.Verb, name string) provider.Change {
	return provider.Change{Verb: v, Kind: "server", Name: name, Reason: "the inventory lists it"}
}

func find(servers []server, name string) *server {
	for i := range servers {
		if servers[i].name == name {
			return &servers[i]
		}
	}
	return nil
}

func (m *memory) Ensure(ctx context.Context, r provider.Request, report func(provider.Change)) ([]provider.Machine, error) {
	if report == nil && !m.is(reportsNil) {
		report = func(provider.Change) {}
	}
	if m.is(reportsLocked) {
		m.mu.Lock()
		defer m.mu.Unlock()
	}
	if m.is(sharedState) {
		m.mu.Lock()
		busy := m.busy
		m.busy = true
		m.mu.Unlock()
		if busy {
			return nil, errors.New("memory: another call is on its way")
		}
	}
	nodes, err := m.nodes(r)
	if err != nil {
		return nil, err
	}
	there, err := m.cloud.list(ctx)
	if err != nil {
		return nil, m.wrap(err)
	}
	if m.is(makesAllAnew) {
		for _, n := range nodes {
			if find(there, n.Name) == nil {
				for _, s := range there {
					if s.mark == "created" {
						if err := m.cloud.remove(ctx, s.id); err != nil {
							return nil, m.wrap(err)
						}
					}
				}
				there = slices.DeleteFunc(there, func(s server) bool { return s.mark == "created" })
				break
			}
		}
	}
	var out []provider.Machine
	for _, n := range nodes {
		if m.is(skipsAbsent) && n.State == inventory.Absent {
			continue
		}
		s, err := m.ensureOne(ctx, find(there, n.Name), n.Name, report)
		if err != nil {
			return nil, m.wrap(err)
		}
		out = append(out, provider.Machine{Cluster: r.Cluster, Name: n.Name, Role: n.Role, Address: m.address(s)})
	}
	if m.is(wrongOrder) {
		slices.Reverse(out)
	}
	return out, nil
}

func (m *memory) address(s server) string {
	switch m.fault {
	case noAddress:
		return ""
	case oneAddress:
		return "192.0.2.1"
	}
	return s.address
}

func (m *memory) ensureOne(ctx context.Context, s *server, name string, report func(provider.Change)) (server, error) {
	switch {
	case m.is(marksLater) && (s == nil || s.mark == ""):
		return m.markLater(ctx, s, name, report)
	case s == nil, m.is(makesAlways), m.is(neverAdopts) && s.mark == "":
		made, err := m.cloud.create(ctx, name, "created")
		if err != nil {
			return made, err
		}
		if m.is(remembers) {
			m.made = map[string]bool{made.id: true}
		}
		if m.is(reportsLate) {
			go func() { // more than once: the first may come before ensure has returned
				for range 100 {
					report(change(provider.Create, name))
					time.Sleep(10 * time.Millisecond)
				}
			}()
		} else {
			report(change(provider.Create, name))
		}
		return made, nil
	case s.mark == "":
		if err := m.cloud.setMark(ctx, s.id, "adopted"); err != nil {
			return *s, err
		}
		report(change(provider.Adopt, name))
	case m.is(reportsAgain):
		report(change(provider.Adopt, name))
	}
	return *s, nil
}

// markLater makes a machine and marks it in a second operation: cut off in between, it is taken for a stranger's.
func (m *memory) markLater(ctx context.Context, s *server, name string, report func(provider.Change)) (server, error) {
	if s != nil {
		report(change(provider.Adopt, name))
		return *s, m.cloud.setMark(ctx, s.id, "adopted")
	}
	made, err := m.cloud.create(ctx, name+".unfinished", "")
	if err != nil {
		return made, err
	}
	err = m.cloud.operate(ctx, func() {
		for i := range m.cloud.servers {
			if m.cloud.servers[i].id == made.id {
				m.cloud.servers[i].name, m.cloud.servers[i].mark = name, "created"
			}
		}
	})
	report(change(provider.Create, name))
	return made, err
}

func (m *memory) Destroy(ctx context.Context, r provider.Request, report func(provider.Change)) error {
	if report == nil {
		report = func(provider.Change) {}
	}
	if _, err := m.nodes(r); err != nil {
		return err
	}
	there, err := m.cloud.list(ctx)
	if err != nil {
		return m.wrap(err)
	}
	deleted := 0
	for _, s := range there {
		mine := s.mark == "created" || m.is(destroysAdopted)
		if m.is(remembers) {
			mine = m.made[s.id]
		}
		if !mine || m.is(destroysFirst) && deleted > 0 {
			continue
		}
		if err := m.cloud.remove(ctx, s.id); err != nil {
			return m.wrap(err)
		}
		deleted++
		if !m.is(destroySilent) {
			report(change(provider.Delete, s.name))
		}
	}
	if deleted == 0 && m.is(destroyTwiceFails) {
		return errors.New("memory: nothing to delete")
	}
	return nil
}
