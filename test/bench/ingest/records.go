package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/tinylib/msgp/msgp"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/forward/forwardtest"
)

const (
	tenant = "umea"
	tag    = "containers" // as the fluentd chart tags them
	// stockRecords are made before anything is measured; a record is one of them with its own number and time. They are about
	// 12 MB, more than any compressor looks back.
	stockRecords = 32 << 10
	pods, nodes  = 24, 4
	// digits is how long a record's number is, nanoDigits a time in nanoseconds since 1970.
	digits, nanoDigits = 12, 19
)

// stock holds the same records in the three forms that the contenders need: what Fluentd sends, the JSON that the gateway
// makes of it and files in Loki, and the line that it writes into an object.
type stock struct {
	entries, texts, lines form
	streams               []chain.Labels
	stream                []int // of each record
}

// form is all records, one behind the other, in one form.
type form struct {
	text []byte
	from []int // where each record begins, and the end
	// number is where each record's number stands, seen from its beginning, and time where its time does.
	number, time []int
	stamp        func(at []byte, t time.Time) // writes a time; nil: the form has none
}

// newStock makes records as the fluentd chart makes them of container logs: a line of 100 to 250 bytes as services write
// them, beside the names of who wrote it. They are the same each time.
func newStock() (*stock, error) {
	random := rand.New(rand.NewPCG(1, 2))
	s := &stock{
		entries: form{stamp: func(at []byte, t time.Time) {
			binary.BigEndian.PutUint32(at, uint32(t.Unix()))
			binary.BigEndian.PutUint32(at[4:], uint32(t.Nanosecond()))
		}},
		lines: form{stamp: func(at []byte, t time.Time) { copy(at, strconv.FormatInt(t.UnixNano(), 10)) }},
	}
	uids := make([]string, pods)
	for i := range pods {
		s.streams = append(s.streams, chain.Labels{
			Source: tag, Namespace: []string{"shop", "billing", "search"}[i%3], Container: []string{"web", "worker"}[i%2],
			Pod: fmt.Sprintf("%s-%08x-%05x", []string{"api", "cart", "ledger", "index"}[i%4], random.Uint32(), random.Uint32N(1<<20)), Node: fmt.Sprintf("node-%d", i%nodes+1),
		})
		uids[i] = fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", random.Uint32(), random.Uint32N(1<<16), random.Uint32N(1<<12), random.Uint32N(1<<12), random.Uint64N(1<<48))
	}
	placeholder := bytes.Repeat([]byte("0"), digits)
	for range stockRecords {
		i := random.IntN(pods)
		l := s.streams[i]
		fields := [][2]string{
			{"stream", []string{"stdout", "stderr"}[i%2]}, {"logtag", "F"}, {"message", logLine(random) + " request=" + string(placeholder)},
			{"namespace", l.Namespace}, {"pod", l.Pod}, {"pod_uid", uids[i]}, {"container", l.Container}, {"node", l.Node},
		}
		var entry []byte
		entry = forwardtest.EventTime(msgp.AppendArrayHeader(entry, 2), time.Time{})
		entry = msgp.AppendMapHeader(entry, uint32(len(fields)))
		text := []byte("{")
		for _, f := range append(fields, [2]string{"cluster", tenant}, [2]string{"tenant", tenant}) {
			quoted, err := json.Marshal(f[1])
			if err != nil {
				return nil, err
			}
			text = fmt.Appendf(text, "%q:%s,", f[0], quoted)
		}
		for _, f := range fields {
			entry = msgp.AppendString(msgp.AppendString(entry, f[0]), f[1])
		}
		text[len(text)-1] = '}'
		const before = `{"ts":"`
		line := fmt.Appendf(nil, `%s%0*d","tag":%q,"stream":%d,"record":%s}`+"\n", before, nanoDigits, 0, tag, i, text)
		s.entries.add(entry, placeholder, 3)
		s.texts.add(text, placeholder, 0)
		s.lines.add(line, placeholder, len(before))
		s.stream = append(s.stream, i)
	}
	return s, nil
}

