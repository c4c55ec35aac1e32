package openstack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/catamaran-k8s/catamaran/provider"
)

// stage is when a step is done: the steps of one stage at once, the stages one after the other.
type stage int

// Stages of Ensure, then those of Retire and Destroy.
const (
	stageClean      stage = iota // what is broken, left over or there twice
	stageCleanParts              // what such a server leaves behind
	stageNetwork                 // up to the rules it is done under the site's lock
	stageSubnet
	stageRouter
	stageInterface
	stageSecurity
	stageRules
	stageServerGroups
	stageFixedPorts // addresses that the inventory names, before others could be given them
	stagePorts
	stageVolumes
	stageServers
	stageFloating
	stageBalancer
	stageMarks

	stageDropBalancer
	stageDropFloating
	stageDropServers
	stageDropVolumes
	stageDropPorts
	stageDropServerGroups
	stageDropSecurity
	stageGone // from here on what both clusters of a site share
	stageDropInterface
	stageDropRouter
	stageDropSubnet
	stageDropNetwork
)

// polled are the kinds that are looked at while a stage waits.
func (s stage) polled() (servers, volumes, balancers bool) {
	switch s { //nolint:exhaustive // the others wait for nothing
	case stageClean, stageCleanParts:
		return true, true, true
	case stageServers, stageDropServers:
		return true, false, false
	case stageVolumes, stageDropVolumes:
		return false, true, false
	case stageBalancer, stageDropBalancer:
		return false, false, true
	}
	return false, false, false
}

// slowest bounds the wait for one stage; a cloud that needs longer has forgotten what it was asked.
const slowest = 20 * time.Minute

// step is one thing to do.
type step struct {
	at     stage
	node   string          // whose step it is; empty: everybody's
	change provider.Change // without a verb: nothing to tell
	needs  need
	do     func(ctx context.Context) error // nil: it only waits
	// ready tells from a new look whether what was begun is done; nil: it is when do is.
	ready func(ctx context.Context, w *world) (bool, error)
}

func changes(steps []step) []provider.Change {
	out := []provider.Change{}
	for _, s := range steps {
		if s.change.Verb != "" {
			out = append(out, s.change)
		}
	}
	return out
}

// run carries steps out. What fails for one node does not stop the others; what fails for all stops.
func (j *job) run(ctx context.Context, steps []step, report func(provider.Change)) error {
	byStage := map[stage][]step{}
	for _, s := range steps {
		byStage[s.at] = append(byStage[s.at], s)
	}
	failed := map[string]bool{}
	var all []error
	for _, at := range slices.Sorted(maps.Keys(byStage)) {
		todo := slices.DeleteFunc(byStage[at], func(s step) bool { return s.node != "" && failed[s.node] })
		errs := j.runStage(ctx, at, todo, report)
		if ctx.Err() != nil && len(errs) > 0 {
			return fmt.Errorf("openstack: %s: %w", j.names.scope(), context.Cause(ctx))
		}
		for _, i := range slices.Sorted(maps.Keys(errs)) {
			all = append(all, errs[i])
			failed[todo[i].node] = true
		}
		if failed[""] {
			break
		}
	}
	return errors.Join(all...)
}

// runStage returns the errors by the index of their step.
func (j *job) runStage(ctx context.Context, at stage, steps []step, report func(provider.Change)) map[int]error {
	var mu sync.Mutex
	errs := map[int]error{}
	waiting := map[int]bool{}
	tellOne := func(s step) {
		if report != nil && s.change.Verb != "" {
			report(s.change)
		}
	}
	var g errgroup.Group // not one with a context: the others go on
	g.SetLimit(j.cloud.limit)
	for i, s := range steps {
		g.Go(func() error {
			var err error
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			} else if s.do != nil {
				err = s.do(ctx)
			}
			mu.Lock()
			switch {
			case err != nil:
				errs[i] = err
			case s.ready != nil:
				waiting[i] = true
			}
			mu.Unlock()
			if err == nil && s.ready == nil {
				tellOne(s)
			}
			return nil
		})
	}
	_ = g.Wait() // the errors are in errs
	begin := time.Now()
	for len(waiting) > 0 {
		if err := j.look(ctx, at); err != nil {
			return fail(errs, waiting, err)
		}
		for _, i := range slices.Sorted(maps.Keys(waiting)) {
			done, err := steps[i].ready(ctx, j.world)
			if err != nil {
				errs[i] = err
			} else if done {
				tellOne(steps[i])
			}
			if done || err != nil {
				delete(waiting, i)
			}
		}
		if len(waiting) == 0 {
			break
		}
		if time.Since(begin) > slowest {
			return fail(errs, waiting, fmt.Errorf("openstack: %s: %d of %d are not done after %s; look at them in the cloud, then try again",
				j.names.scope(), len(waiting), len(steps), slowest))
		}
		if err := sleep(ctx, j.p.options.Poll); err != nil {
			return fail(errs, waiting, err)
		}
	}
	return errs
}

func fail(errs map[int]error, waiting map[int]bool, err error) map[int]error {
	for i := range waiting {
		errs[i] = err
	}
	return errs
}

// look lists again what a stage waits for: one request for all servers, however many.
func (j *job) look(ctx context.Context, at stage) error {
	s, v, b := at.polled()
	if s {
		if err := j.listServers(ctx, j.world); err != nil {
			return err
		}
	}
	if v {
		if err := j.listVolumes(ctx, j.world); err != nil {
			return err
		}
	}
	if b {
		return j.listBalancers(ctx, j.world)
	}
	return nil
}
