package inventory

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
)

// seen is what must be there only once in a site, with the field that has it.
type seen struct{ names, addresses, keys, endpoints, logins map[string]string }

// nodes checks the nodes of a cluster against each other and those of the other cluster.
func (v *validator) nodes(name ClusterName, c *Cluster, seen *seen) {
	v.ssh("clusters."+string(name)+".ssh", c.SSH)
	for i := range c.Nodes {
		n, f := &c.Nodes[i], fmt.Sprintf("clusters.%s.nodes[%d]", name, i)
		if n.Pool != "" {
			v.login(name, n, v.inv.written(f), seen.logins)
			continue // the rest is checked once, of the pool
		}
		v.once(seen.names, n.Name, f, f+".name", "%s is also the name of %s")
		v.once(seen.addresses, n.Address, f, f+".address", "%s is also the address of %s")
		if first, twice := seen.keys[n.HostKey]; twice && n.HostKey != "" {
			v.warn(f+".hostKey", "make new host keys on one of them", "the machine has the same host key as %s: is it a clone?", first)
		} else {
			seen.keys[n.HostKey] = f
		}
		v.ssh(f+".ssh", n.SSH)
		v.login(name, n, f, seen.logins)
		v.taints(f, n.Taints)
	}
}

// once reports a value that another field has already.
func (v *validator) once(seen map[string]string, value, owner, field, format string) {
	if value == "" {
		return
	}
	if first, twice := seen[value]; twice {
		v.fail(field, "", format, value, first)
		return
	}
	seen[value] = owner
}

// login checks what came out for one node when the site's, the cluster's and its own SSH settings were merged. It is
// reported where it was set, once.
func (v *validator) login(name ClusterName, n *Node, node string, reported map[string]string) {
	s := v.inv.SSHFor(name, n)
	if s.KeyFile != "" || v.broken("ssh") {
		return
	}
	origin := func(key string, set func(*SSH) bool) string {
		switch {
		case n.SSH != nil && set(n.SSH):
			return node + ".ssh." + key
		case v.inv.Cluster(name).SSH != nil && set(v.inv.Cluster(name).SSH):
			return "clusters." + string(name) + ".ssh." + key
		}
		return "ssh." + key
	}
	once := func(field string) bool {
		_, before := reported[field]
		reported[field] = node
		return !before
	}
	if f := origin("agent", func(s *SSH) bool { return s.Agent != nil }); !*s.Agent && once(f) {
		v.fail(f, "name a keyFile or allow the agent", "there is nothing to log in to %s with: no keyFile, and agent is false", n.Name)
	}
	if f := origin("keyPassphrase", func(s *SSH) bool { return s.KeyPassphrase != nil }); s.KeyPassphrase != nil && once(f) {
		v.warn(f, "", "keyPassphrase opens nothing: there is no keyFile for %s", n.Name)
	}
}

func (v *validator) cluster(name ClusterName, c *Cluster, seen *seen) {
	f := "clusters." + string(name)
	planes := c.ControlPlanes()
	broken := v.broken(f+".nodes") || v.broken(f+".pools")
	switch {
	case len(planes) == 0 && !v.broken(f+".pools"):
		v.fail(f+".nodes", "", "the cluster has no control plane")
	case len(planes)%2 == 0 && !broken:
		v.warn(f+".nodes", "use one more or one less", "%d control planes tolerate no more failures than %d", len(planes), len(planes)-1)
	}
	if !broken && len(planes) > 0 {
		v.endpoint(f+".endpoint", c, planes, seen)
	}
	v.family(f, c)
	v.capacity(f, c)
	v.exists(f+".apiServer.auditPolicyFile", c.APIServer.AuditPolicyFile)
	if c.Network.CNI == CNINone && !v.bringsNetwork(name) {
		v.warn(f+".network.cni", "list the network plugin's chart under releases, with order: 0",
			"no release of order below %d brings a network plugin, so no node gets ready for ours", ownOrder)
	}
}

// ownOrder is the first order of an embedded chart whose pods need a network.
const ownOrder = 20

func (v *validator) bringsNetwork(c ClusterName) bool {
	return slices.ContainsFunc(v.inv.Releases, func(r Release) bool { return r.Cluster == c && r.Order < ownOrder })
}

func (v *validator) endpoint(f string, c *Cluster, planes []Node, seen *seen) {
	e := c.Endpoint
	if e.Address == "" && e.Mode == EndpointNode && len(planes) == 1 {
		if e.Port != 6443 {
			v.fail(f+".port", "", "the API server listens on 6443, found %d", e.Port)
		}
		return // known when the machine is there; where nobody makes it, the control plane's own error says so
	}
	if e.Address == "" {
		v.fail(f+".address", "a free address of the nodes' network for the VIP, or that of a load balancer", "%d control planes need an endpoint address", len(planes))
		return
	}
	_, err := netip.ParseAddr(e.Address)
	if err != nil && e.Mode != EndpointExternal {
		v.fail(f+".address", "only mode external takes a DNS name", "expected an IP address, found %s", quote(e.Address))
		return
	}
	owner, taken := seen.addresses[e.Address]
	switch e.Mode {
	case EndpointVIP:
		if taken {
			v.fail(f+".address", "choose a free address of the nodes' network", "the VIP %s is the address of %s", e.Address, owner)
		} else {
			seen.addresses[e.Address] = f
		}
		if e.Port != 6443 {
			v.fail(f+".port", "", "a VIP answers on the API servers' own port, 6443, found %d", e.Port)
		}
	case EndpointNode:
		if len(planes) != 1 || planes[0].Address != e.Address {
			v.fail(f+".mode", "use vip or external", "mode node needs exactly one control plane, and its address")
		}
		if e.Port != 6443 {
			v.fail(f+".port", "", "the API server listens on 6443, found %d", e.Port)
		}
	case EndpointExternal:
		if taken && within(owner, f[:len(f)-len(".endpoint")]) && owner != f {
			v.warn(f+".address", "", "the endpoint %s is the address of %s: without that machine there is no API", e.Address, owner)
		}
	}
	if taken && e.Mode == EndpointVIP {
		return
	}
	v.once(seen.endpoints, net.JoinHostPort(e.Address, strconv.Itoa(e.Port)), f, f+".address", "%s is also %s")
}

