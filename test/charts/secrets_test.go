package charts

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/catamaran-k8s/catamaran/embedded/helm"
	"github.com/catamaran-k8s/catamaran/test/lab/build"
)

const secretContent = "Canary_Secret_7351"

func appSecret(namespace, digest string) helm.Secret {
	return helm.Secret{
		Namespace: namespace, Name: "app-tls", Type: corev1.SecretTypeOpaque, Data: map[string][]byte{"key": []byte(secretContent)}, Digest: digest,
		NotAfter: time.Date(2027, 6, 1, 12, 0, 0, 0, time.UTC), PodSecurity: "restricted", Await: true, Timeout: long,
	}
}

// users makes workloads of which two use the Secret app-tls, each in another way.
func users(t *testing.T, namespace string) {
	t.Helper()
	apps := clientset(t).AppsV1()
	meta := func(name string) (metav1.ObjectMeta, *metav1.LabelSelector) {
		labels := map[string]string{"app": name}
		return metav1.ObjectMeta{Name: name, Labels: labels}, &metav1.LabelSelector{MatchLabels: labels}
	}
	pod := func(name string) corev1.PodTemplateSpec {
		m, _ := meta(name)
		return corev1.PodTemplateSpec{ObjectMeta: m, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "example.org/app:1"}}}}
	}
	mounts := pod("mounts")
	mounts.Spec.Volumes = []corev1.Volume{{Name: "tls", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "app-tls"}}}}
	m, selector := meta("mounts")
	_, err := apps.StatefulSets(namespace).Create(t.Context(), &appsv1.StatefulSet{ObjectMeta: m, Spec: appsv1.StatefulSetSpec{Selector: selector, Template: mounts}}, metav1.CreateOptions{})
	require.NoError(t, err)
	variable := pod("variable")
	variable.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "KEY", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
		LocalObjectReference: corev1.LocalObjectReference{Name: "app-tls"}, Key: "key",
	}}}}
	m, selector = meta("variable")
	_, err = apps.Deployments(namespace).Create(t.Context(), &appsv1.Deployment{ObjectMeta: m, Spec: appsv1.DeploymentSpec{Selector: selector, Template: variable}}, metav1.CreateOptions{})
	require.NoError(t, err)
	other := pod("other")
	other.Spec.Volumes = []corev1.Volume{{Name: "tls", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "app-tls-2"}}}}
	m, selector = meta("other")
	_, err = apps.DaemonSets(namespace).Create(t.Context(), &appsv1.DaemonSet{ObjectMeta: m, Spec: appsv1.DaemonSetSpec{Selector: selector, Template: other}}, metav1.CreateOptions{})
	require.NoError(t, err)
}

// generations are those of the workloads that users made.
func generations(t *testing.T, namespace string) [3]int64 {
	t.Helper()
	apps := clientset(t).AppsV1()
	s, err := apps.StatefulSets(namespace).Get(t.Context(), "mounts", metav1.GetOptions{})
	require.NoError(t, err)
	d, err := apps.Deployments(namespace).Get(t.Context(), "variable", metav1.GetOptions{})
	require.NoError(t, err)
	ds, err := apps.DaemonSets(namespace).Get(t.Context(), "other", metav1.GetOptions{})
	require.NoError(t, err)
	return [3]int64{s.Generation, d.Generation, ds.Generation}
}

func TestPutSecret(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t, nil) + "-put"
	runsEverything(t, ns)
	c, log := newCluster(t)
	secrets := clientset(t).CoreV1().Secrets(ns)
	require.NoError(t, c.PutSecret(t.Context(), appSecret(ns, "one")), "the namespace is made with it")
	namespace, err := clientset(t).CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, "restricted", namespace.Labels["pod-security.kubernetes.io/enforce"])
	have, err := secrets.Get(t.Context(), "app-tls", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{helm.LabelManagedBy: helm.ManagedBy}, have.Labels)
	assert.Equal(t, map[string]string{helm.AnnotationDigest: "one", helm.AnnotationNotAfter: "2027-06-01T12:00:00Z"}, have.Annotations)

	users(t, ns)
	before := generations(t, ns)
	changed := appSecret(ns, "two")
	changed.Data, changed.NotAfter = map[string][]byte{"other": []byte(secretContent + "2")}, time.Time{}
	require.NoError(t, c.PutSecret(t.Context(), changed))
	after := generations(t, ns)
	assert.Equal(t, [3]int64{before[0] + 1, before[1] + 1, before[2]}, after, "who uses it is restarted, and nobody else")
	have, err = secrets.Get(t.Context(), "app-tls", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, changed.Data, have.Data, "no key of before is left")
	assert.Equal(t, map[string]string{helm.AnnotationDigest: "two"}, have.Annotations)

	// another type can only be another Secret
	changed.Type, changed.Digest = "example.org/kind", "three"
	require.NoError(t, c.PutSecret(t.Context(), changed))
	again, err := secrets.Get(t.Context(), "app-tls", metav1.GetOptions{})
	require.NoError(t, err)
	assert.NotEqual(t, have.UID, again.UID)
	assert.Equal(t, "three", again.Annotations[helm.AnnotationDigest])
	assert.Contains(t, log.text(), "restarting statefulset mounts, which uses the Secret app-tls")
	assert.NotContains(t, log.text(), secretContent)
}

