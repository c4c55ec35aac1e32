// Package onprem adopts machines that stand in the inventory with their addresses. It reaches nothing: whether a machine
// answers is seen when bootstrap observes it.
package onprem

import (
	"context"
	"fmt"

	"github.com/catamaran-k8s/catamaran/provider"
)

// Provider adopts listed machines. It has no state.
type Provider struct{}

// New returns the provider.
func New() *Provider { return &Provider{} }

// Plan is always empty: a listed machine is there already, and adopting it changes nothing on it.
func (*Provider) Plan(ctx context.Context, r provider.Request) ([]provider.Change, error) {
	_, err := machines(ctx, r)
	return []provider.Change{}, err
}

// Ensure returns the cluster's machines as they are listed.
func (*Provider) Ensure(ctx context.Context, r provider.Request, _ func(provider.Change)) ([]provider.Machine, error) {
	return machines(ctx, r)
}

// Destroy does nothing: nothing was created.
func (*Provider) Destroy(ctx context.Context, r provider.Request, _ func(provider.Change)) error {
	_, err := machines(ctx, r)
	return err
}

func machines(ctx context.Context, r provider.Request) ([]provider.Machine, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("onprem: %w", err)
	}
	c := r.Inventory.Cluster(r.Cluster)
	if c == nil {
		return nil, fmt.Errorf("onprem: %s: there is no %s cluster in the inventory: %w", r.Inventory.Path, r.Cluster, provider.ErrPermanent)
	}
	out := make([]provider.Machine, 0, len(c.Nodes))
	for _, n := range c.Nodes {
		if n.Address == "" {
			return nil, fmt.Errorf("onprem: %s: the node %s has no address: %w", r.Inventory.Path, n.Name, provider.ErrPermanent)
		}
		out = append(out, provider.Machine{Cluster: r.Cluster, Name: n.Name, Role: n.Role, Address: n.Address, HostKey: n.HostKey})
	}
	return out, nil
}

var _ provider.Provider = (*Provider)(nil)
