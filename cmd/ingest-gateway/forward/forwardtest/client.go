// Package forwardtest makes messages of the forward protocol and sends them as Fluentd's out_forward does: an
// acknowledgement is asked for, and what is not acknowledged is sent again.
package forwardtest

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/tinylib/msgp/msgp"
)

// Record is one record with its time.
type Record struct {
	Time   time.Time
	Fields map[string]any
}

// EventTime appends a time as the protocol's extension type 0.
func EventTime(b []byte, t time.Time) []byte {
	s, ns := uint32(t.Unix()), uint32(t.Nanosecond())
	return append(b, 0xd7, 0, byte(s>>24), byte(s>>16), byte(s>>8), byte(s), byte(ns>>24), byte(ns>>16), byte(ns>>8), byte(ns))
}

// Entries packs records.
func Entries(records ...Record) []byte {
	var b []byte
	for _, r := range records {
		b = EventTime(msgp.AppendArrayHeader(b, 2), r.Time)
		b = Map(b, r.Fields)
	}
	return b
}

// Map appends a map.
func Map(b []byte, m map[string]any) []byte {
	b, err := msgp.AppendIntf(b, m)
	if err != nil {
		panic(err) // a test's own types
	}
	return b
}

// Packed makes a PackedForward message.
func Packed(tag, chunk string, entries []byte) []byte {
	b := msgp.AppendBytes(msgp.AppendString(msgp.AppendArrayHeader(nil, 3), tag), entries)
	return Map(b, map[string]any{"chunk": chunk, "size": 1})
}

// Compressed makes a CompressedPackedForward message, of one gzip member for each of the entries.
func Compressed(tag, chunk string, entries ...[]byte) []byte {
	var z bytes.Buffer
	for _, e := range entries {
		w := gzip.NewWriter(&z)
		_, _ = w.Write(e) // a bytes.Buffer takes everything
		_ = w.Close()
	}
	b := msgp.AppendBytes(msgp.AppendString(msgp.AppendArrayHeader(nil, 3), tag), z.Bytes())
	return Map(b, map[string]any{"chunk": chunk, "compressed": "gzip"})
}

// Forward makes a Forward message.
func Forward(tag, chunk string, records ...Record) []byte {
	b := msgp.AppendString(msgp.AppendArrayHeader(nil, 3), tag)
	b = append(msgp.AppendArrayHeader(b, uint32(len(records))), Entries(records...)...)
	return Map(b, map[string]any{"chunk": chunk})
}

// Message makes a Message message.
func Message(tag, chunk string, r Record) []byte {
	b := msgp.AppendString(msgp.AppendArrayHeader(nil, 4), tag)
	b = Map(EventTime(b, r.Time), r.Fields)
	return Map(b, map[string]any{"chunk": chunk})
}

// Client is one connection.
type Client struct {
	*tls.Conn
	r *msgp.Reader
}

// Dial opens a connection.
func Dial(address string, cfg *tls.Config) (*Client, error) {
	conn, err := tls.Dial("tcp", address, cfg)
	if err != nil {
		return nil, err
	}
	return &Client{Conn: conn, r: msgp.NewReader(conn)}, nil
}

// Ack waits for one acknowledgement and returns its chunk.
func (c *Client) Ack(timeout time.Duration) (string, error) {
	if err := c.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return "", err
	}
	n, err := c.r.ReadMapHeader()
	if err != nil {
		return "", err
	}
	key, err := c.r.ReadString()
	if err != nil {
		return "", err
	}
	if n != 1 || key != "ack" {
		return "", fmt.Errorf("an answer with %d keys, the first is %q", n, key)
	}
	return c.r.ReadString()
}

// Send sends a message and waits for its acknowledgement.
func (c *Client) Send(message []byte, chunk string, timeout time.Duration) error {
	if _, err := c.Write(message); err != nil {
		return err
	}
	id, err := c.Ack(timeout)
	if err == nil && id != chunk {
		err = errors.New("acknowledged " + id + ", expected " + chunk)
	}
	return err
}
