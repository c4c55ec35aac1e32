package main

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/catamaran-k8s/catamaran/bootstrap/host"
	"github.com/catamaran-k8s/catamaran/bootstrap/kubeadm"
	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/embedded"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// converge returns what would be seen on the machines after an apply: it begins with bare machines, has the product plan, writes down what each step says it would do as if it had been done, and goes on until nothing is
// planned any more. What a finished machine looks like is thus the product's own word.
func converge(in plan.Input, secrets map[inventory.ClusterName]pki.ClusterSecrets) (map[string]*host.Facts, error) {
	in.Facts = map[string]*host.Facts{}
	c := converger{in: in, secrets: secrets, queries: map[string]host.Query{}, clusters: map[inventory.ClusterName]*host.ClusterFacts{}}
	for _, name := range in.Inventory.ClusterNames() {
		c.clusters[name] = &host.ClusterFacts{}
		for i := range in.Inventory.Cluster(name).Nodes {
			n := &in.Inventory.Cluster(name).Nodes[i]
			q, err := plan.Query(in.Inventory, name, n, in.AuditPolicies[name])
			if err != nil {
				return nil, err
			}
			c.queries[n.Name] = q
			in.Facts[n.Name] = bare(n, q)
		}
	}
	const most = 5 // founding takes one plan, and what follows from it another
	for range most {
		p, err := plan.Make(c.in)
		if err != nil {
			return nil, err
		}
		if len(p.Steps) == 0 {
			return in.Facts, nil
		}
		for _, s := range p.Steps {
			if err := c.done(s.Task); err != nil {
				return nil, fmt.Errorf("step %s: %w", s.ID, err)
			}
		}
	}
	p, err := plan.Make(c.in)
	var left []string
	for _, s := range p.Steps {
		left = append(left, s.ID+": "+s.Reason)
	}
	return nil, errors.Join(err, fmt.Errorf("the plan does not become empty; it still has %s", strings.Join(left, "; ")))
}

type converger struct {
	in       plan.Input
	secrets  map[inventory.ClusterName]pki.ClusterSecrets
	queries  map[string]host.Query
	clusters map[inventory.ClusterName]*host.ClusterFacts
}

// bare is a machine as a distribution leaves it.
func bare(n *inventory.Node, q host.Query) *host.Facts {
	id := host.SHA256(n.Name)
	f := &host.Facts{
		Hostname: n.Name, MachineID: id[:32], BootID: id[32:40] + "-0000-4000-8000-" + id[40:52],
		OSID: "debian", OSVersion: "12", OSName: "Debian GNU/Linux 12 (bookworm)",
		Kernel: "6.1.0-40-amd64", Arch: "x86_64", CPUs: 8, MemoryMiB: 32768, DiskGiB: 200, DiskFree: 150,
		Init: "systemd", CgroupV2: true,
		Interfaces: []host.Interface{
			{Name: "lo", MTU: 65536, Addresses: []string{"127.0.0.1/8", "::1/128"}},
			{Name: "eth0", MTU: 1500, Addresses: []string{n.Address + "/16"}},
		},
		Sysctls: map[string]string{}, Modules: map[string]string{}, Units: map[string]host.Unit{},
		Features: []string{"/proc/sys/net/bridge", "/proc/sys/net/netfilter"}, Listening: []host.Listener{{Port: 22}},
		Files: map[string]host.File{}, Peers: map[string]string{}, Versions: map[string]string{},
		Images: map[string]string{}, Certificates: map[string]string{},
	}
	for _, s := range q.Sysctls {
		f.Sysctls[s] = "0"
	}
	for _, m := range q.Modules {
		f.Modules[m] = "available"
	}
	for _, u := range q.Units {
		f.Units[u] = host.Unit{Active: "inactive"}
	}
	for _, p := range q.Peers {
		f.Peers[p] = "open"
	}
	return f
}

// done writes down what a task would have changed.
func (c *converger) done(task plan.Task) error {
	switch t := task.(type) {
	case plan.InstallPrograms:
		f := c.in.Facts[t.Node]
		for _, p := range t.Programs {
			f.Files[p.Path] = host.File{Mode: "0755", Owner: "root", SHA256: strings.TrimPrefix(p.Digest, "sha256:")}
			f.Versions[p.Name] = p.Version
		}
	case plan.PrepareHost:
		c.prepared(c.in.Facts[t.Node], t.Changes)
	case plan.ImportImages:
		f := c.in.Facts[t.Node]
		for _, img := range t.Images {
			f.Images[img.Ref] = img.Digest
			f.Content = append(f.Content, img.Blobs...)
		}
		slices.Sort(f.Content)
		f.Content = slices.Compact(f.Content)
	case plan.MakeMember:
		return c.joined(t)
	case plan.LabelNode:
		for i, n := range c.clusters[t.Cluster].Nodes {
			if n.Name == t.Node {
				for k, v := range t.Labels {
					c.clusters[t.Cluster].Nodes[i].Labels[k] = v
				}
			}
		}
	case plan.InstallRelease:
		f := c.clusters[t.Release.Cluster]
		f.Releases = append(f.Releases, host.ReleaseFacts{
			Name: t.Release.Name, Namespace: t.Release.Namespace, Revision: 1, Status: "deployed",
			Version: t.Release.Version, Digest: embedded.LabelDigest(t.Release.Digest),
		})
	case plan.AwaitReady:
	default:
		return fmt.Errorf("a site of the benchmark was not expected to need %T", task)
	}
	return nil
}

