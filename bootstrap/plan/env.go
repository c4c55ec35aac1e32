package plan

import (
	"context"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/catamaran-k8s/catamaran/bootstrap/bundle"
	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
	"github.com/catamaran-k8s/catamaran/bootstrap/remote"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// Env is everything tasks act through. The planner never sees it; tasks never see anything else.
type Env interface {
	// Host returns the connection to a node's machine.
	Host(node string) remote.Runner
	// Secrets returns the cluster's secrets out of the vault.
	Secrets(c inventory.ClusterName) (pki.ClusterSecrets, error)
	// MakeSecrets makes them, and the vault where there is none.
	MakeSecrets(c inventory.ClusterName) (pki.ClusterSecrets, error)
	// Platform returns the compliance platform's secrets, and makes those that are missing, the named passwords among them.
	Platform(passwords ...string) (pki.PlatformSecrets, error)
	// API returns a client configuration for the cluster's API server, reached through SSH of a control plane that has
	// one. It signs its own short-lived client certificate.
	API(c inventory.ClusterName) (*rest.Config, error)
	// Client is API as a clientset, shared between tasks.
	Client(c inventory.ClusterName) (kubernetes.Interface, error)
	// FoundingToken returns the bootstrap token that kubeadm init is told to accept.
	FoundingToken(c inventory.ClusterName) (string, error)
	// JoinToken returns a bootstrap token that the cluster accepts, valid for JoinTokenTTL.
	JoinToken(ctx context.Context, c inventory.ClusterName) (string, error)
	// Bundle is what nodes are installed from.
	Bundle() *bundle.Bundle
	// SiteDir holds the site's local files: kubeconfigs, journal, known_hosts.
	SiteDir() string
	// Operator is who runs this.
	Operator() string
	// Retire has the cluster's provider delete a machine that it made.
	Retire(ctx context.Context, c inventory.ClusterName, machine string, log func(string)) error
	// Redact registers a secret that must not show in output.
	Redact(secret string)
}

// Task is the data of an action: what to do, without what to do it with.
type Task interface {
	// Do carries the task out. It is idempotent and ends with a check that the change is really there.
	Do(ctx context.Context, env Env, log func(line string)) error
}

// bound is a task together with what it acts through.
type bound struct {
	task Task
	env  Env
}

func (b bound) Do(ctx context.Context, log func(string)) error { return b.task.Do(ctx, b.env, log) }

// Bind gives every step of p its action.
func Bind(p *Plan, env Env) {
	for i := range p.Steps {
		p.Steps[i].Action = bound{p.Steps[i].Task, env}
	}
}
