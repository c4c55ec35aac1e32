package bootstrap

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/bootstrap/remote"
	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

// found is what the providers said of each cluster.
type found map[inventory.ClusterName]provider.Plan

// FindMachines asks the providers of both clusters at once which machines there are, and prepares connections to them. It makes
// nothing and dials nobody. What they say is kept: a command asks once.
func (s *Site) FindMachines(ctx context.Context) error {
	s.finding.Lock()
	defer s.finding.Unlock()
	if s.found != nil {
		return nil
	}
	return s.lookForMachines(ctx)
}

// lookForMachines is FindMachines where what was said before may be outdated: nobody else changes the site now.
func (s *Site) lookForMachines(ctx context.Context) error {
	f := found{}
	var mu sync.Mutex
	err := s.eachCluster(func(p provider.Provider, r provider.Request) error {
		have, err := p.Plan(ctx, r)
		mu.Lock()
		defer mu.Unlock()
		f[r.Cluster] = have
		return err
	})
	if err != nil {
		return err
	}
	s.settleMachines(f)
	return nil
}

// settleMachines makes the site's inventory follow the machines that were found.
func (s *Site) settleMachines(f found) {
	s.found = f
	s.Inventory = f.inventory(s.wanted)
	for _, name := range s.Inventory.ClusterNames() {
		for _, m := range append(append([]provider.Machine{}, f[name].Machines...), f[name].Surplus...) {
			if m.Address != "" {
				s.connect(m)
			}
		}
	}
}

// connect prepares (but does not dial) the connection to a machine.
func (s *Site) connect(m provider.Machine) {
	if n := s.Inventory.Node(m.Name); n != nil && m.HostKey == "" {
		m.HostKey = n.HostKey
	}
	if was, ok := s.machines[m.Name]; ok && was == m {
		return
	}
	if h, ok := s.hosts[m.Name]; ok {
		_ = h.Close() // another machine has the name now
	}
	s.machines[m.Name] = m
	s.hosts[m.Name] = remote.New(target(s.Inventory, m, s.KnownHosts()), remote.WithJumps(s.jumps))
}

// providerOf returns a cluster's provider, and the request for the cluster as the inventory's file has it.
func (s *Site) providerOf(c inventory.ClusterName) (provider.Provider, provider.Request, error) {
	p, err := s.providers.For(s.wanted.Cluster(c))
	if err != nil {
		return nil, provider.Request{}, fmt.Errorf("clusters.%s: %w", c, err)
	}
	return p, provider.Request{Inventory: s.wanted, Cluster: c}, nil
}

// eachCluster calls f for all clusters at once. A failure of one does not stop the other.
func (s *Site) eachCluster(f func(provider.Provider, provider.Request) error) error {
	var g errgroup.Group
	for _, name := range s.wanted.ClusterNames() {
		p, r, err := s.providerOf(name)
		if err != nil {
			return err
		}
		g.Go(func() error {
			if err := f(p, r); err != nil {
				return fmt.Errorf("clusters.%s: %w", name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// formable says that every cluster has the machine of a control plane, or none is to be made: its steps can be planned.
func (s *Site) formable() bool {
	for _, name := range s.wanted.ClusterNames() {
		if len(s.wanted.Cluster(name).ControlPlanes()) > 0 && len(s.Inventory.Cluster(name).ControlPlanes()) == 0 {
			return false
		}
	}
	return true
}

// changes are what the providers would make, the service cluster's first.
func (f found) changes() []plan.Change {
	var out []plan.Change
	for _, c := range []inventory.ClusterName{inventory.Service, inventory.Workload} {
		for _, change := range f[c].Changes {
			out = append(out, plan.Change{Cluster: c, Change: change})
		}
	}
	return out
}

// pending are the present nodes without a machine, sorted.
func (f found) pending(wanted *inventory.Inventory) []string {
	var out []string
	for _, c := range wanted.ClusterNames() {
		have := byName(f[c].Machines)
		for _, n := range wanted.Cluster(c).PresentNodes() {
			if _, ok := have[n.Name]; !ok {
				out = append(out, n.Name)
			}
		}
	}
	sort.Strings(out)
	return out
}

// surplus are the names of machines that the inventory does not list.
func (f found) surplus() []string {
	var out []string
	for _, p := range f {
		for _, m := range p.Surplus {
			out = append(out, m.Name)
		}
	}
	sort.Strings(out)
	return out
}

func byName(machines []provider.Machine) map[string]provider.Machine {
	out := map[string]provider.Machine{}
	for _, m := range machines {
		out[m.Name] = m
	}
	return out
}

// inventory is the wanted one with the machines that were found in it.
func (f found) inventory(wanted *inventory.Inventory) *inventory.Inventory {
	inv := *wanted
	for _, name := range wanted.ClusterNames() {
		c := *wanted.Cluster(name)
		c.Nodes = nodesOf(&c, f[name])
		if planes := c.ControlPlanes(); c.Endpoint.Address == "" && len(planes) == 1 && len(wanted.Cluster(name).ControlPlanes()) == 1 {
			c.Endpoint.Address = planes[0].Address
		}
		if name == inventory.Service {
			inv.Clusters.Service = &c
		} else {
			inv.Clusters.Workload = &c
		}
	}
	// what the inventory derives from an address that its file does not have
	if s := inv.Clusters.Service; s != nil && inv.Platform.Ingest.Address == "" {
		inv.Platform.Ingest.Address = s.Endpoint.Address
	}
	if o := inv.Platform.OIDC; o != nil && o.Address == "" {
		filled := *o
		filled.Address = inv.Platform.Ingest.Address
		inv.Platform.OIDC = &filled
	}
	return &inv
}

// nodesOf are the cluster's nodes as they are there. One without a machine is left out, unless it is absent: the cluster may still
// have it.
func nodesOf(c *inventory.Cluster, p provider.Plan) []inventory.Node {
	have := byName(p.Machines)
	nodes := make([]inventory.Node, 0, len(c.Nodes)+len(p.Surplus))
	for _, n := range c.Nodes {
		m, there := have[n.Name]
		switch {
		case there:
			n.Leaving = n.State == inventory.Absent && !m.Adopted
		case n.State != inventory.Absent:
			continue
		}
		n.Address = m.Address
		if n.HostKey == "" {
			n.HostKey = m.HostKey
		}
		nodes = append(nodes, n)
	}
	for _, m := range p.Surplus {
		n := inventory.Node{Name: m.Name, Role: m.Role, Address: m.Address, HostKey: m.HostKey, State: inventory.Absent, Leaving: true}
		if i := strings.LastIndexByte(m.Name, '-'); i > 0 {
			for _, pool := range c.Pools {
				if pool.Name == m.Name[:i] {
					n.Pool, n.SSH = pool.Name, pool.SSH
				}
			}
		}
		nodes = append(nodes, n)
	}
	return nodes
}
