package bootstrap

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"sort"
	"time"

	"github.com/catamaran-k8s/catamaran/bootstrap/host"
	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/embedded"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// Status is what is true of a site now.
type Status struct {
	Site     string          `json:"site"`
	Time     time.Time       `json:"time"`
	Clusters []ClusterStatus `json:"clusters"`
}

// ClusterStatus is one cluster.
type ClusterStatus struct {
	Name     inventory.ClusterName `json:"name"`
	Endpoint string                `json:"endpoint"`
	// API is "ok", or why nothing could be asked.
	API          string              `json:"api"`
	Nodes        []NodeStatus        `json:"nodes"`
	Etcd         []host.EtcdMember   `json:"etcd"`
	Releases     []ReleaseStatus     `json:"releases"`
	Certificates []CertificateStatus `json:"certificates"`
}

// NodeStatus is one machine of the inventory.
type NodeStatus struct {
	Name    string         `json:"name"`
	Role    inventory.Role `json:"role"`
	Address string         `json:"address"`
	// State is ready, not ready, not joined, absent or unreachable.
	State   string `json:"state"`
	Version string `json:"version,omitempty"` // kubelet's
	OS      string `json:"os,omitempty"`
	Kernel  string `json:"kernel,omitempty"`
	Error   string `json:"error,omitempty"`
}

// ReleaseStatus is one release that is installed or wanted.
type ReleaseStatus struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	Version   string `json:"version"`
	// State is Helm's (deployed, failed ...), or missing; Current says that chart and values are those of the inventory.
	State   string `json:"state"`
	Current bool   `json:"current"`
}

// CertificateStatus is one certificate on a node.
type CertificateStatus struct {
	Node     string    `json:"node"`
	Path     string    `json:"path"`
	NotAfter time.Time `json:"notAfter"`
}

// Healthy says that every node is ready, every etcd member healthy and every release deployed as wanted.
func (s Status) Healthy() bool {
	for _, c := range s.Clusters {
		if c.API != "ok" {
			return false
		}
		for _, n := range c.Nodes {
			if n.State != "ready" && n.State != "absent" {
				return false
			}
		}
		for _, e := range c.Etcd {
			if !e.Healthy {
				return false
			}
		}
		for _, r := range c.Releases {
			if r.State != "deployed" || !r.Current {
				return false
			}
		}
	}
	return true
}

// Status observes all machines and tells how both clusters are.
func (s *Site) Status(ctx context.Context) (Status, error) {
	if err := s.FindMachines(ctx); err != nil {
		return Status{}, err
	}
	o, err := s.Observe(ctx)
	if err != nil {
		return Status{}, err
	}
	out := Status{Site: s.Inventory.Metadata.Name, Time: time.Now()}
	for _, c := range s.Inventory.ClusterNames() {
		wanted, err := s.releases(ctx, c)
		if err != nil {
			return Status{}, err
		}
		out.Clusters = append(out.Clusters, clusterStatus(c, s.Inventory.Cluster(c), o, wanted))
	}
	return out, nil
}

func clusterStatus(name inventory.ClusterName, spec *inventory.Cluster, o Observation, wanted []embedded.Release) ClusterStatus {
	out := ClusterStatus{Name: name, Endpoint: plan.Server(spec), API: "no control plane could be asked"}
	nodes := map[string]host.NodeFacts{}
	releases := map[string]host.ReleaseFacts{}
	for _, n := range spec.ControlPlanes() {
		f := o.Facts[n.Name]
		if f == nil {
			continue
		}
		if f.Cluster == nil {
			if f.ClusterError != "" {
				out.API = n.Name + ": " + f.ClusterError
			}
			continue
		}
		out.API, out.Etcd = "ok", f.Cluster.Etcd
		for _, k := range f.Cluster.Nodes {
			nodes[k.Name] = k
		}
		for _, r := range f.Cluster.Releases {
			releases[r.Namespace+"/"+r.Name] = r
		}
		break
	}
	for _, n := range spec.Nodes {
		out.Nodes = append(out.Nodes, nodeStatus(n, nodes, o))
		if f := o.Facts[n.Name]; f != nil {
			out.Certificates = append(out.Certificates, certificates(n.Name, f)...)
		}
	}
	sort.SliceStable(out.Certificates, func(i, j int) bool { return out.Certificates[i].NotAfter.Before(out.Certificates[j].NotAfter) })
	out.Releases = releaseStatus(releases, wanted)
	return out
}

func nodeStatus(n inventory.Node, nodes map[string]host.NodeFacts, o Observation) NodeStatus {
	s := NodeStatus{Name: n.Name, Role: n.Role, Address: n.Address, State: "not joined"}
	if f := o.Facts[n.Name]; f != nil {
		s.OS, s.Kernel, s.Version = f.OSName, f.Kernel, f.Versions["kubelet"]
	}
	if k, ok := nodes[n.Name]; ok {
		s.Version, s.State = k.Version, "not ready"
		if k.Ready {
			s.State = "ready"
		}
	}
	if n.State == inventory.Absent && s.State == "not joined" {
		s.State = "absent"
	}
	if err := o.Unreachable[n.Name]; err != nil && n.State != inventory.Absent {
		s.State, s.Error = "unreachable", err.Error()
	}
	return s
}

func certificates(node string, f *host.Facts) []CertificateStatus {
	var out []CertificateStatus
	for path, text := range f.Certificates {
		block, _ := pem.Decode([]byte(text))
		if block == nil {
			continue
		}
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			out = append(out, CertificateStatus{Node: node, Path: path, NotAfter: cert.NotAfter})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Path < out[j].Path })
	return out
}

func releaseStatus(have map[string]host.ReleaseFacts, wanted []embedded.Release) []ReleaseStatus {
	var out []ReleaseStatus
	for _, w := range wanted {
		r := ReleaseStatus{Name: w.Name, Namespace: w.Namespace, Version: w.Version, State: "missing"}
		if h, ok := have[w.Namespace+"/"+w.Name]; ok {
			r.Version, r.State, r.Current = h.Version, h.Status, h.Digest == embedded.LabelDigest(w.Digest)
		}
		out = append(out, r)
	}
	return out
}
