package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/forward/forwardtest"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/loki"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/store"
)

// amount is what was delivered. Bytes are those of the records' JSON, whatever they travelled as.
type amount struct{ records, bytes, parts int64 }

// load is one way of delivering records. send delivers one part, as worker w, and returns when the other side has
// acknowledged it. check says whether all that was acknowledged is there.
type load interface {
	send(ctx context.Context, w int) (amount, error)
	check(ctx context.Context, all amount) error
}

// contender is a way of delivering records, and what must run for it.
type contender struct {
	name    string
	servers []string
	open    func(*site, *source, int) (load, error)
}

func contenders(o options) []contender {
	through := func(name string, compressed bool) contender {
		return contender{name, []string{lokiName, storeName, gatewayName}, func(s *site, src *source, n int) (load, error) {
			return newForwarding(s, src, n, o.chunk, compressed)
		}}
	}
	put := func(name string, compressed bool) contender {
		return contender{name, []string{storeName}, func(s *site, src *source, n int) (load, error) { return newPutting(s, src, n, compressed) }}
	}
	return []contender{
		through("gateway, PackedForward", false), through("gateway, CompressedPackedForward", true),
		{"plain Loki push", []string{lokiName}, func(s *site, src *source, n int) (load, error) { return newPushing(s, src, n), nil }},
		put("plain S3 PUT", false), put("plain S3 PUT, zstd", true),
	}
}

// source gives out records, each once.
type source struct {
	*stock
	number, place atomic.Int64
	// objectBytes is how big the gateway's objects are, before compression.
	objectBytes int64
}

// take is the next n records that fit to what follows: where they begin, and the number of the first.
func (s *source) take(n int) (begin int, first int64) {
	end := s.place.Add(int64(n))
	return int((end - int64(n)) % int64(stockRecords-n)), s.number.Add(int64(n)) - int64(n)
}

// ackTimeout is how long a part may take; nothing is sent twice here.
const ackTimeout = 2 * time.Minute

// forwarding sends to the gateway as Fluentd does: each connection has one chunk under way.
type forwarding struct {
	*site
	*source
	clients    []*forwardtest.Client
	buffers    [][]byte
	chunk      int
	compressed bool
	chunks     atomic.Int64
}

func newForwarding(s *site, src *source, n, chunk int, compressed bool) (*forwarding, error) {
	f := &forwarding{site: s, source: src, chunk: chunk, compressed: compressed, buffers: make([][]byte, n)}
	for range n {
		c, err := forwardtest.Dial(s.forward, s.client)
		if err != nil {
			return nil, err
		}
		f.clients = append(f.clients, c)
	}
	return f, nil
}

func (f *forwarding) send(_ context.Context, w int) (amount, error) {
	begin, first := f.take(f.chunk)
	f.buffers[w] = f.entries.write(f.buffers[w][:0], begin, f.chunk, first, time.Now())
	id := fmt.Sprintf("%032x", f.chunks.Add(1))
	var message []byte
	if f.compressed {
		message = forwardtest.Compressed(tag, id, f.buffers[w])
	} else {
		message = forwardtest.Packed(tag, id, f.buffers[w])
	}
	if err := f.clients[w].Send(message, id, ackTimeout); err != nil {
		return amount{}, fmt.Errorf("chunk %s: %w", id, err)
	}
	return amount{int64(f.chunk), f.texts.size(begin, f.chunk), 1}, nil
}

