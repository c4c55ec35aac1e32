package loki_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
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
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/loki"
)

// standIn is not Loki: it takes push requests and refuses by the rules that Loki's source has, in its words.
type standIn struct {
	mu       sync.Mutex
	lines    map[string]bool // labels, time, text
	newest   map[string]time.Time
	requests int
	biggest  int
	next     []int // answers before anything is looked at
	maxLine  int
	poison   string
}

type entry struct {
	labels string
	at     time.Time
	text   string
}

func decode(t *testing.T, body []byte) []entry {
	t.Helper()
	var out []entry
	each := func(b []byte, f func(num protowire.Number, v []byte, n uint64)) {
		for len(b) > 0 {
			num, typ, n := protowire.ConsumeTag(b)
			require.Positive(t, n)
			b = b[n:]
			if typ == protowire.VarintType {
				v, n := protowire.ConsumeVarint(b)
				require.Positive(t, n)
				f(num, nil, v)
				b = b[n:]
				continue
			}
			v, n := protowire.ConsumeBytes(b)
			require.Positive(t, n)
			f(num, v, 0)
			b = b[n:]
		}
	}
	each(body, func(_ protowire.Number, stream []byte, _ uint64) {
		var labels string
		each(stream, func(num protowire.Number, v []byte, _ uint64) {
			if num == 1 {
				labels = string(v)
				return
			}
			e := entry{labels: labels}
			each(v, func(num protowire.Number, v []byte, _ uint64) {
				if num == 2 {
					e.text = string(v)
					return
				}
				var s, ns int64
				each(v, func(num protowire.Number, _ []byte, n uint64) {
					if num == 1 {
						s = int64(n)
					} else {
						ns = int64(n)
					}
				})
				e.at = time.Unix(s, ns)
			})
			out = append(out, e)
		})
	})
	return out
}

