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
	// Address is the node's, as the cluster's machines reach it.
	Address string `json:"address"`
	// SSHAddress is where SSH reaches the machine where that is another address (a floating IP); else empty.
	SSHAddress string `json:"sshAddress,omitempty"`
	// HostKey is the SSH host key ("SHA256:..." or a public key) where the provider knows it, else empty.
	HostKey string `json:"hostKey,omitempty"`
	// Adopted says that somebody else made the machine: Retire and Destroy leave it as it is.
	Adopted bool `json:"adopted,omitempty"`
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

// Change is one thing that Ensure, Retire or Destroy would do, for the plan.
type Change struct {
	Verb   Verb   `json:"verb"`
	Kind   string `json:"kind"` // the provider's word: server, port, volume ...
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// Plan is what is there, and what Ensure would do about the rest.
type Plan struct {
	// Changes are what Ensure would do; an empty slice, never nil, where there is nothing to do. Adopting is a change only where Ensure
	// marks the machine as adopted.
	Changes []Change `json:"changes"`
	// Machines are those of the inventory's nodes that exist and have an address, in inventory order.
	Machines []Machine `json:"machines"`
	// Surplus are machines that the provider made for this cluster and that are no longer in the inventory, sorted by name, with the
	// role that they were made for. Ensure leaves them alone: they are taken out of their cluster first, then Retire deletes them.
	// One without an address (it was cut off while it was made) is among them too.
	Surplus []Machine `json:"surplus,omitempty"`
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
// Every method must be safe to call again after being cut off at any point, by another process too: what is
// there already is found, never made twice. What belongs to the provider is told by marks on the resources themselves,
// not by a file. All honour ctx and then return an error that wraps its cause. Errors that trying again can not mend
// wrap ErrPermanent. Each change is told through report when it is done; report may be nil, is called from several
// goroutines, never with a lock held, and not after the call returned. providertest checks all of this.
type Provider interface {
	// Plan looks, and does nothing.
	Plan(ctx context.Context, r Request) (Plan, error)
	// Ensure makes the machines of present nodes exist. It returns these and those of absent nodes that are there (they must be
	// reached to be drained and reset), in inventory order; it never makes a machine for an absent node. It checks quota and names
	// before it makes anything.
	Ensure(ctx context.Context, r Request, report func(Change)) ([]Machine, error)
	// Retire deletes what Ensure created for the named machines, which are surplus or belong to absent nodes, and nothing that
	// others use too. Not there, or adopted: nothing to do, no error. It needs no node of the inventory to be valid.
	Retire(ctx context.Context, r Request, machines []string, report func(Change)) error
	// PlanDestroy returns what Destroy would do, and does nothing. It needs no node of the inventory to be valid.
	PlanDestroy(ctx context.Context, r Request) ([]Change, error)
	// Destroy deletes exactly what Ensure created, surplus too, in the right order; adopted machines are left as they are. Nothing
	// there: no error.
	Destroy(ctx context.Context, r Request, report func(Change)) error
}

// Consoler is implemented by providers that can show the end of a machine's console, for a machine that does not come up.
type Consoler interface {
	// Console returns at most the last lines lines.
	Console(ctx context.Context, r Request, machine string, lines int) (string, error)
}
