package tamper

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/stretchr/testify/require"
	"github.com/tinylib/msgp/msgp"
	"golang.org/x/crypto/ssh"
	"google.golang.org/protobuf/encoding/protowire"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"github.com/catamaran-k8s/catamaran/bootstrap/remote"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify/harvest"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify/query"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify/verifytest"
)

const tenant = "wc-a"

// flaws are what a badly built service cluster does. The zero value is a well built one.
type flaws struct {
	lokiOpen        bool // Loki asks for no client certificate
	lokiAnyClient   bool // ... or takes any
	lokiTrustsWC    bool // ... or the workload cluster's authority
	doorAnyClient   bool // the doors take any certificate
	doorLeafSigns   bool // the door lets a tenant's certificate vouch for others
	doorPasses      bool // the door for metrics passes every path on
	tenantByHeader  bool
	tenantByLabel   bool
	tenantByField   bool // the door for logs believes the record
	future          bool // samples of the future are stored
	overwrite       bool // a sample's value can be changed
	loseLog         bool // a delivered record is gone after a push
	s3Anonymous     bool
	s3Deletes       bool // keys of the workload cluster may delete
	s3Overwrites    bool // somebody overwrites an object meanwhile
	apiTrustsWC     bool // the API takes the workload cluster's tokens
	apiAuthorises   bool // ... or allows them to delete what is not there
	sshKey          bool // a node takes a key of the workload cluster
	grafanaPassword bool // Grafana has a password of the workload cluster
	alertsOpen      bool
	broken          bool // Loki answers 500
	doorShut        bool
	noControl       bool
	notStored       bool // the door for logs acknowledges and drops
	etcdOpen        bool
}

// world is a site in one process.
type world struct {
	t     *testing.T
	flaws flaws

	serviceCA, ingestServerCA, ingestClientCA, scCA, wcCA, etcdCA *verifytest.Authority
	own                                                           tls.Certificate
	sshKey                                                        ssh.Signer
	served                                                        map[string]string // address in the site -> address here

	mu       sync.Mutex
	logs     map[string][]query.Entry // by tenant
	metrics  []series
	versions []Version
	routes   []string
	scripts  []string
}

// discard is where servers log what attacks do to them.
var discard = log.New(io.Discard, "", 0)

type series struct {
	labels map[string]string
	at     int64 // ms
	value  float64
}

func newWorld(t *testing.T, f flaws) *world {
	w := &world{t: t, flaws: f, served: map[string]string{}, logs: map[string][]query.Entry{}}
	w.serviceCA, w.ingestServerCA, w.ingestClientCA = verifytest.NewAuthority(t, "service"), verifytest.NewAuthority(t, "ingest-server"), verifytest.NewAuthority(t, "ingest-client")
	w.scCA, w.wcCA = verifytest.NewAuthority(t, "kubernetes"), verifytest.NewAuthority(t, "kubernetes")
	w.etcdCA = verifytest.NewAuthority(t, "etcd")
	w.own = w.ingestClientCA.Issue(t, tenant, tenant)
	var err error
	w.sshKey, err = ssh.NewSignerFromSigner(w.wcCA.Key)
	require.NoError(t, err)

	mtls := func(cas ...*verifytest.Authority) *tls.Config {
		pool := x509.NewCertPool()
		for _, ca := range cas {
			pool.AddCert(ca.Cert)
		}
		return &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	}
	loki := mtls(w.serviceCA)
	switch {
	case f.lokiOpen:
		loki = &tls.Config{}
	case f.lokiAnyClient:
		loki = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	case f.lokiTrustsWC:
		loki = mtls(w.serviceCA, w.wcCA)
	}
	w.serve(t, "10.101.0.1:3100", loki, w.loki)
	w.serve(t, "10.101.0.2:19291", mtls(w.serviceCA), ok)
	alerts := mtls(w.serviceCA)
	if f.alertsOpen {
		alerts = &tls.Config{}
	}
	w.serve(t, "10.101.0.3:9093", alerts, func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, `{"silenceID":"1"}`) }) //nolint:errcheck // a test's answer
	w.serve(t, "10.101.0.4:7070", &tls.Config{}, w.s3)
	w.serve(t, "10.101.0.5:3000", &tls.Config{}, w.grafana)
	w.serve(t, "10.9.0.1:6443", &tls.Config{ClientAuth: tls.RequestClientCert}, w.api)
	if f.etcdOpen {
		w.serve(t, "10.9.0.1:2379", &tls.Config{}, func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "application/grpc")
			rw.Header().Set("Grpc-Status", "0")
		})
	} else {
		w.serve(t, "10.9.0.1:2379", mtls(w.etcdCA), func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "application/grpc")
			rw.Header().Set("Grpc-Status", "0")
		})
	}
	door := mtls(w.ingestClientCA)
	if f.doorAnyClient {
		door = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	}
	if f.doorLeafSigns {
		door = &tls.Config{ClientAuth: tls.RequireAnyClientCert, VerifyPeerCertificate: w.believesLeaves}
	}
	if !f.doorShut {
		w.serve(t, "10.9.0.1:30443", door, w.door)
		w.forward(t, "10.9.0.1:30224", door)
	}
	w.ssh(t, "10.9.0.1:22")
	w.plain(t, "10.9.0.1:31999") // somebody's forgotten node port

	now := time.Now()
	w.log(tenant, now.Add(-10*time.Minute), "delivered long ago", nil)
	w.metrics = append(w.metrics, series{map[string]string{"__name__": "up", "tenant_id": tenant}, now.Add(-2 * time.Minute).UnixMilli(), 1})
	w.versions = []Version{{Key: tenant + "/1", ID: "v1", ETag: "e1", Size: 4}, {Key: tenant + "/2", ID: "v2", ETag: "e2", Size: 4}}
	return w
}

