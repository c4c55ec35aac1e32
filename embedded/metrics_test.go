package embedded

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/catamaran-k8s/catamaran/embedded/helm"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// metricsObjects renders one of the charts of metrics with the inventory's values for a cluster and some more.
func metricsObjects(t *testing.T, name string, cluster inventory.ClusterName, more map[string]any) []map[string]any {
	t.Helper()
	inv := site(t, "platform: {size: small}")
	i := slices.IndexFunc(metricsComponents(), func(c component) bool { return c.name == name })
	require.GreaterOrEqual(t, i, 0, name)
	c := metricsComponents()[i]
	chart, err := embeddedChart(name)
	require.NoError(t, err)
	values := helm.Merge(c.values(inv, inv.Cluster(cluster)), more)
	require.NoError(t, chart.CheckValues(values))
	out, err := chart.Render(helm.RenderOptions{Name: name, Namespace: c.namespace, KubeVersion: "1.37.2", Values: values})
	require.NoError(t, err)
	about, _ := chart.File("Chart.yaml")
	for _, image := range out.Images {
		_, tag, _ := strings.Cut(image, ":")
		assert.Contains(t, string(about), "\nappVersion: "+tag+"\n", "the chart speaks of its image")
	}
	return objects(t, out.Manifest)
}

// where says which charts of metrics a cluster has.
func where() map[inventory.ClusterName][]string {
	both := []string{"node-exporter", "kube-state-metrics"}
	return map[inventory.ClusterName][]string{
		inventory.Service:  append(slices.Clone(both), "thanos", "alertmanager", "prometheus", "grafana"),
		inventory.Workload: append(slices.Clone(both), "prometheus-agent"),
	}
}

func TestMetricsValuesFollowTheInventory(t *testing.T) {
	t.Parallel()
	inv := site(t, "")
	got := map[string]map[string]any{}
	for _, c := range metricsComponents() {
		got[c.name] = c.values(inv, inv.Clusters.Workload)
	}
	assert.Equal(t, map[string]any{
		"ingest":  map[string]any{"address": "10.77.0.11", "metricsPort": 30443},
		"network": map[string]any{"nodes": []any{"10.77.0.21/32"}, "peers": []any{"10.77.0.11/32", "10.77.0.12/32"}},
	}, got["prometheus-agent"], "a node that is absent is not among them")
	assert.Equal(t, map[string]any{
		"clients": []any{OperatorName}, "tenants": []any{"test-workload"}, "silenceMinutes": 10, "retentionDays": 30,
		"s3": map[string]any{"endpoint": "versitygw.versitygw.svc:7070", "region": "us-east-1", "bucket": "thanos", "serviceAuthority": true, "siteAuthority": false},
	}, got["thanos"])
	assert.Equal(t, map[string]any{"tls": false}, got["node-exporter"])
}

// Both Prometheuses scrape their own cluster alike.
func TestScrapeJobsAreTheSame(t *testing.T) {
	t.Parallel()
	a, err := chartFiles.ReadFile("charts/prometheus/templates/_jobs.tpl")
	require.NoError(t, err)
	b, err := chartFiles.ReadFile("charts/prometheus-agent/templates/_jobs.tpl")
	require.NoError(t, err)
	assert.Equal(t, string(a), string(b))
}

// kube-state-metrics may list what it is told to list, and Secrets and ConfigMaps are not among it.
func TestKubeStateMetricsMayListNoMore(t *testing.T) {
	t.Parallel()
	list := metricsObjects(t, "kube-state-metrics", inventory.Workload, nil)
	var may []string
	for _, o := range list {
		if o["kind"] != "ClusterRole" {
			continue
		}
		for _, r := range o["rules"].([]any) {
			rule := r.(map[string]any)
			assert.Equal(t, []any{"list", "watch"}, rule["verbs"])
			for _, resource := range rule["resources"].([]any) {
				may = append(may, resource.(string))
			}
		}
	}
	slices.Sort(may)
	assert.Contains(t, containerArgs(t, list, "kube-state-metrics"), "--resources="+strings.Join(may, ","))
	for _, never := range []string{"secrets", "configmaps", "*"} {
		assert.NotContains(t, may, never)
	}
}

