package inventory

import (
	"fmt"
	"net/netip"
	"strings"
)

func (v *validator) openstack(name ClusterName, c *Cluster, adopted map[string]string) {
	o := c.Provider.OpenStack
	if o == nil {
		return
	}
	f := "clusters." + string(name) + ".provider.openstack"
	if v.broken(f) {
		return
	}
	if o.Machine.Server != "" {
		v.fail(f+".machine.server", "name it at the node that adopts it", "one server can not be all of the cluster's machines")
	}
	made, floating := false, ""
	for _, m := range c.machines(name) {
		if own := m.node.OpenStack; own != nil && own.Server != "" {
			v.adopts(m, "openstack", "server", own.Server, own, adopted)
			continue
		}
		made = true
		v.openstackMachine(name, m)
		if *v.inv.OpenStackFor(name, &m.node).FloatingIP && floating == "" {
			floating = m.what
		}
		if o.Network.CIDR != "" && !m.pool {
			v.inside(m.field+".address", m.node.Address, o.Network.CIDR)
		}
	}
	if made || o.LoadBalancer != nil {
		v.openstackNetwork(f, o)
	}
	if made {
		v.openstackAccess(f, o)
		v.openstackRoutes(name, c)
	}
	if floating != "" && o.Network.External == "" {
		v.fail(f+".network.external", "name the network that floating IPs come from", "missing; %s has a floating IP", floating)
	}
	v.openstackEndpoint(name, c, o)
}

func (v *validator) openstackMachine(name ClusterName, m machine) {
	all := v.inv.OpenStackFor(name, &m.node)
	var missing []string
	if all.Flavor == "" {
		missing = append(missing, "flavor")
	}
	if all.Image == "" {
		missing = append(missing, "image")
	}
	v.lacks(m, "openstack", missing)
	own := m.node.OpenStack
	if own == nil {
		return
	}
	v.separates(m, "openstack", own.AntiAffinity)
	if n := len(own.AvailabilityZones); n > 1 && !m.pool {
		v.fail(m.field+".openstack.availabilityZones", "name one", "a single node runs in one availability zone, found %d", n)
	}
}

func (v *validator) openstackNetwork(f string, o *OpenStack) {
	n := o.Network
	f += ".network"
	switch {
	case n.Name == "" && n.CIDR == "":
		v.fail(f, "name an existing network, or give a cidr to make one", "missing; expected name or cidr")
		return
	case n.Name != "" && n.CIDR != "":
		v.fail(f+".cidr", "leave one of them out", "expected name (of an existing network) or cidr (to make one), found both")
		return
	case n.CIDR != "" && n.Subnet != "":
		v.fail(f+".subnet", "leave it out", "a subnet is named with an existing network only; this one is made of the cidr")
	case n.CIDR != "" && n.Router == "" && n.External == "":
		v.fail(f+".external", "name the network that its router leads to, or an existing router", "missing; nobody could reach the machines of %s", n.CIDR)
	}
	if n.CIDR == "" {
		for key, given := range map[string]bool{"router": n.Router != "", "dns": n.DNS != nil} {
			if given {
				v.fail(f+"."+key, "leave it out", "%s is of a network that is made; %s is there already", key, n.Name)
			}
		}
		return
	}
	if strings.Contains(n.CIDR, ":") {
		v.fail(f+".cidr", "name an existing network for IPv6 (network.name)", "a network that is made here is one of IPv4, found %s", n.CIDR)
		return
	}
	// the fixed addresses of nodes, ports for DHCP, the router, a VIP and a load balancer
	if p, err := netip.ParsePrefix(n.CIDR); err == nil && p.Addr().BitLen()-p.Bits() < 4 {
		v.fail(f+".cidr", "use a larger network", "%s has no room for a cluster", n.CIDR)
	}
}

// openstackRoutes refuses what a port in OpenStack does not let through: packets that bear a pod's address instead of the machine's.
func (v *validator) openstackRoutes(name ClusterName, c *Cluster) {
	backend, _ := v.inv.Components["flannel"].Values["backend"].(map[string]any)
	if c.Network.CNI == CNIFlannel && backend["type"] == "host-gw" {
		v.fail("components.flannel.values.backend.type", "leave it out: the tunnels of vxlan get through",
			"the machines of clusters.%s are made in OpenStack, whose ports drop what bears a pod's address, and host-gw sends just that", name)
	}
}

func (v *validator) openstackAccess(f string, o *OpenStack) {
	if len(o.SSHFrom) == 0 {
		v.warn(f+".sshFrom", "name the network that you run catamaran in, or of the jump host, unless it is one of the site's nodes",
			"only the site's nodes reach SSH")
	}
	for key, networks := range map[string][]string{"sshFrom": o.SSHFrom, "apiFrom": o.APIFrom} {
		for i, n := range networks {
			if strings.HasSuffix(n, "/0") {
				v.warn(fmt.Sprintf("%s.%s[%d]", f, key, i), "name the networks that need it", "%s is everybody", n)
			}
		}
	}
}

func (v *validator) openstackEndpoint(name ClusterName, c *Cluster, o *OpenStack) {
	f, e := "clusters."+string(name)+".endpoint", c.Endpoint
	lb := o.LoadBalancer
	if e.Mode == EndpointVIP || lb != nil {
		if o.Network.CIDR != "" {
			v.inside(f+".address", e.Address, o.Network.CIDR)
		}
	}
	if lb == nil {
		return
	}
	lf := "clusters." + string(name) + ".provider.openstack.loadBalancer"
	switch _, err := netip.ParseAddr(e.Address); {
	case e.Mode != EndpointExternal:
		v.fail(f+".mode", fmt.Sprintf("say external, or leave %s out", lf), "the load balancer needs mode external, found %s", e.Mode)
	case err != nil && e.Address != "":
		v.fail(f+".address", "an address of the machines' subnet", "the load balancer needs an IP address, found %s", quote(e.Address))
	default:
		for i, n := range c.Nodes {
			if n.Address != "" && n.Address == e.Address {
				v.fail(f+".address", "choose a free address of the machines' subnet", "%s, which the load balancer needs, is the address of clusters.%s.nodes[%d]", e.Address, name, i)
			}
		}
	}
	if lb.FloatingIP && o.Network.External == "" {
		v.fail(lf+".floatingIP", "name network.external, which floating IPs come from", "there is no network that a floating IP could come from")
	}
}

// openstackReach warns of a service cluster in a network of its own that the workload cluster does not get to.
func (v *validator) openstackReach() {
	s, w := v.inv.Clusters.Service, v.inv.Clusters.Workload
	if s == nil || w == nil || s.Provider.OpenStack == nil || !v.inv.Platform.On() || !v.assumed.address {
		return
	}
	mine := s.Provider.OpenStack.Network
	if o := w.Provider.OpenStack; mine.CIDR == "" || o != nil && o.Network.Router != "" && o.Network.Router == mine.Router {
		return
	}
	v.warn("platform.ingest.address", "join the networks of both clusters to one router (network.router), or name an address that is reached from there",
		"the workload cluster may not reach the service cluster's endpoint, which is inside of the network %s that is made for it", mine.CIDR)
}
