package openstack

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/routers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// planNetwork finds the network and the subnet that the inventory names, or makes them and a router. A managed network is the site's:
// a cluster with the same addresses is on the same one, and one with others on another, joined by the site's router.
func (j *job) planNetwork([]*inventory.Node) ([]step, error) {
	if name := j.spec.Network.External; name != "" {
		n, err := j.findNetwork("external", name, func(n *network) bool { return n.External })
		if err != nil {
			return nil, err
		}
		j.external = n.ID
	}
	if j.spec.Network.CIDR == "" {
		return nil, j.existingNetwork()
	}
	return j.managedNetwork()
}

// findNetwork finds a network by ID or name.
func (j *job) findNetwork(kind, want string, is func(*network) bool) (*network, error) {
	var found []*network
	var all []string
	for i := range j.world.networks {
		n := &j.world.networks[i]
		if !is(n) {
			continue
		}
		if n.ID == want {
			return n, nil
		}
		if n.Name == want {
			found = append(found, n)
		}
		all = append(all, n.Name)
	}
	switch len(found) {
	case 0:
		return nil, permanent("openstack: there is no %s network %s; %s", kind, want, nearest(want, all))
	case 1:
		return found[0], nil
	}
	return nil, permanent("openstack: there are %d %s networks called %s; name the ID (%s or %s)", len(found), kind, want, found[0].ID, found[1].ID)
}

func (j *job) existingNetwork() error {
	n, err := j.findNetwork("tenant", j.spec.Network.Name, func(*network) bool { return true })
	if err != nil {
		return err
	}
	j.network = n.ID
	if n.ProjectID != "" && n.ProjectID != j.cloud.project {
		j.owner = "the network " + n.Name + " belongs to the project " + n.ProjectID
	}
	j.filtered(n)
	var found []*subnets.Subnet
	var all []string
	for i := range j.world.subnets {
		s := &j.world.subnets[i]
		if s.NetworkID != n.ID {
			continue
		}
		all = append(all, s.Name)
		if want := j.spec.Network.Subnet; want == "" || s.Name == want || s.ID == want {
			found = append(found, s)
		}
	}
	switch {
	case len(found) == 0 && j.spec.Network.Subnet == "":
		return permanent("openstack: the network %s has no subnet", n.Name)
	case len(found) == 0:
		return permanent("openstack: the network %s has no subnet %s; %s", n.Name, j.spec.Network.Subnet, nearest(j.spec.Network.Subnet, all))
	case len(found) > 1:
		return permanent("openstack: the network %s has the subnets %s; say which one as network.subnet, by ID where they have one name", n.Name, strings.Join(all, ", "))
	}
	return j.onSubnet(found[0].ID, found[0].CIDR)
}

func (j *job) filtered(n *network) {
	if on := n.Filter.On; on != nil && !*on {
		j.unfiltered = n.Name
	}
}

// onSubnet sets the subnet and checks that the addresses which the inventory gives are in it.
func (j *job) onSubnet(id, cidr string) error {
	prefix, err := netip.ParsePrefix(cidr)
	if err != nil {
		return permanent("openstack: the subnet %s has the addresses %q, which can not be read", id, cidr)
	}
	j.subnet, j.cidr = id, prefix
	for _, n := range j.made() {
		if a, err := netip.ParseAddr(n.Address); err == nil && !prefix.Contains(a) {
			return permanent("openstack: %s: the address %s is not in the subnet %s", n.Name, n.Address, cidr)
		}
	}
	return nil
}

func (j *job) managedNetwork() ([]step, error) {
	cidr, name := j.spec.Network.CIDR, j.names.network(j.spec.Network.CIDR)
	if err := j.onSubnet("", cidr); err != nil {
		return nil, err
	}
	var out []step
	if n := j.networks[name]; n != nil {
		j.network = n.ID
		j.filtered(n)
	} else {
		out = append(out, step{at: stageNetwork, change: add("network", name, "the site has no network %s", cidr), do: func(ctx context.Context) error {
			made, err := create(ctx, "make the network "+name, func(ctx context.Context) (*networks.Network, error) {
				return networks.Create(ctx, j.cloud.network, networks.CreateOpts{Name: name, Description: j.names.markShared()}).Extract()
			}, func(ctx context.Context) (*networks.Network, error) {
				o := networks.ListOpts{Name: name, Description: j.names.markShared(), ProjectID: j.cloud.project}
				return first(ctx, "networks", networks.List(j.cloud.network, o), networks.ExtractNetworks)
			})
			if err == nil {
				j.network = made.ID
			}
			return err
		}})
	}
	out = append(out, j.planSubnet(name, cidr)...)
	steps, err := j.planRouter(cidr)
	return append(out, steps...), err
}

