package door_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/certs"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/certs/certstest"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/door"
)

// thanos is a stand-in for Thanos Receive: it keeps what it gets and answers as it is told.
type thanos struct {
	mu     sync.Mutex
	bodies [][]byte
	header http.Header
	status int
	// hold, when set, keeps requests waiting; entered tells of each.
	hold, entered chan struct{}
}

func (s *thanos) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.hold != nil {
		s.entered <- struct{}{}
		<-s.hold
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	raw, err := io.ReadAll(r.Body)
	if err == nil && r.Method == http.MethodPost && r.URL.Path == door.Path {
		body, err := snappy.Decode(nil, raw)
		if err == nil {
			s.bodies = append(s.bodies, body)
		}
	}
	s.header = r.Header.Clone()
	if s.status != 0 {
		w.Header().Set("Retry-After", "7")
		http.Error(w, "thanos says so", s.status)
	}
}

type meter struct {
	mu      sync.Mutex
	refused map[string]int
	samples int
	spoofed int
}

func (m *meter) Written(_ string, samples, _ int)    { m.mu.Lock(); m.samples += samples; m.mu.Unlock() }
func (m *meter) Answered(string, int, time.Duration) {}
func (m *meter) Spoofed(_ string, n int)             { m.mu.Lock(); m.spoofed += n; m.mu.Unlock() }
func (m *meter) Refused(tenant, reason string, n int) {
	m.mu.Lock()
	m.refused[tenant+" "+reason] += n
	m.mu.Unlock()
}

type rig struct {
	*thanos
	*meter
	url            string
	clients, doors *certstest.CA
}

var now = time.Unix(1790000000, 0)

func start(t *testing.T, change func(*door.Options)) *rig {
	t.Helper()
	r := &rig{thanos: &thanos{}, meter: &meter{refused: map[string]int{}}, clients: certstest.New(t, "clients"), doors: certstest.New(t, "doors")}
	service := certstest.New(t, "service")
	internal, err := certs.Open(service.Folder(t, "gateway", service), time.Hour, nil)
	require.NoError(t, err)
	public, err := certs.Open(r.doors.Folder(t, "door", r.clients), time.Hour, nil)
	require.NoError(t, err)
	listen := func(h http.Handler, f *certs.Folder) string {
		s := httptest.NewUnstartedServer(h)
		s.Listener = tls.NewListener(s.Listener, f.Server("http/1.1"))
		s.Start()
		t.Cleanup(s.Close)
		return strings.Replace(s.URL, "http://", "https://", 1)
	}
	opt := door.Options{
		URL: listen(r.thanos, internal), Dial: internal.Dial, DropLabels: []string{"tenant_id", "receive_replica"}, MaxAhead: 5 * time.Minute,
		BodyBytes: 1 << 16, DecompressedBytes: 1 << 17, Series: 100, Labels: 10, Requests: 1, Wait: 10 * time.Second, Timeout: 30 * time.Second,
		Tenants: []string{"umea"}, Now: func() time.Time { return now }, Meter: r.meter, Log: slog.New(slog.DiscardHandler),
		Identify: func(q *http.Request) (string, error) {
			if q.TLS == nil { // httptest hides the listener's TLS from net/http unless the connection is a *tls.Conn, which it is
				return "", errors.New("no TLS")
			}
			return certs.Tenant(q.TLS.PeerCertificates[0])
		},
	}
	if change != nil {
		change(&opt)
	}
	r.url = listen(door.New(opt), public)
	return r
}

func (r *rig) client(t *testing.T, tenant string) *http.Client {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: r.clients.Client(t, tenant, r.doors)}, Timeout: time.Minute}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

const (
	v1 = "application/x-protobuf"
	v2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
)

func (r *rig) post(t *testing.T, c *http.Client, contentType string, body []byte) (int, string, http.Header) {
	t.Helper()
	return r.do(t, c, http.MethodPost, door.Path, contentType, snappy.Encode(nil, body))
}

