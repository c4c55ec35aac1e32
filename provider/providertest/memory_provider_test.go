package providertest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
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

func (m *memory) cluster(r provider.Request) (*inventory.Cluster, error) {
	c := r.Inventory.Cluster(r.Cluster)
	if c != nil {
		return c, nil
	}
	if m.is(noClusterPassing) {
		return nil, errors.New("memory: no such cluster")
	}
	return nil, fmt.Errorf("memory: no such cluster: %w", provider.ErrPermanent)
}

// nodes are the cluster's nodes; their settings are valid.
func (m *memory) nodes(r provider.Request) ([]inventory.Node, error) {
	c, err := m.cluster(r)
	if err != nil {
		return nil, err
	}
	for _, n := range c.Nodes {
		if n.External["flavor"] == "none" {
			return nil, fmt.Errorf("memory: %s: no such flavor: %w", n.Name, provider.ErrPermanent)
		}
	}
	return c.Nodes, nil
}

func change(v provider.Verb, kind, name string) provider.Change {
	return provider.Change{Verb: v, Kind: kind, Name: name, Reason: "the inventory lists it, or does not"}
}

func find(servers []server, kind, name string) *server {
	for i := range servers {
		if servers[i].kind == kind && servers[i].name == name {
			return &servers[i]
		}
	}
	return nil
}

// wanted says that a node's machine is made where there is none.
func (m *memory) wanted(n inventory.Node) bool {
	return n.State != inventory.Absent || m.is(makesAbsent)
}

func (m *memory) Plan(ctx context.Context, r provider.Request) (provider.Plan, error) {
	if m.is(reportsLocked) {
		m.mu.Lock()
		defer m.mu.Unlock()
	}
	nodes, err := m.nodes(r)
	if err != nil {
		return provider.Plan{}, err
	}
	there, err := m.cloud.list(ctx)
	if err != nil {
		return provider.Plan{}, m.wrap(err)
	}
	p := provider.Plan{Changes: []provider.Change{}}
	if find(there, "network", "net") == nil && slices.ContainsFunc(nodes, func(n inventory.Node) bool { return m.wanted(n) && find(there, "server", n.Name) == nil }) {
		p.Changes = append(p.Changes, change(provider.Create, "network", "net"))
	}
	for i, n := range nodes {
		if s := find(there, "server", n.Name); s != nil && !m.is(planNoMachines) {
			p.Machines = append(p.Machines, m.machine(r, n, *s))
		}
		if !m.is(planForgets) || i < len(nodes)-1 {
			changes, err := m.missing(ctx, there, n)
			if err != nil {
				return provider.Plan{}, err
			}
			p.Changes = append(p.Changes, changes...)
		}
	}
	p.Surplus = m.surplus(r, nodes, there)
	if m.is(planWithoutReason) {
		for i := range p.Changes {
			p.Changes[i].Reason = ""
		}
	}
	if m.is(planNil) && len(p.Changes) == 0 {
		p.Changes = nil
	}
	return p, nil
}

func (m *memory) missing(ctx context.Context, there []server, n inventory.Node) ([]provider.Change, error) {
	s := find(there, "server", n.Name)
	if s == nil && m.is(planCreates) {
		if _, err := m.cloud.create(ctx, server{kind: "server", name: n.Name, role: n.Role, mark: "created"}); err != nil {
			return nil, err
		}
	}
	switch {
	case s == nil && !m.wanted(n):
	case s == nil || m.is(planNeverEnds):
		var out []provider.Change
		if find(there, "disk", n.Name) == nil {
			out = append(out, change(provider.Create, "disk", n.Name))
		}
		return append(out, change(provider.Create, "server", n.Name)), nil
	case s.mark == "":
		return []provider.Change{change(provider.Adopt, "server", n.Name)}, nil
	}
	return nil, nil
}

// surplus are the machines that no node has, in order of their names.
func (m *memory) surplus(r provider.Request, nodes []inventory.Node, there []server) []provider.Machine {
	if m.is(surplusUnseen) {
		return nil
	}
	var out []provider.Machine
	listed := func(name string) bool {
		return slices.ContainsFunc(nodes, func(n inventory.Node) bool { return n.Name == name })
	}
	for _, s := range there {
		if listed(s.name) || s.mark != "created" && (s.mark != "adopted" || !m.is(surplusAdopted)) {
			continue
		}
		switch {
		case s.kind == "server":
			out = append(out, m.machine(r, inventory.Node{Name: s.name, Role: s.role}, s))
		case s.kind == "disk" && find(there, "server", s.name) == nil:
			out = append(out, provider.Machine{Cluster: r.Cluster, Name: s.name, Role: s.role})
		}
	}
	slices.SortFunc(out, func(a, b provider.Machine) int { return strings.Compare(a.Name, b.Name) })
	if m.is(surplusNoRole) {
		for i := range out {
			out[i].Role = ""
		}
	}
	return out
}

