package openstack

import (
	"context"
	"slices"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servergroups"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// policy is nova's word for an anti-affinity, or empty.
func policy(a inventory.AntiAffinity) string {
	switch a {
	case inventory.AntiAffinitySoft:
		return "soft-anti-affinity"
	case inventory.AntiAffinityHard:
		return "anti-affinity"
	case inventory.AntiAffinityNone:
	}
	return ""
}

// planServerGroups makes one group for each pool whose machines are kept apart.
func (j *job) planServerGroups(nodes []*inventory.Node) ([]step, error) {
	var out []step
	done := map[string]bool{}
	for _, n := range nodes {
		want := policy(j.machine(n).AntiAffinity)
		if n.Pool == "" || want == "" || n.State == inventory.Absent || done[n.Pool] {
			continue
		}
		done[n.Pool] = true
		name := j.names.part(n.Pool)
		g := j.serverGroups[name]
		if g == nil {
			out = append(out, j.newServerGroup(n.Pool, want))
			continue
		}
		j.keep(j.poolGroup, n.Pool, g.ID)
		if is := policyOf(g); is != want {
			return nil, permanent("openstack: the pool %s has the anti-affinity %s, and the inventory says %s; it can not be changed: make another pool, and take this one's count to 0",
				n.Pool, is, want)
		}
	}
	return out, nil
}

func policyOf(g *servergroups.ServerGroup) string {
	if g.Policy != nil {
		return *g.Policy
	}
	if len(g.Policies) > 0 {
		return g.Policies[0]
	}
	return ""
}

func (j *job) newServerGroup(pool, policy string) step {
	name := j.names.part(pool)
	return step{at: stageServerGroups, change: add("server-group", name, "the pool's machines are kept apart (%s)", policy), do: func(ctx context.Context) error {
		g, err := create(ctx, "make the server group "+name, func(ctx context.Context) (*servergroups.ServerGroup, error) {
			return servergroups.Create(ctx, j.cloud.compute, servergroups.CreateOpts{Name: name, Policy: policy}).Extract()
		}, func(ctx context.Context) (*servergroups.ServerGroup, error) {
			var all []servergroups.ServerGroup
			err := list(ctx, "server groups", servergroups.List(j.cloud.compute, servergroups.ListOpts{}), servergroups.ExtractServerGroups, &all)
			for i := range all {
				if all[i].Name == name {
					return &all[i], nil
				}
			}
			return nil, err
		})
		if err == nil {
			j.keep(j.poolGroup, pool, g.ID)
		}
		return err
	}}
}

// idleGroups are the server groups of pools that nobody is in, and that the inventory asks for no more. leaving are servers that will
// be gone.
func (j *job) idleGroups(leaving map[string]bool, at stage) []step {
	var out []step
	wanted := map[string]bool{}
	for _, n := range j.made() {
		if n.State != inventory.Absent && !leaving[n.Name] && policy(j.machine(n).AntiAffinity) != "" {
			wanted[n.Pool] = true
		}
	}
	for name, s := range j.servers {
		if !leaving[name] {
			wanted[s.Metadata[markPool]] = true
		}
	}
	keep := map[string]bool{}
	for pool := range wanted {
		keep[j.names.part(pool)] = true
	}
	for name, g := range j.serverGroups {
		if !keep[name] {
			out = append(out, step{at: at, change: remove("server-group", name, "no machine of its pool is left"), do: j.deleteServerGroup(g.ID)})
		}
	}
	slices.SortFunc(out, byName)
	return out
}
