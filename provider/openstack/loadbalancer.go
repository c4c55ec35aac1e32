package openstack

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/listeners"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/monitors"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// planBalancer makes the load balancer of the API, with all that is in it in one request, and keeps its members those control planes
// that the inventory has.
func (j *job) planBalancer([]*inventory.Node) ([]step, error) {
	name := j.names.part("api")
	b := j.balancers[name]
	spec := j.spec.LoadBalancer
	if spec == nil {
		if b != nil || j.floating[balancerNode] != nil {
			return j.dropBalancer("the inventory asks for none any more", stageClean, stageClean), nil
		}
		return nil, nil
	}
	if j.cloud.balancer == nil {
		return nil, permanent("openstack: clusters.%s.provider.openstack.loadBalancer: the cloud has no load balancer service", j.request.Cluster)
	}
	if spec.FloatingIP && j.external == "" {
		return nil, permanent("openstack: the load balancer's floating IP needs network.external, the network that it comes from")
	}
	var out []step
	port := ""
	switch {
	case b == nil:
		out = append(out, j.newBalancer(name, &port))
	case b.ProvisioningStatus == "ERROR":
		return nil, permanent("openstack: the load balancer %s (%s) is in ERROR; delete it with --cascade, then try again", name, b.ID)
	default:
		port = b.VipPortID
		if why := j.membersDiffer(); why != "" {
			out = append(out, step{at: stageBalancer, change: mend("load-balancer", name, "%s", why), do: func(ctx context.Context) error { return j.setMembers(ctx, b) }, ready: balancerReady(b.ID)})
		} else if b.ProvisioningStatus != "ACTIVE" {
			out = append(out, step{at: stageBalancer, ready: balancerReady(b.ID)})
		}
	}
	switch f := j.floating[balancerNode]; {
	case spec.FloatingIP && f == nil:
		out = append(out, j.newFloating(balancerNode, name, stageMarks, func() string { return port }))
	case !spec.FloatingIP && f != nil:
		out = append(out, step{at: stageFloating, change: remove("floating-ip", name, "the inventory asks for none any more"), do: j.deleteFloating(f.ID)})
	}
	return out, nil
}

// member is a control plane behind the load balancer.
type member struct{ node, address string }

// wantedMembers are the control planes that are there, or will be when the load balancer's turn comes.
func (j *job) wantedMembers() []member {
	var out []member
	for _, m := range j.machines() {
		if n := j.node(m.Name); n != nil && m.Role == inventory.ControlPlane && n.State != inventory.Absent {
			out = append(out, member{m.Name, m.Address})
		}
	}
	return out
}

