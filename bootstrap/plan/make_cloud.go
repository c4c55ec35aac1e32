package plan

import (
	"strings"

	"github.com/catamaran-k8s/catamaran/embedded"
	"github.com/catamaran-k8s/catamaran/inventory"
)

const externalCloud = "--cloud-provider=external"

// externalCloud refuses to switch a cloud controller manager on or off under a cluster that is there. Whether a kubelet waits for one is
// decided when its node registers: a controller that comes later passes nodes over that do not wait, and without one a node that waits
// is never ready.
func (m *maker) externalCloud(v *view) {
	want := embedded.ExternalCloud(m.in.Inventory, v.spec)
	var differ []string
	for _, n := range v.inOrder() {
		f := m.in.Facts[n.Name]
		if f == nil || !v.members[n.Name] || n.State == inventory.Absent || n.Leaving {
			continue
		}
		if flags, ok := f.Files[kubeletFlags]; ok && strings.Contains(flags.Content, externalCloud) != want {
			differ = append(differ, n.Name)
		}
	}
	if len(differ) == 0 {
		return
	}
	component, nodes := controller(v.spec), strings.Join(differ, ", ")
	if want {
		m.fail("clusters.%s: kubelet runs without %s on %s, and the inventory has a cloud controller manager on: it can not be switched on under nodes that joined without it: set components.%s.enabled to false, or found the cluster anew",
			v.name, externalCloud, nodes, component)
		return
	}
	m.fail("clusters.%s: kubelet runs with %s on %s, and the inventory has no cloud controller manager on: it can not be switched off under nodes that joined with it: set components.%s.enabled to true, or take the flag out of %s and restart kubelet on each of them, then plan again",
		v.name, externalCloud, nodes, component, kubeletFlags)
}

func controller(c *inventory.Cluster) string {
	if c.Provider.VSphere != nil {
		return "vsphere-cloud-controller-manager"
	}
	return "openstack-cloud-controller-manager"
}
