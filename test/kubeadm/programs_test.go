// Package kubeadm has the real programs of Kubernetes read what bootstrap/kubeadm renders: kubeadm, kubelet, kube-proxy and
// an API server with its etcd. They come from test/lab/build, which builds them from pinned modules on the first call.
package kubeadm

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/bootstrap/kubeadm"
	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/test/lab/build"
)

// version is the one that the lab builds first.
func version() string { return build.Versions()[0] }

// program builds a program, or finds it in the lab's cache.
func program(t *testing.T, name string) string {
	t.Helper()
	p, err := build.One(t.Context(), build.Options{Log: func(l string) { t.Log(l) }}, name)
	require.NoError(t, err)
	return p.Path
}

// site is one cluster's input and secrets.
type site struct {
	secrets pki.ClusterSecrets
	// guardOf is whose platform the API server's rules from files guard; nil: there are none.
	guardOf *inventory.Inventory
}

func newSite(t *testing.T) site {
	t.Helper()
	s, err := pki.NewClusterSecrets()
	require.NoError(t, err)
	return site{secrets: s}
}

// input is a node of a cluster that uses everything the inventory can say.
func (s site) input(mode inventory.EndpointMode, role inventory.Role) kubeadm.Input {
	address := "10.77.0.10"
	if mode == inventory.EndpointNode {
		address = "10.77.0.11"
	}
	return kubeadm.Input{
		Site: "umea", Cluster: inventory.Service, Version: version(), Address: "10.77.0.11",
		Spec: &inventory.Cluster{
			Endpoint:  inventory.Endpoint{Address: address, Port: 6443, Mode: mode},
			Network:   inventory.Network{PodCIDR: "10.100.0.0/16", ServiceCIDR: "10.101.0.0/16", DNSDomain: "cluster.local", ProxyMode: "nftables"},
			APIServer: inventory.APIServer{AuditMaxAgeDays: 30, AuditMaxBackups: 10, AuditMaxSizeMiB: 100, CertSANs: []string{"api.example.org", "192.0.2.1"}, ExtraArgs: map[string]string{"v": "1"}},
			Kubelet: inventory.Kubelet{
				MaxPods: 60, EvictionHard: map[string]string{"memory.available": "200Mi", "nodefs.available": "10%"},
				SystemReserved: map[string]string{"memory": "256Mi"}, KubeReserved: map[string]string{"cpu": "100m"},
			},
		},
		Node:         &inventory.Node{Name: "sc-1", Role: role, Address: "10.77.0.11", Taints: &[]inventory.Taint{{Key: "dedicated", Value: "db", Effect: "NoSchedule"}}},
		FailCgroupV1: true, AuditPolicy: kubeadm.AuditPolicy(), Guarded: s.guardOf != nil, IgnorePreflightErrors: []string{"SystemVerification"},
	}
}

// documents are all that is rendered, by name.
func (s site) documents(t *testing.T) map[string]string {
	t.Helper()
	const token = "abcdef.0123456789abcdef"
	out := map[string]string{}
	for _, mode := range []inventory.EndpointMode{inventory.EndpointVIP, inventory.EndpointNode, inventory.EndpointExternal} {
		plane, worker := s.input(mode, inventory.ControlPlane), s.input(mode, inventory.Worker)
		for name, render := range map[string]func() ([]byte, error){
			"init":               func() ([]byte, error) { return kubeadm.Init(plane, token, time.Hour) },
			"join control plane": func() ([]byte, error) { return kubeadm.Join(plane, token, s.secrets.CA.Cert) },
			"join worker":        func() ([]byte, error) { return kubeadm.Join(worker, token, s.secrets.CA.Cert) },
			"shared":             func() ([]byte, error) { return kubeadm.Shared(plane) },
		} {
			data, err := render()
			require.NoError(t, err)
			out[name+", "+string(mode)] = string(data)
		}
	}
	return out
}

func write(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// document picks one document of a file by its kind.
func document(t *testing.T, file, kind string) string {
	t.Helper()
	for _, d := range strings.Split(file, "---\n") {
		if strings.Contains(d, "kind: "+kind+"\n") {
			return d
		}
	}
	require.Fail(t, "no such document", "%s in:\n%s", kind, file)
	return ""
}

// process is a running program; its output ends the waiting for a word in it.
type process struct {
	name string
	mu   sync.Mutex
	more *sync.Cond
	out  strings.Builder
	done bool
}

// run starts a program and ends it with the test.
func run(t *testing.T, path string, args ...string) *process {
	t.Helper()
	p := &process{name: filepath.Base(path)}
	p.more = sync.NewCond(&p.mu)
	ctx, cancel := context.WithCancel(context.Background())
	c := exec.CommandContext(ctx, path, args...)
	r, w := io.Pipe()
	c.Stdout, c.Stderr = w, w
	require.NoError(t, c.Start())
	ended := make(chan struct{})
	go func() {
		sc := bufio.NewScanner(r)
		sc.Buffer(nil, 1<<20)
		for sc.Scan() {
			p.mu.Lock()
			p.out.WriteString(sc.Text() + "\n")
			p.more.Broadcast()
			p.mu.Unlock()
		}
		_, _ = io.Copy(io.Discard, r) // lines too long for the scanner
		p.mu.Lock()
		p.done = true
		p.more.Broadcast()
		p.mu.Unlock()
		close(ended)
	}()
	go func() {
		_ = c.Wait() // it is killed, or its output says why it ended
		_ = w.Close()
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return p
}

// says waits until one of the words is in the output or the program ends, and returns the output.
func (p *process) says(t *testing.T, words ...string) string {
	t.Helper()
	limit := time.AfterFunc(2*time.Minute, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.done = true
		p.more.Broadcast()
	})
	defer limit.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		out := p.out.String()
		for _, w := range words {
			if strings.Contains(out, w) {
				return out
			}
		}
		if p.done {
			return out
		}
		p.more.Wait()
	}
}
