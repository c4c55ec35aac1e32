// Package onprem adopts machines that stand in the inventory with their addresses. It reaches nothing: whether a machine
// answers is seen when bootstrap observes it.
package onprem

import (
	"context"
	"fmt"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

// Provider adopts listed machines. It has no state.
type Provider struct{}

// New returns the provider.
func New() *Provider { return &Provider{} }

// Plan never has a change: a listed machine is there already, and adopting it changes nothing on it.
func (*Provider) Plan(ctx context.Context, r provider.Request) (provider.Plan, error) {
	all, err := machines(ctx, r)
	return provider.Plan{Changes: []provider.Change{}, Machines: all}, err
}

// Ensure returns the cluster's machines as they are listed.
func (*Provider) Ensure(ctx context.Context, r provider.Request, _ func(provider.Change)) ([]provider.Machine, error) {
	return machines(ctx, r)
}

// Retire does nothing: nothing was created.
func (*Provider) Retire(ctx context.Context, r provider.Request, _ []string, _ func(provider.Change)) error {
	_, err := cluster(ctx, r)
	return err
}

// PlanDestroy is always empty: nothing was created.
func (*Provider) PlanDestroy(ctx context.Context, r provider.Request) ([]provider.Change, error) {
	_, err := cluster(ctx, r)
	return []provider.Change{}, err
}

// Destroy does nothing: nothing was created.
func (*Provider) Destroy(ctx context.Context, r provider.Request, _ func(provider.Change)) error {
	_, err := cluster(ctx, r)
	return err
}

func cluster(ctx context.Context, r provider.Request) (*inventory.Cluster, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("onprem: %w", err)
	}
	c := r.Inventory.Cluster(r.Cluster)
	if c == nil {
		return nil, fmt.Errorf("onprem: %s: there is no %s cluster in the inventory: %w", r.Inventory.Path, r.Cluster, provider.ErrPermanent)
	}
	return c, nil
}

func machines(ctx context.Context, r provider.Request) ([]provider.Machine, error) {
	c, err := cluster(ctx, r)
	if err != nil {
		return nil, err
	}
	out := make([]provider.Machine, 0, len(c.Nodes))
	for _, n := range c.Nodes {
		if n.Address == "" {
			return nil, fmt.Errorf("onprem: %s: the node %s has no address: %w", r.Inventory.Path, n.Name, provider.ErrPermanent)
		}
		out = append(out, provider.Machine{Cluster: r.Cluster, Name: n.Name, Role: n.Role, Address: n.Address, HostKey: n.HostKey, Adopted: true})
	}
	return out, nil
}

var _ provider.Provider = (*Provider)(nil)
