package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"

	"github.com/catamaran-k8s/catamaran/bootstrap"
	"github.com/catamaran-k8s/catamaran/bootstrap/remote"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify/harvest"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify/separation"
	"github.com/catamaran-k8s/catamaran/inventory"
)

func newVerifySeparation(g *global) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "separation",
		Short: "Show that the two clusters have no authority, key, token or password in common",
		Long: `Separation looks through the API objects, the nodes' files and the processes of both clusters, as administrator and root, and
compares every credential. Secrets stay in memory; the document names them by kind, place and fingerprint.
Exit codes: 0 nothing is common, 1 something is, 4 a part could not be looked through.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := g.check()
			if err != nil {
				return err
			}
			defer k.site.Close()
			sides := make([]harvest.Cluster, 2)
			for i, name := range []inventory.ClusterName{inventory.Service, inventory.Workload} {
				if sides[i], err = harvested(cmd.Context(), k.site, name); err != nil {
					return err
				}
			}
			d, err := separation.Run(cmd.Context(), k.subject, sides[0], sides[1])
			if err != nil {
				return err
			}
			return k.finish(d, format)
		},
	}
	c.Flags().StringVarP(&format, "output", "o", "text", "text or json")
	return c
}

// harvested is a cluster as harvest needs it.
func harvested(ctx context.Context, s *bootstrap.Site, name inventory.ClusterName) (harvest.Cluster, error) {
	client, hosts, err := reached(ctx, s, name)
	if err != nil {
		return harvest.Cluster{}, err
	}
	k := harvest.Cluster{Name: string(name), Client: client}
	for _, h := range hosts {
		k.Nodes = append(k.Nodes, h)
	}
	return k, nil
}

// reached is a cluster's API and its nodes, control planes first.
func reached(ctx context.Context, s *bootstrap.Site, name inventory.ClusterName) (kubernetes.Interface, []*remote.Host, error) {
	config, err := s.API(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	var hosts []*remote.Host
	for _, n := range s.Inventory.Cluster(name).PresentNodes() {
		h, err := s.Host(ctx, n.Name)
		if err != nil {
			return nil, nil, err
		}
		hosts = append(hosts, h)
	}
	return client, hosts, nil
}
