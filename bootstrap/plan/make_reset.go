package plan

import (
	"errors"
	"sort"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// MakeReset returns the steps that take Kubernetes off the named nodes, or off all when none is named. It is pure.
func MakeReset(in Input, nodes []string) (Plan, error) {
	m := newMaker(in)
	p := Plan{Site: in.Inventory.Metadata.Name, Unreachable: map[string]string{}}
	named := map[string]bool{}
	for _, n := range nodes {
		named[n] = true
	}
	for _, c := range in.Inventory.ClusterNames() {
		v := newView(in, c)
		m.strangers(v)
		for i := range v.spec.Nodes {
			n := &v.spec.Nodes[i]
			if len(nodes) > 0 && !named[n.Name] {
				continue
			}
			if err := in.Unreachable[n.Name]; err != nil {
				p.Unreachable[n.Name] = err.Error()
			}
			if len(nodes) > 0 {
				m.remove(v, n, in.Facts[n.Name], "you asked for it")
			} else {
				m.resetMachine(v, n)
			}
		}
	}
	if len(m.errs) > 0 {
		return Plan{}, errors.Join(m.errs...)
	}
	p.Steps, p.Warnings = m.steps, m.warnings
	sort.Strings(p.Warnings)
	p.Digest = Digest(p)
	return p, nil
}

// resetMachine plans taking Kubernetes off a machine without regard to its cluster, which ends too.
func (m *maker) resetMachine(v *view, n *inventory.Node) {
	f := m.in.Facts[n.Name]
	if f == nil || !v.members[n.Name] && !has(f, attemptFile) {
		return // what is there is not ours
	}
	reason := "it is a member of the " + string(v.name) + " cluster"
	if !v.members[n.Name] {
		reason = "an attempt to make it a member was cut off"
	}
	m.add(Step{
		ID: id(v, n.Name, "reset"), Cluster: v.name, Node: n.Name, Title: "reset the machine", Reason: reason,
		Task: ResetNode{Node: n.Name, VIP: vipOf(v)},
	})
}
