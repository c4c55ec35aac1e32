package forward_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tinylib/msgp/msgp"
	"go.uber.org/goleak"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/certs"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/certs/certstest"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/forward"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/forward/forwardtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long what must happen may take: a busy machine with the race detector takes seconds for a handshake. Tests
// of what runs out of time set their own.
const patience = 30 * time.Second

// queue keeps what it gets, and answers when it is told to.
type queue struct {
	mu     sync.Mutex
	chunks []*chain.Chunk
	hold   chan struct{} // while open nothing is answered
	full   bool
	err    error // what is answered
}

func (q *queue) Submit(ctx context.Context, c *chain.Chunk, done func(error)) error {
	if q.full {
		<-ctx.Done()
		return ctx.Err()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.chunks = append(q.chunks, c)
	go func() {
		if q.hold != nil {
			<-q.hold
		}
		done(q.err)
	}()
	return nil
}

func (q *queue) all() []*chain.Chunk {
	q.mu.Lock()
	defer q.mu.Unlock()
	return append([]*chain.Chunk(nil), q.chunks...)
}

// meter counts refusals.
type meter struct {
	mu      sync.Mutex
	refused map[string]int
	spoofed int
	acked   int
	conns   int
}

func (m *meter) Connections(_ string, n int) { m.mu.Lock(); m.conns = n; m.mu.Unlock() }
func (m *meter) Message(_ string, msg *forward.Message) {
	m.mu.Lock()
	m.spoofed += msg.Spoofed
	m.mu.Unlock()
}
func (m *meter) Acked(string, time.Duration) { m.mu.Lock(); m.acked++; m.mu.Unlock() }
func (m *meter) Refused(tenant, reason string) {
	m.mu.Lock()
	m.refused[tenant+" "+reason]++
	m.mu.Unlock()
}

func (m *meter) count(key string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.refused[key]
}

func (m *meter) get(n *int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return *n
}

type gateway struct {
	*queue
	*meter
	address        string
	server         *forward.Server
	clients, doors *certstest.CA
}

func start(t *testing.T, change func(*forward.Options, *queue)) *gateway {
	t.Helper()
	g := &gateway{queue: &queue{}, meter: &meter{refused: map[string]int{}}, clients: certstest.New(t, "clients"), doors: certstest.New(t, "doors")}
	opt := forward.Options{
		Identify: certs.Tenant, Limits: forward.Limits{MessageBytes: 1 << 20, DecompressedBytes: 2 << 20, Depth: 8},
		Connections: 8, Handshakes: 8, Readers: 2, HandshakeTimeout: patience, MessageTimeout: patience,
		IdleTimeout: 2 * patience, AckTimeout: patience, SubmitTimeout: patience,
		Meter: g.meter, Log: slog.New(slog.DiscardHandler),
	}
	opt.Tenants = map[string]forward.Tenant{"umea": {Queue: g.queue}, "lund": {Queue: &queue{}}}
	if change != nil {
		change(&opt, g.queue)
	}
	folder, err := certs.Open(g.doors.Folder(t, "door", g.clients), time.Hour, nil)
	require.NoError(t, err)
	l, err := tls.Listen("tcp", "127.0.0.1:0", folder.Server())
	require.NoError(t, err)
	g.address, g.server = l.Addr().String(), forward.New(opt)
	served := make(chan error, 1)
	go func() { served <- g.server.Serve(l) }()
	t.Cleanup(func() {
		g.server.Stop()
		require.NoError(t, <-served)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, g.server.Wait(ctx))
	})
	return g
}

