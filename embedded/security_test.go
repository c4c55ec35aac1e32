package embedded

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/embedded/helm"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// scanPods are the pods of a scanner's CronJobs, by the CronJobs' names.
func scanPods(t *testing.T, r Release) map[string]map[string]any {
	t.Helper()
	manifest, err := r.Manifest()
	require.NoError(t, err)
	pods := map[string]map[string]any{}
	for _, o := range objects(t, manifest) {
		if o["kind"] == "CronJob" {
			pods[o["metadata"].(map[string]any)["name"].(string)] = podSpecs(o)[0]
		}
	}
	return pods
}

// Each node that is there has a job of its own, and no other.
func TestEachNodeIsScanned(t *testing.T) {
	t.Parallel()
	inv := site(t, "platform: {size: small}")
	pods := scanPods(t, named(t, releases(t, inv, inventory.Service), "trivy"))
	require.Len(t, pods, 2, "an absent node is none")
	for job, pod := range pods {
		terms := pod["affinity"].(map[string]any)["nodeAffinity"].(map[string]any)["requiredDuringSchedulingIgnoredDuringExecution"].(map[string]any)["nodeSelectorTerms"].([]any)
		require.Len(t, terms, 1)
		fields := terms[0].(map[string]any)["matchFields"].([]any)
		node := fields[0].(map[string]any)["values"].([]any)
		assert.Equal(t, []any{strings.TrimPrefix(job, "scan-")}, node)
	}
	chart, err := embeddedChart("trivy")
	require.NoError(t, err)
	long := strings.Repeat("a", 60)
	out, err := chart.Render(helm.RenderOptions{Name: "trivy", Namespace: "trivy", KubeVersion: "1.37.2", Values: map[string]any{"nodeNames": []any{long + "1", long + "2", "a.b", "a-b"}}})
	require.NoError(t, err)
	var jobs []string
	for _, o := range objects(t, out.Manifest) {
		if o["kind"] == "CronJob" {
			name := o["metadata"].(map[string]any)["name"].(string)
			assert.LessOrEqual(t, len(name), 52)
			assert.NotContains(t, name, ".")
			jobs = append(jobs, name)
		}
	}
	slices.Sort(jobs)
	assert.Len(t, slices.Compact(jobs), 4, "%v", jobs)
}

// Who has containerd's socket has neither a token nor anything to write to but its folder; who has the token is not user 0.
func TestScannerHasOneRightEach(t *testing.T) {
	t.Parallel()
	inv := site(t, "platform: {size: small}\ncomponents:\n  trivy: {values: {database: {repository: \"ghcr.io/aquasecurity/trivy-db:2\"}}}\n")
	pods := scanPods(t, named(t, releases(t, inv, inventory.Workload), "trivy"))
	require.Len(t, pods, 1)
	for _, pod := range pods {
		assert.Equal(t, false, pod["automountServiceAccountToken"])
		paths := map[string][]string{}
		for _, list := range []string{"initContainers", "containers"} {
			for _, c := range pod[list].([]any) {
				container := c.(map[string]any)
				name := container["name"].(string)
				security := container["securityContext"].(map[string]any)
				assert.Equal(t, true, security["readOnlyRootFilesystem"], name)
				for _, m := range container["volumeMounts"].([]any) {
					paths[name] = append(paths[name], m.(map[string]any)["name"].(string))
				}
				if name == "images" {
					assert.InDelta(t, 65532, security["runAsUser"], 0)
				}
			}
		}
		assert.Equal(t, map[string][]string{
			"images": {"work", "account"}, "database": {"work", "database"}, "scan": {"containerd", "scan", "work", "database"},
		}, paths)
	}
}

// A scan that can find nothing is not run; a database that is an image is in the bundle.
func TestScannerDatabase(t *testing.T) {
	t.Parallel()
	suspended := func(r Release) any {
		manifest, err := r.Manifest()
		require.NoError(t, err)
		for _, o := range objects(t, manifest) {
			if o["kind"] == "CronJob" {
				return o["spec"].(map[string]any)["suspend"]
			}
		}
		return nil
	}
	const small = "platform: {size: small}\n"
	r := named(t, releases(t, site(t, small), inventory.Workload), "trivy")
	assert.Equal(t, true, suspended(r))
	assert.Equal(t, []string{"ghcr.io/aquasecurity/trivy:0.74.0", "ghcr.io/catamaran-k8s/pod-images:v0.1.0"}, r.Images)
	r = named(t, releases(t, site(t, small+"components: {trivy: {values: {database: {image: \"example.org/db:1\"}}}}"), inventory.Workload), "trivy")
	assert.Equal(t, false, suspended(r))
	assert.Contains(t, r.Images, "example.org/db:1")
	err := Validate(site(t, small+"components: {trivy: {values: {database: {image: \"example.org/db:1\", repository: \"example.org/db:2\"}}}}"))
	assert.NotEmpty(t, refusals(t, err), "one of both")
}

