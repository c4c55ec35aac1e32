// Package provider is the contract between Catamaran and whatever makes machines exist. A provider hands over
// machines (name, address, host key if it knows it); it never speaks SSH and never imports bootstrap.
package provider

import (
	"context"
	"errors"

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

// ErrPermanent marks errors that trying again can not mend: wrong credentials, a quota, a flavour that is not there.
var ErrPermanent = errors.New("trying again does not help")

// Provider makes one cluster's machines exist, or adopts them. One value serves both clusters of a site, from several
// goroutines at once.
//
// Plan, Ensure and Destroy must be safe to call again after being cut off at any point, by another process too: what is
// there already is found, never made twice. What belongs to the provider is told by marks on the resources themselves,
// not by a file. All honour ctx and then return an error that wraps its cause. Errors that trying again can not mend
// wrap ErrPermanent. providertest checks all of this.
type Provider interface {
	// Plan returns what Ensure would do, and does nothing. Nothing to do: an empty slice. Adopting is a change only
	// where Ensure marks the machine as adopted.
	Plan(ctx context.Context, r Request) ([]Change, error)
	// Ensure makes the machines exist and returns them all, those of absent nodes too, in inventory order.
	// Each change is told through report when it is done; report may be nil, is called from several goroutines, never
	// with a lock held, and not after Ensure returned.
	Ensure(ctx context.Context, r Request, report func(Change)) ([]Machine, error)
	// Destroy deletes exactly what Ensure created; adopted machines are left as they are. report is as Ensure's. Nothing
	// there: no error.
	Destroy(ctx context.Context, r Request, report func(Change)) error
}
