package openstack

import (
	"context"
	"net/http"
	"net/netip"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/listeners"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/monitors"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// partAPI is the load balancer of the API.
const partAPI = "api"

// providerOVN is the driver whose load balancers know one algorithm only, keep the client's address, filter nothing and make their
// address's port by themselves.
const providerOVN = "ovn"

func (j *job) ovn() bool { return j.spec.LoadBalancer.Provider == providerOVN }

// idle is how long a connection may be silent, in milliseconds: the service's own 50 seconds would end every watch of a quiet resource.
const idle = 10 * 60 * 1000

// planBalancer makes the load balancer of the API, with all that is in it in one request, and keeps its members those control planes
// that the inventory has, and its clients those of apiFrom. One that the inventory does not ask for is left over (plan.go).
func (j *job) planBalancer([]*inventory.Node) ([]step, error) {
	name := j.names.part(partAPI)
	b := j.balancers[name]
	spec := j.spec.LoadBalancer
	if spec == nil {
		return nil, nil
	}
	where := "clusters." + string(j.request.Cluster)
	if j.cloud.balancer == nil {
		return nil, permanent("openstack: %s.provider.openstack.loadBalancer: the cloud has no load balancer service", where)
	}
	if spec.FloatingIP && j.external == "" {
		return nil, permanent("openstack: the load balancer's floating IP needs network.external, the network that it comes from")
	}
	if a, err := netip.ParseAddr(j.cluster.Endpoint.Address); err == nil && !j.cidr.Contains(a) {
		return nil, permanent("openstack: %s.endpoint.address: the load balancer's address %s is not in the machines' subnet %s", where, a, j.cidr)
	}
	var out []step
	if b != nil && b.leaving() {
		out = append(out, stillLeaving(b))
		b = nil
	}
	port := ""
	if p := j.ports[j.names.part(partVIP)]; p != nil && j.reserved() != "" {
		port = p.ID
	}
	if b == nil {
		out = append(out, j.newBalancer(name, &port))
	} else {
		port = b.VipPortID
		steps, err := j.compareBalancer(b)
		if err != nil {
			return nil, err
		}
		out = append(out, steps...)
	}
	after := func() string { return port }
	switch f := j.floating[balancerNode]; {
	case spec.FloatingIP && f == nil:
		out = append(out, j.newFloating(balancerNode, name, stageMarks, after))
	case spec.FloatingIP && !isAt(f, port):
		out = append(out, j.moveFloating(f, balancerNode, name, stageMarks, after))
	case !spec.FloatingIP && f != nil:
		out = append(out, step{at: stageFloating, change: remove("floating-ip", name, "the inventory asks for none any more"), do: j.deleteFloating(f.ID)})
	}
	return out, nil
}

func (j *job) newBalancer(name string, port *string) step {
	var ready func(context.Context, *world) (bool, error)
	return step{
		at: stageBalancer, change: add("load-balancer", name, "the inventory asks for one at %s", j.cluster.Endpoint.Address),
		do: func(ctx context.Context) error {
			if err := j.reread(ctx); err != nil {
				return err
			}
			what := "make the load balancer " + name
			b, err := create(ctx, what, func(ctx context.Context) (*loadbalancers.LoadBalancer, error) {
				b, err := loadbalancers.Create(ctx, j.cloud.balancer, j.balancerOpts(name)).Extract()
				if code(err) == http.StatusNotImplemented && j.spec.LoadBalancer.Provider == "" {
					_, _, _, said := answer(err)
					return nil, permanent("the cloud's own kind of load balancer can not do this: %s; name another one as loadBalancer.provider, or ovn if it is that", said.text)
				}
				return b, err
			}, func(ctx context.Context) (*loadbalancers.LoadBalancer, error) {
				l := loadbalancers.ListOpts{Name: name, Description: j.names.mark(), ProjectID: j.cloud.project}
				return first(ctx, "load balancers", loadbalancers.List(j.cloud.balancer, l), loadbalancers.ExtractLoadBalancers)
			})
			if err == nil {
				*port, ready = b.VipPortID, balancerReady(b.ID)
			}
			return err
		},
		ready: func(ctx context.Context, w *world) (bool, error) { return ready(ctx, w) },
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
	pool := &pools.CreateOpts{
		Name: name, Protocol: pools.ProtocolTCP, LBMethod: pools.LBMethodRoundRobin,
		Monitor: &monitors.CreateOpts{Name: name, Type: monitors.TypeTCP, Delay: 5, Timeout: 3, MaxRetries: 2},
	}
	for _, m := range j.wantedMembers() {
		pool.Members = append(pool.Members, pools.CreateMemberOpts{Name: m.node, Address: m.address, ProtocolPort: apiPort, SubnetID: m.subnet})
	}
	listener := listeners.CreateOpts{Name: name, Protocol: listeners.ProtocolTCP, ProtocolPort: j.cluster.Endpoint.Port, DefaultPool: pool}
	if j.ovn() {
		pool.LBMethod = pools.LBMethodSourceIpPort
	} else {
		silent := idle
		listener.AllowedCIDRs, listener.TimeoutClientData, listener.TimeoutMemberData = j.clients(), &silent, &silent
	}
	o := loadbalancers.CreateOpts{
		Name: name, Description: j.names.mark(), Provider: j.spec.LoadBalancer.Provider, Listeners: []listeners.CreateOpts{listener},
	}
	if p := j.ports[j.names.part(partVIP)]; p != nil && j.reserved() != "" {
		o.VipPortID = p.ID
	} else {
		o.VipSubnetID, o.VipAddress = j.subnet, j.cluster.Endpoint.Address
	}
	return o
}
