package plan

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/bootstrap/bundle"
	"github.com/catamaran-k8s/catamaran/bootstrap/host"
	"github.com/catamaran-k8s/catamaran/bootstrap/kubeadm"
	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
	"github.com/catamaran-k8s/catamaran/embedded"
	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

// site is a model of real machines: it answers what observing them would find, and carries out the data of steps. It
// proves what the planner decides; that the scripts do what the model says is proven on real hosts by test/e2e.
type site struct {
	t       *testing.T
	in      Input
	secrets map[inventory.ClusterName]pki.ClusterSecrets
	// platform is the vault's part of the platform; nil: none yet.
	platform *pki.PlatformSecrets
	// clock is the machines', which goes on with what is written and started there.
	clock time.Time
}

const siteYAML = `
apiVersion: catamaran/v1alpha1
kind: Inventory
metadata: {name: umea}
kubernetes: {version: 1.37.2}
clusters:
  service:
    network: {podCIDR: 10.100.0.0/16, serviceCIDR: 10.101.0.0/16}
    endpoint: {}
    provider: {onprem: {}}
    nodes:
      - {name: sc-1, role: control-plane, address: 10.77.0.11}
      - {name: sc-2, role: worker, address: 10.77.0.12, labels: {tier: store}}
  workload:
    network: {podCIDR: 10.102.0.0/16, serviceCIDR: 10.103.0.0/16}
    endpoint: {address: 10.77.0.100}
    provider: {onprem: {}}
    nodes:
      - {name: wc-1, role: control-plane, address: 10.77.0.21, taints: []}
      - {name: wc-2, role: control-plane, address: 10.77.0.22}
      - {name: wc-3, role: control-plane, address: 10.77.0.23}
      - {name: wc-4, role: worker, address: 10.77.0.24}
`

func newSite(t *testing.T, edits ...string) *site {
	t.Helper()
	text := strings.NewReplacer(edits...).Replace(siteYAML)
	inv, err := inventory.Parse([]byte(text), "/site/inventory.yaml")
	require.NoError(t, err)
	s := &site{t: t, secrets: map[inventory.ClusterName]pki.ClusterSecrets{}, in: Input{
		Inventory: inv, Bundle: testBundle(), Machines: map[string]provider.Machine{},
		Facts: map[string]*host.Facts{}, Unreachable: map[string]error{},
		Local: LocalFacts{
			Vault: map[inventory.ClusterName]VaultFacts{}, Kubeconfigs: map[inventory.ClusterName]KubeconfigFacts{},
		},
		Releases: map[inventory.ClusterName][]embedded.Release{}, AuditPolicies: map[inventory.ClusterName]string{},
		Now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC),
	}}
	for _, c := range inv.ClusterNames() {
		s.in.AuditPolicies[c] = kubeadm.AuditPolicy()
		s.in.Releases[c] = []embedded.Release{
			{Cluster: c, Name: "flannel", Namespace: "kube-flannel", Digest: "one", Version: "1.0.0", Chart: embedded.ChartSource{Embedded: "flannel"}, Images: []string{"example.org/flannel:v1"}},
			{Cluster: c, Name: "smoke", Namespace: "smoke", Order: 90, EveryNode: true, Digest: "two", Version: "1.0.0", Chart: embedded.ChartSource{Embedded: "smoke"}, Images: []string{"example.org/smoke:v1"}},
			{Cluster: c, Name: "local-path", Namespace: "local-path-storage", Order: 20, Digest: "one", Version: "1.0.0", Chart: embedded.ChartSource{Embedded: "local-path"}, Images: []string{"example.org/flannel:v1"}},
		}
		for i, n := range inv.Cluster(c).Nodes {
			s.in.Machines[n.Name] = provider.Machine{Cluster: c, Name: n.Name, Role: n.Role, Address: n.Address}
			s.in.Facts[n.Name] = s.fresh(n, i)
		}
	}
	return s
}

// fresh is a machine as a distribution leaves it.
func (s *site) fresh(n inventory.Node, i int) *host.Facts {
	return &host.Facts{
		Hostname: n.Name, MachineID: "machine-" + n.Name, Arch: "x86_64", CPUs: 2, MemoryMiB: 4096, DiskGiB: 40, DiskFree: 30,
		Init: "systemd", CgroupV2: true, Clock: s.in.Now.Add(time.Duration(i) * time.Millisecond), Received: s.in.Now,
		Interfaces: []host.Interface{{Name: "eth0", Addresses: []string{n.Address + "/24"}}},
		Sysctls:    map[string]string{"net.ipv4.ip_forward": "0", "vm.overcommit_memory": "0"},
		Modules:    map[string]string{"overlay": "builtin", "br_netfilter": "available"},
		Units:      map[string]host.Unit{}, Files: map[string]host.File{}, Peers: map[string]string{}, Written: map[string]time.Time{},
		Versions: map[string]string{}, Images: map[string]string{}, Certificates: map[string]string{},
	}
}

