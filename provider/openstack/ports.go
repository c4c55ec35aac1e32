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

// partVIP is the port that keeps the address of the API for the cluster; no server is at it.
const partVIP = "vip"

// vip is the address that kube-vip moves between the control planes, or empty.
func (j *job) vip() string {
	e := j.cluster.Endpoint
	if _, err := netip.ParseAddr(e.Address); err != nil || e.Mode != inventory.EndpointVIP {
		return ""
	}
	return e.Address
}

func (j *job) planPorts(nodes []*inventory.Node) ([]step, error) {
	var out []step
	vip := j.vip()
	if a, err := netip.ParseAddr(vip); err == nil && !j.cidr.Contains(a) {
		return nil, permanent("openstack: clusters.%s.endpoint.address: %s is not in the subnet %s, so that no control plane can answer on it", j.request.Cluster, vip, j.cidr)
	}
	if vip != "" && j.spec.Network.CIDR != "" {
		out = append(out, j.planVIP(vip)...)
	}
	for _, n := range nodes {
		extra, err := j.extraSecurity(n)
		if err != nil {
			return nil, err
		}
		name := j.names.node(n.Name)
		p := j.ports[name]
		if p == nil {
			if n.State != inventory.Absent {
				out = append(out, j.newPort(n, extra))
			}
			continue
		}
		j.keep(j.portOf, n.Name, p.ID)
		if n.Address != "" && !slices.ContainsFunc(p.FixedIPs, func(ip ports.IP) bool { return ip.IPAddress == n.Address }) {
			return nil, permanent("openstack: %s: its port has the address %s, and the inventory says %s; an address can not be changed: take the node out (state: absent), apply, and put it in again",
				n.Name, first1(p.FixedIPs), n.Address)
		}
		if why := j.portDiffers(n, p, extra); why != "" {
			out = append(out, step{at: stagePorts, node: n.Name, change: mend("port", name, "%s", why), do: func(ctx context.Context) error {
				all, pairs := j.portSecurity(n, extra), j.pairs(n)
				_, err := ports.Update(ctx, j.cloud.network, p.ID, ports.UpdateOpts{SecurityGroups: &all, AllowedAddressPairs: &pairs}).Extract()
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

// planVIP keeps the API's address in a managed subnet, so that no other port is given it.
func (j *job) planVIP(vip string) []step {
	name := j.names.part(partVIP)
	var out []step
	if p := j.ports[name]; p != nil {
		if first1(p.FixedIPs) == vip {
			return nil
		}
		out = append(out, step{at: stageClean, change: remove("port", name, "it keeps "+first1(p.FixedIPs)+", and the API is at "+vip), do: j.deletePort(p.ID)})
	}
	return append(out, step{at: stagePorts, change: add("port", name, "the address of the API must be nobody else's"), do: func(ctx context.Context) error {
		none := []string{}
		_, err := j.createPort(ctx, ports.CreateOpts{Name: name, FixedIPs: []ports.IP{{SubnetID: j.subnet, IPAddress: vip}}, SecurityGroups: &none})
		return err
	}})
}

func (j *job) newPort(n *inventory.Node, extra []string) step {
	name := j.names.node(n.Name)
	return step{at: stagePorts, node: n.Name, change: add("port", name, "the node has none"), do: func(ctx context.Context) error {
		all := j.portSecurity(n, extra)
		p, err := j.createPort(ctx, ports.CreateOpts{
			Name: name, FixedIPs: []ports.IP{{SubnetID: j.subnet, IPAddress: n.Address}}, SecurityGroups: &all, AllowedAddressPairs: j.pairs(n),
		})
		if err == nil {
			j.keep(j.portOf, n.Name, p.ID)
		}
		return err
	}}
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
	var why []string
	have := slices.Sorted(slices.Values(p.SecurityGroups))
	if !slices.Equal(have, j.portSecurity(n, extra)) {
		why = append(why, "it is not in the security groups that the inventory asks for")
	}
	want, is := j.pairs(n), p.AllowedAddressPairs
	if len(want) != len(is) || len(want) == 1 && strings.TrimSuffix(is[0].IPAddress, "/32") != want[0].IPAddress {
		why = append(why, "the addresses that it may send from are not those of the API")
	}
	return strings.Join(why, "; ")
}
