package helm

import (
	"context"
	"fmt"
	"sort"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"
)

// Installed is the newest revision of a release, as the labels of its secret tell.
type Installed struct {
	Name, Namespace string
	Revision        int
	Status          string // deployed, failed, pending-install ...
	// Managed says that we installed it. Digest and Version are empty where we did not.
	Managed         bool
	Digest, Version string
}

// List returns all releases of the cluster, ours and others', by namespace and name. Only metadata is fetched, never
// a release's content.
func (c *Cluster) List(ctx context.Context) ([]Installed, error) {
	client, err := metadata.NewForConfig(c.config)
	if err != nil {
		return nil, err
	}
	newest := map[string]Installed{}
	options := metav1.ListOptions{LabelSelector: "owner=helm", Limit: 500}
	for {
		page, err := client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "secrets"}).List(ctx, options)
		if err != nil {
			return nil, fmt.Errorf("listing releases: %w", err)
		}
		for _, s := range page.Items {
			revision, err := strconv.Atoi(s.Labels["version"])
			if err != nil {
				continue // not one of Helm's
			}
			i := Installed{
				Name: s.Labels["name"], Namespace: s.Namespace, Revision: revision, Status: s.Labels["status"],
				Managed: s.Labels[LabelManaged] == "true", Digest: s.Labels[LabelDigest], Version: s.Labels[LabelVersion],
			}
			key := i.Namespace + "/" + i.Name
			if have, ok := newest[key]; !ok || have.Revision < i.Revision {
				newest[key] = i
			}
		}
		if page.Continue == "" {
			break
		}
		options.Continue = page.Continue
	}
	out := make([]Installed, 0, len(newest))
	for _, i := range newest {
		out = append(out, i)
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Namespace != out[j].Namespace {
			return out[i].Namespace < out[j].Namespace
		}
		return out[i].Name < out[j].Name
	})
	return out, nil
}
