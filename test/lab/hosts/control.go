package hosts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/catamaran-k8s/catamaran/test/lab/hosts/network"
)

// powerOffTimeout bounds an orderly shutdown: units get 10 s to stop, see the root file system's lab.conf.
const powerOffTimeout = 60 * time.Second

// each does the same to several hosts at once. One host's failure stops no other.
func (l *Lab) each(names []string, do func(Host) error) error {
	hosts := make([]Host, len(names))
	for i, n := range names {
		h, err := l.Host(n)
		if err != nil {
			return err
		}
		hosts[i] = h
	}
	if len(hosts) == 0 {
		return errors.New("name at least one host")
	}
	release, err := l.lockLab(false)
	if err != nil {
		return err
	}
	defer release()
	return together(hosts, do)
}

func together(hosts []Host, do func(Host) error) error {
	errs := make([]error, len(hosts))
	var wg sync.WaitGroup
	for i, h := range hosts {
		wg.Go(func() { errs[i] = do(h) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// supervision reads what a host's supervisor told last; nothing for a host that was never started.
func (l *Lab) supervision(host string) (supervision, error) {
	var s supervision
	path := l.hostDir(host, "supervisor.json")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// Start boots hosts that are off and waits until they answer on SSH. Those that run are left alone.
func (l *Lab) Start(ctx context.Context, names ...string) error {
	return l.each(names, func(h Host) error {
		release, err := l.lockHost(h.Name)
		if err != nil {
			return err
		}
		defer release()
		_, err = l.start(ctx, h)
		return err
	})
}

// start boots one host, if it is off, and says whether it did. The host's lock must be held.
func (l *Lab) start(ctx context.Context, h Host) (started bool, err error) {
	s, err := l.supervision(h.Name)
	if err != nil {
		return false, err
	}
	group, err := l.group(h.Name)
	if err != nil {
		return false, err
	}
	if s.Supervisor.Alive() {
		if frozen, err := group.Frozen(); err == nil && frozen {
			return false, fmt.Errorf("%s is paused: resume it", h.Name)
		}
		return false, l.awaitUnlessUnplugged(ctx, h, nil)
	}
	cmd, err := l.spawn(h) // its first act is to clear away what an earlier run left
	if err != nil {
		return false, err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended stands in its file and on the console
		close(ended)
	}()
	// until it has told its name, nobody else could find it
	for s.Supervisor.PID != cmd.Process.Pid {
		select {
		case <-ended:
			return true, fmt.Errorf("%s: its supervisor did not start; %s", h.Name, l.consoleTail(h.Name))
		case <-ctx.Done():
			return true, ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
		if s, err = l.supervision(h.Name); err != nil {
			return true, err
		}
	}
	return true, l.awaitUnlessUnplugged(ctx, h, ended)
}

func (l *Lab) awaitUnlessUnplugged(ctx context.Context, h Host, ended <-chan struct{}) error {
	if l.partitioned(h.Name) {
		return nil // nobody can see it answer
	}
	return l.await(ctx, h.Name, h.login(), ended)
}

// Stop powers hosts off in order and waits until they are off.
func (l *Lab) Stop(ctx context.Context, names ...string) error {
	return l.each(names, func(h Host) error {
		release, err := l.lockHost(h.Name)
		if err != nil {
			return err
		}
		defer release()
		return l.stop(ctx, h, powerOffTimeout)
	})
}

func (l *Lab) stop(ctx context.Context, h Host, timeout time.Duration) error {
	s, err := l.supervision(h.Name)
	if err != nil {
		return err
	}
	if !s.Supervisor.Alive() {
		return l.clearUnsupervised(ctx, h)
	}
	group, err := l.group(h.Name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := group.Thaw(ctx); err != nil {
		return err
	}
	if err := s.Supervisor.Signal(signalPowerOff); err != nil {
		return l.clearUnsupervised(ctx, h) // it has ended just now
	}
	if err := s.Supervisor.Wait(ctx); err != nil {
		return fmt.Errorf("%s did not power off within %s: %w; `kill` cuts its power", h.Name, timeout, err)
	}
	return l.failed(h.Name)
}

// Kill cuts the power of hosts: all processes end at once, none is told. What they wrote is on the disk nevertheless,
// because the machine's page cache lives on: lost writes are not shown.
func (l *Lab) Kill(ctx context.Context, names ...string) error {
	return l.each(names, func(h Host) error { return l.kill(ctx, h) })
}

func (l *Lab) kill(ctx context.Context, h Host) error {
	s, err := l.supervision(h.Name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, powerOffTimeout)
	defer cancel()
	if s.Supervisor.Signal(signalPowerCut) != nil {
		return l.clearUnsupervised(ctx, h)
	}
	if err := s.Supervisor.Wait(ctx); err != nil {
		return fmt.Errorf("%s: its supervisor (process %d) does not end: %w", h.Name, s.Supervisor.PID, err)
	}
	return l.failed(h.Name)
}

// clearUnsupervised cuts the power of a host whose supervisor was killed, and removes what both left.
func (l *Lab) clearUnsupervised(ctx context.Context, h Host) error {
	group, err := l.group(h.Name)
	if err != nil {
		return err
	}
	return clearHost(ctx, group, l.link(h.Name), l.link(h.Name), true)
}

// failed returns the supervisor's own failure, if it had one.
func (l *Lab) failed(host string) error {
	s, err := l.supervision(host)
	if err == nil && len(s.Ended) > 7 && s.Ended[:7] == "failed:" {
		err = fmt.Errorf("%s: %s", host, s.Ended)
	}
	return err
}

// Reset gives hosts a fresh disk, as if they were installed again. Names, addresses, machine ids and host keys stay.
// Hosts that ran are cut off and booted again.
func (l *Lab) Reset(ctx context.Context, names ...string) error {
	return l.each(names, func(h Host) error {
		release, err := l.lockHost(h.Name)
		if err != nil {
			return err
		}
		defer release()
		s, err := l.supervision(h.Name)
		if err != nil {
			return err
		}
		ran := s.Supervisor.Alive()
		if err := l.kill(ctx, h); err != nil {
			return err
		}
		if err := os.RemoveAll(l.hostDir(h.Name, "disk")); err != nil {
			return err
		}
		if ran {
			_, err = l.start(ctx, h)
		}
		return err
	})
}

// freezeTimeout bounds Pause: a process in the kernel stands still only when it comes back.
const freezeTimeout = 20 * time.Second

// Pause freezes hosts: nothing on them runs, they answer nothing, and connections to them stay open.
func (l *Lab) Pause(ctx context.Context, names ...string) error {
	return l.each(names, func(h Host) error {
		s, err := l.supervision(h.Name)
		if err != nil {
			return err
		}
		if !s.Supervisor.Alive() {
			return fmt.Errorf("%s is off", h.Name)
		}
		group, err := l.group(h.Name)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, freezeTimeout)
		defer cancel()
		if err := group.Freeze(ctx); err != nil {
			thaw, done := context.WithTimeout(context.WithoutCancel(ctx), freezeTimeout)
			defer done()
			return errors.Join(err, group.Thaw(thaw))
		}
		return nil
	})
}

// Resume ends a pause.
func (l *Lab) Resume(ctx context.Context, names ...string) error {
	return l.each(names, func(h Host) error {
		group, err := l.group(h.Name)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, freezeTimeout)
		defer cancel()
		return group.Thaw(ctx)
	})
}

// Partition pulls hosts' network cables: they run on, and nothing reaches them or comes from them, over reboots too,
// until Heal.
func (l *Lab) Partition(ctx context.Context, names ...string) error {
	return l.each(names, func(h Host) error {
		if err := writeFile(l.partitionFile(h.Name), nil, 0o644); err != nil {
			return err
		}
		return l.setCable(ctx, h, false)
	})
}

// Heal plugs them in again.
func (l *Lab) Heal(ctx context.Context, names ...string) error {
	return l.each(names, func(h Host) error {
		if err := os.Remove(l.partitionFile(h.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return l.setCable(ctx, h, true)
	})
}

func (l *Lab) partitionFile(host string) string { return l.hostDir(host, "partitioned") }

func (l *Lab) partitioned(host string) bool {
	_, err := os.Stat(l.partitionFile(host))
	return err == nil
}

// setCable changes a running host's cable; one that is off gets it right when it boots.
func (l *Lab) setCable(ctx context.Context, h Host, up bool) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		s, err := l.supervision(h.Name)
		if err != nil || !s.Supervisor.Alive() {
			return err
		}
		err = network.SetUp(l.link(h.Name), up)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond): // between two boots it has none
		}
	}
}