func (r *rig) do(t *testing.T, c *http.Client, method, path, contentType string, body []byte) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.url+path, bytes.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("THANOS-TENANT", "lund") // ours to say, not the client's
	resp, err := c.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, strings.TrimSpace(string(text)), resp.Header
}

// Requests are made by hand from the protocol's definition; so are they read.

func msg(num protowire.Number, b []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), b)
}

func number(num protowire.Number, n int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), uint64(n))
}

func label(name, value string) []byte {
	return msg(1, append(msg(1, []byte(name)), msg(2, []byte(value))...))
}

func sample(at time.Time) []byte {
	return msg(2, append(protowire.AppendFixed64(protowire.AppendTag(nil, 1, protowire.Fixed64Type), 0x3ff0000000000000), number(2, at.UnixMilli())...))
}

func series(parts ...[]byte) []byte { return msg(1, bytes.Join(parts, nil)) }

// read writes a 1.0 request as text.
func read(t *testing.T, b []byte) []string {
	t.Helper()
	var out []string
	walk(t, b, func(num protowire.Number, v []byte, _ uint64) {
		if num != 1 {
			return
		}
		var labels, rest []string
		walk(t, v, func(num protowire.Number, v []byte, _ uint64) {
			if num != 1 {
				kind := map[protowire.Number]string{2: "sample", 3: "exemplar", 4: "histogram"}[num]
				walk(t, v, func(field protowire.Number, v []byte, n uint64) {
					if num == 2 && field == 2 || num == 3 && field == 3 || num == 4 && field == 15 {
						kind += fmt.Sprint("@", int64(n)/1000-now.Unix())
					}
					if num == 3 && field == 1 {
						kind += fmt.Sprint("(", readLabel(t, v), ")")
					}
				})
				rest = append(rest, kind)
				return
			}
			labels = append(labels, readLabel(t, v))
		})
		out = append(out, strings.Join(labels, ",")+" "+strings.Join(rest, " "))
	})
	return out
}

func readLabel(t *testing.T, b []byte) string {
	var parts []string
	walk(t, b, func(_ protowire.Number, v []byte, _ uint64) { parts = append(parts, string(v)) })
	return strings.Join(parts, "=")
}

func walk(t *testing.T, b []byte, f func(protowire.Number, []byte, uint64)) {
	t.Helper()
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		require.Positive(t, n)
		b = b[n:]
		m := protowire.ConsumeFieldValue(num, typ, b)
		require.Positive(t, m)
		switch typ {
		case protowire.BytesType:
			v, _ := protowire.ConsumeBytes(b)
			f(num, v, 0)
		case protowire.VarintType:
			v, _ := protowire.ConsumeVarint(b)
			f(num, nil, v)
		}
		b = b[m:]
	}
}

func TestWriteIsStampedAndPassedOn(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	c := r.client(t, "umea")
	body := bytes.Join([][]byte{
		series(label("__name__", "up"), label("cluster", "lund"), label("job", "x"), label("tenant_id", "lund"), sample(now)),
		series(label("__name__", "down"), label("receive_replica", "0"), label("zone", "z"), sample(now), sample(now.Add(time.Minute))),
		series(label("a", "b"), msg(4, append(number(15, now.UnixMilli()), number(99, 1)...)), msg(3, append(label("trace", "t"), number(3, now.UnixMilli())...))),
		msg(7, []byte("unknown")),
	}, nil)
	status, text, _ := r.post(t, c, v1, body)
	require.Equal(t, 200, status, text)
	assert.Equal(t, []string{
		"__name__=up,cluster=umea,job=x sample@0",
		"__name__=down,cluster=umea,zone=z sample@0 sample@60",
		"a=b,cluster=umea histogram@0 exemplar(trace=t)@0",
	}, read(t, r.bodies[0]))
	assert.NotContains(t, string(r.bodies[0]), "unknown")
	assert.Equal(t, "umea", r.header.Get("THANOS-TENANT"))
	assert.Len(t, r.header.Values("THANOS-TENANT"), 1)
	assert.Equal(t, 4, r.samples)
	assert.Equal(t, 2, r.spoofed)
}

