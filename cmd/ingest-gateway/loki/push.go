// Package loki pushes the records of stored objects to Loki, until it has them.
//
// It is made so that nothing a record says can block a chain for ever: what Loki refuses for its time is filed under the
// time of receipt, what it refuses for its length is cut (the object has all of it), and what it refuses all the same is
// left out and counted. What Loki refuses for now (429, 5xx, no answer, a wrong certificate) is sent again for ever.
package loki

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/snappy"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain"
)

// Options are a pusher's.
type Options struct {
	// URL is Loki's, without a path.
	URL string
	// Dial opens TLS connections.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// RequestBytes is about how big one request may be, decompressed. It must be less than Loki's ingestion_burst_size, or
	// Loki answers 429 for ever.
	RequestBytes int
	// LineBytes is the longest line that Loki takes (max_line_size).
	LineBytes int
	// Timeout bounds one request.
	Timeout time.Duration
	// RetryMin and RetryMax bound the pause before a request is sent again.
	RetryMin, RetryMax time.Duration
	Meter              Meter
	Log                *slog.Logger
}

// Meter is told what a pusher does.
type Meter interface {
	// Pushed tells how one request was answered: an HTTP status, or 0 for no answer.
	Pushed(tenant string, status int, took time.Duration)
	// Adjusted counts lines that were changed for Loki: retimed, cut or left-out.
	Adjusted(tenant, how string, n int)
}

// Pusher is a chain.Sink.
type Pusher struct {
	opt  Options
	http *http.Client
	url  string
}

