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
	var platform, openStack bool
	c := &cobra.Command{
		Use:   "build",
		Short: "Build Kubernetes, its friends, the platform and the bundle out of them, where they are not in the cache; print the bundle's path",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			path, err := build.Bundle(c.Context(), build.Options{Kubernetes: kubernetes, Platform: platform, OpenStack: openStack, Log: g.log})
			if err != nil {
				return err
			}
			fmt.Println(path)
			return nil
		},
	}
	c.Flags().StringVar(&kubernetes, "kubernetes", hosts.DefaultKubernetes, "the version")
	c.Flags().BoolVar(&platform, "with-platform", true, "with the compliance platform's programs and images, which take twice as long to build as Kubernetes")
	c.Flags().BoolVar(&openStack, "with-openstack", false, "with the cloud controller manager and the storage driver of a cluster on OpenStack")
	return c
}
