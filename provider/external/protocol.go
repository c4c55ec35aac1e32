package external

import (
	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

// APIVersion names what is spoken. A program refuses a request of a version that it does not know.
const APIVersion = "catamaran/provider/v1alpha1"

// Calls of a program, one process each.
const (
	CallPlan        = "plan"
	CallEnsure      = "ensure"
	CallRetire      = "retire"
	CallPlanDestroy = "planDestroy"
	CallDestroy     = "destroy"
	CallConsole     = "console"
)

// Request is what a program reads from its standard input, up to the end of it. A program ignores fields that it does not know.
type Request struct {
	APIVersion string                `json:"apiVersion"`
	Call       string                `json:"call"`
	Site       string                `json:"site"`
	Cluster    inventory.ClusterName `json:"cluster"`
	// Config is the inventory's, as it is.
	Config map[string]any `json:"config,omitempty"`
	// SSH is how the cluster's machines are reached.
	SSH SSH `json:"ssh"`
	// Nodes are all that the inventory lists for the cluster, also those that are absent.
	Nodes []Node `json:"nodes"`
	// Machines are those to delete, of CallRetire.
	Machines []string `json:"machines,omitempty"`
	// Machine and Lines are what CallConsole asks for.
	Machine string `json:"machine,omitempty"`
	Lines   int    `json:"lines,omitempty"`
}

// SSH is what a machine must be made with, so that it lets its makers in.
type SSH struct {
	User string `json:"user"`
	// AuthorizedKeys are public keys in authorized_keys format.
	AuthorizedKeys []string `json:"authorizedKeys"`
}

// Node is one node of the inventory.
type Node struct {
	Name  string              `json:"name"`
	Role  inventory.Role      `json:"role"`
	Pool  string              `json:"pool,omitempty"`
	State inventory.NodeState `json:"state"`
	// Address and HostKey are set where the inventory asks for them.
	Address string `json:"address,omitempty"`
	HostKey string `json:"hostKey,omitempty"`
	// SSH is set where it differs from the cluster's.
	SSH *SSH `json:"ssh,omitempty"`
	// External is the node's own part of the inventory, or its pool's, as it is.
	External map[string]any `json:"external,omitempty"`
}

// Line is one line of a program's standard output; exactly one field is set. The last line is a result or an error.
type Line struct {
	// Change was done just now.
	Change *provider.Change `json:"change,omitempty"`
	// Log is progress, for people.
	Log    *string  `json:"log,omitempty"`
	Result *Result  `json:"result,omitempty"`
	Error  *Failure `json:"error,omitempty"`
}

// Result is what a call came to. Each call fills its own fields.
type Result struct {
	// Changes of CallPlan and CallPlanDestroy.
	Changes []provider.Change `json:"changes,omitempty"`
	// Machines of CallPlan and CallEnsure, in any order.
	Machines []Machine `json:"machines,omitempty"`
	// Surplus of CallPlan.
	Surplus []Machine `json:"surplus,omitempty"`
	// Text of CallConsole.
	Text string `json:"text,omitempty"`
}

// Machine is one machine that exists.
type Machine struct {
	Name string `json:"name"`
	// Role is needed for surplus only: the inventory does not know it any more.
	Role       inventory.Role `json:"role,omitempty"`
	Address    string         `json:"address,omitempty"`
	SSHAddress string         `json:"sshAddress,omitempty"`
	HostKey    string         `json:"hostKey,omitempty"`
	// Adopted says that somebody else made it, and that it stays.
	Adopted bool `json:"adopted,omitempty"`
}

// Failure ends a call that did not do what was asked.
type Failure struct {
	// Message says what was tried, of which machine, and what to do.
	Message string `json:"message"`
	// Permanent says that trying again does not help.
	Permanent bool `json:"permanent,omitempty"`
}