func TestRemoteWrite2BecomesNumber1(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	c := r.client(t, "umea")
	var body []byte
	for _, s := range []string{"", "__name__", "up", "tenant_id", "lund", "cluster", "trace", "id"} {
		body = append(body, msg(4, []byte(s))...)
	}
	packed := func(refs ...uint64) []byte {
		var b []byte
		for _, n := range refs {
			b = protowire.AppendVarint(b, n)
		}
		return msg(1, b)
	}
	exemplar := msg(4, append(packed(6, 7), number(3, now.UnixMilli())...))
	histogram := msg(3, number(15, now.UnixMilli()))
	body = append(body, msg(5, bytes.Join([][]byte{packed(1, 2, 3, 4, 5, 4), sample(now), histogram, exemplar, msg(5, number(1, 2))}, nil))...)
	status, text, header := r.post(t, c, v2, body)
	require.Equal(t, 200, status, text)
	assert.Equal(t, []string{"__name__=up,cluster=umea sample@0 histogram@0 exemplar(trace=id)@0"}, read(t, r.bodies[0]))
	assert.Equal(t, "1", header.Get("X-Prometheus-Remote-Write-Samples-Written"))
	assert.Equal(t, "1", header.Get("X-Prometheus-Remote-Write-Histograms-Written"))
	assert.Equal(t, v1, r.header.Get("Content-Type"))

	status, text, _ = r.post(t, c, v2, msg(5, packed(1, 2)))
	assert.Equal(t, 400, status)
	assert.Contains(t, text, "symbol 2 of 0")
}

func TestFutureSamples(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	c := r.client(t, "umea")
	soon, late := now.Add(4*time.Minute), now.Add(6*time.Minute)
	status, text, _ := r.post(t, c, v1, append(series(label("a", "b"), sample(soon), sample(late)), series(label("c", "d"), sample(late))...))
	assert.Equal(t, 400, status, "for good: an agent that repeated it would stop there")
	assert.Contains(t, text, "2 samples lie more than 5m0s in the future and are refused; 1 are stored")
	assert.Equal(t, []string{"a=b,cluster=umea sample@240"}, read(t, r.bodies[0]))
	status, _, _ = r.post(t, c, v1, series(label("c", "d"), sample(late)))
	assert.Equal(t, 400, status)
	assert.Len(t, r.bodies, 1, "nothing was left to pass on")
	assert.Equal(t, 3, r.refused["umea future-sample"])
	// The same for histograms, whose time is another field, and whatever comes last counts.
	status, _, _ = r.post(t, c, v1, series(label("c", "d"), msg(4, append(number(15, now.UnixMilli()), number(15, late.UnixMilli())...))))
	assert.Equal(t, 400, status)
	assert.Len(t, r.bodies, 1)
}

func TestOnlyOnePathAndMethod(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	c := r.client(t, "umea")
	for _, q := range []struct {
		method, path string
		want         int
	}{
		{"GET", door.Path, 405}, {"DELETE", door.Path, 405}, {"PUT", door.Path, 405}, {"HEAD", door.Path, 405},
		{"POST", "/", 404}, {"GET", "/metrics", 404}, {"POST", "/api/v1/receive/", 404}, {"POST", "/api/v1/../v1/receive", 404},
		{"POST", "//api/v1/receive", 404}, {"POST", "/api/v1/receive?x=1", 404}, {"POST", "/-/reload", 404}, {"POST", "/api/v1/admin/tsdb/delete_series", 404},
		{"POST", "/loki/api/v1/push", 404}, {"GET", "/debug/pprof/", 404},
	} {
		status, _, _ := r.do(t, c, q.method, q.path, v1, nil)
		assert.Equal(t, q.want, status, "%s %s", q.method, q.path)
	}
	assert.Empty(t, r.bodies)
}

