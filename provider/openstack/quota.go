package openstack

import (
	"context"
	"fmt"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	volumelimits "github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/limits"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/limits"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/quotas"

	"github.com/catamaran-k8s/catamaran/provider"
)

// need is what a step takes of a quota beside the one thing that it makes.
type need struct{ cores, mebibytes, gibibytes, rules int } // rules: ours, and the two that neutron gives each group

// allowance is one line of a quota. A limit below 0 is none.
type allowance struct {
	what, unit  string
	needed      int
	used, limit int
}

// checkQuota refuses before anything is made, and says which quota and how much is missing.
func (j *job) checkQuota(ctx context.Context, steps []step) error {
	count := map[string]int{}
	var sum need
	for _, s := range steps {
		switch s.change.Verb {
		case provider.Create:
			count[s.change.Kind]++
			sum.cores += s.needs.cores
			sum.mebibytes += s.needs.mebibytes
			sum.gibibytes += s.needs.gibibytes
			sum.rules += s.needs.rules
		case provider.Delete: // it goes before the others come
			count[s.change.Kind]--
		case provider.Update, provider.Adopt:
		}
	}
	var all []allowance
	var computeLines, networkLines, volumeLines []allowance
	var asks []func(context.Context) error
	if count["server"] > 0 || count["server-group"] > 0 {
		asks = append(asks, func(ctx context.Context) (err error) { computeLines, err = j.computeQuota(ctx, count, sum); return err })
	}
	if count["port"]+count["network"]+count["subnet"]+count["router"]+count["security-group"]+count["floating-ip"] > 0 {
		asks = append(asks, func(ctx context.Context) (err error) { networkLines, err = j.networkQuota(ctx, count, sum); return err })
	}
	if count["volume"] > 0 {
		asks = append(asks, func(ctx context.Context) (err error) { volumeLines, err = j.volumeQuota(ctx, count, sum); return err })
	}
	if err := j.cloud.together(ctx, asks...); err != nil {
		return err
	}
	all = append(append(append(all, computeLines...), networkLines...), volumeLines...)
	return short(j.names.scope(), all)
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

func (j *job) computeQuota(ctx context.Context, count map[string]int, sum need) ([]allowance, error) {
	l, err := limits.Get(ctx, j.cloud.compute, nil).Extract()
	if err != nil {
		return nil, explain(ctx, "read the compute quota", err)
	}
	a := l.Absolute
	return []allowance{
		{"instances", "", count["server"], a.TotalInstancesUsed, a.MaxTotalInstances},
		{"cores", "", sum.cores, a.TotalCoresUsed, a.MaxTotalCores},
		{"RAM", " MiB", sum.mebibytes, a.TotalRAMUsed, a.MaxTotalRAMSize},
		{"server groups", "", count["server-group"], a.TotalServerGroupsUsed, a.MaxServerGroups},
	}, nil
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
