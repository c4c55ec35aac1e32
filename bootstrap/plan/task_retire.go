package plan

import (
	"context"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// RetireMachine has the provider delete a machine that left its cluster.
type RetireMachine struct {
	Cluster inventory.ClusterName
	Machine string
}

// Do implements Task. A machine that is gone already is no error.
func (t RetireMachine) Do(ctx context.Context, env Env, log func(string)) error {
	return env.Retire(ctx, t.Cluster, t.Machine, log)
}
