package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/catamaran-k8s/catamaran/bootstrap"
	"github.com/catamaran-k8s/catamaran/embedded"
	"github.com/catamaran-k8s/catamaran/inventory"
)

func newCharts(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:   "charts",
		Short: "Show the charts that are installed on the clusters, ours and the site's own",
	}
	c.AddCommand(newChartsList(g), newChartsRender(g), newChartsDiff(g), newChartsValues())
	return c
}

func newChartsList(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the releases of both clusters, and embedded charts that are off",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			inv, err := inventory.Load(g.inventory)
			if err != nil {
				return err
			}
			components, err := embedded.Components()
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			row := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) } //nolint:errcheck // Flush tells
			row("NAME\tVERSION\tCLUSTER\tORDER\tENABLED\tDESCRIPTION")
			for _, cluster := range inv.ClusterNames() {
				releases, err := embedded.Releases(cmd.Context(), bootstrap.Assumed(inv), cluster)
				if err != nil {
					return err
				}
				listCluster(row, cluster, releases, components)
			}
			return w.Flush()
		},
	}
}

func listCluster(row func(string, ...any), cluster inventory.ClusterName, releases []embedded.Release, components []embedded.Component) {
	described := map[string]embedded.Component{}
	for _, c := range components {
		described[c.Name] = c
	}
	for _, r := range releases {
		what := cmp.Or(described[r.Chart.Embedded].Description, r.Chart.Path, r.Chart.OCI)
		row("%s\t%s\t%s\t%d\tyes\t%s", r.Name, r.Version, cluster, r.Order, what)
		delete(described, r.Chart.Embedded)
	}
	for _, c := range components {
		if _, off := described[c.Name]; off && slices.Contains(c.Clusters, cluster) {
			row("%s\t%s\t%s\t%d\tno\t%s", c.Name, c.Version, cluster, c.Order, c.Description)
		}
	}
}

// clusterFlag adds --cluster; empty means both.
func clusterFlag(c *cobra.Command) *string {
	return c.Flags().String("cluster", "", "service or workload (default: both)")
}

// chosen returns the releases of one cluster or both, all or those with a name.
func chosen(ctx context.Context, inv *inventory.Inventory, cluster string, names []string) ([]embedded.Release, error) {
	clusters := inv.ClusterNames()
	if cluster != "" {
		if inv.Cluster(inventory.ClusterName(cluster)) == nil {
			return nil, fmt.Errorf("%s has no cluster %q: expected service or workload", inv.Path, cluster)
		}
		clusters = []inventory.ClusterName{inventory.ClusterName(cluster)}
	}
	var out []embedded.Release
	for _, c := range clusters {
		releases, err := embedded.Releases(ctx, bootstrap.Assumed(inv), c)
		if err != nil {
			return nil, err
		}
		for _, r := range releases {
			if len(names) == 0 || r.Name == names[0] {
				out = append(out, r)
			}
		}
	}
	if len(out) == 0 && len(names) > 0 {
		return nil, fmt.Errorf("there is no release %s: `catamaran charts list` shows what there is and what is off", names[0])
	}
	return out, nil
}

func newChartsRender(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:   "render [NAME]",
		Short: "Print the manifests that would be installed",
		Args:  cobra.MaximumNArgs(1),
	}
	cluster := clusterFlag(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		inv, err := inventory.Load(g.inventory)
		if err != nil {
			return err
		}
		releases, err := chosen(cmd.Context(), inv, *cluster, args)
		if err != nil {
			return err
		}
		for _, r := range releases {
			manifest, err := r.Manifest()
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "# %s cluster: %s %s in %s\n%s", r.Cluster, r.Name, r.Version, r.Namespace, manifest); err != nil {
				return err
			}
		}
		return nil
	}
	return c
}

func newChartsDiff(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:   "diff [NAME]",
		Short: "Compare what is installed with what would be; exit 0: the same, 2: not",
		Args:  cobra.MaximumNArgs(1),
	}
	cluster := clusterFlag(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := g.open()
		if err != nil {
			return err
		}
		defer s.Close()
		releases, err := chosen(cmd.Context(), s.Inventory, *cluster, args)
		if err != nil {
			return err
		}
		differs := false
		var failed []error
		for _, r := range releases {
			diff, err := chartDiff(cmd.Context(), s, r)
			if err != nil {
				failed = append(failed, fmt.Errorf("%s cluster, %s: %w", r.Cluster, r.Name, err))
				continue
			}
			if diff == "" {
				continue
			}
			differs = true
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "# %s cluster: %s\n%s", r.Cluster, r.Name, diff); err != nil {
				return err
			}
		}
		switch {
		case len(failed) > 0:
			return errors.Join(failed...)
		case differs:
			return &exitCode{code: exitWork}
		}
		return nil
	}
	return c
}

func chartDiff(ctx context.Context, s *bootstrap.Site, r embedded.Release) (string, error) {
	api, err := s.API(ctx, r.Cluster)
	if err != nil {
		return "", err
	}
	return embedded.NewInstaller(api, func(string) {}).Diff(ctx, r)
}

func newChartsValues() *cobra.Command {
	return &cobra.Command{
		Use:   "values NAME",
		Short: "Print what components.NAME.values can hold: defaults, types and meaning",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			doc, err := embedded.ValuesDoc(args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), doc)
			return err
		},
	}
}
