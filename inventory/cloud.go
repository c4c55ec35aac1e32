package inventory

// Cloud is how controllers that run in a cluster (the cloud controller manager, the storage driver) reach the API of the cloud. It is
// a credential of this cluster's own project or folder, never one that reaches the other cluster's machines.
type Cloud struct {
	// OpenStack is an application credential.
	OpenStack *OpenStackCloud `json:"openstack,omitempty"`
	// VSphere is a user of the vCenter.
	VSphere *VSphereCloud `json:"vsphere,omitempty"`
}

// OpenStackCloud is an application credential of the cluster's own project.
type OpenStackCloud struct {
	// AuthURL is Keystone's address as the nodes reach it, https://host[:port]/v3.
	AuthURL string `json:"authURL" check:"required,url"`
	Region  string `json:"region,omitempty" check:"line"`
	// CAFile is the authority (PEM) of the APIs' certificates. Default: the public ones.
	CAFile string `json:"caFile,omitempty" check:"path"`
	// ApplicationCredentialID and Secret sign in.
	ApplicationCredentialID     *Secret `json:"applicationCredentialID" check:"required"`
	ApplicationCredentialSecret *Secret `json:"applicationCredentialSecret" check:"required"`
}

// VSphereCloud is a user of the vCenter that may see and change this cluster's machines and disks only.
type VSphereCloud struct {
	// Server is the vCenter as the nodes reach it.
	Server string `json:"server" check:"required,line"`
	// Thumbprint pins its certificate, as provider.vsphere's does. CAFile is the authority (PEM) of it. Default: the public ones.
	Thumbprint string `json:"thumbprint,omitempty" check:"thumbprint"`
	CAFile     string `json:"caFile,omitempty" check:"path"`
	Datacenter string `json:"datacenter" check:"required,line"`
	// User and Password sign in.
	User     *Secret `json:"user" check:"required"`
	Password *Secret `json:"password" check:"required"`
}

// secrets are what sign in, with their fields under that of the cloud; some may be nil.
func (c *Cloud) secrets(field string) []namedSecret {
	if c == nil {
		return nil
	}
	var out []namedSecret
	if o := c.OpenStack; o != nil {
		f := field + ".openstack.applicationCredential"
		out = append(out, namedSecret{f + "ID", o.ApplicationCredentialID}, namedSecret{f + "Secret", o.ApplicationCredentialSecret})
	}
	if o := c.VSphere; o != nil {
		f := field + ".vsphere."
		out = append(out, namedSecret{f + "user", o.User}, namedSecret{f + "password", o.Password})
	}
	return out
}
