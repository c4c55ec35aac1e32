package plan

import (
	"time"

	"github.com/catamaran-k8s/catamaran/bootstrap/bundle"
	"github.com/catamaran-k8s/catamaran/bootstrap/host"
	"github.com/catamaran-k8s/catamaran/embedded"
	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

// Input is everything a plan is made from. Make reads nothing else: no clock, no disk, no network.
type Input struct {
	Inventory *inventory.Inventory
	// Bundle is what nodes are installed from; only its manifest is read.
	Bundle *bundle.Bundle
	// Machines are those that exist, by node name. Nodes of the inventory have their addresses; nodes without a machine are not in
	// it, but for absent ones.
	Machines map[string]provider.Machine
	// Changes and Pending are told in the plan.
	Changes []Change
	Pending []string
	// Surplus are the leaving nodes that the inventory's file does not list.
	Surplus []string
	// Facts by node name; a node that is neither here nor in Unreachable has no machine yet.
	Facts       map[string]*host.Facts
	Unreachable map[string]error
	Local       LocalFacts
	Releases    map[inventory.ClusterName][]embedded.Release
	// AuditPolicies are the policies to install, by cluster: the built-in one or the site's file.
	AuditPolicies map[inventory.ClusterName]string
	Now           time.Time
}

// LocalFacts is what is true in the site folder and the vault on the operator's machine.
type LocalFacts struct {
	// Vault holds what may be known of each cluster's secrets without showing them; missing: none made yet.
	Vault map[inventory.ClusterName]VaultFacts
	// Platform is what may be known of the compliance platform's secrets; nil: none made yet.
	Platform *PlatformFacts
	// Kubeconfigs says what the operator's kubeconfig of each cluster holds; missing: there is none.
	Kubeconfigs map[inventory.ClusterName]KubeconfigFacts
}

// VaultFacts are the public parts and hashes of one cluster's secrets.
type VaultFacts struct {
	// CA is the PEM certificate of the cluster's authority.
	CA string
	// Files maps the path of each secret file on a control plane to the sha256 (hex) of its content.
	Files map[string]string
}

// KubeconfigFacts describe an operator's kubeconfig.
type KubeconfigFacts struct {
	Server   string
	CA       string // PEM
	NotAfter time.Time
}
