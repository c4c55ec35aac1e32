package charts

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/catamaran-k8s/catamaran/embedded/helm"
	"github.com/catamaran-k8s/catamaran/test/lab/build"
)

// metricsCharts are the charts of metrics, with the values that the inventory gives them and the Pod Security level of their
// namespace.
func metricsCharts() map[string]struct {
	level  string
	values map[string]any
} {
	type chart = struct {
		level  string
		values map[string]any
	}
	nodes := []any{"10.77.0.11/32", "10.77.0.12/32"}
	tenants := []any{"umea", "lund"}
	return map[string]chart{
		"node-exporter":      {"privileged", map[string]any{"tls": true}},
		"kube-state-metrics": {"restricted", map[string]any{"tls": true, "network": map[string]any{"nodes": nodes}}},
		"thanos":             {"restricted", map[string]any{"tenants": tenants}},
		"alertmanager":       {"restricted", nil},
		"prometheus":         {"restricted", map[string]any{"network": map[string]any{"nodes": nodes}}},
		"prometheus-agent": {"restricted", map[string]any{
			"ingest":  map[string]any{"address": "10.77.0.10", "metricsPort": 30443},
			"network": map[string]any{"nodes": nodes, "peers": []any{"10.77.0.21/32"}},
		}},
		"grafana": {"restricted", map[string]any{"tenants": tenants}},
	}
}

// metricsObjects renders one of these charts; its values must be good by its schema.
func metricsObjects(t *testing.T, name string, more map[string]any) []*unstructured.Unstructured {
	t.Helper()
	chart, err := helm.LoadDir(filepath.Join("..", "..", "embedded", "charts", name))
	require.NoError(t, err)
	values := helm.Merge(metricsCharts()[name].values, more)
	require.NoError(t, chart.CheckValues(values))
	out, err := chart.Render(helm.RenderOptions{Name: name, Namespace: name, KubeVersion: "1.37.2", Values: values})
	require.NoError(t, err)
	return objects(t, out.Manifest)
}

// Every branch of the charts of metrics is sent to the API server as a strict server-side dry run.
func TestMetricsManifestsAreAccepted(t *testing.T) {
	t.Parallel()
	variations := map[string]map[string]map[string]any{
		"small": {}, "standard": {}, "large": {},
		"everything else": {
			"node-exporter":      {"tls": false, "resources": map[string]any{"limits": map[string]any{"cpu": 1, "memory": "100Mi"}}},
			"kube-state-metrics": {"tls": false, "network": map[string]any{"nodes": []any{}}},
			"thanos":             {"size": "large", "tenants": []any{}, "storageClass": "local-path", "s3": map[string]any{"endpoint": "versitygw.versitygw.svc:7070", "bucket": "thanos"}},
			"alertmanager":       {"size": "large", "storageClass": "local-path", "receiver": "ops", "receivers": receivers()},
			"prometheus":         {"storageClass": "local-path", "network": map[string]any{"nodes": []any{}}},
			"prometheus-agent":   {"storageClass": "local-path", "ingest": map[string]any{"address": "ingest.example.org"}},
			"grafana":            {"storageClass": "local-path", "tenants": []any{}},
		},
		"IPv6": {"prometheus-agent": {"ingest": map[string]any{"address": "fd00::10"}, "network": map[string]any{"nodes": []any{"fd00::/64"}, "peers": []any{}}}},
	}
	for what, charts := range variations {
		for name, c := range metricsCharts() {
			t.Run(what+"/"+name, func(t *testing.T) {
				t.Parallel()
				more := charts[name]
				if slices.Contains([]string{"small", "standard", "large"}, what) {
					more = map[string]any{"size": what}
				}
				namespace := enforcing(t, c.level)
				pods := 0
				for _, object := range metricsObjects(t, name, more) {
					if object.GetNamespace() == name {
						object.SetNamespace(namespace)
					}
					require.NoError(t, dryRun(t, object), "%s %s", object.GetKind(), object.GetName())
					if pod := templateOf(t, object, namespace); pod != nil {
						pods++
						assert.NoError(t, dryRun(t, pod), "the pods of %s %s", object.GetKind(), object.GetName())
					}
				}
				assert.Positive(t, pods)
			})
		}
	}
}

