package providertest

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

// stage is one world with what a case does in it.
type stage struct {
	testing.TB
	World
	h Harness
}

func newStage(t testing.TB, h Harness) *stage { return &stage{TB: t, World: h.World(t), h: h} }

// bounded ends a call that hangs.
func (s *stage) bounded() context.Context {
	ctx, cancel := context.WithTimeout(s.Context(), s.h.patience())
	s.Cleanup(cancel)
	return ctx
}

func (h Harness) patience() time.Duration {
	if h.Patience > 0 {
		return h.Patience
	}
	return 20 * time.Second
}

func (s *stage) request(w Want) provider.Request { return s.World.Request(s.TB, w) }

func (s *stage) resources() []string { return s.World.Resources(s.TB) }

func (s *stage) provider() provider.Provider { return s.World.Provider(s.TB) }

func (s *stage) ensure(r provider.Request) []provider.Machine {
	s.Helper()
	m, err := s.provider().Ensure(s.bounded(), r, func(provider.Change) {})
	require.NoError(s, err, "ensure")
	return m
}

func (s *stage) plan(r provider.Request) provider.Plan {
	s.Helper()
	p, err := s.provider().Plan(s.bounded(), r)
	require.NoError(s, err, "plan")
	return p
}

// retire returns what was reported.
func (s *stage) retire(r provider.Request, names ...string) []provider.Change {
	s.Helper()
	var done reports
	require.NoError(s, s.provider().Retire(s.bounded(), r, names, done.add), "retire")
	return done.done
}

func (s *stage) planDestroy(r provider.Request) []provider.Change {
	s.Helper()
	c, err := s.provider().PlanDestroy(s.bounded(), r)
	require.NoError(s, err, "plan of destroy")
	return c
}

func (s *stage) destroy(r provider.Request) {
	s.Helper()
	require.NoError(s, s.provider().Destroy(s.bounded(), r, func(provider.Change) {}), "destroy")
}

func nodesOf(r provider.Request) []inventory.Node { return r.Inventory.Cluster(r.Cluster).Nodes }

// changed is a request with the workload cluster's nodes changed; the other request stays as it is.
func changed(r provider.Request, f func([]inventory.Node) []inventory.Node) provider.Request {
	inv, c := *r.Inventory, *r.Inventory.Cluster(r.Cluster)
	c.Nodes, c.Pools = f(slices.Clone(c.Nodes)), slices.Clone(c.Pools)
	for i, p := range c.Pools {
		c.Pools[i].Count = 0
		for _, n := range c.Nodes {
			if n.Pool == p.Name {
				c.Pools[i].Count++
			}
		}
	}
	inv.Clusters.Workload = &c
	return provider.Request{Inventory: &inv, Cluster: r.Cluster}
}

// present is a request without absent nodes.
func present(r provider.Request) provider.Request {
	return changed(r, func(nodes []inventory.Node) []inventory.Node {
		for i := range nodes {
			nodes[i].State = inventory.Present
		}
		return nodes
	})
}

// shrunk is a request without the last n nodes, as a smaller pool is, and the names of these, sorted.
func shrunk(r provider.Request, n int) (provider.Request, []string) {
	var gone []string
	out := changed(r, func(nodes []inventory.Node) []inventory.Node {
		for _, node := range nodes[len(nodes)-n:] {
			gone = append(gone, node.Name)
		}
		return nodes[:len(nodes)-n]
	})
	sort.Strings(gone)
	return out, gone
}

// reports gathers changes from several goroutines.
type reports struct {
	mu   sync.Mutex
	done []provider.Change
}

func (r *reports) add(c provider.Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done = append(r.done, c)
}

// all are the changes without their order and reasons.
func (r *reports) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return words(r.done)
}

func words(changes []provider.Change) []string {
	out := []string{}
	for _, c := range changes {
		out = append(out, fmt.Sprintf("%s %s %s", c.Verb, c.Kind, c.Name))
	}
	sort.Strings(out)
	return out
}

func names(machines []provider.Machine) []string {
	var out []string
	for _, m := range machines {
		out = append(out, m.Name)
	}
	return out
}

func addresses(machines []provider.Machine) []string {
	var out []string
	for _, m := range machines {
		out = append(out, m.Name+" "+m.Address)
	}
	return out
}
