package plan

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
	"github.com/catamaran-k8s/catamaran/embedded"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// MakeSecrets makes a cluster's secrets in the vault.
type MakeSecrets struct{ Cluster inventory.ClusterName }

// Do implements Task.
func (t MakeSecrets) Do(_ context.Context, env Env, _ func(string)) error {
	_, err := env.MakeSecrets(t.Cluster)
	return err
}

// kubeconfigValidity is how long an operator's client certificate lives; kubeadm's own is also one year.
const kubeconfigValidity = 365 * 24 * time.Hour

// KubeconfigPath is where a cluster's kubeconfig lies in the site folder.
func KubeconfigPath(siteDir string, c inventory.ClusterName) string {
	return filepath.Join(siteDir, string(c)+".kubeconfig")
}

// Server is the URL of a cluster's API.
func Server(c *inventory.Cluster) string {
	return fmt.Sprintf("https://%s", HostPort(c.Endpoint.Address, c.Endpoint.Port))
}

// WriteKubeconfig signs a client certificate for the operator and writes it with the cluster's address, mode 0600.
type WriteKubeconfig struct {
	Cluster inventory.ClusterName
	Server  string
}

// Do implements Task.
func (t WriteKubeconfig) Do(_ context.Context, env Env, log func(string)) error {
	secrets, err := env.Secrets(t.Cluster)
	if err != nil {
		return err
	}
	data, err := pki.AdminKubeconfig(secrets.CA, string(t.Cluster), t.Server, env.Operator(), time.Now().Add(-5*time.Minute), kubeconfigValidity)
	if err != nil {
		return err
	}
	path := KubeconfigPath(env.SiteDir(), t.Cluster)
	if err := pki.WriteFile(path, data, 0o600); err != nil {
		return err
	}
	log(path)
	_, err = os.Stat(path)
	return err
}

// InstallRelease installs or upgrades a Helm release and waits until what it made is ready.
type InstallRelease struct {
	Release embedded.Release
}

// Do implements Task.
func (t InstallRelease) Do(ctx context.Context, env Env, log func(string)) error {
	cfg, err := env.API(t.Release.Cluster)
	if err != nil {
		return err
	}
	return embedded.NewInstaller(cfg, log).Apply(ctx, t.Release)
}

// AwaitReady waits until a node is Ready.
type AwaitReady struct {
	Cluster inventory.ClusterName
	Node    string
	Timeout time.Duration
}

// Do implements Task.
func (t AwaitReady) Do(ctx context.Context, env Env, _ func(string)) error {
	client, err := env.Client(t.Cluster)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	why := "it did not register"
	err = waitForNode(ctx, client, t.Node, func(n *corev1.Node) bool {
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady {
				why = c.Message
			}
		}
		return nodeReady(n)
	})
	if err != nil {
		return fmt.Errorf("node %s is not ready after %s: %s", t.Node, t.Timeout, why)
	}
	return nil
}
