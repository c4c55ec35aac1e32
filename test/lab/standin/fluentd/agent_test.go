package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
)

const patience = 20 * time.Second

// The configuration that the chart renders is what the stand-in follows.
func TestRenderedConfiguration(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/fluent.conf")
	require.NoError(t, err)
	root, err := parse(string(text), func(string) string { return "node-1" })
	require.NoError(t, err)
	a, err := newAgent(root)
	require.NoError(t, err)
	var ids []string
	for _, s := range a.sources {
		ids = append(ids, s.id())
	}
	assert.Equal(t, []string{"containers", "falco", "trivy", "audit", "auth", "journal", "auth_volatile", "journal_volatile"}, ids)
	require.Len(t, a.outs, 2)
	for _, out := range a.outs {
		assert.Equal(t, "10.77.0.10:30224", out.address)
		assert.Equal(t, 190*time.Second, out.ackTimeout)
	}
	assert.Equal(t, "0.0.0.0:24231", a.metrics)
}

// What the stand-in would not follow it refuses.
func TestRefusals(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ old, new, want string }{
		"an unknown input":           {"@type systemd", "@type syslog", `no input plugin "syslog"`},
		"an unknown filter":          {"@type record_transformer", "@type grep", `no filter plugin "grep"`},
		"an unknown parameter":       {"rotate_wait 10s", "rotate_weight 10s", "does not know rotate_weight"},
		"no acknowledgement":         {"require_ack_response true", "require_ack_response false", "require_ack_response true only"},
		"a memory buffer":            {"@type file", "@type memory", "keeps chunks by tag in files"},
		"a limit of tries":           {"retry_forever true", "retry_forever false", "for ever"},
		"a section that is not done": {"</buffer>", "", "closes nothing"},
		"Ruby":                       {`#{ENV['NODE_NAME']}`, `#{Socket.gethostname}`, "knows no Ruby"},
		"no such label":              {"<label @OUT>", "<label @ELSEWHERE>", `goes to the label "@OUT"`},
		"a time that is none":        {"ack_response_timeout 190s", "ack_response_timeout soon", `"soon" is no time`},
	}
	text, err := os.ReadFile("testdata/fluent.conf")
	require.NoError(t, err)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, string(text), c.old)
			root, err := parse(strings.Replace(string(text), c.old, c.new, 1), func(string) string { return "x" })
			if err == nil {
				_, err = newAgent(root)
			}
			assert.ErrorContains(t, err, c.want)
		})
	}
}

func TestTagPatterns(t *testing.T) {
	t.Parallel()
	for text, c := range map[string]struct{ yes, no []string }{
		"**":                    {[]string{"a", "a.b.c"}, nil},
		"a.*":                   {[]string{"a.b"}, []string{"a", "a.b.c", "b.a"}},
		"{containers,falco}":    {[]string{"containers", "falco"}, []string{"audit", "kube-containers", "falco.x"}},
		"containers host.{x,y}": {[]string{"containers", "host.y"}, []string{"host.z"}},
	} {
		matches, err := pattern(text)
		require.NoError(t, err)
		for _, tag := range c.yes {
			assert.True(t, matches(tag), "%s %s", text, tag)
		}
		for _, tag := range c.no {
			assert.False(t, matches(tag), "%s %s", text, tag)
		}
	}
}

