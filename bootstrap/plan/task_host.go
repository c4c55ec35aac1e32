package plan

import (
	"context"
	"time"

	"github.com/catamaran-k8s/catamaran/bootstrap/host"
	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// PrepareHost writes files, loads modules, sets sysctls and brings units into their state.
type PrepareHost struct {
	Node    string
	Changes host.Changes
}

// Do implements Task.
func (t PrepareHost) Do(ctx context.Context, env Env, log func(string)) error {
	s := newStaging()
	for _, f := range t.Changes.Files {
		s.put(f.Path, f.Mode, f.Content)
	}
	return runUnit(ctx, env, t.Node, "prepare", "set -eu\numask 022\n"+s.install()+t.Changes.Script(), s.files, log)
}

// WriteStaticPod writes a manifest that kubelet runs by itself.
type WriteStaticPod struct{ Node, Path, Content string }

// Do implements Task.
func (t WriteStaticPod) Do(ctx context.Context, env Env, log func(string)) error {
	s := newStaging()
	s.put(t.Path, 0o600, t.Content)
	return runUnit(ctx, env, t.Node, "static-pod", "set -eu\n"+s.install(), s.files, log)
}

// RenewServing signs a new serving certificate for a node's kubelet.
type RenewServing struct {
	Cluster       inventory.ClusterName
	Node, Address string
}

// Do implements Task.
func (t RenewServing) Do(ctx context.Context, env Env, log func(string)) error {
	secrets, err := env.Secrets(t.Cluster)
	if err != nil {
		return err
	}
	cert, err := pki.KubeletServing(secrets.CA, t.Node, t.Address, time.Now().Add(-5*time.Minute), servingValidity)
	if err != nil {
		return err
	}
	s := newStaging()
	s.put(servingCert, 0o644, cert.Cert)
	s.put(servingKey, 0o600, cert.Key)
	script := "set -eu\numask 077\n" + s.install() + "systemctl restart kubelet\nsystemctl is-active --quiet kubelet\n"
	return runUnit(ctx, env, t.Node, "kubelet-certificate", script, s.files, log)
}
