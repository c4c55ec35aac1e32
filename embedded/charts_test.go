package embedded

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/catamaran-k8s/catamaran/inventory"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The golden files are the manifests as they are installed: a change of a template shows there in review.
func TestGolden(t *testing.T) {
	t.Parallel()
	everything := "components:\n  smoke: {enabled: true}\n"
	small := "platform: {size: small, alerts: {webhook: {url: {env: ALERT_URL}}, watchdog: {url: {env: WATCHDOG_URL}}}}\n"
	cases := map[string]struct {
		chart   string
		cluster inventory.ClusterName
		more    string
	}{
		"flannel":                            {"flannel", inventory.Service, ""},
		"flannel-iptables":                   {"flannel", inventory.Workload, "components:\n  flannel: {values: {backend: {type: vxlan, vni: 7, port: 4789, mtu: 1400}}}\n"},
		"flannel-routes":                     {"flannel", inventory.Service, "components:\n  flannel: {values: {backend: {type: host-gw}}}\n"},
		"network-policies":                   {"network-policies", inventory.Service, ""},
		"local-path":                         {"local-path", inventory.Service, ""},
		"local-path-other-folder":            {"local-path", inventory.Service, "components:\n  local-path: {values: {path: /srv/volumes, defaultClass: false, reclaimPolicy: Retain}}\n"},
		"metrics-server":                     {"metrics-server", inventory.Service, ""},
		"metrics-server-redundant":           {"metrics-server", inventory.Service, "components:\n  metrics-server: {values: {replicas: 2}}\n"},
		"smoke":                              {"smoke", inventory.Service, everything},
		"smoke-without-storage":              {"smoke", inventory.Workload, everything + "  local-path: {enabled: false}\n"},
		"node-exporter":                      {"node-exporter", inventory.Service, small},
		"node-exporter-workload":             {"node-exporter", inventory.Workload, small},
		"kube-state-metrics":                 {"kube-state-metrics", inventory.Service, small},
		"versitygw":                          {"versitygw", inventory.Service, small},
		"thanos":                             {"thanos", inventory.Service, small},
		"alertmanager":                       {"alertmanager", inventory.Service, small},
		"loki":                               {"loki", inventory.Service, small},
		"prometheus":                         {"prometheus", inventory.Service, small},
		"ingest-gateway":                     {"ingest-gateway", inventory.Service, small},
		"grafana":                            {"grafana", inventory.Service, small},
		"prometheus-agent":                   {"prometheus-agent", inventory.Workload, small},
		"fluentd":                            {"fluentd", inventory.Workload, small},
		"falco":                              {"falco", inventory.Workload, small},
		"trivy":                              {"trivy", inventory.Service, small},
		"trivy-server":                       {"trivy", inventory.Service, small + "components:\n  trivy: {values: {database: {image: \"registry.example.org/trivy-db:2026-11-24\"}}}\n"},
		"trivy-server-repository":            {"trivy", inventory.Service, small + "components:\n  trivy: {values: {database: {repository: \"ghcr.io/aquasecurity/trivy-db:2\"}}}\n"},
		"loki-authority":                     {"loki", inventory.Service, withAuthority},
		"thanos-authority":                   {"thanos", inventory.Service, withAuthority},
		"ingest-gateway-authority":           {"ingest-gateway", inventory.Service, withAuthority},
		"trivy-database":                     {"trivy", inventory.Workload, small + "components:\n  trivy: {values: {database: {image: \"registry.example.org/trivy-db:2026-11-24\"}}}\n"},
		"openstack-cloud-controller-manager": {"openstack-cloud-controller-manager", inventory.Service, cloudy("openstack-cloud-controller-manager", "{loadBalancers: {enabled: true, floatingNetwork: 0a1b}}")},
		"vsphere-cloud-controller-manager":   {"vsphere-cloud-controller-manager", inventory.Service, cloudy("vsphere-cloud-controller-manager", "{}")},
		"cinder-csi":                         {"cinder-csi", inventory.Service, cloudy("cinder-csi", "{}") + "  local-path: {enabled: false}\n"},
		"cinder-csi-redundant":               {"cinder-csi", inventory.Workload, cloudy("cinder-csi", "{replicas: 2, storageClass: {type: ssd, availability: nova}, cloud: {networks: [192.0.2.0/24], ports: [443]}}")},
		"vsphere-csi":                        {"vsphere-csi", inventory.Workload, cloudy("vsphere-csi", "{storageClass: {policy: gold}}")},
		"gatekeeper":                         {"gatekeeper", inventory.Service, small},
		"gatekeeper-redundant":               {"gatekeeper", inventory.Workload, "platform: {size: standard}\n"},
		"gatekeeper-policies":                {"gatekeeper-policies", inventory.Workload, small},
		"cert-manager":                       {"cert-manager", inventory.Workload, optionals},
		"velero":                             {"velero", inventory.Workload, optionals},
		"gateway-api":                        {"gateway-api", inventory.Workload, optionals},
		"dex":                                {"dex", inventory.Service, optionals},
	}
	covered := map[string]bool{}
	for name, c := range cases {
		covered[c.chart] = true
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := named(t, releases(t, withClouds(withBackups(site(t, c.more))), c.cluster), c.chart).Manifest()
			require.NoError(t, err)
			file := filepath.Join("testdata", "golden", name+".yaml")
			if *update {
				require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
				require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
			}
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			assert.Equal(t, string(want), got, "if it is meant: go test ./embedded -update")
		})
	}
	for _, c := range components() {
		assert.True(t, covered[c.name], "%s has no golden file", c.name)
	}
}