func (g *gateway) dial(t *testing.T, tenant string) *forwardtest.Client {
	t.Helper()
	c, err := forwardtest.Dial(g.address, g.clients.Client(t, tenant, g.doors))
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// closed waits until the server closed the connection.
func closed(t *testing.T, c *forwardtest.Client) {
	t.Helper()
	_, err := c.Ack(patience)
	require.Error(t, err)
	var timeout net.Error
	require.False(t, errors.As(err, &timeout) && timeout.Timeout(), "the connection is still open")
}

func record(fields map[string]any) forwardtest.Record {
	return forwardtest.Record{Time: time.Unix(1790000000, 123456789), Fields: fields}
}

func texts(c *chain.Chunk) []string {
	var out []string
	for _, r := range c.Records {
		out = append(out, string(c.JSON[r.From:r.To]))
	}
	return out
}

const stamped = `,"cluster":"umea","tenant":"umea"}`

func TestModes(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	c := g.dial(t, "umea")
	one, two := record(map[string]any{"log": "one"}), record(map[string]any{"log": "two"})
	for mode, message := range map[string][]byte{
		"Message":    forwardtest.Message("kubernetes.x", "Message", one),
		"Forward":    forwardtest.Forward("kubernetes.x", "Forward", one, two),
		"Packed":     forwardtest.Packed("kubernetes.x", "Packed", forwardtest.Entries(one, two)),
		"Compressed": forwardtest.Compressed("kubernetes.x", "Compressed", forwardtest.Entries(one), forwardtest.Entries(two)),
	} {
		require.NoError(t, c.Send(message, mode, patience), mode)
		got := g.all()
		last := got[len(got)-1]
		want := []string{`{"log":"one"` + stamped, `{"log":"two"` + stamped}
		if mode == "Message" {
			want = want[:1]
		}
		assert.Equal(t, want, texts(last), mode)
		assert.Equal(t, mode, last.ID)
		assert.Equal(t, "kubernetes.x", last.Tag)
		assert.EqualValues(t, 1790000000123456789, last.Records[0].Time, mode)
		assert.Equal(t, []chain.Labels{{Source: "kubernetes"}}, last.Streams)
	}
}

func TestNoAcknowledgementBeforeStorageAndNoneUnasked(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	g := start(t, func(_ *forward.Options, q *queue) { q.hold = hold })
	c := g.dial(t, "umea")
	_, err := c.Write(forwardtest.Packed("t", "", forwardtest.Entries(record(map[string]any{"a": 1}))))
	require.NoError(t, err)
	_, err = c.Write(forwardtest.Packed("t", "id", forwardtest.Entries(record(map[string]any{"a": 1}))))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(g.all()) == 2 }, patience, time.Millisecond)
	_, err = c.Ack(50 * time.Millisecond)
	require.Error(t, err, "nothing is stored yet")
	close(hold)
	c = g.dial(t, "umea")
	require.NoError(t, c.Send(forwardtest.Packed("t", "other", forwardtest.Entries(record(nil))), "other", patience))
}

func TestWhatIsNotStoredIsNotAcknowledged(t *testing.T) {
	t.Parallel()
	g := start(t, func(_ *forward.Options, q *queue) { q.err = chain.ErrClosed })
	c := g.dial(t, "umea")
	_, err := c.Write(forwardtest.Packed("t", "a", forwardtest.Entries(record(nil))))
	require.NoError(t, err)
	closed(t, c)
	assert.Zero(t, g.get(&g.acked))
}

func TestWhoMaySend(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	require.NoError(t, g.dial(t, "umea").Send(forwardtest.Packed("t", "a", nil), "a", patience))
	for reason, subject := range map[string]pkix.Name{
		" identity":  {CommonName: "oslo", Organization: []string{"oslo"}},
		" identity ": {CommonName: "umea", Organization: []string{"lund"}},
	} {
		before := g.count(strings.TrimRight(reason, " "))
		c, err := forwardtest.Dial(g.address, g.clients.ClientAs(t, subject, g.doors, nil))
		require.NoError(t, err)
		closed(t, c)
		_ = c.Close()
		assert.Greater(t, g.count(" identity"), before)
	}
	other := certstest.New(t, "clients")
	c, err := forwardtest.Dial(g.address, other.Client(t, "umea", g.doors))
	if err == nil { // in TLS 1.3 the client learns of it later
		closed(t, c)
		_ = c.Close()
	}
	require.Eventually(t, func() bool { return g.count(" tls") == 1 }, patience, time.Millisecond)
	assert.Len(t, g.all(), 1)
}

