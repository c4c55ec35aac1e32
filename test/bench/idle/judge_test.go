package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/catamaran-k8s/catamaran/embedded"
	"github.com/catamaran-k8s/catamaran/inventory"
)

func running(namespace, node string, own part, everyNode bool, cpu, mebibytes float64) *pod {
	p := &pod{namespace: namespace, name: namespace + node, node: node, part: own, everyNode: everyNode, requests: amount{cpu, mebibytes * mebibyte}}
	p.used.add(p.requests)
	return p
}

func rest(cpu, mebibytes float64) *usage {
	u := &usage{}
	u.add(amount{cpu, mebibytes * mebibyte})
	return u
}

// What every node has counts once for a machine, what no promise is about not at all.
func TestServicePromise(t *testing.T) {
	t.Parallel()
	c := &cluster{rest: map[string]*usage{"a": rest(0.1, 300), "b": rest(0.2, 200)}}
	c.pods = []*pod{
		running("kube-system", "a", kubernetesPart, true, 0.5, 1000), running("node-exporter", "a", platformPart, true, 0.1, 20),
		running("node-exporter", "b", platformPart, true, 0.1, 20), running("loki", "b", platformPart, false, 0.6, 1500), running("shop", "b", otherPart, false, 9, 9000),
	}
	p := promises(inventory.Service)[0]
	text, ok := p.judge(c)
	assert.True(t, ok, text)
	assert.Contains(t, text, "used 1.300 CPU, 2820 MiB; requested 1.200 CPU, 2520 MiB: met")
	c.pods[3].used.add(amount{0.6, 3000 * mebibyte})
	text, ok = p.judge(c)
	assert.False(t, ok, "the most memory counts")
	assert.Contains(t, text, "used 1.300 CPU, 4320 MiB; requested 1.200 CPU, 2520 MiB: MISSED")
	c.pods[3].used = usage{}
	c.pods[3].requests.cpu = 1.5
	_, ok = p.judge(c)
	assert.False(t, ok, "a request without room is no promise kept")
}

func TestWorkloadPromises(t *testing.T) {
	t.Parallel()
	c := &cluster{rest: map[string]*usage{"a": rest(5, 5000)}, pods: []*pod{
		running("kube-system", "a", kubernetesPart, true, 5, 5000), running("falco", "a", platformPart, true, 0.1, 100), running("falco", "b", platformPart, true, 0.05, 155),
		running("fluentd", "b", platformPart, true, 0.05, 100), running("gatekeeper-system", "b", platformPart, false, 0.4, 1000),
	}}
	for _, p := range promises(inventory.Workload) {
		text, ok := p.judge(c)
		assert.True(t, ok, text)
	}
	c.pods[2].requests.memory = 156 * mebibyte
	text, ok := promises(inventory.Workload)[1].judge(c)
	assert.False(t, ok, "under 256 MiB a node: %s", text)
	c.pods[4].requests.cpu = 0.5
	_, ok = promises(inventory.Workload)[0].judge(c)
	assert.False(t, ok)
}

func TestWhoseAPodIs(t *testing.T) {
	t.Parallel()
	components, err := embedded.Components()
	require.NoError(t, err)
	parts := partsOf(components)
	for namespace, want := range map[string]part{
		"kube-system": kubernetesPart, "kube-flannel": kubernetesPart, "metrics-server": kubernetesPart, "loki": platformPart, "prometheus-agent": platformPart, "smoke": "", "shop": "",
	} {
		assert.Equal(t, want, parts[namespace], namespace)
	}
	daemon := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{{Kind: "DaemonSet"}}}}
	assert.True(t, everyNode(daemon))
	assert.False(t, everyNode(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{{Kind: "StatefulSet"}}}}))
	assert.False(t, ready(daemon))
	wants := func(cpu, memory string) corev1.Container {
		return corev1.Container{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}}}
	}
	daemon.Spec.Containers = []corev1.Container{wants("100m", "10Mi"), wants("50m", "20Mi")}
	daemon.Spec.InitContainers = []corev1.Container{wants("10m", "64Mi")}
	got := reserved(daemon, func(r corev1.ResourceRequirements) corev1.ResourceList { return r.Requests })
	assert.InDelta(t, 0.15, got.cpu, 1e-9)
	assert.InDelta(t, 64*mebibyte, got.memory, 1)
}