// From a container's log to the other side: fields, times, pieces of long lines, what can not be parsed.
func TestDelivery(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	pod := s.file("pods/shop_web-1_0a1b/nginx/0.log")
	write(t, pod, "2026-01-02T03:04:05.000000006Z stdout F hello\n2026-01-02T03:04:06Z stderr P long \n2026-01-02T03:04:06Z stderr F line\nnonsense\n")
	write(t, s.file("pods/fluentd_x_1/fluentd/0.log"), "2026-01-02T03:04:05Z stdout F its own\n")
	write(t, s.file("pods/shop_web-1_0a1b/nginx/0.log.20260101-000000.gz"), "packed\n")
	write(t, s.file("audit/audit.log"), `{"kind":"Event"}`+"\n")
	s.start()
	got := s.server.wait(t, 5)
	byTag := map[string][]received{}
	for _, r := range got {
		byTag[r.tag] = append(byTag[r.tag], r)
	}
	require.Len(t, byTag["containers"], 4)
	first := byTag["containers"][0]
	assert.Equal(t, map[string]string{
		"message": "hello", "stream": "stdout", "logtag": "F", "time": "2026-01-02T03:04:05.000000006Z",
		"namespace": "shop", "pod": "web-1", "pod_uid": "0a1b", "container": "nginx", "node": "node-1",
	}, first.record)
	assert.Equal(t, time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), first.time.UTC())
	assert.Equal(t, "P", byTag["containers"][1].record["logtag"])
	assert.Equal(t, "long ", byTag["containers"][1].record["message"])
	assert.Equal(t, "nonsense", byTag["containers"][3].record["unmatched_line"])
	require.Len(t, byTag["audit"], 1)
	assert.Equal(t, map[string]string{"message": `{"kind":"Event"}`, "node": "node-1"}, byTag["audit"][0].record)
}

// Rotations lose and repeat nothing, also those that happen while nobody reads.
func TestRotation(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	pod := s.file("pods/shop_web-1_0a1b/nginx/0.log")
	n := 0
	lines := func(count int) string {
		var b strings.Builder
		for range count {
			n++
			fmt.Fprintf(&b, "2026-01-02T03:04:05Z stdout F %d\n", n)
		}
		return b.String()
	}
	write(t, pod, lines(10))
	stop := s.start()
	s.server.wait(t, 10)
	write(t, pod, lines(5))
	require.NoError(t, os.Rename(pod, pod+".20260102-030405"))
	write(t, pod, lines(5))
	s.server.wait(t, 20)
	stop()
	write(t, pod, lines(5))
	require.NoError(t, os.Rename(pod, pod+".20260102-040506"))
	write(t, pod, lines(5))
	s.start()
	var got []string
	for _, r := range s.server.wait(t, 30) {
		got = append(got, r.record["message"])
	}
	var want []string
	for i := range n {
		want = append(want, fmt.Sprint(i+1))
	}
	assert.ElementsMatch(t, want, got)
}

// A line that is not complete yet is waited for.
func TestHalfALine(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	pod := s.file("pods/shop_web-1_0a1b/nginx/0.log")
	write(t, pod, "2026-01-02T03:04:05Z stdout F whole\n2026-01-02T03:04:05Z stdout F ha")
	s.start()
	s.server.wait(t, 1)
	write(t, pod, "lf\n")
	assert.Equal(t, "half", s.server.wait(t, 2)[1].record["message"])
}

// What is not acknowledged comes again under the same id, over lost connections, wrong answers and restarts.
func TestSentUntilAcknowledged(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.server.misbehave(func(c net.Conn, try int) bool {
		switch try {
		case 1: // says nothing and hangs up
			_ = c.Close()
		case 2: // acknowledges something else
			answer(c, "bm90IHRoaXM=\n")
		default:
			return false
		}
		return true
	})
	write(t, s.file("pods/shop_web-1_0a1b/nginx/0.log"), "2026-01-02T03:04:05Z stdout F once\n")
	s.start()
	got := s.server.wait(t, 1)
	assert.Equal(t, "once", got[0].record["message"])
	tries := s.server.tries()
	require.Len(t, tries, 1, "one id")
	for id, count := range tries {
		assert.Equal(t, 3, count)
		assert.True(t, strings.HasSuffix(id, "\n"), "Ruby's Base64 ends the line")
	}
	require.Eventually(t, func() bool { return len(glob(t, s.dir, "buffer*/*.chunk")) == 0 }, patience, 10*time.Millisecond, "what was acknowledged is forgotten")
}

