package openstack

import (
	"net/netip"
	"slices"

	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// chosen are the addresses that the inventory names in a managed network, those of both clusters: whoever comes first must not be given
// an address of the other.
func chosen(inv *inventory.Inventory, cidr string) []netip.Addr {
	prefix, err := netip.ParsePrefix(cidr)
	if err != nil {
		return nil
	}
	var out []netip.Addr
	add := func(text string) {
		if a, err := netip.ParseAddr(text); err == nil && prefix.Contains(a) {
			out = append(out, a)
		}
	}
	for _, name := range inv.ClusterNames() {
		c := inv.Cluster(name)
		if c.Provider.OpenStack == nil || c.Provider.OpenStack.Network.CIDR != cidr {
			continue
		}
		add(c.Endpoint.Address)
		for i := range c.Nodes {
			add(c.Nodes[i].Address)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// allocation is what a subnet may give to ports that ask for no address: all but the router's and those that were chosen. The cloud's
// own ports for DHCP and metadata take the lowest ones. nil: the cloud's default.
func allocation(subnet netip.Prefix, chosen []netip.Addr) []subnets.AllocationPool {
	if !subnet.Addr().Is4() || len(chosen) == 0 {
		return nil
	}
	subnet = subnet.Masked()
	last := lastOf(subnet).Prev() // the one after it is everybody's
	var out []subnets.AllocationPool
	begin := subnet.Addr().Next().Next()
	for _, a := range append(slices.Clone(chosen), last.Next()) {
		if begin.Less(a) {
			out = append(out, subnets.AllocationPool{Start: begin.String(), End: a.Prev().String()})
		}
		if !a.Less(begin) {
			begin = a.Next()
		}
	}
	return out
}

// lastOf is the last address of an IPv4 prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		b[bit/8] |= 1 << (7 - bit%8)
	}
	return netip.AddrFrom4(b)
}
