package canary

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/catamaran-k8s/catamaran/bootstrap/remote"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify/query"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain/chaintest"
)

const tenant = "umea-workload"

// site is a workload cluster whose traces arrive in a service cluster, all in memory.
type site struct {
	mu      sync.Mutex
	records []string // JSON, as the gateway stores them
	lost    map[string]bool
	script  string
	user    string
	letIn   bool
	stuck   bool
	podFail bool
	age     time.Duration
	up      float64
	queries []string
	store   *chaintest.Store
}

func (s *site) arrive(channel, record string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.lost[channel] {
		s.records = append(s.records, record)
	}
}

func (s *site) Logs(_ context.Context, name, q string, _, _ time.Time, _ int) ([]query.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queries = append(s.queries, q)
	if name != tenant {
		return nil, fmt.Errorf("tenant %q", name)
	}
	_, marker, _ := strings.Cut(q, `|= "`)
	marker = strings.TrimSuffix(marker, `"`)
	var out []query.Entry
	for _, r := range s.records {
		if strings.Contains(r, marker) {
			out = append(out, query.Entry{Line: r})
		}
	}
	return out, nil
}

func (s *site) Metrics(_ context.Context, q string) ([]query.Sample, error) {
	if strings.HasPrefix(q, "max(") {
		if s.age < 0 {
			return nil, nil
		}
		return []query.Sample{{Value: float64(time.Now().Add(-s.age).UnixMilli()) / 1000}}, nil
	}
	return []query.Sample{{Value: s.up}}, nil
}

func (s *site) Sequences(context.Context) (map[string]uint64, error) {
	return map[string]uint64{tenant: uint64(len(s.store.Keys()))}, nil
}

// Name, Run and Dial make it a Node.
func (s *site) Name() string { return "wc-1" }

func (s *site) Run(_ context.Context, c remote.Command) (remote.Result, error) {
	if !c.Root {
		return remote.Result{}, errors.New("not root")
	}
	s.script = c.Script
	_, rest, _ := strings.Cut(c.Script, "/etc/kubernetes/pki/")
	marker, _, _ := strings.Cut(rest, ".key")
	s.arrive("Falco", record(map[string]string{"namespace": "falco", "message": record(map[string]string{
		"rule": "Catamaran pki changed", "output": "PKI of Kubernetes changed | file=/etc/kubernetes/pki/" + marker + ".key"})}))
	return remote.Result{}, nil
}

func record(m map[string]string) string {
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// Dial reaches an sshd that knows nobody.
func (s *site) Dial(context.Context, string, string) (net.Conn, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, err
	}
	config := &ssh.ServerConfig{PublicKeyCallback: func(c ssh.ConnMetadata, _ ssh.PublicKey) (*ssh.Permissions, error) {
		s.user = c.User()
		s.arrive("SSH login", record(map[string]string{"identifier": "sshd", "message": "Invalid user " + c.User() + " from 10.0.0.1 port 4711"}))
		if s.letIn {
			return &ssh.Permissions{}, nil
		}
		return nil, errors.New("unknown")
	}}
	config.AddHostKey(signer)
	go func() {
		there, err := l.Accept()
		if err != nil {
			return
		}
		defer there.Close() //nolint:errcheck // it is thrown away
		defer l.Close()     //nolint:errcheck // likewise
		if s.stuck {
			_, _ = there.Read(make([]byte, 1<<10)) // the client's greeting
			_, _ = there.Read(make([]byte, 1<<10)) // until it gives up
			return
		}
		if conn, _, _, err := ssh.NewServerConn(there, config); err == nil {
			_ = conn.Wait()
		}
	}()
	return net.Dial("tcp", l.Addr().String())
}

