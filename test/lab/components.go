package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/catamaran-k8s/catamaran/test/lab/build"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts"
)

// newBuild makes what `up` would make before it boots a host, so that nothing has to wait for it later.
func newBuild(g *global) *cobra.Command {
	var kubernetes string
	c := &cobra.Command{
		Use:   "build",
		Short: "Build Kubernetes, its friends and the bundle out of them, where they are not in the cache; print the bundle's path",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			path, err := build.Bundle(c.Context(), build.Options{Kubernetes: kubernetes, Log: g.log})
			if err != nil {
				return err
			}
			fmt.Println(path)
			return nil
		},
	}
	c.Flags().StringVar(&kubernetes, "kubernetes", hosts.DefaultKubernetes, "the version")
	return c
}