// A process that is killed leaves chunks; the next one sends them under their ids, and drops the frame that was cut off.
func TestCrash(t *testing.T) {
	t.Parallel()
	b := buffer{folder: t.TempDir(), chunkBytes: 1 << 20, chunkRecords: 100, total: 1 << 30, flush: time.Hour}
	require.NoError(t, b.open())
	at := time.Unix(1, 2)
	require.NoError(t, b.append(t.Context(), "a.b", []event{{at, []field{{"k", "one"}}}, {at, []field{{"k", "two"}}}}))
	id := b.staged["a.b"].id
	left := glob(t, b.folder, "*.chunk")
	require.Len(t, left, 1)
	whole, err := os.ReadFile(left[0])
	require.NoError(t, err)
	write(t, left[0], "\x00\x00\x00\x50\x00\x00\x00\x01cut off")

	again := buffer{folder: b.folder, chunkBytes: 1 << 20, chunkRecords: 100, total: 1 << 30, flush: time.Hour}
	require.NoError(t, again.open())
	require.Len(t, again.queue, 1)
	c := again.queue[0]
	assert.Equal(t, "a.b", c.tag)
	assert.Equal(t, id, c.id)
	assert.Equal(t, 2, c.records)
	assert.Equal(t, int64(len(whole)), c.bytes)
	now, err := os.ReadFile(left[0])
	require.NoError(t, err)
	assert.Equal(t, whole, now)
}

// A full buffer makes sources wait instead of losing anything, and goes on when there is room.
func TestBackPressure(t *testing.T) {
	t.Parallel()
	b := buffer{folder: t.TempDir(), chunkBytes: 100, chunkRecords: 1, total: 200, flush: time.Hour}
	require.NoError(t, b.open())
	one := []event{{time.Unix(1, 0), []field{{"k", strings.Repeat("x", 60)}}}}
	require.NoError(t, b.append(t.Context(), "t", one))
	require.NoError(t, b.append(t.Context(), "t", one))
	full := make(chan error, 1)
	go func() { full <- b.append(t.Context(), "t", one) }()
	select {
	case err := <-full:
		require.Fail(t, "it did not wait", "%v", err)
	case <-time.After(100 * time.Millisecond):
	}
	c, err := b.next(t.Context())
	require.NoError(t, err)
	b.done(c)
	select {
	case err := <-full:
		require.NoError(t, err)
	case <-time.After(patience):
		require.Fail(t, "it still waits")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, b.append(ctx, "t", one), context.Canceled)
}

// Journal files of systemd itself (testdata, made by systemd-journal-remote 252): with short and with long offsets, a
// compressed field, more entries than one array holds.
func TestJournal(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"regular", "compact"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			j, err := openJournal(unpack(t, kind, t.TempDir()))
			require.NoError(t, err)
			defer j.close() //nolint:errcheck // only read
			var got []map[string]string
			var times []uint64
			n, err := j.entries(0, func(realtime uint64, fields map[string]string) error {
				got, times = append(got, fields), append(times, realtime)
				return nil
			})
			require.NoError(t, err)
			require.Len(t, got, 64)
			assert.Equal(t, 64, n)
			assert.Equal(t, "Started the machine", got[0]["MESSAGE"])
			assert.Equal(t, "long: "+strings.Repeat("compressible ", 200), got[2]["MESSAGE"])
			assert.Equal(t, "kubelet.service", got[2]["_SYSTEMD_UNIT"])
			assert.Equal(t, uint64(1767225663000000), times[63])

			// from the middle, across arrays, until the caller has enough
			enough := errors.New("enough")
			var some []string
			n, err = j.entries(30, func(_ uint64, fields map[string]string) error {
				if len(some) == 10 {
					return enough
				}
				some = append(some, fields["MESSAGE"])
				return nil
			})
			require.ErrorIs(t, err, enough)
			assert.Equal(t, 40, n)
			assert.Equal(t, "line 27 of many", some[0])
		})
	}
	file := filepath.Join(t.TempDir(), "x.journal")
	require.NoError(t, os.WriteFile(file, make([]byte, 4096), 0o600))
	_, err := openJournal(file)
	assert.ErrorContains(t, err, "no journal file")
}

