package service_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/certs"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/certs/certstest"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/config"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/door"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/forward/forwardtest"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/service"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/store"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/store/s3test"
)

// site is what stands around a gateway: a real versitygw, and stand-ins for Loki and Thanos Receive that only say yes or no.
type site struct {
	clients, doors, services *certstest.CA
	s3                       *s3test.S3
	proxy                    *s3test.Proxy
	loki                     atomic.Int64 // the status that Loki answers
	pushes, writes           atomic.Int64
	file                     string
}

func newSite(t *testing.T) *site {
	t.Helper()
	return newSiteIn(t, t.TempDir())
}

// newSiteIn has its objects in a folder.
func newSiteIn(t *testing.T, objects string) *site {
	t.Helper()
	s := &site{clients: certstest.New(t, "ingest clients"), doors: certstest.New(t, "ingest doors"), services: certstest.New(t, "services")}
	s.s3 = s3test.StartIn(t, s.services, objects)
	s.proxy = s.s3.NewProxy(t, s.services)
	internal := s.services.Folder(t, "ingest-gateway", s.services)
	folder, err := certs.Open(internal, time.Hour, nil)
	require.NoError(t, err)
	serve := func(h http.HandlerFunc) string {
		server := httptest.NewUnstartedServer(h)
		server.Listener = tls.NewListener(server.Listener, folder.Server("http/1.1"))
		server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // a killed gateway breaks handshakes off
		server.Start()
		t.Cleanup(server.Close)
		return strings.Replace(server.URL, "http://", "https://", 1)
	}
	s.loki.Store(http.StatusNoContent)
	loki := serve(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if s.loki.Load() < 300 {
			s.pushes.Add(1)
		}
		w.WriteHeader(int(s.loki.Load()))
	})
	thanos := serve(func(http.ResponseWriter, *http.Request) { s.writes.Add(1) })
	s.file = filepath.Join(t.TempDir(), "gateway.yaml")
	require.NoError(t, os.WriteFile(s.file, fmt.Appendf(nil, `
tenants: [umea, lund]
certificates: {door: %q, service: %q}
forward: {listen: "127.0.0.1:0"}
metrics: {listen: "127.0.0.1:0", thanosURL: %q}
telemetry: {listen: "127.0.0.1:0"}
probes: {listen: "127.0.0.1:0"}
chain: {retention: 48h, maxWait: 20ms}
s3: {endpoint: %q, bucket: %s, accessFile: %q, secretFile: %q, timeout: 5s}
loki: {url: %q}
shutdown: 10s
`, s.doors.Folder(t, "door", s.clients), internal, thanos, s.proxy.Endpoint, s3test.Bucket, s.s3.Access, s.s3.Secret, loki), 0o600))
	return s
}

// start runs a gateway in this process.
func (s *site) start(t *testing.T) (service.Addresses, func() error) {
	t.Helper()
	cfg, err := config.Read(s.file)
	require.NoError(t, err)
	g, err := service.New(cfg, "test", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	stop := sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { _ = stop() })
	return g.Addresses(), stop
}

func (s *site) verify(t *testing.T, tenant string) chain.Report {
	t.Helper()
	bucket, err := store.New(store.Options{Endpoint: s.s3.Endpoint, Region: "us-east-1", Bucket: s3test.Bucket, AccessFile: s.s3.Access, SecretFile: s.s3.Secret, Dial: s.s3.Dial})
	require.NoError(t, err)
	r, err := chain.Verify(t.Context(), bucket, chain.VerifyOptions{Tenant: tenant, MinRetention: 48 * time.Hour})
	require.NoError(t, err)
	return r
}

func packed(id string, lines ...string) []byte {
	var records []forwardtest.Record
	for _, l := range lines {
		records = append(records, forwardtest.Record{Time: time.Now(), Fields: map[string]any{"log": l}})
	}
	return forwardtest.Packed("app", id, forwardtest.Entries(records...))
}