func TestWhoMayWrite(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	status, text, _ := r.post(t, r.client(t, "oslo"), v1, nil)
	assert.Equal(t, 403, status)
	assert.NotContains(t, text, "umea")
	status, _, _ = r.do(t, r.client(t, "oslo"), http.MethodGet, "/any", v1, nil)
	assert.Equal(t, 403, status)
	cfg := r.clients.Client(t, "umea", r.doors)
	cfg.Certificates = nil
	_, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: cfg}}).Get(r.url + door.Path) //nolint:bodyclose,noctx // there is no answer
	require.Error(t, err)
	assert.Empty(t, r.bodies)
}

func TestAnswersOfThanosArePassedOn(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	c := r.client(t, "umea")
	for _, want := range []int{409, 400, 429, 500, 503, 413} {
		r.status = want
		status, text, header := r.post(t, c, v1, series(label("a", "b"), sample(now)))
		assert.Equal(t, want, status)
		assert.Equal(t, "thanos says so", text)
		assert.Equal(t, "7", header.Get("Retry-After"))
	}
	assert.Zero(t, r.samples)
	dead := start(t, func(o *door.Options) { o.URL = "https://127.0.0.1:1" })
	status, _, _ := dead.post(t, dead.client(t, "umea"), v1, series(label("a", "b"), sample(now)))
	assert.Equal(t, 503, status, "Prometheus sends it again")
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	c := r.client(t, "umea")
	many := bytes.Repeat(series(label("a", "b"), sample(now)), 101)
	wide := [][]byte{sample(now)}
	for i := range 11 {
		wide = append(wide, label(fmt.Sprint(i), "x"))
	}
	for name, q := range map[string]struct {
		contentType string
		body        []byte // as it is sent
		want        int
	}{
		"not snappy":           {v1, []byte("hello"), 400},
		"not protobuf":         {v1, snappy.Encode(nil, []byte("hello")), 400},
		"text":                 {"text/plain", nil, 415},
		"another message":      {v1 + ";proto=x.Y", nil, 415},
		"too big":              {v1, make([]byte, 1<<17), 413},
		"a bomb":               {v1, snappy.Encode(nil, make([]byte, 1<<20)), 413},
		"too many series":      {v1, snappy.Encode(nil, many), 400},
		"too many labels":      {v1, snappy.Encode(nil, series(wide...)), 400},
		"a claimed length":     {v1, []byte{0xff, 0xff, 0xff, 0xff, 0x0f}, 413},
		"labels that are none": {v1, snappy.Encode(nil, series(msg(1, []byte{0xff}))), 400},
	} {
		status, text, _ := r.do(t, c, http.MethodPost, door.Path, q.contentType, q.body)
		assert.Equal(t, q.want, status, "%s: %s", name, text)
	}
	assert.Empty(t, r.bodies)
}

func TestOverTheLimitWaits(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	r := start(t, func(o *door.Options) { o.Wait = 200 * time.Millisecond })
	r.hold, r.entered = hold, make(chan struct{}, 1)
	c := r.client(t, "umea")
	first := make(chan int, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+door.Path, bytes.NewReader(snappy.Encode(nil, series(label("a", "b"), sample(now)))))
		if err != nil {
			first <- 0
			return
		}
		req.Header.Set("Content-Type", v1)
		resp, err := c.Do(req)
		if err != nil {
			first <- 0
			return
		}
		_ = resp.Body.Close()
		first <- resp.StatusCode
	}()
	<-r.entered
	status, _, _ := r.post(t, c, v1, series(label("a", "b"), sample(now)))
	assert.Equal(t, 503, status, "one is under way: the next waits, and is told to come again")
	close(hold)
	assert.Equal(t, 200, <-first)
}
