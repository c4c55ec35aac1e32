package query

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify/verifytest"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain"
)

// lab is a service cluster: one TLS server that asks for a client certificate stands for all Services.
type lab struct {
	ca     *verifytest.Authority
	stores *Stores
	asked  []string // host and path of each request
	dialed []string
	who    *x509.Certificate
}

func pairOf(t *testing.T, a *verifytest.Authority) pki.KeyPair {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(a.Key)
	require.NoError(t, err)
	return pki.KeyPair{
		Cert: string(verifytest.CertPEM(a.Cert)),
		Key:  string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})),
	}
}

// newLab serves answer as the Service named name; trusting is the authority whose clients it lets in.
func newLab(t *testing.T, name string, trusting *verifytest.Authority, answer http.HandlerFunc) *lab {
	t.Helper()
	l := &lab{ca: verifytest.NewAuthority(t, "service")}
	if trusting == nil {
		trusting = l.ca
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.asked = append(l.asked, r.Host+r.URL.Path)
		l.who = r.TLS.PeerCertificates[0]
		answer(w, r)
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{l.ca.Issue(t, name)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trusting.Pool()}
	server.Config.ErrorLog = nil
	server.StartTLS()
	t.Cleanup(server.Close)
	services := []runtime.Object{}
	for _, full := range []string{"loki.loki", "thanos-query.thanos", "versitygw.versitygw", "ingest-gateway-metrics.ingest-gateway"} {
		short, ns, _ := strings.Cut(full, ".")
		services = append(services, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: short, Namespace: ns}, Spec: corev1.ServiceSpec{ClusterIP: "10.101.0.7"}})
	}
	way := func(ctx context.Context, network, address string) (net.Conn, error) {
		l.dialed = append(l.dialed, address)
		return (&net.Dialer{}).DialContext(ctx, network, server.Listener.Addr().String())
	}
	var err error
	l.stores, err = New(way, fake.NewClientset(services...), Keys{ServiceCA: pairOf(t, l.ca), ReaderAccess: "reader", ReaderSecret: "s3cret-s3cret"}, "ann")
	require.NoError(t, err)
	return l
}

func text(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(s)) }
}

func TestLogs(t *testing.T) {
	t.Parallel()
	var tenant, query, from string
	l := newLab(t, "loki.loki.svc", nil, func(w http.ResponseWriter, r *http.Request) {
		tenant, query, from = r.Header.Get("X-Scope-OrgID"), r.URL.Query().Get("query"), r.URL.Query().Get("start")
		text(`{"status":"success","data":{"resultType":"streams","result":[
			{"stream":{"source":"kube"},"values":[["2000000000","late"]]},
			{"stream":{"source":"host"},"values":[["1000000000","early",{"structuredMetadata":{}}]]}]}}`)(w, r)
	})
	got, err := l.stores.Logs(t.Context(), "umea", `{cluster="umea"} |= "x"`, time.Unix(1, 5), time.Unix(9, 0), 10)
	require.NoError(t, err)
	assert.Equal(t, []Entry{
		{At: time.Unix(1, 0).UTC(), Labels: map[string]string{"source": "host"}, Line: "early"},
		{At: time.Unix(2, 0).UTC(), Labels: map[string]string{"source": "kube"}, Line: "late"},
	}, got)
	assert.Equal(t, "umea", tenant)
	assert.Equal(t, `{cluster="umea"} |= "x"`, query)
	assert.Equal(t, "1000000005", from)
	assert.Equal(t, []string{"loki.loki.svc:3100/loki/api/v1/query_range"}, l.asked)
	assert.Equal(t, []string{"10.101.0.7:3100"}, l.dialed, "by the Service's address, not by name")
	assert.Equal(t, "ann", l.who.Subject.CommonName)
	assert.Less(t, time.Until(l.who.NotAfter), 3*time.Hour)
	_, err = l.stores.Logs(t.Context(), "umea", "{}", time.Unix(1, 0), time.Unix(9, 0), 10)
	require.NoError(t, err)
	assert.Len(t, l.dialed, 1, "one connection for all")
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	l := newLab(t, "thanos-query.thanos.svc", nil, text(`{"data":{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[1700000000.5,"42"]}]}}`))
	got, err := l.stores.Metrics(t.Context(), "up")
	require.NoError(t, err)
	assert.Equal(t, []Sample{{Labels: map[string]string{"a": "b"}, At: time.UnixMilli(1700000000500).UTC(), Value: 42}}, got)
}

