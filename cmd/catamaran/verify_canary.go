package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/catamaran-k8s/catamaran/bootstrap"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify/canary"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// canaryFlags are verify canary's.
type canaryFlags struct {
	options     canary.Options
	bucket      bool
	node, image string
	format      string
}

func newVerifyCanary(g *global) *cobra.Command {
	var f canaryFlags
	c := &cobra.Command{
		Use:   "canary",
		Short: "Make events in the workload cluster and wait until the service cluster has seen them",
		Long: `Canary makes one event for each channel in the workload cluster, under a name that nothing else has: a pod prints a line, a ConfigMap is
made and removed (audit log), somebody unknown tries to sign in to a node (SSH log), a file below /etc/kubernetes/pki of a node is written
and read (Falco). It waits until each is seen in the service cluster, looks at the age of the newest metrics, and measures how long it took.
With --bucket it waits for the locked objects too, which the gateway closes after some minutes. What it made it removes.
Exit codes: 0 all were seen in time, 1 one was not, 4 one could not be tried.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := g.check()
			if err != nil {
				return err
			}
			defer k.site.Close()
			tell := attackProgress(g.progress)
			f.options.Report = func(channel, state string) { tell(channel + ": " + state) }
			d, err := f.run(cmd.Context(), k)
			if err != nil {
				return err
			}
			return k.finish(d, f.format)
		},
	}
	s := c.Flags()
	s.StringVarP(&f.format, "output", "o", "text", "text or json")
	s.BoolVar(&f.bucket, "bucket", false, "wait for the locked objects too")
	s.DurationVar(&f.options.Timeout, "timeout", time.Minute, "how long an event may take until it is seen")
	s.DurationVar(&f.options.BucketTimeout, "bucket-timeout", 30*time.Minute, "how long it may take until it is in a locked object")
	s.StringVar(&f.node, "node", "", "the workload cluster's node to use (default the last of the inventory)")
	s.StringVar(&f.image, "image", "", "an image with a shell, for the pod (default one that a node has)")
	return c
}

func (f *canaryFlags) run(ctx context.Context, k *checked) (d verify.Document, err error) {
	from, err := openStores(ctx, k.site)
	if err != nil {
		return d, err
	}
	w, err := f.workload(ctx, k.site)
	if err != nil {
		return d, err
	}
	o := f.options
	o.Tenant, o.Reader, o.Channels = k.site.Inventory.Platform.Tenant, from, w.Channels()
	if f.bucket {
		o.Bucket = from.bucket
	}
	defer func() {
		// also after an interrupt
		err = errors.Join(err, w.Clean(context.WithoutCancel(ctx)))
	}()
	if err := w.Prepare(ctx); err != nil {
		return d, err
	}
	return canary.Run(ctx, k.subject, o)
}

// workload is where canaries are fired.
func (f *canaryFlags) workload(ctx context.Context, s *bootstrap.Site) (*canary.Workload, error) {
	if s.Inventory.Clusters.Workload == nil {
		return nil, fmt.Errorf("%s has no workload cluster: canaries are made there", s.Inventory.Path)
	}
	client, hosts, err := reached(ctx, s, inventory.Workload)
	if err != nil {
		return nil, err
	}
	namespace, err := canary.NewMarker()
	if err != nil {
		return nil, err
	}
	w := &canary.Workload{Client: client, Image: f.image, Namespace: namespace}
	for i, n := range s.Inventory.Clusters.Workload.PresentNodes() {
		if f.node == "" || f.node == n.Name {
			w.Node, w.Address, w.SSHPort = hosts[i], n.Address, s.Inventory.SSHFor(inventory.Workload, &n).Port
		}
	}
	if w.Node == nil {
		return nil, fmt.Errorf("the workload cluster has no node %q", f.node)
	}
	return w, nil
}