func (f *forwarding) check(ctx context.Context, all amount) error {
	for _, c := range f.clients {
		if err := c.Close(); err != nil {
			return err
		}
	}
	b, err := f.bucket()
	if err != nil {
		return err
	}
	r, err := chain.Verify(ctx, b, chain.VerifyOptions{Tenant: tenant, MinRetention: time.Duration(f.gateway.Chain.Retention) - time.Minute})
	if err != nil {
		return fmt.Errorf("verify the chain: %w", err)
	}
	if !r.OK() {
		return fmt.Errorf("the chain has %d findings; the first: %s", len(r.Findings)+r.Dropped, r.Findings[0])
	}
	if r.Records != all.records || r.Chunks != all.parts {
		return fmt.Errorf("the chain has %d records in %d chunks, acknowledged were %d in %d", r.Records, r.Chunks, all.records, all.parts)
	}
	text, err := f.get(ctx, f.telemetry)
	if err != nil {
		return err
	}
	// what held it up was no part of the measurement
	for _, name := range []string{"chain_retries_total", "chain_conflicts_total", "chain_repeated_chunks_total", "loki_adjusted_total", "refused_total"} {
		if n := sample(text, name, ""); n != 0 {
			return fmt.Errorf("the gateway counts %s = %v, expected none", name, n)
		}
	}
	if n := sample(text, "loki_requests_total", "") - sample(text, "loki_requests_total", `status="204"`); n != 0 {
		return fmt.Errorf("Loki refused %v requests of the gateway: this measures its limits", n)
	}
	return f.inLoki(ctx, all.records)
}

// objects are the means of the objects that the gateway has written: records, bytes before and after compression.
func (f *forwarding) objects(ctx context.Context) (records, plain, stored float64, err error) {
	text, err := f.get(ctx, f.telemetry)
	n := sample(text, "chain_objects_total", "")
	if n == 0 {
		return 0, 0, 0, errors.Join(err, errors.New("the gateway counts no objects"))
	}
	return sample(text, "chain_records_total", "") / n, sample(text, "chain_plain_bytes_total", "") / n, sample(text, "chain_stored_bytes_total", "") / n, err
}

// sample is the sum of a metric of the gateway over all its labels, or over those with one of them.
func sample(text, name, label string) float64 {
	sum := 0.0
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, "ingest_gateway_"+name)
		if !ok || rest[0] != '{' && rest[0] != ' ' || !strings.Contains(rest, label) {
			continue
		}
		value := rest[strings.LastIndexByte(rest, ' ')+1:]
		if v, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil {
			sum += v
		}
	}
	return sum
}

// inLoki counts the records that Loki finds.
func (s *site) inLoki(ctx context.Context, want int64) error {
	query := url.Values{"query": {fmt.Sprintf(`sum(count_over_time({cluster=%q}[2h]))`, tenant)}, "time": {strconv.FormatInt(time.Now().Add(time.Minute).Unix(), 10)}}
	text, err := s.get(ctx, s.lokiURL+"/loki/api/v1/query?"+query.Encode())
	if err != nil {
		return err
	}
	var answer struct {
		Data struct{ Result []struct{ Value [2]any } }
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		return fmt.Errorf("Loki's answer: %w", err)
	}
	found := "0"
	if r := answer.Data.Result; len(r) == 1 {
		found = fmt.Sprint(r[0].Value[1])
	}
	if found != strconv.FormatInt(want, 10) {
		return fmt.Errorf("Loki finds %s records, acknowledged were %d", found, want)
	}
	return nil
}

// pushing sends to Loki what the gateway sends, in requests of the same size, without it.
type pushing struct {
	*site
	*source
	pusher  *loki.Pusher
	buffers [][]byte
	limit   int64
	refused atomic.Int64
}

// perLine is what loki.Pusher reckons for a line beside its text.
const perLine = 24

func newPushing(s *site, src *source, n int) *pushing {
	p := &pushing{site: s, source: src, buffers: make([][]byte, n), limit: int64(s.gateway.Loki.RequestBytes)}
	p.pusher = loki.New(loki.Options{
		URL: s.lokiURL, Dial: s.internal.Dial, RequestBytes: int(p.limit), LineBytes: int(s.gateway.Loki.LineBytes), Timeout: ackTimeout,
		RetryMin: time.Second, RetryMax: time.Second, Meter: p, Log: slog.New(slog.DiscardHandler),
	})
	return p
}

// Pushed implements loki.Meter.
func (p *pushing) Pushed(_ string, status int, _ time.Duration) {
	if status/100 != 2 {
		p.refused.Add(1)
	}
}