// What protect guards on a cluster are the namespaces of the parts that are on it, but not where others write.
func TestGuardedNamespaces(t *testing.T) {
	t.Parallel()
	inv := site(t, "platform: {size: small}\ncomponents: {falco: {enabled: false}}")
	values := func(c inventory.ClusterName) map[string]any {
		return named(t, releases(t, inv, c), "gatekeeper-policies").Values
	}
	workload := values(inventory.Workload)
	assert.Equal(t, []any{"fluentd", "gatekeeper-system", "kube-state-metrics", "node-exporter", "prometheus-agent", "trivy"}, workload["platformNamespaces"])
	assert.Equal(t, []any{"kube-flannel", "local-path-storage", "metrics-server"}, workload["foundationNamespaces"])
	assert.Empty(t, workload["optionalNamespaces"])
	assert.Contains(t, values(inventory.Service)["platformNamespaces"], "loki")
	assert.NotContains(t, values(inventory.Service)["platformNamespaces"], "fluentd")
	assert.Equal(t, []string{"components.gatekeeper-policies: gatekeeper-policies on the service cluster needs the component gatekeeper, which is off",
		"components.gatekeeper-policies: gatekeeper-policies on the workload cluster needs the component gatekeeper, which is off"},
		refusals(t, Validate(site(t, "platform: {size: small}\ncomponents: {gatekeeper: {enabled: false}}"))))
}

// The service cluster's nodes ask a server, with a token that is in nobody's arguments; the workload cluster's have no way to it.
func TestScannerServer(t *testing.T) {
	t.Parallel()
	for name, database := range map[string]string{"image": "example.org/db:1", "repository": "example.org/db:2"} {
		inv := site(t, "platform: {size: small}\ncomponents: {trivy: {values: {database: {"+name+": \""+database+"\"}}}}")
		r := named(t, releases(t, inv, inventory.Service), "trivy")
		assert.Equal(t, []Secret{{Namespace: "trivy", Name: "trivy-server", Values: map[string]SecretValue{"token": {Password: "trivy-server"}}}}, r.Secrets, name)
		manifest, err := r.Manifest()
		require.NoError(t, err)
		token := map[string]any{"name": "TRIVY_TOKEN", "valueFrom": map[string]any{"secretKeyRef": map[string]any{"name": "trivy-server", "key": "token"}}}
		servers := 0
		for _, o := range objects(t, manifest) {
			for _, pod := range podSpecs(o) {
				container := pod["containers"].([]any)[0].(map[string]any)
				assert.Contains(t, container["env"], token, name)
				if o["kind"] == "Deployment" {
					servers++
					assert.Equal(t, "server", container["args"].([]any)[0], name)
					assert.Equal(t, name == "image", slices.Contains(container["args"].([]any), any("--skip-db-update")), name)
					assert.Equal(t, true, pod["securityContext"].(map[string]any)["runAsNonRoot"], name)
					continue
				}
				assert.Contains(t, container["args"], "--server=http://trivy.trivy.svc:4954", name)
				assert.Equal(t, name == "image", hasVolume(pod, "database"), "%s: what archives of Java are looked up in", name)
			}
		}
		assert.Equal(t, 1, servers, name)

		r = named(t, releases(t, inv, inventory.Workload), "trivy")
		assert.Empty(t, r.Secrets, name)
		manifest, err = r.Manifest()
		require.NoError(t, err)
		assert.NotContains(t, manifest, "4954", name)
		assert.NotContains(t, manifest, "TRIVY_TOKEN", name)
	}
	r := named(t, releases(t, site(t, "platform: {size: small}"), inventory.Service), "trivy")
	assert.Empty(t, r.Secrets, "without a database there is no server")
	manifest, err := r.Manifest()
	require.NoError(t, err)
	assert.NotContains(t, manifest, "kind: Deployment")
}

func hasVolume(pod map[string]any, name string) bool {
	return slices.ContainsFunc(pod["volumes"].([]any), func(v any) bool { return v.(map[string]any)["name"] == name })
}