func TestTheWholeGateway(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	at, stop := s.start(t)
	for _, tenant := range []string{"umea", "lund"} {
		c, err := forwardtest.Dial(at.Forward, s.clients.Client(t, tenant, s.doors))
		require.NoError(t, err)
		require.NoError(t, c.Send(packed("a", "one", "two"), "a", 10*time.Second))
		require.NoError(t, c.Send(packed("b", "three"), "b", 10*time.Second))
		require.NoError(t, c.Close())
	}
	umea := &http.Client{Transport: &http.Transport{TLSClientConfig: s.clients.Client(t, "umea", s.doors)}, Timeout: 10 * time.Second}
	defer umea.CloseIdleConnections()
	resp, err := umea.Post("https://"+at.Metrics+door.Path, "application/x-protobuf", strings.NewReader("\x00")) // an empty request in snappy
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, 200, resp.StatusCode)
	assert.EqualValues(t, 1, s.writes.Load())

	get := func(c *http.Client, url string) (int, string) {
		resp, err := c.Get(url)
		if err != nil {
			return 0, err.Error()
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(b)
	}
	status, _ := get(umea, "https://"+at.Telemetry+"/metrics")
	assert.Zero(t, status, "a workload cluster's certificate does not open the telemetry port")
	prometheus := &http.Client{Transport: &http.Transport{TLSClientConfig: s.services.Client(t, "prometheus", s.services)}, Timeout: 10 * time.Second}
	defer prometheus.CloseIdleConnections()
	status, text := get(prometheus, "https://"+at.Telemetry+"/metrics")
	assert.Equal(t, 200, status)
	for _, want := range []string{
		`ingest_gateway_chain_sequence{tenant="umea"} 2`, `ingest_gateway_chain_records_total{tenant="lund"} 3`,
		`ingest_gateway_forward_acks_total{tenant="umea"} 2`, `ingest_gateway_last_received_timestamp_seconds{kind="metrics",tenant="lund"}`,
		`ingest_gateway_certificate_not_after_timestamp_seconds{certificate="door"}`,
	} {
		assert.Contains(t, text, want)
	}
	status, _ = get(http.DefaultClient, "http://"+at.Probes+"/readyz")
	assert.Equal(t, 200, status)
	status, _ = get(http.DefaultClient, "http://"+at.Probes+"/metrics")
	assert.Equal(t, 404, status, "no data on the probes' port")

	require.NoError(t, stop())
	for _, tenant := range []string{"umea", "lund"} {
		r := s.verify(t, tenant)
		assert.Empty(t, r.Findings)
		assert.EqualValues(t, 3, r.Records)
		assert.EqualValues(t, 2, r.Last.Sequence)
	}
	assert.EqualValues(t, 4, s.pushes.Load())
}

func TestLokiDownThenUp(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.loki.Store(http.StatusTooManyRequests)
	at, stop := s.start(t)
	c, err := forwardtest.Dial(at.Forward, s.clients.Client(t, "umea", s.doors))
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	_, err = c.Write(packed("a", "x"))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return s.verify(t, "umea").Objects == 1 }, 20*time.Second, 20*time.Millisecond, "it is in the object store")
	_, err = c.Ack(100 * time.Millisecond)
	require.Error(t, err, "and not acknowledged")
	s.loki.Store(http.StatusNoContent)
	c2, err := forwardtest.Dial(at.Forward, s.clients.Client(t, "umea", s.doors))
	require.NoError(t, err)
	defer func() { _ = c2.Close() }()
	require.NoError(t, c2.Send(packed("b", "y"), "b", 20*time.Second))
	require.NoError(t, stop())
	r := s.verify(t, "umea")
	assert.Empty(t, r.Findings)
	assert.EqualValues(t, 2, r.Records)
}

// The object store's disk is full for a while: nothing is acknowledged meanwhile, and the chain goes on without a gap.
func TestAFullDisk(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t)
	s := newSiteIn(t, disk)
	at, stop := s.start(t)
	send := func(id string, chunk []byte, wait time.Duration) error {
		c, err := forwardtest.Dial(at.Forward, s.clients.Client(t, "umea", s.doors))
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		return c.Send(chunk, id, wait)
	}
	random := make([]byte, 100_000) // what can not be compressed
	for i := range random {
		random[i] = byte(' ' + rand.IntN(90))
	}
	during := packed("during", string(random))
	require.NoError(t, send("before", packed("before", "x"), 10*time.Second))

	filler := filepath.Join(disk, "filler")
	f, err := os.Create(filler)
	require.NoError(t, err)
	_, err = io.Copy(f, neverEnding{})
	require.ErrorIs(t, err, unix.ENOSPC)
	require.NoError(t, f.Close())
	require.Error(t, send("during", during, 3*time.Second), "what could not be stored is not acknowledged")
	assert.EqualValues(t, 1, s.verify(t, "umea").Objects)

	require.NoError(t, os.Remove(filler))
	require.NoError(t, send("during", during, 20*time.Second), "the agent sends it again")
	require.NoError(t, send("behind", packed("behind", "y"), 10*time.Second))
	require.NoError(t, stop())
	r := s.verify(t, "umea")
	assert.Empty(t, r.Findings)
	assert.EqualValues(t, 3, r.Records, "each once")
	assert.EqualValues(t, 3, r.Chunks)
}