// client is the workload cluster's API: pods run at once, requests are audited.
func (s *site) client() *fake.Clientset {
	c := fake.NewClientset(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "wc-1"}, Status: corev1.NodeStatus{Images: []corev1.ContainerImage{
		{Names: []string{"docker.io/prom/prometheus:v3.13.5"}}, {Names: []string{"docker.io/library/busybox@sha256:1", "docker.io/library/busybox:1.37.0"}},
	}}})
	c.PrependReactor("create", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
		p, _ := a.(clienttesting.CreateAction).GetObject().(*corev1.Pod)
		p.Status.Phase = corev1.PodSucceeded
		if s.podFail {
			p.Status.Phase, p.Status.Reason = corev1.PodFailed, "Evicted"
		}
		s.arrive("pod log", record(map[string]string{"namespace": a.GetNamespace(), "pod": p.Name, "message": "catamaran: " + p.Spec.Containers[0].Env[0].Value}))
		// the audited request names it too, and is not the pod's log
		s.arrive("audit", record(map[string]string{"message": `{"kind":"Event","verb":"create","objectRef":{"resource":"pods","name":"` + p.Name + `"}}`}))
		return false, nil, nil
	})
	c.PrependReactor("create", "configmaps", func(a clienttesting.Action) (bool, runtime.Object, error) {
		m, _ := a.(clienttesting.CreateAction).GetObject().(*corev1.ConfigMap)
		s.arrive("audit", record(map[string]string{"message": `{"kind":"Event","verb":"create","objectRef":{"resource":"configmaps","name":"` + m.Name + `"}}`}))
		return false, nil, nil
	})
	return c
}

func newSite() *site {
	return &site{lost: map[string]bool{}, up: 12, age: 3 * time.Second, store: &chaintest.Store{}}
}

// fire runs all canaries of a site.
func (s *site) fire(t *testing.T, change func(*Options, *Workload)) (verify.Document, Data) {
	t.Helper()
	client := s.client()
	w := &Workload{Client: client, Node: s, Address: "10.0.2.11", SSHPort: 22, Namespace: "canary-ns"}
	require.NoError(t, w.Prepare(t.Context()))
	o := Options{Tenant: tenant, Reader: s, Channels: w.Channels(), Timeout: 150 * time.Millisecond, BucketTimeout: 300 * time.Millisecond, FireTimeout: time.Minute, Poll: 5 * time.Millisecond}
	if change != nil {
		change(&o, w)
	}
	d, err := Run(t.Context(), verify.Subject{Site: "umea"}, o)
	require.NoError(t, err)
	require.NoError(t, w.Clean(t.Context()))
	_, err = client.CoreV1().Namespaces().Get(t.Context(), "canary-ns", metav1.GetOptions{})
	assert.True(t, apierrors.IsNotFound(err), "nothing is left")
	var data Data
	require.NoError(t, json.Unmarshal(d.Data, &data))
	return d, data
}

func TestAllCanariesAreSeen(t *testing.T) {
	t.Parallel()
	s := newSite()
	d, data := s.fire(t, nil)
	assert.Equal(t, verify.Pass, d.Verdict, "%v", d.Findings)
	require.Len(t, data.Results, 5)
	for _, r := range data.Results {
		assert.NotNil(t, r.Seen, r.Channel)
		assert.Empty(t, r.Failed+r.NotDone, r.Channel)
	}
	assert.Contains(t, s.script, "trap 'rm -f")
	assert.True(t, strings.HasPrefix(s.user, "canary-"))
	assert.LessOrEqual(t, len(s.user), 32, "the longest user name")
	for _, q := range s.queries {
		assert.True(t, strings.HasPrefix(q, `{cluster="umea-workload"`), q)
	}
}

func TestWhatDoesNotArriveFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		harm   func(*site)
		want   verify.Verdict
		saying string
	}{
		"pod log lost":  {func(s *site) { s.lost["pod log"] = true }, verify.Fail, "{breach pod log not seen within 150ms: nothing was found}"},
		"audit lost":    {func(s *site) { s.lost["audit"] = true }, verify.Fail, "{breach audit not seen"},
		"login lost":    {func(s *site) { s.lost["SSH login"] = true }, verify.Fail, "{breach SSH login not seen"},
		"Falco lost":    {func(s *site) { s.lost["Falco"] = true }, verify.Fail, "{breach Falco not seen"},
		"old metrics":   {func(s *site) { s.age = 2 * time.Minute }, verify.Fail, "the newest sample is 2m0s old"},
		"no metrics":    {func(s *site) { s.age = -1 }, verify.Fail, "{breach metrics not seen"},
		"nothing is up": {func(s *site) { s.up = 0 }, verify.Fail, "{breach metrics not seen"},
		"the pod fails": {func(s *site) { s.podFail = true }, verify.Unjudged, "the pod failed: Evicted"},
		"sshd is stuck": {func(s *site) { s.stuck = true }, verify.Unjudged, "the login was not refused but failed"},
		"let in":        {func(s *site) { s.letIn = true }, verify.Unjudged, "with a key that nobody knows"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite()
			c.harm(s)
			d, _ := s.fire(t, func(o *Options, _ *Workload) {
				if s.stuck {
					o.FireTimeout = 3 * time.Second // of the others all are quick, or their failure changes nothing here
				}
			})
			assert.Equal(t, c.want, d.Verdict)
			assert.Contains(t, fmt.Sprint(d.Findings), c.saying)
		})
	}
}

// deliver puts what arrived into the bucket, as the gateway does.
func (s *site) deliver(t *testing.T, records []string) {
	t.Helper()
	w, err := chain.New(chain.Options{
		Tenant: tenant, Store: s.store, Sink: &chaintest.Sink{}, Retention: time.Hour, ObjectBytes: 1, MaxWait: time.Millisecond, BufferBytes: 1 << 20,
		RecentChunks: 9, RecentObjects: 9, MaxStreams: 9, Timing: chain.Timing{MaxAge: time.Hour, MaxAhead: time.Minute, MaxBehind: time.Hour},
		RetryMin: time.Millisecond, RetryMax: time.Millisecond,
	})
	require.NoError(t, err)
	for _, r := range records {
		c := &chain.Chunk{Tag: "t", Streams: []chain.Labels{{Source: "t"}}, JSON: []byte(r), Digest: sha256.Sum256([]byte(r))}
		c.Records = []chain.Record{{Time: time.Now().UnixNano(), To: len(c.JSON)}}
		require.NoError(t, w.Submit(t.Context(), c, func(error) {}))
	}
	w.Close()
	require.NoError(t, w.Run(t.Context()))
}

func TestLockedObjects(t *testing.T) {
	t.Parallel()
	isAuditOf := Channel{Name: "audit", Fire: func(context.Context, string) error { return nil }, Is: isAudit}
	for name, c := range map[string]struct {
		harm   func(*chaintest.Store)
		want   verify.Verdict
		saying string
	}{
		"found": {func(*chaintest.Store) {}, verify.Pass, ""},
		"no lock": {func(s *chaintest.Store) {
			s.Replace(chain.Key(tenant, 3), func(o *chaintest.Object) { o.Info.Mode = "" })
		}, verify.Fail, `has lock ""`},
		"a weak lock": {func(s *chaintest.Store) {
			s.Replace(chain.Key(tenant, 3), func(o *chaintest.Object) { o.Info.Mode = "GOVERNANCE" })
		}, verify.Fail, "GOVERNANCE"},
		"over": {func(s *chaintest.Store) {
			s.Replace(chain.Key(tenant, 3), func(o *chaintest.Object) { o.Info.RetainUntil = time.Now().Add(-time.Minute) })
		}, verify.Fail, "expected COMPLIANCE until later"},
		"not there": {func(s *chaintest.Store) { s.Remove(chain.Key(tenant, 3)) }, verify.Fail, "not in a locked object within 300ms"},
		"unreadable": {func(s *chaintest.Store) {
			s.Replace(chain.Key(tenant, 3), func(o *chaintest.Object) { o.Body = []byte("x") })
		}, verify.Fail, "decompress"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite()
			s.deliver(t, []string{`{"message":"before"}`})
			ch := isAuditOf
			ch.Fire = func(_ context.Context, marker string) error {
				event := record(map[string]string{"message": `{"kind":"Event","verb":"create","objectRef":{"resource":"configmaps","name":"` + marker + `"}}`})
				s.arrive("audit", event)
				s.deliver(t, []string{`{"message":"` + marker + ` is only named here"}`, event})
				c.harm(s.store)
				return nil
			}
			d, data := s.fire(t, func(o *Options, _ *Workload) { o.Bucket, o.Channels = s.store, []Channel{ch} })
			assert.Equal(t, c.want, d.Verdict, "%v", d.Findings)
			assert.Contains(t, fmt.Sprint(d.Findings), c.saying)
			if c.want == verify.Pass {
				assert.Equal(t, chain.Key(tenant, 3), data.Results[0].Object, "the one that holds the event, not one that names it")
				assert.NotNil(t, data.Results[0].Locked)
			}
		})
	}
}

