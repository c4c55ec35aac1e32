package openstack

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servergroups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/routers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
)

// planRetire deletes the named machines that were made here, and the server group of a pool that nobody is left in.
func (j *job) planRetire(machines []string) []step {
	const reason = "it was taken out of its cluster"
	var out []step
	leaving := map[string]bool{}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(machines))) {
		leaving[name] = true
		if s := j.servers[name]; s != nil {
			out = append(out, step{at: stageDropServers, node: name, change: remove("server", name, reason), do: j.deleteServer(s.ID), ready: serverGone(s.ID)})
		}
		out = append(out, j.dropParts(name, stageDropServers, reason)...)
	}
	return append(out, j.idleGroups(leaving, stageDropServerGroups)...)
}

// planDestroy deletes all that was made for the cluster, and what the site's other cluster does not use.
func (j *job) planDestroy() []step {
	const reason = "it was made for the cluster"
	out := slices.Clone(j.duplicates.steps)
	if err := j.unseen(); err != nil {
		out = append(out, step{at: stageDropBalancer, do: func(context.Context) error { return err }})
	}
	out = append(out, j.dropBalancer(reason, stageDropBalancer, stageDropFloating)...)
	for name, s := range j.servers {
		out = append(out, step{at: stageDropServers, node: name, change: remove("server", name, reason), do: j.deleteServer(s.ID), ready: serverGone(s.ID)})
	}
	for _, name := range j.parts() {
		out = append(out, j.dropParts(name, stageDropServers, reason)...)
	}
	if p := j.ports[j.names.part(partVIP)]; p != nil {
		out = append(out, step{at: stageDropPorts, change: remove("port", p.Name, reason), do: j.deletePort(p.ID)})
	}
	for name, g := range j.serverGroups {
		out = append(out, step{at: stageDropServerGroups, change: remove("server-group", name, reason), do: j.deleteServerGroup(g.ID)})
	}
	for name, g := range j.security {
		out = append(out, step{at: stageDropSecurity, change: remove("security-group", name, reason), do: j.deleteSecurity(g.ID)})
	}
	out = append(out, j.planDestroyShared()...)
	slices.SortStableFunc(out, byName)
	return out
}

// byName is the order of a plan: as the steps are done, then by name.
func byName(a, b step) int {
	if a.at != b.at {
		return int(a.at) - int(b.at)
	}
	return strings.Compare(a.change.Kind+" "+a.change.Name, b.change.Kind+" "+b.change.Name)
}

// planDestroyShared deletes the site's networks that nobody else is on, and its router when it is joined to no other.
func (j *job) planDestroyShared() []step {
	const reason = "nobody else of the site uses it"
	var out []step
	going := map[string]bool{} // subnets
	for name, n := range j.networks {
		if j.othersNetwork(name) || len(j.strangers(n.ID)) > 0 {
			continue
		}
		out = append(out, step{at: stageDropNetwork, change: remove("network", name, reason), do: j.deleteNetwork(n.ID)})
	}
	for name, s := range j.subnets {
		if j.othersNetwork(name) || len(j.strangers(s.NetworkID)) > 0 {
			continue
		}
		going[s.ID] = true
		out = append(out, step{at: stageDropSubnet, change: remove("subnet", name, reason), do: j.deleteSubnet(s.ID)})
	}
	left := map[string]bool{} // routers that stay joined
	for _, p := range j.world.interfaces {
		for _, ip := range p.FixedIPs {
			if !going[ip.SubnetID] {
				left[p.DeviceID] = true
				continue
			}
			out = append(out, step{at: stageDropInterface, change: remove("router-interface", j.interfaceName(p.DeviceID, ip.SubnetID), reason), do: j.deleteInterface(p.DeviceID, ip.SubnetID)})
		}
	}
	for name, r := range j.routers {
		if !left[r.ID] && !j.othersRouter() {
			out = append(out, step{at: stageDropRouter, change: remove("router", name, reason), do: j.deleteRouter(r.ID)})
		}
	}
	return out
}

func (j *job) interfaceName(router, subnet string) string {
	name := router
	for i := range j.world.routers {
		if j.world.routers[i].ID == router {
			name = j.world.routers[i].Name
		}
	}
	for i := range j.world.subnets {
		if j.world.subnets[i].ID == subnet {
			return name + " " + j.world.subnets[i].CIDR
		}
	}
	return name
}

// othersNetwork is one that only the other cluster asks for.
func (j *job) othersNetwork(name string) bool {
	c := j.request.Inventory.Cluster(j.otherCluster().cluster)
	if c == nil || c.Provider.OpenStack == nil || c.Provider.OpenStack.Network.CIDR == "" {
		return false
	}
	other := c.Provider.OpenStack.Network.CIDR
	return other != j.spec.Network.CIDR && name == j.names.network(other)
}

