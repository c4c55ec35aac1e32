package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// The few shapes of MessagePack that the forward protocol needs.

func appendString(b []byte, s string) []byte {
	switch n := len(s); {
	case n < 32:
		b = append(b, 0xa0|byte(n))
	case n <= math.MaxUint8:
		b = append(b, 0xd9, byte(n))
	case n <= math.MaxUint16:
		b = binary.BigEndian.AppendUint16(append(b, 0xda), uint16(n))
	default:
		b = binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(n))
	}
	return append(b, s...)
}

func appendMap(b []byte, n int) []byte {
	if n < 16 {
		return append(b, 0x80|byte(n))
	}
	return binary.BigEndian.AppendUint16(append(b, 0xde), uint16(n))
}

func appendUint(b []byte, n uint32) []byte { return binary.BigEndian.AppendUint32(append(b, 0xce), n) }

// appendEvent appends [EventTime, record]. EventTime is extension type 0: seconds and nanoseconds.
func appendEvent(b []byte, e event) []byte {
	b = append(b, 0x92, 0xd7, 0x00)
	b = binary.BigEndian.AppendUint32(b, uint32(e.time.Unix()))
	b = binary.BigEndian.AppendUint32(b, uint32(e.time.Nanosecond()))
	b = appendMap(b, len(e.record))
	for _, f := range e.record {
		b = appendString(appendString(b, f.key), f.value)
	}
	return b
}

// readAck reads {"ack": id}.
func readAck(r io.Reader) (string, error) {
	var head [1]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return "", err
	}
	if head[0] != 0x81 {
		return "", fmt.Errorf("the answer begins with %#x instead of a map of one", head[0])
	}
	key, err := readString(r)
	if err != nil {
		return "", err
	}
	if key != "ack" {
		return "", errors.New("the answer is no acknowledgement")
	}
	return readString(r)
}

func readString(r io.Reader) (string, error) {
	var b [4]byte
	if _, err := io.ReadFull(r, b[:1]); err != nil {
		return "", err
	}
	var n int
	switch {
	case b[0]&0xe0 == 0xa0:
		n = int(b[0] & 0x1f)
	case b[0] == 0xd9:
		if _, err := io.ReadFull(r, b[:1]); err != nil {
			return "", err
		}
		n = int(b[0])
	case b[0] == 0xda:
		if _, err := io.ReadFull(r, b[:2]); err != nil {
			return "", err
		}
		n = int(binary.BigEndian.Uint16(b[:2]))
	default:
		return "", fmt.Errorf("%#x begins no string that an acknowledgement can have", b[0])
	}
	text := make([]byte, n)
	_, err := io.ReadFull(r, text)
	return string(text), err
}
