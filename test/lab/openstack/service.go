package openstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/catamaran-k8s/catamaran/test/lab/hosts/process"
)

// Process is a daemon: the leader of a session that all its children are in.
type Process struct {
	Name string     `json:"name"`
	ID   process.ID `json:"id"`
}

// mark is in the environment of everything that a cloud starts, with the cloud's folder.
const mark = "CATAMARAN_LAB_OPENSTACK"

// service is a daemon of this supervisor's.
type service struct {
	name  string
	log   string // what it says on its own
	id    process.ID
	ended chan struct{}
	err   error // after ended
}

// start starts a daemon in a session of its own.
func (s *supervisor) start(name string, env []string, program string, args ...string) (*service, error) {
	log := s.o.path("log", name+".out")
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env = s.o.Dir, append(s.environment(), env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	d := &service{name: name, log: log, ended: make(chan struct{})}
	if d.id, err = process.Of(cmd.Process.Pid); err != nil && !errors.Is(err, process.ErrGone) {
		return nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	go func() {
		d.err = cmd.Wait()
		close(d.ended)
	}()
	s.mu.Lock()
	s.services = append(s.services, d)
	s.state.Processes = append(s.state.Processes, Process{name, d.id})
	s.mu.Unlock()
	return d, s.save()
}

// environment is what daemons see.
func (s *supervisor) environment() []string {
	return []string{
		mark + "=" + s.o.Dir,
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=" + s.o.path("var", "home"), "TMPDIR=" + s.o.path("tmp"),
		"PYTHONPATH=" + s.o.path("standin"), "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1",
		"LAB_SERVERS=" + s.o.path("var", "servers"), "LAB_CONSOLES=" + s.o.path("var", "consoles"), "LAB_FLOATING=" + s.o.path("var", "floating.json"),
		"LAB_COMPUTES=" + strings.Join(s.o.computeHosts(), " "),
	}
}

// once runs a program of the cloud's to its end.
func (s *supervisor) once(ctx context.Context, log string, env []string, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = s.o.Dir, append(s.environment(), env...)
	out, err := cmd.CombinedOutput()
	if werr := appendFile(s.o.path("log", log+".out"), out); err == nil {
		err = werr
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", filepath.Base(program), strings.Join(args, " "), err, tail(out))
	}
	return nil
}

func appendFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// poll is how often it is looked whether something is ready.
const poll = 100 * time.Millisecond

// patience bounds the wait for one thing, on a machine that has much else to do.
const patience = 10 * time.Minute

// until waits for a condition; the error has what it said last, and the end of the daemon's log if it died of it.
func until(ctx context.Context, what string, d *service, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var ended <-chan struct{}
	if d != nil {
		ended = d.ended
	}
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			said, _ := os.ReadFile(d.log) // only for the message
			return fmt.Errorf("%s: %s has ended (%w): %s", what, d.name, d.err, tail(said))
		case <-ctx.Done():
			return fmt.Errorf("%s: %w; the last try: %w", what, ctx.Err(), err)
		case <-time.After(poll):
		}
	}
}

// listens is ready when somebody listens on the port.
func (s *supervisor) listens(name string) func(context.Context) error {
	return func(ctx context.Context) error {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.o.port(name))))
		if err != nil {
			return err
		}
		return c.Close()
	}
}

// answers is ready when an API gives an answer that is not a failure.
func answers(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		a, err := http.DefaultClient.Do(r)
		if err != nil {
			return err
		}
		if err := a.Body.Close(); err != nil {
			return err
		}
		if a.StatusCode >= http.StatusBadRequest && a.StatusCode != http.StatusUnauthorized {
			return fmt.Errorf("%s: %s", url, a.Status)
		}
		return nil
	}
}

// stop ends daemons in order, all at once, and kills those that take too long.
func stop(within time.Duration, services ...*service) {
	for _, d := range services {
		_ = d.id.Signal(syscall.SIGTERM) // it may have ended already
	}
	deadline := time.After(within)
	for _, d := range services {
		select {
		case <-d.ended:
		case <-deadline:
			deadline = closed()
			_ = d.id.Signal(syscall.SIGKILL) // likewise
			<-d.ended
		}
	}
}

func closed() <-chan time.Time {
	c := make(chan time.Time)
	close(c)
	return c
}