func containerArgs(t *testing.T, list []map[string]any, workload string) []string {
	t.Helper()
	for _, o := range list {
		if o["metadata"].(map[string]any)["name"] != workload {
			continue
		}
		for _, pod := range podSpecs(o) {
			var args []string
			for _, a := range pod["containers"].([]any)[0].(map[string]any)["args"].([]any) {
				args = append(args, a.(string))
			}
			return args
		}
	}
	require.Fail(t, "no workload "+workload)
	return nil
}

// Whatever listens on more than loopback asks for a client certificate.
func TestThanosListens(t *testing.T) {
	t.Parallel()
	list := metricsObjects(t, "thanos", inventory.Service, map[string]any{"s3": map[string]any{"endpoint": "s3.example.org:9000", "bucket": "metrics"}})
	for _, part := range []string{"receive", "query", "rule", "store", "compact"} {
		args := containerArgs(t, list, "thanos-"+part)
		asks := map[string]string{
			"--http-address": "--http.config=/etc/catamaran/thanos/web-" + part + ".yaml", "--grpc-address": "--grpc-server-tls-client-ca=/etc/catamaran/tls/ca.crt",
			"--remote-write.address": "--remote-write.server-tls-client-ca=/etc/catamaran/tls/ca.crt",
		}
		for _, arg := range args {
			flag, value, _ := strings.Cut(arg, "=")
			if !strings.HasSuffix(flag, "-address") && !strings.HasSuffix(flag, ".address") {
				continue
			}
			if strings.HasPrefix(value, "127.0.0.1:") {
				continue
			}
			require.Contains(t, asks, flag, part)
			assert.Contains(t, args, asks[flag], part)
		}
		if part != "compact" { // which has no gRPC
			assert.Contains(t, strings.Join(args, " "), "--grpc-address=", "%s: not the default, which knows no clients", part)
		}
	}
	assert.Contains(t, containerArgs(t, list, "thanos-receive"), "--receive.capnproto-address=127.0.0.1:19391", "it can not be switched off")
}

// As many replicas as hold each sample, all in the ring; with two or more a budget.
func TestThanosSizes(t *testing.T) {
	t.Parallel()
	for size, c := range map[string]struct{ replicas, budgets int }{"small": {1, 0}, "standard": {3, 3}, "large": {3, 3}} {
		list := metricsObjects(t, "thanos", inventory.Service, map[string]any{"size": size})
		budgets := 0
		for _, o := range list {
			switch o["kind"] {
			case "PodDisruptionBudget":
				budgets++
			case "ConfigMap":
				text, ok := o["data"].(map[string]any)["hashrings.json"].(string)
				if !ok {
					continue
				}
				var rings []struct {
					Tenants   []string
					Endpoints []struct{ Address string }
				}
				require.NoError(t, json.Unmarshal([]byte(text), &rings))
				require.Len(t, rings, 1)
				assert.Equal(t, []string{"service", "test-workload"}, rings[0].Tenants)
				assert.Len(t, rings[0].Endpoints, c.replicas, size)
			}
		}
		assert.Equal(t, c.budgets, budgets, size)
		assert.Contains(t, containerArgs(t, list, "thanos-receive"), fmt.Sprintf("--receive.replication-factor=%d", c.replicas))
	}
}