func receivers() []any {
	return []any{
		map[string]any{"name": "ops", "webhook": map[string]any{"urlKey": "chat-url"}, "slack": map[string]any{"urlKey": "slack-url", "channel": "#ops"}},
		map[string]any{"name": "on-call", "pagerduty": map[string]any{"routingKey": "pagerduty-key"}, "email": map[string]any{
			"to": "ops@example.org", "from": "alerts@example.org", "smarthost": "mail.example.org:587", "username": "alerts", "passwordKey": "mail-password",
		}},
	}
}

// program is one of the platform's own programs, as the lab builds it.
func program(t *testing.T, name string) string {
	t.Helper()
	p, err := build.One(t.Context(), build.Options{Log: func(line string) { t.Log(line) }}, name)
	require.NoError(t, err)
	return p.Path
}

// says runs a program that must end well.
func says(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	require.NoError(t, err, "%s %s\n%s", filepath.Base(name), strings.Join(args, " "), out)
	return string(out)
}

// refuses runs a program that must not end well.
func refuses(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "%s %s\n%s", filepath.Base(name), strings.Join(args, " "), out)
	return string(out)
}

// configMap is the content of a ConfigMap among the objects.
func configMap(t *testing.T, list []*unstructured.Unstructured, name string) map[string]string {
	t.Helper()
	for _, o := range list {
		if o.GetKind() == "ConfigMap" && o.GetName() == name {
			data, _, err := unstructured.NestedStringMap(o.Object, "data")
			require.NoError(t, err)
			return data
		}
	}
	require.Fail(t, "no ConfigMap "+name)
	return nil
}

// writeFiles puts files into a folder, each with what the replacer makes of it.
func writeFiles(t *testing.T, dir string, files map[string]string, replace *strings.Replacer) {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o700))
	for name, content := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(replace.Replace(content)), 0o600))
	}
}

// secretFiles are the folders that pods have from Secrets, and the replacer that names them instead.
func secretFiles(t *testing.T) (string, *strings.Replacer) {
	t.Helper()
	dir := t.TempDir()
	a := newTestAuthority(t)
	for _, folder := range []string{"tls", "ingest"} {
		a.issue(t, filepath.Join(dir, folder), "prometheus", "prometheus.prometheus.svc")
	}
	writeFiles(t, filepath.Join(dir, "token"), map[string]string{"token": "x", "ca.crt": a.pem}, strings.NewReplacer())
	writeFiles(t, filepath.Join(dir, "receivers"), map[string]string{"chat-url": "https://example.org/x"}, strings.NewReplacer())
	return dir, strings.NewReplacer(
		"/var/run/secrets/kubernetes.io/serviceaccount", filepath.Join(dir, "token"), "/etc/catamaran/", dir+"/",
	)
}

// Prometheus's own checker reads the configurations of server and agent, and the web servers'.
func TestPrometheusConfigurations(t *testing.T) {
	t.Parallel()
	promtool := program(t, "promtool")
	for name, values := range map[string]map[string]any{
		"prometheus": nil, "prometheus-agent": nil,
		"prometheus with more":       {"clients": []any{"operator.example"}, "scrapeSeconds": 60},
		"prometheus-agent by name":   {"ingest": map[string]any{"address": "ingest.example.org"}},
		"prometheus-agent over IPv6": {"ingest": map[string]any{"address": "fd00::10"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			chart, _, _ := strings.Cut(name, " ")
			dir, replace := secretFiles(t)
			files := configMap(t, metricsObjects(t, chart, values), chart)
			writeFiles(t, filepath.Join(dir, "prometheus"), files, replace)
			config := filepath.Join(dir, "prometheus", "prometheus.yaml")
			mode := []string{"check", "config"}
			if chart == "prometheus-agent" {
				mode = append(mode, "--agent")
			} else {
				says(t, promtool, "check", "web-config", filepath.Join(dir, "prometheus", "web.yaml"))
			}
			says(t, promtool, append(mode, "--lint=all", "--lint-fatal", config)...)

			// it would find a mistake
			broken := strings.Replace(files["prometheus.yaml"], "remote_write:", "remote_wirte:", 1)
			writeFiles(t, filepath.Join(dir, "prometheus"), map[string]string{"prometheus.yaml": broken}, replace)
			assert.Contains(t, refuses(t, promtool, append(mode, config)...), "remote_wirte")
		})
	}
	agent := configMap(t, metricsObjects(t, "prometheus-agent", map[string]any{"ingest": map[string]any{"address": "fd00::10"}}), "prometheus-agent")
	assert.Contains(t, agent["prometheus.yaml"], "url: https://[fd00::10]:30443/api/v1/receive\n")
}