// testBundle holds everything that the site needs; only its manifest is read.
func testBundle() *bundle.Bundle {
	m := bundle.Manifest{Arch: "amd64", Kubernetes: "1.37.2"}
	for i, p := range host.Programs(inventory.CNIFlannel) {
		d := fmt.Sprintf("sha256:%064x", i+1)
		m.Files = append(m.Files, bundle.File{Name: p.Name, Version: "1.37.2", Digest: d, Size: 1 << 20})
		m.Blobs = append(m.Blobs, bundle.Blob{Digest: d, Size: 1 << 20, Stored: d, StoredSize: 1 << 20})
	}
	images, _ := kubeadm.Images("1.37.2") // a supported version
	for i, ref := range append(images, kubeadm.KubeVIPImage, "example.org/flannel:v1", "example.org/smoke:v1") {
		img := bundle.Image{Ref: ref, Digest: fmt.Sprintf("sha256:%064x", 0x100+i)}
		// every image shares one layer
		img.Blobs = []string{img.Digest, fmt.Sprintf("sha256:%064x", 0x200+i), fmt.Sprintf("sha256:%064x", 0xffff)}
		m.Images = append(m.Images, img)
		for _, d := range img.Blobs {
			m.Blobs = append(m.Blobs, bundle.Blob{Digest: d, Size: 2 << 20, Stored: d, StoredSize: 2 << 20})
		}
	}
	return &bundle.Bundle{Manifest: m}
}

func (s *site) plan() Plan {
	s.t.Helper()
	s.in.Local.Platform = s.platformFacts()
	p, err := Make(s.in)
	require.NoError(s.t, err)
	require.NoError(s.t, check(p.Steps))
	return p
}

// apply carries out the steps of a plan in the model, all of them or those that keep selects.
func (s *site) apply(p Plan, keep func(Step) bool) {
	s.t.Helper()
	for _, st := range p.Steps {
		if keep == nil || keep(st) {
			s.do(st)
		}
	}
}

// platformFacts digests what the releases want, as far as the vault has it.
func (s *site) platformFacts() *PlatformFacts {
	if s.platform == nil {
		return nil
	}
	f := &PlatformFacts{Digests: map[string]string{}, ServiceCA: s.platform.ServiceCA.Cert}
	for _, releases := range s.in.Releases {
		for _, r := range releases {
			for _, secret := range r.Secrets {
				if digest, err := SecretDigest(secret, *s.platform); err == nil {
					f.Digests[SecretID(secret)] = digest
				}
			}
		}
	}
	return f
}

// put makes a Secret in the model.
func (s *site) put(t PutSecret) {
	for _, name := range t.Secret.Passwords() {
		if s.platform.Passwords[name] == "" {
			password, err := pki.NewPassword()
			require.NoError(s.t, err)
			s.platform.Passwords[name] = password
		}
	}
	digest, err := SecretDigest(t.Secret, *s.platform)
	require.NoError(s.t, err)
	_, _, end, err := secretContent(t.Secret, *s.platform, s.in.Now)
	require.NoError(s.t, err)
	s.eachControlPlane(t.Cluster, func(c *host.ClusterFacts) {
		c.Secrets = slices.DeleteFunc(c.Secrets, func(f host.SecretFacts) bool { return f.Namespace == t.Secret.Namespace && f.Name == t.Secret.Name })
		c.Secrets = append(c.Secrets, host.SecretFacts{Namespace: t.Secret.Namespace, Name: t.Secret.Name, Digest: digest, NotAfter: end})
	})
}

func (s *site) facts(node string) *host.Facts { return s.in.Facts[node] }

