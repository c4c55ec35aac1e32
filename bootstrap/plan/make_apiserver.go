package plan

import (
	"github.com/catamaran-k8s/catamaran/inventory"
)

// Some files are read by an API server only when it starts: its audit policy, and where its admission rules are. Of a member
// they are put back and read in one step: were the file put back first, a run that was cut off would leave the right file with
// a server that goes on with the wrong one, and nothing to see of it. The machine tells when its API server began, so that
// also a file that was changed and changed back is noticed.

// restartAPIServer plans it, one control plane after the other: a file with which no API server can run stops at the first.
func (m *maker) restartAPIServer(v *view, n *inventory.Node) {
	g := m.grounds[n.Name]
	s := Step{
		ID: id(v, n.Name, "api-server"), Cluster: v.name, Node: n.Name, Lock: id(v, "etcd"),
		Title: "restart the API server with the files it reads", Reason: g.why, Needs: []string{g.prepare},
		Task: RestartAPIServer{Node: n.Name, Files: g.unread},
	}
	for _, f := range shown(g.unread) {
		if f.Before != f.After {
			s.Files = append(s.Files, f)
		}
	}
	for _, other := range v.inOrder() {
		if other.Name == n.Name {
			break
		}
		s.Needs = append(s.Needs, id(v, other.Name, "api-server"))
	}
	m.add(s)
}
