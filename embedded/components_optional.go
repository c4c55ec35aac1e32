package embedded

import (
	"fmt"
	"time"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// gatewayAPI is the component that brings the Gateway API's kinds.
const gatewayAPI = "gateway-api"

// optionalComponents are what a site may want and the platform does not need: off unless components.NAME.enabled says so.
func optionalComponents() []component {
	return []component{
		{
			name: gatewayAPI, namespace: gatewayAPI, part: optional, podSecurity: "restricted", order: 45, timeout: 5 * time.Minute,
			values: func(inv *inventory.Inventory, c *inventory.Cluster) map[string]any {
				return map[string]any{"dnsDomain": c.Network.DNSDomain, "network": networkOf(inv, c)}
			},
			requires: needsNodePorts,
		},
		{
			name: "cert-manager", namespace: "cert-manager", part: optional, podSecurity: "restricted", order: 46, timeout: 5 * time.Minute,
			values: func(inv *inventory.Inventory, c *inventory.Cluster) map[string]any {
				return map[string]any{"network": networkOf(inv, c), "gatewayAPI": switchedOn(inv, gatewayAPI)}
			},
		},
		{
			name: velero, namespace: velero, part: optional, podSecurity: "restricted", order: 48, timeout: 5 * time.Minute,
			values: func(inv *inventory.Inventory, c *inventory.Cluster) map[string]any {
				return map[string]any{"network": networkOf(inv, c), "s3": backupStore(c.Backup)}
			},
			secrets: backupSecrets, requires: needsBackupStore,
		},
		{
			name: dex, namespace: dex, part: optional, clusters: onService(), podSecurity: "restricted", order: 48, timeout: 5 * time.Minute,
			values: signInValues, secrets: signInSecrets, requires: needsDirectory,
		},
	}
}

// velero is the component that makes backups.
const velero = "velero"

// switchedOn says whether the inventory wants a component that is off by itself.
func switchedOn(inv *inventory.Inventory, name string) bool {
	given := inv.Components[name].Enabled
	return given != nil && *given
}

// backupStore is the s3 value of a cluster's backups; without one, a value that the chart's schema takes.
func backupStore(b *inventory.Backup) map[string]any {
	if b == nil {
		b = &inventory.Backup{}
	}
	return map[string]any{"endpoint": b.Endpoint, "region": b.Region, "bucket": b.Bucket, "authority": b.CAFile != ""}
}

// backupSecrets are the cluster's key to its own bucket, and what keeps Velero from making a password that all Veleros in the
// world have in common; it would be for the content of volumes, which is not copied.
func backupSecrets(inv *inventory.Inventory, c *inventory.Cluster) []Secret {
	b := c.Backup
	if b == nil {
		return nil
	}
	key := map[string]SecretValue{"access": {From: b.Credentials.Access}, "secret": {From: b.Credentials.Secret}}
	if b.CAFile != "" {
		key["ca.crt"] = SecretValue{File: b.CAFile}
	}
	cluster := inventory.Service
	if c == inv.Clusters.Workload {
		cluster = inventory.Workload
	}
	return []Secret{
		{Namespace: velero, Name: velero + "-s3", Values: key},
		{Namespace: velero, Name: unusedRepository, Values: map[string]SecretValue{
			"repository-password": {Text: "no volumes of the " + string(cluster) + " cluster are copied"},
		}},
	}
}

// unusedRepository is the Secret that Velero makes at its start where there is none.
const unusedRepository = velero + "-repo-credentials"

// needsBackupStore says what Velero lacks that has no bucket. That the bucket is a safe place the inventory's own rules see to.
func needsBackupStore(inv *inventory.Inventory, c *inventory.Cluster) []missing {
	if c.Backup != nil {
		return nil
	}
	name := inventory.Service
	if c == inv.Clusters.Workload {
		name = inventory.Workload
	}
	return []missing{{
		field: "clusters." + string(name) + ".backup", what: "an S3 outside of both clusters, with a bucket and a key of this cluster's own",
		hint: "name one here; neither versitygw nor the key of platform.objectStorage will do",
	}}
}

// needsNodePorts says that a node port of the proxy is taken on the service cluster, which has others.
func needsNodePorts(inv *inventory.Inventory, c *inventory.Cluster) []missing {
	if c != inv.Clusters.Service {
		return nil
	}
	taken := map[string]string{
		fmt.Sprint(inv.Platform.Ingest.ForwardPort): "platform.ingest.forwardPort", fmt.Sprint(inv.Platform.Ingest.MetricsPort): "platform.ingest.metricsPort",
	}
	if o := inv.Platform.OIDC; o != nil && switchedOn(inv, dex) {
		taken[fmt.Sprint(o.Port)] = "platform.oidc.port"
	}
	var out []missing
	for _, key := range []string{"httpPort", "httpsPort"} {
		given := fmt.Sprint(inv.Components[gatewayAPI].Values[key])
		if owner, twice := taken[given]; twice {
			out = append(out, missing{
				field: "components." + gatewayAPI + ".values." + key, what: "a node port of its own: " + given + " is " + owner, hint: "choose another",
			})
		}
	}
	return out
}
