package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/bootstrap/bundle"
	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/bootstrap/remote/sshdtest"
	"github.com/catamaran-k8s/catamaran/embedded"
	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

// cloud is a stand-in: a provider whose machines are all this machine, reached at one SSH server.
type cloud struct {
	hostKey string
	console string
	fails   error // of Plan and Ensure

	mu       sync.Mutex
	machines []provider.Machine
	retired  []string
}

func (c *cloud) list(r provider.Request) provider.Plan {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := provider.Plan{Changes: []provider.Change{}}
	listed := map[string]bool{}
	for _, n := range r.Inventory.Cluster(r.Cluster).Nodes {
		listed[n.Name] = true
		i := slices.IndexFunc(c.machines, func(m provider.Machine) bool { return m.Name == n.Name })
		switch {
		case i >= 0:
			p.Machines = append(p.Machines, c.machines[i])
		case n.State != inventory.Absent:
			p.Changes = append(p.Changes, provider.Change{Verb: provider.Create, Kind: "server", Name: n.Name, Reason: "it is not there"})
		}
	}
	for _, m := range c.machines {
		if m.Cluster == r.Cluster && !listed[m.Name] && !m.Adopted {
			p.Surplus = append(p.Surplus, m)
		}
	}
	return p
}

func (c *cloud) Plan(_ context.Context, r provider.Request) (provider.Plan, error) {
	return c.list(r), c.fails
}

func (c *cloud) Ensure(_ context.Context, r provider.Request, report func(provider.Change)) ([]provider.Machine, error) {
	for _, change := range c.list(r).Changes {
		c.add(r.Cluster, change.Name, r.Inventory.Node(change.Name).Role, false)
		report(change)
	}
	return c.list(r).Machines, c.fails
}

func (c *cloud) add(cluster inventory.ClusterName, name string, role inventory.Role, adopted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.machines = append(c.machines, provider.Machine{
		Cluster: cluster, Name: name, Role: role, Address: fmt.Sprintf("10.77.0.%d", 11+len(c.machines)), SSHAddress: "127.0.0.1",
		HostKey: c.hostKey, Adopted: adopted,
	})
}

func (c *cloud) Retire(_ context.Context, _ provider.Request, machines []string, _ func(provider.Change)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retired = append(c.retired, machines...)
	return nil
}

func (c *cloud) PlanDestroy(_ context.Context, r provider.Request) ([]provider.Change, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := []provider.Change{}
	for _, m := range c.machines {
		if m.Cluster == r.Cluster && !m.Adopted {
			out = append(out, provider.Change{Verb: provider.Delete, Kind: "server", Name: m.Name, Reason: "it was made for this site"})
		}
	}
	return out, nil
}

func (c *cloud) Destroy(ctx context.Context, r provider.Request, report func(provider.Change)) error {
	changes, err := c.PlanDestroy(ctx, r)
	for _, change := range changes {
		c.mu.Lock()
		c.machines = slices.DeleteFunc(c.machines, func(m provider.Machine) bool { return m.Name == change.Name })
		c.mu.Unlock()
		report(change)
	}
	return err
}

func (c *cloud) Console(context.Context, provider.Request, string, int) (string, error) {
	return c.console, nil
}

func (c *cloud) names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, m := range c.machines {
		out = append(out, m.Name)
	}
	slices.Sort(out)
	return out
}

// cloudSite is a site of two clusters whose machines the stand-in makes, with a bundle that has everything.
func cloudSite(t *testing.T, c *cloud, sshd *sshdtest.Server) *Site {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "inventory.yaml")
	port, key := 22, filepath.Join(dir, "key")
	require.NoError(t, os.WriteFile(key, []byte("nobody signs in with it\n"), 0o600))
	if sshd != nil {
		port, key = sshd.Port, sshd.Client
	}
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `
apiVersion: catamaran/v1alpha1
kind: Inventory
metadata: {name: umea}
kubernetes: {version: 1.37.2}
vault: {identityFile: umea.agekey}
ssh: {user: plain, port: %d, keyFile: %s}
platform: {enabled: false}
clusters:
  service:
    network: {podCIDR: 10.100.0.0/16, serviceCIDR: 10.101.0.0/16}
    provider: {external: {command: [cloud]}}
    nodes: [{name: sc-1, role: control-plane}]
  workload:
    network: {podCIDR: 10.102.0.0/16, serviceCIDR: 10.103.0.0/16}
    provider: {external: {command: [cloud]}}
    nodes: [{name: wc-1, role: control-plane}]
    pools: [{name: wc-w, role: worker, count: 2}]
`, port, key), 0o600))
	s, err := Open(file, Options{Operator: "tester", Providers: provider.Registry{"external": c}})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	s.dial = dialling{bound: 2 * time.Second, pause: 20 * time.Millisecond, most: 100 * time.Millisecond}
	s.Bundle = fullBundle(t, s.wanted)
	return s
}

// fullBundle is a stand-in: the manifest of a bundle that has all that an inventory needs.
func fullBundle(t *testing.T, inv *inventory.Inventory) *bundle.Bundle {
	t.Helper()
	needs, err := plan.Needs(inv)
	require.NoError(t, err)
	m := bundle.Manifest{Arch: "amd64", Kubernetes: inv.Kubernetes.Version}
	for _, f := range needs.Files {
		m.Files = append(m.Files, bundle.File{Name: f, Version: inv.Kubernetes.Version, Digest: "sha256:" + f})
	}
	images := needs.Images
	for _, c := range inv.ClusterNames() {
		releases, err := embedded.Releases(t.Context(), Assumed(inv), c)
		require.NoError(t, err)
		for _, r := range releases {
			images = append(images, r.Images...)
		}
	}
	for _, ref := range images {
		m.Images = append(m.Images, bundle.Image{Ref: ref, Digest: "sha256:" + ref})
	}
	return &bundle.Bundle{Manifest: m}
}

var errNoFlavor = errors.New("there is no flavor named huge")
