package inventory

// VSphere makes or adopts the machines of a cluster under one vCenter. Address and credentials come from the GOVC_* variables, as
// with govc; no password stands in the inventory.
type VSphere struct {
	// Server is the vCenter, host or host:port. Default: the variable GOVC_URL.
	Server string `json:"server,omitempty" check:"line"`
	// Thumbprint pins the vCenter's certificate, SHA-256 in hex with or without colons. Default: CAFile, GOVC_TLS_KNOWN_HOSTS, the
	// public authorities.
	Thumbprint string `json:"thumbprint,omitempty" check:"thumbprint"`
	// CAFile is the authority (PEM) of the vCenter's certificate.
	CAFile string `json:"caFile,omitempty" check:"path"`
	// Datacenter by name or inventory path. Default: GOVC_DATACENTER, else the only one.
	Datacenter string `json:"datacenter,omitempty" check:"line"`
	// Folder is where the machines are put; one of the site's name is made in it. Default: GOVC_FOLDER, else the datacenter's own.
	Folder string `json:"folder,omitempty" check:"line"`
	// Machine holds what pools and nodes do not say themselves.
	Machine VSphereMachine `json:"machine,omitzero"`
}

// VSphereMachine is a machine of a pool or node. Fields that are not set come from the provider; a list and a mapping replace the
// provider's as a whole.
type VSphereMachine struct {
	// VM adopts an existing virtual machine, by name, inventory path or UUID, instead of making one: it is left as it is, so no other
	// field stands beside it. Only for single nodes.
	VM string `json:"vm,omitempty" check:"line"`
	// Template is what machines are cloned from, by name or inventory path.
	Template string `json:"template,omitempty" check:"line"`
	// LinkedClone shares the disks of the template's snapshot instead of copying them. Default false.
	LinkedClone *bool `json:"linkedClone,omitempty"`
	// Cluster and ResourcePool say where machines run: a cluster's root pool where only the cluster is named, a pool of the cluster where
	// both are. A cluster that a pool or node names replaces the provider's resource pool too.
	Cluster      string `json:"cluster,omitempty" check:"line"`
	ResourcePool string `json:"resourcePool,omitempty" check:"line"`
	// Datastore or DatastoreCluster, one of them, say where their disks are.
	Datastore        string `json:"datastore,omitempty" check:"line"`
	DatastoreCluster string `json:"datastoreCluster,omitempty" check:"line"`
	// Network is the network or port group, by name or inventory path.
	Network string `json:"network,omitempty" check:"line"`
	// CPUs and MemoryMiB are at most the host's. Default: the template's.
	CPUs      int `json:"cpus,omitempty" check:"positive"`
	MemoryMiB int `json:"memoryMiB,omitempty" check:"positive"`
	// DiskGiB grows the first disk to this size; it can not be made smaller, and not be grown in a linked clone. Default: the template's.
	DiskGiB int `json:"diskGiB,omitempty" check:"positive"`
	// ExtraDisksGiB are the sizes of empty disks that are added behind the template's. Nothing is made of them.
	ExtraDisksGiB []int `json:"extraDisksGiB,omitzero" check:"each=positive"`
	// Gateway, Prefix (the bits of the network, such as 24) and DNS belong to a node's address, which is then static and needs the first
	// two. A node without an address, as in a pool, asks DHCP, and its address is waited for.
	Gateway string   `json:"gateway,omitempty" check:"address"`
	Prefix  int      `json:"prefix,omitempty" check:"prefix"`
	DNS     []string `json:"dns,omitzero" check:"each=address"`
	// AntiAffinity keeps the machines of a pool on different hosts by a DRS rule of Cluster: none (default) or hard. Single nodes have
	// none.
	AntiAffinity AntiAffinity `json:"antiAffinity,omitempty" check:"antiAffinity"`
	// Tags are existing tags, CATEGORY:NAME or an ID, and Attributes custom attributes by name: both are set beside ours.
	Tags       []string          `json:"tags,omitzero" check:"each=line"`
	Attributes map[string]string `json:"attributes,omitzero" check:"key=line,each=line"`
}
