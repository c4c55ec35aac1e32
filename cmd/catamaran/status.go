package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/catamaran-k8s/catamaran/bootstrap"
)

func newStatus(g *global) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "status",
		Short: "Show nodes, versions, etcd, releases and certificates of both clusters; exit 0: healthy, 4: not",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := g.open()
			if err != nil {
				return err
			}
			defer s.Close()
			st, err := s.Status(cmd.Context())
			if err != nil {
				return err
			}
			if format == "json" {
				e := json.NewEncoder(os.Stdout)
				e.SetIndent("", "  ")
				err = e.Encode(st)
			} else {
				err = showStatus(os.Stdout, st)
			}
			if err == nil && !st.Healthy() {
				err = &exitCode{code: exitPartial}
			}
			return err
		},
	}
	c.Flags().StringVarP(&format, "output", "o", "text", "text or json")
	return c
}

func showStatus(out io.Writer, st bootstrap.Status) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	row := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) } //nolint:errcheck // Flush tells
	for _, c := range st.Clusters {
		row("%s\t%s\tAPI: %s", c.Name, c.Endpoint, c.API)
		for _, n := range c.Nodes {
			row("  node\t%s\t%s\t%s\t%s\t%s\t%s", n.Name, n.Role, n.State, n.Version, n.Address, n.OS)
			if n.Error != "" {
				row("\t%s", n.Error)
			}
		}
		for _, e := range c.Etcd {
			state := "healthy"
			if !e.Healthy {
				state = "NOT healthy"
			}
			row("  etcd\t%s\tmember\t%s\t%s", e.Name, state, e.ID)
		}
		for _, r := range c.Releases {
			current := "as in the inventory"
			if !r.Current {
				current = "differs from the inventory"
			}
			row("  release\t%s/%s\t%s\t%s\t%s", r.Namespace, r.Name, r.Version, r.State, current)
		}
		if len(c.Certificates) > 0 {
			first := c.Certificates[0]
			row("  certificates\t%d\tfirst ends\t%s\tin %d days\t%s %s", len(c.Certificates), first.NotAfter.Format(time.DateOnly),
				int(first.NotAfter.Sub(st.Time).Hours()/24), first.Node, first.Path)
		}
	}
	return w.Flush()
}
