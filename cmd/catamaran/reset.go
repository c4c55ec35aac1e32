package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/catamaran-k8s/catamaran/bootstrap"
	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
)

func newReset(g *global) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "reset [NODE...]",
		Short: "Take Kubernetes off nodes, or off the whole site",
		Long: `Reset drains the named nodes, takes them out of their cluster and takes Kubernetes off them. Without a name it takes
Kubernetes off every node of the inventory: both clusters and what they store are gone. Machines that are not this
site's are left alone. Programs, images and the vault stay.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := g.open()
			if err != nil {
				return err
			}
			defer s.Close()
			view, err := newProgress(g.progress)
			if err != nil {
				return err
			}
			question := ""
			if len(args) == 0 {
				question = "this ENDS both clusters and what they store: "
			}
			p, sum, err := s.Reset(cmd.Context(), args, bootstrap.ApplyOptions{
				Version: version, Waiting: view.Waiting, Events: view.Event,
				Approve: func(p plan.Plan) (bool, error) {
					return approve(p, yes, fmt.Sprintf("%scarry out these %d steps?", question, len(p.Steps)), view)
				},
			})
			view.Close()
			return applied(p, sum, err, view)
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	c.Example = fmt.Sprintf("  %s\n  %s", "catamaran reset -f site.yaml wc-w-3", "catamaran reset -f site.yaml --yes")
	return c
}
