package charts

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/yaml"

	"github.com/catamaran-k8s/catamaran/embedded"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// variations are inventories that render every branch of the charts; %s is a namespace of the test's own.
var variations = map[string]string{
	"defaults": ``,
	"everything on": `
components:
  smoke: {enabled: true}
`,
	"everything changed": `
components:
  flannel: {values: {backend: {type: vxlan, mtu: 1400, vni: 7, port: 4789}, healthPort: 9999}}
  network-policies: {values: {failOpen: false, queue: 7}}
  local-path: {values: {path: /srv/volumes, defaultClass: false, reclaimPolicy: Retain}}
  metrics-server: {values: {replicas: 3, resolutionSeconds: 60}}
  smoke: {enabled: true, values: {peers: 2}}
`,
	"routes instead of a tunnel, no storage": `
components:
  flannel: {values: {backend: {type: host-gw}}}
  local-path: {enabled: false}
  smoke: {enabled: true}
`,
}

func siteInventory(t *testing.T, components string) *inventory.Inventory {
	t.Helper()
	inv, err := inventory.Parse([]byte(`
apiVersion: catamaran/v1alpha1
kind: Inventory
metadata: {name: test}
kubernetes: {version: 1.37.2}
clusters:
  workload:
    network: {podCIDR: 10.102.0.0/16, serviceCIDR: 10.103.0.0/16}
    nodes:
      - {name: wc-1, role: control-plane, address: 10.77.0.21}
      - {name: wc-2, role: worker, address: 10.77.0.22}
      - {name: wc-3, role: worker, address: 10.77.0.23}
`+components), t.TempDir()+"/inventory.yaml")
	require.NoError(t, err)
	return inv
}

func wanted(t *testing.T, components string) []embedded.Release {
	t.Helper()
	releases, err := embedded.Releases(t.Context(), siteInventory(t, components), inventory.Workload)
	require.NoError(t, err)
	return releases
}

// Each object of each chart is sent to the API server as a strict server-side dry run: unknown fields, wrong types and
// everything that validation and admission refuse would fail here.
func TestManifestsAreAccepted(t *testing.T) {
	t.Parallel()
	for name, components := range variations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, r := range wanted(t, components) {
				manifest, err := r.Manifest()
				require.NoError(t, err)
				namespace := enforcing(t, r.PodSecurity)
				count := 0
				for _, object := range objects(t, manifest) {
					count++
					if object.GetNamespace() == r.Namespace {
						object.SetNamespace(namespace)
					}
					require.NoError(t, dryRun(t, object), "%s: %s %s", r.Name, object.GetKind(), object.GetName())
					if pod := templateOf(t, object, namespace); pod != nil {
						assert.NoError(t, dryRun(t, pod), "%s: the pods of %s %s in a namespace that enforces %s", r.Name, object.GetKind(), object.GetName(), r.PodSecurity)
					}
				}
				assert.Positive(t, count, "%s is empty", r.Name)
			}
		})
	}
}

// The check above can fail: a chart that calls for a privileged namespace is refused in a restricted one, and a field
// that does not exist is refused everywhere.
func TestTheAPIServerRefusesWhatItShould(t *testing.T) {
	t.Parallel()
	restricted := enforcing(t, "restricted")
	checked := 0
	for _, r := range wanted(t, variations["everything on"]) {
		if r.PodSecurity == "restricted" || r.Name == "local-path" {
			continue // the pods of local-path that need it are made later
		}
		manifest, err := r.Manifest()
		require.NoError(t, err)
		for _, object := range objects(t, manifest) {
			if pod := templateOf(t, object, restricted); pod != nil {
				checked++
				assert.ErrorContains(t, dryRun(t, pod), `violates PodSecurity "restricted:latest"`, "%s does not need its privileged namespace", r.Name)
			}
		}
	}
	assert.Equal(t, 2, checked, "flannel and network-policies have one kind of pod each")

	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "x", "namespace": restricted}, "dta": map[string]any{"a": "b"},
	}}
	assert.ErrorContains(t, dryRun(t, object), "dta")
}

