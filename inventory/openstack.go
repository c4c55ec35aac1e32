package inventory

// OpenStack makes or adopts the machines of a cluster in one OpenStack project. Credentials come from clouds.yaml (and secure.yaml) or
// the OS_* variables, as with the openstack command; none stand in the inventory.
type OpenStack struct {
	// Cloud names an entry of clouds.yaml. Default: the variable OS_CLOUD; without either the other OS_* variables.
	Cloud string `json:"cloud,omitempty" check:"line"`
	// Network is where the machines' ports are.
	Network OpenStackNetwork `json:"network,omitzero"`
	// SSHFrom and APIFrom are the networks (CIDR) from which SSH and the Kubernetes API may be reached, beside the site's nodes.
	// Default: none.
	SSHFrom []string `json:"sshFrom,omitzero" check:"each=cidr"`
	APIFrom []string `json:"apiFrom,omitzero" check:"each=cidr"`
	// LoadBalancer makes an Octavia load balancer that answers on the API endpoint. It needs Network.
	LoadBalancer *OpenStackLoadBalancer `json:"loadBalancer,omitempty"`
	// Machine holds what pools and nodes do not say themselves.
	Machine OpenStackMachine `json:"machine,omitzero"`
}

// OpenStackNetwork is an existing network or one that is made: either Name (and Subnet), or CIDR.
type OpenStackNetwork struct {
	// Name and Subnet name an existing network and subnet, by name or ID. Subnet may be left out where the network has one.
	Name   string `json:"name,omitempty" check:"line"`
	Subnet string `json:"subnet,omitempty" check:"line"`
	// CIDR makes a network and a subnet of these addresses, of IPv4. The first one is the router's, so none of a node.
	CIDR string `json:"cidr,omitempty" check:"cidr"`
	// Router is an existing router that a managed subnet is joined to, by name or ID, such as one that both clusters share. Default: one
	// is made, which leads to External.
	Router string `json:"router,omitempty" check:"line"`
	// External is the network that a router of ours leads to and that floating IPs come from, by name or ID. A managed network needs it,
	// or Router.
	External string `json:"external,omitempty" check:"line"`
	// DNS are the name servers that a managed subnet announces. Default: the cloud's own.
	DNS []string `json:"dns,omitzero" check:"each=address"`
}

// OpenStackLoadBalancer is an Octavia load balancer in front of the API servers. clusters.NAME.endpoint.address is its VIP address
// (of the machines' subnet); the endpoint's mode is external.
type OpenStackLoadBalancer struct {
	// Provider is Octavia's driver, such as amphora or ovn. Default: the cloud's own, which must not be ovn: that one wants to be named.
	Provider string `json:"provider,omitempty" check:"line"`
	// FloatingIP gives it a floating IP.
	FloatingIP bool `json:"floatingIP,omitempty"`
}

// AntiAffinity says how strictly the machines of a pool must run on different hypervisors.
type AntiAffinity string

// Kinds of anti-affinity.
const (
	AntiAffinityNone AntiAffinity = "none"
	AntiAffinitySoft AntiAffinity = "soft" // as far as possible
	AntiAffinityHard AntiAffinity = "hard" // a machine without a hypervisor of its own is not made
)

// OpenStackMachine is a machine of a pool or node. Fields that are not set come from the provider; a list, a mapping and a volume
// replace the provider's as a whole.
type OpenStackMachine struct {
	// Server adopts an existing server, by name or ID, instead of making one: it is left as it is, so no other field stands beside it.
	// Only for single nodes.
	Server string `json:"server,omitempty" check:"line"`
	// Flavor and Image are names or IDs.
	Flavor string `json:"flavor,omitempty" check:"line"`
	Image  string `json:"image,omitempty" check:"line"`
	// Volume boots from a volume made from the image, instead of the flavor's own disk.
	Volume *OpenStackVolume `json:"volume,omitempty"`
	// KeyPair is an existing key pair of the user who signs in, for the cloud's own tools. Default: none; whom the machine lets in
	// (ssh.authorizedKeys) user data brings.
	KeyPair string `json:"keyPair,omitempty" check:"line"`
	// AvailabilityZones are taken in turn by the machines of a pool, and by single nodes; a node's own list has one. They count when a
	// machine is made. Default: the cloud decides.
	AvailabilityZones []string `json:"availabilityZones,omitzero" check:"each=line"`
	// AntiAffinity keeps the machines of a pool on different hypervisors: none, soft (default) or hard. Single nodes have none.
	AntiAffinity AntiAffinity `json:"antiAffinity,omitempty" check:"antiAffinity"`
	// FloatingIP gives each machine a floating IP of network.external, which SSH uses. Default false.
	FloatingIP *bool `json:"floatingIP,omitempty"`
	// ConfigDrive hands user data over by a drive instead of the metadata service. Default false.
	ConfigDrive *bool `json:"configDrive,omitempty"`
	// SecurityGroups are existing groups that the machine's port belongs to, beside ours, by name or ID.
	SecurityGroups []string `json:"securityGroups,omitzero" check:"each=line"`
	// Metadata and Tags are set beside ours.
	Metadata map[string]string `json:"metadata,omitzero" check:"each=line"`
	Tags     []string          `json:"tags,omitzero" check:"each=line"`
}

// OpenStackVolume is a boot volume. It is deleted with its machine.
type OpenStackVolume struct {
	SizeGiB int    `json:"sizeGiB" check:"required,positive"`
	Type    string `json:"type,omitempty" check:"line"` // default: the cloud's own
	// AvailabilityZone is the volume's, for clouds whose zones of volumes are not called as those of servers. Default: that of the
	// machine, if volumes have one of that name; else the cloud decides.
	AvailabilityZone string `json:"availabilityZone,omitempty" check:"line"`
}
