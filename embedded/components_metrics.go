package embedded

import (
	"strings"
	"time"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// metricsComponents are the charts that make, keep and show metrics, and that alert.
func metricsComponents() []component {
	return []component{
		{
			name: "node-exporter", namespace: "node-exporter", part: platform,
			podSecurity: "privileged", order: 30, timeout: 5 * time.Minute, fallback: true,
			values: func(inv *inventory.Inventory, c *inventory.Cluster) map[string]any {
				return map[string]any{"tls": c == inv.Clusters.Service}
			},
			secrets: inService("node-exporter"),
		},
		{
			name: "kube-state-metrics", namespace: "kube-state-metrics", part: platform,
			podSecurity: "restricted", order: 30, timeout: 5 * time.Minute, fallback: true,
			values: func(inv *inventory.Inventory, c *inventory.Cluster) map[string]any {
				return map[string]any{"tls": c == inv.Clusters.Service, "network": map[string]any{"nodes": nodeNetworks(c)}}
			},
			secrets: inService("kube-state-metrics"),
		},
		{
			name: "thanos", namespace: "thanos", part: platform, clusters: onService(),
			podSecurity: "restricted", order: 34, timeout: 10 * time.Minute, fallback: true,
			values: func(inv *inventory.Inventory, _ *inventory.Cluster) map[string]any {
				p := inv.Platform
				s3 := volumeOrStore(inv, "thanos")
				s3["endpoint"] = strings.TrimPrefix(s3["endpoint"].(string), "https://")
				return map[string]any{
					"clients": []any{OperatorName},
					"tenants": tenantNames(inv), "silenceMinutes": int(time.Duration(p.SilenceAlert).Minutes()), "retentionDays": p.Retention.MetricsDays, "s3": s3,
				}
			},
			secrets: func(inv *inventory.Inventory, c *inventory.Cluster) []Secret {
				return []Secret{serviceCertificate(c, "thanos", "thanos-receive", "thanos-query", "thanos-rule"), storeKey(inv, "thanos")}
			},
			requires: needsStoreUnlessSmall,
		},
		{
			name: "alertmanager", namespace: "alertmanager", part: platform, clusters: onService(),
			podSecurity: "restricted", order: 34, timeout: 5 * time.Minute, fallback: true,
			values: alertReceivers, secrets: alertSecrets,
		},
		{
			name: "prometheus", namespace: "prometheus", part: platform, clusters: onService(),
			podSecurity: "restricted", order: 36, timeout: 10 * time.Minute, fallback: true,
			values: func(_ *inventory.Inventory, c *inventory.Cluster) map[string]any {
				return map[string]any{"clients": []any{OperatorName}, "network": map[string]any{"nodes": nodeNetworks(c)}}
			},
			secrets: inService("prometheus"),
		},
		{
			name: "grafana", namespace: "grafana", part: platform, clusters: onService(),
			podSecurity: "restricted", order: 38, timeout: 10 * time.Minute, fallback: true,
			values: func(inv *inventory.Inventory, _ *inventory.Cluster) map[string]any {
				return map[string]any{"tenants": tenantNames(inv)}
			},
			secrets: func(_ *inventory.Inventory, c *inventory.Cluster) []Secret {
				return []Secret{serviceCertificate(c, "grafana"), {Namespace: "grafana", Name: "grafana-admin", Values: map[string]SecretValue{
					"user": {Text: "admin"}, "password": {Password: "grafana-admin"},
				}}}
			},
		},
		{
			name: "prometheus-agent", namespace: "prometheus-agent", part: platform, clusters: onWorkload(), after: gateway,
			podSecurity: "restricted", order: 40, timeout: 10 * time.Minute, fallback: true,
			values: func(inv *inventory.Inventory, c *inventory.Cluster) map[string]any {
				i := inv.Platform.Ingest
				return map[string]any{
					"ingest":  map[string]any{"address": i.Address, "metricsPort": i.MetricsPort},
					"network": map[string]any{"nodes": nodeNetworks(c), "peers": peersOf(inv, c)},
				}
			},
			secrets: func(inv *inventory.Inventory, _ *inventory.Cluster) []Secret {
				return []Secret{ingestClient(inv, "prometheus-agent")}
			},
			requires: needsIngest,
		},
	}
}

// inService gives a part a certificate in the service cluster, and nothing in the workload cluster, which has no authority.
func inService(name string) func(*inventory.Inventory, *inventory.Cluster) []Secret {
	return func(inv *inventory.Inventory, c *inventory.Cluster) []Secret {
		if c != inv.Clusters.Service {
			return nil
		}
		return []Secret{serviceCertificate(c, name)}
	}
}

// Who is told of alerts, where platform.alerts says it; else components.alertmanager.values do.
func alertReceivers(inv *inventory.Inventory, _ *inventory.Cluster) map[string]any {
	a := inv.Platform.Alerts
	values, receivers := map[string]any{"clients": []any{OperatorName}}, []any{}
	operators := map[string]any{"name": "operators"}
	if a.Webhook != nil {
		operators["webhook"] = map[string]any{"urlKey": "webhook-url"}
	}
	if e := a.Email; e != nil {
		mail := map[string]any{"to": e.To, "from": e.From, "smarthost": e.Smarthost}
		if e.Username != "" {
			mail["username"], mail["passwordKey"] = e.Username, "email-password"
		}
		operators["email"] = mail
	}
	if len(operators) > 1 {
		receivers, values["receiver"] = append(receivers, operators), "operators"
	}
	if a.Watchdog != nil {
		receivers = append(receivers, map[string]any{"name": "watchdog", "webhook": map[string]any{"urlKey": "watchdog-url"}})
		values["watchdogReceiver"] = "watchdog"
	}
	if len(receivers) > 0 {
		values["receivers"] = receivers
	}
	return values
}

func alertSecrets(inv *inventory.Inventory, c *inventory.Cluster) []Secret {
	a := inv.Platform.Alerts
	values := map[string]SecretValue{}
	if a.Webhook != nil {
		values["webhook-url"] = SecretValue{From: a.Webhook.URL}
	}
	if a.Email != nil && a.Email.Password != nil {
		values["email-password"] = SecretValue{From: a.Email.Password}
	}
	if a.Watchdog != nil {
		values["watchdog-url"] = SecretValue{From: a.Watchdog.URL}
	}
	secrets := []Secret{serviceCertificate(c, "alertmanager", "alertmanager", "alertmanager-peers")}
	if len(values) > 0 {
		secrets = append(secrets, Secret{Namespace: "alertmanager", Name: "alertmanager-receivers", Values: values})
	}
	return secrets
}
