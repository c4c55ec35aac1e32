package embedded

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/catamaran-k8s/catamaran/embedded/helm"
)

// logCharts are the charts of the way that a record takes, with values as the inventory gives them.
func logCharts() map[string]map[string]any {
	network := map[string]any{"podCIDR": "10.102.0.0/16", "nodes": []any{"10.77.0.21/32"}, "peers": []any{"10.77.0.11/32"}}
	return map[string]map[string]any{
		"fluentd": {
			"dnsDomain": "cluster.local", "network": network,
			"ingest": map[string]any{"address": "10.77.0.10", "forwardPort": 30224, "serverName": "ingest-gateway"},
		},
		"falco":          {"network": network},
		"loki":           {"dnsDomain": "cluster.local", "network": network, "storageClass": "local-path"},
		"versitygw":      {"dnsDomain": "cluster.local", "network": network, "storageClass": "local-path"},
		"ingest-gateway": {"dnsDomain": "cluster.local", "network": network, "tenants": []any{"test-workload"}},
	}
}

// rendered is a chart's manifest with its usual values and some more; they must be good by the chart's schema.
func rendered(t testing.TB, name string, more map[string]any) string {
	t.Helper()
	chart, err := embeddedChart(name)
	require.NoError(t, err)
	values := helm.Merge(logCharts()[name], more)
	require.NoError(t, chart.CheckValues(values))
	out, err := chart.Render(helm.RenderOptions{Name: name, Namespace: name, KubeVersion: "1.37.2", Values: values})
	require.NoError(t, err)
	return out.Manifest
}

// The stand-ins of the lab follow the files that the charts render: their tests read these copies.
func TestStandInsHaveTheRenderedFiles(t *testing.T) {
	t.Parallel()
	for file, from := range map[string][2]string{
		"fluentd/testdata/fluent.conf":        {"fluentd", "fluent.conf"},
		"falco/testdata/catamaran_rules.yaml": {"falco", "catamaran_rules.yaml"},
		"falco/testdata/falco.yaml":           {"falco", "falco.yaml"},
	} {
		path := filepath.Join("..", "test", "lab", "standin", filepath.FromSlash(file))
		got := data(t, rendered(t, from[0], nil), from[1])
		if *update {
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
			require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
		}
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, string(want), got, "if it is meant: go test ./embedded -run StandIns -update")
	}
}

// Whatever the values, Fluentd's configuration has only what its image carries.
func TestFluentdConfigurations(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]map[string]any{
		"defaults":  nil,
		"large":     {"size": "large"},
		"a name":    {"ingest": map[string]any{"address": "ingest.example.org", "serverName": ""}},
		"IPv6":      {"ingest": map[string]any{"address": "fd00::10"}},
		"by itself": {"bufferMiB": 100, "flushSeconds": 1, "falcoNamespace": "sensors", "trivyNamespace": "scans"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conf := data(t, rendered(t, "fluentd", more), "fluent.conf")
			assert.Empty(t, checkFluentd(conf))
		})
	}
	conf := data(t, rendered(t, "fluentd", map[string]any{"bufferMiB": 100, "falcoNamespace": "sensors"}), "fluent.conf")
	assert.Contains(t, conf, "total_limit_size 100m")
	assert.Contains(t, conf, "path /var/log/pods/sensors_*/*/*.log,")
	assert.Contains(t, conf, `"/var/log/pods/sensors_*/*/*"`, "not twice")
	conf = data(t, rendered(t, "fluentd", map[string]any{"ingest": map[string]any{"serverName": ""}}), "fluent.conf")
	assert.Contains(t, conf, "name 10.77.0.10\n")
}

// The buffer is never on what it buffers, and nothing but the agent's folder can be written.
func TestFluentdWritesOnlyItsFolder(t *testing.T) {
	t.Parallel()
	for _, object := range objects(t, rendered(t, "fluentd", nil)) {
		if object["kind"] != "DaemonSet" {
			continue
		}
		pod := podSpecs(object)[0]
		for _, c := range pod["containers"].([]any) {
			container := c.(map[string]any)
			assert.NotContains(t, container, "command", "the image's entry point runs it")
			var writable []string
			for _, m := range container["volumeMounts"].([]any) {
				mount := m.(map[string]any)
				if mount["readOnly"] != true {
					writable = append(writable, mount["mountPath"].(string))
				}
			}
			assert.Equal(t, []string{"/var/lib/catamaran/fluentd", "/tmp"}, writable)
			assert.NotContains(t, container["livenessProbe"], "exec", "a probe must not be able to remove a buffer")
		}
		return
	}
	assert.Fail(t, "there is no DaemonSet")
}

// A size changes what is asked for; what the inventory says goes before it, value by value.
func TestSizes(t *testing.T) {
	t.Parallel()
	for name := range logCharts() {
		seen := map[string]bool{}
		for _, size := range []string{"small", "standard", "large"} {
			r := firstResources(t, rendered(t, name, map[string]any{"size": size}))
			text, err := json.Marshal(r)
			require.NoError(t, err)
			seen[string(text)] = true
			mine := firstResources(t, rendered(t, name, map[string]any{"size": size, "resources": map[string]any{"limits": map[string]any{"memory": "7Gi"}}}))
			assert.Equal(t, "7Gi", mine["limits"].(map[string]any)["memory"], name)
			assert.Equal(t, r["requests"], mine["requests"], name)
			assert.Equal(t, r["limits"].(map[string]any)["cpu"], mine["limits"].(map[string]any)["cpu"], name)
		}
		assert.Len(t, seen, 3, "%s: every size is another", name)
	}
}

