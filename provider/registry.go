package provider

import (
	"fmt"
	"sort"
	"strings"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// Registry are the providers of a program by the name that an inventory gives them.
type Registry map[string]Provider

// For returns the provider that a cluster names. The error wraps ErrPermanent and says which there are.
func (r Registry) For(c *inventory.Cluster) (Provider, error) {
	name := c.Provider.Name()
	if p, ok := r[name]; ok {
		return p, nil
	}
	names := make([]string, 0, len(r))
	for n := range r {
		names = append(names, n)
	}
	sort.Strings(names)
	return nil, fmt.Errorf("provider: there is none named %q here, only %s: %w", name, strings.Join(names, ", "), ErrPermanent)
}
