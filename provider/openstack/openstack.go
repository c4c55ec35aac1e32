// Package openstack makes the machines of a cluster exist in an OpenStack project, or adopts servers that are there.
//
// Nothing is remembered outside of the cloud. What belongs to a cluster is told by its name and its mark, which are given in the
// request that makes it (names.go), so that a run that was cut off between any two requests is gone on with by the next one.
package openstack

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/catamaran-k8s/catamaran/provider"
)

// Options are for programs that are not the command line.
type Options struct {
	// CloudsFile is read instead of the clouds.yaml that the openstack command would find. secure.yaml is looked for beside it.
	CloudsFile string
	// Poll is the time between two looks at what is being made or deleted. Default 2s.
	Poll time.Duration
	// Timeout bounds one request with its answer. Default 60s.
	Timeout time.Duration
	// Transport wraps the connection to the APIs: it sees each single request, repetitions too. Default: none.
	Transport func(http.RoundTripper) http.RoundTripper
}

// Provider makes or adopts servers. It holds sessions with clouds, and nothing else.
type Provider struct {
	options Options

	mu    sync.Mutex
	cloud map[string]*cloud      // by the name in clouds.yaml
	sites map[string]*sync.Mutex // what both clusters of a site share is made by one call at a time
}

// New returns the provider.
func New(o Options) *Provider {
	if o.Poll <= 0 {
		o.Poll = 2 * time.Second
	}
	if o.Timeout <= 0 {
		o.Timeout = time.Minute
	}
	return &Provider{options: o, cloud: map[string]*cloud{}, sites: map[string]*sync.Mutex{}}
}

// begin checks the request and signs in.
func (p *Provider) begin(ctx context.Context, r provider.Request) (*job, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("openstack: %w", err)
	}
	c := r.Inventory.Cluster(r.Cluster)
	if c == nil {
		return nil, permanent("openstack: %s: there is no %s cluster in the inventory", r.Inventory.Path, r.Cluster)
	}
	if c.Provider.OpenStack == nil {
		return nil, permanent("openstack: %s: clusters.%s.provider.openstack is not set", r.Inventory.Path, r.Cluster)
	}
	session, err := p.session(ctx, c.Provider.OpenStack.Cloud)
	if err != nil {
		return nil, err
	}
	return &job{
		p: p, cloud: session, request: r, cluster: c, spec: c.Provider.OpenStack,
		names:      names{site: r.Inventory.Metadata.Name, cluster: r.Cluster},
		portOf:     map[string]string{},
		volumeOf:   map[string]string{},
		poolGroup:  map[string]string{},
		securityBy: map[string]string{},
	}, nil
}

// site is the lock of what both clusters of a site share.
func (p *Provider) site(j *job) *sync.Mutex {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := j.cloud.project + " " + j.names.site
	if p.sites[key] == nil {
		p.sites[key] = &sync.Mutex{}
	}
	return p.sites[key]
}

// Plan looks, and does nothing. The number of requests does not depend on the number of servers.
func (p *Provider) Plan(ctx context.Context, r provider.Request) (provider.Plan, error) {
	j, err := p.begin(ctx, r)
	if err != nil {
		return provider.Plan{}, err
	}
	if err := j.observe(ctx, true); err != nil {
		return provider.Plan{}, err
	}
	steps, err := j.planEnsure()
	if err != nil {
		return provider.Plan{}, err
	}
	return provider.Plan{Changes: changes(steps), Machines: j.machines(), Surplus: j.surplus()}, nil
}

// Ensure makes the machines of present nodes exist and waits until they run.
func (p *Provider) Ensure(ctx context.Context, r provider.Request, report func(provider.Change)) ([]provider.Machine, error) {
	j, err := p.begin(ctx, r)
	if err != nil {
		return nil, err
	}
	done, rest, err := j.shared(ctx)
	tell(report, done)
	if err != nil {
		return nil, err
	}
	if err := j.run(ctx, rest, report); err != nil {
		return nil, err
	}
	if len(done) == 0 && len(changes(rest)) == 0 {
		return j.machines(), nil
	}
	return j.settle(ctx, report)
}

