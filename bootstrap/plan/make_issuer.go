package plan

import (
	"context"

	"github.com/catamaran-k8s/catamaran/bootstrap/kubeadm"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// People sign in to the workload cluster with tokens of the issuer in the service cluster. Its server's authority is in the
// vault: where that is not made yet, the control planes get its certificate in a step of their own, after it was made; else it
// is a file of the machine like others. API servers read the changed file by themselves.

// issuer is whose tokens a cluster's API servers accept; false: nobody's.
func issuer(inv *inventory.Inventory, c inventory.ClusterName) (kubeadm.Issuer, bool) {
	url := inv.Issuer()
	if c != inventory.Workload || url == "" {
		return kubeadm.Issuer{}, false
	}
	return kubeadm.Issuer{URL: url, Client: inventory.IssuerClient, UsernameClaim: inv.Platform.OIDC.UsernameClaim}, true
}

// authentication is the file that says who may sign in to a cluster, as far as it can be known now.
func (m *maker) authentication(v *view) string {
	i, ok := issuer(m.in.Inventory, v.name)
	if !ok || m.in.Local.Platform == nil {
		return kubeadm.Authentication()
	}
	return kubeadm.AuthenticationBy(i, m.in.Local.Platform.ServiceCA)
}

// trustIssuer plans the rest of it.
func (m *maker) trustIssuer(v *view, n *inventory.Node, prepare string) {
	i, ok := issuer(m.in.Inventory, v.name)
	if !ok || m.in.Local.Platform != nil || n.Role != inventory.ControlPlane {
		return
	}
	m.add(Step{
		ID: id(v, n.Name, "trust-issuer"), Cluster: v.name, Node: n.Name, Title: "trust the issuer in the service cluster",
		Reason: "its authority is not made yet", Needs: []string{prepare, platformSecrets},
		Files: []FileChange{{Path: kubeadm.AuthenticationFile, Mode: "0600", Exists: has(m.in.Facts[n.Name], kubeadm.AuthenticationFile)}},
		Task:  TrustIssuer{Node: n.Name, Issuer: i},
	})
}

// TrustIssuer tells a control plane's API server of an issuer. What the machine gets is a certificate, never a key.
type TrustIssuer struct {
	Node   string
	Issuer kubeadm.Issuer
}

// Do implements Task.
func (t TrustIssuer) Do(ctx context.Context, env Env, log func(string)) error {
	secrets, err := env.Platform()
	if err != nil {
		return err
	}
	s := newStaging()
	s.put(kubeadm.AuthenticationFile, 0o600, kubeadm.AuthenticationBy(t.Issuer, secrets.ServiceCA.Cert))
	return runUnit(ctx, env, t.Node, "trust-issuer", "set -eu\numask 022\n"+s.install(), s.files, log)
}
