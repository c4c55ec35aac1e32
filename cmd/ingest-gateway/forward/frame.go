package forward

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// maxFrameDepth bounds how deep the containers of a message may nest. Deeper than this no JSON parser that feeds Fluentd
// goes (Ruby's and yajl's stop at about 100); what is deeper than Limits.Depth is kept as text.
const maxFrameDepth = 1024

// growStep is how much memory a claimed length gets at a time, so that a client must send what it makes us hold.
const growStep = 64 << 10

var (
	errTooBig  = errors.New("longer than a message may be")
	errTooDeep = errors.New("nested too deep")
	errSyntax  = errors.New("not MessagePack")
)

// head reads the beginning of a MessagePack value: how long it is without its children, and how many those are. need is
// how many bytes must be seen to say so when b has fewer.
func head(b []byte) (size, children uint64, need int, err error) {
	if len(b) == 0 {
		return 0, 0, 1, nil
	}
	c := b[0]
	switch {
	case c <= 0x7f || c >= 0xe0: // fixint
		return 1, 0, 0, nil
	case c <= 0x8f: // fixmap
		return 1, 2 * uint64(c&0x0f), 0, nil
	case c <= 0x9f: // fixarray
		return 1, uint64(c & 0x0f), 0, nil
	case c <= 0xbf: // fixstr
		return 1 + uint64(c&0x1f), 0, 0, nil
	}
	s := shapes[c-0xc0]
	if s.kind == invalid {
		return 0, 0, 0, fmt.Errorf("%w: byte %#x", errSyntax, c)
	}
	if s.kind == fixed {
		return 1 + uint64(s.width), 0, 0, nil
	}
	if len(b) < 1+s.width {
		return 0, 0, 1 + s.width, nil
	}
	var n uint64
	switch s.width {
	case 1:
		n = uint64(b[1])
	case 2:
		n = uint64(binary.BigEndian.Uint16(b[1:]))
	case 4:
		n = uint64(binary.BigEndian.Uint32(b[1:]))
	}
	size = 1 + uint64(s.width)
	switch s.kind {
	case blob:
		return size + n, 0, 0, nil
	case ext:
		return size + 1 + n, 0, 0, nil
	case array:
		return size, n, 0, nil
	default:
		return size, 2 * n, 0, nil
	}
}

type kind byte

const (
	invalid kind = iota
	fixed        // width bytes follow
	blob         // a length of width bytes, then so many bytes
	ext          // the same with a type byte
	array        // a count of width bytes
	table        // the same, of pairs
)

// shapes are the values that begin with 0xc0 to 0xdf, as the MessagePack specification lists them.
var shapes = [32]struct { //nolint:gochecknoglobals // a constant table
	kind  kind
	width int
}{
	{fixed, 0}, {invalid, 0}, {fixed, 0}, {fixed, 0}, // nil, never used, false, true
	{blob, 1}, {blob, 2}, {blob, 4}, // bin
	{ext, 1}, {ext, 2}, {ext, 4},
	{fixed, 4}, {fixed, 8}, // float
	{fixed, 1}, {fixed, 2}, {fixed, 4}, {fixed, 8}, // uint
	{fixed, 1}, {fixed, 2}, {fixed, 4}, {fixed, 8}, // int
	{fixed, 2}, {fixed, 3}, {fixed, 5}, {fixed, 9}, {fixed, 17}, // fixext
	{blob, 1}, {blob, 2}, {blob, 4}, // str
	{array, 2}, {array, 4},
	{table, 2}, {table, 4},
}

// walk follows the nesting of one value, head by head.
type walk struct {
	open  []uint64 // children still to come, for each open container
	total uint64   // all of them
}

// next takes the number of children of the head just read; done says that the value is complete.
func (w *walk) next(children uint64) (done bool, err error) {
	if n := len(w.open); n > 0 {
		w.open[n-1]--
		w.total--
	}
	if children > 0 {
		if len(w.open) >= maxFrameDepth {
			return false, errTooDeep
		}
		w.open = append(w.open, children)
		w.total += children
	}
	for n := len(w.open); n > 0 && w.open[n-1] == 0; n-- {
		w.open = w.open[:n-1]
	}
	return len(w.open) == 0, nil
}

// readValue appends the next value of r to dst, at most limit bytes. io.EOF says that r ended before it.
func readValue(r *bufio.Reader, dst []byte, limit uint64) ([]byte, error) {
	var w walk
	begin := uint64(len(dst))
	for {
		peek, err := r.Peek(1)
		if err != nil {
			return dst, cut(err, uint64(len(dst)) > begin)
		}
		size, children, need, err := head(peek)
		if need > 0 {
			if peek, err = r.Peek(need); err != nil {
				return dst, cut(err, true)
			}
			size, children, _, err = head(peek)
		}
		if err != nil {
			return dst, err
		}
		if dst, err = readN(r, dst, size, begin+limit); err != nil {
			return dst, err
		}
		done, err := w.next(children)
		if err != nil || done {
			return dst, err
		}
		// Every child is at least one byte.
		if uint64(len(dst))-begin+w.total > limit {
			return dst, errTooBig
		}
	}
}

func readN(r *bufio.Reader, dst []byte, n, limit uint64) ([]byte, error) {
	if n > limit || uint64(len(dst)) > limit-n {
		return dst, errTooBig
	}
	for n > 0 {
		step := min(n, growStep)
		at := len(dst)
		dst = append(dst, make([]byte, step)...)
		if _, err := io.ReadFull(r, dst[at:]); err != nil {
			return dst[:at], cut(err, true)
		}
		n -= step
	}
	return dst, nil
}

func cut(err error, inside bool) error {
	if inside && errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// valueSize returns the length of the value that b begins with.
func valueSize(b []byte) (int, error) {
	var w walk
	at := uint64(0)
	for {
		size, children, need, err := head(b[at:])
		if err != nil {
			return 0, err
		}
		if need > 0 || size > uint64(len(b))-at {
			return 0, io.ErrUnexpectedEOF
		}
		at += size
		done, err := w.next(children)
		if err != nil {
			return 0, err
		}
		if done {
			return int(at), nil
		}
		if w.total > uint64(len(b))-at {
			return 0, io.ErrUnexpectedEOF
		}
	}
}
