package harvest

import (
	"context"
	"sync"

	"k8s.io/client-go/kubernetes"
)

// Cluster is what is looked through: its API as cluster-admin, its nodes as root.
type Cluster struct {
	Name   string
	Client kubernetes.Interface
	Nodes  []Runner
}

// Everything looks through a cluster, all nodes at once. It returns one error for each part that could not be looked through.
func Everything(ctx context.Context, k Cluster, c *Collector) []error {
	work := []func() error{func() error { return API(ctx, k.Client, k.Name, c) }}
	for _, n := range k.Nodes {
		work = append(work, func() error { return Node(ctx, n, c) })
	}
	errs := make([]error, len(work))
	var wg sync.WaitGroup
	for i, f := range work {
		wg.Go(func() { errs[i] = f() })
	}
	wg.Wait()
	var failed []error
	for _, err := range errs {
		if err != nil {
			failed = append(failed, err)
		}
	}
	return failed
}
