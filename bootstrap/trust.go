package bootstrap

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/bootstrap/remote"
)

// Stranger is a machine, or a jump host, whose host key nobody vouched for: neither the inventory nor its provider pins
// it, and no known_hosts file has it.
type Stranger struct {
	// Name is the node's, or "jump host ADDRESS".
	Name string
	// Jump says that it is a jump host: the machines behind it can be asked after Trust.
	Jump    bool
	Address string
	Port    int
	// Keys are those that the network says it has. Somebody must compare them.
	Keys []remote.HostKey
	// Err says why there are none.
	Err error
}

// Strangers asks every machine whose key is not known for its keys; nodes narrows it to some. Nobody signs in at a
// stranger, and jump hosts are verified as always: a jump host that is a stranger itself is returned instead of the
// machines behind it, which a second call finds after Trust.
func (s *Site) Strangers(ctx context.Context, nodes ...string) ([]Stranger, error) {
	if err := s.FindMachines(ctx); err != nil {
		return nil, err
	}
	for _, n := range nodes {
		if _, ok := s.machines[n]; !ok {
			return nil, fmt.Errorf("%s is no node of %s: choose of %s", n, s.Inventory.Path, strings.Join(s.machineNames(), ", "))
		}
	}
	if len(nodes) == 0 {
		nodes = s.machineNames()
	}
	asked := map[string]remote.Target{}
	for _, n := range nodes {
		t, stranger, err := firstStranger(target(s.Inventory, s.machines[n], s.KnownHosts()))
		if err != nil {
			return nil, err
		}
		if stranger {
			asked[net.JoinHostPort(t.Address, strconv.Itoa(t.Port))] = t
		}
	}
	out := make([]Stranger, 0, len(asked))
	for _, t := range asked {
		_, node := s.machines[t.Name]
		out = append(out, Stranger{Name: t.Name, Jump: !node, Address: t.Address, Port: t.Port})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	var g errgroup.Group
	for i := range out {
		g.Go(func() error {
			t := asked[net.JoinHostPort(out[i].Address, strconv.Itoa(out[i].Port))]
			out[i].Keys, out[i].Err = remote.ScanHostKeys(ctx, t, s.jumps)
			return nil
		})
	}
	_ = g.Wait() // every error is in its Stranger
	return out, ctx.Err()
}

// firstStranger is the first hop on the way to a machine, or the machine, whose key is not known.
func firstStranger(t remote.Target) (remote.Target, bool, error) {
	hops := append(slices.Clone(t.Jump), t)
	for i, hop := range hops {
		if i < len(t.Jump) {
			hop.Name, hop.Jump = "jump host "+hop.Address, t.Jump[:i]
		}
		if len(hop.HostKeys) > 0 {
			continue
		}
		known, err := remote.IsKnown(hop.KnownHosts, hop.Address, hop.Port)
		if err != nil || !known {
			return hop, true, err
		}
	}
	return remote.Target{}, false, nil
}

func (s *Site) machineNames() []string {
	out := make([]string, 0, len(s.machines))
	for n := range s.machines {
		out = append(out, n)
	}
	sort.Strings(out)
	return out
}

// Trust writes the keys of strangers to the site's known_hosts, under the site's lock. Those without keys are left out.
func (s *Site) Trust(strangers []Stranger) error {
	lock, err := plan.Acquire(s.Inventory.SiteDir(), s.holder("trust"))
	if err != nil {
		return err
	}
	defer lock.Release()
	for _, st := range strangers {
		if len(st.Keys) == 0 {
			continue
		}
		if err := remote.Pin(s.KnownHosts(), st.Address, st.Port, st.Keys); err != nil {
			return fmt.Errorf("%s: %w", st.Name, err)
		}
	}
	return nil
}
