package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/catamaran-k8s/catamaran/bootstrap"
	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/inventory"
)

func newApply(g *global) *cobra.Command {
	var yes bool
	var parallel int
	c := &cobra.Command{
		Use:   "apply [PLANFILE]",
		Short: "Bring the site to what the inventory (or a saved plan) says",
		Long: `Apply makes the machines that are missing, where the inventory names a provider that can, observes all machines, plans,
and carries the plan out. It shows what it would do and asks twice: before machines are made, and before steps are carried out.
It can be interrupted and run again at any time: what is there is found, and steps that ended are not repeated. With PLANFILE it
refuses when the site moved since the plan was saved, and asks only before the steps of machines that did not exist then.
Exit codes: 0 done, 1 nothing could be done, 4 partly done (what failed is listed), 5 another apply is running.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := g.open()
			if err != nil {
				return err
			}
			defer s.Close()
			o := bootstrap.ApplyOptions{Parallel: parallel, Version: version}
			if len(args) == 1 {
				saved, err := plan.ReadFile(args[0])
				if err != nil {
					return err
				}
				o.Saved = &saved
			}
			view, err := newProgress(g.progress)
			if err != nil {
				return err
			}
			o.Waiting = view.Waiting
			o.ApproveMachines = func(p plan.Plan) (bool, error) {
				return approve(p, yes || o.Saved != nil, fmt.Sprintf("make these %d changes of machines?", len(p.Changes)), view)
			}
			unchanged := o.Saved != nil && len(o.Saved.Changes) == 0
			o.Approve = func(p plan.Plan) (bool, error) {
				return approve(p, yes || unchanged, fmt.Sprintf("carry out these %d steps?", len(p.Steps)), view)
			}
			o.Events = view.Event
			p, sum, err := s.Apply(cmd.Context(), o)
			view.Close()
			return applied(p, sum, err, view)
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask before changing anything")
	c.Flags().IntVar(&parallel, "parallel", 0, "most steps at once (0: no limit)")
	return c
}

// approve shows the plan and asks.
func approve(p plan.Plan, yes bool, question string, view *progressView) (bool, error) {
	if !view.machine() {
		if err := showPlan(p, "text"); err != nil {
			return false, err
		}
	}
	if !yes {
		ok, err := confirm(question)
		if err != nil || !ok {
			return false, err
		}
	}
	view.Start(events(p))
	return true, nil
}

// events is how many events with an end the next part of a run has: machines are made before steps are planned.
func events(p plan.Plan) int {
	if len(p.Changes) == 0 {
		return len(p.Steps)
	}
	clusters := map[inventory.ClusterName]bool{}
	for _, c := range p.Changes {
		clusters[c.Cluster] = true
	}
	return len(p.Changes) + len(clusters) + len(p.Pending)
}

// applied renders the end of an apply and chooses the exit code.
func applied(p plan.Plan, sum plan.Summary, err error, view *progressView) error {
	var held *plan.HeldError
	switch {
	case errors.As(err, &held):
		return &exitCode{code: exitBusy, err: err}
	case err != nil && sum.Empty():
		return err
	}
	view.Summary(p, sum)
	if err != nil || sum.Failed() || len(p.Unreachable) > 0 {
		return &exitCode{code: exitPartial, err: err}
	}
	return nil
}
