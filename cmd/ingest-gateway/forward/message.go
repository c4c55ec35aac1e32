package forward

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
	"unicode/utf8"

	"github.com/klauspost/compress/gzip"
	"github.com/tinylib/msgp/msgp"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain"
)

// Limits bound what one message can cost.
type Limits struct {
	// MessageBytes is the longest message, as it comes.
	MessageBytes int64
	// DecompressedBytes is the most that its entries may decompress to.
	DecompressedBytes int64
	// Depth is how deep records nest; what is deeper is kept as base64 of its MessagePack.
	Depth int
}

const (
	// maxID and maxTag bound strings that are kept for long, in bytes. Fluentd's IDs have 24.
	maxID  = 256
	maxTag = 1024
	// minRecord is the mean size of the smallest records that are worth a name, in bytes: a message has no more of them
	// than fit at this size. A record costs far more memory than three bytes of MessagePack.
	minRecord = 32
	// maxStreamsPerChunk bounds the label sets of one chunk; the writer bounds those of the tenant.
	maxStreamsPerChunk = 10000
)

// Refusal is an error about what the client sent. It is for good: the same message will be refused again.
type Refusal struct {
	// Reason is one of a fixed few, for metrics.
	Reason string
	Err    error
}

func (r *Refusal) Error() string { return r.Reason + ": " + r.Err.Error() }

func (r *Refusal) Unwrap() error { return r.Err }

func refuse(reason string, err error) error { return &Refusal{Reason: reason, Err: err} }

// refusalOf sorts the errors of frame.go and of msgp.
func refusalOf(err error) error {
	var known *Refusal
	switch {
	case err == nil || errors.As(err, &known):
		return err
	case errors.Is(err, errTooBig):
		return refuse("message-too-big", err)
	case errors.Is(err, errTooDeep):
		return refuse("nesting-too-deep", err)
	default:
		return refuse("malformed", err)
	}
}

// Message is one message of a client.
type Message struct {
	Chunk *chain.Chunk
	// Mode is one of Message, Forward, PackedForward and CompressedPackedForward.
	Mode string
	// WireBytes is its length as it came.
	WireBytes int
	// Spoofed counts the records that claimed another tenant or cluster than the certificate's.
	Spoofed int
}

// ReadMessage reads the next message. io.EOF says that the client is done, a *Refusal that it sent something wrong; other
// errors are the connection's.
func ReadMessage(r *bufio.Reader, tenant string, limits Limits) (*Message, error) {
	raw, err := readValue(r, nil, uint64(limits.MessageBytes))
	switch {
	case err == nil:
		return parse(raw, tenant, limits)
	case errors.Is(err, errTooBig) || errors.Is(err, errTooDeep) || errors.Is(err, errSyntax):
		return nil, refusalOf(err)
	default:
		return nil, err
	}
}

// parser reads one message.
type parser struct {
	limits Limits
	rec    recorder
	chunk  *chain.Chunk
	index  map[chain.Labels]int32
}

// parse reads [tag, time, record, option?], [tag, [[time, record]...], option?] or [tag, packed entries, option?].
func parse(raw []byte, tenant string, limits Limits) (*Message, error) {
	n, b, err := msgp.ReadArrayHeaderBytes(raw)
	if err != nil || n < 2 || n > 4 {
		return nil, refuse("malformed", errors.New("a message is an array of 2 to 4 parts"))
	}
	tag, b, err := text(b)
	if err != nil {
		return nil, refusalOf(fmt.Errorf("tag: %w", err))
	}
	if len(tag) > maxTag {
		return nil, refuse("tag-too-long", fmt.Errorf("%d bytes", len(tag)))
	}
	parts := make([][]byte, n-1)
	for i := range parts {
		size, err := valueSize(b)
		if err != nil {
			return nil, refusalOf(err)
		}
		parts[i], b = b[:size], b[size:]
	}
	p := &parser{
		limits: limits,
		chunk:  &chain.Chunk{Tag: clean(tag, maxTag)},
		index:  map[chain.Labels]int32{},
		rec:    recorder{tenant: appendString(nil, []byte(tenant)), name: tenant, depth: limits.Depth, source: source(tag)},
	}
	m := &Message{Chunk: p.chunk, WireBytes: len(raw)}
	if err := p.parts(m, parts); err != nil {
		return nil, refusalOf(err)
	}
	m.Spoofed = p.rec.spoofed
	return m, nil
}