// add appends a record. Its number is the last place with so many zeros: what stands before in a line is its time.
func (f *form) add(record, number []byte, timeAt int) {
	if f.from == nil {
		f.from = []int{0}
	}
	f.text = append(f.text, record...)
	f.from = append(f.from, len(f.text))
	f.number = append(f.number, bytes.LastIndex(record, number))
	f.time = append(f.time, timeAt)
}

// write puts n records, beginning with number begin, behind dst: with numbers from first on, a microsecond apart from t on.
func (f *form) write(dst []byte, begin, n int, first int64, t time.Time) []byte {
	dst = append(dst, f.text[f.from[begin]:f.from[begin+n]]...)
	out := dst[len(dst)-(f.from[begin+n]-f.from[begin]):]
	for i := range n {
		record := out[f.from[begin+i]-f.from[begin]:]
		number := record[f.number[begin+i]:][:digits]
		for d, v := digits-1, first+int64(i); d >= 0; d, v = d-1, v/10 {
			number[d] = byte('0' + v%10)
		}
		if f.stamp != nil {
			f.stamp(record[f.time[begin+i]:], t.Add(time.Duration(i)*time.Microsecond))
		}
	}
	return dst
}

// size is how many bytes n records from begin on are in this form.
func (f *form) size(begin, n int) int64 { return int64(f.from[begin+n] - f.from[begin]) }

// fitting is how many records from begin on are at most limit bytes, with more bytes for each; at least one.
func (f *form) fitting(begin int, limit, more int64) int {
	n := 1
	for begin+n < stockRecords && f.size(begin, n+1)+int64(n+1)*more <= limit {
		n++
	}
	return n
}

func logLine(r *rand.Rand) string {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	at := fmt.Sprintf("2026-11-%02dT%02d:%02d:%02d.%06dZ", 1+r.IntN(30), r.IntN(24), r.IntN(60), r.IntN(60), r.IntN(1000000))
	path := pick("/api/v1/orders/", "/api/v1/customers/", "/search/", "/static/assets/", "/api/v2/invoices/") + fmt.Sprintf("%08x", r.Uint32())
	switch r.IntN(4) {
	case 0:
		return fmt.Sprintf(`10.%d.%d.%d - - [%s] "%s %s HTTP/1.1" %s %d "-" "%s"`, r.IntN(256), r.IntN(256), r.IntN(256), at, pick("GET", "GET", "POST", "PUT"),
			path, pick("200", "200", "200", "304", "404", "500"), r.IntN(100000), pick("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "curl/8.5.0", "kube-probe/1.37"))
	case 1:
		return fmt.Sprintf(`{"level":"%s","ts":"%s","caller":"server/handler.go:%d","msg":"%s","path":"%s","took":"%d.%03dms","trace":"%016x%016x"}`,
			pick("info", "info", "warn", "error"), at, r.IntN(500), pick("request served", "cache miss", "retrying upstream", "order stored"), path, r.IntN(900), r.IntN(1000), r.Uint64(), r.Uint64())
	case 2:
		return fmt.Sprintf("%s %s [worker-%d] com.example.%s - %s id=%d customer=%d attempt=%d", at, pick("INFO ", "WARN ", "DEBUG"), r.IntN(16),
			pick("orders.OrderService", "billing.LedgerWriter", "search.IndexUpdater"), pick("finished batch of the queue", "took a lock on the row and went on", "will try once more after the pause"),
			r.IntN(10000000), r.IntN(100000), r.IntN(5))
	default:
		return fmt.Sprintf("level=%s ts=%s component=%s msg=\"%s\" duration=%dms bytes=%d peer=10.%d.%d.%d:%d", pick("info", "debug", "warn"), at,
			pick("scheduler", "replicator", "gossip", "compactor"), pick("finished", "connection closed by the other side", "skipped: nothing has changed", "snapshot written"),
			r.IntN(5000), r.IntN(1000000), r.IntN(256), r.IntN(256), r.IntN(256), 1024+r.IntN(60000))
	}
}