func ok(http.ResponseWriter, *http.Request) {}

func (w *world) serve(t *testing.T, address string, c *tls.Config, h http.HandlerFunc) {
	s := httptest.NewUnstartedServer(h)
	c.Certificates = []tls.Certificate{w.serviceCA.Issue(t, "server")}
	s.TLS = c
	s.EnableHTTP2 = true
	s.Config.ErrorLog = discard
	s.StartTLS()
	t.Cleanup(s.Close)
	w.served[address] = s.Listener.Addr().String()
}

func (w *world) plain(t *testing.T, address string) {
	s := httptest.NewServer(http.HandlerFunc(ok))
	t.Cleanup(s.Close)
	w.served[address] = s.Listener.Addr().String()
}

// believesLeaves checks each certificate's signature by the next, and forgets to ask whether that one may sign.
func (w *world) believesLeaves(raw [][]byte, _ [][]*x509.Certificate) error {
	var list []*x509.Certificate
	for _, r := range raw {
		c, err := x509.ParseCertificate(r)
		if err != nil {
			return err
		}
		list = append(list, c)
	}
	list = append(list, w.ingestClientCA.Cert)
	for i := range list[:len(list)-1] {
		up := *list[i+1]
		up.IsCA, up.BasicConstraintsValid, up.KeyUsage = true, true, x509.KeyUsageCertSign
		if !list[i].Equal(list[i+1]) && list[i].CheckSignatureFrom(&up) != nil {
			return errors.New("bad chain")
		}
	}
	return nil
}

func (w *world) loki(rw http.ResponseWriter, r *http.Request) {
	switch {
	case w.flaws.broken:
		http.Error(rw, "x", http.StatusInternalServerError)
	case strings.HasPrefix(r.URL.Path, "/loki/api/v1/delete"):
		http.Error(rw, "deletion is disabled", http.StatusForbidden)
	}
}

func (w *world) s3(rw http.ResponseWriter, r *http.Request) {
	auth := r.Header.Get("Authorization")
	switch {
	case strings.Contains(auth, "Credential=root/"):
	case w.flaws.s3Anonymous && auth == "" && r.Method == http.MethodGet:
	case w.flaws.s3Deletes && strings.Contains(auth, "Credential=velero/") && r.Method == http.MethodDelete:
	default:
		http.Error(rw, "AccessDenied", http.StatusForbidden)
	}
}

func (w *world) grafana(rw http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	switch {
	case r.URL.Path == "/metrics":
	case user == "admin" && password == "CANARY-grafana":
	case w.flaws.grafanaPassword && password == "CANARY-app":
	default:
		http.Error(rw, "x", http.StatusUnauthorized)
	}
}

func (w *world) api(rw http.ResponseWriter, r *http.Request) {
	if len(r.TLS.PeerCertificates) > 0 && r.TLS.PeerCertificates[0].CheckSignatureFrom(w.scCA.Cert) == nil {
		return
	}
	if w.flaws.apiTrustsWC && strings.HasPrefix(r.Header.Get("Authorization"), "Bearer eyJ") {
		return
	}
	if w.flaws.apiAuthorises && r.Method == http.MethodDelete && strings.HasPrefix(r.Header.Get("Authorization"), "Bearer eyJ") {
		http.NotFound(rw, r)
		return
	}
	http.Error(rw, "Unauthorized", http.StatusUnauthorized)
}