// Web configurations of the parts whose own checker is promtool's.
func TestWebConfigurations(t *testing.T) {
	t.Parallel()
	promtool := program(t, "promtool")
	checked := 0
	for _, name := range []string{"node-exporter", "kube-state-metrics", "thanos", "alertmanager"} {
		dir, replace := secretFiles(t)
		for file, content := range configMap(t, metricsObjects(t, name, nil), name) {
			if !strings.HasPrefix(file, "web") {
				continue
			}
			checked++
			writeFiles(t, dir, map[string]string{file: content}, replace)
			says(t, promtool, "check", "web-config", filepath.Join(dir, file))
			assert.Contains(t, content, "client_auth_type: RequireAndVerifyClientCert\n", "%s: %s", name, file)
			assert.Contains(t, content, "client_allowed_sans: [", "%s: %s", name, file)
		}
	}
	assert.Equal(t, 8, checked)
}

// The rules, as they are rendered, do what testdata/metrics says of them.
func TestRules(t *testing.T) {
	t.Parallel()
	promtool, thanos := program(t, "promtool"), program(t, "thanos")
	dir := t.TempDir()
	plain := strings.NewReplacer()
	rules := configMap(t, metricsObjects(t, "thanos", nil), "thanos-rules")
	writeFiles(t, dir, rules, plain)
	writeFiles(t, dir, map[string]string{"watch.yaml": configMap(t, metricsObjects(t, "prometheus", nil), "prometheus")["watch.yaml"]}, plain)
	var files []string
	for name := range rules {
		files = append(files, filepath.Join(dir, name))
	}
	says(t, promtool, append([]string{"check", "rules", "--lint=all", "--lint-fatal", filepath.Join(dir, "watch.yaml")}, files...)...)
	for _, file := range files {
		says(t, thanos, "tools", "rules-check", "--rules="+file)
	}

	tests, err := filepath.Glob(filepath.Join("testdata", "metrics", "*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, tests)
	tested := ""
	for _, file := range tests {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		tested += string(content)
		writeFiles(t, dir, map[string]string{"test-" + filepath.Base(file): string(content)}, plain)
		says(t, promtool, "test", "rules", filepath.Join(dir, "test-"+filepath.Base(file)))
	}
	// each alert is made to fire once
	for name, content := range rules {
		for _, line := range strings.Split(content, "\n") {
			if _, alert, ok := strings.Cut(line, "- alert: "); ok {
				assert.Regexp(t, `alertname(: |=")`+alert+`["\n]`, tested, "%s: no test of %s", name, alert)
			}
		}
	}

	// they can fail: a rule that asks for half the time
	half := strings.ReplaceAll(rules["silence.yaml"], "> 600", "> 300")
	require.NotEqual(t, half, rules["silence.yaml"])
	writeFiles(t, dir, map[string]string{"silence.yaml": half}, plain)
	assert.Contains(t, refuses(t, promtool, "test", "rules", filepath.Join(dir, "test-silence.yaml")), "SilentWorkload")
}

// Nobody's silence is forgotten, and rules follow the values.
func TestSilenceFollowsTheValues(t *testing.T) {
	t.Parallel()
	text := configMap(t, metricsObjects(t, "thanos", map[string]any{"silenceMinutes": 3, "tenants": []any{"a", "b", "c"}}), "thanos-rules")["silence.yaml"]
	assert.Equal(t, 12, strings.Count(text, "alert: SilentWorkload"), "two rules, two channels, three tenants")
	assert.Equal(t, 6, strings.Count(text, "[6h])) > 180\n"))
	for _, tenant := range []string{"a", "b", "c"} {
		for _, channel := range []string{"logs", "metrics"} {
			assert.Contains(t, text, fmt.Sprintf(`{tenant_id="service",tenant=%q,kind=%q}`, tenant, channel))
		}
	}
	none := configMap(t, metricsObjects(t, "thanos", map[string]any{"tenants": []any{}}), "thanos-rules")["silence.yaml"]
	assert.NotContains(t, none, "SilentWorkload")
	assert.Contains(t, none, "IngestGatewayDown")
}

// What dashboards ask Thanos is PromQL.
func TestDashboardQueries(t *testing.T) {
	t.Parallel()
	promtool := program(t, "promtool")
	filled := strings.NewReplacer("$tenant", ".+", "$__auto", "5m")
	rules, asked := "groups:\n- name: dashboards\n  rules:\n", 0
	for _, text := range configMap(t, metricsObjects(t, "grafana", nil), "grafana-dashboards") {
		var d struct {
			Panels []struct {
				Datasource struct{ UID string }
				Targets    []struct{ Expr string }
			}
		}
		require.NoError(t, json.Unmarshal([]byte(text), &d))
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				if p.Datasource.UID == "thanos" {
					asked++
					rules += fmt.Sprintf("  - {record: %q, expr: %q}\n", fmt.Sprintf("panel_%d", asked), filled.Replace(target.Expr))
				}
			}
		}
	}
	assert.Greater(t, asked, 30)
	file := filepath.Join(t.TempDir(), "rules.yaml")
	require.NoError(t, os.WriteFile(file, []byte(rules), 0o600))
	says(t, promtool, "check", "rules", file)
	require.NoError(t, os.WriteFile(file, []byte(strings.Replace(rules, "count(", "count((", 1)), 0o600))
	refuses(t, promtool, "check", "rules", file)
}