// cloudy switches a cloud's component on, whatever the provider.
func cloudy(name, values string) string {
	return "components:\n  " + name + ": {enabled: true, values: " + values + "}\n"
}

// A pod network of IPv6 gets flannel's other keys.
func TestFlannelIPv6(t *testing.T) {
	t.Parallel()
	inv := site(t, "")
	inv.Clusters.Service.Network.PodCIDR = "fd00:100::/56"
	manifest, err := named(t, releases(t, inv, inventory.Service), "flannel").Manifest()
	require.NoError(t, err)
	var conf map[string]any
	require.NoError(t, json.Unmarshal([]byte(data(t, manifest, "net-conf.json")), &conf))
	assert.Equal(t, "fd00:100::/56", conf["IPv6Network"])
	assert.Equal(t, []any{false, true, nil}, []any{conf["EnableIPv4"], conf["EnableIPv6"], conf["Network"]})
}

// data finds a key of a ConfigMap.
func data(t *testing.T, manifest, key string) string {
	t.Helper()
	for _, object := range objects(t, manifest) {
		content, _ := object["data"].(map[string]any)
		if text, ok := content[key].(string); ok {
			return text
		}
	}
	require.Fail(t, "no ConfigMap has "+key)
	return ""
}

func objects(t *testing.T, manifest string) []map[string]any {
	t.Helper()
	var out []map[string]any
	for _, doc := range strings.Split(manifest, "\n---\n") {
		var object map[string]any
		require.NoError(t, yaml.Unmarshal([]byte(doc), &object))
		if len(object) > 0 {
			out = append(out, object)
		}
	}
	return out
}

// What must be true of every chart of ours.
func TestHabits(t *testing.T) {
	t.Parallel()
	// containers that must be privileged; values.yaml of each says why
	privileged := []string{"network-policies/agent", "falco/falco", "cinder-csi/node", "vsphere-csi/node"}
	seen := map[string]bool{}
	for _, r := range all(t) {
		manifest, err := r.Manifest()
		require.NoError(t, err)
		for _, object := range objects(t, manifest) {
			meta := object["metadata"].(map[string]any)
			what := r.Name + ": " + object["kind"].(string) + " " + meta["name"].(string)
			assert.Equal(t, "catamaran", meta["labels"].(map[string]any)["app.kubernetes.io/part-of"], what)
			if object["kind"] == "ServiceAccount" {
				assert.Equal(t, false, object["automountServiceAccountToken"], what)
			}
			for _, pod := range podSpecs(object) {
				assert.NotContains(t, pod, "serviceAccount", what) // the old name
				assert.NotNil(t, pod["automountServiceAccountToken"], what)
				assert.Equal(t, false, pod["enableServiceLinks"], what)
				for _, list := range []string{"initContainers", "containers"} {
					containers, _ := pod[list].([]any)
					for _, c := range containers {
						seen[r.Name] = true
						container := c.(map[string]any)
						id := r.Name + "/" + container["name"].(string)
						assert.Equal(t, "IfNotPresent", container["imagePullPolicy"], "%s: nodes have no registry", id)
						for _, kind := range []string{"requests", "limits"} {
							given := container["resources"].(map[string]any)[kind].(map[string]any)
							assert.NotEmpty(t, given["cpu"], "%s: %s", id, kind)
							assert.NotEmpty(t, given["memory"], "%s: %s", id, kind)
						}
						security := container["securityContext"].(map[string]any)
						if slices.Contains(privileged, id) {
							assert.Equal(t, true, security["privileged"], "%s is listed as privileged", id)
							continue
						}
						assert.NotContains(t, security, "privileged", id)
						assert.Equal(t, false, security["allowPrivilegeEscalation"], id)
						assert.Equal(t, []any{"ALL"}, security["capabilities"].(map[string]any)["drop"], id)
					}
				}
			}
		}
	}
	assert.Len(t, seen, len(componentNames())-1, "each has containers that were looked at, but gatekeeper-policies")
}