// door is the door for metrics.
func (w *world) door(rw http.ResponseWriter, r *http.Request) {
	who := r.TLS.PeerCertificates[0].Subject.CommonName
	if r.URL.Path != "/api/v1/receive" || r.URL.RawQuery != "" {
		if !w.flaws.doorPasses {
			http.NotFound(rw, r)
		}
		return
	}
	if r.Method != http.MethodPost {
		http.Error(rw, "x", http.StatusMethodNotAllowed)
		return
	}
	packed, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	body, err := snappy.Decode(nil, packed)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	s := decode(body)
	if h := r.Header.Get("THANOS-TENANT"); h != "" && w.flaws.tenantByHeader {
		who = h
	}
	if l := s.labels["tenant_id"]; l != "" && w.flaws.tenantByLabel {
		who = l
	}
	s.labels["tenant_id"], s.labels["cluster"] = who, who
	if s.at > time.Now().Add(5*time.Minute).UnixMilli() && !w.flaws.future {
		http.Error(rw, "future", http.StatusBadRequest)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, had := range w.metrics {
		if labels(had.labels) == labels(s.labels) {
			switch {
			case s.at > had.at:
				w.metrics[i] = s
			case w.flaws.overwrite && s.at == had.at:
				w.metrics[i].value = s.value
			default:
				http.Error(rw, "conflict", http.StatusConflict)
			}
			return
		}
	}
	w.metrics = append(w.metrics, s)
}

// decode reads a write request of one series with one sample.
func decode(b []byte) series {
	s := series{labels: map[string]string{}}
	field := func(b []byte) (protowire.Number, []byte, uint64, []byte) {
		num, typ, n := protowire.ConsumeTag(b)
		b = b[n:]
		switch typ {
		case protowire.BytesType:
			v, n := protowire.ConsumeBytes(b)
			return num, v, 0, b[n:]
		case protowire.Fixed64Type:
			v, n := protowire.ConsumeFixed64(b)
			return num, nil, v, b[n:]
		}
		v, n := protowire.ConsumeVarint(b)
		return num, nil, v, b[n:]
	}
	_, ts, _, _ := field(b)
	for len(ts) > 0 {
		var num protowire.Number
		var v []byte
		num, v, _, ts = field(ts)
		if num == 1 {
			_, name, _, rest := field(v)
			_, value, _, _ := field(rest)
			s.labels[string(name)] = string(value)
			continue
		}
		_, _, bits, rest := field(v)
		s.value = math.Float64frombits(bits)
		_, _, at, _ := field(rest)
		s.at = int64(at)
	}
	return s
}

// forward is the door for logs.
func (w *world) forward(t *testing.T, address string, c *tls.Config) {
	c = c.Clone()
	c.Certificates = []tls.Certificate{w.serviceCA.Issue(t, "server")}
	l, err := tls.Listen("tcp", "127.0.0.1:0", c)
	require.NoError(t, err)
	w.accept(t, address, l, func(conn net.Conn) {
		r := msgp.NewReader(conn)
		n, err := r.ReadArrayHeader()
		if err != nil || n != 3 {
			return
		}
		_, err = r.ReadString()
		if err != nil {
			return
		}
		entries, err := r.ReadIntf()
		if err != nil {
			return
		}
		option := map[string]interface{}{}
		if r.ReadMapStrIntf(option) != nil {
			return
		}
		state := conn.(*tls.Conn).ConnectionState() //nolint:forcetypeassert // a tls listener's
		who := state.PeerCertificates[0].Subject.CommonName
		pair := entries.([]interface{})[0].([]interface{}) //nolint:forcetypeassert // as sent
		record, isMap := pair[1].(map[string]interface{})  //nolint:forcetypeassert // as sent
		if claimed, ok := record["tenant"].(string); isMap && ok && w.flaws.tenantByField {
			who = claimed
		}
		record["tenant"], record["cluster"] = who, who
		line, err := json.Marshal(record)
		if err != nil {
			return
		}
		if !w.flaws.notStored {
			w.log(who, time.Unix(pair[0].(int64), 0), string(line), map[string]string{"tenant": who}) //nolint:forcetypeassert // as sent
		}
		w.mu.Lock()
		if w.flaws.loseLog && strings.Contains(string(line), "claims") || w.flaws.loseLog && strings.Contains(string(line), "service.audit") {
			w.logs[tenant] = w.logs[tenant][1:]
		}
		if w.flaws.s3Overwrites && strings.Contains(string(line), "service.audit") {
			w.versions = append(w.versions, Version{Key: tenant + "/1", ID: "v9", ETag: "e9", Size: 1})
		}
		w.mu.Unlock()
		out := msgp.AppendMapStrStr(nil, map[string]string{"ack": option["chunk"].(string)}) //nolint:forcetypeassert // as sent
		_, _ = conn.Write(out)
	})
}

func (w *world) accept(t *testing.T, address string, l net.Listener, f func(net.Conn)) {
	w.served[address] = l.Addr().String()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close() //nolint:errcheck // a test's
				_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
				f(conn)
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
}

func (w *world) ssh(t *testing.T, address string) {
	config := &ssh.ServerConfig{
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if w.flaws.sshKey && bytes.Equal(key.Marshal(), w.sshKey.PublicKey().Marshal()) {
				return &ssh.Permissions{}, nil
			}
			return nil, errors.New("no")
		},
		PasswordCallback: func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) { return nil, errors.New("no") },
	}
	key, err := ssh.NewSignerFromSigner(verifytest.NewAuthority(t, "x").Key)
	require.NoError(t, err)
	config.AddHostKey(key)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w.accept(t, address, l, func(conn net.Conn) {
		c, chans, reqs, err := ssh.NewServerConn(conn, config)
		if err != nil {
			return
		}
		go ssh.DiscardRequests(reqs)
		go func() {
			for ch := range chans {
				_ = ch.Reject(ssh.Prohibited, "x")
			}
		}()
		_ = c.Wait()
	})
}