// Journal events arrive with the fields of the map; the source of logins sees only its own.
func TestJournalDelivery(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	unpack(t, "compact", filepath.Dir(s.file("journal/fedcba9876543210fedcba9876543210/x")))
	stop := s.start()
	got := s.server.wait(t, 64+2)
	var auth []received
	for _, r := range got {
		if r.tag == "auth" {
			auth = append(auth, r)
		}
	}
	require.Len(t, auth, 2)
	assert.Equal(t, map[string]string{
		"message": "Failed password for invalid user eve from 10.0.0.9 port 4711 ssh2", "identifier": "sshd", "unit": "ssh.service",
		"priority": "6", "pid": "99", "comm": "sshd", "transport": "syslog", "boot_id": "0123456789abcdef0123456789abcdef",
		"node": "node-1",
	}, auth[0].record)
	stop()
	// nothing again after a restart
	s.start()
	write(t, s.file("audit/audit.log"), "after\n")
	got = s.server.wait(t, 64+2+1)
	assert.Len(t, got, 64+2+1)
}

func unpack(t *testing.T, kind, folder string) string {
	t.Helper()
	packed, err := os.Open(filepath.Join("testdata", kind+".journal.gz"))
	require.NoError(t, err)
	defer packed.Close() //nolint:errcheck // only read
	z, err := gzip.NewReader(packed)
	require.NoError(t, err)
	path := filepath.Join(folder, "system.journal")
	out, err := os.Create(path)
	require.NoError(t, err)
	_, err = io.Copy(out, z)
	require.NoError(t, err)
	require.NoError(t, out.Close())
	return path
}

// site is a node's file system, the rendered configuration moved below it, and a server that it delivers to.
type site struct {
	t      *testing.T
	dir    string
	server *server
}

func newSite(t *testing.T) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{t: t, dir: dir, server: newServer(t, dir)}
	for _, d := range []string{"journal", "volatile"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, d), 0o700))
	}
	return s
}

func (s *site) file(name string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	require.NoError(s.t, os.MkdirAll(filepath.Dir(path), 0o700))
	return path
}

// start runs an agent until stop is called or the test ends.
func (s *site) start() (stop func()) {
	s.t.Helper()
	text, err := os.ReadFile("testdata/fluent.conf")
	require.NoError(s.t, err)
	host, port, err := net.SplitHostPort(s.server.listener.Addr().String())
	require.NoError(s.t, err)
	conf := string(text)
	for _, r := range [][2]string{
		{"/var/log/pods/", s.dir + "/pods/"}, {`\/var\/log\/pods\/`, strings.ReplaceAll(s.dir, "/", `\/`) + `\/pods\/`},
		{"/var/log/kubernetes/audit/", s.dir + "/audit/"}, {"/var/log/journal", s.dir + "/journal"}, {"/run/log/journal", s.dir + "/volatile"},
		{"/var/lib/catamaran/fluentd", s.dir}, {"/etc/catamaran/tls", s.dir}, {"host 10.77.0.10", "host " + host}, {"port 30224", "port " + port},
		{"port 24231", "port 0"}, {"flush_interval 5s", "flush_interval 1s"}, {"refresh_interval 5s", "refresh_interval 1s"},
	} {
		require.Contains(s.t, conf, r[0])
		conf = strings.ReplaceAll(conf, r[0], r[1])
	}
	root, err := parse(conf, func(string) string { return "node-1" })
	require.NoError(s.t, err)
	a, err := newAgent(root)
	require.NoError(s.t, err)
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		assert.NoError(s.t, <-ended)
	})
	s.t.Cleanup(stop)
	return stop
}

