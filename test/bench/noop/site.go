package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"golang.org/x/crypto/ssh"

	"github.com/catamaran-k8s/catamaran/bootstrap/bundle"
	"github.com/catamaran-k8s/catamaran/bootstrap/kubeadm"
	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/embedded"
	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

// maxPerCluster is how many machines of one cluster have an address.
const maxPerCluster = 240

// controlPlanes of each cluster.
const controlPlanes = 3

// kubernetes is the version that the sites run.
const kubernetes = "1.37.2"

// site is an inventory with everything that it names, and what its machines answer.
type site struct {
	dir, inventory string
	machines       int
	standin        standinConfig
}

// layout is the inventory. The defaults of everything that is not said are what a site gets.
var layout = template.Must(template.New("").Parse(`apiVersion: catamaran/v1alpha1
kind: Inventory
metadata: {name: bench}
kubernetes: {version: {{.Kubernetes}}}
bundle: bundle.tar
ssh: {user: root, keyFile: id_ed25519}
vault: {identityFile: bench.agekey}
platform: {enabled: false}
clusters:
{{- range .Clusters}}
  {{.Name}}:
    endpoint: {address: {{.VIP}}}
    network: {podCIDR: {{.Pods}}, serviceCIDR: {{.Services}}, networkPolicy: false}
    provider: {onprem: {}}
    nodes:
    {{- range .Nodes}}
      - {name: {{.Name}}, role: {{.Role}}, address: {{.Address}}, hostKey: "{{.HostKey}}", labels: {rack: "{{.Rack}}"}}
    {{- end}}
{{- end}}
`))

type layoutCluster struct {
	Name, VIP, Pods, Services string
	Nodes                     []layoutNode
}

type layoutNode struct {
	Name, Role, Address, HostKey string
	Rack                         int
}

// makeSite makes a site of n machines, half of them in each cluster, that is as its inventory wants it.
func makeSite(dir string, n int) (site, error) {
	s := site{dir: dir, inventory: filepath.Join(dir, "inventory.yaml"), machines: n}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return s, err
	}
	if err := s.writeInventory(n); err != nil {
		return s, err
	}
	if err := s.writeBundle(); err != nil {
		return s, err
	}
	in, secrets, err := s.input()
	if err != nil {
		return s, err
	}
	facts, err := converge(in, secrets)
	if err != nil {
		return s, err
	}
	for i, m := range s.standin.Machines {
		s.standin.Machines[i].Capture = filepath.Join(dir, m.Name+".facts")
		text, err := capture(facts[m.Name])
		if err != nil {
			return s, fmt.Errorf("%s: %w", m.Name, err)
		}
		if err := os.WriteFile(s.standin.Machines[i].Capture, text, 0o600); err != nil {
			return s, err
		}
	}
	return s, nil
}

// writeInventory makes keys and addresses, and the inventory that names them.
func (s *site) writeInventory(n int) error {
	private, public, err := newKey()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.dir, "id_ed25519"), private, 0o600); err != nil {
		return err
	}
	s.standin.AuthorizedKey = string(ssh.MarshalAuthorizedKey(public))
	clusters := []layoutCluster{
		{Name: "service", VIP: "10.79.0.5", Pods: "10.100.0.0/16", Services: "10.101.0.0/16"},
		{Name: "workload", VIP: "10.79.1.5", Pods: "10.102.0.0/16", Services: "10.103.0.0/16"},
	}
	for i := range n {
		c, k := i*2/n, i%((n+1)/2)
		node := layoutNode{
			Name: fmt.Sprintf("%c-%03d", "sw"[c], k), Role: "worker",
			Address: fmt.Sprintf("10.79.%d.%d", c, 10+k), Rack: k / 20,
		}
		if k < controlPlanes {
			node.Role = "control-plane"
		}
		key, public, err := newKey()
		if err != nil {
			return err
		}
		node.HostKey = ssh.FingerprintSHA256(public)
		clusters[c].Nodes = append(clusters[c].Nodes, node)
		s.standin.Machines = append(s.standin.Machines, standinMachine{Name: node.Name, Listen: node.Address + ":22", HostKey: string(key)})
	}
	var b bytes.Buffer
	if err := layout.Execute(&b, map[string]any{"Kubernetes": kubernetes, "Clusters": clusters}); err != nil {
		return err
	}
	return os.WriteFile(s.inventory, b.Bytes(), 0o600)
}

