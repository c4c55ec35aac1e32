// Package provider is the contract between Catamaran and whatever makes machines exist. A provider hands over
// machines (name, address, host key if it knows it); it never speaks SSH and never imports bootstrap.
package provider

import (
	"context"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// Machine is one machine that exists and has an address.
type Machine struct {
	Cluster inventory.ClusterName `json:"cluster"`
	Name    string                `json:"name"`
	Role    inventory.Role        `json:"role"`
	Address string                `json:"address"`
	// HostKey is the SSH host key ("SHA256:..." or a public key) where the provider knows it, else empty.
	HostKey string `json:"hostKey,omitempty"`
}

// Verb says what a change does to a resource.
type Verb string

// Verbs. Adopt takes over a machine that is there already.
const (
	Create Verb = "create"
	Adopt  Verb = "adopt"
	Update Verb = "update"
	Delete Verb = "delete"
)

// Change is one thing that Ensure or Destroy would do, for the plan.
type Change struct {
	Verb   Verb   `json:"verb"`
	Kind   string `json:"kind"` // the provider's word: server, port, volume ...
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// Request is one cluster of an inventory.
type Request struct {
	Inventory *inventory.Inventory
	Cluster   inventory.ClusterName
}

// Provider makes one cluster's machines exist, or adopts them.
//
// Plan, Ensure and Destroy must be safe to call again after being cut off at any point: what is there already is
// found, never made twice. All honour ctx. Errors that trying again can not mend wrap ErrPermanent.
type Provider interface {
	// Plan returns what Ensure would do, and does nothing. No change: an empty slice.
	Plan(ctx context.Context, r Request) ([]Change, error)
	// Ensure makes the machines exist and returns them all, those of absent nodes too, in inventory order.
	// Progress is told through report, which may be called from several goroutines.
	Ensure(ctx context.Context, r Request, report func(Change)) ([]Machine, error)
	// Destroy deletes exactly what Ensure created; adopted machines are left as they are.
	Destroy(ctx context.Context, r Request, report func(Change)) error
}