func (c *converger) prepared(f *host.Facts, ch host.Changes) {
	for _, w := range ch.Files {
		c.write(f, w.Path, fmt.Sprintf("%#o", w.Mode), w.Content)
	}
	if ch.Firewall != "" {
		f.Firewall = ch.Firewall
	}
	for k, v := range ch.Sysctls {
		f.Sysctls[k] = v
	}
	for _, m := range ch.Modules {
		f.Modules[m] = "loaded"
	}
	for _, u := range ch.Enable {
		f.Units[u] = host.Unit{Active: f.Units[u].Active, Enabled: "enabled"}
	}
	for _, u := range ch.Start {
		f.Units[u] = host.Unit{Active: "active", Enabled: f.Units[u].Enabled}
	}
}

// write puts a file where the query asks for it; content shows only where the query asks for that.
func (c *converger) write(f *host.Facts, p, mode, content string) {
	q := c.queries[f.Hostname]
	file := host.File{Mode: mode, Owner: "root", Size: int64(len(content)), SHA256: host.SHA256(content)}
	switch {
	case slices.Contains(q.Content, p):
		file.Content = content
	case !slices.Contains(q.Files, p):
		return
	}
	f.Files[p] = file
}

// joined is what kubeadm leaves on a member, as far as a look at the machine tells.
func (c *converger) joined(t plan.MakeMember) error {
	f, sec := c.in.Facts[t.Node], c.secrets[t.Cluster]
	kept := map[string]string{"member.json": t.Member, "kubeadm.yaml": t.Config}
	if t.VIP != nil {
		kept["kube-vip.yaml"] = t.VIP.Manifest
	}
	for _, p := range c.queries[t.Node].Content {
		if content, ok := kept[path.Base(p)]; ok {
			c.write(f, p, "0600", content)
		}
	}
	for p, content := range plan.SecretFiles(sec) {
		if t.Role == inventory.ControlPlane || strings.HasSuffix(p, "/pki/ca.crt") {
			c.write(f, p, "0600", content)
		}
	}
	serving, err := pki.KubeletServing(sec.CA, t.Node, t.Address, c.in.Now, 365*24*time.Hour)
	if err != nil {
		return err
	}
	f.Units["kubelet.service"] = host.Unit{Active: "active", Enabled: "enabled"}
	f.Certificates[kubeadm.ServingCert] = strings.TrimSpace(serving.Cert)
	f.Listening = append(f.Listening, host.Listener{Port: 10250}, host.Listener{Port: 10256})
	certificates := []string{"/etc/kubernetes/pki/ca.crt", "/etc/kubernetes/kubelet.conf", "/var/lib/kubelet/pki/kubelet-client-current.pem"}
	members := c.clusters[t.Cluster]
	if t.Role == inventory.ControlPlane {
		certificates = append(certificates, controlPlaneCertificates...)
		f.Listening = append(f.Listening, host.Listener{Port: 2379}, host.Listener{Port: 2380}, host.Listener{Port: 6443}, host.Listener{Port: 10257}, host.Listener{Port: 10259})
		f.Leftovers = []string{"/etc/kubernetes/manifests/etcd.yaml", "/etc/kubernetes/manifests/kube-apiserver.yaml",
			"/etc/kubernetes/manifests/kube-controller-manager.yaml", "/etc/kubernetes/manifests/kube-scheduler.yaml"}
		f.Cluster = members // one for all control planes: they show the same API
		members.Etcd = append(members.Etcd, host.EtcdMember{
			Name: t.Node, ID: strings.TrimLeft(f.MachineID[:16], "0"), Healthy: true, URL: "https://" + t.Address + ":2379",
		})
	}
	slices.SortFunc(f.Listening, func(a, b host.Listener) int { return a.Port - b.Port })
	f.Leftovers = append(f.Leftovers, "/etc/kubernetes/kubelet.conf")
	for _, p := range certificates {
		f.Certificates[p] = strings.TrimSpace(serving.Cert) // nobody reads whose it is
	}
	node := host.NodeFacts{Name: t.Node, Ready: true, Version: kubernetes, Address: t.Address, Labels: map[string]string{
		"kubernetes.io/hostname": t.Node, "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux",
	}}
	if t.Role == inventory.ControlPlane {
		node.ControlPlane = true
		node.Labels["node-role.kubernetes.io/control-plane"] = ""
		node.Taints = []string{"node-role.kubernetes.io/control-plane=:NoSchedule"}
	}
	members.Nodes = append(members.Nodes, node)
	return nil
}
