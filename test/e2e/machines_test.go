package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	testsite "github.com/catamaran-k8s/catamaran/test/site"
)

// machines are what the suite forms clusters on, and the ways in which they fail.
type machines interface {
	up(ctx context.Context) error
	// down takes everything away and fails when something is left behind.
	down(ctx context.Context) error
	// inventory is the file that lists them.
	inventory() string
	// unplug makes a machine unreachable, plug undoes it.
	unplug(ctx context.Context, name string) error
	plug(ctx context.Context, name string) error
	// kill cuts the power; start boots it again and waits for SSH.
	kill(ctx context.Context, name string) error
	start(ctx context.Context, name string) error
	// root runs a script as root on a machine, past the product.
	root(ctx context.Context, name, script string, stdin io.Reader) (string, error)
}

func newMachines(ctx context.Context, dir string) (machines, error) {
	if file := os.Getenv("E2E_INVENTORY"); file != "" {
		path, err := filepath.Abs(file)
		return &vagrant{dir: filepath.Join("..", ".."), file: path}, err
	}
	l := &lab{binary: filepath.Join(dir, "lab"), dir: "/var/lib/catamaran-lab-e2e"}
	return l, testsite.Build(ctx, l.binary, "test/lab")
}

// lab are the hosts of test/lab: one control plane and one worker for the service cluster, three control planes and one
// worker for the workload cluster, and one spare.
type lab struct {
	binary, dir string
	release     func() error // gives up the claim on dir
}

func (l *lab) run(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	c := exec.CommandContext(ctx, l.binary, append([]string{"--dir", l.dir, "--name", "cate"}, args...)...)
	return output(c, stdin)
}

func (l *lab) up(ctx context.Context) (err error) {
	if l.release, err = testsite.Alone(l.dir); err != nil {
		return err
	}
	if _, err := l.run(ctx, nil, "down", "--purge"); err != nil {
		return err
	}
	c := exec.CommandContext(ctx, l.binary, "--dir", l.dir, "--name", "cate", "up",
		"--subnet", "10.79.0.0/24", "--service", "1+1", "--workload", "3+1", "--spare", "1", "--platform", "small")
	c.Stdout, c.Stderr = os.Stderr, os.Stderr // it may build for minutes: show it
	return c.Run()
}

func (l *lab) down(ctx context.Context) error {
	_, err := l.run(ctx, nil, "down", "--purge")
	return errors.Join(err, l.release())
}

func (l *lab) inventory() string { return filepath.Join(l.dir, "site", "inventory.yaml") }

func (l *lab) do(ctx context.Context, verb, name string) error {
	_, err := l.run(ctx, nil, verb, name)
	return err
}

func (l *lab) unplug(ctx context.Context, name string) error { return l.do(ctx, "partition", name) }
func (l *lab) plug(ctx context.Context, name string) error   { return l.do(ctx, "heal", name) }
func (l *lab) kill(ctx context.Context, name string) error   { return l.do(ctx, "kill", name) }
func (l *lab) start(ctx context.Context, name string) error  { return l.do(ctx, "start", name) }

func (l *lab) root(ctx context.Context, name, script string, stdin io.Reader) (string, error) {
	return l.run(ctx, stdin, "ssh", name, script)
}

// vagrant are the virtual machines of the Vagrantfile. The inventory is written by `make e2e-vagrant`.
type vagrant struct{ dir, file string }

func (v *vagrant) run(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	c := exec.CommandContext(ctx, "vagrant", args...)
	c.Dir = v.dir
	return output(c, stdin)
}

func (v *vagrant) up(ctx context.Context) error {
	_, err := v.run(ctx, nil, "up")
	return err
}

// down leaves the machines to who made them.
func (v *vagrant) down(context.Context) error { return nil }

func (v *vagrant) inventory() string { return v.file }

func (v *vagrant) do(ctx context.Context, args ...string) error {
	_, err := v.run(ctx, nil, args...)
	return err
}

func (v *vagrant) unplug(ctx context.Context, name string) error { return v.do(ctx, "suspend", name) }
func (v *vagrant) plug(ctx context.Context, name string) error   { return v.do(ctx, "resume", name) }
func (v *vagrant) kill(ctx context.Context, name string) error {
	return v.do(ctx, "halt", "--force", name)
}
func (v *vagrant) start(ctx context.Context, name string) error { return v.do(ctx, "up", name) }

func (v *vagrant) root(ctx context.Context, name, script string, stdin io.Reader) (string, error) {
	return v.run(ctx, stdin, "ssh", name, "-c", "sudo sh -c '"+strings.ReplaceAll(script, "'", `'\''`)+"'")
}

// output runs a command and returns what it printed; a failure shows that too.
func output(c *exec.Cmd, stdin io.Reader) (string, error) {
	var out, all bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = stdin, io.MultiWriter(&out, &all), &all
	err := c.Run()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(c.Args, " "), err, all.String())
	}
	if errors.Is(err, exec.ErrNotFound) {
		err = fmt.Errorf("%w: install it", err)
	}
	return out.String(), err
}