// New makes a pusher; it does not connect.
func New(opt Options) *Pusher {
	return &Pusher{opt: opt, url: strings.TrimRight(opt.URL, "/") + "/loki/api/v1/push", http: &http.Client{
		Timeout:   opt.Timeout,
		Transport: &http.Transport{DialTLSContext: opt.Dial, MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute},
		// Whatever Loki is behind, another place is not what was configured.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// line is an entry on its way to Loki.
type line struct {
	stream  int
	at      int64
	text    []byte
	place   int // in the object
	retimed bool
	cut     bool
}

// batch is what one request holds.
type batch struct {
	object *chain.Object
	labels []string // of each stream
	lines  []line
}

// Push implements chain.Sink. It blocks until Loki has the entries or ctx ends.
func (p *Pusher) Push(ctx context.Context, o *chain.Object) error {
	labels := make([]string, len(o.Header.Streams))
	for i, l := range o.Header.Streams {
		labels[i] = labelString(o.Header.Tenant, l)
	}
	b := batch{object: o, labels: labels}
	size := 0
	for i, e := range o.Entries {
		l := line{stream: e.Stream, at: e.At, text: e.Line, place: i}
		if d := e.At - e.Time; d < 0 || d >= int64(time.Millisecond) {
			l = p.withOriginal(o, l, e.Time)
			p.opt.Meter.Adjusted(o.Header.Tenant, "retimed", 1)
		}
		if len(l.text) > p.opt.LineBytes {
			l = p.cut(o, l)
		}
		if size += len(l.text) + lineOverhead; size > p.opt.RequestBytes && len(b.lines) > 0 {
			if err := p.deliver(ctx, b); err != nil {
				return err
			}
			b.lines, size = nil, len(l.text)+lineOverhead
		}
		b.lines = append(b.lines, l)
	}
	if len(b.lines) == 0 {
		return nil
	}
	return p.deliver(ctx, b)
}

// lineOverhead is what a line costs in a request beside its text: timestamp and tags.
const lineOverhead = 24

// withOriginal keeps the client's time in a line that is filed under another.
func (p *Pusher) withOriginal(_ *chain.Object, l line, own int64) line {
	l.retimed = true
	if n := len(l.text); n > 1 && l.text[n-1] == '}' {
		text := append(make([]byte, 0, n+64), l.text[:n-1]...)
		text = append(text, `,"original_time":"`...)
		text = time.Unix(0, own).UTC().AppendFormat(text, time.RFC3339Nano)
		l.text = append(text, '"', '}')
	}
	return l
}

// cut makes a line that Loki takes of one that is too long: its beginning, and where the rest is.
func (p *Pusher) cut(o *chain.Object, l line) line {
	whole := l.text
	for room := p.opt.LineBytes - 1024; ; room /= 2 {
		text, err := json.Marshal(map[string]string{
			"cluster": o.Header.Tenant, "tenant": o.Header.Tenant, "object": o.Key, "truncated": strconv.Itoa(len(whole)) + " bytes",
			"head": string(whole[:max(0, min(room, len(whole)))]),
		})
		if err != nil || len(text) <= p.opt.LineBytes || room <= 0 {
			l.text, l.cut = text, true
			p.opt.Meter.Adjusted(o.Header.Tenant, "cut", 1)
			return l
		}
	}
}

func labelString(tenant string, l chain.Labels) string {
	var b strings.Builder
	b.WriteString("{cluster=")
	b.WriteString(strconv.Quote(tenant))
	for _, pair := range [][2]string{{"container", l.Container}, {"namespace", l.Namespace}, {"node", l.Node}, {"pod", l.Pod}, {"source", l.Source}} {
		if pair[1] != "" {
			b.WriteString(", " + pair[0] + "=" + strconv.Quote(pair[1]))
		}
	}
	b.WriteString("}")
	return b.String()
}

// deliver sends a batch until Loki has what it will ever take of it.
func (p *Pusher) deliver(ctx context.Context, b batch) error {
	status, answer, err := p.send(ctx, b)
	if err != nil {
		return err
	}
	if status < 300 {
		return nil
	}
	// Loki takes what is good and refuses the rest, but says of one stream only which that was. What it took is sent again:
	// it shows an entry with the same labels, time and text once.
	if streams := split(b); len(streams) > 1 {
		return p.each(ctx, streams)
	}
	if again, n := retime(b, answer); n > 0 {
		p.opt.Meter.Adjusted(b.object.Header.Tenant, "retimed", n)
		return p.deliver(ctx, again)
	}
	if n := len(b.lines); n > 1 {
		first, second := b, b
		first.lines, second.lines = b.lines[:n/2:n/2], b.lines[n/2:]
		return p.each(ctx, []batch{first, second})
	}
	return p.single(ctx, b, status, answer)
}

func (p *Pusher) each(ctx context.Context, batches []batch) error {
	for _, b := range batches {
		if err := p.deliver(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// single does what it can for one line that Loki refuses.
func (p *Pusher) single(ctx context.Context, b batch, status int, answer string) error {
	l := b.lines[0]
	if !l.retimed {
		b.lines = []line{asReceived(b, l)}
		return p.deliver(ctx, b)
	}
	if !l.cut {
		own := *p
		own.opt.LineBytes = min(p.opt.LineBytes, 4096)
		b.lines = []line{own.cut(b.object, l)}
		return p.deliver(ctx, b)
	}
	p.opt.Meter.Adjusted(b.object.Header.Tenant, "left-out", 1)
	p.opt.Log.Error("loki: refuses a record for good; it is only in the object", "tenant", b.object.Header.Tenant,
		"object", b.object.Key, "record", l.place+1, "status", status, "answer", answer)
	return nil
}

func asReceived(b batch, l line) line {
	e := b.object.Entries[l.place]
	if !l.cut {
		l = (*Pusher)(nil).withOriginal(b.object, l, e.Time)
	}
	l.retimed = true
	l.at = b.object.Header.Created.UnixNano() + int64(l.place)
	return l
}

// split makes a batch for each stream.
func split(b batch) []batch {
	index := map[int]int{}
	var out []batch
	for _, l := range b.lines {
		i, ok := index[l.stream]
		if !ok {
			i = len(out)
			index[l.stream] = i
			out = append(out, batch{object: b.object, labels: b.labels})
		}
		out[i].lines = append(out[i].lines, l)
	}
	return out
}

// oldest is in Loki's answer to entries that are too old, or too far behind their stream.
var oldest = regexp.MustCompile(`oldest acceptable timestamp is: (\d{4}-\d\d-\d\dT[0-9:]+(?:Z|[+-]\d\d:\d\d))`)

// retime files what Loki calls too old under the time of receipt; n counts those. The answer is about a batch of one
// stream.
func retime(b batch, answer string) (again batch, n int) {
	found := oldest.FindStringSubmatch(answer)
	if found == nil {
		return b, 0
	}
	limit, err := time.Parse(time.RFC3339, found[1])
	if err != nil {
		return b, 0
	}
	again = b
	again.lines = slices.Clone(b.lines)
	for i, l := range again.lines {
		// The answer has whole seconds.
		if !l.retimed && l.at < limit.Add(time.Second).UnixNano() {
			again.lines[i] = asReceived(b, l)
			n++
		}
	}
	return again, n
}

// send posts a batch until there is an answer that is about the entries.
func (p *Pusher) send(ctx context.Context, b batch) (status int, answer string, err error) {
	body := encode(b)
	pause := p.opt.RetryMin
	for {
		begin := time.Now()
		status, answer, after, err := p.post(ctx, b.object.Header.Tenant, body)
		if ctx.Err() != nil {
			return 0, "", ctx.Err()
		}
		p.opt.Meter.Pushed(b.object.Header.Tenant, status, time.Since(begin))
		if err == nil && !passing(status) {
			return status, answer, nil
		}
		if err == nil {
			err = fmt.Errorf("status %d: %s", status, answer)
		}
		wait := min(max(pause, after), max(p.opt.RetryMax, pause))
		p.opt.Log.Warn("loki: will try again", "tenant", b.object.Header.Tenant, "pause", wait.String(), "error", err.Error())
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return 0, "", ctx.Err()
		case <-timer.C:
		}
		pause = min(2*pause, p.opt.RetryMax)
	}
}

// passing says that an answer is not about the entries: it may be another one later. What is about the entries are 400
// (time, labels, length), 413 and 422.
func passing(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return false
	}
	return status >= 300
}

func (p *Pusher) post(ctx context.Context, tenant string, body []byte) (status int, answer string, after time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return 0, "", 0, err
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("X-Scope-OrgID", tenant)
	resp, err := p.http.Do(req)
	if err != nil {
		return 0, "", 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 16<<10))
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, "", 0, err
	}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		after = time.Duration(s) * time.Second
	}
	return resp.StatusCode, strings.TrimSpace(string(text)), after, nil
}

// encode makes a push request: protobuf, compressed with snappy. Its messages are
// PushRequest{streams=1}, Stream{labels=1, entries=2}, Entry{timestamp=1{seconds=1, nanos=2}, line=2}.
func encode(b batch) []byte {
	var out, stream, entry, stamp []byte
	for _, s := range split(b) {
		stream = protowire.AppendTag(stream[:0], 1, protowire.BytesType)
		stream = protowire.AppendString(stream, b.labels[s.lines[0].stream])
		for _, l := range s.lines {
			stamp = protowire.AppendTag(stamp[:0], 1, protowire.VarintType)
			stamp = protowire.AppendVarint(stamp, uint64(floorDiv(l.at, int64(time.Second))))
			stamp = protowire.AppendTag(stamp, 2, protowire.VarintType)
			stamp = protowire.AppendVarint(stamp, uint64(l.at-floorDiv(l.at, int64(time.Second))*int64(time.Second)))
			entry = protowire.AppendTag(entry[:0], 1, protowire.BytesType)
			entry = protowire.AppendBytes(entry, stamp)
			entry = protowire.AppendTag(entry, 2, protowire.BytesType)
			entry = protowire.AppendBytes(entry, l.text)
			stream = protowire.AppendTag(stream, 2, protowire.BytesType)
			stream = protowire.AppendBytes(stream, entry)
		}
		out = protowire.AppendTag(out, 1, protowire.BytesType)
		out = protowire.AppendBytes(out, stream)
	}
	return snappy.Encode(nil, out)
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
