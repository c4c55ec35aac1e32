package openstack

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/listeners"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// compareBalancer mends what can be mended of a load balancer that is there.
func (j *job) compareBalancer(b *balancer) ([]step, error) {
	if b.ProvisioningStatus == statusError {
		return nil, broken(b.ID)
	}
	var wrong []string
	if want := j.cluster.Endpoint.Address; !sameAddress(b.VipAddress, want) {
		wrong = append(wrong, fmt.Sprintf("it answers at %s, and the inventory says %s", b.VipAddress, want))
	}
	if b.listener == nil || b.pool == nil {
		wrong = append(wrong, "its listener or its pool was taken away")
	} else if want := j.cluster.Endpoint.Port; b.listener.ProtocolPort != want {
		wrong = append(wrong, fmt.Sprintf("it answers at the port %d, and the inventory says %d", b.listener.ProtocolPort, want))
	}
	if len(wrong) > 0 {
		return nil, permanent("openstack: the load balancer %s (%s): %s; this can not be changed in place: set the inventory back, or delete it with --cascade and apply again",
			b.Name, b.ID, strings.Join(wrong, "; "))
	}
	var why []string
	var todo []func(context.Context) error
	if text := j.membersDiffer(b); text != "" {
		why = append(why, text)
		todo = append(todo, func(ctx context.Context) error { return j.setMembers(ctx, b) })
	}
	if text := j.clientsDiffer(b); text != "" {
		why = append(why, text)
		todo = append(todo, func(ctx context.Context) error { return j.setClients(ctx, b) })
	}
	if len(todo) == 0 && b.ProvisioningStatus == statusActive {
		return nil, nil
	}
	s := step{at: stageBalancer, ready: balancerReady(b.ID)}
	if len(todo) > 0 {
		s.change = mend("load-balancer", b.Name, "%s", strings.Join(why, "; "))
		s.do = func(ctx context.Context) error {
			if err := j.reread(ctx); err != nil {
				return err
			}
			for _, do := range todo {
				if err := do(ctx); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return []step{s}, nil
}

func sameAddress(a, b string) bool {
	x, err := netip.ParseAddr(a)
	y, yerr := netip.ParseAddr(b)
	return err == nil && yerr == nil && x == y
}

// member is a control plane behind the load balancer. subnet is how it gets there; empty: as it gets to its own.
type member struct{ node, address, subnet string }

// wantedMembers are the control planes that are there, or will be when the load balancer's turn comes.
func (j *job) wantedMembers() []member {
	var out []member
	for _, m := range j.machines() {
		if n := j.node(m.Name); n != nil && m.Role == inventory.ControlPlane && n.State != inventory.Absent {
			out = append(out, member{m.Name, m.Address, j.subnetOf(n, m.Address)})
		}
	}
	return out
}

// subnetOf is the subnet that a node's address is in. Adopted servers may be on another network than ours, whose name is all that the
// server says of it.
func (j *job) subnetOf(n *inventory.Node, address string) string {
	a, err := netip.ParseAddr(address)
	switch {
	case err != nil:
		return ""
	case j.cidr.Contains(a):
		return j.subnet
	}
	server, err := j.foreign(n, j.machine(n).Server)
	if err != nil {
		return ""
	}
	var found []string
	for i := range j.world.networks {
		network := &j.world.networks[i]
		if _, ok := server.Addresses[network.Name]; !ok {
			continue
		}
		for k := range j.world.subnets {
			s := &j.world.subnets[k]
			if p, err := netip.ParsePrefix(s.CIDR); err == nil && s.NetworkID == network.ID && p.Contains(a) {
				found = append(found, s.ID)
			}
		}
	}
	if len(found) != 1 {
		return ""
	}
	return found[0]
}

func (j *job) membersDiffer(b *balancer) string {
	var missing []string
	have := map[string]bool{}
	for _, m := range b.members {
		have[m.Address] = m.ProtocolPort == apiPort
	}
	n := 0
	for i := range j.cluster.Nodes {
		node := &j.cluster.Nodes[i]
		if node.Role != inventory.ControlPlane || node.State == inventory.Absent {
			continue
		}
		n++
		if address := j.addressOf(node); address == "" || !have[address] {
			missing = append(missing, node.Name)
		}
	}
	switch {
	case len(missing) > 0:
		return "it does not know the control planes " + strings.Join(missing, ", ")
	case n != len(b.members):
		return fmt.Sprintf("it has %d members, and the cluster %d control planes", len(b.members), n)
	}
	return ""
}

func (j *job) addressOf(n *inventory.Node) string {
	for _, m := range j.machines() {
		if m.Name == n.Name {
			return m.Address
		}
	}
	return ""
}

// setMembers replaces the members as a whole.
func (j *job) setMembers(ctx context.Context, b *balancer) error {
	all := []pools.BatchUpdateMemberOpts{}
	for _, m := range j.wantedMembers() {
		o := pools.BatchUpdateMemberOpts{Name: &m.node, Address: m.address, ProtocolPort: apiPort}
		if m.subnet != "" {
			o.SubnetID = &m.subnet
		}
		all = append(all, o)
	}
	return j.whileActive(ctx, b.ID, "set the members of the load balancer "+b.Name, func(ctx context.Context) error {
		return pools.BatchUpdateMembers(ctx, j.cloud.balancer, b.pool.ID, all).ExtractErr()
	})
}

// clients are the networks that the load balancer lets in: apiFrom, the machines' own, and the adopted nodes outside of it. The service
// refuses those of another family than its address has.
func (j *job) clients() []string {
	all := append(masked(j.spec.APIFrom), j.cidr.Masked())
	for _, m := range j.machines() {
		if a, err := netip.ParseAddr(m.Address); err == nil && m.Adopted && !j.cidr.Contains(a) {
			all = append(all, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	var out []string
	for _, p := range all {
		if p.Addr().Is4() == j.cidr.Addr().Is4() {
			out = append(out, p.String())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (j *job) clientsDiffer(b *balancer) string {
	if j.ovn() {
		return ""
	}
	have := slices.Sorted(slices.Values(b.listener.AllowedCIDRs))
	if want := j.clients(); !slices.Equal(have, want) {
		return fmt.Sprintf("it lets in %s, and the inventory says %s", strings.Join(have, ", "), strings.Join(want, ", "))
	}
	return ""
}

func (j *job) setClients(ctx context.Context, b *balancer) error {
	all := j.clients()
	return j.whileActive(ctx, b.ID, "set whom the load balancer "+b.Name+" lets in", func(ctx context.Context) error {
		return listeners.Update(ctx, j.cloud.balancer, b.listener.ID, listeners.UpdateOpts{AllowedCIDRs: &all}).Err
	})
}