// othersRouter tells whether a network of the other cluster still needs the site's router, joined to it or about to be.
func (j *job) othersRouter() bool {
	for name := range j.networks {
		if j.othersNetwork(name) {
			return true
		}
	}
	return false
}

// strangers are ports on a network that are not this cluster's and do not go with the network.
func (j *job) strangers(network string) []*ports.Port {
	var out []*ports.Port
	for i := range j.world.attached {
		p := &j.world.attached[i]
		switch {
		case p.NetworkID != network, p.Description == j.names.mark(), strings.HasPrefix(p.DeviceOwner, "network:"):
		case len(j.balancers) > 0 && ofBalancer(p):
		default:
			out = append(out, p)
		}
	}
	return out
}

// ofBalancer tells the ports that the load balancer service makes beside, and deletes with, a load balancer.
func ofBalancer(p *ports.Port) bool {
	return p.DeviceOwner == "Octavia" || p.DeviceOwner == "ovn-lb-hm:distributed" ||
		strings.HasPrefix(p.Name, "octavia-lb-") || strings.HasPrefix(p.Name, "ovn-lb-vip-")
}

// strangersLeft refuses to call a destruction done whose network stays for somebody who is not of this site.
func (j *job) strangersLeft() error {
	other := j.otherCluster()
	for name, n := range j.networks {
		if j.othersNetwork(name) {
			continue
		}
		for _, p := range j.strangers(n.ID) {
			if p.Description == other.mark() {
				return nil // the last one of the site deletes it
			}
		}
		if all := j.strangers(n.ID); len(all) > 0 {
			what := "which is not ours; delete it"
			if j.world.hidden && ofBalancer(all[0]) {
				what = "which belongs to a load balancer, and the credentials may not look at those; give them the role load-balancer_member if it is ours, or delete it"
			}
			return permanent("openstack: the network %s stays: the port %s (%s) is on it, %s, then destroy again", name, all[0].ID, all[0].Name, what)
		}
	}
	return nil
}

func (j *job) deletePort(id string) func(context.Context) error {
	return func(ctx context.Context) error {
		return gone(ctx, "delete the port "+id, ports.Delete(ctx, j.cloud.network, id).ExtractErr())
	}
}

func (j *job) deleteFloating(id string) func(context.Context) error {
	return func(ctx context.Context) error {
		return gone(ctx, "delete the floating IP "+id, floatingips.Delete(ctx, j.cloud.network, id).ExtractErr())
	}
}

func (j *job) deleteSecurity(id string) func(context.Context) error {
	return func(ctx context.Context) error {
		return j.patiently(ctx, "delete the security group "+id, func() error { return groups.Delete(ctx, j.cloud.network, id).ExtractErr() })
	}
}

func (j *job) deleteServerGroup(id string) func(context.Context) error {
	return func(ctx context.Context) error {
		return gone(ctx, "delete the server group "+id, servergroups.Delete(ctx, j.cloud.compute, id).ExtractErr())
	}
}

// deleteInterface: 404 means that it is gone, or its router.
func (j *job) deleteInterface(router, subnet string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := routers.RemoveInterface(ctx, j.cloud.network, router, routers.RemoveInterfaceOpts{SubnetID: subnet}).Extract()
		return gone(ctx, "part the router "+router+" from its subnet", err)
	}
}

func (j *job) deleteRouter(id string) func(context.Context) error {
	return func(ctx context.Context) error {
		return j.patiently(ctx, "delete the router "+id, func() error { return routers.Delete(ctx, j.cloud.network, id).ExtractErr() })
	}
}

func (j *job) deleteSubnet(id string) func(context.Context) error {
	return func(ctx context.Context) error {
		return j.patiently(ctx, "delete the subnet "+id, func() error { return subnets.Delete(ctx, j.cloud.network, id).ExtractErr() })
	}
}

func (j *job) deleteNetwork(id string) func(context.Context) error {
	return func(ctx context.Context) error {
		return j.patiently(ctx, "delete the network "+id, func() error { return networks.Delete(ctx, j.cloud.network, id).ExtractErr() })
	}
}

// patiently tries again while neutron says that something is in use: it may only be on its way out.
func (j *job) patiently(ctx context.Context, what string, remove func() error) error {
	const looks = 10
	for look := 1; ; look++ {
		err := remove()
		if code(err) != http.StatusConflict || look == looks {
			return gone(ctx, what, err)
		}
		if err := sleep(ctx, j.p.options.Poll); err != nil {
			return explain(ctx, what, err)
		}
	}
}
