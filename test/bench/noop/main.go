// Command noop measures `catamaran plan` of a site on which nothing is to be done: 10, 50 and 200 machines, with no
// round trip and with one of 20 ms. The machines are stand-ins (../standin); everything else is the real program in a
// process of its own, and a run counts only if it says that there is nothing to do and ends with 0.
//
//	go run ./test/bench/noop [-hosts 10,50,200] [-rtt 0s,20ms] [-runs 5] [-catamaran bin/catamaran] [-profile FILE]
//
// It runs in a network namespace of its own, so it needs root, and disturbs nothing.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// goal is what the design asks of 200 machines at 20 ms.
const (
	goal      = time.Second
	goalHosts = 200
	goalTrip  = 20 * time.Millisecond
)

type options struct {
	hosts     []int
	trips     []time.Duration
	runs      int
	catamaran string
	profile   string
	keep      string
}

func main() {
	o, err := parse(os.Args[1:])
	if err == nil {
		err = isolated(func() error { return run(o) })
	}
	if errors.Is(err, errSaid) {
		os.Exit(1)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "noop:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	var hosts, trips string
	f := flag.NewFlagSet("noop", flag.ExitOnError)
	f.StringVar(&hosts, "hosts", "10,50,200", "how many machines, a list; half of them in each cluster")
	f.StringVar(&trips, "rtt", "0s,20ms", "round trips of the network, a list")
	f.IntVar(&o.runs, "runs", 5, "how often each is measured, after one run that is not")
	f.StringVar(&o.catamaran, "catamaran", "", "the program; built from this tree if empty")
	f.StringVar(&o.profile, "profile", "", "instead of measuring, plan in this process and write a CPU profile")
	f.StringVar(&o.keep, "keep", "", "make the sites in this folder and keep them")
	_ = f.Parse(args) // ends the process
	for h := range strings.SplitSeq(hosts, ",") {
		n, err := strconv.Atoi(h)
		if err != nil || n < 8 || n > 2*maxPerCluster {
			return o, fmt.Errorf("-hosts %s: expected numbers from 8 to %d", hosts, 2*maxPerCluster)
		}
		o.hosts = append(o.hosts, n)
	}
	for t := range strings.SplitSeq(trips, ",") {
		d, err := time.ParseDuration(t)
		if err != nil || d < 0 {
			return o, fmt.Errorf("-rtt %s: expected durations such as 20ms", trips)
		}
		o.trips = append(o.trips, d)
	}
	return o, nil
}

func run(o options) error {
	dir := o.keep
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "catamaran-bench-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir) //nolint:errcheck // a folder in the temporary one
	}
	standin, err := build(filepath.Join(dir, "standin"), "./test/bench/standin")
	if err != nil {
		return err
	}
	if o.catamaran == "" && o.profile == "" {
		if o.catamaran, err = build(filepath.Join(dir, "catamaran"), "./cmd/catamaran"); err != nil {
			return err
		}
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', tabwriter.AlignRight)
	row := func(format string, args ...any) { fmt.Fprintf(w, format+"\t\n", args...) } //nolint:errcheck // Flush tells
	row("hosts\tround trip\twall: median\tbest\tworst\tCPU\tmax RSS\tconnections a host\tcommands a host\tstand-ins' CPU\tload before")
	verdict := ""
	for _, n := range o.hosts {
		site, err := makeSite(filepath.Join(dir, fmt.Sprintf("site-%d", n)), n)
		if err != nil {
			return fmt.Errorf("make a site of %d machines: %w", n, err)
		}
		for _, trip := range o.trips {
			m, err := measure(o, standin, site, trip)
			if err != nil {
				return fmt.Errorf("%d machines at %s: %w", n, trip, err)
			}
			if o.profile != "" {
				continue
			}
			row("%d\t%s\t%d ms\t%d ms\t%d ms\t%d ms\t%d MiB\t%s\t%s\t%d ms\t%s", n, trip,
				m.wall[len(m.wall)/2].Milliseconds(), m.wall[0].Milliseconds(), m.wall[len(m.wall)-1].Milliseconds(),
				m.cpu.Milliseconds(), m.rss>>20, m.connections, m.commands, m.standins.Milliseconds(), m.load)
			if n == goalHosts && trip == goalTrip {
				verdict = fmt.Sprintf("goal: %d hosts at %s under %s: %s (median %s)\n", n, trip, goal,
					map[bool]string{true: "met", false: "MISSED"}[m.wall[len(m.wall)/2] < goal], m.wall[len(m.wall)/2].Round(time.Millisecond))
			}
		}
	}
	if o.profile != "" {
		return nil
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Print(verdict)
	return nil
}

// build compiles a command of this tree.
func build(to, pkg string) (string, error) {
	out, err := exec.Command("go", "build", "-o", to, pkg).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
	}
	return to, nil
}

// measured is what the runs of one line of the table cost. Medians, but for wall, which holds all, sorted.
type measured struct {
	wall                  []time.Duration
	cpu, standins         time.Duration
	rss                   int64 // bytes, the highest
	connections, commands string
	load                  string
}

func measure(o options, standin string, s site, trip time.Duration) (measured, error) {
	var m measured
	p, err := play(standin, s, trip)
	if err != nil {
		return m, err
	}
	defer p.end()
	if o.profile != "" {
		return m, profile(o.profile, s, p)
	}
	m.load = load()
	var cpus, standins []time.Duration
	for i := range o.runs + 1 {
		wall, r, err := planOnce(o.catamaran, s)
		if err != nil {
			return m, err
		}
		c, err := p.counts()
		if err != nil {
			return m, err
		}
		if m.connections, m.commands, err = each(c, s); err != nil {
			return m, err
		}
		if i == 0 {
			continue // the first one reads the program from the disk
		}
		m.wall = append(m.wall, wall)
		cpus = append(cpus, time.Duration(r.Utime.Nano()+r.Stime.Nano()))
		standins = append(standins, c.CPU)
		m.rss = max(m.rss, r.Maxrss<<10)
	}
	slices.Sort(m.wall)
	slices.Sort(cpus)
	slices.Sort(standins)
	m.cpu, m.standins = cpus[len(cpus)/2], standins[len(standins)/2]
	return m, nil
}

// planOnce runs the program once, and refuses any answer but that there is nothing to do.
func planOnce(catamaran string, s site) (time.Duration, *syscall.Rusage, error) {
	var out, diag strings.Builder
	c := exec.Command(catamaran, "plan", "-f", s.inventory)
	c.Stdout, c.Stderr = &out, &diag
	c.Env = append(os.Environ(), "HOME="+s.dir, "SSH_AUTH_SOCK=")
	begin := time.Now()
	err := c.Run()
	wall := time.Since(begin)
	if err != nil {
		return 0, nil, fmt.Errorf("catamaran plan: %w\n%s%s", err, tail(out.String()), tail(diag.String()))
	}
	if !strings.Contains(out.String(), "nothing to do") {
		return 0, nil, fmt.Errorf("catamaran plan did not say that there is nothing to do:\n%s", tail(out.String()))
	}
	r, ok := c.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0, nil, errors.New("this system tells no resource usage of a process")
	}
	return wall, r, nil
}

// each says how many connections and commands a machine got: a number where all got the same, else a range.
func each(c counts, s site) (connections, commands string, err error) {
	if c.Unknown > 0 {
		return "", "", fmt.Errorf("%d commands were not the facts script", c.Unknown)
	}
	if len(c.Connections) != s.machines {
		return "", "", fmt.Errorf("%d of %d machines were asked", len(c.Connections), s.machines)
	}
	return spread(c.Connections), spread(c.Commands), nil
}

func spread(m map[string]int) string {
	lo, hi := 1<<30, 0
	for _, n := range m {
		lo, hi = min(lo, n), max(hi, n)
	}
	if lo == hi {
		return strconv.Itoa(lo)
	}
	return fmt.Sprintf("%d-%d", lo, hi)
}

// load is the machine's load of the last minute and its processors.
func load() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(data), " ")
	cpus, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return one
	}
	return fmt.Sprintf("%s on %d CPUs", one, strings.Count("\n"+string(cpus), "\nprocessor"))
}

func tail(s string) string {
	const most = 4 << 10
	if len(s) > most {
		return "..." + s[len(s)-most:]
	}
	return s
}