// family checks that a cluster speaks either IPv4 or IPv6: API server and kubelet refuse a mixture in single-stack.
func (v *validator) family(f string, c *Cluster) {
	pods, err := netip.ParsePrefix(c.Network.PodCIDR)
	if err != nil {
		return
	}
	check := func(field, value string) {
		a, err := netip.ParseAddr(value)
		if err != nil {
			p, perr := netip.ParsePrefix(value)
			if a, err = p.Addr(), perr; err != nil {
				return
			}
		}
		if a.Is4() != pods.Addr().Is4() {
			v.fail(field, "a cluster is all IPv4 or all IPv6", "%s is not of the family of the pods' network %s", value, pods)
		}
	}
	check(f+".network.serviceCIDR", c.Network.ServiceCIDR)
	if o := c.Provider.OpenStack; o != nil {
		check(f+".provider.openstack.network.cidr", o.Network.CIDR)
	}
	check(f+".endpoint.address", c.Endpoint.Address)
	for i, n := range c.Nodes {
		check(fmt.Sprintf("%s.nodes[%d].address", f, i), n.Address)
	}
}

// capacity checks the sizes of a cluster's networks. The controller manager gives each node a /24 (IPv6: a /64) of the
// pods' network, and cuts at most 16 bits; the API server takes at most 20 host bits for services.
func (v *validator) capacity(f string, c *Cluster) {
	if p, err := netip.ParsePrefix(c.Network.ServiceCIDR); err == nil {
		if host := p.Addr().BitLen() - p.Bits(); host > 20 || host < 4 {
			v.fail(f+".network.serviceCIDR", "", "%s has %d host bits, services need 4 to 20", p, host)
		}
	}
	p, err := netip.ParsePrefix(c.Network.PodCIDR)
	if err != nil {
		return
	}
	share := 24
	if p.Addr().Is6() {
		share = 64
	}
	nodes := len(c.PresentNodes())
	switch bits := share - p.Bits(); {
	case bits < 0 || bits <= 16 && 1<<bits < nodes:
		v.fail(f+".network.podCIDR", "", "%s is too small for %d nodes, each of which gets a /%d", p, nodes, share)
	case bits > 16:
		v.fail(f+".network.podCIDR", fmt.Sprintf("use /%d or smaller", share-16), "%s is larger than Kubernetes can divide into a /%d for each node", p, share)
	case 1<<bits == nodes:
		v.warn(f+".network.podCIDR", "it can not be changed later", "%s has room for %d nodes and not one more", p, nodes)
	}
}

// networks finds CIDRs that overlap each other or hold a machine's address, across the whole site: pods of one cluster
// must be able to reach nodes of the other.
func (v *validator) networks() {
	type cidr struct {
		field  string
		prefix netip.Prefix
	}
	var all, machines []cidr // those of machines hold machines' addresses
	for _, name := range v.inv.ClusterNames() {
		c := v.inv.Cluster(name)
		values := []struct{ key, value string }{{"network.podCIDR", c.Network.PodCIDR}, {"network.serviceCIDR", c.Network.ServiceCIDR}}
		if o := c.Provider.OpenStack; o != nil {
			values = append(values, struct{ key, value string }{"provider.openstack.network.cidr", o.Network.CIDR})
		}
		for i, x := range values {
			p, err := netip.ParsePrefix(x.value)
			if err != nil {
				continue
			}
			f := "clusters." + string(name) + "." + x.key
			for _, o := range slices.Concat(all, machines) {
				if o.prefix.Overlaps(p) {
					v.fail(f, "all networks of a site must be apart", "%s overlaps %s (%s)", x.value, o.field, o.prefix)
				}
			}
			if i < 2 {
				all = append(all, cidr{f, p})
			} else {
				machines = append(machines, cidr{f, p})
			}
		}
	}
	check := func(field, address string) {
		a, err := netip.ParseAddr(address)
		for _, o := range all {
			if err == nil && o.prefix.Contains(a) {
				v.fail(field, "", "%s lies in %s (%s)", address, o.field, o.prefix)
			}
		}
	}
	jumps := func(field string, s *SSH) {
		if s == nil {
			return
		}
		for i, j := range s.Jump {
			check(fmt.Sprintf("%s.jump[%d].address", field, i), j.Address)
		}
	}
	if v.inv.Clusters.Service == nil || v.inv.Platform.Ingest.Address != v.inv.Clusters.Service.Endpoint.Address {
		check("platform.ingest.address", v.inv.Platform.Ingest.Address) // else it is said of the endpoint
	}
	jumps("ssh", &v.inv.SSH)
	for _, name := range v.inv.ClusterNames() {
		f, c := "clusters."+string(name), v.inv.Cluster(name)
		jumps(f+".ssh", c.SSH)
		for _, m := range c.machines(name) {
			check(m.field+".address", m.node.Address)
			jumps(m.field+".ssh", m.node.SSH)
		}
		if c.Endpoint.Mode != EndpointNode {
			check(f+".endpoint.address", c.Endpoint.Address)
		}
	}
}