// Adjusted implements loki.Meter.
func (p *pushing) Adjusted(_, _ string, n int) { p.refused.Add(int64(n)) }

func (p *pushing) send(ctx context.Context, w int) (amount, error) {
	place := int(p.place.Load() % stockRecords / 2) // about as many fit wherever they begin
	n := p.texts.fitting(place, p.limit*99/100, perLine)
	begin, first := p.take(n)
	now := time.Now()
	text := p.texts.write(p.buffers[w][:0], begin, n, first, now)
	p.buffers[w] = text
	o := &chain.Object{Header: chain.Header{Tenant: tenant, Streams: p.streams, Created: now}, Entries: make([]chain.Entry, n)}
	at := 0
	for i := range n {
		size := int(p.texts.size(begin+i, 1))
		t := now.Add(time.Duration(i) * time.Microsecond).UnixNano()
		o.Entries[i] = chain.Entry{Stream: p.stream[begin+i], At: t, Time: t, Line: text[at : at+size]}
		at += size
	}
	if err := p.pusher.Push(ctx, o); err != nil {
		return amount{}, err
	}
	if bad := p.refused.Load(); bad > 0 {
		return amount{}, fmt.Errorf("Loki refused %d requests or lines: this measures its limits", bad)
	}
	return amount{int64(n), int64(len(text)), 1}, nil
}

func (p *pushing) check(ctx context.Context, all amount) error { return p.inLoki(ctx, all.records) }

// putting stores objects as the gateway does, with the same request, without anything around it.
type putting struct {
	*site
	*source
	bucket  *store.S3
	buffers [][]byte
	encoder []*zstd.Encoder // of each worker; empty: objects as they are
	objects atomic.Uint64
	stored  atomic.Int64
}

func newPutting(s *site, src *source, n int, compressed bool) (*putting, error) {
	p := &putting{site: s, source: src, buffers: make([][]byte, n)}
	for range n {
		if !compressed {
			break
		}
		// as chain.New
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true))
		if err != nil {
			return nil, err
		}
		p.encoder = append(p.encoder, e)
	}
	var err error
	p.bucket, err = s.bucket()
	return p, err
}

func (p *putting) until() time.Time {
	return time.Now().Add(time.Duration(p.gateway.Chain.Retention)).Truncate(time.Second)
}

func (p *putting) send(ctx context.Context, w int) (amount, error) {
	n := p.lines.fitting(int(p.place.Load()%stockRecords/2), p.objectBytes, 0)
	begin, first := p.take(n)
	p.buffers[w] = p.lines.write(p.buffers[w][:0], begin, n, first, time.Now())
	body := p.buffers[w]
	if p.encoder != nil {
		body = p.encoder[w].EncodeAll(body, nil)
	}
	if err := p.bucket.Put(ctx, chain.Key(tenant, p.objects.Add(1)), body, p.until()); err != nil {
		return amount{}, err
	}
	p.stored.Add(int64(len(body)))
	return amount{int64(n), p.texts.size(begin, n), 1}, nil
}

// check finds all objects, whole and under their lock.
func (p *putting) check(ctx context.Context, all amount) error {
	var n, bytes int64
	for v, err := range p.bucket.Versions(ctx, chain.Prefix(tenant)) {
		if err != nil {
			return err
		}
		info, err := p.bucket.Head(ctx, v.Key)
		if err != nil {
			return err
		}
		if info.Mode != chain.ModeCompliance || info.RetainUntil.Before(p.until().Add(-time.Hour)) {
			return fmt.Errorf("object %s is locked by %q until %s", v.Key, info.Mode, info.RetainUntil)
		}
		n++
		bytes += v.Size
	}
	if n != all.parts || bytes != p.stored.Load() {
		return fmt.Errorf("the bucket has %d objects of %d bytes together, acknowledged were %d of %d", n, bytes, all.parts, p.stored.Load())
	}
	return nil
}
