package embedded

import (
	"net/netip"
	"time"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// logsComponents are the charts that take, keep and deliver logs.
func logsComponents() []component {
	return []component{
		{
			name: "versitygw", namespace: "versitygw", part: platform, clusters: onService(),
			podSecurity: "restricted", order: 32, timeout: 10 * time.Minute, fallback: true,
			values: func(inv *inventory.Inventory, c *inventory.Cluster) map[string]any {
				return map[string]any{
					"dnsDomain": c.Network.DNSDomain, "network": networkOf(inv, c), "retentionDays": inv.Platform.Retention.LockDays,
				}
			},
			secrets: func(_ *inventory.Inventory, c *inventory.Cluster) []Secret {
				return []Secret{
					serviceCertificate(c, "versitygw"),
					{Namespace: "versitygw", Name: "versitygw-root", Values: map[string]SecretValue{"access": {Text: "root"}, "secret": {Password: "s3-root"}}},
					// mounted by nothing: `catamaran verify` and `catamaran report` read it
					{Namespace: "versitygw", Name: "versitygw-reader", Values: map[string]SecretValue{"access": {Text: StoreReader}, "secret": {Password: StoreReaderPassword}}},
					{Namespace: "versitygw", Name: "versitygw-users", Values: map[string]SecretValue{"users.json": {Text: storeUsers()}}},
				}
			},
			// a site with an S3 of its own has no use for it
			unless: func(inv *inventory.Inventory) bool { return inv.Platform.ObjectStorage != nil },
		},
		{
			name: "loki", namespace: "loki", part: platform, clusters: onService(),
			podSecurity: "restricted", order: 34, timeout: 10 * time.Minute, fallback: true,
			values: func(inv *inventory.Inventory, c *inventory.Cluster) map[string]any {
				return map[string]any{
					"dnsDomain": c.Network.DNSDomain, "network": networkOf(inv, c), "retentionDays": inv.Platform.Retention.LogsDays,
					"s3": volumeOrStore(inv, "loki"),
				}
			},
			secrets: func(inv *inventory.Inventory, c *inventory.Cluster) []Secret {
				return []Secret{serviceCertificate(c, "loki"), storeKey(inv, "loki")}
			},
			requires: needsStoreUnlessSmall,
		},
		{
			name: gateway, namespace: gateway, part: platform, clusters: onService(),
			podSecurity: "restricted", order: 36, timeout: 10 * time.Minute, fallback: true,
			values: func(inv *inventory.Inventory, c *inventory.Cluster) map[string]any {
				i := inv.Platform.Ingest
				return map[string]any{
					"dnsDomain": c.Network.DNSDomain, "network": networkOf(inv, c), "tenants": tenantNames(inv),
					"forwardPort": i.ForwardPort, "metricsPort": i.MetricsPort, "retentionDays": inv.Platform.Retention.LockDays,
					"s3": store(inv, gateway),
				}
			},
			secrets: func(inv *inventory.Inventory, c *inventory.Cluster) []Secret {
				return []Secret{serviceCertificate(c, gateway, gateway, gateway+"-metrics"), doorCertificate(inv, c), storeKey(inv, gateway)}
			},
			requires: needsStore,
		},
		{
			name: "fluentd", namespace: "fluentd", part: platform, clusters: onWorkload(), after: gateway,
			podSecurity: "privileged", order: 40, timeout: 10 * time.Minute, fallback: true,
			values: func(inv *inventory.Inventory, c *inventory.Cluster) map[string]any {
				i := inv.Platform.Ingest
				return map[string]any{
					"dnsDomain": c.Network.DNSDomain, "network": networkOf(inv, c),
					"ingest": map[string]any{"address": i.Address, "forwardPort": i.ForwardPort, "serverName": doorName(inv)},
				}
			},
			secrets: func(inv *inventory.Inventory, _ *inventory.Cluster) []Secret {
				return []Secret{ingestClient(inv, "fluentd")}
			},
			requires: needsIngest,
		},
		{
			name: "falco", namespace: "falco", part: platform, clusters: onWorkload(),
			podSecurity: "privileged", order: 42, timeout: 10 * time.Minute, fallback: true,
			values: func(inv *inventory.Inventory, c *inventory.Cluster) map[string]any {
				return map[string]any{"network": networkOf(inv, c)}
			},
		},
	}
}

// doorName is the name that the gateway's certificate is checked for where its address is no name. The certificate of
// another site's gateway is known by its address only.
func doorName(inv *inventory.Inventory) string {
	if _, err := netip.ParseAddr(inv.Platform.Ingest.Address); err == nil && inv.Clusters.Service != nil {
		return gateway
	}
	return ""
}
