package openstack

import (
	"context"

	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// balancerNode stands for the load balancer where a floating IP names its node; no node has a colon in its name.
const balancerNode = ":api"

// planFloating gives machines their floating IPs, and takes away what the inventory asks for no more.
func (j *job) planFloating(nodes []*inventory.Node) ([]step, error) {
	var out []step
	for _, n := range nodes {
		wants := *j.machine(n).FloatingIP && n.State != inventory.Absent
		f := j.floating[n.Name]
		switch {
		case wants && j.external == "":
			return nil, permanent("openstack: %s: a floating IP needs network.external, the network that it comes from", n.Name)
		case wants && f == nil:
			out = append(out, j.newFloating(n.Name, n.Name, stageFloating, func() string { return j.kept(j.portOf, n.Name) }))
		case wants && !isAt(f, j.kept(j.portOf, n.Name)):
			out = append(out, j.moveFloating(f, n.Name, n.Name, stageFloating, func() string { return j.kept(j.portOf, n.Name) }))
		case !wants && f != nil && n.State != inventory.Absent:
			out = append(out, step{at: stageFloating, node: n.Name, change: remove("floating-ip", n.Name, "the inventory asks for none any more"), do: j.deleteFloating(f.ID)})
		}
	}
	return out, nil
}

// newFloating makes a floating IP and puts it on a port in one request. shown is what the plan calls it.
func (j *job) newFloating(node, shown string, at stage, port func() string) step {
	return step{at: at, node: nodeOrAll(node), change: add("floating-ip", shown, "the inventory asks for one"), do: func(ctx context.Context) error {
		o := floatingips.CreateOpts{Description: j.names.nodeMark(node), FloatingNetworkID: j.external, PortID: port()}
		_, err := create(ctx, "make a floating IP for "+shown, func(ctx context.Context) (*floatingips.FloatingIP, error) {
			return floatingips.Create(ctx, j.cloud.network, o).Extract()
		}, func(ctx context.Context) (*floatingips.FloatingIP, error) {
			l := floatingips.ListOpts{Description: o.Description, ProjectID: j.cloud.project}
			return first(ctx, "floating IPs", floatingips.List(j.cloud.network, l), floatingips.ExtractFloatingIPs)
		})
		return err
	}}
}

// isAt tells whether a floating IP is on a port. On one that is still to be made it can not be.
func isAt(f *floatingips.FloatingIP, port string) bool { return port != "" && f.PortID == port }

func (j *job) moveFloating(f *floatingips.FloatingIP, node, shown string, at stage, port func() string) step {
	return step{at: at, node: nodeOrAll(node), change: mend("floating-ip", shown, "it is not at the port that it is for"), do: func(ctx context.Context) error {
		id := port()
		_, err := floatingips.Update(ctx, j.cloud.network, f.ID, floatingips.UpdateOpts{PortID: &id}).Extract()
		return explain(ctx, "put the floating IP of "+shown+" on its port", err)
	}}
}

func nodeOrAll(node string) string {
	if node == balancerNode {
		return ""
	}
	return node
}
