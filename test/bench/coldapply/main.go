// Command coldapply compares `catamaran apply` on bare machines with a plain parallel shell script that runs the same
// kubeadm commands with the same configurations on the same machines (baseline.sh). The machines are hosts of the lab, with
// fresh disks before each run. Both end at the same state: every node Ready, every chart's workloads available.
//
//	go run ./test/bench/coldapply [-rounds 3] [-service 1+1] [-workload 1+1]
//
// It makes a lab of its own and takes it down at the end. It needs root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// goal is what the design allows: apply's time over the script's.
const goal = 1.15

type options struct {
	rounds            int
	service, workload string
	subnet            string
	keep              bool
}

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 3, "how often both are run, taking turns at being first")
	flag.StringVar(&o.service, "service", "1+1", "the service cluster: control planes+workers")
	flag.StringVar(&o.workload, "workload", "1+1", "the workload cluster")
	flag.StringVar(&o.subnet, "subnet", "10.78.0.0/24", "the machines' network")
	flag.BoolVar(&o.keep, "keep", false, "leave the lab running, and what the script was given")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "coldapply:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("the lab needs root: run it as root")
	}
	dir, err := os.MkdirTemp("", "catamaran-coldapply-")
	if err != nil {
		return err
	}
	l := lab{binary: filepath.Join(dir, "lab"), dir: filepath.Join(dir, "machines"), name: "catb"}
	catamaran := filepath.Join(dir, "catamaran")
	if !o.keep {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	for out, pkg := range map[string]string{l.binary: "./test/lab", catamaran: "./cmd/catamaran"} {
		if said, err := exec.CommandContext(ctx, "go", "build", "-o", out, pkg).CombinedOutput(); err != nil {
			return fmt.Errorf("go build %s: %w\n%s", pkg, err, said)
		}
	}
	if err := l.run(ctx, "up", "--subnet", o.subnet, "--service", o.service, "--workload", o.workload, "--platform", "off"); err != nil {
		return err
	}
	if !o.keep {
		defer func() { err = errors.Join(err, l.run(context.WithoutCancel(ctx), "down", "--purge")) }()
	}
	b, err := prepare(ctx, l, filepath.Join(dir, "baseline"))
	if err != nil {
		return fmt.Errorf("prepare the script's archives: %w", err)
	}
	times := map[string][]time.Duration{}
	contenders := []contender{
		{"shell script", func(ctx context.Context) error { return b.run(ctx, l) }},
		{"catamaran apply", func(ctx context.Context) error { return apply(ctx, catamaran, l) }},
	}
	fmt.Printf("%s in service, %s in workload; control planes+workers\n", o.service, o.workload)
	for round := range o.rounds {
		for i := range contenders {
			c := contenders[(round+i)%len(contenders)]
			if err := c.fresh(ctx, l, b); err != nil {
				return err
			}
			before := load()
			begin := time.Now()
			if err := c.do(ctx); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			took := time.Since(begin)
			if err := b.check(ctx, l); err != nil {
				return fmt.Errorf("after %s: %w", c.name, err)
			}
			times[c.name] = append(times[c.name], took)
			fmt.Printf("round %d  %-16s %7.1f s   load before: %s\n", round+1, c.name, took.Seconds(), before)
		}
	}
	for _, t := range times {
		slices.Sort(t)
	}
	script, own := times[contenders[0].name][o.rounds/2], times[contenders[1].name][o.rounds/2]
	ratio := own.Seconds() / script.Seconds()
	fmt.Printf("medians: %s %.1f s, %s %.1f s, ratio %.2f; goal: at most %.2f: %s\n", contenders[0].name, script.Seconds(),
		contenders[1].name, own.Seconds(), ratio, goal, map[bool]string{true: "met", false: "MISSED"}[ratio <= goal])
	return nil
}

// contender is one way to make the clusters.
type contender struct {
	name string
	do   func(context.Context) error
}

// fresh gives every machine a new disk, and forgets the site.
func (c contender) fresh(ctx context.Context, l lab, b baseline) error {
	for _, pattern := range []string{"*.catamaran", "*.vault.age", "*.agekey"} {
		files, err := filepath.Glob(filepath.Join(filepath.Dir(l.inventory()), pattern))
		if err != nil {
			return err
		}
		for _, f := range files {
			if err := os.RemoveAll(f); err != nil {
				return err
			}
		}
	}
	if err := l.run(ctx, append([]string{"reset"}, b.names()...)...); err != nil {
		return err
	}
	syscall.Sync() // what the run before left to be written is not this one's
	return nil
}

func apply(ctx context.Context, catamaran string, l lab) error {
	c := exec.CommandContext(ctx, catamaran, "apply", "-f", l.inventory(), "--yes", "--progress", "plain")
	out, err := c.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// lab runs the lab's command.
type lab struct{ binary, dir, name string }

func (l lab) run(ctx context.Context, args ...string) error {
	c := exec.CommandContext(ctx, l.binary, append([]string{"--dir", l.dir, "--name", l.name}, args...)...)
	out, err := c.CombinedOutput()
	if err != nil {
		return fmt.Errorf("lab %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

func (l lab) inventory() string { return filepath.Join(l.dir, "site", "inventory.yaml") }

func load() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(data), " ")
	return one
}