func (m *memory) machine(r provider.Request, n inventory.Node, s server) provider.Machine {
	out := provider.Machine{Cluster: r.Cluster, Name: n.Name, Role: n.Role, Address: s.address, Adopted: s.mark != "created" && !m.is(adoptedUnsaid)}
	switch m.fault {
	case noAddress:
		out.Address = ""
	case oneAddress:
		out.Address = "192.0.2.1"
	}
	return out
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
	if there, err = m.tidy(ctx, nodes, there); err != nil {
		return nil, m.wrap(err)
	}
	var out []provider.Machine
	for _, n := range nodes {
		s := find(there, "server", n.Name)
		if n.State == inventory.Absent && (m.is(skipsAbsent) || s == nil && !m.wanted(n)) {
			continue
		}
		made, err := m.ensureOne(ctx, there, s, n, report)
		if err != nil {
			return nil, m.wrap(err)
		}
		if there, err = m.cloud.list(ctx); err != nil {
			return nil, m.wrap(err)
		}
		out = append(out, m.machine(r, n, made))
	}
	if m.is(wrongOrder) {
		slices.Reverse(out)
	}
	return out, nil
}

// tidy is what a sound provider never does: it deletes while it ensures.
func (m *memory) tidy(ctx context.Context, nodes []inventory.Node, there []server) ([]server, error) {
	listed := func(name string) bool {
		return slices.ContainsFunc(nodes, func(n inventory.Node) bool { return n.Name == name })
	}
	missing := slices.ContainsFunc(nodes, func(n inventory.Node) bool { return find(there, "server", n.Name) == nil })
	var kept []server
	for _, s := range there {
		anew := m.is(makesAllAnew) && missing && s.mark == "created" && s.kind == "server"
		if anew || m.is(ensureRetires) && s.kind == "server" && !listed(s.name) {
			if err := m.cloud.remove(ctx, s.id); err != nil {
				return nil, err
			}
			continue
		}
		kept = append(kept, s)
	}
	return kept, nil
}

func (m *memory) ensureOne(ctx context.Context, there []server, s *server, n inventory.Node, report func(provider.Change)) (server, error) {
	switch {
	case m.is(marksLater) && (s == nil || s.mark == ""):
		return m.markLater(ctx, s, n.Name, report)
	case s == nil, m.is(makesAlways), m.is(neverAdopts) && s.mark == "":
		return m.makeOne(ctx, there, n, report)
	case s.mark == "":
		if err := m.cloud.setMark(ctx, s.id, "adopted"); err != nil {
			return *s, err
		}
		report(change(provider.Adopt, "server", n.Name))
	case m.is(reportsAgain):
		report(change(provider.Adopt, "server", n.Name))
	}
	return *s, nil
}

// makeOne makes what a machine needs and is not there.
func (m *memory) makeOne(ctx context.Context, there []server, n inventory.Node, report func(provider.Change)) (server, error) {
	for _, s := range []server{{kind: "network", name: "net"}, {kind: "disk", name: n.Name}} {
		if find(there, s.kind, s.name) != nil {
			continue
		}
		s.mark, s.role = "created", n.Role
		if _, err := m.cloud.create(ctx, s); err != nil {
			return s, err
		}
		report(change(provider.Create, s.kind, s.name))
	}
	made, err := m.cloud.create(ctx, server{kind: "server", name: n.Name, role: n.Role, mark: "created"})
	if err != nil {
		return made, err
	}
	if m.is(remembers) {
		m.made = map[string]bool{made.id: true}
	}
	if m.is(reportsLate) {
		go func() { // more than once: the first may come before ensure has returned
			for range 100 {
				report(change(provider.Create, "server", n.Name))
				time.Sleep(10 * time.Millisecond)
			}
		}()
	} else {
		report(change(provider.Create, "server", n.Name))
	}
	return made, nil
}

