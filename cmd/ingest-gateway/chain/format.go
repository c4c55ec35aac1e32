package chain

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Format is the version of the object format; it stands in every header.
const Format = "catamaran.chain/v1"

// suffix tells people what is in an object: two zstd frames of JSON lines.
const suffix = ".ndjson.zst"

// perFolder is how many objects share a key prefix, so that stores on a file system need no folder with millions of
// files.
const perFolder = 10000

// maxPlain bounds what an object may decompress to, in bytes: more than any writer makes (see config: object and message
// sizes).
const maxPlain = 1 << 30

// Header is the first line of an object.
type Header struct {
	Format   string `json:"format"`
	Tenant   string `json:"tenant"`
	Sequence uint64 `json:"sequence"`
	// Previous is the sha256 (hex) of the object before as it is stored; Genesis for the first.
	Previous string `json:"previous"`
	// Created is when the object was put together; what is filed under the time of receipt gets this one.
	Created time.Time `json:"created"`
	// RetainUntil is the end of the lock that was asked for.
	RetainUntil time.Time `json:"retainUntil"`
	Records     int       `json:"records"`
	// SHA256 (hex) is over the lines behind the header, decompressed.
	SHA256 string     `json:"sha256"`
	Chunks []ChunkRef `json:"chunks"`
	// Streams are the label sets that the records refer to by index.
	Streams []Labels `json:"streams"`
}

// ChunkRef names a chunk in an object's header.
type ChunkRef struct {
	// ID is the client's; empty when it did not ask for an acknowledgement.
	ID      string `json:"id,omitempty"`
	Records int    `json:"records"`
	// SHA256 (hex) is over the chunk's entries as the client sent them (MessagePack, decompressed).
	SHA256 string `json:"sha256"`
}

// Genesis is what the first object of a chain has for the hash of the one before.
func Genesis() string { return strings.Repeat("0", 2*sha256.Size) }

// Key is the name of a tenant's object number sequence. Names sort as numbers do.
func Key(tenant string, sequence uint64) string {
	return fmt.Sprintf("%s/%08d/%012d%s", tenant, sequence/perFolder, sequence, suffix)
}

// Prefix is what the keys of a tenant's objects start with.
func Prefix(tenant string) string { return tenant + "/" }

// Sequence reads the number out of a key; it accepts exactly what Key makes.
func Sequence(tenant, key string) (uint64, error) {
	name, ok := strings.CutSuffix(key[strings.LastIndexByte(key, '/')+1:], suffix)
	n, err := strconv.ParseUint(name, 10, 64)
	if !ok || err != nil || n == 0 || Key(tenant, n) != key {
		return 0, fmt.Errorf("%q is not the name of an object of tenant %s's chain", key, tenant)
	}
	return n, nil
}

// line is a record in an object. The writer composes it by hand, see appendLine.
type line struct {
	TS     int64           `json:"ts,string"`
	At     int64           `json:"at,string,omitempty"`
	Tag    string          `json:"tag"`
	Stream int             `json:"stream"`
	Record json.RawMessage `json:"record"`
}

func appendLine(dst []byte, ts, at int64, tag []byte, stream int, record []byte) []byte {
	dst = append(dst, `{"ts":"`...)
	dst = strconv.AppendInt(dst, ts, 10)
	if at != ts {
		dst = append(dst, `","at":"`...)
		dst = strconv.AppendInt(dst, at, 10)
	}
	dst = append(dst, `","tag":`...)
	dst = append(dst, tag...)
	dst = append(dst, `,"stream":`...)
	dst = strconv.AppendInt(dst, int64(stream), 10)
	dst = append(dst, `,"record":`...)
	dst = append(dst, record...)
	return append(dst, '}', '\n')
}

// seal makes the bytes of an object of a header and its lines. The header is a frame of its own, so that it can be read
// without the rest.
func seal(enc *zstd.Encoder, h Header, lines []byte) ([]byte, error) {
	head, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("header of object %d of %s: %w", h.Sequence, h.Tenant, err)
	}
	out := enc.EncodeAll(append(head, '\n'), nil)
	return enc.EncodeAll(lines, out), nil
}

// newDecoder makes a decoder for open; one may be used by several goroutines at once.
func newDecoder() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxPlain))
}

// open splits an object into its header and its lines, and checks what it says about itself.
func open(dec *zstd.Decoder, body []byte) (Header, []byte, error) {
	var h Header
	plain, err := dec.DecodeAll(body, nil)
	if err != nil {
		return h, nil, fmt.Errorf("decompress: %w", err)
	}
	head, lines, ok := bytes.Cut(plain, []byte{'\n'})
	if !ok {
		return h, nil, errors.New("no header line")
	}
	if err := parseHeader(head, &h); err != nil {
		return h, nil, err
	}
	if sum := sha256.Sum256(lines); hex.EncodeToString(sum[:]) != h.SHA256 {
		return h, nil, fmt.Errorf("the records' sha256 is %x, the header says %s", sum, h.SHA256)
	}
	if n := bytes.Count(lines, []byte{'\n'}); n != h.Records {
		return h, nil, fmt.Errorf("%d records, the header says %d", n, h.Records)
	}
	sum := 0
	for _, c := range h.Chunks {
		sum += c.Records
	}
	if sum != h.Records {
		return h, nil, fmt.Errorf("the chunks have %d records together, the header says %d", sum, h.Records)
	}
	return h, lines, nil
}

func parseHeader(head []byte, h *Header) error {
	if err := json.Unmarshal(head, h); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	if h.Format != Format {
		return fmt.Errorf("format %q, expected %q", h.Format, Format)
	}
	return nil
}

// openHeader reads the header out of an object's first bytes; io.ErrUnexpectedEOF when they are too few.
func openHeader(first []byte) (Header, error) {
	var h Header
	dec, err := zstd.NewReader(bytes.NewReader(first), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPlain))
	if err != nil {
		return h, err
	}
	defer dec.Close()
	var head []byte
	buf := make([]byte, 4096)
	for {
		n, err := dec.Read(buf)
		if i := bytes.IndexByte(buf[:n], '\n'); i >= 0 {
			return h, parseHeader(append(head, buf[:i]...), &h)
		}
		head = append(head, buf[:n]...)
		if err != nil {
			return h, fmt.Errorf("header: %w", io.ErrUnexpectedEOF)
		}
	}
}

// entries turns an object's lines back into what the sink gets.
func entries(h Header, lines []byte) ([]Entry, error) {
	out := make([]Entry, 0, h.Records)
	for raw := range bytes.Lines(lines) {
		var l line
		if err := json.Unmarshal(raw, &l); err != nil {
			return nil, fmt.Errorf("record %d: %w", len(out)+1, err)
		}
		if l.Stream < 0 || l.Stream >= len(h.Streams) {
			return nil, fmt.Errorf("record %d: stream %d of %d", len(out)+1, l.Stream, len(h.Streams))
		}
		if l.At == 0 {
			l.At = l.TS
		}
		out = append(out, Entry{Stream: l.Stream, At: l.At, Time: l.TS, Line: l.Record})
	}
	return out, nil
}