// write appends to a file.
func write(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	_, err = f.WriteString(text)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

func glob(t *testing.T, dir, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	require.NoError(t, err)
	return found
}

// server speaks the other side of the forward protocol, with another library for MessagePack.
type server struct {
	listener net.Listener
	mu       sync.Mutex
	got      []received
	count    map[string]int
	kept     map[string]bool
	trouble  func(c net.Conn, try int) bool
}

type received struct {
	tag    string
	time   time.Time
	record map[string]string
}

func newServer(t *testing.T, dir string) *server {
	t.Helper()
	authority, key := certificate(t, nil, nil, "authority")
	issue := func(name string) tls.Certificate {
		der, own := certificate(t, authority, key, name)
		return tls.Certificate{Certificate: [][]byte{der.Raw}, PrivateKey: own}
	}
	save := func(name, kind string, der []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
	client := issue("client")
	private, err := x509.MarshalECPrivateKey(client.PrivateKey.(*ecdsa.PrivateKey))
	require.NoError(t, err)
	save("ca.crt", "CERTIFICATE", authority.Raw)
	save("tls.crt", "CERTIFICATE", client.Certificate[0])
	save("tls.key", "EC PRIVATE KEY", private)
	pool := x509.NewCertPool()
	pool.AddCert(authority)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{issue("ingest-gateway")}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12,
	})
	require.NoError(t, err)
	s := &server{listener: l, count: map[string]int{}, kept: map[string]bool{}}
	var work sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); _ = l.Close(); work.Wait() })
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				context.AfterFunc(ctx, func() { _ = c.Close() })
				s.serve(c)
				_ = c.Close()
			})
		}
	})
	return s
}

func (s *server) misbehave(f func(c net.Conn, try int) bool) { s.trouble = f }

func (s *server) serve(c net.Conn) {
	d := msgpack.NewDecoder(c)
	for {
		n, err := d.DecodeArrayLen()
		if err != nil || n != 3 {
			return
		}
		tag, err1 := d.DecodeString()
		packed, err2 := d.DecodeBytes()
		option, err3 := d.DecodeMap()
		if errors.Join(err1, err2, err3) != nil || option["compressed"] != compressionOf(tag) {
			return
		}
		events, err := unpackEvents(tag, packed)
		if err != nil || len(events) != int(option["size"].(uint32)) {
			return
		}
		id := option["chunk"].(string)
		s.mu.Lock()
		s.count[id]++
		try := s.count[id]
		s.mu.Unlock()
		if s.trouble != nil && s.trouble(c, try) {
			continue
		}
		s.mu.Lock()
		// an agent that is stopped before it saw the answer sends the chunk again: whoever receives it must know it
		if !s.kept[id] {
			s.got = append(s.got, events...)
			s.kept[id] = true
		}
		s.mu.Unlock()
		answer(c, id)
	}
}

// compressionOf says what is compressed: lines that have a bound.
func compressionOf(tag string) string {
	if tag == "containers" || tag == "falco" || tag == "trivy" {
		return "gzip"
	}
	return "text"
}

func unpackEvents(tag string, packed []byte) ([]received, error) {
	var r io.Reader = bytes.NewReader(packed)
	if compressionOf(tag) == "gzip" {
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		r = z
	}
	d := msgpack.NewDecoder(r)
	var out []received
	for {
		n, err := d.DecodeArrayLen()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil || n != 2 {
			return nil, fmt.Errorf("array of %d: %w", n, err)
		}
		r := received{tag: tag}
		kind, size, err := d.DecodeExtHeader()
		if err != nil || kind != 0 || size != 8 {
			return nil, fmt.Errorf("extension %d of %d bytes instead of a time: %w", kind, size, err)
		}
		var at [8]byte
		if err := d.ReadFull(at[:]); err != nil {
			return nil, err
		}
		r.time = time.Unix(int64(binary.BigEndian.Uint32(at[:])), int64(binary.BigEndian.Uint32(at[4:])))
		if err := d.Decode(&r.record); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
}

func answer(c net.Conn, id string) {
	b, err := msgpack.Marshal(map[string]string{"ack": id})
	if err == nil {
		_, _ = c.Write(b) // a client that is gone sends it again
	}
}

// wait returns everything that arrived when it is n events.
func (s *server) wait(t *testing.T, n int) []received {
	t.Helper()
	var got []received
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		got = append([]received(nil), s.got...)
		return len(got) >= n
	}, patience, 10*time.Millisecond, "waiting for %d events", n)
	require.Len(t, got, n)
	return got
}

func (s *server) tries() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]int{}
	for k, v := range s.count {
		out[k] = v
	}
	return out
}

// certificate makes one that the parent signed, or an authority.
func certificate(t *testing.T, parent *x509.Certificate, signer *ecdsa.PrivateKey, name string) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	if parent == nil {
		parent, signer = template, key
		template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	require.NoError(t, err)
	c, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return c, key
}
