package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
)

func newPlan(g *global) *cobra.Command {
	var out, format string
	c := &cobra.Command{
		Use:   "plan",
		Short: "Show what apply would do; exit 0: nothing, 2: something",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := g.open()
			if err != nil {
				return err
			}
			defer s.Close()
			p, err := s.Plan(cmd.Context())
			if err != nil {
				return err
			}
			if err := showPlan(p, format); err != nil {
				return err
			}
			if out != "" {
				if err := plan.WriteFile(out, p); err != nil {
					return err
				}
				fmt.Fprintf(os.Stderr, "saved; carry it out with: catamaran apply -f %s %s\n", g.inventory, out)
			}
			return planStatus(p)
		},
	}
	c.Flags().StringVar(&out, "out", "", "save the plan for `apply FILE`")
	c.Flags().StringVarP(&format, "output", "o", "text", "text or json; any other word is a FILE to save the plan in")
	c.PreRunE = func(*cobra.Command, []string) error {
		if format != "text" && format != "json" {
			out, format = format, "text"
		}
		return nil
	}
	return c
}

func showPlan(p plan.Plan, format string) error {
	if format == "json" {
		return plan.RenderJSON(os.Stdout, p)
	}
	return plan.Render(os.Stdout, p, plan.RenderOptions{Color: term.IsTerminal(int(os.Stdout.Fd()))})
}

// planStatus turns a plan into the exit code: work to do wins over machines that could not be seen.
func planStatus(p plan.Plan) error {
	switch {
	case !p.Empty():
		return &exitCode{code: exitWork}
	case len(p.Unreachable) > 0:
		return &exitCode{code: exitPartial, err: fmt.Errorf("%d machines could not be seen", len(p.Unreachable))}
	}
	return nil
}
