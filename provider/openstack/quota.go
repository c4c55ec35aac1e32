package openstack

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	volumelimits "github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/limits"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/limits"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/quotas"

	"github.com/catamaran-k8s/catamaran/provider"
)

// need is what a step takes of a quota beside the one thing that it makes.
type need struct {
	cores, mebibytes, gibibytes int
	rules                       int    // ours, and the two that neutron gives each group
	group                       string // the pool in whose server group a server is
}

// allowance is one line of a quota. A limit below 0 is none.
type allowance struct {
	what, unit  string
	needed      int
	used, limit int
}

// bill is what all steps together take, less what they give back first.
type bill struct {
	count map[string]int // by kind
	sum   need
	group map[string]int // new members of server groups, by pool
}

// reckon adds up. What is deleted goes before the others come, with all that it takes: else a machine that is made again would be
// counted twice.
func (j *job) reckon(steps []step) bill {
	b := bill{count: map[string]int{}, group: map[string]int{}}
	for _, s := range steps {
		sign, n := 1, s.needs
		switch s.change.Verb {
		case provider.Create:
		case provider.Delete:
			sign, n = -1, j.takes(s.change)
		case provider.Update, provider.Adopt:
			continue
		}
		b.count[s.change.Kind] += sign
		b.sum.cores += sign * n.cores
		b.sum.mebibytes += sign * n.mebibytes
		b.sum.gibibytes += sign * n.gibibytes
		b.sum.rules += sign * n.rules
		if n.group != "" {
			b.group[n.group] += sign
		}
	}
	return b
}

// takes is what something that is deleted takes as long as it is there. Of two of a name (duplicates.go) it is the other's, which is as
// large.
func (j *job) takes(c provider.Change) need {
	switch c.Kind {
	case "server":
		s := j.servers[c.Name]
		if s == nil {
			return need{}
		}
		cores, _ := s.Flavor["vcpus"].(float64)
		mebibytes, _ := s.Flavor["ram"].(float64)
		n := need{cores: int(cores), mebibytes: int(mebibytes)}
		if g := j.serverGroups[j.names.part(s.Metadata[markPool])]; g != nil && s.UserID == j.cloud.user && slices.Contains(g.Members, s.ID) {
			n.group = s.Metadata[markPool]
		}
		return n
	case "volume":
		if v := j.volumes[c.Name]; v != nil {
			return need{gibibytes: v.Size}
		}
	case "security-group":
		if g := j.security[c.Name]; g != nil {
			return need{rules: len(g.Rules)}
		}
	}
	return need{}
}

// checkQuota refuses before anything is made, and says which quota and how much is missing.
func (j *job) checkQuota(ctx context.Context, steps []step) error {
	b := j.reckon(steps)
	var computeLines, networkLines, volumeLines []allowance
	var asks []func(context.Context) error
	if b.count["server"] > 0 || b.count["server-group"] > 0 || b.sum.cores > 0 || b.sum.mebibytes > 0 || len(b.group) > 0 {
		asks = append(asks, func(ctx context.Context) (err error) { computeLines, err = j.computeQuota(ctx, b); return err })
	}
	if b.count["port"]+b.count["network"]+b.count["subnet"]+b.count["router"]+b.count["security-group"]+b.count["floating-ip"] > 0 {
		asks = append(asks, func(ctx context.Context) (err error) {
			networkLines, err = j.networkQuota(ctx, b.count, b.sum)
			return err
		})
	}
	if b.count["volume"] > 0 || b.sum.gibibytes > 0 {
		asks = append(asks, func(ctx context.Context) (err error) {
			volumeLines, err = j.volumeQuota(ctx, b.count, b.sum)
			return err
		})
	}
	if err := j.cloud.together(ctx, asks...); err != nil {
		return err
	}
	return short(j.names.scope(), slices.Concat(computeLines, networkLines, volumeLines))
}

// short is an error that names every quota which is too small.
func short(scope string, all []allowance) error {
	var missing []string
	for _, a := range all {
		if a.limit < 0 || a.needed <= 0 || a.used+a.needed <= a.limit {
			continue
		}
		missing = append(missing, fmt.Sprintf("%s: %d%s are needed, %d of %d are free, %d are missing", a.what, a.needed, a.unit, max(0, a.limit-a.used), a.limit, a.used+a.needed-a.limit))
	}
	if len(missing) == 0 {
		return nil
	}
	return permanent("openstack: %s: the project's quota is not enough, and nothing was made: %s; ask for more, or delete something", scope, strings.Join(missing, "; "))
}

func (j *job) computeQuota(ctx context.Context, b bill) ([]allowance, error) {
	l, err := limits.Get(ctx, j.cloud.compute, nil).Extract()
	if err != nil {
		return nil, explain(ctx, "read the compute quota", err)
	}
	return j.computeLines(&l.Absolute, b), nil
}

// computeLines counts server groups one by one: the limit is for the members of each that one user has made.
func (j *job) computeLines(a *limits.Absolute, b bill) []allowance {
	out := []allowance{
		{"instances", "", b.count["server"], a.TotalInstancesUsed, a.MaxTotalInstances},
		{"cores", "", b.sum.cores, a.TotalCoresUsed, a.MaxTotalCores},
		{"RAM", " MiB", b.sum.mebibytes, a.TotalRAMUsed, a.MaxTotalRAMSize},
		{"server groups", "", b.count["server-group"], a.TotalServerGroupsUsed, a.MaxServerGroups},
	}
	for _, pool := range slices.Sorted(maps.Keys(b.group)) {
		members := 0
		if g := j.serverGroups[j.names.part(pool)]; g != nil {
			for i := range j.world.servers {
				if s := &j.world.servers[i]; s.UserID == j.cloud.user && slices.Contains(g.Members, s.ID) {
					members++
				}
			}
		}
		out = append(out, allowance{"members of a server group (pool " + pool + ")", "", b.group[pool], members, a.MaxServerGroupMembers})
	}
	return out
}

// networkQuota is nothing where the cloud does not show it; it refuses by itself then.
func (j *job) networkQuota(ctx context.Context, count map[string]int, sum need) ([]allowance, error) {
	q, err := quotas.GetDetail(ctx, j.cloud.network, j.cloud.project).Extract()
	if notFound(err) || gophercloud.ResponseCodeIs(err, 403) {
		return nil, nil
	}
	if err != nil {
		return nil, explain(ctx, "read the network quota", err)
	}
	line := func(what string, needed int, d quotas.QuotaDetail) allowance {
		return allowance{what, "", needed, d.Used + d.Reserved, d.Limit}
	}
	return []allowance{
		line("ports", count["port"]+count["router-interface"], q.Port),
		line("networks", count["network"], q.Network),
		line("subnets", count["subnet"], q.Subnet),
		line("routers", count["router"], q.Router),
		line("security groups", count["security-group"], q.SecurityGroup),
		line("security group rules", sum.rules, q.SecurityGroupRule),
		line("floating IPs", count["floating-ip"], q.FloatingIP),
	}, nil
}

func (j *job) volumeQuota(ctx context.Context, count map[string]int, sum need) ([]allowance, error) {
	l, err := volumelimits.Get(ctx, j.cloud.volume).Extract()
	if err != nil {
		return nil, explain(ctx, "read the volume quota", err)
	}
	a := l.Absolute
	return []allowance{
		{"volumes", "", count["volume"], a.TotalVolumesUsed, a.MaxTotalVolumes},
		{"volume gigabytes", " GiB", sum.gibibytes, a.TotalGigabytesUsed, a.MaxTotalVolumeGigabytes},
	}, nil
}