// all are the releases of both clusters with every component on.
func all(t *testing.T) []Release {
	t.Helper()
	var on strings.Builder
	on.WriteString("platform: {enabled: true, size: standard, " + signIn + "}\ncomponents:\n  metrics-server: {enabled: true, values: {replicas: 2}}\n")
	for _, c := range components() {
		if c.decidedBy == "" && c.name != "metrics-server" {
			on.WriteString("  " + c.name + ": {enabled: true}\n")
		}
	}
	inv := withClouds(withBackups(site(t, on.String())))
	return append(releases(t, inv, inventory.Service), releases(t, inv, inventory.Workload)...)
}

func podSpecs(object map[string]any) []map[string]any {
	spec, _ := object["spec"].(map[string]any)
	if job, ok := spec["jobTemplate"].(map[string]any); ok {
		spec, _ = job["spec"].(map[string]any)
	}
	template, _ := spec["template"].(map[string]any)
	if pod, ok := template["spec"].(map[string]any); ok {
		return []map[string]any{pod}
	}
	return nil
}

// Every object of every schema refuses keys that it does not name, and says what each key means.
func TestSchemasAreStrict(t *testing.T) {
	t.Parallel()
	for _, c := range components() {
		chart, err := embeddedChart(c.name)
		require.NoError(t, err)
		raw, ok := chart.File("values.schema.json")
		require.True(t, ok, c.name)
		var root map[string]any
		require.NoError(t, json.Unmarshal(raw, &root))
		var walk func(at string, node map[string]any)
		walk = func(at string, node map[string]any) {
			properties, isObject := node["properties"].(map[string]any)
			if node["type"] == "object" || isObject {
				assert.Equal(t, false, node["additionalProperties"], "%s: additionalProperties", at)
				assert.Len(t, node["required"], len(properties), "%s: values.yaml has a default for each, so all are required", at)
			}
			for name, p := range properties {
				child := p.(map[string]any)
				assert.NotEmpty(t, child["description"], "%s.%s: description", at, name)
				walk(at+"."+name, child)
			}
		}
		walk(c.name, root)

		defaults, err := chart.AllValues(nil)
		require.NoError(t, err)
		known := root["properties"].(map[string]any)
		for key := range defaults {
			assert.Contains(t, known, key, "%s: values.yaml has a key that the schema does not know", c.name)
		}
		assert.Len(t, defaults, len(known), c.name)
	}
}