// Charts hold no secrets, and mount those that the site's vault makes.
func TestMetricsSecrets(t *testing.T) {
	t.Parallel()
	want := map[inventory.ClusterName]map[string][]string{
		inventory.Service: {
			"node-exporter": {"node-exporter-tls"}, "kube-state-metrics": {"kube-state-metrics-tls"}, "thanos": {"thanos-s3", "thanos-tls"},
			"alertmanager": {"alertmanager-receivers", "alertmanager-tls"}, "prometheus": {"prometheus-tls"}, "grafana": {"grafana-admin", "grafana-tls"},
		},
		inventory.Workload: {"prometheus-agent": {"ingest-client"}},
	}
	got := map[inventory.ClusterName]map[string][]string{}
	for cluster, charts := range where() {
		got[cluster] = map[string][]string{}
		for _, name := range charts {
			var more map[string]any
			if name == "thanos" {
				more = map[string]any{"s3": map[string]any{"endpoint": "s3.example.org:9000", "bucket": "metrics"}}
			}
			used := map[string]bool{}
			for _, o := range metricsObjects(t, name, cluster, more) {
				assert.NotEqual(t, "Secret", o["kind"], name)
				walkMaps(o, func(m map[string]any) {
					for key, field := range map[string]string{"secret": "secretName", "secretKeyRef": "name"} {
						if ref, ok := m[key].(map[string]any); ok {
							used[ref[field].(string)] = true
						}
					}
				})
			}
			if len(used) > 0 {
				got[cluster][name] = slices.Sorted(maps.Keys(used))
			}
		}
	}
	assert.Equal(t, want, got)
}

func walkMaps(node any, visit func(map[string]any)) {
	switch n := node.(type) {
	case map[string]any:
		visit(n)
		for _, child := range n {
			walkMaps(child, visit)
		}
	case []any:
		for _, child := range n {
			walkMaps(child, visit)
		}
	}
}

// Everything is denied in each namespace but what is written down; an empty list of peers, which would mean everybody, is
// only where the other side is a name.
func TestMetricsNetworkPolicies(t *testing.T) {
	t.Parallel()
	open := map[string]bool{}
	for cluster, charts := range where() {
		for _, name := range charts {
			for _, more := range []map[string]any{nil, {"network": map[string]any{"nodes": []any{}}}} {
				if _, ok := more["network"]; ok && !slices.Contains([]string{"kube-state-metrics", "prometheus", "prometheus-agent"}, name) {
					continue
				}
				denies := false
				for _, o := range metricsObjects(t, name, cluster, more) {
					if o["kind"] != "NetworkPolicy" {
						continue
					}
					spec := o["spec"].(map[string]any)
					if len(spec["podSelector"].(map[string]any)) == 0 {
						denies = true
						assert.Equal(t, []any{"Ingress", "Egress"}, spec["policyTypes"], name)
					}
					for direction, side := range map[string]string{"ingress": "from", "egress": "to"} {
						rules, _ := spec[direction].([]any)
						for _, r := range rules {
							if peers, _ := r.(map[string]any)[side].([]any); len(peers) == 0 {
								open[name+" "+direction] = true
							}
						}
					}
				}
				assert.True(t, denies, "%s has no policy for all its pods", name)
			}
		}
	}
	assert.Empty(t, open)
	byName := metricsObjects(t, "alertmanager", inventory.Service, map[string]any{"receivers": []any{map[string]any{"name": "x", "webhook": map[string]any{"urlKey": "u"}}}})
	found := false
	for _, o := range byName {
		if o["kind"] == "NetworkPolicy" {
			for _, r := range o["spec"].(map[string]any)["egress"].([]any) {
				found = found || r.(map[string]any)["to"] == nil
			}
		}
	}
	assert.True(t, found, "this check sees rules without peers")
}

// What the small size reserves: the whole platform is to fit 2 CPUs and 4 GiB, and 0.5 CPU and 1 GiB in a workload cluster with
// 0.2 CPU and 256 MiB a node; this is the part of metrics in it.
func TestSmallIsSmall(t *testing.T) {
	t.Parallel()
	limits := map[inventory.ClusterName][4]string{ // of the cluster, then of each node
		inventory.Service: {"200m", "620Mi", "10m", "20Mi"}, inventory.Workload: {"100m", "200Mi", "10m", "20Mi"},
	}
	for cluster, charts := range where() {
		var sums [4]resource.Quantity
		for _, name := range charts {
			for _, o := range metricsObjects(t, name, cluster, nil) {
				for _, pod := range podSpecs(o) {
					requests := pod["containers"].([]any)[0].(map[string]any)["resources"].(map[string]any)["requests"].(map[string]any)
					at := 0
					if o["kind"] == "DaemonSet" {
						at = 2
					}
					sums[at].Add(resource.MustParse(requests["cpu"].(string)))
					sums[at+1].Add(resource.MustParse(requests["memory"].(string)))
				}
			}
		}
		for i, most := range limits[cluster] {
			limit := resource.MustParse(most)
			assert.LessOrEqual(t, sums[i].Cmp(limit), 0, "%s: %s, at most %s", cluster, sums[i].String(), most)
			assert.Positive(t, sums[i].Sign())
		}
	}
}