func (s *standIn) serve(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.requests++
		if len(s.next) > 0 {
			status := s.next[0]
			s.next = s.next[1:]
			w.Header().Set("Retry-After", "0")
			http.Error(w, "not now", status)
			return
		}
		if r.URL.Path != "/loki/api/v1/push" || r.Header.Get("X-Scope-OrgID") != "umea" || r.Header.Get("Content-Type") != "application/x-protobuf" {
			http.Error(w, "who?", http.StatusTeapot)
			return
		}
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		body, err := snappy.Decode(nil, raw)
		if !assert.NoError(t, err) {
			return
		}
		s.biggest = max(s.biggest, len(body))
		// One reason is told, what is good is taken.
		var reason string
		for _, e := range decode(t, body) {
			cutoff := s.newest[e.labels].Add(-time.Hour)
			switch {
			case len(e.text) > s.maxLine:
				reason = fmt.Sprintf("max entry size '%d' bytes exceeded for stream '%s' while adding an entry with length '%d' bytes", s.maxLine, e.labels, len(e.text))
			case s.poison != "" && strings.Contains(e.text, s.poison):
				reason = "poison"
			case e.at.Before(cutoff):
				reason = fmt.Sprintf("entry with timestamp %s ignored, reason: 'entry too far behind, entry timestamp is: %s, oldest acceptable timestamp is: %s',\n", e.at, e.at.Format(time.RFC3339), cutoff.Format(time.RFC3339))
			default:
				if e.at.After(s.newest[e.labels]) {
					s.newest[e.labels] = e.at
				}
				s.lines[fmt.Sprint(e.labels, " ", e.at.UnixNano(), " ", e.text)] = true
			}
		}
		if reason != "" {
			http.Error(w, reason, http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

type meter struct {
	mu       sync.Mutex
	adjusted map[string]int
}

func (m *meter) Pushed(string, int, time.Duration) {}
func (m *meter) Adjusted(_, how string, n int)     { m.mu.Lock(); m.adjusted[how] += n; m.mu.Unlock() }

func start(t *testing.T) (*standIn, *loki.Pusher, *meter) {
	t.Helper()
	ca := certstest.New(t, "service")
	folder, err := certs.Open(ca.Folder(t, "gateway", ca), time.Hour, nil)
	require.NoError(t, err)
	s := &standIn{lines: map[string]bool{}, newest: map[string]time.Time{}, maxLine: 8192}
	server := httptest.NewUnstartedServer(s.serve(t))
	server.TLS = folder.Server("http/1.1")
	server.Listener = tls.NewListener(server.Listener, server.TLS)
	server.Start()
	t.Cleanup(server.Close)
	m := &meter{adjusted: map[string]int{}}
	p := loki.New(loki.Options{URL: strings.Replace(server.URL, "http://", "https://", 1), Dial: folder.Dial, RequestBytes: 4096, LineBytes: 8192,
		Timeout: 5 * time.Second, RetryMin: time.Millisecond, RetryMax: 5 * time.Millisecond, Meter: m, Log: slog.New(slog.DiscardHandler)})
	return s, p, m
}

func object(created time.Time, entries ...chain.Entry) *chain.Object {
	return &chain.Object{Key: "umea/1", Entries: entries, Header: chain.Header{
		Tenant: "umea", Created: created, Streams: []chain.Labels{{Source: "a"}, {Source: `q"uote`, Pod: "p"}}}}
}

func at(stream int, when time.Time, text string) chain.Entry {
	return chain.Entry{Stream: stream, At: when.UnixNano(), Time: when.UnixNano(), Line: []byte(text)}
}

func (s *standIn) has(t *testing.T, labels string, when time.Time, text string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	assert.True(t, s.lines[fmt.Sprint(labels, " ", when.UnixNano(), " ", text)], "%s %v %s is not among\n%v", labels, when, text, s.lines)
}

func TestPush(t *testing.T) {
	t.Parallel()
	s, p, _ := start(t)
	now := time.Now()
	o := object(now, at(0, now, `{"m":1}`), at(1, now, `{"m":2}`))
	require.NoError(t, p.Push(t.Context(), o))
	require.NoError(t, p.Push(t.Context(), o), "again")
	s.has(t, `{cluster="umea", source="a"}`, now, `{"m":1}`)
	s.has(t, `{cluster="umea", pod="p", source="q\"uote"}`, now, `{"m":2}`)
	assert.Len(t, s.lines, 2)
}

func TestRequestsStaySmall(t *testing.T) {
	t.Parallel()
	s, p, _ := start(t)
	now := time.Now()
	var list []chain.Entry
	for i := range 500 {
		list = append(list, at(0, now.Add(time.Duration(i)), fmt.Sprintf(`{"m":%100d}`, i)))
	}
	require.NoError(t, p.Push(t.Context(), object(now, list...)))
	assert.Len(t, s.lines, 500)
	assert.LessOrEqual(t, s.biggest, 5000)
	assert.Greater(t, s.requests, 10)
}

func TestAnswersForNow(t *testing.T) {
	t.Parallel()
	for _, status := range []int{429, 500, 502, 503, 401, 403, 404} {
		s, p, _ := start(t)
		s.next = []int{status, status, status}
		require.NoError(t, p.Push(t.Context(), object(time.Now(), at(0, time.Now(), `{}`))))
		assert.Equal(t, 4, s.requests, status)
		assert.Len(t, s.lines, 1)
	}
	s, p, _ := start(t)
	for range 10000 {
		s.next = append(s.next, 503)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.Error(t, p.Push(ctx, object(time.Now(), at(0, time.Now(), `{}`))), "it ends with its context")
}

func TestTooFarBehind(t *testing.T) {
	t.Parallel()
	s, p, m := start(t)
	now := time.Now()
	require.NoError(t, p.Push(t.Context(), object(now, at(0, now, `{"m":"new"}`))))
	old := now.Add(-3 * time.Hour)
	o := object(now, at(1, old, `{"m":"other stream"}`), at(0, old, `{"m":"old"}`), at(0, now, `{"m":"fine"}`), at(0, old, `{"m":"old"}`))
	require.NoError(t, p.Push(t.Context(), o))
	require.NoError(t, p.Push(t.Context(), o), "again, as after a crash")
	text := `{"m":"old","original_time":"` + old.UTC().Format(time.RFC3339Nano) + `"}`
	s.has(t, `{cluster="umea", source="a"}`, now.Add(1), text)
	s.has(t, `{cluster="umea", source="a"}`, now.Add(3), text)
	s.has(t, `{cluster="umea", source="a"}`, now, `{"m":"fine"}`)
	s.has(t, `{cluster="umea", pod="p", source="q\"uote"}`, old, `{"m":"other stream"}`)
	assert.Len(t, s.lines, 5)
	assert.Equal(t, 4, m.adjusted["retimed"])
	assert.Zero(t, m.adjusted["left-out"])
}

func TestWhatTheWriterRetimedKeepsItsTime(t *testing.T) {
	t.Parallel()
	s, p, _ := start(t)
	now := time.Now()
	e := at(0, now, `{"m":1}`)
	e.Time = now.Add(-1000 * time.Hour).UnixNano()
	require.NoError(t, p.Push(t.Context(), object(now, e)))
	s.has(t, `{cluster="umea", source="a"}`, now, `{"m":1,"original_time":"`+time.Unix(0, e.Time).UTC().Format(time.RFC3339Nano)+`"}`)
}

func TestLongLinesAreCut(t *testing.T) {
	t.Parallel()
	s, p, m := start(t)
	now := time.Now()
	// Quotes double when they are quoted again.
	require.NoError(t, p.Push(t.Context(), object(now, at(0, now, `{"m":"`+strings.Repeat(`\"`, 10000)+`"}`))))
	require.Len(t, s.lines, 1)
	for l := range s.lines {
		text := l[strings.LastIndex(l, " {")+1:]
		var got map[string]string
		require.NoError(t, json.Unmarshal([]byte(text), &got))
		assert.Equal(t, "20008 bytes", got["truncated"])
		assert.Equal(t, "umea/1", got["object"])
		assert.Equal(t, "umea", got["tenant"])
	}
	assert.Equal(t, 1, m.adjusted["cut"])

	s.maxLine = 5000 // Loki takes less than the gateway was told
	require.NoError(t, p.Push(t.Context(), object(now, at(0, now, `{"m":"`+strings.Repeat(`x`, 7000)+`"}`), at(0, now, `{"m":"short"}`))))
	assert.Len(t, s.lines, 3)
}

func TestWhatIsRefusedForGoodBlocksNothing(t *testing.T) {
	t.Parallel()
	s, p, m := start(t)
	s.poison = "poison"
	now := time.Now()
	var list []chain.Entry
	for i := range 20 {
		text := fmt.Sprintf(`{"m":%d}`, i)
		if i == 13 {
			text = `{"m":"poison"}`
		}
		list = append(list, at(0, now.Add(time.Duration(i)), text))
	}
	require.NoError(t, p.Push(t.Context(), object(now, list...)))
	assert.Len(t, s.lines, 19)
	assert.Equal(t, 1, m.adjusted["left-out"])
}