// smallDisk is a file system of 4 MiB, which only root can make. It has no place among the mounts and ends with this
// process, however that ends.
func smallDisk(t *testing.T) string {
	t.Helper()
	at := t.TempDir()
	require.NoError(t, unix.Mount("tmpfs", at, "tmpfs", 0, "size=4m"), "root only")
	root, err := os.Open(at)
	require.NoError(t, errors.Join(err, unix.Unmount(at, unix.MNT_DETACH)))
	t.Cleanup(func() { _ = root.Close() })
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), root.Fd())
}

type neverEnding struct{}

func (neverEnding) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// The real program is killed again and again while clients send and the object store fails now and then. What was
// acknowledged is in the chain, each record once.
func TestKilled(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	program := filepath.Join(t.TempDir(), "ingest-gateway")
	out, err := exec.Command("go", "build", "-o", program, "github.com/catamaran-k8s/catamaran/cmd/ingest-gateway").CombinedOutput()
	require.NoError(t, err, string(out))
	port := freePort(t)
	b, err := os.ReadFile(s.file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(s.file, []byte(strings.Replace(string(b), `forward: {listen: "127.0.0.1:0"}`, `forward: {listen: "127.0.0.1:`+port+`"}`, 1)), 0o600))
	var requests atomic.Int64
	s.proxy.Set(func(*http.Request) s3test.Fault {
		if n := requests.Add(1); n%7 == 0 {
			return []s3test.Fault{s3test.Lost, s3test.Unavailable, s3test.Half}[(n/7)%3]
		}
		return s3test.Pass
	})

	const senders, chunks = 4, 25
	cfg := s.clients.Client(t, "umea", s.doors)
	var wg sync.WaitGroup
	for i := range senders {
		wg.Go(func() { sendAll(t, "127.0.0.1:"+port, cfg, fmt.Sprint(i), chunks) })
	}
	finished := make(chan struct{})
	go func() { wg.Wait(); close(finished) }()
	kills := 0
	for done := false; !done; {
		cmd := exec.Command(program, "serve", "--config", s.file)
		var log strings.Builder
		cmd.Stderr = &log
		require.NoError(t, cmd.Start())
		signal := syscall.SIGKILL
		select {
		case <-finished:
			done, signal = true, syscall.SIGTERM
		case <-time.After(time.Duration(500+rand.IntN(1000)) * time.Millisecond):
			kills++
		}
		require.NoError(t, cmd.Process.Signal(signal))
		err := cmd.Wait()
		if done {
			require.NoError(t, err, log.String())
		}
		require.Less(t, kills, 100, log.String())
	}
	s.proxy.Set(nil)
	r := s.verify(t, "umea")
	assert.Empty(t, r.Findings)
	assert.EqualValues(t, senders*chunks*2, r.Records)
	assert.EqualValues(t, senders*chunks, r.Chunks)
	t.Logf("%d kills, %d objects", kills, r.Objects)
	assert.Positive(t, kills)
}

// sendAll sends chunks until each is acknowledged, as a client does that loses its connection now and then.
func sendAll(t *testing.T, address string, cfg *tls.Config, name string, chunks int) {
	var c *forwardtest.Client
	deadline := time.Now().Add(2 * time.Minute)
	for i := range chunks {
		id := name + "-" + fmt.Sprint(i)
		message := packed(id, id+" first", id+" second")
		for {
			if time.Now().After(deadline) {
				t.Errorf("chunk %s was not acknowledged in time", id)
				return
			}
			if c == nil {
				var err error
				if c, err = forwardtest.Dial(address, cfg); err != nil {
					time.Sleep(10 * time.Millisecond) // as a client would
					continue
				}
			}
			if c.Send(message, id, 5*time.Second) == nil {
				break
			}
			_ = c.Close()
			c = nil
		}
	}
	if c != nil {
		_ = c.Close()
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port
}
