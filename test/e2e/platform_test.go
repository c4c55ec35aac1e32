package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/catamaran-k8s/catamaran/bootstrap/verify"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify/chainfile"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify/query"
	"github.com/catamaran-k8s/catamaran/inventory"
	testsite "github.com/catamaran-k8s/catamaran/test/site"
)

// The compliance platform: from here on the story is the evidence's.

func testPlatform(t *testing.T) {
	s.site.Change(t, func(m map[string]any) {
		m["platform"] = map[string]any{"size": "small", "silenceAlert": "2m"} // it is waited for below
		testsite.At(m, "components", "grafana")["enabled"] = false            // the lab's bundle has no image of it
	})
	begin := time.Now()
	out := s.site.Must(t, 0, "apply", "--yes", "--progress", "plain")
	t.Logf("the platform was installed in %s:\n%s", time.Since(begin).Round(time.Second), out)
	assert.Contains(t, s.site.Must(t, 0, "apply", "--yes"), "nothing to do")
	settled(t)
	for _, c := range s.site.Load(t).ClusterNames() {
		pods, err := s.site.Client(t, c).CoreV1().Pods("").List(s.ctx, metav1.ListOptions{})
		require.NoError(t, err)
		for _, p := range pods.Items {
			assert.Contains(t, []corev1.PodPhase{corev1.PodRunning, corev1.PodSucceeded}, p.Status.Phase, "%s %s/%s", c, p.Namespace, p.Name)
		}
	}
}

