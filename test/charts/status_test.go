package charts

import (
	"context"
	"encoding/json"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/catamaran-k8s/catamaran/embedded/helm"
)

// brokenImage marks a pod template whose pods never come up.
const brokenImage = "example.org/broken:1"

// runsEverything stands in for controllers and kubelets in some namespaces until the test ends: whatever workload appears
// there is reported as running, unless its template names brokenImage.
func runsEverything(t *testing.T, namespaces ...string) {
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	t.Cleanup(func() { cancel(); done.Wait() })
	clients := dynamicClient(t)
	for _, namespace := range namespaces {
		for _, kind := range []schema.GroupVersionResource{
			appsv1.SchemeGroupVersion.WithResource("deployments"), appsv1.SchemeGroupVersion.WithResource("daemonsets"),
			appsv1.SchemeGroupVersion.WithResource("statefulsets"),
		} {
			resource := clients.Resource(kind).Namespace(namespace)
			done.Go(func() { follow(ctx, t, resource, runningStatus) })
		}
	}
	apis := clients.Resource(schema.GroupVersionResource{Group: "apiregistration.k8s.io", Version: "v1", Resource: "apiservices"})
	done.Go(func() { follow(ctx, t, apis, availableStatus) })
}

// follow sets the status of every object that appears or changes.
func follow(ctx context.Context, t *testing.T, resource dynamic.ResourceInterface, status func(*unstructured.Unstructured) map[string]any) {
	w, err := resource.Watch(ctx, metav1.ListOptions{})
	if err != nil {
		if ctx.Err() == nil {
			t.Errorf("watching: %v", err)
		}
		return
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		object, ok := event.Object.(*unstructured.Unstructured)
		if !ok || event.Type != watch.Added && event.Type != watch.Modified {
			continue
		}
		want := status(object)
		if want == nil || upToDate(object, want) {
			continue
		}
		patch, err := json.Marshal(map[string]any{"status": want})
		if err != nil {
			t.Errorf("status: %v", err)
			return
		}
		// what is gone or changed meanwhile shows up as another event
		_, _ = resource.Patch(ctx, object.GetName(), types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	}
}

func upToDate(object *unstructured.Unstructured, want map[string]any) bool {
	have, _, _ := unstructured.NestedMap(object.Object, "status")
	if want["conditions"] != nil {
		return helm.ReadyState(object).Ready
	}
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}

func runningStatus(object *unstructured.Unstructured) map[string]any {
	n, found, _ := unstructured.NestedInt64(object.Object, "spec", "replicas")
	if !found {
		n = 3 // a DaemonSet's nodes
	}
	available := n
	containers, _, _ := unstructured.NestedSlice(object.Object, "spec", "template", "spec", "containers")
	for _, c := range containers {
		if c.(map[string]any)["image"] == brokenImage {
			available = 0
		}
	}
	generation := object.GetGeneration()
	switch object.GetKind() {
	case "DaemonSet":
		return map[string]any{
			"observedGeneration": generation, "desiredNumberScheduled": n, "currentNumberScheduled": n, "numberMisscheduled": int64(0),
			"updatedNumberScheduled": n, "numberReady": available, "numberAvailable": available,
		}
	default:
		return map[string]any{
			"observedGeneration": generation, "replicas": n, "updatedReplicas": n, "readyReplicas": available, "availableReplicas": available,
		}
	}
}

func availableStatus(object *unstructured.Unstructured) map[string]any {
	if _, local, _ := unstructured.NestedMap(object.Object, "spec", "service"); !local {
		return nil // served by the API server itself
	}
	return map[string]any{"conditions": []any{map[string]any{
		"type": "Available", "status": "True", "reason": "Test", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
	}}}
}

func dynamicClient(t *testing.T) dynamic.Interface {
	t.Helper()
	clients, err := dynamic.NewForConfig(server.config)
	require.NoError(t, err)
	return clients
}

func clientset(t *testing.T) kubernetes.Interface {
	t.Helper()
	clients, err := kubernetes.NewForConfig(server.config)
	require.NoError(t, err)
	return clients
}

// newNamespace makes a namespace that only this test uses. Nobody removes namespaces from the API server.
func newNamespace(t *testing.T, labels map[string]string) string {
	t.Helper()
	ns, err := clientset(t).CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-", Labels: labels}}, metav1.CreateOptions{})
	require.NoError(t, err)
	return ns.Name
}
