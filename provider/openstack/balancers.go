package openstack

import (
	"context"
	"net/http"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/listeners"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"
)

// balancer is a load balancer with those of its parts that are ours.
type balancer struct {
	loadbalancers.LoadBalancer
	listener *listeners.Listener
	pool     *pools.Pool
	members  []pools.Member
}

// Words of the service for what a load balancer is in. While one is PENDING_*, it takes no change.
const (
	statusActive   = "ACTIVE"
	statusError    = "ERROR"
	statusDeleting = "PENDING_DELETE"
	statusDeleted  = "DELETED"
)

// leaving is one that is being deleted, or was.
func (b *balancer) leaving() bool {
	return b.ProvisioningStatus == statusDeleting || b.ProvisioningStatus == statusDeleted
}

// listBalancers finds the cluster's load balancer. To look takes a role of its own, which nobody needs who asks for none.
func (j *job) listBalancers(ctx context.Context, w *world) error {
	w.balancers, w.hidden = nil, false
	if j.cloud.balancer == nil {
		return nil
	}
	o := loadbalancers.ListOpts{ProjectID: j.cloud.project, Name: j.names.part(partAPI)}
	page, err := loadbalancers.List(j.cloud.balancer, o).AllPages(ctx)
	if code(err) == http.StatusForbidden && j.spec.LoadBalancer == nil {
		w.hidden = true
		return nil
	}
	var all []loadbalancers.LoadBalancer
	if err == nil {
		all, err = loadbalancers.ExtractLoadBalancers(page)
	}
	for _, b := range all {
		w.balancers = append(w.balancers, balancer{LoadBalancer: b})
	}
	return explain(ctx, "list load balancers", err)
}

// observeBalancers looks at what is in them too, which who deletes need not know.
func (j *job) observeBalancers(ctx context.Context, w *world, parts bool) error {
	if err := j.listBalancers(ctx, w); err != nil || !parts || j.spec.LoadBalancer == nil {
		return err
	}
	for i := range w.balancers {
		if b := &w.balancers[i]; !b.leaving() {
			if err := j.listParts(ctx, b); err != nil {
				return err
			}
		}
	}
	return nil
}

// listParts finds the listener and the pool by their name, since somebody may have put others beside them, and the pool's members.
func (j *job) listParts(ctx context.Context, b *balancer) error {
	var err error
	l := listeners.List(j.cloud.balancer, listeners.ListOpts{LoadbalancerID: b.ID, Name: b.Name})
	if b.listener, err = first(ctx, "listeners of the load balancer", l, listeners.ExtractListeners); err != nil {
		return err
	}
	p := pools.List(j.cloud.balancer, pools.ListOpts{LoadbalancerID: b.ID, Name: b.Name})
	if b.pool, err = first(ctx, "pools of the load balancer", p, pools.ExtractPools); err != nil || b.pool == nil {
		return err
	}
	m := pools.ListMembers(j.cloud.balancer, b.pool.ID, pools.ListMembersOpts{})
	return list(ctx, "members of the load balancer", m, pools.ExtractMembers, &b.members)
}

// unseen is an error where a load balancer may be at the port that keeps the API's address, and the credentials may not look. The
// service puts a port that it uses into a security group of its own; ours is in none.
func (j *job) unseen() error {
	if p := j.ports[j.names.part(partVIP)]; p != nil && j.world.hidden && len(p.SecurityGroups) > 0 {
		return permanent("openstack: the port %s (%s) looks as if a load balancer used it, and the credentials may not look at load balancers; give them the role load-balancer_member, then try again",
			p.ID, p.Name)
	}
	return nil
}
