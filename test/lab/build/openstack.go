package build

// The programs that a cluster on OpenStack runs to speak to its cloud. The containers beside Cinder's driver (csi-attacher and its
// like) are not here: their modules are refused at the versions that the driver wants.

// openStackVersion is of the programs of k8s.io/cloud-provider-openstack.
const openStackVersion = "1.36.0"

const openStackModule = "k8s.io/cloud-provider-openstack"

// openStackComponents lists what a lab with OpenStack's controllers needs on top of a release.
func openStackComponents() []component {
	return []component{{
		name: "openstack-clouds", dir: "modules/openstack-clouds", module: openStackModule, version: openStackVersion,
		ldflags: []string{
			"-X k8s.io/component-base/version.gitVersion=v" + openStackVersion,
			"-X " + openStackModule + "/pkg/version.Version=v" + openStackVersion,
		},
		programs: []program{
			{"openstack-cloud-controller-manager", openStackModule + "/cmd/openstack-cloud-controller-manager"},
			{"cinder-csi-plugin", openStackModule + "/cmd/cinder-csi-plugin"},
		},
	}}
}

// openStackRecipes are their images. Upstream's image of the storage driver has the programs that make and grow file systems; the lab's
// volumes hold no bytes, so it has a shell only.
func openStackRecipes() []recipe {
	return []recipe{
		{
			ref:      "registry.k8s.io/provider-os/openstack-cloud-controller-manager:v" + openStackVersion,
			programs: map[string]string{"bin/openstack-cloud-controller-manager": "openstack-cloud-controller-manager"},
			command:  []string{"/bin/openstack-cloud-controller-manager"},
		},
		{
			ref: "registry.k8s.io/provider-os/cinder-csi-plugin:v" + openStackVersion, under: []string{shellLayer},
			programs: map[string]string{"bin/cinder-csi-plugin": "cinder-csi-plugin"}, command: []string{"/bin/cinder-csi-plugin"},
		},
	}
}