func (w *world) log(who string, at time.Time, line string, labels map[string]string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.logs[who] = append(w.logs[who], query.Entry{At: at, Labels: labels, Line: line})
}

// The stores, as the operator sees them.

var containsWord = regexp.MustCompile(`\|= "([^"]+)"`)

func (w *world) Logs(_ context.Context, who, q string, from, to time.Time, limit int) ([]query.Entry, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []query.Entry
	for _, e := range w.logs[who] {
		if m := containsWord.FindStringSubmatch(q); m != nil && !strings.Contains(e.Line, m[1]) || e.At.Before(from) || !e.At.Before(to) || len(out) == limit {
			continue
		}
		out = append(out, e)
	}
	return out, nil
}

func (w *world) Metrics(_ context.Context, q string) ([]query.Sample, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []query.Sample
	for _, s := range w.metrics {
		name := s.labels["__name__"]
		if strings.Contains(q, "catamaran_verify_marker") && name != marker || strings.Contains(q, "up|") && name != "up" || strings.Contains(q, "verify_.+") && !strings.HasPrefix(name, "catamaran_") {
			continue
		}
		if strings.Contains(q, "up|") && s.labels["tenant_id"] != tenant {
			continue
		}
		out = append(out, query.Sample{Labels: s.labels, Value: s.value})
	}
	return out, nil
}

func (w *world) Versions(context.Context) iter.Seq2[Version, error] {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := slices.Clone(w.versions)
	slices.SortFunc(list, func(a, b Version) int { return strings.Compare(a.Key, b.Key) })
	return func(yield func(Version, error) bool) {
		for _, v := range list {
			if !yield(v, nil) {
				return
			}
		}
	}
}

func (w *world) Object(_ context.Context, key, version string) ([]byte, error) {
	return []byte(key + version), nil
}

// machine is the workload cluster's node.
type machine struct{ w *world }

func (machine) Name() string { return "wc-1" }

func (m machine) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	to, ok := m.w.served[address]
	if !ok {
		return nil, errors.New("ssh: rejected: connect failed (Connection refused)")
	}
	return (&net.Dialer{}).DialContext(ctx, network, to)
}

func (m machine) Run(_ context.Context, c remote.Command) (remote.Result, error) {
	m.w.mu.Lock()
	m.w.scripts = append(m.w.scripts, c.Script)
	m.w.mu.Unlock()
	switch {
	case strings.HasPrefix(c.Script, "logger "):
		m.w.log(tenant, time.Now(), c.Script, nil)
		return remote.Result{}, nil
	case c.Script == routeScript:
		return remote.Result{}, m.w.keepRoutes(c)
	}
	_, err := c.Stdout.Write(m.files())
	return remote.Result{}, err
}

// keepRoutes does what routeScript does.
func (w *world) keepRoutes(c remote.Command) error {
	in := bufio.NewReader(c.Stdin)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		if line == ".\n" {
			break
		}
		w.mu.Lock()
		w.routes = append(w.routes, strings.TrimSpace(line))
		w.mu.Unlock()
	}
	if _, err := io.WriteString(c.Stdout, "ready\n"); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, in)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.routes = append(w.routes, "taken away")
	return err
}

