package openstack

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// partVIP is the port that keeps the address of the API for the cluster. No server is at it; the load balancer may be.
const partVIP = "vip"

// vip is the address that kube-vip moves between the control planes, or empty.
func (j *job) vip() string {
	e := j.cluster.Endpoint
	if _, err := netip.ParseAddr(e.Address); err != nil || e.Mode != inventory.EndpointVIP {
		return ""
	}
	return e.Address
}

// reserved is the address that the port of the API keeps, or empty where there is none such: in a managed subnet what kube-vip moves,
// and in each network of the project's own what the load balancer answers at. Octavia makes such a port by itself otherwise, and leaves
// it behind when it refuses the rest; OVN's kind insists on its own.
func (j *job) reserved() string {
	if j.spec.LoadBalancer == nil {
		if j.spec.Network.CIDR == "" {
			return ""
		}
		return j.vip()
	}
	if j.ovn() || j.owner != "" {
		return ""
	}
	if b := j.balancers[j.names.part(partAPI)]; b != nil && !b.leaving() {
		if p := j.ports[j.names.part(partVIP)]; p == nil || p.ID != b.VipPortID {
			return ""
		}
	}
	return j.cluster.Endpoint.Address
}

func (j *job) planPorts(nodes []*inventory.Node) ([]step, error) {
	var out []step
	vip := j.vip()
	if a, err := netip.ParseAddr(vip); err == nil && !j.cidr.Contains(a) {
		return nil, permanent("openstack: clusters.%s.endpoint.address: %s is not in the subnet %s, so that no control plane can answer on it", j.request.Cluster, vip, j.cidr)
	}
	if address := j.reserved(); address != "" {
		out = append(out, j.planVIP(address)...)
	}
	for _, n := range nodes {
		extra, err := j.extraSecurity(n)
		if err != nil {
			return nil, err
		}
		name := j.names.node(n.Name)
		p := j.ports[name]
		if p == nil {
			if n.State == inventory.Absent {
				continue
			}
			if err := j.mayMake(n); err != nil {
				return nil, err
			}
			out = append(out, j.newPort(n, extra))
			continue
		}
		j.keep(j.portOf, n.Name, p.ID)
		if n.Address != "" && !slices.ContainsFunc(p.FixedIPs, func(ip ports.IP) bool { return ip.IPAddress == n.Address }) {
			return nil, permanent("openstack: %s: its port has the address %s, and the inventory says %s; an address can not be changed: take the node out (state: absent), apply, and put it in again",
				n.Name, first1(p.FixedIPs), n.Address)
		}
		if why := j.portDiffers(n, p, extra); why != "" {
			if j.owner != "" && j.pairsDiffer(n, p) {
				return nil, j.noPairs(n)
			}
			out = append(out, step{at: stagePorts, node: n.Name, change: mend("port", name, "%s", why), do: func(ctx context.Context) error {
				all := j.portSecurity(n, extra)
				o := ports.UpdateOpts{SecurityGroups: &all}
				if j.pairsDiffer(n, p) {
					pairs := j.pairs(n)
					o.AllowedAddressPairs = &pairs
				}
				_, err := ports.Update(ctx, j.cloud.network, p.ID, o).Extract()
				return explain(ctx, "change the port "+name, err)
			}})
		}
	}
	return out, nil
}

func first1(ips []ports.IP) string {
	if len(ips) == 0 {
		return "none"
	}
	return ips[0].IPAddress
}

// mayMake refuses what a cloud lets only the owner of a network do in it, before anything is made.
func (j *job) mayMake(n *inventory.Node) error {
	switch {
	case j.owner == "":
		return nil
	case n.Address != "":
		return permanent("openstack: %s: %s, and only that project may choose addresses in it: leave the node's address out, or use a network of this project", n.Name, j.owner)
	case len(j.pairs(n)) > 0:
		return j.noPairs(n)
	}
	return nil
}

func (j *job) noPairs(n *inventory.Node) error {
	return permanent("openstack: %s: %s, and only that project may change on which other addresses a port answers, as the API's endpoint of mode vip needs it: use loadBalancer, or a network of this project", n.Name, j.owner)
}

// planVIP keeps the API's address, so that no other port is given it.
func (j *job) planVIP(vip string) []step {
	name := j.names.part(partVIP)
	var out []step
	if p := j.ports[name]; p != nil {
		if sameAddress(first1(p.FixedIPs), vip) {
			return nil
		}
		out = append(out, step{at: stageCleanParts, change: remove("port", name, "it keeps "+first1(p.FixedIPs)+", and the API is at "+vip), do: j.deletePort(p.ID)})
	}
	return append(out, step{at: stageFixedPorts, change: add("port", name, "the address of the API must be nobody else's"), do: func(ctx context.Context) error {
		o := ports.CreateOpts{Name: name, FixedIPs: []ports.IP{{SubnetID: j.subnet, IPAddress: vip}}}
		if j.unfiltered == "" {
			o.SecurityGroups = &[]string{}
		}
		_, err := j.createPort(ctx, o)
		return err
	}})
}

