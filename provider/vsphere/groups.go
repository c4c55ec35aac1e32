package vsphere

// DRS rules that keep the machines of a pool on different hosts.

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

// rulePrefix begins the names of the cluster's rules; a rule has no other mark. Neither part can hold a dot.
func rulePrefix(j job) string { return "catamaran." + j.site + "." + string(j.cluster) + "." }

// rule is a rule as it is, or as it shall be.
type rule struct {
	compute *thing
	name    string
	hard    bool
	members []ref                              // sorted
	is      *types.ClusterAntiAffinityRuleSpec // nil: it is not there
}

// rules are the cluster's rules that are there, wherever in the datacenter.
func (s *survey) rules() []rule {
	var out []rule
	for _, t := range s.at.things {
		conf, _ := t.props["configurationEx"].(types.ClusterConfigInfoEx)
		for _, r := range conf.Rule {
			is, ok := r.(*types.ClusterAntiAffinityRuleSpec)
			if !ok || !strings.HasPrefix(is.Name, rulePrefix(s.job)) {
				continue
			}
			out = append(out, rule{
				compute: t, name: is.Name, is: is, members: sorted(is.Vm),
				hard: is.Mandatory != nil && *is.Mandatory && is.Enabled != nil && *is.Enabled,
			})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].name+out[i].compute.path < out[j].name+out[j].compute.path })
	return out
}

// wantedRules are the rules that shall be there, for the machines that there are. Fewer than two need none, and vCenter refuses one.
func (s *survey) wantedRules() []rule {
	by := map[string]*rule{}
	count := map[string]int{}
	var order []string
	for _, w := range s.wishes {
		if w.adopted || w.shape == nil || !w.spread() || w.node.State == inventory.Absent {
			continue
		}
		id := w.shape.compute.ref.Value + " " + w.node.Pool
		if by[id] == nil {
			by[id] = &rule{compute: w.shape.compute, name: rulePrefix(s.job) + w.node.Pool, hard: w.shape.want.AntiAffinity == inventory.AntiAffinityHard}
			order = append(order, id)
		}
		count[id]++
		if w.have != nil {
			by[id].members = append(by[id].members, w.have.ref)
		}
	}
	var out []rule
	for _, id := range order {
		if count[id] > 1 {
			by[id].members = sorted(by[id].members)
			out = append(out, *by[id])
		}
	}
	return out
}

func (w *wish) spread() bool {
	return w.node.Pool != "" && (w.want.AntiAffinity == inventory.AntiAffinityHard || w.want.AntiAffinity == inventory.AntiAffinitySoft)
}

func sorted(refs []ref) []ref {
	out := append([]ref{}, refs...)
	sort.Slice(out, func(i, j int) bool { return out[i].Value < out[j].Value })
	return out
}

// compareRules returns the changes that make the rules what they shall be. A machine that is to be made is a change of its rule too.
func (s *survey) compareRules() []step {
	var out []step
	there := map[string]rule{}
	for _, r := range s.rules() {
		there[r.compute.ref.Value+r.name] = r
	}
	for _, want := range s.wantedRules() {
		id := want.compute.ref.Value + want.name
		is, ok := there[id]
		delete(there, id)
		switch {
		case !ok:
			out = append(out, s.ruleStep(provider.Create, want, "the machines of the pool are kept on different hosts"))
		case is.hard != want.hard || !sameRefs(s.withoutLeaving(is.members), want.members) || s.grows(want):
			want.is = is.is
			out = append(out, s.ruleStep(provider.Update, want, "it does not hold the pool's machines as the inventory says"))
		}
	}
	for _, r := range s.rules() {
		_, left := there[r.compute.ref.Value+r.name]
		if left && len(s.withoutLeaving(r.members)) == len(r.members) { // else it goes when the leaving machines are retired
			out = append(out, s.ruleStep(provider.Delete, r, "no pool asks for it any more"))
		}
	}
	return out
}

// withoutLeaving leaves out machines that are taken out of the cluster, but are still there.
func (s *survey) withoutLeaving(members []ref) []ref {
	stay := map[ref]bool{}
	for _, w := range s.wishes {
		if w.have != nil && w.node.State != inventory.Absent {
			stay[w.have.ref] = true
		}
	}
	var out []ref
	for _, m := range members {
		if ours := s.ours[m]; ours == nil || stay[m] {
			out = append(out, m)
		}
	}
	return out
}

// grows tells whether a machine is still to be made that belongs into a rule.
func (s *survey) grows(r rule) bool {
	for _, w := range s.wishes {
		if w.have == nil && w.shape != nil && w.node.State != inventory.Absent && w.spread() && rulePrefix(s.job)+w.node.Pool == r.name {
			return true
		}
	}
	return false
}

func sameRefs(a, b []ref) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

// ruleStep is a change of a rule. Its members are looked up when it is done: machines were made in between.
func (s *survey) ruleStep(verb provider.Verb, r rule, reason string) step {
	return step{change: provider.Change{Verb: verb, Kind: "rule", Name: r.name, Reason: reason}, do: func(ctx context.Context, c *client) error {
		if verb != provider.Delete {
			for _, now := range s.wantedRules() {
				if now.name == r.name && now.compute == r.compute {
					r.members = now.members
				}
			}
		}
		return c.setRule(ctx, verb, r)
	}}
}

// setRule makes, changes or deletes a rule.
func (c *client) setRule(ctx context.Context, verb provider.Verb, r rule) error {
	yes, hard := true, r.hard
	info := &types.ClusterAntiAffinityRuleSpec{ClusterRuleInfo: types.ClusterRuleInfo{Name: r.name, Enabled: &yes, Mandatory: &hard}, Vm: r.members}
	spec := types.ClusterRuleSpec{Info: info}
	switch verb {
	case provider.Create:
		spec.Operation = types.ArrayUpdateOperationAdd
	case provider.Update:
		spec.Operation = types.ArrayUpdateOperationEdit
		info.Key, info.RuleUuid = r.is.Key, r.is.RuleUuid
	case provider.Delete:
		spec = types.ClusterRuleSpec{ArrayUpdateSpec: types.ArrayUpdateSpec{Operation: types.ArrayUpdateOperationRemove, RemoveKey: r.is.Key}}
	case provider.Adopt:
	}
	res, err := methods.ReconfigureComputeResource_Task(ctx, c, &types.ReconfigureComputeResource_Task{
		This: r.compute.ref, Modify: true, Spec: &types.ClusterConfigSpecEx{RulesSpec: []types.ClusterRuleSpec{spec}},
	})
	if err == nil {
		_, err = c.finish(ctx, res.Returnval)
	}
	if err != nil {
		return fmt.Errorf("%s the rule %s of %s: %w", verb, r.name, r.compute.path, err)
	}
	return nil
}

// withoutMachines takes machines that are to be deleted out of the rules, and deletes a rule that has fewer than two left.
func (s *survey) withoutMachines(gone map[ref]bool) []step {
	var out []step
	for _, r := range s.rules() {
		var left []ref
		for _, m := range r.members {
			if !gone[m] {
				left = append(left, m)
			}
		}
		switch {
		case len(left) == len(r.members):
		case len(left) < 2:
			out = append(out, s.ruleStep(provider.Delete, r, "fewer than two machines are left that it keeps apart"))
		default:
			r.members = left
			out = append(out, step{do: func(ctx context.Context, c *client) error { return c.setRule(ctx, provider.Update, r) }})
		}
	}
	return out
}
