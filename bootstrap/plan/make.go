package plan

import (
	"errors"
	"fmt"
	"sort"

	"github.com/catamaran-k8s/catamaran/bootstrap/host"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// Make returns the steps that bring the facts to what the inventory wants. It is a pure function. The error joins
// everything that forbids planning: preflight findings, versions that can not be reached, a bundle that lacks something.
func Make(in Input) (Plan, error) {
	m := newMaker(in)
	p := Preview(in)
	p.Unreachable = map[string]string{}
	for n, err := range in.Unreachable {
		if node := in.Inventory.Node(n); node != nil && node.Leaving {
			continue // it is deleted all the same, which its step says
		}
		p.Unreachable[n] = err.Error()
	}
	m.preflight()
	m.needBundle()
	m.vault()
	m.platform()
	for _, name := range in.Inventory.ClusterNames() {
		m.cluster(name)
	}
	if len(m.errs) > 0 {
		return Plan{}, errors.Join(m.errs...)
	}
	p.Steps, p.Warnings = m.steps, m.warnings
	sort.Strings(p.Warnings)
	p.Digest = Digest(p)
	return p, nil
}

// Preview is the part of a plan that needs no machine: what the providers do first. Its steps are not planned.
func Preview(in Input) Plan {
	p := Plan{Site: in.Inventory.Metadata.Name, Steps: []Step{}, Changes: in.Changes, Pending: in.Pending}
	p.Digest = Digest(p)
	return p
}

// CheckBundle is the part of Make's checks that needs no machine: that the bundle has what the inventory needs.
func CheckBundle(in Input) error {
	m := newMaker(in)
	m.needBundle()
	return errors.Join(m.errs...)
}

// maker gathers steps while it walks the inventory.
type maker struct {
	in       Input
	steps    []Step
	ids      map[string]bool
	warnings []string
	errs     []error
	// grounds are the machines that were planned up to Kubernetes, by node; welcome is what a machine which joins waits for.
	grounds map[string]ground
	welcome map[inventory.ClusterName][]string
}

func newMaker(in Input) *maker {
	return &maker{in: in, ids: map[string]bool{}, grounds: map[string]ground{}, welcome: map[inventory.ClusterName][]string{}}
}

// add appends a step. Needs that were not planned are done already and are dropped.
func (m *maker) add(s Step) string {
	needs := make([]string, 0, len(s.Needs))
	for _, n := range s.Needs {
		if m.ids[n] {
			needs = append(needs, n)
		}
	}
	s.Needs = needs
	s.Digest = stepDigest(s)
	m.ids[s.ID] = true
	m.steps = append(m.steps, s)
	return s.ID
}

func (m *maker) warn(format string, args ...any) {
	m.warnings = append(m.warnings, fmt.Sprintf(format, args...))
}

func (m *maker) fail(format string, args ...any) {
	m.errs = append(m.errs, fmt.Errorf(format, args...))
}

// preflight judges the machines before anything is planned on them.
func (m *maker) preflight() {
	for _, f := range host.Preflight(m.preflightInput()) {
		if f.Severity == host.SeverityError {
			m.errs = append(m.errs, errors.New(f.String()))
		} else {
			m.warnings = append(m.warnings, f.String())
		}
	}
}

// vault plans making the secrets of clusters that have none.
func (m *maker) vault() {
	for _, name := range m.in.Inventory.ClusterNames() {
		if _, ok := m.in.Local.Vault[name]; ok {
			continue
		}
		m.add(Step{
			ID: string(name) + "/secrets", Cluster: name,
			Title:  "make the cluster's authorities and keys",
			Reason: fmt.Sprintf("%s holds no secrets of this cluster", m.in.Inventory.VaultFile()),
			Task:   MakeSecrets{Cluster: name},
		})
	}
}

func (m *maker) cluster(name inventory.ClusterName) {
	v := newView(m.in, name)
	m.strangers(v)
	m.externalCloud(v)
	if !m.mayForm(v) {
		return
	}
	for _, n := range v.inOrder() {
		if n.Leaving {
			m.leave(v, n)
		}
	}
	m.welcome[name] = m.members(v)
	for _, n := range v.inOrder() {
		f := m.in.Facts[n.Name]
		switch {
		case n.Leaving:
		case n.State == inventory.Absent:
			m.remove(v, n, f, fmt.Sprintf("the inventory says `state: %s`", inventory.Absent))
		case f == nil:
			// unreachable or not made yet: said in the plan's head
		default:
			m.node(v, n, f)
		}
	}
	m.unknownNodes(v)
	m.kubeconfig(v)
	m.releases(v)
}

// mayForm refuses to found a second cluster beside one that merely can not be seen now.
func (m *maker) mayForm(v *view) bool {
	if v.formed() {
		if !v.answered {
			var why string
			for _, n := range v.spec.ControlPlanes() {
				if f := m.in.Facts[n.Name]; f != nil && f.ClusterError != "" {
					why = f.ClusterError
				}
			}
			m.warn("%s: no API server answers (%s); only steps that need none are planned", v.name, why)
		}
		return true
	}
	lead := v.lead()
	if lead == nil {
		m.fail("%s: no control plane is left", v.name)
		return false
	}
	_, planned := m.in.Local.Vault[v.name]
	for _, n := range v.spec.ControlPlanes() {
		if m.in.Facts[n.Name] != nil {
			continue
		}
		if err := m.in.Unreachable[n.Name]; err != nil && planned && m.anyMember(v) {
			m.warn("%s: no reachable control plane, but %s may hold the cluster: nothing is planned until it answers", v.name, n.Name)
			return false
		}
		if n.Name == lead.Name && m.in.Unreachable[n.Name] != nil {
			m.warn("%s: control plane %s, which founds the cluster, can not be reached: only preparation is planned", v.name, n.Name)
		}
	}
	return true
}

// strangers refuses machines that carry the mark of another site, cluster or node: a wrong address in the inventory
// must not take a machine away from whom it belongs to.
func (m *maker) strangers(v *view) {
	for _, n := range v.spec.Nodes {
		mark, ok := readMark(m.in.Facts[n.Name])
		if !ok {
			continue
		}
		want := memberMark{Site: m.in.Inventory.Metadata.Name, Cluster: v.name, Node: n.Name, Role: n.Role}
		if mark.Site != want.Site || mark.Cluster != want.Cluster || mark.Node != want.Node {
			m.fail("%s: the machine is node %s of the %s cluster of site %s: check the address, or reset it with that site's inventory",
				n.Name, mark.Node, mark.Cluster, mark.Site)
		} else if mark.Role != want.Role && n.State != inventory.Absent {
			m.fail("%s: it joined as %s and the inventory says %s: take it out with `state: absent`, apply, and add it again", n.Name, mark.Role, n.Role)
		}
	}
}

func (m *maker) anyMember(v *view) bool {
	return len(v.members) > 0 || m.in.Local.Kubeconfigs[v.name].CA != ""
}

// unknownNodes warns of nodes in the cluster that the inventory does not name; they are never touched.
func (m *maker) unknownNodes(v *view) {
	known := map[string]bool{}
	for _, n := range v.spec.Nodes {
		known[n.Name] = true
	}
	for name := range v.nodes {
		if !known[name] {
			m.warn("%s: node %s is in the cluster but not in the inventory; list it with `state: absent` to remove it", v.name, name)
		}
	}
}

func id(v *view, rest ...string) string {
	s := string(v.name)
	for _, r := range rest {
		s += "/" + r
	}
	return s
}
