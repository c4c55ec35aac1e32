package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/catamaran-k8s/catamaran/bootstrap"
	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
)

func newDestroy(g *global) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "destroy",
		Short: "Delete the machines that providers made, and all that belongs to them",
		Long: `Destroy deletes what the providers of both clusters made: machines, disks, networks and all that they hold. It shows what goes
and asks for the site's name. Machines that somebody else made stay as they are, with Kubernetes on them: take it off with
"catamaran reset" first. It works where nodes' settings are not valid any more, and reaches no machine. The vault and the journal stay.
Exit codes: 0 done, 1 nothing could be done, 4 partly done (run it again), 5 another command is running.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := g.options()
			o.MachinesOnly = true
			s, err := bootstrap.Open(g.inventory, o)
			if err != nil {
				return err
			}
			defer s.Close()
			view, err := newProgress(g.progress)
			if err != nil {
				return err
			}
			begun := false
			d, err := s.Destroy(cmd.Context(), bootstrap.DestroyOptions{
				Version: version, Events: view.Event,
				Approve: func(d bootstrap.Destruction) (bool, error) {
					if err := showDestruction(os.Stdout, d, view.machine()); err != nil {
						return false, err
					}
					if !yes {
						if ok, err := confirmName(os.Stdin, d.Site); err != nil || !ok {
							return false, err
						}
					}
					begun = true
					view.Start(events(plan.Plan{Changes: d.Changes}))
					return true, nil
				},
			})
			view.Close()
			var held *plan.HeldError
			switch {
			case errors.As(err, &held):
				return &exitCode{code: exitBusy, err: err}
			case err != nil && begun:
				return &exitCode{code: exitPartial, err: err}
			case err == nil && len(d.Changes) == 0:
				return showDestruction(os.Stdout, d, view.machine())
			}
			return err
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask for the site's name")
	return c
}

// showDestruction tells what goes and what stays.
func showDestruction(out io.Writer, d bootstrap.Destruction, machine bool) error {
	if machine {
		return json.NewEncoder(out).Encode(d)
	}
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	row := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) } // Flush tells of errors
	for _, c := range d.Changes {
		row("  %s\t%s\t%s\t%s\t%s", c.Cluster, c.Verb, c.Kind, c.Name, c.Reason)
	}
	if len(d.Changes) == 0 {
		row("%s: no provider made anything: nothing to destroy", d.Site)
	}
	if len(d.Adopted) > 0 {
		row("not touched, because somebody else made them: %s; `catamaran reset` takes Kubernetes off them", strings.Join(d.Adopted, ", "))
	}
	if d.Unknown != "" {
		row("machines that somebody else made are not touched; which these are can not be told: %s", d.Unknown)
	}
	return w.Flush()
}

// confirmName asks for the site's name; without a terminal it refuses and says which flag answers.
func confirmName(in *os.File, site string) (bool, error) {
	question := fmt.Sprintf("this DELETES all of these. Type the site's name, %s, to go on:", site)
	if !term.IsTerminal(int(in.Fd())) {
		return false, fmt.Errorf("%s there is no terminal to ask on; say --yes", question)
	}
	fmt.Fprint(os.Stderr, question, " ")
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return strings.TrimSpace(line) == site, nil
}