// newKey makes an SSH key for one run.
func newKey() (private []byte, public ssh.PublicKey, err error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	block, err := ssh.MarshalPrivateKey(key, "benchmark")
	if err != nil {
		return nil, nil, err
	}
	public, err = ssh.NewPublicKey(pub)
	return pem.EncodeToMemory(block), public, err
}

// writeBundle makes a bundle that has everything the site needs by name; what is in it is a few bytes each.
func (s *site) writeBundle() (err error) {
	// the inventory names a bundle that is not there yet, which only a check of files would mind
	data, err := os.ReadFile(s.inventory)
	if err != nil {
		return err
	}
	inv, err := inventory.Parse(data, s.inventory)
	if err != nil {
		return err
	}
	needs, err := plan.Needs(inv)
	if err != nil {
		return err
	}
	w, err := bundle.Create(filepath.Join(s.dir, "bundle.tar"), bundle.Manifest{Arch: "amd64", Kubernetes: kubernetes})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = w.Abort() // the first error is the one to tell
		}
	}()
	for _, name := range needs.Files {
		f := bundle.File{Name: name, Version: kubernetes, Mode: 0o755}
		if err := w.AddFile(f, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("stand-in for " + name)), nil }); err != nil {
			return err
		}
	}
	images := map[string]bool{}
	for _, ref := range needs.Images {
		images[ref] = true
	}
	for _, c := range inv.ClusterNames() {
		releases, err := embedded.Releases(context.Background(), inv, c)
		if err != nil {
			return err
		}
		for _, r := range releases {
			for _, ref := range r.Images {
				images[ref] = true
			}
		}
	}
	for ref := range images {
		img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{Architecture: "amd64", OS: "linux", Author: "stand-in for " + ref})
		if err != nil {
			return err
		}
		if err := w.AddImage(ref, img); err != nil {
			return err
		}
	}
	_, err = w.Close()
	return err
}

// input is what the site's plan is made from before any machine was seen, and the secrets that went into its vault.
func (s *site) input() (plan.Input, map[inventory.ClusterName]pki.ClusterSecrets, error) {
	inv, err := inventory.Load(s.inventory)
	if err != nil {
		return plan.Input{}, nil, err
	}
	in := plan.Input{
		Inventory: inv, Machines: map[string]provider.Machine{}, Now: time.Now(),
		Releases: map[inventory.ClusterName][]embedded.Release{}, AuditPolicies: map[inventory.ClusterName]string{},
		Local: plan.LocalFacts{
			Vault:       map[inventory.ClusterName]plan.VaultFacts{},
			Kubeconfigs: map[inventory.ClusterName]plan.KubeconfigFacts{},
		},
	}
	if in.Bundle, err = bundle.Open(inv.Bundle); err != nil {
		return in, nil, err
	}
	vault, err := pki.Create(inv.VaultFile(), inv.IdentityFile(), inv.Metadata.Name, nil)
	if err != nil {
		return in, nil, err
	}
	if err := os.MkdirAll(inv.SiteDir(), 0o700); err != nil {
		return in, nil, err
	}
	secrets := map[inventory.ClusterName]pki.ClusterSecrets{}
	for _, c := range inv.ClusterNames() {
		sec, err := pki.NewClusterSecrets()
		if err != nil {
			return in, nil, err
		}
		secrets[c] = sec
		vault.SetCluster(string(c), sec)
		const year = 365 * 24 * time.Hour
		server := plan.Server(inv.Cluster(c))
		kubeconfig, err := pki.AdminKubeconfig(sec.CA, string(c), server, "bench", in.Now, year)
		if err != nil {
			return in, nil, err
		}
		if err := pki.WriteFile(plan.KubeconfigPath(inv.SiteDir(), c), kubeconfig, 0o600); err != nil {
			return in, nil, err
		}
		in.Local.Vault[c] = plan.VaultFactsOf(sec)
		in.Local.Kubeconfigs[c] = plan.KubeconfigFacts{Server: server, CA: sec.CA.Cert, NotAfter: in.Now.Add(year)}
		in.AuditPolicies[c] = kubeadm.AuditPolicy()
		if in.Releases[c], err = embedded.Releases(context.Background(), inv, c); err != nil {
			return in, nil, err
		}
		for _, n := range inv.Cluster(c).Nodes {
			in.Machines[n.Name] = provider.Machine{Cluster: c, Name: n.Name, Role: n.Role, Address: n.Address, HostKey: n.HostKey}
		}
	}
	return in, secrets, vault.Save()
}