func (s *site) do(st Step) {
	switch t := st.Task.(type) {
	case MakeSecrets:
		sec, err := pki.NewClusterSecrets()
		require.NoError(s.t, err)
		s.secrets[t.Cluster] = sec
		s.in.Local.Vault[t.Cluster] = VaultFactsOf(sec)
	case MakePlatformSecrets:
		sec, err := pki.NewPlatformSecrets()
		require.NoError(s.t, err)
		s.platform = &sec
	case PutSecret:
		s.put(t)
	case TrustIssuer:
		content := kubeadm.AuthenticationBy(t.Issuer, s.platform.ServiceCA.Cert)
		s.facts(t.Node).Files[kubeadm.AuthenticationFile] = host.File{Mode: "0600", SHA256: sum(content), Content: content}
	case InstallPrograms:
		f := s.facts(t.Node)
		for _, p := range t.Programs {
			f.Files[p.Path] = host.File{Mode: "0755", SHA256: strings.TrimPrefix(p.Digest, "sha256:")}
			f.Versions[p.Name] = p.Version
		}
	case PrepareHost:
		s.prepare(s.facts(t.Node), t.Changes)
	case ImportImages:
		f := s.facts(t.Node)
		for _, img := range t.Images {
			f.Images[img.Ref] = img.Digest
			f.Content = without(append(f.Content, img.Blobs...), nil)
		}
	case MakeMember:
		s.join(t)
	case Reconfigure:
		s.restart(t.Node, t.Unread)
		s.write(t.Node, kubeadmFile, "0600", t.Config)
	case RestartAPIServer:
		s.restart(t.Node, t.Files)
	case WriteStaticPod:
		s.write(t.Node, t.Path, "0600", t.Content)
	case RenewServing:
		s.serving(t.Cluster, t.Node, t.Address)
	case LabelNode:
		s.eachControlPlane(t.Cluster, func(c *host.ClusterFacts) {
			for i := range c.Nodes {
				if c.Nodes[i].Name == t.Node {
					for k, v := range t.Labels {
						c.Nodes[i].Labels[k] = v
					}
					if t.Taints != nil {
						c.Nodes[i].Taints = nil
						for _, taint := range *t.Taints {
							c.Nodes[i].Taints = append(c.Nodes[i].Taints, taintString(taint))
						}
					}
				}
			}
		})
	case WriteKubeconfig:
		s.in.Local.Kubeconfigs[t.Cluster] = KubeconfigFacts{Server: t.Server, CA: s.secrets[t.Cluster].CA.Cert, NotAfter: s.in.Now.Add(kubeconfigValidity)}
	case InstallRelease:
		s.eachControlPlane(t.Release.Cluster, func(c *host.ClusterFacts) {
			c.Releases = append(c.Releases, host.ReleaseFacts{Name: t.Release.Name, Namespace: t.Release.Namespace, Revision: 1,
				Status: "deployed", Version: t.Release.Version, Digest: embedded.LabelDigest(t.Release.Digest)})
		})
	case AwaitReady:
		s.eachControlPlane(t.Cluster, func(c *host.ClusterFacts) {
			for i := range c.Nodes {
				c.Nodes[i].Ready = c.Nodes[i].Ready || c.Nodes[i].Name == t.Node
			}
		})
	case DrainNode:
	case ResetNode:
		f := s.facts(t.Node)
		for _, p := range []string{memberFile, attemptFile, kubeadmFile, kubeletFlags, caFile, kubeVIPFile, encryptionFile} {
			delete(f.Files, p)
		}
		f.Cluster, f.Certificates, f.APIServerStarted = nil, map[string]string{}, time.Time{}
	case DeleteNode:
		s.eachControlPlane(t.Cluster, func(c *host.ClusterFacts) {
			var left []host.NodeFacts
			for _, n := range c.Nodes {
				if n.Name != t.Node {
					left = append(left, n)
				}
			}
			c.Nodes = left
		})
	case RetireMachine:
		spec := s.in.Inventory.Cluster(t.Cluster)
		spec.Nodes = slices.DeleteFunc(spec.Nodes, func(n inventory.Node) bool { return n.Name == t.Machine })
		delete(s.in.Facts, t.Machine)
		delete(s.in.Machines, t.Machine)
	case RemoveEtcdMember:
		s.eachControlPlane(st.Cluster, func(c *host.ClusterFacts) {
			var left []host.EtcdMember
			for _, e := range c.Etcd {
				if e.ID != t.ID {
					left = append(left, e)
				}
			}
			c.Etcd = left
		})
	default:
		s.t.Fatalf("the model does not know %T", st.Task)
	}
}

func (s *site) prepare(f *host.Facts, c host.Changes) {
	for _, file := range c.Files {
		f.Files[file.Path] = host.File{Mode: fmt.Sprintf("%#o", file.Mode), SHA256: sum(file.Content), Content: file.Content}
	}
	for k, v := range c.Sysctls {
		f.Sysctls[k] = v
	}
	for _, m := range c.Modules {
		f.Modules[m] = "loaded"
	}
	for _, file := range c.Files {
		if file.AtStart {
			s.clock = s.clock.Add(time.Second)
			f.Written[file.Path] = s.clock
		}
	}
	f.SwapActive = f.SwapActive && !c.SwapOff
	if c.Firewall != "" || c.FirewallOff {
		f.Firewall = c.Firewall
	}
	for _, u := range c.Enable {
		unit := f.Units[u]
		unit.Enabled = "enabled"
		f.Units[u] = unit
	}
	for _, u := range c.Start {
		unit := f.Units[u]
		unit.Active = "active"
		f.Units[u] = unit
	}
}