// shared makes what both clusters of the site use, under the site's lock, and returns what it did and the steps that are left.
func (j *job) shared(ctx context.Context) (done []provider.Change, rest []step, err error) {
	lock := j.p.site(j)
	lock.Lock()
	defer lock.Unlock()
	if err := j.observe(ctx, true); err != nil {
		return nil, nil, err
	}
	steps, err := j.planEnsure()
	if err != nil {
		return nil, nil, err
	}
	if err := j.checkQuota(ctx, steps); err != nil {
		return nil, nil, err
	}
	var first []step
	for _, s := range steps {
		if s.at <= stageRules {
			first = append(first, s)
		} else {
			rest = append(rest, s)
		}
	}
	var mu sync.Mutex // the changes are told when the lock is free again
	err = j.run(ctx, first, func(c provider.Change) {
		mu.Lock()
		defer mu.Unlock()
		done = append(done, c)
	})
	return done, rest, err
}

// settle looks once more after something was made. A request whose answer was lost in a run before may have made a second one of
// something in the meantime; it goes now.
func (j *job) settle(ctx context.Context, report func(provider.Change)) ([]provider.Machine, error) {
	if err := j.observe(ctx, true); err != nil {
		return nil, err
	}
	if err := j.duplicates.err(); err != nil {
		return nil, err
	}
	if err := j.run(ctx, j.duplicates.steps, report); err != nil {
		return nil, err
	}
	return j.machines(), nil
}

// Retire deletes what was made for the named machines.
func (p *Provider) Retire(ctx context.Context, r provider.Request, machines []string, report func(provider.Change)) error {
	j, err := p.begin(ctx, r)
	if err != nil {
		return err
	}
	if err := j.observe(ctx, false); err != nil {
		return err
	}
	return j.run(ctx, j.planRetire(machines), report)
}

// PlanDestroy returns what Destroy would do.
func (p *Provider) PlanDestroy(ctx context.Context, r provider.Request) ([]provider.Change, error) {
	j, err := p.begin(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := j.observe(ctx, false); err != nil {
		return nil, err
	}
	return changes(j.planDestroy()), nil
}

// Destroy deletes what was made for the cluster. What both clusters of the site use goes with the last of them.
func (p *Provider) Destroy(ctx context.Context, r provider.Request, report func(provider.Change)) error {
	j, err := p.begin(ctx, r)
	if err != nil {
		return err
	}
	if err := j.observe(ctx, false); err != nil {
		return err
	}
	var own []step
	for _, s := range j.planDestroy() {
		if s.at < stageGone {
			own = append(own, s)
		}
	}
	if err := j.run(ctx, own, report); err != nil {
		return err
	}
	done, err := j.destroyShared(ctx)
	tell(report, done)
	return err
}

// destroyShared deletes what no other cluster of the site uses, after a new look, under the site's lock.
func (j *job) destroyShared(ctx context.Context) (done []provider.Change, err error) {
	lock := j.p.site(j)
	lock.Lock()
	defer lock.Unlock()
	if err := j.observe(ctx, false); err != nil {
		return nil, err
	}
	var mu sync.Mutex
	err = j.run(ctx, j.planDestroy(), func(c provider.Change) {
		mu.Lock()
		defer mu.Unlock()
		done = append(done, c)
	})
	if err != nil {
		return done, err
	}
	return done, j.strangersLeft()
}

func tell(report func(provider.Change), done []provider.Change) {
	if report == nil {
		return
	}
	for _, c := range done {
		report(c)
	}
}

// permanent is an error that trying again can not mend.
func permanent(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, provider.ErrPermanent)...)
}

var (
	_ provider.Provider = (*Provider)(nil)
	_ provider.Consoler = (*Provider)(nil)
)
