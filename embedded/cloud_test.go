package embedded

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// withClouds gives each cluster what its controllers sign in to clouds with.
func withClouds(inv *inventory.Inventory) *inventory.Inventory {
	for _, name := range inv.ClusterNames() {
		c := string(name)
		inv.Cluster(name).Cloud = &inventory.Cloud{
			OpenStack: &inventory.OpenStackCloud{
				AuthURL: "https://keystone.example.org:5000/v3", Region: "north", CAFile: "/ca.pem",
				ApplicationCredentialID: &inventory.Secret{Env: "OS_ID_" + c}, ApplicationCredentialSecret: &inventory.Secret{Env: "OS_SECRET_" + c},
			},
			VSphere: &inventory.VSphereCloud{
				Server: "vcenter.example.org", Datacenter: "dc-1", Thumbprint: strings.Repeat("0a", 32),
				User: &inventory.Secret{Env: "VC_USER_" + c}, Password: &inventory.Secret{Env: "VC_PASSWORD_" + c},
			},
		}
	}
	return inv
}

// onClouds has the service cluster in OpenStack and the workload cluster in vSphere.
func onClouds(inv *inventory.Inventory) *inventory.Inventory {
	inv.Clusters.Service.Provider = inventory.Provider{OpenStack: &inventory.OpenStack{}}
	inv.Clusters.Workload.Provider = inventory.Provider{VSphere: &inventory.VSphere{}}
	return inv
}

func cloudNames() []string {
	var out []string
	for _, c := range cloudComponents() {
		out = append(out, c.name)
	}
	return out
}

// A cloud's components are on where the cluster's machines come from it, and nowhere else.
func TestCloudComponentsFollowTheProvider(t *testing.T) {
	t.Parallel()
	on := func(inv *inventory.Inventory, cluster inventory.ClusterName) []string {
		var out []string
		for _, n := range names(releases(t, inv, cluster)) {
			for _, c := range cloudNames() {
				if n == c {
					out = append(out, n)
				}
			}
		}
		return out
	}
	bare := site(t, "")
	inv := withClouds(onClouds(site(t, "")))
	assert.Empty(t, on(bare, inventory.Service))
	assert.Empty(t, on(bare, inventory.Workload))
	assert.Equal(t, []string{"openstack-cloud-controller-manager", "cinder-csi"}, on(inv, inventory.Service))
	assert.Equal(t, []string{"vsphere-cloud-controller-manager", "vsphere-csi"}, on(inv, inventory.Workload))
	assert.False(t, ExternalCloud(bare, bare.Clusters.Service), "kubelets do not wait for somebody who never comes")
	assert.True(t, ExternalCloud(inv, inv.Clusters.Service))
	assert.True(t, ExternalCloud(inv, inv.Clusters.Workload))

	inv = withClouds(onClouds(site(t, "components: {openstack-cloud-controller-manager: {enabled: false}, cinder-csi: {enabled: false}}")))
	assert.Empty(t, on(inv, inventory.Service))
	assert.False(t, ExternalCloud(inv, inv.Clusters.Service))
	assert.True(t, ExternalCloud(inv, inv.Clusters.Workload))
	inv = withClouds(onClouds(site(t, "components: {openstack-cloud-controller-manager: {enabled: false}}")))
	assert.False(t, ExternalCloud(inv, inv.Clusters.Service), "volumes alone do not need it")

	for _, r := range releases(t, withClouds(onClouds(site(t, "platform: {size: small}"))), inventory.Service) {
		if !strings.HasPrefix(r.Name, "openstack") && r.Name != "flannel" {
			assert.Greater(t, r.Order, 2, "%s waits until the taint of new nodes is gone", r.Name)
		}
	}
}