// files are those of a workload cluster's node.
func (m machine) files() []byte {
	t := m.w.t
	var b bytes.Buffer
	b.WriteString("files\n")
	out := tar.NewWriter(&b)
	admin := m.w.wcCA.Issue(t, "kubernetes-admin", "system:masters")
	for name, body := range map[string][]byte{
		"etc/kubernetes/pki/ca.crt":  verifytest.CertPEM(m.w.wcCA.Cert),
		"etc/kubernetes/pki/ca.key":  verifytest.KeyPEM(t, m.w.wcCA.Key),
		"etc/kubernetes/admin.conf":  append(verifytest.CertPEM(admin.Leaf), verifytest.KeyPEM(t, admin.PrivateKey)...),
		"root/velero":                []byte("aws_access_key_id = velero\naws_secret_access_key = CANARY-velero\n"),
		"root/app":                   []byte("user: app\npassword: CANARY-app\n"),
		"var/lib/kubelet/pods/token": []byte("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQ6YTpiIn0.CANARY-0123456789abcdef"),
	} {
		require.NoError(t, out.WriteHeader(&tar.Header{Name: name, Size: int64(len(body)), Typeflag: tar.TypeReg}))
		_, err := out.Write(body)
		require.NoError(t, err)
	}
	require.NoError(t, out.Close())
	b.WriteString("end\n")
	return b.Bytes()
}

// options are those of an attack on this world.
func (w *world) options(t *testing.T) Options {
	svc := func(namespace, name, ip string, port int32) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{{Port: port, Protocol: corev1.ProtocolTCP}}}}
	}
	sc := fake.NewClientset(
		svc("loki", "loki", "10.101.0.1", 3100), svc("thanos", "thanos-receive", "10.101.0.2", 19291), svc("alertmanager", "alertmanager", "10.101.0.3", 9093),
		svc("versitygw", "versitygw", "10.101.0.4", 7070), svc("grafana", "grafana", "10.101.0.5", 3000),
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "loki", Name: "loki-0"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{ContainerPort: 3100}}}}},
			Status: corev1.PodStatus{PodIP: "10.100.0.9", HostIP: "10.9.0.1"}},
	)
	wc := fake.NewClientset(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "fluentd", Name: "ingest-client"}, Type: corev1.SecretTypeTLS, Data: map[string][]byte{
		"tls.crt": verifytest.CertPEM(w.own.Leaf), "tls.key": verifytest.KeyPEM(t, w.own.PrivateKey), "ca.crt": verifytest.CertPEM(w.ingestServerCA.Cert),
	}})
	wc.PrependReactor("get", "secrets", func(a k8stesting.Action) (bool, runtime.Object, error) {
		w.log(tenant, time.Now(), "audit: get "+a.(k8stesting.GetAction).GetName(), nil) //nolint:forcetypeassert // a get
		return false, nil, nil
	})
	control := []harvest.Credential{harvest.FromAccessKey("service: Secret versitygw/versitygw-root", "root", "CANARY-root"), w.grafanaAdmin()}
	for _, c := range []tls.Certificate{w.serviceCA.Issue(t, "grafana.grafana.svc"), w.scCA.Issue(t, "operator"), w.etcdCA.Issue(t, "operator")} {
		h, err := harvest.FromTLS("service", c)
		require.NoError(t, err)
		control = append(control, h)
	}
	if w.flaws.noControl {
		control = nil
	}
	return Options{
		Subject: verify.Subject{Site: "test"}, Tenant: tenant, Logs: "10.9.0.1:30224", Metrics: "10.9.0.1:30443", Stores: w,
		Service:  Cluster{Client: sc, Nodes: []Node{{Machine: machine{w}, Address: "10.9.0.1", User: "ops"}}, PodCIDR: "10.100.0.0/16", ServiceCIDR: "10.101.0.0/16"},
		Workload: Cluster{Client: wc, Nodes: []Node{{Machine: machine{w}, Address: "10.9.0.2"}}, PodCIDR: "10.200.0.0/16", ServiceCIDR: "10.201.0.0/16"},
		Control:  control, DialTimeout: 15 * time.Second, Wait: 30 * time.Second,
	}
}

// grafanaAdmin is Grafana's own password.
func (w *world) grafanaAdmin() harvest.Credential {
	c := harvest.NewCollector(harvest.Salt{})
	c.Values("service: Secret grafana/grafana-admin", map[string][]byte{"user": []byte("admin"), "password": []byte("CANARY-grafana")}, true)
	return c.Credentials()[0]
}
