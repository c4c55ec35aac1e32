package bootstrap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/bootstrap/remote"
	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

// awaitSSH is how long a new machine may take to boot until it answers on SSH.
const awaitSSH = 5 * time.Minute

// consoleLines is how much of the console of a machine that does not answer is shown.
const consoleLines = 20

// dialling says how new machines are waited for.
type dialling struct {
	bound time.Duration
	// pause is the wait after the first dial that failed; it doubles up to most.
	pause, most time.Duration
}

func defaultDialling() dialling {
	return dialling{bound: awaitSSH, pause: time.Second, most: 8 * time.Second}
}

// awaitFile lists machines that were made and have not answered yet: a run that is cut off leaves it to the next.
func (s *Site) awaitFile() string { return filepath.Join(s.wanted.SiteDir(), "awaited.json") }

func (s *Site) awaited() ([]string, error) {
	data, err := os.ReadFile(s.awaitFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	if err := json.Unmarshal(data, &names); err != nil {
		return nil, fmt.Errorf("%s: %w; remove it", s.awaitFile(), err)
	}
	return names, nil
}

// expect adds machines to those that are waited for.
func (s *Site) expect(names []string) error {
	all, err := s.awaited()
	if err != nil {
		return err
	}
	all = append(all, names...)
	sort.Strings(all)
	return s.await(slices.Compact(all))
}

func (s *Site) await(names []string) error {
	if len(names) == 0 {
		err := os.Remove(s.awaitFile())
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	data, err := json.Marshal(names)
	if err != nil {
		return err
	}
	return pki.WriteFile(s.awaitFile(), append(data, '\n'), 0o600)
}

// awaitMachines waits until SSH of new machines answers, of all at once. deaf tells of those that do not: the others are gone on
// with.
func (s *Site) awaitMachines(ctx context.Context, names []string, emit func(plan.Event)) (deaf, err error) {
	earlier, err := s.awaited()
	if err != nil {
		return nil, err
	}
	names = append(slices.Clone(names), earlier...)
	sort.Strings(names)
	var mu sync.Mutex
	var g errgroup.Group
	var errs []error
	var left []string
	for _, name := range slices.Compact(names) {
		m, ok := s.machines[name]
		if !ok {
			continue // it was taken out of the inventory meanwhile
		}
		g.Go(func() error {
			err := phase(emit, fmt.Sprintf("%s/%s/ssh", m.Cluster, name), "wait until SSH answers", func(func(provider.Change)) error {
				return s.awaitOne(ctx, m)
			})
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs, left = append(errs, err), append(left, name)
			}
			return nil
		})
	}
	_ = g.Wait() // every error is in errs
	sort.Strings(left)
	return errors.Join(errs...), errors.Join(s.await(left), context.Cause(ctx))
}

// awaitOne dials until the machine answers. What is permanent, such as another host key than the pinned one, fails at once.
func (s *Site) awaitOne(ctx context.Context, m provider.Machine) error {
	bounded, cancel := context.WithTimeout(ctx, s.dial.bound)
	defer cancel()
	for pause := s.dial.pause; ; pause = min(2*pause, s.dial.most) {
		err := s.hosts[m.Name].Connect(bounded)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil, !remote.IsPassing(err):
			return err
		}
		select {
		case <-time.After(pause):
			continue
		case <-bounded.Done():
		}
		if ctx.Err() != nil {
			return err
		}
		return fmt.Errorf("%s was made and did not answer on SSH within %s: %w%s", m.Name, s.dial.bound, err, s.console(ctx, m.Cluster, m.Name))
	}
}

// console is the end of a machine's console where its provider has one, for an error.
func (s *Site) console(ctx context.Context, c inventory.ClusterName, machine string) string {
	p, r, err := s.providerOf(c)
	if err != nil {
		return ""
	}
	has, ok := p.(provider.Consoler)
	if !ok {
		return "; look at its console"
	}
	text, err := has.Console(ctx, r, machine, consoleLines)
	if err != nil {
		return fmt.Sprintf("; its console can not be read: %v", err)
	}
	return "; the end of its console:\n" + text
}
