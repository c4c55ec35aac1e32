package bootstrap

import (
	"context"
	"fmt"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/bootstrap/remote"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify/evidence"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// EvidenceSources say where the evidence pack is gathered: every machine and API server of the site. Nothing is dialled yet,
// and nothing of the vault but certificates is handed out.
func (s *Site) EvidenceSources(ctx context.Context) (evidence.Sources, error) {
	if err := s.FindMachines(ctx); err != nil {
		return evidence.Sources{}, err
	}
	out := evidence.Sources{SiteDir: s.Inventory.SiteDir(), Authorities: s.authorities()}
	env := newEnvironment(s, pki.NewRedactor())
	for _, name := range s.Inventory.ClusterNames() {
		spec := s.Inventory.Cluster(name)
		policy, err := s.auditPolicy(name)
		if err != nil {
			return out, err
		}
		c := evidence.ClusterSource{
			Name: string(name), Endpoint: plan.Server(spec), Version: spec.VersionOr(s.Inventory), AuditPolicy: policy,
			API: func(context.Context) (evidence.API, error) {
				config, err := env.API(name)
				if err != nil {
					return evidence.API{}, err
				}
				client, err := kubernetes.NewForConfig(config)
				if err != nil {
					return evidence.API{}, err
				}
				d, err := dynamic.NewForConfig(config)
				return evidence.API{Client: client, Dynamic: d}, err
			},
		}
		for _, n := range spec.PresentNodes() {
			node := evidence.NodeSource{Name: n.Name, Role: string(n.Role), Address: n.Address}
			if h, ok := s.hosts[n.Name]; ok {
				node.Machine = h
			} else {
				node.Err = fmt.Errorf("there is no machine yet: apply first")
			}
			if node.Pins, err = s.pins(name, n); err != nil {
				return out, err
			}
			c.Nodes = append(c.Nodes, node)
		}
		out.Clusters = append(out.Clusters, c)
	}
	return out, nil
}

// pins are what a machine's host key must be.
func (s *Site) pins(c inventory.ClusterName, n inventory.Node) ([]string, error) {
	m, ok := s.machines[n.Name]
	if ok && m.HostKey != "" {
		return []string{m.HostKey}, nil
	}
	ssh := s.Inventory.SSHFor(c, &n)
	keys, err := remote.KnownKeys(existing(s.KnownHosts(), ssh.KnownHosts), sshAddress(m), ssh.Port)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Name, err)
	}
	out := make([]string, 0, len(keys))
	for _, k := range keys {
		out = append(out, k.Fingerprint)
	}
	return out, nil
}

// authorities are the certificates of all authorities in the vault.
func (s *Site) authorities() map[string]string {
	out := map[string]string{}
	for _, c := range s.Inventory.ClusterNames() {
		sec, err := s.secrets(c)
		if err != nil {
			continue // not made yet
		}
		out[string(c)+", Kubernetes"] = sec.CA.Cert
		out[string(c)+", front proxy"] = sec.FrontProxyCA.Cert
		out[string(c)+", etcd"] = sec.EtcdCA.Cert
	}
	if s.vault == nil {
		return out
	}
	if p, ok := s.vault.Platform(); ok {
		out["service cluster's parts"] = p.ServiceCA.Cert
		out["ingest gateway's door"] = p.IngestServerCA.Cert
		out["tenants at the door"] = p.IngestClientCA.Cert
	}
	return out
}
