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

// server is a server, or one of the things around it: a disk of its own, the network that all of a cluster share.
type server struct {
	id, kind, name, address string
	role                    inventory.Role
	mark                    string // "created" or "adopted" by the provider, else empty
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

func (c *cloud) create(ctx context.Context, s server) (server, error) {
	err := c.operate(ctx, func() {
		c.ids++
		s.id = fmt.Sprintf("%s-%d", s.kind, c.ids)
		if s.kind == "server" {
			s.address = fmt.Sprintf("192.0.2.%d", c.ids)
		}
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

// Spoil asks for a flavor that the cloud does not have.
func (c *cloud) Spoil(_ testing.TB, r provider.Request) (provider.Request, bool) {
	r.Inventory.Cluster(r.Cluster).Nodes[1].External = map[string]any{"flavor": "none"}
	return r, true
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
			_, err := c.create(t.Context(), server{kind: "server", name: n.Name})
			require.NoError(t, err)
		}
	}
	return provider.Request{Inventory: &inventory.Inventory{Clusters: inventory.Clusters{Workload: cluster}}, Cluster: inventory.Workload}
}
