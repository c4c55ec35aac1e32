// Package vsphere makes or adopts the virtual machines of a cluster under one vCenter, with govmomi. README.md says what it makes,
// by which marks it finds that again, and which privileges it needs.
package vsphere

import (
	"context"
	"fmt"
	"time"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

// Provider makes and adopts virtual machines. Everything that it knows stands in the vCenter; each call signs in and out.
type Provider struct {
	getenv   func(string) string
	patience time.Duration
	// shared is held while what both clusters of a site share is made or taken away: the site's folder, category and attribute.
	shared chan struct{}
}

// New returns the provider. getenv looks up the GOVC_* variables: os.Getenv.
func New(getenv func(string) string) *Provider {
	return &Provider{getenv: getenv, patience: 15 * time.Minute, shared: make(chan struct{}, 1)}
}

// Plan lists what is there and compares it with the inventory. The number of calls does not grow with the machines.
func (p *Provider) Plan(ctx context.Context, r provider.Request) (provider.Plan, error) {
	out := provider.Plan{Changes: []provider.Change{}, Machines: []provider.Machine{}}
	err := p.with(ctx, r, "plan", func(c *client, j job) error {
		s, err := c.survey(ctx, j)
		if err != nil {
			return err
		}
		w, err := c.compare(ctx, s)
		if err != nil {
			return err
		}
		out.Changes = append(out.Changes, w.changes()...)
		out.Machines = append(out.Machines, s.machines()...)
		out.Surplus = s.surplus()
		return nil
	})
	return out, err
}

// Ensure makes what is missing, brings back what has drifted and waits for the guests' addresses.
func (p *Provider) Ensure(ctx context.Context, r provider.Request, report func(provider.Change)) ([]provider.Machine, error) {
	var out []provider.Machine
	err := p.with(ctx, r, "ensure", func(c *client, j job) (err error) {
		out, err = c.ensure(ctx, j, tell(report))
		return err
	})
	return out, err
}

// Retire deletes the virtual machines that were made for the named nodes.
func (p *Provider) Retire(ctx context.Context, r provider.Request, machines []string, report func(provider.Change)) error {
	return p.with(ctx, r, "retire", func(c *client, j job) error { return c.retire(ctx, j, machines, tell(report)) })
}

// PlanDestroy lists what Destroy would delete.
func (p *Provider) PlanDestroy(ctx context.Context, r provider.Request) ([]provider.Change, error) {
	out := []provider.Change{}
	err := p.with(ctx, r, "plan to destroy", func(c *client, j job) error {
		w, err := c.remains(ctx, j)
		if err != nil {
			return err
		}
		out = append(out, w.changes()...)
		return nil
	})
	return out, err
}

// Destroy deletes everything that carries the cluster's marks, and what the site's clusters share when nothing of it is left.
func (p *Provider) Destroy(ctx context.Context, r provider.Request, report func(provider.Change)) error {
	return p.with(ctx, r, "destroy", func(c *client, j job) error { return c.destroy(ctx, j, tell(report)) })
}

// job is one cluster of one site, as a call is asked to look after it.
type job struct {
	inv     *inventory.Inventory
	cluster inventory.ClusterName
	conf    *inventory.Cluster
	vs      *inventory.VSphere
	site    string
	getenv  func(string) string
}

// with signs in, calls do and signs out. The error says what was tried, and whether it helps to try it again.
func (p *Provider) with(ctx context.Context, r provider.Request, what string, do func(*client, job) error) error {
	what = fmt.Sprintf("%s the %s cluster", what, r.Cluster)
	if ctx.Err() != nil {
		return fmt.Errorf("vsphere: %s: %w", what, context.Cause(ctx))
	}
	conf := r.Inventory.Cluster(r.Cluster)
	if conf == nil || conf.Provider.VSphere == nil {
		return fmt.Errorf("vsphere: %s: %s has no such cluster on vSphere: %w", what, r.Inventory.Path, provider.ErrPermanent)
	}
	j := job{
		inv: r.Inventory, cluster: r.Cluster, conf: conf, vs: conf.Provider.VSphere, site: r.Inventory.Metadata.Name, getenv: p.getenv,
	}
	err := func() error {
		a, err := accountOf(j)
		if err != nil {
			return err
		}
		c, err := connect(ctx, a)
		if err != nil {
			return err
		}
		defer c.close()
		c.shared, c.patience = p.shared, p.patience
		return do(c, j)
	}()
	if err == nil {
		return nil
	}
	return explain(ctx, what, err)
}

// tell makes a report function that may be called.
func tell(report func(provider.Change)) func(provider.Change) {
	if report == nil {
		return func(provider.Change) {}
	}
	return report
}

var _ provider.Provider = (*Provider)(nil)
