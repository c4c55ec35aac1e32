package inventory

import "net/netip"

func (v *validator) vsphere(name ClusterName, c *Cluster, adopted map[string]string) {
	o := c.Provider.VSphere
	if o == nil {
		return
	}
	f := "clusters." + string(name) + ".provider.vsphere"
	if v.broken(f) {
		return
	}
	v.exists(f+".caFile", o.CAFile)
	if o.Machine.VM != "" {
		v.fail(f+".machine.vm", "name it at the node that adopts it", "one virtual machine can not be all of the cluster's machines")
	}
	v.vsphereSettings(f+".machine", o.Machine)
	for _, m := range c.machines(name) {
		own := m.node.VSphere
		if own != nil && own.VM != "" {
			v.adopts(m, "vsphere", "vm", own.VM, own, adopted)
			continue
		}
		if own != nil {
			v.vsphereSettings(m.field+".vsphere", *own)
			v.separates(m, "vsphere", own.AntiAffinity)
			if m.node.Address == "" && (own.Gateway != "" || own.Prefix != 0 || own.DNS != nil) {
				v.fail(m.field+".vsphere", "leave gateway, prefix and dns out, or list single nodes with an address each",
					"%s has no address that they could belong to: its guests ask DHCP", m.what)
			}
		}
		v.vsphereMachine(name, m)
	}
}

// vsphereSettings checks settings against each other where they stand.
func (v *validator) vsphereSettings(f string, m VSphereMachine) {
	if m.Datastore != "" && m.DatastoreCluster != "" {
		v.fail(f+".datastoreCluster", "leave one of them out", "expected datastore or datastoreCluster, found both")
	}
	if m.AntiAffinity == AntiAffinitySoft {
		v.fail(f+".antiAffinity", "say hard or none", "a rule of vSphere keeps machines apart or not, there is no soft one")
	}
}

func (v *validator) vsphereMachine(name ClusterName, m machine) {
	all := v.inv.VSphereFor(name, &m.node)
	var missing []string
	for _, x := range []struct {
		name string
		set  bool
	}{
		{"template", all.Template != ""}, {"cluster or resourcePool", all.Cluster != "" || all.ResourcePool != ""},
		{"datastore or datastoreCluster", all.Datastore != "" || all.DatastoreCluster != ""}, {"network", all.Network != ""},
	} {
		if !x.set {
			missing = append(missing, x.name)
		}
	}
	f := m.field + ".vsphere"
	v.lacks(m, "vsphere", missing)
	if *all.LinkedClone && all.DiskGiB > 0 {
		v.fail(f+".diskGiB", "leave diskGiB out, or say `linkedClone: false`", "a linked clone's disk is as large as the template's")
	}
	if all.AntiAffinity == AntiAffinityHard && all.Cluster == "" {
		v.fail(f+".cluster", "name the cluster that the rule is made in", "missing; %s has antiAffinity hard", m.what)
	}
	v.vsphereAddress(m, all)
}

// vsphereAddress checks that a static address can be used: the guest is told of its network, too.
func (v *validator) vsphereAddress(m machine, all VSphereMachine) {
	a, err := netip.ParseAddr(m.node.Address)
	if err != nil {
		return
	}
	f := m.field + ".vsphere"
	if all.Gateway == "" || all.Prefix == 0 {
		v.fail(f, "name gateway and prefix here or under provider.vsphere.machine, or leave the address out to ask DHCP",
			"the address %s is a static one, which needs gateway and prefix", a)
		return
	}
	gateway, err := netip.ParseAddr(all.Gateway)
	if err != nil {
		return
	}
	network, err := a.Prefix(all.Prefix)
	switch {
	case err != nil:
		v.fail(f+".prefix", "", "an address such as %s has %d bits, found a prefix of %d", a, a.BitLen(), all.Prefix)
	case !network.Contains(gateway):
		v.fail(f+".gateway", "", "the gateway %s does not lie in the node's network %s", gateway, network)
	case gateway == a:
		v.fail(m.field+".address", "choose another one", "%s is the gateway's address", a)
	}
}