// A Secret is marked as good when what uses it runs with it, not before: a run that is cut off between does it again.
func TestPutSecretWaitsBeforeItIsDone(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t, nil) // nothing runs there: workloads never get ready
	c, _ := newCluster(t)
	secrets := clientset(t).CoreV1().Secrets(ns)
	s := appSecret(ns, "one")
	s.Timeout = short
	require.NoError(t, c.PutSecret(t.Context(), s))
	users(t, ns)
	s.Digest = "two"
	err := c.PutSecret(t.Context(), s)
	var unready *helm.NotReadyError
	require.ErrorAs(t, err, &unready)
	assert.NotContains(t, err.Error(), secretContent)
	have, err := secrets.Get(t.Context(), "app-tls", metav1.GetOptions{})
	require.NoError(t, err)
	assert.NotContains(t, have.Annotations, helm.AnnotationDigest)
	s.Await = false // the release that follows waits
	require.NoError(t, c.PutSecret(t.Context(), s))
	have, err = secrets.Get(t.Context(), "app-tls", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, "two", have.Annotations[helm.AnnotationDigest])
}

func TestForeignSecretsAreLeftAlone(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t, nil)
	c, _ := newCluster(t)
	secrets := clientset(t).CoreV1().Secrets(ns)
	_, err := secrets.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "app-tls"}, StringData: map[string]string{"a": "b"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	require.ErrorContains(t, c.PutSecret(t.Context(), appSecret(ns, "one")), "was not made by catamaran")
	have, err := secrets.Get(t.Context(), "app-tls", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, map[string][]byte{"a": []byte("b")}, have.Data)
	bad := appSecret(ns, "one")
	bad.Name = "Not_A_Name_" + secretContent
	err = c.PutSecret(t.Context(), bad)
	require.True(t, apierrors.IsInvalid(err), "%v", err)
}

// The facts script's own words for the list, on the real API server.
func TestFactsListSecrets(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t, nil)
	c, _ := newCluster(t)
	require.NoError(t, c.PutSecret(t.Context(), appSecret(ns, "one")))
	script, err := os.ReadFile("../../bootstrap/host/facts.sh")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(script), "secrets -A -l app.kubernetes.io/managed-by=catamaran -o 'jsonpath=")
	require.True(t, found)
	template, _, found := strings.Cut(rest, "'")
	require.True(t, found)
	kubectl, err := build.One(t.Context(), build.Options{}, "kubectl")
	require.NoError(t, err)
	kubeconfig := api.NewConfig()
	kubeconfig.Clusters["c"] = &api.Cluster{Server: server.config.Host, CertificateAuthority: server.config.CAFile}
	kubeconfig.AuthInfos["u"] = &api.AuthInfo{Token: server.config.BearerToken}
	kubeconfig.Contexts["x"] = &api.Context{Cluster: "c", AuthInfo: "u"}
	kubeconfig.CurrentContext = "x"
	file := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(*kubeconfig, file))
	cmd := exec.CommandContext(t.Context(), kubectl.Path, "--kubeconfig", file, "--cache-dir", t.TempDir(),
		"get", "secrets", "-n", ns, "-l", "app.kubernetes.io/managed-by=catamaran", "-o", "jsonpath="+template)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Equal(t, ns+"\tapp-tls\tone\t2027-06-01T12:00:00Z\n", string(out))
}
