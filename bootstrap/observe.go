package bootstrap

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/catamaran-k8s/catamaran/bootstrap/host"
	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/bootstrap/remote"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// Observation is what was seen of all machines at once.
type Observation struct {
	Facts       map[string]*host.Facts
	Unreachable map[string]error
}

// Observe runs the facts script on every machine at once: one connection and one command each. Nothing is written.
func (s *Site) Observe(ctx context.Context) (Observation, error) {
	o := Observation{Facts: map[string]*host.Facts{}, Unreachable: map[string]error{}}
	type seen struct {
		node  string
		facts *host.Facts
		err   error
	}
	results := make(chan seen)
	var g errgroup.Group
	count := 0
	for _, name := range s.Inventory.ClusterNames() {
		for _, n := range s.Inventory.Cluster(name).Nodes {
			r, ok := s.hosts[n.Name]
			if !ok {
				continue
			}
			q, err := s.query(name, n)
			if err != nil {
				return o, err
			}
			count++
			g.Go(func() error {
				f, err := observe(ctx, r, q)
				results <- seen{n.Name, f, err}
				return nil
			})
		}
	}
	for range count {
		r := <-results
		if r.err != nil {
			o.Unreachable[r.node] = r.err
		} else {
			o.Facts[r.node] = r.facts
		}
	}
	return o, ctx.Err()
}

func observe(ctx context.Context, r remote.Runner, q host.Query) (*host.Facts, error) {
	// the clock is compared with the middle of the command alone, not of the dialling before it
	if h, ok := r.(*remote.Host); ok {
		if err := h.Connect(ctx); err != nil {
			return nil, err
		}
	}
	begin := time.Now()
	res, err := r.Run(ctx, remote.Command{Script: host.Script(q), Root: true})
	if err != nil {
		return nil, err
	}
	half := time.Since(begin) / 2
	f, err := host.Parse(res.Stdout, begin.Add(half))
	if err != nil {
		return nil, fmt.Errorf("%s: the facts can not be read: %w", r.Name(), err)
	}
	f.ClockError = half
	return f, nil
}

// query says what to look for on a node.
func (s *Site) query(c inventory.ClusterName, n inventory.Node) (host.Query, error) {
	policy, err := s.auditPolicy(c)
	if err != nil {
		return host.Query{}, err
	}
	return plan.Query(s.Inventory, c, &n, policy)
}