// Without credentials the inventory is refused, with the field that is missing and the way out.
func TestWhatCloudComponentsNeed(t *testing.T) {
	t.Parallel()
	assert.ElementsMatch(t, []string{
		"clusters.service.cloud.openstack: openstack-cloud-controller-manager on the service cluster needs an application credential of this cluster's own project",
		"clusters.service.cloud.openstack: cinder-csi on the service cluster needs an application credential of this cluster's own project",
		"clusters.workload.cloud.vsphere: vsphere-cloud-controller-manager on the workload cluster needs a user of the vCenter who reaches this cluster's machines and disks only",
		"clusters.workload.cloud.vsphere: vsphere-csi on the workload cluster needs a user of the vCenter who reaches this cluster's machines and disks only",
	}, refusals(t, Validate(onClouds(site(t, "")))))
	require.NoError(t, Validate(withClouds(onClouds(site(t, "")))))
	require.NoError(t, Validate(site(t, "")))
	err := Validate(onClouds(site(t, "components: {cinder-csi: {enabled: false}, vsphere-csi: {enabled: false}, vsphere-cloud-controller-manager: {enabled: false}}")))
	require.ErrorContains(t, err, "switch the component off")
	assert.Len(t, refusals(t, err), 1)
}

// The cloud's class is the default one exactly where local-path is off: there are never two, and never none.
func TestDefaultStorageClass(t *testing.T) {
	t.Parallel()
	for more, ours := range map[string]bool{"": true, "components: {local-path: {enabled: false}}": false} {
		inv := withClouds(onClouds(site(t, more)))
		for cluster, driver := range map[inventory.ClusterName]string{inventory.Service: cinder, inventory.Workload: vSphereVolumes} {
			defaults := []string{}
			for _, r := range releases(t, inv, cluster) {
				manifest, err := r.Manifest()
				require.NoError(t, err)
				for _, o := range objects(t, manifest) {
					annotations, _ := o["metadata"].(map[string]any)["annotations"].(map[string]any)
					if o["kind"] == "StorageClass" && annotations["storageclass.kubernetes.io/is-default-class"] == "true" {
						defaults = append(defaults, r.Name)
					}
				}
			}
			assert.Equal(t, []string{map[bool]string{true: localPath, false: driver}[ours]}, defaults)
		}
	}
	more := "platform: {enabled: false, " + signIn + "}\ncomponents: {dex: {enabled: true}, local-path: {enabled: false}}"
	assert.Empty(t, checkComponents(withClouds(onClouds(site(t, more)))), "Dex can keep its keys on the cloud's volumes")
}