// cloudController switches one in the inventory.
func (s *site) cloudController(name string, on bool) {
	if s.in.Inventory.Components == nil {
		s.in.Inventory.Components = map[string]inventory.Component{}
	}
	c := s.in.Inventory.Components[name]
	c.Enabled = &on
	s.in.Inventory.Components[name] = c
}

// edit writes a file on a machine by hand, at a time that is later than all that was.
func (s *site) edit(node, path, content string) {
	f := s.facts(node)
	s.clock = s.clock.Add(time.Second)
	s.write(node, path, "0600", content)
	f.Written[path] = s.clock
}

// restart writes files and starts a machine's API server anew.
func (s *site) restart(node string, files []host.FileChange) {
	for _, f := range files {
		s.edit(node, f.Path, f.Content)
	}
	if s.in.Inventory.Node(node).Role == inventory.ControlPlane {
		s.clock = s.clock.Add(time.Second)
		s.facts(node).APIServerStarted = s.clock
	}
}

func (s *site) write(node, path, mode, content string) {
	s.facts(node).Files[path] = host.File{Mode: mode, SHA256: sum(content), Content: content}
}

func (s *site) serving(c inventory.ClusterName, node, address string) {
	cert, err := pki.KubeletServing(s.secrets[c].CA, node, address, s.in.Now, servingValidity)
	require.NoError(s.t, err)
	s.facts(node).Certificates[servingCert] = cert.Cert
}

// join makes a member of a machine, as MakeMember's script does.
func (s *site) join(t MakeMember) {
	require.NotNil(s.t, net.ParseIP(t.Address))
	f := s.facts(t.Node)
	var shared *host.ClusterFacts
	s.eachControlPlane(t.Cluster, func(c *host.ClusterFacts) { shared = c })
	require.Equal(s.t, t.Init, shared == nil, "%s: init where there is no cluster, join where there is one", t.Node)
	if shared == nil {
		shared = &host.ClusterFacts{}
	}
	node := host.NodeFacts{Name: t.Node, Address: t.Address, Version: "1.37.2", ControlPlane: t.Role == inventory.ControlPlane, Labels: map[string]string{}}
	if spec := s.in.Inventory.Node(t.Node); spec.Taints != nil {
		for _, taint := range *spec.Taints {
			node.Taints = append(node.Taints, taintString(taint))
		}
	}
	shared.Nodes = append(shared.Nodes, node)
	if t.Role == inventory.ControlPlane {
		shared.Etcd = append(shared.Etcd, host.EtcdMember{Name: t.Node, ID: "id-" + t.Node, Healthy: true})
		f.Cluster = shared
		s.restart(t.Node, nil)
		if t.VIP != nil {
			s.write(t.Node, kubeVIPFile, "0600", t.VIP.Manifest)
		}
	}
	s.write(t.Node, memberFile, "0644", t.Member)
	flags := "--node-ip=" + t.Address
	if t.Kubeadm.ExternalCloud {
		flags = externalCloud + " " + flags
	}
	s.write(t.Node, kubeletFlags, "0644", fmt.Sprintf("KUBELET_KUBEADM_ARGS=%q\n", flags))
	s.write(t.Node, kubeadmFile, "0600", t.Config)
	s.write(t.Node, caFile, "0644", s.secrets[t.Cluster].CA.Cert)
	s.serving(t.Cluster, t.Node, t.Address)
}

func (s *site) eachControlPlane(c inventory.ClusterName, f func(*host.ClusterFacts)) {
	done := map[*host.ClusterFacts]bool{}
	for _, n := range s.in.Inventory.Cluster(c).Nodes {
		if facts := s.in.Facts[n.Name]; facts != nil && facts.Cluster != nil && !done[facts.Cluster] {
			done[facts.Cluster] = true
			f(facts.Cluster)
		}
	}
}

// unplug makes a machine unreachable.
func (s *site) unplug(node string) {
	delete(s.in.Facts, node)
	s.in.Unreachable[node] = errors.New(node + ": dial: no route to host")
}

func ids(p Plan) []string {
	var out []string
	for _, s := range p.Steps {
		out = append(out, s.ID)
	}
	return out
}

func step(t *testing.T, p Plan, id string) Step {
	t.Helper()
	for _, s := range p.Steps {
		if s.ID == id {
			return s
		}
	}
	t.Fatalf("no step %s in %v", id, ids(p))
	return Step{}
}
