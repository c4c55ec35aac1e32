package charts

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/catamaran-k8s/catamaran/embedded"
	"github.com/catamaran-k8s/catamaran/embedded/helm"
)

// long is for what must become ready, short for what never does.
const (
	long  = 30 * time.Second
	short = 3 * time.Second
)

// chartFiles is a chart with a ConfigMap and a Deployment.
func chartFiles(version string) []helm.File {
	return []helm.File{
		{Name: "Chart.yaml", Data: []byte("apiVersion: v2\nname: app\nversion: " + version + "\n")},
		{Name: "values.yaml", Data: []byte("image: example.org/app:1\ntext: hello\nname: app\n")},
		{Name: "templates/config.yaml", Data: []byte(`
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Values.name }}"}
data: {version: "{{ .Chart.Version }}", text: {{ .Values.text | quote }}}
`)},
		{Name: "templates/deployment.yaml", Data: []byte(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  replicas: 2
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec: {containers: [{name: app, image: "{{ .Values.image }}"}]}
`)},
	}
}

func load(t *testing.T, files []helm.File) *helm.Chart {
	t.Helper()
	chart, err := helm.LoadFiles(files)
	require.NoError(t, err)
	return chart
}

// said gathers log lines.
type said struct {
	mu    sync.Mutex
	lines []string
}

func (s *said) log(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
}

func (s *said) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n")
}

func newCluster(t *testing.T) (*helm.Cluster, *said) {
	t.Helper()
	s := &said{}
	c, err := helm.NewCluster(server.config, s.log)
	require.NoError(t, err)
	return c, s
}

// installed returns the newest revision of a release.
func installed(t *testing.T, c *helm.Cluster, namespace, name string) helm.Installed {
	t.Helper()
	all, err := c.List(t.Context())
	require.NoError(t, err)
	for _, i := range all {
		if i.Namespace == namespace && i.Name == name {
			return i
		}
	}
	return helm.Installed{}
}

func config(t *testing.T, namespace string) map[string]string {
	t.Helper()
	cm, err := clientset(t).CoreV1().ConfigMaps(namespace).Get(t.Context(), "app", metav1.GetOptions{})
	require.NoError(t, err)
	return cm.Data
}

func app(t *testing.T, namespace, version string, values map[string]any) helm.Release {
	return helm.Release{
		Name: "app", Namespace: namespace, Chart: load(t, chartFiles(version)), Values: values, Timeout: long,
		Labels: map[string]string{helm.LabelDigest: "digest-of-" + version, helm.LabelVersion: version},
	}
}

// Every embedded chart installs, is found as installed with the digest that plan compares, shows no difference, and
// is upgraded when a value changes.
//
// Not in parallel: a storage class that exists would be in the way of the dry runs.
func TestEmbeddedChartsInstall(t *testing.T) {
	releases := wanted(t, variations["everything on"])
	var namespaces []string
	for _, r := range releases {
		namespaces = append(namespaces, r.Namespace)
	}
	runsEverything(t, namespaces...)
	s := &said{}
	i := embedded.NewInstaller(server.config, s.log)
	c, _ := newCluster(t)
	for _, r := range releases {
		require.NoError(t, i.Apply(t.Context(), r), r.Name)
		have := installed(t, c, r.Namespace, r.Name)
		assert.Equal(t, helm.Installed{
			Name: r.Name, Namespace: r.Namespace, Revision: 1, Status: "deployed", Managed: true,
			Digest: embedded.LabelDigest(r.Digest), Version: r.Version,
		}, have)
		diff, err := i.Diff(t.Context(), r)
		require.NoError(t, err)
		assert.Empty(t, diff, r.Name)
		ns, err := clientset(t).CoreV1().Namespaces().Get(t.Context(), r.Namespace, metav1.GetOptions{})
		require.NoError(t, err)
		assert.Equal(t, r.PodSecurity, ns.Labels["pod-security.kubernetes.io/enforce"], r.Name)
	}
	for _, r := range wanted(t, variations["everything on"]+"  metrics-server: {values: {replicas: 2}}\n") {
		diff, err := i.Diff(t.Context(), r)
		require.NoError(t, err)
		if r.Name != "metrics-server" {
			assert.Empty(t, diff, r.Name)
			continue
		}
		assert.Contains(t, diff, "-  replicas: 1\n+  replicas: 2")
		assert.Contains(t, diff, "+kind: PodDisruptionBudget")
		require.NoError(t, i.Apply(t.Context(), r))
		assert.Equal(t, 2, installed(t, c, r.Namespace, r.Name).Revision)
	}
	assert.Contains(t, s.text(), "installing flannel")
	for _, r := range releases {
		require.NoError(t, i.Uninstall(t.Context(), r.Namespace, r.Name, long))
		require.NoError(t, i.Uninstall(t.Context(), r.Namespace, r.Name, long), "what is not there is no error")
		assert.Empty(t, installed(t, c, r.Namespace, r.Name))
	}
	_, err := clientset(t).StorageV1().StorageClasses().Get(t.Context(), "local-path", metav1.GetOptions{})
	assert.True(t, apierrors.IsNotFound(err), "%v", err)
}

func TestApplyIsIdempotentAndUpgrades(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t, nil) + "-new"
	runsEverything(t, ns)
	c, log := newCluster(t)
	require.NoError(t, c.Apply(t.Context(), app(t, ns, "1.0.0", nil)))
	require.NoError(t, c.Apply(t.Context(), app(t, ns, "1.0.0", nil)))
	require.NoError(t, c.Apply(t.Context(), app(t, ns, "1.1.0", map[string]any{"text": "good morning"})))
	assert.Equal(t, map[string]string{"version": "1.1.0", "text": "good morning"}, config(t, ns))
	have := installed(t, c, ns, "app")
	assert.Equal(t, 3, have.Revision)
	assert.Equal(t, "digest-of-1.1.0", have.Digest)
	// values of an earlier revision are not kept
	require.NoError(t, c.Apply(t.Context(), app(t, ns, "1.1.0", nil)))
	assert.Equal(t, "hello", config(t, ns)["text"])
	assert.Contains(t, log.text(), "upgrading app in "+ns+" from revision 2 to 1.1.0")
	assert.Contains(t, log.text(), `warning: would violate PodSecurity "restricted:latest"`)
}

func TestHistoryIsBounded(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t, nil)
	runsEverything(t, ns)
	c, _ := newCluster(t)
	for range 8 {
		require.NoError(t, c.Apply(t.Context(), app(t, ns, "1.0.0", nil)))
	}
	list, err := clientset(t).CoreV1().Secrets(ns).List(t.Context(), metav1.ListOptions{LabelSelector: "owner=helm"})
	require.NoError(t, err)
	assert.LessOrEqual(t, len(list.Items), 6)
	assert.Equal(t, 8, installed(t, c, ns, "app").Revision)
}

func TestFailedUpgradeIsRolledBack(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t, nil)
	runsEverything(t, ns)
	c, log := newCluster(t)
	require.NoError(t, c.Apply(t.Context(), app(t, ns, "1.0.0", nil)))
	bad := app(t, ns, "2.0.0", map[string]any{"image": brokenImage})
	bad.Timeout = short
	err := c.Apply(t.Context(), bad)
	require.ErrorContains(t, err, "upgrading app in "+ns+" failed and was rolled back to revision 1")
	require.ErrorContains(t, err, "Deployment "+ns+"/app: 0 of 2 pods are available")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Equal(t, "1.0.0", config(t, ns)["version"])
	have := installed(t, c, ns, "app")
	assert.Equal(t, "deployed", have.Status)
	assert.Equal(t, "digest-of-1.0.0", have.Digest, "the next plan must see that 2.0.0 is not there")
	assert.Contains(t, log.text(), "rolling back to revision 1")

	require.NoError(t, c.Apply(t.Context(), app(t, ns, "2.0.0", nil)))
	assert.Equal(t, "2.0.0", config(t, ns)["version"])
}

// A first install that fails stays, so that one can look, and the next apply goes on from there.
func TestFailedInstallGoesOn(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t, nil)
	runsEverything(t, ns)
	c, _ := newCluster(t)
	bad := app(t, ns, "1.0.0", map[string]any{"image": brokenImage})
	bad.Timeout = short
	require.ErrorContains(t, c.Apply(t.Context(), bad), "installing app in "+ns)
	assert.Equal(t, "failed", installed(t, c, ns, "app").Status)
	assert.Equal(t, "1.0.0", config(t, ns)["version"])
	require.NoError(t, c.Apply(t.Context(), app(t, ns, "1.0.0", nil)))
	assert.Equal(t, "deployed", installed(t, c, ns, "app").Status)
}

// Stopped by its context, Apply rolls nothing back and the next one goes on.
func TestStoppedWhileWaiting(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t, nil)
	c, log := newCluster(t) // nothing becomes ready
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	r := app(t, ns, "1.0.0", nil)
	go func() { done <- c.Apply(ctx, r) }()
	require.Eventually(t, func() bool { return strings.Contains(log.text(), "waiting: deployment app") }, long, 20*time.Millisecond)
	begin := time.Now()
	cancel()
	err := <-done
	assert.Less(t, time.Since(begin), 20*time.Second, "it must not wait on")
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "was stopped, applying again goes on")
	runsEverything(t, ns)
	require.NoError(t, c.Apply(t.Context(), app(t, ns, "1.0.0", nil)))
	assert.Equal(t, "deployed", installed(t, c, ns, "app").Status)
}

// Killed with SIGKILL in the middle of an install, an upgrade and an upgrade of what was cut off, Helm's own client would
// say "another operation is in progress" forever.
func TestKilledWhileApplying(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t, nil)
	c, log := newCluster(t)
	killedWhileApplying(t, chartFiles("1.0.0"), app(t, ns, "1.0.0", nil), "pending-install")
	assert.Equal(t, "pending-install", installed(t, c, ns, "app").Status)
	runsEverything(t, ns)
	require.NoError(t, c.Apply(t.Context(), app(t, ns, "1.0.0", nil)))
	assert.Contains(t, log.text(), "revision 1 of app is pending-install")
	assert.Equal(t, "1.0.0", config(t, ns)["version"])

	killedWhileApplying(t, chartFiles("2.0.0"), app(t, ns, "2.0.0", map[string]any{"image": brokenImage}), "pending-upgrade")
	assert.Equal(t, "pending-upgrade", installed(t, c, ns, "app").Status)
	// the next run wants the same and it fails: it goes back to what was deployed before the kill
	bad := app(t, ns, "2.0.0", map[string]any{"image": brokenImage})
	bad.Timeout = short
	require.ErrorContains(t, c.Apply(t.Context(), bad), "was rolled back to revision 2")
	assert.Equal(t, "1.0.0", config(t, ns)["version"])
	require.NoError(t, c.Apply(t.Context(), app(t, ns, "2.0.0", nil)))
	have := installed(t, c, ns, "app")
	assert.Equal(t, "deployed", have.Status)
	assert.Equal(t, "digest-of-2.0.0", have.Digest)
	assert.Equal(t, "2.0.0", config(t, ns)["version"])
}

// What the API server quotes when it refuses an object, and what a log line says, must not show values.
func TestValuesDoNotShow(t *testing.T) {
	t.Parallel()
	const canary = "Canary_Secret_7351"
	ns := newNamespace(t, nil)
	c, log := newCluster(t)
	err := c.Apply(t.Context(), app(t, ns, "1.0.0", map[string]any{"name": canary}))
	require.Error(t, err)
	assert.NotContains(t, err.Error()+log.text(), canary)
	assert.Contains(t, err.Error(), "<value of name>")

	r := app(t, ns, "1.0.0", map[string]any{"name": canary})
	r.Public = r.Values
	assert.ErrorContains(t, c.Apply(t.Context(), r), canary, "what is public may be shown; without it this test could not fail")
}

func TestFailedJobEndsTheWait(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t, nil)
	c, _ := newCluster(t)
	files := append(chartFiles("1.0.0")[:2], helm.File{Name: "templates/job.yaml", Data: []byte(`
apiVersion: batch/v1
kind: Job
metadata: {name: app}
spec:
  template: {spec: {restartPolicy: Never, containers: [{name: app, image: "{{ .Values.image }}"}]}}
`)})
	r := helm.Release{Name: "app", Namespace: ns, Chart: load(t, files), Timeout: 5 * time.Minute}
	done := make(chan error, 1)
	begin := time.Now()
	go func() { done <- c.Apply(t.Context(), r) }()
	jobs := clientset(t).BatchV1().Jobs(ns)
	require.Eventually(t, func() bool {
		_, err := jobs.Patch(t.Context(), "app", "application/merge-patch+json", []byte(`{"status": {"startTime": "2026-01-01T00:00:00Z", "failed": 1, "conditions": [
			{"type": "FailureTarget", "status": "True", "reason": "BackoffLimitExceeded", "message": "it broke"},
			{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "it broke"}]}}`), metav1.PatchOptions{}, "status")
		return err == nil
	}, long, 20*time.Millisecond)
	require.ErrorContains(t, <-done, "the job failed: it broke")
	assert.Less(t, time.Since(begin), time.Minute)
}

// CRDs are applied before the rest, upgraded (Helm would not), and stay when the release goes.
func TestCRDs(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t, nil)
	c, _ := newCluster(t)
	crd := func(field string) helm.File {
		return helm.File{Name: "crds/crd.yaml", Data: []byte(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boats.test.catamaran.dev}
spec:
  group: test.catamaran.dev
  names: {kind: Boat, plural: boats}
  scope: Namespaced
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, properties: {` + field + `: {type: string}}}}
`)}
	}
	boat := func(field string) helm.File {
		return helm.File{Name: "templates/boat.yaml", Data: []byte(`
apiVersion: test.catamaran.dev/v1
kind: Boat
metadata: {name: one}
` + field + `: "2"
`)}
	}
	release := func(field string) helm.Release {
		return helm.Release{Name: "boats", Namespace: ns, Timeout: long, Chart: load(t, append(chartFiles("1.0.0")[:2], crd(field), boat(field)))}
	}
	require.NoError(t, c.Apply(t.Context(), release("hulls")))
	require.NoError(t, c.Apply(t.Context(), release("sails")))
	boats := dynamicClient(t).Resource(schema.GroupVersionResource{Group: "test.catamaran.dev", Version: "v1", Resource: "boats"}).Namespace(ns)
	one, err := boats.Get(t.Context(), "one", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, "2", one.Object["sails"], "the upgraded CRD knows the field")
	require.NoError(t, c.Uninstall(t.Context(), ns, "boats", long))
	_, err = boats.List(t.Context(), metav1.ListOptions{})
	assert.NoError(t, err, "the CRD stays")
}

// Labels of a namespace that somebody else made are his.
func TestForeignNamespaceIsLeftAlone(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t, map[string]string{"pod-security.kubernetes.io/enforce": "baseline"})
	runsEverything(t, ns)
	c, _ := newCluster(t)
	r := app(t, ns, "1.0.0", nil)
	r.PodSecurity = "privileged"
	require.NoError(t, c.Apply(t.Context(), r))
	have, err := clientset(t).CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, "baseline", have.Labels["pod-security.kubernetes.io/enforce"])
	assert.NotContains(t, have.Labels, helm.LabelManaged)
}

// A namespace that we made gets the labels that a newer chart asks for.
func TestOwnNamespaceFollows(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t, nil) + "-own"
	runsEverything(t, ns)
	c, _ := newCluster(t)
	for _, level := range []string{"restricted", "privileged"} {
		r := app(t, ns, "1.0.0", nil)
		r.PodSecurity = level
		require.NoError(t, c.Apply(t.Context(), r))
		have, err := clientset(t).CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
		require.NoError(t, err)
		assert.Equal(t, level, have.Labels["pod-security.kubernetes.io/enforce"])
	}
}
