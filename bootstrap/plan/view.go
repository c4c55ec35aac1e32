package plan

import (
	"slices"
	"sort"
	"strings"

	"github.com/catamaran-k8s/catamaran/bootstrap/host"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// view is one cluster as the facts show it.
type view struct {
	name  inventory.ClusterName
	spec  *inventory.Cluster
	facts map[string]*host.Facts
	// members are reachable nodes that kubeadm has finished.
	members map[string]bool
	// nodes and releases are the API's, when a control plane could be asked.
	nodes    map[string]host.NodeFacts
	releases map[string]host.ReleaseFacts // namespace/name
	secrets  map[string]host.SecretFacts  // namespace/name
	etcd     []host.EtcdMember
	// answered says that a control plane's API was asked with success.
	answered bool
}

func newView(in Input, name inventory.ClusterName) *view {
	v := &view{
		name: name, spec: in.Inventory.Cluster(name), facts: in.Facts,
		members: map[string]bool{}, nodes: map[string]host.NodeFacts{}, releases: map[string]host.ReleaseFacts{},
		secrets: map[string]host.SecretFacts{},
	}
	for _, n := range v.spec.Nodes {
		f := in.Facts[n.Name]
		if f == nil {
			continue
		}
		if _, ok := f.Files[memberFile]; ok {
			v.members[n.Name] = true
		}
		if f.Cluster == nil || v.answered {
			continue
		}
		v.answered = true
		v.etcd = f.Cluster.Etcd
		for _, kn := range f.Cluster.Nodes {
			v.nodes[kn.Name] = kn
		}
		for _, r := range f.Cluster.Releases {
			v.releases[r.Namespace+"/"+r.Name] = r
		}
		for _, s := range f.Cluster.Secrets {
			v.secrets[s.Namespace+"/"+s.Name] = s
		}
	}
	return v
}

// formed says that the cluster was founded: a reachable control plane is a member.
func (v *view) formed() bool {
	for _, n := range v.spec.Nodes {
		if n.Role == inventory.ControlPlane && v.members[n.Name] {
			return true
		}
	}
	return false
}

// lead is the control plane that founds the cluster, or the first one that is a member already.
func (v *view) lead() *inventory.Node {
	for i, n := range v.spec.Nodes {
		if n.Role == inventory.ControlPlane && v.members[n.Name] {
			return &v.spec.Nodes[i]
		}
	}
	for i, n := range v.spec.Nodes {
		if n.Role == inventory.ControlPlane && n.State != inventory.Absent {
			return &v.spec.Nodes[i]
		}
	}
	return nil
}

// inOrder are all nodes in the order in which they are planned, whatever that of the inventory: what others need comes
// first, the lead before other control planes and these before workers.
func (v *view) inOrder() []*inventory.Node {
	rank := func(n *inventory.Node) int {
		switch lead := v.lead(); {
		case lead != nil && lead.Name == n.Name:
			return 0
		case n.Role == inventory.ControlPlane:
			return 1
		}
		return 2
	}
	out := make([]*inventory.Node, len(v.spec.Nodes))
	for i := range v.spec.Nodes {
		out[i] = &v.spec.Nodes[i]
	}
	slices.SortStableFunc(out, func(a, b *inventory.Node) int { return rank(a) - rank(b) })
	return out
}

// managedTaint says that Kubernetes sets and lifts the taint itself.
func managedTaint(key string) bool {
	return strings.HasPrefix(key, "node.kubernetes.io/") || strings.HasPrefix(key, "node.cloudprovider.kubernetes.io/")
}

// taintString is the form in which facts give taints.
func taintString(t inventory.Taint) string { return t.Key + "=" + t.Value + ":" + t.Effect }

func sameTaints(have []string, want []inventory.Taint) bool {
	var a, b []string
	for _, t := range have {
		if !managedTaint(t) {
			a = append(a, t)
		}
	}
	for _, t := range want {
		b = append(b, taintString(t))
	}
	sort.Strings(a)
	sort.Strings(b)
	return strings.Join(a, ",") == strings.Join(b, ",")
}

func splitLines(s string) []string {
	return strings.Split(strings.TrimRight(s, "\n"), "\n")
}