// A namespace that does not go is said to be held by what holds it.
func TestCleanSaysWhatHoldsTheNamespace(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset(
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "canary-ns"}, Status: corev1.NamespaceStatus{Conditions: []corev1.NamespaceCondition{
			{Type: corev1.NamespaceContentRemaining, Status: corev1.ConditionTrue, Message: "Some resources are remaining: pods. has 1 resource instances"},
			{Type: corev1.NamespaceDeletionDiscoveryFailure, Status: corev1.ConditionFalse, Message: "All resources successfully discovered"},
		}}},
		&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "canary-1", Namespace: "canary-ns", Finalizers: []string{"example.org/hold"}},
			Spec:       corev1.PodSpec{NodeName: "wc-1"}, Status: corev1.PodStatus{Phase: corev1.PodRunning},
		},
	)
	client.PrependReactor("delete", "namespaces", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, nil })
	w := &Workload{Client: client, Namespace: "canary-ns"}
	err := w.clean(t.Context(), 50*time.Millisecond)
	require.ErrorContains(t, err, "the namespace canary-ns is still there")
	assert.ErrorContains(t, err, "Some resources are remaining: pods. has 1 resource instances")
	assert.ErrorContains(t, err, "pod canary-1 on node wc-1: Running, finalizers example.org/hold")
	assert.NotContains(t, err.Error(), "successfully discovered")
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorContains(t, w.clean(stopped, time.Minute), "canary-ns", "an interrupt does not wait")
}

func TestChooseImage(t *testing.T) {
	t.Parallel()
	node := func(names ...string) corev1.Node {
		return corev1.Node{Status: corev1.NodeStatus{Images: []corev1.ContainerImage{{Names: names}}}}
	}
	assert.Equal(t, "docker.io/library/busybox:1", chooseImage([]corev1.Node{node("docker.io/prom/prometheus:v3"), node("docker.io/library/busybox@sha256:1", "docker.io/library/busybox:1")}))
	assert.Equal(t, "docker.io/prom/prometheus:v3", chooseImage([]corev1.Node{node("docker.io/prom/prometheus:v3")}))
	assert.Empty(t, chooseImage([]corev1.Node{node("registry.k8s.io/pause:3")}))
}

func TestRecognise(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		is     func([]byte, string) bool
		record string
		want   bool
	}{
		"audit":                 {isAudit, record(map[string]string{"message": `{"kind":"Event","verb":"create","objectRef":{"resource":"configmaps","name":"m"}}`}), true},
		"audit of another name": {isAudit, record(map[string]string{"message": `{"kind":"Event","verb":"create","objectRef":{"resource":"configmaps","name":"m2"}}`}), false},
		"audit of a read":       {isAudit, record(map[string]string{"message": `{"kind":"Event","verb":"get","objectRef":{"resource":"configmaps","name":"m"}}`}), false},
		"no audit event":        {isAudit, record(map[string]string{"message": "m"}), false},
		"no record":             {isAudit, "m", false},
		"login":                 {isLogin, record(map[string]string{"message": "Invalid user m from", "identifier": "sshd-session"}), true},
		"login by sudo":         {isLogin, record(map[string]string{"message": "m", "identifier": "sudo"}), false},
		"Falco":                 {isFalco, record(map[string]string{"message": `{"rule":"r","output":"file=m"}`}), true},
		"no alert":              {isFalco, record(map[string]string{"message": `{"output":"file=m"}`}), false},
		"another alert":         {isFalco, record(map[string]string{"message": `{"rule":"r","output":"file=x"}`}), false},
	} {
		assert.Equal(t, c.want, c.is([]byte(c.record), "m"), name)
	}
}