func (p *parser) parts(m *Message, parts [][]byte) error {
	kind := msgp.NextType(parts[0])
	body := parts[:1]
	if kind != msgp.ArrayType && kind != msgp.BinType && kind != msgp.StrType {
		body = parts[:min(2, len(parts))]
	}
	rest := parts[len(body):]
	if len(rest) > 1 {
		return errors.New("a part too many")
	}
	var opt option
	if len(rest) == 1 {
		var err error
		if opt, err = readOption(rest[0]); err != nil {
			return err
		}
	}
	p.chunk.ID = opt.chunk
	switch {
	case kind == msgp.ArrayType:
		m.Mode = "Forward"
		count, entries, err := msgp.ReadArrayHeaderBytes(body[0])
		if err != nil {
			return err
		}
		if err := p.entries(entries); err != nil {
			return err
		}
		if len(p.chunk.Records) != int(count) {
			return fmt.Errorf("%d entries of %d", len(p.chunk.Records), count)
		}
		return nil
	case len(body) == 2:
		m.Mode = "Message"
		sum := sha256.New()
		sum.Write(body[0])
		sum.Write(body[1])
		p.chunk.Digest = [sha256.Size]byte(sum.Sum(nil))
		at, _, err := readTime(body[0])
		if err != nil {
			return err
		}
		_, err = p.record(at, body[1])
		return err
	case kind == msgp.ArrayType || kind == msgp.BinType || kind == msgp.StrType:
		return p.packed(m, body[0], opt)
	default:
		return errors.New("a time without a record")
	}
}

func (p *parser) packed(m *Message, b []byte, opt option) error {
	m.Mode = "PackedForward"
	entries, _, err := text(b)
	if err != nil {
		return err
	}
	switch opt.compressed {
	case "", "text":
	case "gzip":
		m.Mode = "CompressedPackedForward"
		if entries, err = gunzip(entries, p.limits.DecompressedBytes); err != nil {
			return err
		}
	default:
		return refuse("compression-unknown", fmt.Errorf("%q: only gzip is spoken", opt.compressed))
	}
	return p.entries(entries)
}

// gunzip decompresses one or several gzip members.
func gunzip(b []byte, limit int64) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, refuse("malformed", fmt.Errorf("gzip: %w", err))
	}
	var out bytes.Buffer
	out.Grow(int(min(limit, 4*int64(len(b)))))
	n, err := io.Copy(&out, io.LimitReader(r, limit+1))
	switch {
	case n > limit:
		return nil, refuse("decompressed-too-big", fmt.Errorf("%d bytes decompress to more than %d", len(b), limit))
	case err != nil:
		return nil, refuse("malformed", fmt.Errorf("gzip: %w", err))
	}
	return out.Bytes(), nil
}