func (j *job) planSubnet(name, cidr string) []step {
	dns := j.spec.Network.DNS
	if s := j.subnets[name]; s != nil {
		j.subnet = s.ID
		if len(dns) == 0 || slices.Equal(dns, s.DNSNameservers) {
			return nil
		}
		return []step{{at: stageSubnet, change: mend("subnet", name, "its name servers are %v, the inventory says %v", s.DNSNameservers, dns), do: func(ctx context.Context) error {
			_, err := subnets.Update(ctx, j.cloud.network, s.ID, subnets.UpdateOpts{DNSNameservers: &dns}).Extract()
			return explain(ctx, "change the subnet "+name, err)
		}}}
	}
	return []step{{at: stageSubnet, change: add("subnet", name, "the site has no subnet %s", cidr), do: func(ctx context.Context) error {
		made, err := create(ctx, "make the subnet "+name, func(ctx context.Context) (*subnets.Subnet, error) {
			return subnets.Create(ctx, j.cloud.network, j.subnetOpts(name, cidr)).Extract()
		}, func(ctx context.Context) (*subnets.Subnet, error) {
			o := subnets.ListOpts{Name: name, NetworkID: j.network}
			return first(ctx, "subnets", subnets.List(j.cloud.network, o), subnets.ExtractSubnets)
		})
		if err == nil {
			j.subnet = made.ID
		}
		return err
	}}}
}

// subnetOpts are of IPv4: the inventory takes no other.
func (j *job) subnetOpts(name, cidr string) subnets.CreateOpts {
	return subnets.CreateOpts{
		NetworkID: j.network, CIDR: cidr, Name: name, Description: j.names.markShared(), IPVersion: gophercloud.IPv4, DNSNameservers: j.spec.Network.DNS,
		AllocationPools: allocation(j.cidr, chosen(j.request.Inventory, cidr)),
	}
}

// planRouter joins the managed subnet to the site's router, or to the one that the inventory names.
func (j *job) planRouter(cidr string) ([]step, error) {
	var out []step
	name := j.names.router()
	switch want := j.spec.Network.Router; {
	case want != "":
		found, err := j.findRouter(want)
		if err != nil {
			return nil, err
		}
		j.router, name = found.ID, found.Name
	case j.routers[name] != nil:
		r := j.routers[name]
		j.router = r.ID
		if j.external != "" && r.GatewayInfo.NetworkID != j.external {
			id := r.ID
			out = append(out, step{at: stageRouter, change: mend("router", name, "it does not lead to the network %s", j.spec.Network.External), do: func(ctx context.Context) error {
				_, err := routers.Update(ctx, j.cloud.network, id, routers.UpdateOpts{GatewayInfo: &routers.GatewayInfo{NetworkID: j.external}}).Extract()
				return explain(ctx, "change the router "+name, err)
			}})
		}
	default:
		out = append(out, j.newRouter(name))
	}
	if j.joined() {
		return out, nil
	}
	return append(out, step{at: stageInterface, change: add("router-interface", name+" "+cidr, "the router is not joined to the subnet"), do: func(ctx context.Context) error {
		_, err := routers.AddInterface(ctx, j.cloud.network, j.router, routers.AddInterfaceOpts{SubnetID: j.subnet}).Extract()
		if err == nil {
			return nil
		}
		// an answer that was lost: the request was repeated, and is refused because the first one was carried out
		var w world
		if lerr := j.listInterfaces(ctx, &w); lerr == nil && slices.ContainsFunc(w.interfaces, j.joins) {
			return nil
		}
		return explain(ctx, "join the router "+name+" to "+cidr, err)
	}}), nil
}

func (j *job) newRouter(name string) step {
	return step{at: stageRouter, change: add("router", name, "the site has no router"), do: func(ctx context.Context) error {
		o := routers.CreateOpts{Name: name, Description: j.names.markShared()}
		if j.external != "" {
			o.GatewayInfo = &routers.GatewayInfo{NetworkID: j.external}
		}
		made, err := create(ctx, "make the router "+name, func(ctx context.Context) (*routers.Router, error) {
			return routers.Create(ctx, j.cloud.network, o).Extract()
		}, func(ctx context.Context) (*routers.Router, error) {
			l := routers.ListOpts{Name: name, Description: j.names.markShared(), ProjectID: j.cloud.project}
			return first(ctx, "routers", routers.List(j.cloud.network, l), routers.ExtractRouters)
		})
		if err == nil {
			j.router = made.ID
		}
		return err
	}}
}

func (j *job) findRouter(want string) (*routers.Router, error) {
	var found []*routers.Router
	var all []string
	for i := range j.world.routers {
		r := &j.world.routers[i]
		if r.ID == want {
			return r, nil
		}
		if r.Name == want {
			found = append(found, r)
		}
		all = append(all, r.Name)
	}
	switch len(found) {
	case 0:
		return nil, permanent("openstack: there is no router %s; %s", want, nearest(want, all))
	case 1:
		return found[0], nil
	}
	return nil, permanent("openstack: there are %d routers called %s; name the ID (%s or %s)", len(found), want, found[0].ID, found[1].ID)
}

func (j *job) joined() bool {
	return j.router != "" && j.subnet != "" && slices.ContainsFunc(j.world.interfaces, j.joins)
}

func (j *job) joins(p ports.Port) bool { return p.DeviceID == j.router && onSubnet(&p, j.subnet) }
