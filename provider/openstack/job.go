package openstack

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servergroups"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/routers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

// job is one call of the provider: what was asked, what is there, and the IDs of what is made on the way.
type job struct {
	p       *Provider
	cloud   *cloud
	request provider.Request
	cluster *inventory.Cluster
	spec    *inventory.OpenStack
	names   names

	// what is there, and of it what is the cluster's, by name (servers and floating IPs by node)
	world        *world
	servers      map[string]*servers.Server
	ports        map[string]*ports.Port
	volumes      map[string]*volumes.Volume
	security     map[string]*groups.SecGroup
	serverGroups map[string]*servergroups.ServerGroup
	floating     map[string]*floatingips.FloatingIP
	balancers    map[string]*balancer
	networks     map[string]*network
	subnets      map[string]*subnets.Subnet
	routers      map[string]*routers.Router
	duplicates   duplicates

	// IDs, of what was there and of what is made
	mu         sync.Mutex
	network    string
	subnet     string
	cidr       netip.Prefix
	router     string
	external   string
	owner      string            // what is said of the existing network, where it is another project's
	unfiltered string            // the network's name, where its ports are not filtered
	portOf     map[string]string // by node
	volumeOf   map[string]string // by node
	poolGroup  map[string]string // server group by pool
	securityBy map[string]string // security group by part
}

// keep remembers an ID.
func (j *job) keep(in map[string]string, key, id string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	in[key] = id
}

func (j *job) kept(in map[string]string, key string) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return in[key]
}

// machine is what the inventory says of a node.
func (j *job) machine(n *inventory.Node) inventory.OpenStackMachine {
	return j.request.Inventory.OpenStackFor(j.request.Cluster, n)
}

// made are the nodes whose machines are made here and not adopted: the present ones, and the absent ones that have a server.
func (j *job) made() []*inventory.Node {
	var out []*inventory.Node
	for i := range j.cluster.Nodes {
		n := &j.cluster.Nodes[i]
		if j.machine(n).Server == "" && (n.State != inventory.Absent || j.servers[n.Name] != nil) {
			out = append(out, n)
		}
	}
	return out
}

// adopted are the nodes on servers that somebody else made.
func (j *job) adopted() []*inventory.Node {
	var out []*inventory.Node
	for i := range j.cluster.Nodes {
		if n := &j.cluster.Nodes[i]; j.machine(n).Server != "" {
			out = append(out, n)
		}
	}
	return out
}

// machines are those that exist and have an address, in inventory order.
func (j *job) machines() []provider.Machine {
	out := []provider.Machine{}
	for i := range j.cluster.Nodes {
		n := &j.cluster.Nodes[i]
		m := provider.Machine{Cluster: j.request.Cluster, Name: n.Name, Role: n.Role, HostKey: n.HostKey}
		spec := j.machine(n)
		if spec.Server != "" {
			server, err := j.foreign(n, spec.Server)
			if err != nil {
				continue
			}
			m.Address, m.SSHAddress = j.addresses(n, server)
			m.Adopted = true
		} else {
			server := j.servers[n.Name]
			if server == nil {
				continue
			}
			m.Address, m.SSHAddress = j.made1(n.Name)
			m.HostKey = cmp.Or(m.HostKey, server.Metadata[markHostKey])
		}
		if m.Address != "" {
			out = append(out, m)
		}
	}
	return out
}

// made1 are the addresses of a machine that was made here.
func (j *job) made1(node string) (address, ssh string) {
	if p := j.ports[j.names.node(node)]; p != nil && len(p.FixedIPs) > 0 {
		address = p.FixedIPs[0].IPAddress
	}
	if f := j.floating[node]; f != nil && f.PortID != "" {
		ssh = f.FloatingIP
	}
	return address, ssh
}

// surplus are the servers of ours that no node stands for, by name.
func (j *job) surplus() []provider.Machine {
	var out []provider.Machine
	for name, s := range j.servers {
		if n := j.node(name); n != nil && j.machine(n).Server == "" {
			continue
		}
		m := provider.Machine{Cluster: j.request.Cluster, Name: name, Role: inventory.Role(s.Metadata[markRole]), HostKey: s.Metadata[markHostKey]}
		m.Address, m.SSHAddress = j.made1(name)
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b provider.Machine) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (j *job) node(name string) *inventory.Node {
	for i := range j.cluster.Nodes {
		if j.cluster.Nodes[i].Name == name {
			return &j.cluster.Nodes[i]
		}
	}
	return nil
}

// Console returns the end of a machine's console.
func (p *Provider) Console(ctx context.Context, r provider.Request, machine string, lines int) (string, error) {
	j, err := p.begin(ctx, r)
	if err != nil {
		return "", err
	}
	if err := j.observe(ctx, false); err != nil {
		return "", err
	}
	server := j.servers[machine]
	if n := j.node(machine); n != nil && j.machine(n).Server != "" {
		if server, err = j.foreign(n, j.machine(n).Server); err != nil {
			return "", err
		}
	}
	if server == nil {
		return "", permanent("openstack: there is no server of %s", machine)
	}
	text, err := j.console(ctx, server.ID, lines)
	return text, explain(ctx, "read the console of "+machine, err)
}

func (j *job) console(ctx context.Context, id string, lines int) (string, error) {
	text, err := servers.ShowConsoleOutput(ctx, j.cloud.compute, id, servers.ShowConsoleOutputOpts{Length: lines}).Extract()
	if err != nil {
		return "", err
	}
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n"), nil
}
