package embedded

import (
	"net"
	"strings"
	"time"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// The clouds that have components here, as providers are called.
const (
	openStack = "openstack"
	vSphere   = "vsphere"
)

// cloudComponents are what connects a cluster to the cloud that its machines are in: on where its provider is that cloud, off elsewhere.
func cloudComponents() []component {
	return []component{
		{
			// before everything that needs a node without the taint that it takes away
			name: "openstack-cloud-controller-manager", namespace: "openstack-cloud-controller-manager", provider: openStack,
			podSecurity: "privileged", order: 2, timeout: 5 * time.Minute,
			values: controllerValues, secrets: openStackSecrets("openstack-cloud-controller-manager"), requires: needsOpenStack,
		},
		{
			name: "vsphere-cloud-controller-manager", namespace: "vsphere-cloud-controller-manager", provider: vSphere,
			podSecurity: "privileged", order: 2, timeout: 5 * time.Minute,
			values: controllerValues, secrets: vSphereSecrets("vsphere-cloud-controller-manager", "vsphere.conf", vSphereControllerConfig), requires: needsVSphere,
		},
		{
			name: cinder, namespace: cinder, provider: openStack, podSecurity: "privileged", order: 15, timeout: 5 * time.Minute,
			values: driverValues, secrets: openStackSecrets(cinder), requires: needsOpenStack,
		},
		{
			// its programs know this namespace
			name: vSphereVolumes, namespace: "vmware-system-csi", provider: vSphere, podSecurity: "privileged", order: 15, timeout: 5 * time.Minute,
			values: driverValues, secrets: vSphereSecrets("vmware-system-csi", "csi-vsphere.conf", vSphereDriverConfig), requires: needsVSphere,
		},
	}
}

// The components that make a cloud's volumes.
const (
	cinder         = "cinder-csi"
	vSphereVolumes = "vsphere-csi"
)

// ExternalCloud says whether a controller in the cluster tells Kubernetes about its nodes: kubelets are then started with
// --cloud-provider=external, and nothing but what tolerates it runs on a node before the controller has looked at it.
func ExternalCloud(inv *inventory.Inventory, spec *inventory.Cluster) bool {
	for _, c := range cloudComponents() {
		if strings.HasSuffix(c.name, "-cloud-controller-manager") && c.enabled(inv, spec) {
			return true
		}
	}
	return false
}

// cloudVolumes says whether a cloud's volumes can be had on the cluster.
func cloudVolumes(inv *inventory.Inventory, spec *inventory.Cluster) bool {
	for _, c := range cloudComponents() {
		if (c.name == cinder || c.name == vSphereVolumes) && c.enabled(inv, spec) {
			return true
		}
	}
	return false
}

// nameInCloud tells the clusters of one cloud apart.
func nameInCloud(inv *inventory.Inventory, c *inventory.Cluster) string {
	return inv.Metadata.Name + "-" + string(clusterName(inv, c))
}

func clusterName(inv *inventory.Inventory, c *inventory.Cluster) inventory.ClusterName {
	if c == inv.Clusters.Workload {
		return inventory.Workload
	}
	return inventory.Service
}

// ownAuthority is the authority (PEM file) of the cloud's certificates; empty: the public ones.
func ownAuthority(c *inventory.Cluster, cloud string) string {
	switch {
	case c.Cloud == nil:
	case cloud == openStack && c.Cloud.OpenStack != nil:
		return c.Cloud.OpenStack.CAFile
	case cloud == vSphere && c.Cloud.VSphere != nil:
		return c.Cloud.VSphere.CAFile
	}
	return ""
}

func controllerValues(inv *inventory.Inventory, c *inventory.Cluster) map[string]any {
	return map[string]any{"clusterName": nameInCloud(inv, c)}
}

// driverValues make the cloud's storage class the default one where local-path is off.
func driverValues(inv *inventory.Inventory, c *inventory.Cluster) map[string]any {
	return map[string]any{"clusterName": nameInCloud(inv, c), "network": networkOf(inv, c), "defaultClass": storageClass(inv) == ""}
}

func needsOpenStack(inv *inventory.Inventory, c *inventory.Cluster) []missing {
	if c.Cloud != nil && c.Cloud.OpenStack != nil {
		return nil
	}
	return []missing{{
		field: "clusters." + string(clusterName(inv, c)) + ".cloud.openstack", what: "an application credential of this cluster's own project",
		hint: "give authURL, applicationCredentialID and applicationCredentialSecret here, or switch the component off",
	}}
}

func needsVSphere(inv *inventory.Inventory, c *inventory.Cluster) []missing {
	if c.Cloud != nil && c.Cloud.VSphere != nil {
		return nil
	}
	return []missing{{
		field: "clusters." + string(clusterName(inv, c)) + ".cloud.vsphere", what: "a user of the vCenter who reaches this cluster's machines and disks only",
		hint: "give server, datacenter, user and password here, or switch the component off",
	}}
}

// cloudFolder is where the charts mount the Secret.
const cloudFolder = "/etc/catamaran/cloud/"

// openStackSecrets are what a component signs in with: a clouds.yaml of one entry.
func openStackSecrets(namespace string) func(*inventory.Inventory, *inventory.Cluster) []Secret {
	return func(_ *inventory.Inventory, c *inventory.Cluster) []Secret {
		if c.Cloud == nil || c.Cloud.OpenStack == nil {
			return nil
		}
		o := c.Cloud.OpenStack
		lines := []string{
			"clouds:", "  catamaran:", "    auth_type: v3applicationcredential", "    auth:",
			"      auth_url: " + quoted(o.AuthURL),
			`      application_credential_id: "{{id}}"`, `      application_credential_secret: "{{secret}}"`,
		}
		if o.Region != "" {
			lines = append(lines, "    region_name: "+quoted(o.Region))
		}
		if o.CAFile != "" {
			lines = append(lines, "    cacert: "+cloudFolder+"ca.crt")
		}
		values := map[string]SecretValue{"clouds.yaml": {Form: &Form{
			Text: strings.Join(lines, "\n") + "\n", Blanks: map[string]*inventory.Secret{"id": o.ApplicationCredentialID, "secret": o.ApplicationCredentialSecret},
		}}}
		return []Secret{withAuthorityFile(Secret{Namespace: namespace, Name: "cloud-openstack", Values: values}, ownAuthority(c, openStack))}
	}
}

// vSphereSecrets are a component's configuration, since user and password are a part of it.
func vSphereSecrets(namespace, file string, config func(server, port, name string, v *inventory.VSphereCloud) []string) func(*inventory.Inventory, *inventory.Cluster) []Secret {
	return func(inv *inventory.Inventory, c *inventory.Cluster) []Secret {
		if c.Cloud == nil || c.Cloud.VSphere == nil {
			return nil
		}
		v := c.Cloud.VSphere
		server, port, err := net.SplitHostPort(v.Server)
		if err != nil {
			server, port = strings.Trim(v.Server, "[]"), "443"
		}
		values := map[string]SecretValue{file: {Form: &Form{
			Text:   strings.Join(config(server, port, nameInCloud(inv, c), v), "\n") + "\n",
			Blanks: map[string]*inventory.Secret{"user": v.User, "password": v.Password},
		}}}
		return []Secret{withAuthorityFile(Secret{Namespace: namespace, Name: "cloud-vsphere", Values: values}, ownAuthority(c, vSphere))}
	}
}

func withAuthorityFile(s Secret, file string) Secret {
	if file != "" {
		s.Values["ca.crt"] = SecretValue{File: file}
	}
	return s
}

// vSphereControllerConfig is the YAML form of the cloud controller manager's configuration.
// https://cloud-provider-vsphere.sigs.k8s.io/cloud_config
func vSphereControllerConfig(server, port, _ string, v *inventory.VSphereCloud) []string {
	lines := []string{
		"global:", "  port: " + port, "  insecureFlag: false",
		"vcenter:", "  catamaran:",
		"    server: " + quoted(server), `    user: "{{user}}"`, `    password: "{{password}}"`,
		"    datacenters:", "      - " + quoted(v.Datacenter),
	}
	if v.CAFile != "" {
		lines = append(lines, "    caFile: "+cloudFolder+"ca.crt")
	}
	if v.Thumbprint != "" {
		lines = append(lines, "    thumbprint: "+quoted(thumbprint(v.Thumbprint)))
	}
	return lines
}

// vSphereDriverConfig is the storage driver's configuration, which is no YAML.
func vSphereDriverConfig(server, port, name string, v *inventory.VSphereCloud) []string {
	lines := []string{"[Global]", "cluster-id = " + quoted(name), `cluster-distribution = "Catamaran"`}
	if v.CAFile != "" {
		lines = append(lines, "ca-file = "+quoted(cloudFolder+"ca.crt"))
	}
	if v.Thumbprint != "" {
		lines = append(lines, "thumbprint = "+quoted(thumbprint(v.Thumbprint)))
	}
	return append(lines, "",
		"[VirtualCenter "+quoted(server)+"]", `insecure-flag = "false"`, "port = "+quoted(port),
		`user = "{{user}}"`, `password = "{{password}}"`, "datacenters = "+quoted(v.Datacenter))
}

// thumbprint is the spelling that vSphere's programs compare: upper case, with colons.
func thumbprint(given string) string {
	digits := strings.ToUpper(strings.ReplaceAll(given, ":", ""))
	var pairs []string
	for i := 0; i+1 < len(digits); i += 2 {
		pairs = append(pairs, digits[i:i+2])
	}
	return strings.Join(pairs, ":")
}

// quoted is a text between double quotes, for YAML and for the configuration files of these programs.
func quoted(text string) string {
	return `"` + escaped(text) + `"`
}
