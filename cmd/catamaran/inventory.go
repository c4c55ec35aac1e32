package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/catamaran-k8s/catamaran/embedded"
	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/inventory/ansible"
)

func newInventory(g *global) *cobra.Command {
	c := &cobra.Command{Use: "inventory", Short: "Write, check and show the inventory file; no machine is reached"}
	c.AddCommand(newInventoryInit(g), newInventoryImport(), newInventoryValidate(g), newInventoryShow(g), newInventorySchema())
	return c
}

func newInventoryInit(g *global) *cobra.Command {
	var o inventory.StarterOptions
	c := &cobra.Command{
		Use:   "init",
		Short: "Write a commented inventory to begin with; a file that is there is left as it is",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := inventory.Starter(o)
			if err != nil {
				return err
			}
			if err := inventory.WriteNew(g.inventory, text); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "wrote %s; fill in addresses and the key file, then: catamaran inventory validate -f %s\n", g.inventory, g.inventory)
			return err
		},
	}
	c.Flags().StringVar(&o.Name, "name", "site", "the site's name")
	c.Flags().IntVar(&o.ControlPlanes, "control-planes", 1, "control planes of each cluster")
	c.Flags().IntVar(&o.Workers, "workers", 1, "workers of each cluster")
	return c
}

func newInventoryImport() *cobra.Command {
	var name, cluster, service, workload, out string
	var endpoints map[string]string
	c := &cobra.Command{
		Use:   "import FILE",
		Short: "Turn an Ansible inventory (kubespray's groups, INI or YAML) into a Catamaran inventory",
		Long: `Import reads the groups kube_control_plane, kube_node and etcd (or kube-master, kube-node) and the variables that say how a
machine is reached and which networks Kubernetes has. Which hosts make which cluster an Ansible inventory does not say: name
one --cluster for all of them, or a group for each. What is not carried over is listed on standard error.`,
		Example: `  catamaran inventory import hosts.ini --cluster workload --endpoint workload=10.0.0.10
  catamaran inventory import hosts.yaml --service-group sc --workload-group wc -o inventory.yaml`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o := ansible.Options{
				Name: name, Groups: map[inventory.ClusterName]string{}, Endpoints: map[inventory.ClusterName]string{},
			}
			for c, group := range map[inventory.ClusterName]string{inventory.Service: service, inventory.Workload: workload} {
				if group != "" {
					o.Groups[c] = group
				}
			}
			if cluster != "" {
				o.Groups[inventory.ClusterName(cluster)] = "all"
			}
			for c, address := range endpoints {
				o.Endpoints[inventory.ClusterName(c)] = address
			}
			data, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			text, warnings, err := ansible.Import(data, args[0], o)
			printWarnings(cmd.ErrOrStderr(), warnings)
			if err != nil {
				return err
			}
			if out != "" {
				return inventory.WriteNew(out, text)
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&name, "name", "", "the site's name (default: the file's)")
	f.StringVar(&cluster, "cluster", "", "all hosts make this cluster: service or workload")
	f.StringVar(&service, "service-group", "", "the hosts of this group make the service cluster")
	f.StringVar(&workload, "workload-group", "", "the hosts of this group make the workload cluster")
	f.StringToStringVar(&endpoints, "endpoint", nil, "CLUSTER=ADDRESS: a free address for the VIP, or a load balancer's name")
	f.StringVarP(&out, "output", "o", "", "write to this file, which must not be there yet (default: standard output)")
	c.MarkFlagsMutuallyExclusive("cluster", "service-group")
	c.MarkFlagsMutuallyExclusive("cluster", "workload-group")
	c.MarkFlagsOneRequired("cluster", "service-group", "workload-group")
	return c
}

func newInventoryValidate(g *global) *cobra.Command {
	var strict bool
	c := &cobra.Command{
		Use:   "validate [FILE]",
		Short: "Say everything that is wrong with the inventory; exit 0: valid, 1: not",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := g.inventory
			if len(args) == 1 {
				path = args[0]
			}
			inv, warnings, err := inventory.LoadWithWarnings(path)
			printWarnings(cmd.ErrOrStderr(), warnings)
			if err == nil {
				err = embedded.Validate(inv)
			}
			var errs inventory.Errors
			if errors.As(err, &errs) {
				for _, e := range errs {
					_, _ = fmt.Fprintln(cmd.ErrOrStderr(), e) // the exit code says it too
				}
				return &exitCode{code: exitError}
			}
			if err != nil {
				return err
			}
			if strict && len(warnings) > 0 {
				return &exitCode{code: exitError}
			}
			nodes := 0
			for _, c := range inv.ClusterNames() {
				nodes += len(inv.Cluster(c).Nodes)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is valid: clusters %d, nodes %d, warnings %d\n", filepath.Clean(path), len(inv.ClusterNames()), nodes, len(warnings))
			return err
		},
	}
	c.Flags().BoolVar(&strict, "strict", false, "warnings make it invalid")
	return c
}

func newInventoryShow(g *global) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "show",
		Short: "Show the inventory with defaults filled in; secrets are named, never shown",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			inv, warnings, err := inventory.LoadWithWarnings(g.inventory)
			printWarnings(cmd.ErrOrStderr(), warnings)
			if err != nil {
				return err
			}
			render, ok := map[string]func() ([]byte, error){"yaml": inv.YAML, "json": inv.JSON}[format]
			if !ok {
				return fmt.Errorf("expected -o yaml or -o json, found %q", format)
			}
			text, err := render()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	c.Flags().StringVarP(&format, "output", "o", "yaml", "yaml or json")
	return c
}

func newInventorySchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON schema (2020-12) of an inventory file",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := inventory.Schema()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
}

func printWarnings(w io.Writer, warnings []inventory.Warning) {
	for _, x := range warnings {
		_, _ = fmt.Fprintln(w, "warning:", x) // nobody is left to tell
	}
}