// What signs in comes from the operator, each cluster's is its own, and no value of a chart holds it.
func TestCloudSecrets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, content string) *inventory.Secret {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return &inventory.Secret{File: path}
	}
	const odd = `a "b\c": {{id}} #`
	inv := withClouds(onClouds(site(t, "")))
	o, v := inv.Clusters.Service.Cloud.OpenStack, inv.Clusters.Workload.Cloud.VSphere
	o.CAFile = file("ca.pem", "-----BEGIN CERTIFICATE-----\n").File
	o.ApplicationCredentialID, o.ApplicationCredentialSecret = file("id", "4711\n"), file("secret", odd+"\n")
	v.User, v.Password, v.Server = file("user", "k8s@vsphere.local"), file("password", odd), "vcenter.example.org:8443"
	resolved := func(r Release, key string) string {
		require.Len(t, r.Secrets, 1)
		require.NoError(t, r.Secrets[0].Check())
		assert.Empty(t, r.Secrets[0].Passwords(), "none of the vault's")
		text, err := r.Secrets[0].Values[key].Resolve(nil)
		require.NoError(t, err)
		return text
	}
	for _, name := range []string{"openstack-cloud-controller-manager", cinder} {
		r := named(t, releases(t, inv, inventory.Service), name)
		var file struct {
			Clouds map[string]struct {
				Auth   map[string]string
				Region string `json:"region_name"`
				CA     string `json:"cacert"`
			}
		}
		require.NoError(t, yaml.Unmarshal([]byte(resolved(r, "clouds.yaml")), &file))
		entry := file.Clouds["catamaran"]
		assert.Equal(t, map[string]string{"auth_url": o.AuthURL, "application_credential_id": "4711", "application_credential_secret": odd}, entry.Auth)
		assert.Equal(t, "north", entry.Region)
		assert.Equal(t, "/etc/catamaran/cloud/ca.crt", entry.CA)
		assert.Equal(t, SecretValue{File: o.CAFile}, r.Secrets[0].Values["ca.crt"])
		manifest, err := r.Manifest()
		require.NoError(t, err)
		assert.NotContains(t, manifest, "4711")
	}
	list := releases(t, inv, inventory.Workload)
	var conf struct {
		Global  map[string]any
		Vcenter map[string]map[string]any
	}
	require.NoError(t, yaml.Unmarshal([]byte(resolved(named(t, list, "vsphere-cloud-controller-manager"), "vsphere.conf")), &conf))
	assert.Equal(t, map[string]any{"port": 8443.0, "insecureFlag": false}, conf.Global)
	assert.Equal(t, map[string]any{
		"server": "vcenter.example.org", "user": "k8s@vsphere.local", "password": odd, "datacenters": []any{"dc-1"},
		"thumbprint": strings.TrimSuffix(strings.Repeat("0A:", 32), ":"),
	}, conf.Vcenter["catamaran"])
	text := resolved(named(t, list, vSphereVolumes), "csi-vsphere.conf")
	for _, line := range []string{`cluster-id = "test-workload"`, `[VirtualCenter "vcenter.example.org"]`, `insecure-flag = "false"`, `port = "8443"`, `password = "a \"b\\c\": {{id}} #"`} {
		assert.Contains(t, text, line+"\n")
	}

	v.Password = file("password", "two\nlines")
	r := named(t, releases(t, inv, inventory.Workload), vSphereVolumes)
	require.ErrorContains(t, r.Secrets[0].Check(), "secret vmware-system-csi/cloud-vsphere, key csi-vsphere.conf: the secret password is not one line of text")
	assert.NotContains(t, r.Secrets[0].Check().Error(), "two")
}

// Who has the node has nothing of the cloud's: the credential is mounted where the controllers are, and not by what runs on each node.
func TestNodesHaveNoCloudCredential(t *testing.T) {
	t.Parallel()
	inv := withClouds(onClouds(site(t, "")))
	for cluster, driver := range map[inventory.ClusterName]string{inventory.Service: cinder, inventory.Workload: vSphereVolumes} {
		manifest, err := named(t, releases(t, inv, cluster), driver).Manifest()
		require.NoError(t, err)
		mounted := map[string]bool{}
		for _, o := range objects(t, manifest) {
			for range podSpecs(o) {
				kind := o["kind"].(string)
				mounted[kind] = mounted[kind] || false
				walkMaps(o, func(m map[string]any) {
					if ref, ok := m["secret"].(map[string]any); ok && ref["secretName"] != nil {
						mounted[kind] = true
					}
				})
			}
		}
		assert.Equal(t, map[string]bool{"Deployment": true, "DaemonSet": false}, mounted, driver)
	}
}

// OVN's driver knows one method, and refuses a load balancer with the controller's own.
func TestMethodOfLoadBalancers(t *testing.T) {
	t.Parallel()
	for provider, ovn := range map[string]bool{"": false, "amphora": false, "ovn": true} {
		values := "{loadBalancers: {enabled: true, provider: \"" + provider + "\"}}"
		inv := withClouds(onClouds(site(t, cloudy("openstack-cloud-controller-manager", values))))
		manifest, err := named(t, releases(t, inv, inventory.Service), "openstack-cloud-controller-manager").Manifest()
		require.NoError(t, err)
		config := data(t, manifest, "cloud.conf")
		assert.Equal(t, provider != "", strings.Contains(config+"\n", "\nlb-provider = "+provider+"\n"), config)
		assert.Equal(t, ovn, strings.Contains(config+"\n", "\nlb-method = SOURCE_IP_PORT\n"), config)
	}
}
