package inventory

// What a machine is made of: the provider's defaults, then what the pool or the node says, field by field.

// Makes tells whether the provider can make machines; else they are all listed with their addresses.
func (p Provider) Makes() bool { return p.OpenStack != nil || p.VSphere != nil || p.External != nil }

// OpenStackFor is the node's machine: the provider's settings, then those of its pool or its own. FloatingIP, ConfigDrive and
// AntiAffinity are always set, and AvailabilityZones are at most the one that is this machine's. Of a server that is adopted
// only Server is of interest.
func (inv *Inventory) OpenStackFor(c ClusterName, n *Node) OpenStackMachine {
	var m OpenStackMachine
	cluster := inv.Cluster(c)
	if o := cluster.Provider.OpenStack; o != nil {
		m = clone(o.Machine)
	}
	m.over(clone(n.OpenStack))
	if m.Server != "" {
		m = OpenStackMachine{Server: m.Server}
	}
	set(&m.AntiAffinity, AntiAffinitySoft)
	if n.Pool == "" {
		m.AntiAffinity = AntiAffinityNone
	}
	setFalse(&m.FloatingIP)
	setFalse(&m.ConfigDrive)
	if zones := m.AvailabilityZones; len(zones) > 1 {
		m.AvailabilityZones = []string{zones[cluster.place(n)%len(zones)]}
	}
	return m
}

func (m *OpenStackMachine) over(o *OpenStackMachine) {
	if o == nil {
		return
	}
	replace(&m.Server, o.Server)
	replace(&m.Flavor, o.Flavor)
	replace(&m.Image, o.Image)
	replace(&m.Volume, o.Volume)
	replace(&m.KeyPair, o.KeyPair)
	replaceList(&m.AvailabilityZones, o.AvailabilityZones)
	replace(&m.AntiAffinity, o.AntiAffinity)
	replace(&m.FloatingIP, o.FloatingIP)
	replace(&m.ConfigDrive, o.ConfigDrive)
	replaceList(&m.SecurityGroups, o.SecurityGroups)
	if o.Metadata != nil {
		m.Metadata = o.Metadata
	}
	replaceList(&m.Tags, o.Tags)
}

// VSphereFor is the node's machine: the provider's settings, then those of its pool or its own. LinkedClone and AntiAffinity are
// always set. Gateway, Prefix and DNS are empty where the node has no address. Of a machine that is adopted only VM is of
// interest.
func (inv *Inventory) VSphereFor(c ClusterName, n *Node) VSphereMachine {
	var m VSphereMachine
	if o := inv.Cluster(c).Provider.VSphere; o != nil {
		m = clone(o.Machine)
	}
	m.over(clone(n.VSphere))
	if m.VM != "" {
		m = VSphereMachine{VM: m.VM}
	}
	set(&m.AntiAffinity, AntiAffinityNone)
	if n.Pool == "" {
		m.AntiAffinity = AntiAffinityNone
	}
	setFalse(&m.LinkedClone)
	if n.Address == "" {
		m.Gateway, m.Prefix, m.DNS = "", 0, nil
	}
	return m
}

func (m *VSphereMachine) over(o *VSphereMachine) {
	if o == nil {
		return
	}
	replace(&m.VM, o.VM)
	replace(&m.Template, o.Template)
	replace(&m.LinkedClone, o.LinkedClone)
	if o.Cluster != "" { // a resource pool belongs to a cluster
		m.Cluster, m.ResourcePool = o.Cluster, ""
	}
	replace(&m.ResourcePool, o.ResourcePool)
	if o.Datastore != "" || o.DatastoreCluster != "" {
		m.Datastore, m.DatastoreCluster = o.Datastore, o.DatastoreCluster
	}
	replace(&m.Network, o.Network)
	replace(&m.CPUs, o.CPUs)
	replace(&m.MemoryMiB, o.MemoryMiB)
	replace(&m.DiskGiB, o.DiskGiB)
	replaceList(&m.ExtraDisksGiB, o.ExtraDisksGiB)
	replace(&m.Gateway, o.Gateway)
	replace(&m.Prefix, o.Prefix)
	replaceList(&m.DNS, o.DNS)
	replace(&m.AntiAffinity, o.AntiAffinity)
	replaceList(&m.Tags, o.Tags)
	if o.Attributes != nil {
		m.Attributes = o.Attributes
	}
}

// replaceList replaces a list as a whole; an empty one takes it away.
func replaceList[T any](p *[]T, by []T) {
	if by != nil {
		*p = by
	}
}

func setFalse(p **bool) {
	if *p == nil {
		no := false
		*p = &no
	}
}
