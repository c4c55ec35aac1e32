package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/inventory"
)

func newKubeconfig(g *global) *cobra.Command {
	var path bool
	c := &cobra.Command{
		Use:       "kubeconfig service|workload",
		Short:     "Print a cluster's kubeconfig (or, with --path, where it lies)",
		Example:   `  export KUBECONFIG="$(catamaran kubeconfig --path workload)"`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{string(inventory.Service), string(inventory.Workload)},
		RunE: func(_ *cobra.Command, args []string) error {
			inv, err := inventory.Load(g.inventory)
			if err != nil {
				return err
			}
			file := plan.KubeconfigPath(inv.SiteDir(), inventory.ClusterName(args[0]))
			data, err := os.ReadFile(file)
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("there is no kubeconfig of the %s cluster yet: `catamaran apply` writes it", args[0])
			}
			if err != nil {
				return err
			}
			if path {
				_, err = fmt.Println(file)
			} else {
				_, err = os.Stdout.Write(data)
			}
			return err
		},
	}
	c.Flags().BoolVar(&path, "path", false, "print the file's path instead of its content")
	return c
}