func TestBadValuesAreRefused(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ more, want string }{
		"an unknown key, with the nearest": {"flannel: {values: {bakend: {}}}", "components.flannel.values.bakend: there is no such value; did you mean backend?"},
		"an unknown key below":             {"flannel: {values: {backend: {mut: 1400}}}", "components.flannel.values.backend.mut: there is no such value; did you mean mtu?"},
		"an unknown key in resources":      {"smoke: {values: {resources: {limits: {gpu: 1}}}}", "components.smoke.values.resources.limits.gpu: there is no such value; did you mean cpu?"},
		"a wrong type":                     {"flannel: {values: {healthPort: yes please}}", "components.flannel.values.healthPort: expected integer, got string"},
		"a map instead of a number":        {"metrics-server: {values: {replicas: {}}}", "components.metrics-server.values.replicas: expected integer, got object"},
		"too many":                         {"metrics-server: {values: {replicas: 50}}", "components.metrics-server.values.replicas: expected at most 5"},
		"too few":                          {"metrics-server: {values: {resolutionSeconds: 1}}", "components.metrics-server.values.resolutionSeconds: expected at least 15"},
		"a word that is none":              {"local-path: {values: {reclaimPolicy: Recycle}}", `components.local-path.values.reclaimPolicy: expected one of "Delete", "Retain"`},
		"a root folder":                    {"local-path: {values: {path: /}}", "components.local-path.values.path: expected text that matches ^(/[A-Za-z0-9._-]+){2,}$"},
		"an image without a tag":           {"flannel: {values: {image: ghcr.io/flannel-io/flannel}}", "components.flannel.values.image: expected text that matches"},
		"a port that is none":              {"network-policies: {values: {metricsPort: 70000}}", "components.network-policies.values.metricsPort: expected at most 65535"},
		"a default taken away":             {"smoke: {values: {peers: null}}", "components.smoke.values.peers: it is missing"},
		"what follows from elsewhere":      {"flannel: {values: {podCIDR: 10.9.0.0/16}}", "components.flannel.values.podCIDR: it follows from other parts of the inventory (`catamaran charts values flannel` says which)"},
		"a switch that is elsewhere":       {"flannel: {enabled: false}", "components.flannel.enabled: clusters.NAME.network.cni decides whether flannel is installed"},
		"an unknown component":             {"falannel: {}", "components.falannel: there is no such component"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inv := site(t, "components:\n  "+c.more+"\n")
			found := refusals(t, Validate(inv))
			require.Len(t, found, 1)
			assert.True(t, strings.HasPrefix(found[0], c.want), "%s\ninstead of\n%s", found[0], c.want)
		})
	}
	t.Run("the nearest component", func(t *testing.T) {
		t.Parallel()
		err := Validate(site(t, "components: {metric-server: {}}"))
		assert.ErrorContains(t, err, "components.metric-server: there is no such component (did you mean metrics-server?)")
	})
	t.Run("all at once, and by Releases as well", func(t *testing.T) {
		t.Parallel()
		_, err := Releases(t.Context(), site(t, "components: {x: {}, flannel: {values: {a: 1, healthPort: 0}}, metrics-server: {values: {replicas: 0}}}"), inventory.Service)
		assert.Len(t, refusals(t, err), 4, "%v", err)
	})
	t.Run("what is right", func(t *testing.T) {
		t.Parallel()
		assert.NoError(t, Validate(site(t, "components: {smoke: {enabled: true, values: {peers: 3}}}")))
	})
}

// Every image that a chart can use is in the lock, and nothing else is.
func TestImagesLock(t *testing.T) {
	t.Parallel()
	lock, err := Lock()
	require.NoError(t, err)
	used := map[string][]string{}
	took := map[string]bool{}
	for _, r := range all(t) {
		took[r.Name] = true
		for _, image := range r.Images {
			if !slices.Contains(used[image], r.Name) {
				used[image] = append(used[image], r.Name)
			}
		}
	}
	for _, names := range used {
		slices.Sort(names)
	}
	locked := map[string][]string{}
	for _, image := range lock {
		assert.NotContains(t, locked, image.Ref, "twice")
		locked[image.Ref] = image.UsedBy
		if image.Digest != "" {
			assert.Regexp(t, `^sha256:[0-9a-f]{64}$`, image.Digest, image.Ref)
		}
	}
	assert.Equal(t, used, locked)
	assert.True(t, slices.IsSortedFunc(lock, func(a, b LockedImage) int { return strings.Compare(a.Ref, b.Ref) }))
	assert.Len(t, componentNames(), len(took), "all charts took part")
}

func TestComponents(t *testing.T) {
	t.Parallel()
	list, err := Components()
	require.NoError(t, err)
	folders, err := chartFiles.ReadDir("charts")
	require.NoError(t, err)
	assert.Len(t, list, len(folders), "each folder below charts is a component")
	for _, c := range list {
		assert.NotEmpty(t, c.Description, c.Name)
		assert.Less(t, c.Order, 100, "%s: 100 and above are the site's own", c.Name)
		assert.LessOrEqual(t, len(c.Name), 53, c.Name)
	}
}

func TestValuesDoc(t *testing.T) {
	t.Parallel()
	doc, err := ValuesDoc("flannel")
	require.NoError(t, err)
	assert.Contains(t, doc, "image: ghcr.io/flannel-io/flannel:v0.28.10")
	assert.Regexp(t, `(?m)^# backend\.mtu +integer +MTU of the nodes' network`, doc)
	assert.Regexp(t, `(?m)^# backend\.type +vxlan\|host-gw +vxlan tunnels`, doc)
	_, err = ValuesDoc("flanel")
	require.EqualError(t, err, `there is no embedded chart "flanel": did you mean flannel?`)
	_, err = ValuesDoc("kubernetes")
	assert.ErrorContains(t, err, "there are flannel, ")
}
