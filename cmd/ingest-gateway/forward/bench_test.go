package forward_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"crypto/tls"
	"log/slog"

	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/certs"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/certs/certstest"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain/chaintest"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/forward"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/forward/forwardtest"
)

const perChunk = 2000

// containerLogs are entries as Fluentd sends container logs: 300 bytes of line, with metadata.
func containerLogs(n int) []byte {
	records := make([]forwardtest.Record, n)
	for i := range records {
		records[i] = forwardtest.Record{Time: time.Now().Add(time.Duration(i)), Fields: map[string]any{
			"log":    fmt.Sprintf("%s level=info msg=\"request %d served\" path=/api/v1/things/%d %s", time.Now().Format(time.RFC3339Nano), i, i*7, bytes.Repeat([]byte("abcdefgh "), 20)),
			"stream": "stdout",
			"kubernetes": map[string]any{"namespace_name": "prod", "pod_name": fmt.Sprintf("web-%d", i%20), "container_name": "web", "host": "node-1",
				"labels": map[string]any{"app": "web"}},
		}}
	}
	return forwardtest.Entries(records...)
}

func BenchmarkReadMessage(b *testing.B) {
	entries := containerLogs(perChunk)
	limits := forward.Limits{MessageBytes: 64 << 20, DecompressedBytes: 64 << 20, Depth: 32}
	for name, message := range map[string][]byte{
		"packed":     forwardtest.Packed("kubernetes.x", "id", entries),
		"compressed": forwardtest.Compressed("kubernetes.x", "id", entries),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(entries)))
			b.ReportAllocs()
			for b.Loop() {
				_, err := forward.ReadMessage(bufio.NewReader(bytes.NewReader(message)), "umea", limits)
				require.NoError(b, err)
			}
			b.ReportMetric(float64(perChunk)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// BenchmarkForwardToChain is all of the gateway between a TLS socket and the stores, which are in memory: four connections
// send chunks and wait for their acknowledgements.
func BenchmarkForwardToChain(b *testing.B) {
	clients, doors := certstest.New(b, "clients"), certstest.New(b, "doors")
	folder, err := certs.Open(doors.Folder(b, "door", clients), time.Hour, nil)
	require.NoError(b, err)
	store := &chaintest.Store{}
	w, err := chain.New(chain.Options{
		Tenant: "umea", Store: store, Sink: chaintest.Discard{}, Retention: 24 * time.Hour, ObjectBytes: 16 << 20, MaxWait: 20 * time.Millisecond,
		BufferBytes: 64 << 20, RecentChunks: 100000, RecentObjects: 1000, MaxStreams: 2000, RetryMin: time.Second, RetryMax: time.Second,
		Timing: chain.Timing{MaxAge: 24 * time.Hour, MaxAhead: time.Hour, MaxBehind: time.Hour},
	})
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = w.Run(ctx) }()
	l, err := tls.Listen("tcp", "127.0.0.1:0", folder.Server())
	require.NoError(b, err)
	s := forward.New(forward.Options{
		Tenants: map[string]forward.Tenant{"umea": {Queue: w}}, Identify: certs.Tenant,
		Limits: forward.Limits{MessageBytes: 64 << 20, DecompressedBytes: 64 << 20, Depth: 32}, Connections: 8, Handshakes: 8, Readers: 4,
		HandshakeTimeout: 10 * time.Second, MessageTimeout: time.Minute, IdleTimeout: time.Minute, AckTimeout: time.Second, SubmitTimeout: time.Minute,
		Meter: &meter{refused: map[string]int{}}, Log: slog.New(slog.DiscardHandler),
	})
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	entries := containerLogs(perChunk)
	b.SetBytes(int64(len(entries)))

	work := make(chan int)
	var senders sync.WaitGroup
	for range 4 {
		c, err := forwardtest.Dial(l.Addr().String(), clients.Client(b, "umea", doors))
		require.NoError(b, err)
		senders.Go(func() {
			defer func() { _ = c.Close() }()
			for i := range work {
				id := fmt.Sprint(i)
				if err := c.Send(forwardtest.Packed("kubernetes.x", id, entries), id, time.Minute); err != nil {
					b.Error(err)
				}
			}
		})
	}
	n := 0
	for b.Loop() {
		work <- n
		n++
	}
	close(work)
	senders.Wait()
	b.ReportMetric(float64(perChunk)*float64(n)/b.Elapsed().Seconds(), "records/s")
	s.Stop()
	require.NoError(b, <-served)
	cancel()
	<-ended
	r, err := chain.Verify(context.Background(), store, chain.VerifyOptions{Tenant: "umea"})
	require.NoError(b, err)
	require.Empty(b, r.Findings)
	require.EqualValues(b, n*perChunk, r.Records)
}