func TestSequences(t *testing.T) {
	t.Parallel()
	l := newLab(t, "ingest-gateway-metrics.ingest-gateway.svc", nil, text("# TYPE "+sequenceMetric+" gauge\n"+sequenceMetric+`{tenant="umea"} 17`+"\n"+sequenceMetric+`{tenant="lulea"} 3`+"\n"))
	got, err := l.stores.Sequences(t.Context())
	require.NoError(t, err)
	assert.Equal(t, map[string]uint64{"umea": 17, "lulea": 3}, got)
}

func TestEvidence(t *testing.T) {
	t.Parallel()
	var auth string
	l := newLab(t, "versitygw.versitygw.svc", nil, func(w http.ResponseWriter, r *http.Request) {
		auth = r.Header.Get("Authorization")
		if strings.HasSuffix(r.URL.Path, "/there") {
			w.Header().Set("X-Amz-Object-Lock-Mode", "COMPLIANCE")
			w.Header().Set("X-Amz-Object-Lock-Retain-Until-Date", "2031-01-02T03:04:05Z")
			w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
			w.Header().Set("ETag", `"x"`)
			text("body")(w, r)
			return
		}
		w.WriteHeader(http.StatusNotFound)
		text(`<Error><Code>NoSuchKey</Code></Error>`)(w, r)
	})
	b, err := l.stores.Evidence(Bucket{})
	require.NoError(t, err)
	body, info, err := b.Object(t.Context(), "there", "")
	require.NoError(t, err)
	assert.Equal(t, "body", string(body))
	assert.Equal(t, chain.ModeCompliance, info.Mode)
	assert.Equal(t, 2031, info.RetainUntil.Year())
	assert.Contains(t, auth, "Credential=reader/")
	_, err = b.Get(t.Context(), "missing", 0)
	require.ErrorIs(t, err, chain.ErrNotFound)
	assert.Equal(t, "versitygw.versitygw.svc:7070/evidence/missing", l.asked[len(l.asked)-1])
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	other := verifytest.NewAuthority(t, "other")
	for name, c := range map[string]struct {
		server   string
		trusting *verifytest.Authority
		answer   http.HandlerFunc
		want     string
	}{
		"another server's name":   {server: "grafana.grafana.svc", answer: text("{}"), want: "certificate is valid for grafana.grafana.svc"},
		"we are not let in":       {server: "loki.loki.svc", trusting: other, answer: text("{}"), want: "certificate"},
		"an error":                {server: "loki.loki.svc", answer: func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "too many", http.StatusTooManyRequests) }, want: "429 Too Many Requests: too many"},
		"no JSON":                 {server: "loki.loki.svc", answer: text("<html>"), want: "Loki's answer"},
		"metrics":                 {server: "loki.loki.svc", answer: text(`{"data":{"resultType":"matrix"}}`), want: `"matrix"`},
		"an entry without a line": {server: "loki.loki.svc", answer: text(`{"data":{"resultType":"streams","result":[{"values":[["1"]]}]}}`), want: "1 parts"},
		"a redirect": {server: "loki.loki.svc", answer: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.example/", http.StatusFound)
		}, want: "302"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, c.server, c.trusting, c.answer)
			_, err := l.stores.Logs(t.Context(), "umea", "{}", time.Unix(1, 0), time.Unix(2, 0), 1)
			require.ErrorContains(t, err, c.want)
		})
	}
	l := newLab(t, "loki.loki.svc", nil, text(""))
	_, err := l.stores.address(t.Context(), "nobody.nowhere.svc")
	require.ErrorContains(t, err, "is the platform installed?")
	_, err = l.stores.address(t.Context(), "example.com")
	require.ErrorContains(t, err, "not the name of a Service")
	_, err = l.stores.Metrics(t.Context(), "up")
	require.Error(t, err, "Loki's certificate is not Thanos's")
}
