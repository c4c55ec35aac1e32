package embedded

import (
	"context"
	"fmt"
	"strings"
	"time"

	"k8s.io/client-go/rest"

	"github.com/catamaran-k8s/catamaran/embedded/helm"
)

// Installer installs releases on one cluster. It connects at the first call.
type Installer struct {
	config *rest.Config
	log    func(string)
}

// NewInstaller returns an installer for the cluster that config reaches; log is told what goes on, line by line.
func NewInstaller(config *rest.Config, log func(string)) *Installer {
	return &Installer{config, log}
}

// Apply installs or upgrades a release and returns when everything in it is ready; see helm.Cluster.Apply for what
// happens when it fails or is cut off.
func (i *Installer) Apply(ctx context.Context, r Release) error {
	if r.chart == nil {
		return fmt.Errorf("release %s was not made from an inventory: it has no chart", r.Name)
	}
	cluster, err := helm.NewCluster(i.config, i.log)
	if err != nil {
		return err
	}
	return cluster.Apply(ctx, helm.Release{
		Name: r.Name, Namespace: r.Namespace, Chart: r.chart, Values: r.Values, Public: r.public,
		PodSecurity: r.PodSecurity, Timeout: r.Timeout,
		Labels: map[string]string{
			helm.LabelDigest:  LabelDigest(r.Digest),
			helm.LabelVersion: labelVersion(r.Version),
		},
	})
}

// PutSecret makes or replaces a Secret; see helm.Cluster.PutSecret.
func (i *Installer) PutSecret(ctx context.Context, s helm.Secret) error {
	cluster, err := helm.NewCluster(i.config, i.log)
	if err != nil {
		return err
	}
	return cluster.PutSecret(ctx, s)
}

// Uninstall removes a release and waits until its objects are gone. Namespace, CRDs and volumes stay. What is not
// installed is no error.
func (i *Installer) Uninstall(ctx context.Context, namespace, name string, timeout time.Duration) error {
	cluster, err := helm.NewCluster(i.config, i.log)
	if err != nil {
		return err
	}
	return cluster.Uninstall(ctx, namespace, name, timeout)
}

// Diff compares what the release would install with what its newest revision installed, as a unified diff, object by
// object; empty: nothing would change. The content of Secrets shows as hashes.
func (i *Installer) Diff(_ context.Context, r Release) (string, error) {
	cluster, err := helm.NewCluster(i.config, i.log)
	if err != nil {
		return "", err
	}
	version, apis, err := cluster.Capabilities()
	if err != nil {
		return "", err
	}
	now, err := cluster.Manifest(r.Namespace, r.Name)
	if err != nil {
		return "", err
	}
	wanted, err := r.render(version, apis)
	if err != nil {
		return "", err
	}
	return helm.Diff(now, wanted.Manifest)
}

// labelVersion makes a chart version fit into a label: build metadata begins with "+", which labels refuse.
func labelVersion(version string) string {
	version = strings.ReplaceAll(version, "+", "_")
	return strings.TrimRight(version[:min(len(version), 63)], "._-")
}
