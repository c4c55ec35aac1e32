package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/bootstrap/remote"
	"github.com/catamaran-k8s/catamaran/embedded"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// Plan observes all machines and returns what Apply would do. Nothing is changed anywhere.
func (s *Site) Plan(ctx context.Context) (plan.Plan, error) {
	if err := s.FindMachines(ctx); err != nil {
		return plan.Plan{}, err
	}
	return s.planFound(ctx)
}

// planFound observes the machines that were found, and plans.
func (s *Site) planFound(ctx context.Context) (plan.Plan, error) {
	if !s.formable() {
		return s.preview(), nil
	}
	o, err := s.Observe(ctx)
	if err != nil {
		return plan.Plan{}, err
	}
	return s.planOf(ctx, o)
}

// preview is the plan of a site in which a cluster has no control plane's machine yet: addresses that everything is made from are
// not known.
func (s *Site) preview() plan.Plan {
	p := plan.Preview(plan.Input{Inventory: s.Inventory, Changes: s.found.changes(), Pending: s.found.pending(s.wanted)})
	for _, w := range s.Warnings {
		p.Warnings = append(p.Warnings, w.String())
	}
	return p
}

func (s *Site) planOf(ctx context.Context, o Observation) (plan.Plan, error) {
	in, err := s.input(ctx, o)
	if err != nil {
		return plan.Plan{}, err
	}
	if in.Local.Platform, err = s.platformFacts(in.Releases); err != nil {
		return plan.Plan{}, err
	}
	p, err := plan.Make(in)
	for _, w := range s.Warnings {
		p.Warnings = append(p.Warnings, w.String())
	}
	return p, err
}

// input gathers all that a plan is made from.
func (s *Site) input(ctx context.Context, o Observation) (plan.Input, error) {
	in := plan.Input{
		Inventory: s.Inventory, Bundle: s.Bundle, Machines: s.machines, Facts: o.Facts, Unreachable: o.Unreachable,
		Releases: map[inventory.ClusterName][]embedded.Release{}, AuditPolicies: map[inventory.ClusterName]string{},
		Changes: s.found.changes(), Pending: s.found.pending(s.wanted), Surplus: s.found.surplus(),
		Now: time.Now(),
	}
	var err error
	if in.Local, err = s.localFacts(); err != nil {
		return in, err
	}
	for _, c := range s.Inventory.ClusterNames() {
		if in.Releases[c], err = s.releases(ctx, c); err != nil {
			return in, err
		}
		if in.AuditPolicies[c], err = s.auditPolicy(c); err != nil {
			return in, err
		}
	}
	return in, nil
}

// ApplyOptions say how an apply behaves.
type ApplyOptions struct {
	// Saved, when set, is the plan that was approved; apply refuses when planning again gives another.
	Saved *plan.Plan
	// ApproveMachines is shown what the providers would change and says whether to go on; nil goes on. Nothing was made before.
	ApproveMachines func(plan.Plan) (bool, error)
	// Approve is shown the plan and says whether to go on; nil goes on.
	Approve func(plan.Plan) (bool, error)
	// Waiting is told of nodes on which a step of an earlier run is still running.
	Waiting func(node, unit string)
	// Events receive every step's begin, output and end.
	Events func(plan.Event)
	// Parallel bounds how many steps run at once; 0: as many as there are.
	Parallel int
	Version  string
}

// Apply brings the site to what the inventory wants. The summary tells what happened also when the error is not nil.
func (s *Site) Apply(ctx context.Context, o ApplyOptions) (plan.Plan, plan.Summary, error) {
	return s.change(ctx, "apply", o, s.makeMachines, func(obs Observation) (plan.Plan, error) { return s.planOf(ctx, obs) })
}

// machinesFirst sees to machines before anything is observed. It returns false where the operator does not want to go on, and what
// happened to machines that do not answer; the others are seen to all the same.
type machinesFirst func(context.Context, *ApplyOptions) (p plan.Plan, goOn bool, deaf, err error)

// noMachines is for commands that never make a machine.
func (s *Site) noMachines(context.Context, *ApplyOptions) (plan.Plan, bool, error, error) {
	return plan.Plan{}, true, nil, nil
}