func firstResources(t *testing.T, manifest string) map[string]any {
	t.Helper()
	for _, object := range objects(t, manifest) {
		if object["kind"] == "Job" {
			continue
		}
		for _, pod := range podSpecs(object) {
			return pod["containers"].([]any)[0].(map[string]any)["resources"].(map[string]any)
		}
	}
	require.Fail(t, "there is no pod")
	return nil
}

// Every namespace denies what no policy names.
func TestNetworkPoliciesOfLogCharts(t *testing.T) {
	t.Parallel()
	for name := range logCharts() {
		denies := false
		for _, object := range objects(t, rendered(t, name, nil)) {
			if object["kind"] != "NetworkPolicy" {
				continue
			}
			spec := object["spec"].(map[string]any)
			if len(spec["podSelector"].(map[string]any)) == 0 {
				assert.Equal(t, []any{"Ingress", "Egress"}, spec["policyTypes"], name)
				assert.NotContains(t, spec, "ingress", name)
				assert.NotContains(t, spec, "egress", name)
				denies = true
			}
		}
		assert.True(t, denies, "%s has no default deny", name)
	}
}

// Who may do what with the evidence: nobody may remove, shorten or configure anything.
func TestBucketPolicies(t *testing.T) {
	t.Parallel()
	var config struct {
		Buckets []struct {
			Name             string
			ObjectLock       bool
			DefaultRetention struct {
				Mode string
				Days int
			}
			Policy string
		}
	}
	require.NoError(t, yaml.Unmarshal([]byte(data(t, rendered(t, "versitygw", nil), "buckets.yaml")), &config))
	require.Len(t, config.Buckets, 3)
	evidence := config.Buckets[0]
	assert.True(t, evidence.ObjectLock)
	assert.Equal(t, "COMPLIANCE", evidence.DefaultRetention.Mode)
	assert.Equal(t, 30, evidence.DefaultRetention.Days)
	may := map[string]map[string]bool{} // user to bucket/action
	for _, b := range config.Buckets {
		var policy struct {
			Statement []struct {
				Effect    string
				Principal struct{ AWS []string }
				Action    []string
				Resource  []string
			}
		}
		require.NoError(t, json.Unmarshal([]byte(b.Policy), &policy))
		for _, s := range policy.Statement {
			require.Equal(t, "Allow", s.Effect)
			for _, r := range s.Resource {
				assert.Regexp(t, `^arn:aws:s3:::`+b.Name+`(/\*)?$`, r)
			}
			for _, user := range s.Principal.AWS {
				require.NotEqual(t, "*", user)
				for _, a := range s.Action {
					assert.NotContains(t, a, "*")
					if may[user] == nil {
						may[user] = map[string]bool{}
					}
					may[user][b.Name+" "+strings.TrimPrefix(a, "s3:")] = true
				}
			}
		}
	}
	for user, allowed := range may {
		for what := range allowed {
			bucket, action, _ := strings.Cut(what, " ")
			switch user {
			case "ingest-gateway", "reader":
				assert.Equal(t, "evidence", bucket, user)
				assert.NotRegexp(t, `^(Delete|Bypass|PutBucket|PutObjectLegalHold|PutObjectAcl|RestoreObject)`, action, user)
				if user == "reader" {
					assert.Regexp(t, `^(Get|List)`, action)
				}
			default:
				assert.Equal(t, user, bucket, "each its own")
			}
		}
	}
	assert.Len(t, may, 4)
	assert.True(t, may["ingest-gateway"]["evidence PutObject"])
	assert.True(t, may["ingest-gateway"]["evidence PutObjectRetention"], "an object can not be locked without it")
	assert.False(t, may["reader"]["evidence PutObject"])
}

// Loki: no deletion, no push without a certificate, whatever the size and the store.
func TestLokiConfiguration(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]map[string]any{
		"volume": nil,
		"S3":     {"size": "large", "s3": map[string]any{"endpoint": "https://versitygw.versitygw.svc:7070"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var c map[string]any
			require.NoError(t, yaml.UnmarshalStrict([]byte(data(t, rendered(t, "loki", more), "loki.yaml")), &c))
			at := func(path ...string) any {
				var v any = c
				for _, p := range path {
					v = v.(map[string]any)[p]
				}
				return v
			}
			assert.Equal(t, true, at("auth_enabled"))
			assert.Equal(t, "disabled", at("limits_config", "deletion_mode"))
			assert.Equal(t, false, at("limits_config", "reject_old_samples"))
			assert.Equal(t, "RequireAndVerifyClientCert", at("server", "http_tls_config", "client_auth_type"))
			assert.Equal(t, "127.0.0.1", at("server", "grpc_listen_address"))
			assert.Equal(t, false, at("analytics", "reporting_enabled"))
			store := at("storage_config", "object_store").(map[string]any)
			if name == "S3" {
				assert.Equal(t, "versitygw.versitygw.svc:7070", store["s3"].(map[string]any)["endpoint"])
				assert.Equal(t, "4320h", at("limits_config", "retention_period"))
			} else {
				assert.Contains(t, store, "filesystem")
				assert.Equal(t, "720h", at("limits_config", "retention_period"))
			}
		})
	}
}
