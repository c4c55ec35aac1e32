// Package story is one story that every provider lives through whose machines the lab can make hosts of: from an empty cloud to two
// clusters and back, with the product's own binary, killed and disturbed on the way.
package story

import (
	"context"

	"github.com/catamaran-k8s/catamaran/test/lab/proxy"
)

// World is a cloud of the lab.
type World interface {
	// Provider is its provider's name in the inventory.
	Provider() string
	// Inventory is a file that the lab wrote: both clusters on this cloud, each with one control plane that is listed and a pool of one
	// worker.
	Inventory() string
	// Env are the variables by which the provider finds the cloud and signs in.
	Env() []string
	// Proxy stands in front of the cloud's API.
	Proxy() proxy.Client
	// Faults are disturbances that a provider must survive while it makes a machine.
	Faults() []Fault
	// List lists everything that there is, of every kind, whoever made it.
	List(ctx context.Context) ([]Resource, error)
	// MakeByHand makes a machine as an operator would, past the provider, that lets user in with a key, and returns what its node says in
	// the inventory (provider field, host key). UnmakeByHand deletes it.
	MakeByHand(ctx context.Context, name, user, authorizedKey string) (map[string]any, error)
	UnmakeByHand(ctx context.Context, name string) error
}

// Fault is a disturbance by name.
type Fault struct {
	Name string
	Rule proxy.Rule
}

// Resource is one thing in the cloud.
type Resource struct {
	// Kind is the cloud's word; things of a kind that have the same name count as duplicates.
	Kind, Name string
	// ID is never used again.
	ID string
}
