package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/test/lab/build"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts/machine"
)

// upFlags are up's.
type upFlags struct {
	hosts             int
	service, workload string
	spare             int
	subnet            string
	kubernetes        string
	bundle            string
	platform          string
	bare              bool
	install           bool
	memory            []string
}

func newUp(g *global) *cobra.Command {
	var f upFlags
	c := &cobra.Command{
		Use:   "up",
		Short: "Boot the lab's hosts and write their inventory; add what is missing to a lab that is there",
		Example: `  lab up --hosts 4
  lab up --service 1+1 --workload 3+1 --spare 1
  lab up --bare --hosts 2 --name cat1 --subnet 10.78.0.0/24 --dir /var/tmp/lab2`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return up(c.Context(), g, f) },
	}
	s := c.Flags()
	s.IntVar(&f.hosts, "hosts", 4, "how many hosts, spread over both clusters")
	s.StringVar(&f.service, "service", "", "the service cluster's hosts: control planes+workers, such as 1+1")
	s.StringVar(&f.workload, "workload", "", "the workload cluster's hosts, such as 3+1")
	s.IntVar(&f.spare, "spare", 0, "hosts beside the clusters, to be added later")
	s.StringVar(&f.subnet, "subnet", hosts.DefaultSubnet, "the hosts' network")
	s.StringVar(&f.kubernetes, "kubernetes", hosts.DefaultKubernetes, "the Kubernetes version that is built and written into the inventory")
	s.StringVar(&f.bundle, "bundle", "", "the bundle for the inventory, instead of building one")
	s.StringVar(&f.platform, "platform", string(inventory.Small), "the compliance platform in the inventory: "+strings.Join(platformChoices(), ", ")+"; off builds a bundle without it, which takes a third of the time")
	s.BoolVar(&f.bare, "bare", false, "no bundle")
	s.BoolVar(&f.install, "install", false, "install what the machine lacks (Debian packages)")
	s.StringArrayVar(&f.memory, "memory", nil, "bound the hosts' memory: 4Gi for each, or NAME=4Gi; can be repeated")
	c.MarkFlagsMutuallyExclusive("hosts", "service")
	c.MarkFlagsMutuallyExclusive("hosts", "workload")
	c.MarkFlagsMutuallyExclusive("bare", "bundle")
	return c
}

func up(ctx context.Context, g *global, f upFlags) error {
	o := hosts.Options{Dir: g.dir, Name: g.name, Kubernetes: f.kubernetes, Bundle: f.bundle, Platform: f.platform, Log: g.log}
	if !slices.Contains(platformChoices(), f.platform) {
		return fmt.Errorf("--platform: expected %s, found %q", strings.Join(platformChoices(), ", "), f.platform)
	}
	var err error
	if o.Layout, err = f.layout(); err != nil {
		return err
	}
	if o.Subnet, err = netip.ParsePrefix(f.subnet); err != nil {
		return fmt.Errorf("--subnet: %w", err)
	}
	if o.Memory, err = parseMemory(f.memory); err != nil {
		return err
	}
	var lacks *machine.Lacks
	if err := machine.Check(); errors.As(err, &lacks) && f.install {
		if err := lacks.Install(ctx, os.Stderr); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	if !f.bare && f.bundle == "" {
		if o.Bundle, err = build.Bundle(ctx, build.Options{Kubernetes: f.kubernetes, Platform: f.platform != hosts.PlatformOff, Log: g.log}); err != nil {
			return err
		}
	}
	l, err := hosts.Up(ctx, o)
	if err != nil {
		return err
	}
	g.log("the lab is up")
	return printStatus(ctx, l)
}

// platformChoices are what --platform takes; size large is more than a lab has.
func platformChoices() []string {
	return []string{hosts.PlatformOff, string(inventory.Small), string(inventory.Standard)}
}

// layout reads --hosts, or --service, --workload and --spare.
func (f upFlags) layout() (hosts.Layout, error) {
	var l hosts.Layout
	var err error
	if f.service == "" && f.workload == "" {
		if l, err = hosts.Distribute(f.hosts); err != nil {
			return l, fmt.Errorf("--hosts: %w", err)
		}
	}
	for _, x := range []struct {
		flag, value string
		to          *hosts.Counts
	}{{"--service", f.service, &l.Service}, {"--workload", f.workload, &l.Workload}} {
		if x.value == "" {
			continue
		}
		if *x.to, err = hosts.ParseCounts(x.value); err != nil {
			return l, fmt.Errorf("%s: %w", x.flag, err)
		}
	}
	l.Spares = f.spare
	return l, nil
}

// parseMemory reads 4Gi (for all) and NAME=4Gi.
func parseMemory(flags []string) (map[string]int64, error) {
	out := map[string]int64{}
	for _, s := range flags {
		name, value, found := strings.Cut(s, "=")
		if !found {
			name, value = "", s
		}
		q, err := resource.ParseQuantity(value)
		if err != nil {
			return nil, fmt.Errorf("--memory %s: %w", s, err)
		}
		out[name] = q.Value()
	}
	return out, nil
}