func TestTheTenantIsTheCertificatesAlone(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	c := g.dial(t, "umea")
	require.NoError(t, c.Send(forwardtest.Forward("t", "a",
		record(map[string]any{"cluster": "lund"}), record(map[string]any{"tenant": "lund", "cluster": map[string]any{"x": 1}}),
		record(map[string]any{"cluster": "umea"}), record(map[string]any{"Cluster": "lund"}),
	), "a", patience))
	assert.Equal(t, []string{
		`{"cluster":"umea","tenant":"umea"}`, `{"cluster":"umea","tenant":"umea"}`, `{"cluster":"umea","tenant":"umea"}`, `{"Cluster":"lund"` + stamped,
	}, texts(g.all()[0]))
	assert.Equal(t, 2, g.get(&g.spoofed), "two of them lied")

	// A key that is not text in the client's encoding must not get through either.
	b := msgp.AppendMapHeader(nil, 1)
	b = msgp.AppendString(msgp.AppendBytes(b, []byte("cluster")), "lund")
	entry := append(forwardtest.EventTime(msgp.AppendArrayHeader(nil, 2), time.Now()), b...)
	require.NoError(t, c.Send(forwardtest.Packed("t", "b", entry), "b", patience))
	assert.Equal(t, []string{`{"cluster":"umea","tenant":"umea"}`}, texts(g.all()[1]))
}

func TestLabels(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	c := g.dial(t, "umea")
	long := strings.Repeat("x", 1000)
	require.NoError(t, c.Send(forwardtest.Forward("audit.log", "a",
		record(map[string]any{"kubernetes": map[string]any{"namespace_name": "prod", "pod_name": "web-1", "container_name": "web", "host": "n1", "labels": map[string]any{"app": "web"}}, "namespace": "spoof"}),
		record(map[string]any{"namespace": "top", "pod": "p", "container": "c", "node": "n", "hostname": "h"}),
		record(map[string]any{"hostname": "h", "host": "x"}),
		record(map[string]any{"namespace": 7, "pod": "a\nb\xff", "node": long}),
	), "a", patience))
	got := g.all()[0]
	var labels []chain.Labels
	for _, r := range got.Records {
		labels = append(labels, got.Streams[r.Stream])
	}
	assert.Equal(t, []chain.Labels{
		{Source: "audit", Namespace: "prod", Pod: "web-1", Container: "web", Node: "n1"},
		{Source: "audit", Namespace: "top", Pod: "p", Container: "c", Node: "n"},
		{Source: "audit", Node: "h"},
		{Source: "audit", Pod: "ab", Node: long[:253]},
	}, labels)
}

func TestLimits(t *testing.T) {
	t.Parallel()
	deep := []byte{}
	for range 2000 {
		deep = append(deep, 0x91)
	}
	deep = append(deep, 0xc0)
	header := msgp.AppendString(msgp.AppendArrayHeader(nil, 3), "t")
	for reason, message := range map[string][]byte{
		"message-too-big":      forwardtest.Packed("t", "a", make([]byte, 1<<20)),
		"decompressed-too-big": forwardtest.Compressed("t", "a", make([]byte, 64<<20)), // a bomb: 64 MiB in 64 KiB
		"nesting-too-deep":     append(bytes.Clone(header), deep...),
		"malformed":            []byte("GET / HTTP/1.1\r\n\r\n"),
		"tag-too-long":         forwardtest.Packed(strings.Repeat("t", 5000), "a", nil),
		"bad-chunk-id":         forwardtest.Packed("t", strings.Repeat("i", 5000), nil),
		"too-many-records":     forwardtest.Compressed("t", "a", bytes.Repeat([]byte{0x92, 0x00, 0x80}, 100000)),
		"compression-unknown": forwardtest.Map(msgp.AppendBytes(bytes.Clone(header), nil),
			map[string]any{"compressed": "zstd"}),
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			g := start(t, nil)
			c := g.dial(t, "umea")
			_, _ = c.Write(message) // the server may close before it has all
			closed(t, c)
			assert.Equal(t, 1, g.count("umea "+reason), g.refused)
			assert.Empty(t, g.all())
		})
	}
}

func TestAClaimedLengthTakesNoMemory(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	c := g.dial(t, "umea")
	_, err := c.Write([]byte{0x93, 0xa1, 't', 0xc6, 0xff, 0xff, 0xff, 0xff}) // 4 GiB will follow, it says
	require.NoError(t, err)
	closed(t, c)
	assert.Equal(t, 1, g.count("umea message-too-big"))
}

