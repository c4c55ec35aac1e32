package openstack

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
)

// whileActive changes something of a load balancer once it takes changes. A refusal because of its state says that somebody else was
// faster, or that a request whose answer was lost is being carried out: the change is asked for again, which does nothing more.
func (j *job) whileActive(ctx context.Context, id, what string, do func(context.Context) error) error {
	const refusals = 10
	begin := time.Now()
	for refused := 0; ; {
		b, err := loadbalancers.Get(ctx, j.cloud.balancer, id).Extract()
		switch {
		case err != nil:
			return explain(ctx, what, err)
		case b.ProvisioningStatus == statusError:
			return broken(id)
		case b.ProvisioningStatus == statusActive:
			if err = do(ctx); code(err) != http.StatusConflict || refused == refusals {
				return explain(ctx, what, err)
			}
			refused++
		case time.Since(begin) > slowest:
			return fmt.Errorf("openstack: %s: it is still %s after %s; look at it in the cloud, then try again: %w", what, b.ProvisioningStatus, slowest, errPassing)
		}
		if err := sleep(ctx, j.p.options.Poll); err != nil {
			return explain(ctx, what, err)
		}
	}
}

func broken(id string) error {
	return permanent("openstack: the load balancer %s is in ERROR; the cloud says why only to its administrators; delete it with --cascade, then try again", id)
}

// balancerReady waits for ACTIVE. One that is in no look any more was deleted by somebody.
func balancerReady(id string) func(context.Context, *world) (bool, error) {
	const looks = 3
	missing := 0
	return func(_ context.Context, w *world) (bool, error) {
		for i := range w.balancers {
			if w.balancers[i].ID != id {
				continue
			}
			missing = 0
			switch w.balancers[i].ProvisioningStatus {
			case statusActive:
				return true, nil
			case statusError:
				return false, broken(id)
			}
			return false, nil
		}
		if missing++; missing == looks {
			return false, fmt.Errorf("openstack: the load balancer %s is not there any more; somebody else deleted it: %w", id, errPassing)
		}
		return false, nil
	}
}

// balancerGone waits until it is deleted.
func balancerGone(id string) func(context.Context, *world) (bool, error) {
	return func(_ context.Context, w *world) (bool, error) {
		for i := range w.balancers {
			b := &w.balancers[i]
			if b.ID != id || b.ProvisioningStatus == statusDeleted {
				continue
			}
			if b.ProvisioningStatus == statusError { // a deletion that was taken on leaves PENDING_DELETE only when it fails
				return false, permanent("openstack: the load balancer %s could not be deleted and is in ERROR; the cloud says why only to its administrators", id)
			}
			return false, nil
		}
		return true, nil
	}
}

// dropBalancer deletes the load balancer and its floating IP.
func (j *job) dropBalancer(reason string, balancer, floating stage) []step {
	var out []step
	name := j.names.part(partAPI)
	if f := j.floating[balancerNode]; f != nil {
		out = append(out, step{at: floating, change: remove("floating-ip", name, reason), do: j.deleteFloating(f.ID)})
	}
	if b := j.balancers[name]; b != nil {
		out = append(out, step{at: balancer, change: remove("load-balancer", name, reason), do: j.deleteBalancer(b.ID), ready: balancerGone(b.ID)})
	}
	return out
}

// deleteBalancer deletes it with what is in it. While it is made or changed it refuses, and that takes as long as it takes.
func (j *job) deleteBalancer(id string) func(context.Context) error {
	what := "delete the load balancer " + id
	return func(ctx context.Context) error {
		begin := time.Now()
		for {
			b, err := loadbalancers.Get(ctx, j.cloud.balancer, id).Extract()
			if err != nil {
				return gone(ctx, what, err)
			}
			switch b.ProvisioningStatus {
			case statusDeleting, statusDeleted:
				return nil
			case statusActive, statusError:
				err = loadbalancers.Delete(ctx, j.cloud.balancer, id, loadbalancers.DeleteOpts{Cascade: true}).ExtractErr()
				if code(err) != http.StatusConflict {
					return gone(ctx, what, err)
				}
			}
			if time.Since(begin) > slowest {
				return fmt.Errorf("openstack: %s: it is still %s after %s; look at it in the cloud, then try again: %w", what, b.ProvisioningStatus, slowest, errPassing)
			}
			if err := sleep(ctx, j.p.options.Poll); err != nil {
				return explain(ctx, what, err)
			}
		}
	}
}

// stillLeaving waits for one whose deletion a run before has begun.
func stillLeaving(b *balancer) step {
	return step{at: stageClean, ready: balancerGone(b.ID)}
}