// checked runs a verification and returns its document, whose signature is checked.
func checked(t *testing.T, code int, args ...string) verify.Document {
	t.Helper()
	out := s.site.Must(t, code, append([]string{"verify"}, args...)...)
	t.Log(out)
	files, err := filepath.Glob(filepath.Join(verify.Folder(s.site.Load(t).SiteDir()), args[0]+"-*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	path := slices.Max(files)
	s.site.Must(t, 0, "verify", "document", path)
	d, err := verify.Read(path, nil)
	require.NoError(t, err)
	return d
}

func fact(t *testing.T, d verify.Document, name string) string {
	t.Helper()
	for _, f := range d.Facts {
		if f.Name == name {
			return f.Value
		}
	}
	require.Fail(t, "the document has no such fact", "%s in %v", name, d.Facts)
	return ""
}

func testCanaries(t *testing.T) {
	d := checked(t, 0, "canary", "--bucket", "--bucket-timeout", "2m")
	assert.Equal(t, verify.Pass, d.Verdict)
	assert.Contains(t, fact(t, d, "seen"), "5 of 5")
	assert.Empty(t, silent(s.ctx, t), "no alert about a cluster that speaks")
}

// silent are the alerts about a workload cluster from which nothing comes, by what does not come.
func silent(ctx context.Context, t *testing.T) []string {
	c, out := s.site.Command(ctx, "metrics", "-o", "json", `ALERTS{alertname="SilentWorkload",alertstate="firing"}`)
	c.Stderr = nil
	require.NoError(t, c.Run(), out.String())
	var samples []query.Sample
	require.NoError(t, json.Unmarshal(out.Bytes(), &samples))
	found := []string{}
	for _, sample := range samples {
		found = append(found, sample.Labels["channel"])
	}
	slices.Sort(found)
	return found
}

func testSeparation(t *testing.T) {
	assert.Equal(t, verify.Pass, checked(t, 0, "separation").Verdict)
}

// leastAttempts is how many distinct attempts a proof must hold to be one.
const leastAttempts = 200

func testTamper(t *testing.T) {
	d := checked(t, 0, "tamper")
	assert.Equal(t, verify.Pass, d.Verdict)
	attempts, err := strconv.Atoi(fact(t, d, "distinct attempts that reached something"))
	require.NoError(t, err)
	assert.GreaterOrEqual(t, attempts, leastAttempts)
	sent, seen, _ := strings.Cut(fact(t, d, "markers seen in the service cluster"), " of ")
	assert.Equal(t, sent, seen, "every marker was there to be attacked")
}

// The negative control: Loki is made reachable, and a key that opens it is left in the workload cluster.
func testTamperFindsAnOpenPath(t *testing.T) {
	sc, wc := s.site.Client(t, inventory.Service), s.site.Client(t, inventory.Workload)
	door, err := sc.CoreV1().Services("loki").Create(s.ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "opened-on-purpose"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, Selector: map[string]string{"app.kubernetes.io/name": "loki"},
			Ports: []corev1.ServicePort{{Port: 3100, TargetPort: intstr.FromInt32(3100)}},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	key, err := sc.CoreV1().Secrets("loki").Get(s.ctx, "loki-tls", metav1.GetOptions{})
	require.NoError(t, err)
	_, err = wc.CoreV1().Secrets("default").Create(s.ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "left-on-purpose"}, Data: key.Data}, metav1.CreateOptions{})
	require.NoError(t, err)

	d := checked(t, 1, "tamper")
	assert.Equal(t, verify.Fail, d.Verdict)
	assert.True(t, slices.ContainsFunc(d.Findings, func(f verify.Finding) bool {
		return f.Severity == verify.Breach && strings.Contains(f.Subject+f.Message, strconv.Itoa(int(door.Spec.Ports[0].NodePort))) && strings.Contains(f.Subject+f.Message, "left-on-purpose")
	}), "the finding names the port and the Secret: %v", d.Findings)
	assert.Equal(t, verify.Fail, checked(t, 1, "separation").Verdict)

	require.NoError(t, sc.CoreV1().Services("loki").Delete(s.ctx, door.Name, metav1.DeleteOptions{}))
	require.NoError(t, wc.CoreV1().Secrets("default").Delete(s.ctx, "left-on-purpose", metav1.DeleteOptions{}))
	assert.Equal(t, verify.Pass, checked(t, 0, "separation").Verdict)
}

func testReleasesChangeAlone(t *testing.T) {
	set := func(key string, value any) {
		s.site.Change(t, func(m map[string]any) { testsite.At(m, "components", "alertmanager", "values")[key] = value })
	}
	revision := func() string {
		for _, line := range strings.Split(s.site.Must(t, 0, "status", "-o", "json"), "\n") {
			if strings.Contains(line, "alertmanager") {
				return line
			}
		}
		return ""
	}
	set("repeatHours", 8)
	assert.Equal(t, []string{"service/release/alertmanager"}, s.site.Planned(t), "nothing else is touched")
	s.site.Must(t, 0, "apply", "--yes")
	config := func() string {
		secrets, err := s.site.Client(t, inventory.Service).CoreV1().ConfigMaps("alertmanager").List(s.ctx, metav1.ListOptions{})
		require.NoError(t, err)
		text, err := json.Marshal(secrets.Items)
		require.NoError(t, err)
		return string(text)
	}
	assert.Contains(t, config(), "repeat_interval: 8h")
	before := revision()

	// asks for more than its limit: the API refuses
	set("repeatHours", 9)
	set("resources", map[string]any{"requests": map[string]any{"memory": "2Gi"}, "limits": map[string]any{"memory": "1Gi"}})
	out := s.site.Must(t, 4, "apply", "--yes", "--progress", "plain")
	assert.Contains(t, out, "must be less than or equal to memory limit", "it says why")
	assert.Contains(t, out, "rolled back")
	assert.Contains(t, config(), "repeat_interval: 8h", "what was there before is there again")
	s.site.Change(t, func(m map[string]any) { delete(testsite.At(m, "components"), "alertmanager") })
	s.site.Must(t, 0, "apply", "--yes")
	assert.NotEmpty(t, before)
	assert.Empty(t, s.site.Planned(t))
}

func testReport(t *testing.T) {
	dir := filepath.Join(s.dir, "report")
	require.NoError(t, os.MkdirAll(dir, 0o700))
	out, code := s.site.Run(t, "report", "--out", dir)
	t.Log(out)
	assert.Contains(t, []int{verify.ExitPass, verify.ExitFail}, code, "all could be read")
	assert.Regexp(t, `(?m)^MET +API requests are audited`, out)
	for _, kind := range []string{"json", "html"} {
		files, err := filepath.Glob(filepath.Join(dir, "*."+kind))
		require.NoError(t, err)
		require.Len(t, files, 1)
		s.site.Must(t, 0, "report", "--check", files[0])
		data := read(t, files[0])
		i := len(data) / 2
		data[i] ^= 1
		require.NoError(t, os.WriteFile(files[0], data, 0o600))
		_, code := s.site.Run(t, "report", "--check", files[0])
		assert.NotZero(t, code, "one changed bit in %s", kind)
	}
}

// records are how many records of the workload cluster Loki shows in a time that is over.
func records(t *testing.T, from, to time.Time) []query.Entry {
	t.Helper()
	c, out := s.site.Command(s.ctx, "logs", "-o", "json", "--limit", "5000", "--since", time.Since(from).String(), `{source=~".+"}`)
	require.NoError(t, c.Run(), out.String())
	text := out.String()
	if i := strings.IndexByte(text, '['); i >= 0 {
		text = text[i:]
	}
	var all []query.Entry
	require.NoError(t, json.NewDecoder(strings.NewReader(text)).Decode(&all))
	return slices.DeleteFunc(all, func(e query.Entry) bool { return e.At.Before(from) || !e.At.Before(to) })
}

// What an attacker with root on every node of the workload cluster would do to hide, before the power goes.
const wipe = "rm -rf /etc/kubernetes /var/lib/etcd/* /var/lib/kubelet/pki /var/log/pods /var/log/containers /var/log/journal /var/log/kubernetes"

func testWipedWorkload(t *testing.T) {
	whole := checked(t, 0, "chain")
	to := time.Now().Add(-20 * time.Second)
	from := to.Add(-20 * time.Second)
	var before []query.Entry
	s.site.Eventually(t, time.Minute, func(context.Context) error {
		if before = records(t, from, to); len(before) == 0 {
			return errors.New("no record in twenty seconds")
		}
		return nil
	})
	for _, n := range s.site.Load(t).Clusters.Workload.PresentNodes() {
		_, err := s.machines.root(s.ctx, n.Name, wipe, nil)
		require.NoError(t, err)
		require.NoError(t, s.machines.kill(s.ctx, n.Name))
	}
	dark := time.Now()
	after := records(t, from, to)
	for _, e := range before {
		assert.True(t, slices.ContainsFunc(after, func(o query.Entry) bool { return o.At.Equal(e.At) && o.Line == e.Line }), "%s %s", e.At, e.Line)
	}
	d := checked(t, 0, "chain")
	assert.Equal(t, verify.Pass, d.Verdict)
	var was, is chainfile.Data
	require.NoError(t, json.Unmarshal(whole.Data, &was))
	require.NoError(t, json.Unmarshal(d.Data, &is))
	require.NotEmpty(t, was.Ends)
	for tenant, end := range was.Ends {
		assert.GreaterOrEqual(t, is.Ends[tenant].Sequence, end.Sequence, tenant)
	}
	s.site.Eventually(t, 6*time.Minute, func(ctx context.Context) error {
		if found := silent(ctx, t); !slices.Equal(found, []string{"logs", "metrics"}) {
			return fmt.Errorf("alerts about silence: %v", found)
		}
		return nil
	})
	t.Logf("the service cluster noticed the silence after %s", time.Since(dark).Round(time.Second))
	for _, n := range s.site.Load(t).Clusters.Workload.PresentNodes() {
		require.NoError(t, s.machines.start(s.ctx, n.Name))
	}
	t.Logf("%d records of %s are still there, and the chains: %s", len(before), to.Sub(from), fmt.Sprint(is.Ends))
}