// change is the one way to change a site: take the site's lock, see to its machines, wait for steps that an earlier run left
// running, take the machines' locks, plan, have the plan approved, and carry it out.
func (s *Site) change(ctx context.Context, command string, o ApplyOptions, first machinesFirst, makePlan func(Observation) (plan.Plan, error)) (plan.Plan, plan.Summary, error) {
	lock, err := plan.Acquire(s.Inventory.SiteDir(), s.holder(command))
	if err != nil {
		return plan.Plan{}, plan.Summary{}, err
	}
	defer lock.Release()
	// as it is now that nobody else changes it
	if err := s.openVault(); err != nil {
		return plan.Plan{}, plan.Summary{}, err
	}
	if err := s.lookForMachines(ctx); err != nil {
		return plan.Plan{}, plan.Summary{}, err
	}
	p, goOn, deaf, err := first(ctx, &o)
	if err != nil || !goOn {
		return p, plan.Summary{}, err
	}
	p, sum, err := s.changeFound(ctx, command, o, makePlan)
	return p, sum, errors.Join(err, deaf)
}

// changeFound is change once the machines are there.
func (s *Site) changeFound(ctx context.Context, command string, o ApplyOptions, makePlan func(Observation) (plan.Plan, error)) (plan.Plan, plan.Summary, error) {
	obs, err := s.settle(ctx, o.Waiting)
	if err != nil {
		return plan.Plan{}, plan.Summary{}, err
	}
	release, err := s.lockHosts(ctx, obs, command)
	if err != nil {
		return plan.Plan{}, plan.Summary{}, err
	}
	defer release()
	p, err := makePlan(obs)
	if err != nil {
		return p, plan.Summary{}, err
	}
	if o.Saved != nil {
		if diff := plan.Moved(*o.Saved, p); len(diff) > 0 {
			return p, plan.Summary{}, &MovedError{Differences: diff}
		}
	}
	if o.Approve != nil && len(p.Steps) > 0 {
		ok, err := o.Approve(p)
		if err != nil || !ok {
			return p, plan.Summary{}, err
		}
	}
	if len(p.Steps) == 0 {
		return p, plan.Summary{}, nil
	}
	sum, err := s.run(ctx, p, o)
	return p, sum, err
}

// run carries a plan out under the journal.
func (s *Site) run(ctx context.Context, p plan.Plan, o ApplyOptions) (plan.Summary, error) {
	redactor := pki.NewRedactor()
	if s.vault != nil {
		for _, c := range s.Inventory.ClusterNames() {
			if sec, err := s.secrets(c); err == nil {
				redactor.AddSecrets(sec)
			}
		}
		if p, ok := s.vault.Platform(); ok {
			redactor.AddPlatform(p)
		}
	}
	journal, err := s.openJournal(o.Version, p)
	if err != nil {
		return plan.Summary{}, err
	}
	plan.Bind(&p, newEnvironment(s, redactor))
	sum, err := plan.Run(ctx, p, plan.RunOptions{
		Parallel: o.Parallel,
		Events: func(e plan.Event) {
			e = redact(redactor, e)
			journal.Record(e)
			if o.Events != nil {
				o.Events(e)
			}
		},
	})
	for i := range sum.Outcomes {
		if err := sum.Outcomes[i].Err; err != nil {
			sum.Outcomes[i].Err = &redactedError{redactor.Text(err.Error()), err}
		}
	}
	return sum, errors.Join(err, journal.Close())
}

// redactedError shows a cause without the secrets in it.
type redactedError struct {
	text  string
	cause error
}

func (e *redactedError) Error() string { return e.text }
func (e *redactedError) Unwrap() error { return e.cause }

// settle observes, waits for units that an earlier run left running on hosts, and observes again.
func (s *Site) settle(ctx context.Context, waiting func(node, unit string)) (Observation, error) {
	for {
		o, err := s.Observe(ctx)
		if err != nil {
			return o, err
		}
		var g errgroup.Group
		busy := false
		for node, f := range o.Facts {
			for _, unit := range f.Running {
				busy = true
				if waiting != nil {
					waiting(node, unit)
				}
				g.Go(func() error {
					_, err := remote.WaitUnit(ctx, s.hosts[node], unit, nil)
					return err
				})
			}
		}
		if !busy {
			return o, nil
		}
		if err := g.Wait(); err != nil {
			return o, fmt.Errorf("wait for a step of an earlier run: %w", err)
		}
	}
}

// MovedError says that the machines are no longer as they were when the plan was saved.
type MovedError struct{ Differences []string }

func (e *MovedError) Error() string {
	s := "the site moved since the plan was saved; plan again:"
	for _, d := range e.Differences {
		s += "\n  " + d
	}
	return s
}