// Dashboards are JSON that Grafana can lay out, and ask data sources that are there.
func TestDashboards(t *testing.T) {
	t.Parallel()
	list := metricsObjects(t, "grafana", inventory.Service, nil)
	dashboards := 0
	for _, o := range list {
		if o["kind"] != "ConfigMap" || o["metadata"].(map[string]any)["name"] != "grafana-dashboards" {
			continue
		}
		for file, text := range o["data"].(map[string]any) {
			dashboards++
			var d struct {
				UID, Title string
				Panels     []struct {
					ID         int
					Title      string
					Datasource struct{ Type, UID string }
					GridPos    struct{ X, Y, W, H int }
					Targets    []struct{ RefID, Expr string }
				}
			}
			require.NoError(t, json.Unmarshal([]byte(text.(string)), &d), file)
			assert.Equal(t, d.UID+".json", file)
			assert.NotEmpty(t, d.Title, file)
			cells := map[[2]int]string{}
			for _, p := range d.Panels {
				what := file + ": " + p.Title
				assert.Contains(t, []string{"prometheus/thanos", "loki/loki"}, p.Datasource.Type+"/"+p.Datasource.UID, what)
				require.NotEmpty(t, p.Targets, what)
				for _, target := range p.Targets {
					assert.NotEmpty(t, target.Expr, what)
				}
				assert.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, what)
				for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
					for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
						other, taken := cells[[2]int{x, y}]
						require.False(t, taken, "%s lies on %s", what, other)
						cells[[2]int{x, y}] = p.Title
					}
				}
			}
		}
	}
	assert.Equal(t, 6, dashboards)
}

// Values that could do harm are refused before anything runs.
func TestBadMetricsValues(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]struct {
		chart  string
		values map[string]any
	}{
		"tenants":                 {"thanos", map[string]any{"tenants": []any{"service"}}},                                                                        // it is the service cluster's own
		"tenants.0":               {"thanos", map[string]any{"tenants": []any{"a|b"}}},                                                                            // no pattern in a rule
		"silenceMinutes":          {"thanos", map[string]any{"silenceMinutes": 0}},                                                                                // would always fire
		"receivers.0":             {"alertmanager", map[string]any{"receivers": []any{map[string]any{"name": "x"}}}},                                              // tells nobody
		"receivers.0.name":        {"alertmanager", map[string]any{"receivers": []any{map[string]any{"name": "null", "webhook": map[string]any{"urlKey": "u"}}}}}, // there is one
		"receivers.0.webhook.url": {"alertmanager", map[string]any{"receivers": []any{map[string]any{"name": "x", "webhook": map[string]any{"urlKey": "u", "url": "https://secret"}}}}},
		"ingest.metricsPort":      {"prometheus-agent", map[string]any{"ingest": map[string]any{"metricsPort": 0}}},
		"resources.limits.cpu":    {"grafana", map[string]any{"resources": map[string]any{"limits": map[string]any{"cpu": "lots"}}}},
		"size":                    {"node-exporter", map[string]any{"size": "tiny"}},
	} {
		chart, err := embeddedChart(c.chart)
		require.NoError(t, err)
		err = chart.CheckValues(c.values)
		var refused *helm.ValuesError
		require.ErrorAs(t, err, &refused, "%s of %s", want, c.chart)
		found := false
		for _, p := range refused.Problems {
			found = found || strings.HasPrefix(p.Path, want)
		}
		assert.True(t, found, "%s: %v", want, refused)
		assert.NotContains(t, err.Error(), "https://secret")
	}
}
