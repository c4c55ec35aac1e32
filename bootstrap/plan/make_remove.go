package plan

import (
	"time"

	"github.com/catamaran-k8s/catamaran/bootstrap/host"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// drainTimeout bounds the eviction of a node's pods.
const drainTimeout = 10 * time.Minute

// remove plans taking a node out: drain, reset the machine, delete the node object. A control plane leaves etcd by
// kubeadm's reset, or, when its machine is gone, by a living member.
func (m *maker) remove(v *view, n *inventory.Node, f *host.Facts, reason string) {
	_, inCluster := v.nodes[n.Name]
	_, reachable := m.in.Facts[n.Name]
	member := reachable && (v.members[n.Name] || has(f, attemptFile))
	if n.Role == inventory.ControlPlane && inCluster && m.liveControlPlanes(v, n.Name) == 0 {
		m.fail("%s: %s is the last control plane; removing it would end the cluster: use `catamaran reset`", v.name, n.Name)
		return
	}
	lock := ""
	if n.Role == inventory.ControlPlane {
		lock = id(v, "etcd")
	}
	if inCluster {
		m.add(Step{
			ID: id(v, n.Name, "drain"), Cluster: v.name, Title: "drain " + n.Name, Reason: reason,
			Task: DrainNode{Cluster: v.name, Node: n.Name, Timeout: drainTimeout},
		})
	}
	if member {
		m.add(Step{
			ID: id(v, n.Name, "reset"), Cluster: v.name, Node: n.Name, Title: "reset the machine", Reason: reason,
			Needs: []string{id(v, n.Name, "drain")}, Lock: lock,
			Task: ResetNode{Node: n.Name, VIP: vipOf(v)},
		})
	}
	if inCluster {
		if !reachable && n.Role == inventory.ControlPlane {
			for _, e := range v.etcd {
				if e.Name == n.Name {
					m.add(Step{
						ID: id(v, n.Name, "etcd-remove"), Cluster: v.name, Node: v.lead().Name, Lock: lock,
						Title: "remove " + n.Name + " from etcd", Reason: reason + " and its machine can not be reached",
						Needs: []string{id(v, n.Name, "drain")},
						Task:  RemoveEtcdMember{Via: v.lead().Name, Name: e.Name, ID: e.ID},
					})
				}
			}
		}
		m.add(Step{
			ID: id(v, n.Name, "delete"), Cluster: v.name, Title: "delete node " + n.Name, Reason: reason,
			Needs: []string{id(v, n.Name, "drain"), id(v, n.Name, "reset"), id(v, n.Name, "etcd-remove")},
			Task:  DeleteNode{Cluster: v.name, Node: n.Name},
		})
	}
}

// liveControlPlanes counts control planes in the cluster that stay, without one.
func (m *maker) liveControlPlanes(v *view, without string) int {
	count := 0
	for _, n := range v.spec.Nodes {
		if n.Role == inventory.ControlPlane && n.State != inventory.Absent && n.Name != without && v.members[n.Name] {
			count++
		}
	}
	return count
}

func has(f *host.Facts, path string) bool {
	if f == nil {
		return false
	}
	_, ok := f.Files[path]
	return ok
}
