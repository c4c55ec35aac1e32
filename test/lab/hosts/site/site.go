// Package site writes the lab's inventory, in the product's format.
package site

import (
	"bytes"
	_ "embed"
	"fmt"
	"strings"
	"text/template"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts/machine"
)

// Node is one host in the inventory.
type Node struct {
	Name    string
	Role    inventory.Role
	Address string
	HostKey string // SHA256:...
}

// Cluster is one cluster of the inventory.
type Cluster struct {
	Name        inventory.ClusterName
	VIP         string
	PodCIDR     string
	ServiceCIDR string
	Nodes       []Node
}

// Workers says whether the cluster has any; else its control planes must take the pods.
func (c Cluster) Workers() bool {
	for _, n := range c.Nodes {
		if n.Role == inventory.Worker {
			return true
		}
	}
	return false
}

// Site is what the inventory is made from.
type Site struct {
	Name       string
	Kubernetes string
	Bundle     string // empty: none
	User       string
	KeyFile    string
	Clusters   []Cluster
	Spares     []Node
	// PlatformSize is the compliance platform's; PlatformOff leaves it out.
	PlatformOff  bool
	PlatformSize string
	Machine      machine.Features
	// DiskFreeGiB is free where the hosts' disks lie.
	DiskFreeGiB int
}

// Defaults of inventory.Minimum; a lower value is written only where the machine has less.
const (
	controlPlaneCPUs      = 2
	controlPlaneMemoryMiB = 1700
	diskGiB               = 10
)

// Minimum lists what preflight must be told to ask less of.
func (s Site) Minimum() []string {
	var out []string
	for _, m := range []struct {
		key        string
		want, have int
	}{
		{"controlPlaneCPUs", controlPlaneCPUs, s.Machine.CPUs},
		{"controlPlaneMemoryMiB", controlPlaneMemoryMiB, s.Machine.MemoryMiB},
		{"diskGiB", diskGiB, s.DiskFreeGiB},
	} {
		if m.have < m.want {
			out = append(out, fmt.Sprintf("%s: %d", m.key, max(1, m.have)))
		}
	}
	return out
}

//go:embed inventory.yaml.tmpl
var text string

// Render returns the inventory file.
func (s Site) Render() ([]byte, error) {
	t, err := template.New("inventory.yaml").Funcs(template.FuncMap{
		"join": strings.Join,
		"node": func(n Node, taint bool) string {
			line := fmt.Sprintf("{name: %s, role: %s, address: %s, hostKey: %q", n.Name, n.Role, n.Address, n.HostKey)
			if taint {
				line += ", taints: []"
			}
			return line + "}"
		},
	}).Parse(text)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, s); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