// The pods that local-path starts come from a file that no manifest shows as a pod. They need the privileged namespace
// for nothing but the host's folder.
func TestHelperPodOfLocalPath(t *testing.T) {
	t.Parallel()
	var pod *unstructured.Unstructured
	for _, r := range wanted(t, "") {
		if r.Name != "local-path" {
			continue
		}
		manifest, err := r.Manifest()
		require.NoError(t, err)
		for _, object := range objects(t, manifest) {
			if text, ok, _ := unstructured.NestedString(object.Object, "data", "helperPod.yaml"); ok {
				pod = &unstructured.Unstructured{}
				require.NoError(t, yaml.Unmarshal([]byte(text), &pod.Object))
			}
		}
	}
	require.NotNil(t, pod)
	// as the provisioner completes it
	pod.Object["spec"].(map[string]any)["volumes"] = []any{map[string]any{"name": "data", "hostPath": map[string]any{"path": "/var/lib/catamaran/volumes"}}}
	pod.SetNamespace(enforcing(t, "privileged"))
	require.NoError(t, dryRun(t, pod))
	pod.SetNamespace(enforcing(t, "baseline"))
	err := dryRun(t, pod)
	require.Error(t, err)
	assert.Contains(t, err.Error(), "hostPath volumes")
	assert.Equal(t, 1, strings.Count(err.Error(), "("), "one violation: %v", err)
}

func enforcing(t *testing.T, level string) string {
	t.Helper()
	return newNamespace(t, map[string]string{"pod-security.kubernetes.io/enforce": level})
}

func objects(t *testing.T, manifest string) []*unstructured.Unstructured {
	t.Helper()
	var out []*unstructured.Unstructured
	for _, doc := range strings.Split(manifest, "\n---\n") {
		object := &unstructured.Unstructured{}
		require.NoError(t, yaml.Unmarshal([]byte(doc), &object.Object))
		if len(object.Object) > 0 {
			out = append(out, object)
		}
	}
	return out
}

// templateOf is a pod made of a workload's template; nil for what has none.
func templateOf(t *testing.T, object *unstructured.Unstructured, namespace string) *unstructured.Unstructured {
	t.Helper()
	template, found, err := unstructured.NestedMap(object.Object, "spec", "template")
	require.NoError(t, err)
	if object.GetKind() == "CronJob" {
		template, found, err = unstructured.NestedMap(object.Object, "spec", "jobTemplate", "spec", "template")
		require.NoError(t, err)
	}
	if !found {
		return nil
	}
	claims, _, err := unstructured.NestedSlice(object.Object, "spec", "volumeClaimTemplates")
	require.NoError(t, err)
	for _, claim := range claims {
		// as the controller of a StatefulSet completes it
		name := claim.(map[string]any)["metadata"].(map[string]any)["name"].(string)
		volumes, _, err := unstructured.NestedSlice(template, "spec", "volumes")
		require.NoError(t, err)
		volume := map[string]any{"name": name, "persistentVolumeClaim": map[string]any{"claimName": name + "-x"}}
		require.NoError(t, unstructured.SetNestedSlice(template, append(volumes, volume), "spec", "volumes"))
	}
	pod := &unstructured.Unstructured{Object: template}
	pod.SetAPIVersion("v1")
	pod.SetKind("Pod")
	pod.SetName(object.GetName() + "-x")
	pod.SetNamespace(namespace)
	return pod
}

func dryRun(t *testing.T, object *unstructured.Unstructured) error {
	t.Helper()
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(clientset(t).Discovery()))
	kind := object.GroupVersionKind()
	mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return err
	}
	var resource dynamic.ResourceInterface = dynamicClient(t).Resource(mapping.Resource)
	if object.GetNamespace() != "" {
		resource = dynamicClient(t).Resource(mapping.Resource).Namespace(object.GetNamespace())
	}
	data, err := json.Marshal(object)
	if err != nil {
		return err
	}
	force := true
	_, err = resource.Patch(t.Context(), object.GetName(), types.ApplyPatchType, data, metav1.PatchOptions{
		DryRun: []string{metav1.DryRunAll}, FieldManager: "test", FieldValidation: metav1.FieldValidationStrict, Force: &force,
	})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("no such namespace or kind: %w", err)
	}
	return err
}
