package plan

import (
	"fmt"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// leave plans taking out a node whose machine is deleted afterwards: one that is not in the inventory any more, or is absent, and
// that a provider made. A machine that can not be reached is not reset, and is deleted all the same.
func (m *maker) leave(v *view, n *inventory.Node) {
	if !v.answered && (v.formed() || m.unseenControlPlane(v)) {
		m.warn("%s: the machine of %s stays until an API server answers: it may be in the cluster", v.name, n.Name)
		return
	}
	reason := "the inventory does not list it any more"
	if m.listed(n.Name) {
		reason = fmt.Sprintf("the inventory says `state: %s`", inventory.Absent)
	}
	problems := len(m.errs)
	m.remove(v, n, m.in.Facts[n.Name], reason)
	if len(m.errs) > problems {
		return
	}
	if err := m.in.Unreachable[n.Name]; err != nil {
		reason += fmt.Sprintf("; it can not be reached (%v) and is deleted without being reset", err)
	}
	m.add(Step{
		ID: id(v, n.Name, "retire"), Cluster: v.name, Title: "delete the machine of " + n.Name, Reason: reason,
		Needs: []string{id(v, n.Name, "drain"), id(v, n.Name, "reset"), id(v, n.Name, "etcd-remove"), id(v, n.Name, "delete")},
		Task:  RetireMachine{Cluster: v.name, Machine: n.Name},
	})
}

// unseenControlPlane says that a control plane can not be reached, so that the cluster may be there.
func (m *maker) unseenControlPlane(v *view) bool {
	for _, n := range v.spec.ControlPlanes() {
		if m.in.Unreachable[n.Name] != nil {
			return true
		}
	}
	return false
}

// listed says that the inventory still has the node.
func (m *maker) listed(name string) bool {
	for _, s := range m.in.Surplus {
		if s == name {
			return false
		}
	}
	return true
}

// left are the steps with which leaving nodes leave their cluster: firewalls do not know them any more, and etcd must have seen
// them go by then.
func (m *maker) left(v *view) []string {
	var out []string
	for _, n := range v.spec.Nodes {
		if n.Leaving {
			out = append(out, id(v, n.Name, "reset"), id(v, n.Name, "etcd-remove"), id(v, n.Name, "delete"))
		}
	}
	return out
}
