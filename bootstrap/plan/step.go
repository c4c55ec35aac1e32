// Package plan is the pure function from inventory and facts to ordered steps, and the runner that carries them out.
// Nothing changes a host outside a step.
package plan

import (
	"context"
	"fmt"
	"time"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

// Step is one change. It is data: what is shown, what it waits for, and an Action that the runner carries out.
type Step struct {
	// ID is stable between runs: cluster/node/what, such as workload/wc-1/join.
	ID      string                `json:"id"`
	Cluster inventory.ClusterName `json:"cluster,omitempty"`
	Node    string                `json:"node,omitempty"` // empty: a step of the cluster or the site
	Title   string                `json:"title"`
	// Reason says which fact differs from which wish.
	Reason string `json:"reason"`
	// Needs are IDs of steps that must have succeeded before.
	Needs []string `json:"needs,omitempty"`
	// Lock names steps that exclude each other (one at a time), such as "workload/control-plane".
	Lock string `json:"lock,omitempty"`
	// Files are the files it changes, for the diff.
	Files []FileChange `json:"files,omitempty"`
	// Digest is of everything the step would do, secrets included by hash only; the plan's digest is made from these.
	Digest string `json:"digest"`
	// Task is what the step does, as data; Bind makes the Action of it.
	Task   Task   `json:"-"`
	Action Action `json:"-"`
}

// FileChange is a file that a step writes. Before and After are empty for secrets and large files.
type FileChange struct {
	Path   string `json:"path"`
	Mode   string `json:"mode,omitempty"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	Secret bool   `json:"secret,omitempty"`
	// Exists says whether the file is there now.
	Exists bool `json:"exists"`
}

// Action carries a step out. Do must be idempotent and ends with a check that the change is really there.
type Action interface {
	Do(ctx context.Context, log func(line string)) error
}

// Plan is what apply would do.
type Plan struct {
	Site string `json:"site"`
	// Digest is of the steps; `apply FILE` refuses when planning again gives another.
	Digest string `json:"digest"`
	Steps  []Step `json:"steps"`
	// Changes are what the providers make first, or delete.
	Changes []Change `json:"changes,omitempty"`
	// Pending are nodes without a machine yet, sorted: theirs is made first, and their steps are planned once it is there.
	Pending  []string `json:"pending,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
	// Unreachable are nodes that could not be observed, with the reason. Their steps are not planned.
	Unreachable map[string]string `json:"unreachable,omitempty"`
}

// Change is a change that a cluster's provider makes.
type Change struct {
	Cluster inventory.ClusterName `json:"cluster"`
	provider.Change
}

// Words are the change without its reason: create server wc-1.
func (c Change) Words() string { return fmt.Sprintf("%s %s %s", c.Verb, c.Kind, c.Name) }

// Empty says that there is nothing to do.
func (p Plan) Empty() bool { return len(p.Steps) == 0 && len(p.Changes) == 0 }

// EventType is what happened to a step.
type EventType string

// Event types.
const (
	Begin   EventType = "begin"
	Output  EventType = "output" // one line of a step's output
	End     EventType = "end"
	Failed  EventType = "failed"
	Skipped EventType = "skipped" // something it needs failed
	Changed EventType = "changed" // a provider made one change
)

// Event is one line of a run, for the journal and the progress view.
type Event struct {
	Time  time.Time     `json:"time"`
	Type  EventType     `json:"type"`
	Step  string        `json:"step"`
	Node  string        `json:"node,omitempty"`
	Title string        `json:"title,omitempty"`
	Took  time.Duration `json:"took,omitempty"` // End and Failed
	Line  string        `json:"line,omitempty"` // Output
	Error string        `json:"error,omitempty"`
}