func TestDeepRecordsAreKeptAsText(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	c := g.dial(t, "umea")
	value := map[string]any{"end": true}
	for range 50 {
		value = map[string]any{"x": value}
	}
	require.NoError(t, c.Send(forwardtest.Packed("t", "a", forwardtest.Entries(record(value))), "a", patience))
	assert.Contains(t, texts(g.all()[0])[0], `"msgpack:`)
}

func TestSlowClients(t *testing.T) {
	t.Parallel()
	g := start(t, func(o *forward.Options, _ *queue) {
		o.Readers, o.Handshakes = 1, 2
		o.HandshakeTimeout, o.MessageTimeout = 3*time.Second, 3*time.Second
	})
	// Handshakes that never end are limited, and end.
	var raw []net.Conn
	for range 3 {
		conn, err := net.Dial("tcp", g.address)
		require.NoError(t, err)
		raw = append(raw, conn)
	}
	t.Cleanup(func() {
		for _, c := range raw {
			_ = c.Close()
		}
	})
	require.Eventually(t, func() bool { return g.count(" tls") == 2 && g.count(" too-many-handshakes") == 1 }, patience, 20*time.Millisecond,
		"two time out, the third is one too many")

	slow, fast := g.dial(t, "umea"), g.dial(t, "umea")
	_, err := slow.Write([]byte{0x93, 0xa1})
	require.NoError(t, err)
	require.NoError(t, fast.Send(forwardtest.Packed("t", "a", nil), "a", patience), "one slow client does not hold up the others for longer than a message may take")
	closed(t, slow)
	assert.Equal(t, 1, g.count("umea message-too-slow"))
}

func TestAFullBufferClosesTheConnection(t *testing.T) {
	t.Parallel()
	g := start(t, func(o *forward.Options, q *queue) { q.full, o.SubmitTimeout = true, 300*time.Millisecond })
	c := g.dial(t, "umea")
	_, err := c.Write(forwardtest.Packed("t", "a", nil))
	require.NoError(t, err)
	closed(t, c)
	assert.Equal(t, 1, g.count("umea busy"))
}

func TestConnectionsOfATenantAreLimited(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	for range 8 {
		g.dial(t, "umea")
	}
	require.Eventually(t, func() bool { return g.get(&g.conns) == 8 }, patience, time.Millisecond)
	closed(t, g.dial(t, "umea"))
	assert.Equal(t, 1, g.count("umea too-many-connections"))
	require.NoError(t, g.dial(t, "lund").Send(forwardtest.Packed("t", "a", nil), "a", patience), "another tenant is not concerned")
}

func TestRates(t *testing.T) {
	t.Parallel()
	g := start(t, func(o *forward.Options, q *queue) {
		o.Tenants["umea"] = forward.Tenant{Queue: q, Records: 100}
	})
	c := g.dial(t, "umea")
	records := make([]forwardtest.Record, 100)
	begin := time.Now()
	for i := range 4 {
		require.NoError(t, c.Send(forwardtest.Packed("t", fmt.Sprint(i), forwardtest.Entries(records...)), fmt.Sprint(i), patience))
	}
	assert.GreaterOrEqual(t, time.Since(begin), 1900*time.Millisecond, "400 records at 100 in a second, 200 of them at once")
	assert.Len(t, g.all(), 4, "nothing is dropped")
}

func TestStopFinishesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	g := start(t, func(_ *forward.Options, q *queue) { q.hold = hold })
	c := g.dial(t, "umea")
	_, err := c.Write(forwardtest.Packed("t", "a", forwardtest.Entries(record(nil))))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(g.all()) == 1 }, patience, time.Millisecond)
	g.server.Stop()
	close(hold)
	id, err := c.Ack(patience)
	require.NoError(t, err)
	assert.Equal(t, "a", id)
	closed(t, c)
}

func TestAClosedClientGetsNothingAndLeavesNothing(t *testing.T) {
	t.Parallel()
	g := start(t, nil)
	c := g.dial(t, "umea")
	_, err := c.Write([]byte{0x93, 0xa1})
	require.NoError(t, err)
	require.NoError(t, c.Close())
	require.Eventually(t, func() bool { return g.get(&g.conns) == 0 }, patience, time.Millisecond)
	assert.Empty(t, g.all())
}
