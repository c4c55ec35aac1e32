package plan

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/catamaran-k8s/catamaran/bootstrap/host"
	"github.com/catamaran-k8s/catamaran/bootstrap/kubeadm"
	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
	"github.com/catamaran-k8s/catamaran/embedded"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// kubeadmConfig renders the part of a node's kubeadm configuration that holds no secret.
func (m *maker) kubeadmConfig(v *view, n *inventory.Node) (string, kubeadm.Input, error) {
	k := m.in.Inventory.Kubernetes
	in := kubeadm.Input{
		Site: m.in.Inventory.Metadata.Name, Cluster: v.name, Spec: v.spec,
		Version: v.spec.VersionOr(m.in.Inventory), Node: n, Address: m.address(n),
		FailCgroupV1:          k.FailOnCgroupV1 == nil || *k.FailOnCgroupV1,
		IgnorePreflightErrors: k.IgnorePreflightErrors,
		AuditPolicy:           m.in.AuditPolicies[v.name],
		Guarded:               kubeadm.Guarded(m.in.Inventory, v.spec),
		ExternalCloud:         embedded.ExternalCloud(m.in.Inventory, v.spec),
	}
	shared, err := kubeadm.Shared(in)
	return string(shared), in, err
}

// vip is who carries the cluster's virtual address on a control plane, and where; nil: there is none.
func (m *maker) vip(v *view, n *inventory.Node, f *host.Facts) (*VIP, error) {
	if n.Role != inventory.ControlPlane || v.spec.Endpoint.Mode != inventory.EndpointVIP {
		return nil, nil //nolint:nilnil // no VIP is no error
	}
	iface := v.spec.Endpoint.Interface
	if iface == "" {
		if iface = interfaceOf(f, m.address(n)); iface == "" {
			return nil, fmt.Errorf("no network interface has the address %s: name the one that carries the VIP in clusters.%s.endpoint.interface", m.address(n), v.name)
		}
	}
	return &VIP{Address: v.spec.Endpoint.Address, Interface: iface, Manifest: kubeadm.KubeVIP(v.spec, iface)}, nil
}

// vipOf is a cluster's virtual address; empty where it has none.
func vipOf(v *view) string {
	if v.spec.Endpoint.Mode != inventory.EndpointVIP {
		return ""
	}
	return v.spec.Endpoint.Address
}

func interfaceOf(f *host.Facts, address string) string {
	for _, i := range f.Interfaces {
		for _, a := range i.Addresses {
			if p, err := netip.ParsePrefix(a); err == nil && p.Addr().String() == address {
				return i.Name
			}
		}
	}
	return ""
}

// preflightInput is what preflight needs of the plan's input.
func (m *maker) preflightInput() host.PreflightInput {
	in := host.PreflightInput{Inventory: m.in.Inventory, Facts: m.in.Facts, Ours: func(node string) bool {
		f := m.in.Facts[node]
		return has(f, memberFile) || has(f, attemptFile)
	}}
	if m.in.Bundle != nil {
		in.Arch = m.in.Bundle.Manifest.Arch
	}
	return in
}

// Query says what the facts script must look for on a node, so that Make finds all it compares.
func Query(inv *inventory.Inventory, c inventory.ClusterName, n *inventory.Node, auditPolicy string) (host.Query, error) {
	want, err := host.Desired(host.DesiredInput{Inventory: inv, Cluster: c, Node: n, AuditPolicy: auditPolicy})
	if err != nil {
		return host.Query{}, fmt.Errorf("%s: %w", n.Name, err)
	}
	q := host.Query{
		Files:   []string{attemptFile, caFile},
		Content: []string{memberFile, kubeadmFile, kubeletFlags},
		Modules: want.Modules, Units: slices.Clone(want.Units),
	}
	if n.Role == inventory.ControlPlane {
		q.Files = append(q.Files, encryptionFile)
		q.Content = append(q.Content, kubeVIPFile)
	}
	for _, f := range want.Files {
		q.Content = append(q.Content, f.Path)
		if f.AtStart {
			q.AtStart = append(q.AtStart, f.Path)
		}
		if f.Restart != "" && !slices.Contains(q.Units, f.Restart) {
			q.Units = append(q.Units, f.Restart)
		}
	}
	for k := range want.Sysctls {
		q.Sysctls = append(q.Sysctls, k)
	}
	for _, cp := range inv.Cluster(c).ControlPlanes() {
		if cp.Name != n.Name && cp.Address != "" {
			q.Peers = append(q.Peers, HostPort(cp.Address, kubeadm.BindPort))
		}
	}
	return q, nil
}

// HostPort joins an address and a port, with brackets where IPv6 needs them.
func HostPort(address string, port int) string { return net.JoinHostPort(address, strconv.Itoa(port)) }

// VaultFactsOf is what may be known of a cluster's secrets: public parts and hashes.
func VaultFactsOf(s pki.ClusterSecrets) VaultFacts {
	v := VaultFacts{CA: s.CA.Cert, Files: map[string]string{}}
	for path, content := range SecretFiles(s) {
		v.Files[path] = sum(content)
	}
	return v
}

// certificateLeft is how long the first certificate of a PEM text is still valid.
func certificateLeft(certPEM string, now time.Time) (time.Duration, error) {
	block, _ := pem.Decode([]byte(certPEM))
	if block == nil {
		return 0, errors.New("there is no certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return 0, err
	}
	return cert.NotAfter.Sub(now), nil
}