func (j *job) membersDiffer() string {
	var missing []string
	have := map[string]bool{}
	for _, m := range j.world.members {
		have[m.Address] = true
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
	case n != len(j.world.members):
		return fmt.Sprintf("it has %d members, and the cluster %d control planes", len(j.world.members), n)
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

func (j *job) newBalancer(name string, port *string) step {
	var id string
	return step{
		at: stageBalancer, change: add("load-balancer", name, "the inventory asks for one at %s", j.cluster.Endpoint.Address),
		do: func(ctx context.Context) error {
			if err := j.reread(ctx); err != nil {
				return err
			}
			b, err := create(ctx, "make the load balancer "+name, func(ctx context.Context) (*loadbalancers.LoadBalancer, error) {
				return loadbalancers.Create(ctx, j.cloud.balancer, j.balancerOpts(name)).Extract()
			}, func(ctx context.Context) (*loadbalancers.LoadBalancer, error) {
				l := loadbalancers.ListOpts{Name: name, Description: j.names.mark(), ProjectID: j.cloud.project}
				return first(ctx, "load balancers", loadbalancers.List(j.cloud.balancer, l), loadbalancers.ExtractLoadBalancers)
			})
			if err == nil {
				id, *port = b.ID, b.VipPortID
			}
			return err
		},
		ready: func(ctx context.Context, w *world) (bool, error) { return balancerReady(id)(ctx, w) },
	}
}

// reread looks at the ports again, whose addresses the members are.
func (j *job) reread(ctx context.Context) error {
	w := *j.world
	if err := j.listPorts(ctx, &w); err != nil {
		return err
	}
	if err := j.listServers(ctx, &w); err != nil {
		return err
	}
	j.world = &w
	j.index()
	return nil
}

func (j *job) balancerOpts(name string) loadbalancers.CreateOpts {
	api := j.cluster.Endpoint.Port
	var members []pools.CreateMemberOpts
	for _, m := range j.wantedMembers() {
		members = append(members, pools.CreateMemberOpts{Name: m.node, Address: m.address, ProtocolPort: api, SubnetID: j.subnet})
	}
	var allowed []string
	for _, p := range masked(j.spec.APIFrom) {
		allowed = append(allowed, p.String())
	}
	allowed = append(allowed, j.cidr.Masked().String())
	return loadbalancers.CreateOpts{
		Name: name, Description: j.names.mark(), VipSubnetID: j.subnet, VipAddress: j.cluster.Endpoint.Address, Provider: j.spec.LoadBalancer.Provider,
		Listeners: []listeners.CreateOpts{{
			Name: name, Protocol: listeners.ProtocolTCP, ProtocolPort: api, AllowedCIDRs: allowed,
			DefaultPool: &pools.CreateOpts{
				Name: name, Protocol: pools.ProtocolTCP, LBMethod: pools.LBMethodRoundRobin, Members: members,
				Monitor: &monitors.CreateOpts{Name: name, Type: monitors.TypeTCP, Delay: 5, Timeout: 3, MaxRetries: 2},
			},
		}},
	}
}

// setMembers replaces the members as a whole.
func (j *job) setMembers(ctx context.Context, b *loadbalancers.LoadBalancer) error {
	if err := j.reread(ctx); err != nil {
		return err
	}
	if len(b.Pools) == 0 {
		return permanent("openstack: the load balancer %s has no pool; delete it with --cascade, then try again", b.ID)
	}
	var all []pools.BatchUpdateMemberOpts
	for _, m := range j.wantedMembers() {
		all = append(all, pools.BatchUpdateMemberOpts{Name: &m.node, Address: m.address, ProtocolPort: j.cluster.Endpoint.Port, SubnetID: &j.subnet})
	}
	return explain(ctx, "set the members of the load balancer "+b.Name, pools.BatchUpdateMembers(ctx, j.cloud.balancer, b.Pools[0].ID, all).ExtractErr())
}

func balancerReady(id string) func(context.Context, *world) (bool, error) {
	return func(_ context.Context, w *world) (bool, error) {
		for i := range w.balancers {
			if w.balancers[i].ID != id {
				continue
			}
			switch w.balancers[i].ProvisioningStatus {
			case "ACTIVE":
				return true, nil
			case "ERROR":
				return false, permanent("openstack: the load balancer %s is in ERROR; the cloud says why only to its administrators; delete it with --cascade, then try again", id)
			}
		}
		return false, nil
	}
}

// dropBalancer deletes the load balancer and its floating IP.
func (j *job) dropBalancer(reason string, balancer, floating stage) []step {
	var out []step
	name := j.names.part("api")
	if f := j.floating[balancerNode]; f != nil {
		out = append(out, step{at: floating, change: remove("floating-ip", name, reason), do: j.deleteFloating(f.ID)})
	}
	if b := j.balancers[name]; b != nil {
		out = append(out, step{at: balancer, change: remove("load-balancer", name, reason), do: j.deleteBalancer(b.ID), ready: func(_ context.Context, w *world) (bool, error) {
			return !slices.ContainsFunc(w.balancers, func(l loadbalancers.LoadBalancer) bool { return l.ID == b.ID && l.ProvisioningStatus != "DELETED" }), nil
		}})
	}
	return out
}

// deleteBalancer deletes it with what is in it; while something is changed in it, it refuses for a moment.
func (j *job) deleteBalancer(id string) func(context.Context) error {
	return func(ctx context.Context) error {
		const looks = 60
		for look := 1; ; look++ {
			err := loadbalancers.Delete(ctx, j.cloud.balancer, id, loadbalancers.DeleteOpts{Cascade: true}).ExtractErr()
			if code(err) != http.StatusConflict || look == looks {
				return gone(ctx, "delete the load balancer "+id, err)
			}
			if err := sleep(ctx, j.p.options.Poll); err != nil {
				return explain(ctx, "delete the load balancer "+id, err)
			}
		}
	}
}