// entries reads [time, record] arrays, one behind the other, to the end of b.
func (p *parser) entries(b []byte) error {
	p.chunk.Digest = sha256.Sum256(b)
	p.chunk.JSON = make([]byte, 0, len(b)+len(b)/4)
	for len(b) > 0 {
		if int64(len(p.chunk.Records)) >= p.limits.DecompressedBytes/minRecord {
			return refuse("too-many-records", fmt.Errorf("more than %d in one message", len(p.chunk.Records)))
		}
		n, rest, err := msgp.ReadArrayHeaderBytes(b)
		if err != nil || n != 2 {
			return errors.New("an entry is an array of a time and a record")
		}
		at, rest, err := readTime(rest)
		if err != nil {
			return err
		}
		if b, err = p.record(at, rest); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) record(at int64, b []byte) (rest []byte, err error) {
	from := len(p.chunk.JSON)
	json, labels, rest, err := p.rec.record(p.chunk.JSON, b)
	if err != nil {
		return nil, err
	}
	p.chunk.JSON = json
	stream, ok := p.index[labels]
	if !ok && len(p.index) >= maxStreamsPerChunk {
		labels = chain.Labels{Source: labels.Source}
		stream, ok = p.index[labels]
	}
	if !ok {
		stream = int32(len(p.chunk.Streams))
		p.chunk.Streams = append(p.chunk.Streams, labels)
		p.index[labels] = stream
	}
	p.chunk.Records = append(p.chunk.Records, chain.Record{Time: at, Stream: stream, From: from, To: len(json)})
	return rest, nil
}

// readTime reads an EventTime (extension type 0: seconds and nanoseconds), or seconds as an integer or a float. Clients
// that send metadata put the time into an array with it.
func readTime(b []byte) (int64, []byte, error) {
	switch msgp.NextType(b) {
	case msgp.ArrayType:
		n, rest, err := msgp.ReadArrayHeaderBytes(b)
		if err != nil || n < 1 || msgp.NextType(rest) == msgp.ArrayType {
			return 0, nil, errors.New("not a time")
		}
		size, err := valueSize(b)
		if err != nil {
			return 0, nil, err
		}
		at, _, err := readTime(rest)
		return at, b[size:], err
	case msgp.IntType:
		s, rest, err := msgp.ReadInt64Bytes(b)
		return seconds(s, 0), rest, err
	case msgp.UintType:
		s, rest, err := msgp.ReadUint64Bytes(b)
		return seconds(int64(min(s, math.MaxInt64)), 0), rest, err
	case msgp.Float64Type:
		f, rest, err := msgp.ReadFloat64Bytes(b)
		return floatSeconds(f), rest, err
	case msgp.Float32Type:
		f, rest, err := msgp.ReadFloat32Bytes(b)
		return floatSeconds(float64(f)), rest, err
	}
	size, err := valueSize(b)
	if err != nil {
		return 0, nil, err
	}
	switch {
	case size == 10 && b[0] == 0xd7 && b[1] == 0: // fixext 8
	case size == 11 && b[0] == 0xc7 && b[1] == 8 && b[2] == 0: // ext 8
	default:
		return 0, nil, errors.New("not a time")
	}
	v := b[size-8 : size]
	return seconds(int64(binary.BigEndian.Uint32(v)), int64(binary.BigEndian.Uint32(v[4:]))), b[size:], nil
}

// maxSeconds keeps times within what nanoseconds in an int64 can say (the year 2262).
const maxSeconds = math.MaxInt64/int64(time.Second) - 5

func seconds(s, ns int64) int64 {
	return max(-maxSeconds, min(s, maxSeconds))*int64(time.Second) + min(ns, int64(time.Second)-1)
}

func floatSeconds(f float64) int64 {
	if !(math.Abs(f) < float64(maxSeconds)) {
		return 0
	}
	whole, part := math.Modf(f)
	return seconds(int64(whole), 0) + int64(part*1e9)
}

// option is a message's third or fourth part.
type option struct {
	chunk, compressed string
}

func readOption(b []byte) (option, error) {
	var opt option
	if msgp.IsNil(b) {
		return opt, nil
	}
	n, b, err := msgp.ReadMapHeaderBytes(b)
	if err != nil {
		return opt, errors.New("the option is not a map")
	}
	for range n {
		key, rest, err := text(b)
		if err != nil {
			return opt, err
		}
		size, err := valueSize(rest)
		if err != nil {
			return opt, err
		}
		value := rest[:size]
		b = rest[size:]
		switch string(key) {
		case "chunk":
			id, _, err := text(value)
			if err != nil || len(id) > maxID || !utf8.Valid(id) {
				return opt, refuse("bad-chunk-id", fmt.Errorf("a chunk's ID is text of at most %d bytes", maxID))
			}
			opt.chunk = string(id)
		case "compressed":
			how, _, err := text(value)
			if err != nil {
				return opt, err
			}
			opt.compressed = clean(how, 32)
		}
	}
	return opt, nil
}

// text reads a str or a bin without copying.
func text(b []byte) (v, rest []byte, err error) {
	if msgp.NextType(b) == msgp.BinType {
		return msgp.ReadBytesZC(b)
	}
	return msgp.ReadStringZC(b)
}