func (j *job) newPort(n *inventory.Node, extra []string) step {
	name, at := j.names.node(n.Name), stagePorts
	if n.Address != "" {
		at = stageFixedPorts
	}
	return step{at: at, node: n.Name, change: add("port", name, "the node has none"), do: func(ctx context.Context) error {
		p, err := j.createPort(ctx, j.portOpts(n, extra))
		if err == nil {
			j.keep(j.portOf, n.Name, p.ID)
		}
		return err
	}}
}

// portOpts have neither groups nor pairs on a network that filters nothing, where the cloud refuses both.
func (j *job) portOpts(n *inventory.Node, extra []string) ports.CreateOpts {
	o := ports.CreateOpts{Name: j.names.node(n.Name), FixedIPs: []ports.IP{{SubnetID: j.subnet, IPAddress: n.Address}}}
	if j.unfiltered == "" {
		all := j.portSecurity(n, extra)
		o.SecurityGroups, o.AllowedAddressPairs = &all, j.pairs(n)
	}
	return o
}

func (j *job) createPort(ctx context.Context, o ports.CreateOpts) (*ports.Port, error) {
	o.NetworkID, o.Description = j.network, j.names.mark()
	return create(ctx, "make the port "+o.Name, func(ctx context.Context) (*ports.Port, error) {
		return ports.Create(ctx, j.cloud.network, o).Extract()
	}, func(ctx context.Context) (*ports.Port, error) {
		l := ports.ListOpts{Name: o.Name, Description: o.Description, ProjectID: j.cloud.project}
		return first(ctx, "ports", ports.List(j.cloud.network, l), ports.ExtractPorts)
	})
}

// pairs are the addresses that a control plane may send from beside its own.
func (j *job) pairs(n *inventory.Node) []ports.AddressPair {
	if vip := j.vip(); vip != "" && n.Role == inventory.ControlPlane {
		return []ports.AddressPair{{IPAddress: vip}}
	}
	return []ports.AddressPair{}
}

// portSecurity are the IDs of the groups that a node's port is in, sorted.
func (j *job) portSecurity(n *inventory.Node, extra []string) []string {
	out := slices.Clone(extra)
	out = append(out, j.kept(j.securityBy, partNodes))
	if n.Role == inventory.ControlPlane {
		out = append(out, j.kept(j.securityBy, partPlanes))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// extraSecurity are the IDs of the groups that the inventory names beside ours.
func (j *job) extraSecurity(n *inventory.Node) ([]string, error) {
	var out []string
	if len(j.machine(n).SecurityGroups) > 0 && j.unfiltered != "" {
		return nil, permanent("openstack: %s: the ports of the network %s are not filtered (its port security is off), so that its securityGroups have no effect; take them out, or use another network", n.Name, j.unfiltered)
	}
	for _, want := range j.machine(n).SecurityGroups {
		var found []*groups.SecGroup
		var all []string
		for i := range j.world.security {
			g := &j.world.security[i]
			if g.ID == want || g.Name == want {
				found = append(found, g)
			}
			all = append(all, g.Name)
		}
		switch len(found) {
		case 0:
			return nil, permanent("openstack: %s: there is no security group %s; %s", n.Name, want, nearest(want, all))
		case 1:
			out = append(out, found[0].ID)
		default:
			return nil, permanent("openstack: %s: there are %d security groups called %s; name the ID (%s or %s)", n.Name, len(found), want, found[0].ID, found[1].ID)
		}
	}
	return out, nil
}

func (j *job) portDiffers(n *inventory.Node, p *ports.Port, extra []string) string {
	if j.unfiltered != "" {
		return ""
	}
	var why []string
	have := slices.Sorted(slices.Values(p.SecurityGroups))
	if !slices.Equal(have, j.portSecurity(n, extra)) {
		why = append(why, "it is not in the security groups that the inventory asks for")
	}
	if j.pairsDiffer(n, p) {
		why = append(why, "the addresses that it may send from are not those of the API")
	}
	return strings.Join(why, "; ")
}

func (j *job) pairsDiffer(n *inventory.Node, p *ports.Port) bool {
	want, is := j.pairs(n), p.AllowedAddressPairs
	return len(want) != len(is) || len(want) == 1 && strings.TrimSuffix(is[0].IPAddress, "/32") != want[0].IPAddress
}
