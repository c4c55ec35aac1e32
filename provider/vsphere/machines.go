package vsphere

// Virtual machines as they are: their marks, settings and addresses.

import (
	"context"
	"net/netip"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

// machine is a virtual machine that is there.
type machine struct {
	*thing
	marks      map[string]string // its settings that are texts
	attributes map[int32]string
	vm         mo.VirtualMachine
}

// looked are the properties of the machines of a cluster.
func looked() []string {
	return []string{
		"name", "parent", "config.extraConfig", "config.instanceUuid", "config.hardware", "config.cpuHotAddEnabled",
		"config.memoryHotAddEnabled", "runtime.powerState", "runtime.connectionState", "guest.ipAddress", "guest.net", "customValue",
	}
}

// get reads properties of one object.
func (c *client) get(ctx context.Context, object ref, properties []string, into any) error {
	return c.again(ctx, func() error { return property.DefaultCollector(c.Client).RetrieveOne(ctx, object, properties, into) })
}

// look reads the details of machines: one call for all of them.
func (c *client) look(ctx context.Context, things []*thing) (map[ref]*machine, error) {
	out := map[ref]*machine{}
	if len(things) == 0 {
		return out, nil
	}
	refs := make([]ref, 0, len(things))
	by := map[ref]*thing{}
	for _, t := range things {
		if by[t.ref] == nil {
			refs = append(refs, t.ref)
		}
		by[t.ref] = t
	}
	var found []mo.VirtualMachine
	err := c.again(ctx, func() error {
		found = nil
		return property.DefaultCollector(c.Client).Retrieve(ctx, refs, looked(), &found)
	})
	if err != nil {
		return nil, err
	}
	for _, vm := range found {
		m := &machine{thing: by[vm.Self], vm: vm, marks: map[string]string{}, attributes: map[int32]string{}}
		if vm.Config != nil {
			for _, o := range vm.Config.ExtraConfig {
				if s, ok := o.GetOptionValue().Value.(string); ok {
					m.marks[o.GetOptionValue().Key] = s
				}
			}
		}
		for _, v := range vm.CustomValue {
			if s, ok := v.(*types.CustomFieldStringValue); ok {
				m.attributes[s.Key] = s.Value
			}
		}
		out[vm.Self] = m
	}
	return out, nil
}

// isOurs tells whether we made the machine for this cluster. A copy of it has the same marks, but another identity, and at least
// another name or folder.
func (m *machine) isOurs(j job, folder *ref) bool {
	node := m.marks[markNode]
	if node == "" || m.marks[markSite] != j.site || m.marks[markCluster] != string(j.cluster) {
		return false
	}
	if m.vm.Config != nil && m.vm.Config.InstanceUuid == identity(j.site, j.cluster, node) {
		return true
	}
	return m.name == node && folder != nil && m.parent != nil && *m.parent == *folder
}

func (m *machine) isOn() bool {
	return m.vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn
}

// cards are the keys of the machine's network cards.
func (m *machine) cards() map[int32]bool {
	out := map[int32]bool{}
	if m.vm.Config != nil {
		for _, d := range m.vm.Config.Hardware.Device {
			if _, ok := d.(types.BaseVirtualEthernetCard); ok {
				out[d.GetVirtualDevice().Key] = true
			}
		}
	}
	return out
}

// disk is the first disk; nil without one.
func (m *machine) disk() *types.VirtualDisk {
	if m.vm.Config == nil {
		return nil
	}
	return firstDisk(m.vm.Config.Hardware.Device)
}

func firstDisk(devices []types.BaseVirtualDevice) *types.VirtualDisk {
	for _, d := range devices {
		if disk, ok := d.(*types.VirtualDisk); ok {
			return disk
		}
	}
	return nil
}

// guestAddresses are those on the machine's own network cards, as the guest reports them: not those of pods, and not the VIP, which moves.
func (m *machine) guestAddresses(vip string) []netip.Addr {
	g := m.vm.Guest
	if g == nil || !m.isOn() {
		return nil
	}
	var out []netip.Addr
	add := func(s string) {
		if a, err := netip.ParseAddr(s); err == nil && !a.IsLoopback() && !a.IsLinkLocalUnicast() && s != vip {
			out = append(out, a)
		}
	}
	cards := m.cards()
	for _, n := range g.Net {
		if cards[n.DeviceConfigId] {
			for _, s := range n.IpAddress {
				add(s)
			}
		}
	}
	if len(g.Net) == 0 {
		add(g.IpAddress)
	}
	return out
}

// address is where the machine is reached; empty while that is not known. A static address is known from the beginning, and one that
// the inventory asks for is waited for.
func (m *machine) address(vip, wanted string) string {
	if s := m.marks[markAddress]; s != "" {
		return s
	}
	all := m.guestAddresses(vip)
	best := ""
	for _, a := range all {
		switch {
		case wanted != "" && a.String() != wanted:
		case best == "", a.Is4() && m.vm.Guest.IpAddress == a.String():
			best = a.String()
		}
	}
	for _, a := range all {
		if best != "" && !netip.MustParseAddr(best).Is4() && a.Is4() && wanted == "" {
			best = a.String() // clusters are IPv4 where there is a choice
		}
	}
	return best
}

// vip is the address that moves between the control planes.
func (j job) vip() string {
	if j.conf.Endpoint.Mode == inventory.EndpointNode {
		return ""
	}
	return j.conf.Endpoint.Address
}

// shown is the machine of a node, as the provider hands it over.
func (j job) shown(m *machine, n *inventory.Node) provider.Machine {
	out := provider.Machine{Cluster: j.cluster, Name: n.Name, Role: n.Role, HostKey: n.HostKey, Address: m.address(j.vip(), n.Address)}
	if out.HostKey == "" && m.isMarked(j, n.Name) {
		out.HostKey = m.marks[markHostKey]
	}
	return out
}

// isMarked tells whether a machine that was found carries the marks of a node of ours.
func (m *machine) isMarked(j job, node string) bool {
	return m.marks[markSite] == j.site && m.marks[markCluster] == string(j.cluster) && m.marks[markNode] == node
}
