package evidence

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/catamaran-k8s/catamaran/bootstrap/verify/verifytest"
)

func named(namespace, name string, labels ...string) metav1.ObjectMeta {
	m := metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{}}
	for i := 0; i+1 < len(labels); i += 2 {
		m.Labels[labels[i]] = labels[i+1]
	}
	return m
}

func running(namespace, name string, labels ...string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: named(namespace, name, labels...), Status: corev1.PodStatus{
		Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{Image: "img:1", ImageID: "docker.io/img@sha256:aa"}},
	}}
}

// api is a cluster with a bit of everything.
func api(t *testing.T) API {
	t.Helper()
	a := verifytest.NewAuthority(t, "service")
	host := running("app", "host")
	host.Spec.HostNetwork = true
	done := running("app", "done")
	done.Status.Phase = corev1.PodSucceeded
	deny := func(name string, selector metav1.LabelSelector, types ...networkingv1.PolicyType) *networkingv1.NetworkPolicy {
		return &networkingv1.NetworkPolicy{ObjectMeta: named("app", name), Spec: networkingv1.NetworkPolicySpec{PodSelector: selector, PolicyTypes: types}}
	}
	noDigest := running("bare", "bare")
	noDigest.Status.ContainerStatuses[0].ImageID = "img"
	client := fake.NewClientset(
		&corev1.Namespace{ObjectMeta: named("", "app", "pod-security.kubernetes.io/enforce", "restricted")}, &corev1.Namespace{ObjectMeta: named("", "bare")},
		running("app", "web", "app", "web"), running("app", "db", "app", "db"), running("app", "tool", "app", "tool"), host, done, noDigest,
		deny("in", metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress),
		deny("no-types", metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpIn, Values: []string{"db"}}}}),
		&rbacv1.ClusterRole{ObjectMeta: named("", "everything"), Rules: []rbacv1.PolicyRule{{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}}}},
		&rbacv1.ClusterRole{ObjectMeta: named("", "reader"), Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{"*"}, Resources: []string{"*"}}}},
		&rbacv1.ClusterRoleBinding{ObjectMeta: named("", "cluster-admin"), RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "cluster-admin"}, Subjects: []rbacv1.Subject{{Kind: "Group", Name: "system:masters"}}},
		&rbacv1.ClusterRoleBinding{ObjectMeta: named("", "ci"), RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "everything"}, Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "ci", Name: "deploy"}}},
		&rbacv1.ClusterRoleBinding{ObjectMeta: named("", "read"), RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "reader"}, Subjects: []rbacv1.Subject{{Kind: "User", Name: "bob"}}},
		&corev1.Secret{ObjectMeta: named("loki", "loki-tls"), Type: corev1.SecretTypeTLS, Data: map[string][]byte{"tls.crt": verifytest.CertPEM(a.Cert), "tls.key": []byte("SECRET-KEY")}},
		&appsv1.DaemonSet{ObjectMeta: named("falco", "falco"), Status: appsv1.DaemonSetStatus{NumberReady: 2, DesiredNumberScheduled: 3}},
		&appsv1.DaemonSet{ObjectMeta: named("kube-system", "cilium"), Status: appsv1.DaemonSetStatus{NumberReady: 1, DesiredNumberScheduled: 1}},
		&batchv1.CronJob{ObjectMeta: named("trivy", "scan"), Status: batchv1.CronJobStatus{LastSuccessfulTime: &metav1.Time{Time: time.Unix(1000, 0)}}},
		&batchv1.CronJob{ObjectMeta: named("app", "own")},
	)
	client.Resources = []*metav1.APIResourceList{{GroupVersion: constraintGroup + "/v1beta1", APIResources: []metav1.APIResource{{Name: "pinned", Kind: "Pinned"}, {Name: "pinned/status"}}}}
	constraint := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": constraintGroup + "/v1beta1", "kind": "Pinned", "metadata": map[string]any{"name": "images"},
		"spec": map[string]any{"enforcementAction": "warn"}, "status": map[string]any{"totalViolations": int64(3), "auditTimestamp": "2026-11-24T15:00:00Z"},
	}}
	dyn := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(),
		map[schema.GroupVersionResource]string{{Group: constraintGroup, Version: "v1beta1", Resource: "pinned"}: "PinnedList"}, constraint)
	// the tracker of the fake makes a plural of its own
	dyn.PrependReactor("list", "pinned", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, &unstructured.UnstructuredList{Object: map[string]any{"apiVersion": constraintGroup + "/v1beta1", "kind": "PinnedList"}, Items: []unstructured.Unstructured{*constraint}}, nil
	})
	return API{Client: client, Dynamic: dyn}
}

func TestReadCluster(t *testing.T) {
	t.Parallel()
	c := Cluster{Name: "workload"}
	assert.Empty(t, readCluster(t.Context(), api(t), &c))
	assert.True(t, c.Read)
	assert.Equal(t, []Namespace{
		{Name: "app", PodSecurity: "restricted", Policies: 2, Pods: 4, Host: 1, OpenIn: []string{"tool"}, OpenOut: []string{"db", "tool"}},
		{Name: "bare", Pods: 1, OpenIn: []string{"bare"}, OpenOut: []string{"bare"}},
	}, c.Namespaces)
	assert.Equal(t, []Image{{"img:1", "", 1}, {"img:1", "sha256:aa", 4}}, c.Images)
	require.Len(t, c.Admins, 2)
	assert.Equal(t, "system:masters", c.Admins[0].Name)
	assert.NotEmpty(t, c.Admins[0].Why)
	assert.Equal(t, Admin{Kind: "ServiceAccount", Namespace: "ci", Name: "deploy", Binding: "ci", Role: "everything"}, c.Admins[1])
	assert.Equal(t, Workload{true, 2, 3}, c.Falco)
	assert.Equal(t, "Cilium", c.Enforcer)
	assert.Equal(t, []Scan{{"trivy/scan", time.Unix(1000, 0).UTC()}}, c.Scans)
	require.Len(t, c.Certificates, 1)
	assert.Equal(t, "Secret loki/loki-tls", c.Certificates[0].Where)
	assert.Equal(t, Gatekeeper{Installed: true, Constraints: []Constraint{{"Pinned", "images", "warn", 3, time.Date(2026, 11, 24, 15, 0, 0, 0, time.UTC)}}}, c.Gatekeeper)
}

func TestWhatCanNotBeReadIsAGap(t *testing.T) {
	t.Parallel()
	a := api(t)
	client, ok := a.Client.(*fake.Clientset)
	require.True(t, ok)
	client.PrependReactor("list", "clusterrolebindings", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, errors.New("forbidden") })
	c := Cluster{Name: "workload"}
	assert.Equal(t, []Gap{{"workload: cluster role bindings", "forbidden"}}, readCluster(t.Context(), a, &c))
	assert.False(t, c.Read)
	assert.Len(t, c.Namespaces, 2, "the rest is there")
}

func TestWithoutGatekeeper(t *testing.T) {
	t.Parallel()
	c := Cluster{}
	assert.Empty(t, readCluster(t.Context(), API{Client: fake.NewClientset()}, &c))
	assert.False(t, c.Gatekeeper.Installed)
}