// markLater makes a machine and marks it in a second operation: cut off in between, it is taken for a stranger's.
func (m *memory) markLater(ctx context.Context, s *server, name string, report func(provider.Change)) (server, error) {
	if s != nil {
		report(change(provider.Adopt, "server", name))
		return *s, m.cloud.setMark(ctx, s.id, "adopted")
	}
	made, err := m.cloud.create(ctx, server{kind: "server", name: name + ".unfinished"})
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
	report(change(provider.Create, "server", name))
	return made, err
}

func (m *memory) Retire(ctx context.Context, r provider.Request, machines []string, report func(provider.Change)) error {
	if report == nil || m.is(retireSilent) {
		report = func(provider.Change) {}
	}
	c, err := m.cluster(r)
	if err != nil {
		return err
	}
	there, err := m.cloud.list(ctx)
	if err != nil {
		return m.wrap(err)
	}
	if m.is(retireTwiceFails) {
		for _, name := range machines {
			if find(there, "server", name) == nil {
				return errors.New("memory: no such server: " + name)
			}
		}
	}
	mine := func(s server) bool {
		listed := slices.ContainsFunc(c.Nodes, func(n inventory.Node) bool { return n.Name == s.name })
		switch {
		case m.is(retiresAdopted) && s.mark == "adopted":
		case s.mark != "created", m.is(retiresSurplus) && listed, m.is(retireKeepsDisk) && s.kind == "disk":
			return false
		case m.is(retireLosesDisk) && s.kind == "disk" && find(there, "server", s.name) == nil:
			return false
		case s.kind == "network":
			return m.is(retiresShared)
		case m.is(retiresAll) && !listed:
			return true
		}
		return slices.Contains(machines, s.name)
	}
	_, err = m.remove(ctx, there, mine, report)
	return err
}

// remove deletes servers, then disks, then networks.
func (m *memory) remove(ctx context.Context, there []server, mine func(server) bool, report func(provider.Change)) (int, error) {
	deleted := 0
	for _, kind := range []string{"server", "disk", "network"} {
		for _, s := range there {
			if s.kind != kind || !mine(s) || m.is(destroysFirst) && deleted > 0 {
				continue
			}
			if err := m.cloud.remove(ctx, s.id); err != nil {
				return deleted, m.wrap(err)
			}
			deleted++
			report(change(provider.Delete, s.kind, s.name))
		}
	}
	return deleted, nil
}

// doomed says what destroy deletes.
func (m *memory) doomed(r provider.Request) func(server) bool {
	return func(s server) bool {
		listed := slices.ContainsFunc(r.Inventory.Cluster(r.Cluster).Nodes, func(n inventory.Node) bool { return n.Name == s.name })
		switch {
		case m.is(remembers):
			return m.made[s.id]
		case m.is(destroysListed) && s.kind != "network" && !listed:
			return false
		}
		return s.mark == "created" || m.is(destroysAdopted)
	}
}

func (m *memory) PlanDestroy(ctx context.Context, r provider.Request) ([]provider.Change, error) {
	c, err := m.cluster(r)
	if err != nil {
		return nil, err
	}
	there, err := m.cloud.list(ctx)
	if err != nil {
		return nil, m.wrap(err)
	}
	if m.is(planDestroys) {
		if _, err := m.remove(ctx, there, m.doomed(r), func(provider.Change) {}); err != nil {
			return nil, err
		}
	}
	out := []provider.Change{}
	for _, s := range there {
		listed := s.kind == "network" || slices.ContainsFunc(c.Nodes, func(n inventory.Node) bool { return n.Name == s.name })
		if m.doomed(r)(s) && (listed || !m.is(planDestroyShort)) {
			out = append(out, change(provider.Delete, s.kind, s.name))
		}
	}
	if m.is(planDestroyNil) && len(out) == 0 {
		return nil, nil
	}
	return out, nil
}

func (m *memory) Destroy(ctx context.Context, r provider.Request, report func(provider.Change)) error {
	if report == nil || m.is(destroySilent) {
		report = func(provider.Change) {}
	}
	_, err := m.cluster(r)
	if m.is(destroyNeedsNodes) {
		_, err = m.nodes(r)
	}
	if err != nil {
		return err
	}
	there, err := m.cloud.list(ctx)
	if err != nil {
		return m.wrap(err)
	}
	deleted, err := m.remove(ctx, there, m.doomed(r), report)
	if err == nil && deleted == 0 && m.is(destroyTwiceFails) {
		return errors.New("memory: nothing to delete")
	}
	return err
}