// Alertmanager's own checker reads the configuration, with every kind of receiver.
func TestAlertmanagerConfigurations(t *testing.T) {
	t.Parallel()
	amtool := program(t, "amtool")
	for name, values := range map[string]map[string]any{
		"defaults":  nil,
		"receivers": {"receiver": "ops", "watchdogReceiver": "on-call", "receivers": receivers()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, replace := secretFiles(t)
			files := configMap(t, metricsObjects(t, "alertmanager", values), "alertmanager")
			writeFiles(t, dir, files, replace)
			config := filepath.Join(dir, "alertmanager.yaml")
			says(t, amtool, "check-config", config)
			route := func(labels ...string) string {
				return strings.TrimSpace(says(t, amtool, append([]string{"config", "routes", "test", "--config.file=" + config}, labels...)...))
			}
			if values == nil {
				assert.Equal(t, "null", route("alertname=NodeNotReady", "severity=critical"))
				assert.Equal(t, "null", route("alertname=Watchdog"))
			} else {
				assert.Equal(t, "ops", route("alertname=NodeNotReady", "severity=critical"))
				assert.Equal(t, "on-call", route("alertname=Watchdog"))
			}
		})
	}
	// a receiver that nobody defines is found before anything runs
	dir, replace := secretFiles(t)
	writeFiles(t, dir, configMap(t, metricsObjects(t, "alertmanager", map[string]any{"receiver": "nobody"}), "alertmanager"), replace)
	assert.Contains(t, refuses(t, amtool, "check-config", filepath.Join(dir, "alertmanager.yaml")), "nobody")
}
