package bootstrap

import (
	"context"
	"fmt"

	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
)

// Reset takes Kubernetes off the named nodes, or off all of them when none is named. Named nodes are drained and leave
// their cluster first; resetting all ends both clusters at once. The vault is kept: the next apply founds clusters with
// the same authorities.
func (s *Site) Reset(ctx context.Context, nodes []string, o ApplyOptions) (plan.Plan, plan.Summary, error) {
	for _, n := range nodes {
		if s.wanted.Node(n) == nil {
			return plan.Plan{}, plan.Summary{}, fmt.Errorf("there is no node %q in %s", n, s.Inventory.Path)
		}
	}
	return s.change(ctx, "reset", o, s.noMachines, func(obs Observation) (plan.Plan, error) {
		in, err := s.input(ctx, obs)
		if err != nil {
			return plan.Plan{}, err
		}
		return plan.MakeReset(in, nodes)
	})
}
