// Package external is the provider whose platform is a program of the site's own: each call is one process, which reads a
// JSON request and writes JSON lines. README.md describes it for who writes such a program.
package external

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

// Options are a provider's; the zero value is good.
type Options struct {
	// Log is told a program's progress, line by line. It may be nil and is called by several goroutines.
	Log func(line string)
	// Grace is how long a program may take to end after SIGTERM, before its whole process group is killed. Default 10 s.
	Grace time.Duration
}

// Provider runs the program that a cluster's inventory names. It has no state.
type Provider struct{ options Options }

// New returns the provider.
func New(o Options) *Provider {
	if o.Log == nil {
		o.Log = func(string) {}
	}
	if o.Grace == 0 {
		o.Grace = 10 * time.Second
	}
	return &Provider{options: o}
}

// Plan implements provider.Provider.
func (p *Provider) Plan(ctx context.Context, r provider.Request) (provider.Plan, error) {
	c, err := p.prepare(ctx, r, CallPlan)
	if err != nil {
		return provider.Plan{}, err
	}
	res, err := c.run(ctx, nil)
	if err != nil {
		return provider.Plan{}, err
	}
	out := provider.Plan{}
	if out.Changes, err = c.changes(res); err != nil {
		return provider.Plan{}, err
	}
	if out.Machines, err = c.machines(res.Machines, false); err != nil {
		return provider.Plan{}, err
	}
	if out.Surplus, err = c.surplus(res.Surplus); err != nil {
		return provider.Plan{}, err
	}
	return out, nil
}

// Ensure implements provider.Provider.
func (p *Provider) Ensure(ctx context.Context, r provider.Request, report func(provider.Change)) ([]provider.Machine, error) {
	c, err := p.prepare(ctx, r, CallEnsure)
	if err != nil {
		return nil, err
	}
	res, err := c.run(ctx, report)
	if err != nil {
		return nil, err
	}
	return c.machines(res.Machines, true)
}

// Retire implements provider.Provider.
func (p *Provider) Retire(ctx context.Context, r provider.Request, machines []string, report func(provider.Change)) error {
	c, err := p.prepare(ctx, r, CallRetire)
	if err != nil {
		return err
	}
	c.request.Machines = machines
	_, err = c.run(ctx, report)
	return err
}

// PlanDestroy implements provider.Provider.
func (p *Provider) PlanDestroy(ctx context.Context, r provider.Request) ([]provider.Change, error) {
	c, err := p.prepare(ctx, r, CallPlanDestroy)
	if err != nil {
		return nil, err
	}
	res, err := c.run(ctx, nil)
	if err != nil {
		return nil, err
	}
	return c.changes(res)
}

// Destroy implements provider.Provider.
func (p *Provider) Destroy(ctx context.Context, r provider.Request, report func(provider.Change)) error {
	c, err := p.prepare(ctx, r, CallDestroy)
	if err != nil {
		return err
	}
	_, err = c.run(ctx, report)
	return err
}

// Console implements provider.Consoler. A program that shows none answers with an error.
func (p *Provider) Console(ctx context.Context, r provider.Request, machine string, lines int) (string, error) {
	c, err := p.prepare(ctx, r, CallConsole)
	if err != nil {
		return "", err
	}
	c.request.Machine, c.request.Lines = machine, lines
	res, err := c.run(ctx, nil)
	if err != nil {
		return "", err
	}
	all := strings.SplitAfter(res.Text, "\n")
	if all[len(all)-1] == "" {
		all = all[:len(all)-1]
	}
	return strings.Join(all[max(0, len(all)-max(lines, 0)):], ""), nil
}

// call is one process to be.
type call struct {
	options Options
	command []string
	dir     string
	request Request
	nodes   []inventory.Node
}

// prepare makes the request. It fails where there is nothing to ask.
func (p *Provider) prepare(ctx context.Context, r provider.Request, name string) (*call, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("external: %s: %w", name, context.Cause(ctx))
	}
	cluster := r.Inventory.Cluster(r.Cluster)
	if cluster == nil {
		return nil, permanent("external: %s: there is no %s cluster in the inventory", r.Inventory.Path, r.Cluster)
	}
	e := cluster.Provider.External
	if e == nil || len(e.Command) == 0 {
		return nil, permanent("external: %s: clusters.%s.provider.external.command names no program", r.Inventory.Path, r.Cluster)
	}
	c := &call{options: p.options, command: e.Command, dir: r.Inventory.Dir, nodes: cluster.Nodes}
	c.request = Request{
		APIVersion: APIVersion, Call: name, Site: r.Inventory.Metadata.Name, Cluster: r.Cluster, Config: e.Config, Nodes: []Node{},
		SSH: access(r.Inventory.SSHFor(r.Cluster, nil)),
	}
	for i := range cluster.Nodes {
		n := &cluster.Nodes[i]
		node := Node{Name: n.Name, Role: n.Role, Pool: n.Pool, State: n.State, Address: n.Address, HostKey: n.HostKey, External: n.External}
		if n.SSH != nil {
			if own := access(r.Inventory.SSHFor(r.Cluster, n)); !reflect.DeepEqual(own, c.request.SSH) {
				node.SSH = &own
			}
		}
		c.request.Nodes = append(c.request.Nodes, node)
	}
	return c, nil
}

// what begins every error of a call.
func (c *call) what() string { return fmt.Sprintf("external: %s: %s", c.command[0], c.request.Call) }

// permanent is an error that trying again does not mend.
func permanent(format string, args ...any) error {
	return fmt.Errorf("%w: %w", fmt.Errorf(format, args...), provider.ErrPermanent)
}

// broken is an error of the program's author: what it says is not what it must say.
func (c *call) broken(format string, args ...any) error {
	return fmt.Errorf("%s: the program does not keep to provider/external/README.md: %w: %w", c.what(), fmt.Errorf(format, args...), provider.ErrPermanent)
}

// ended is the error of a call whose context ended, whatever the program said of it.
func (c *call) ended(ctx context.Context, said error) error {
	cause := context.Cause(ctx)
	if said == nil || errors.Is(said, cause) {
		return fmt.Errorf("%s: stopped: %w", c.what(), cause)
	}
	return fmt.Errorf("%s: stopped: %w (the program: %s)", c.what(), cause, strings.TrimPrefix(said.Error(), c.what()+": "))
}

var (
	_ provider.Provider = (*Provider)(nil)
	_ provider.Consoler = (*Provider)(nil)
)
