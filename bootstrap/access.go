package bootstrap

import (
	"context"
	"fmt"

	"k8s.io/client-go/rest"

	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
	"github.com/catamaran-k8s/catamaran/bootstrap/remote"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// Host returns the connection to a node's machine; nothing is dialled yet.
func (s *Site) Host(ctx context.Context, node string) (*remote.Host, error) {
	if s.wanted.Node(node) == nil && s.Inventory.Node(node) == nil {
		return nil, fmt.Errorf("there is no node %q in %s", node, s.Inventory.Path)
	}
	if err := s.FindMachines(ctx); err != nil {
		return nil, err
	}
	h, ok := s.hosts[node]
	if !ok {
		return nil, fmt.Errorf("%s has no machine yet: apply first", node)
	}
	return h, nil
}

// API returns a client configuration for a cluster, through SSH of a control plane.
func (s *Site) API(ctx context.Context, c inventory.ClusterName) (*rest.Config, error) {
	if s.Inventory.Cluster(c) == nil {
		return nil, fmt.Errorf("there is no %s cluster in %s", c, s.Inventory.Path)
	}
	if err := s.FindMachines(ctx); err != nil {
		return nil, err
	}
	return newEnvironment(s, pki.NewRedactor()).API(c)
}
