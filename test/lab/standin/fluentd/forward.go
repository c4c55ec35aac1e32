package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// forwarder is out_forward: the forward protocol, version 1, over TLS with a client certificate. A chunk is sent, with the
// same id, until that id comes back.
type forwarder struct {
	buffer
	id, address, serverName      string
	compression                  string // gzip or text
	ca, certificate, key         string
	ackTimeout, sendTimeout      time.Duration
	connectTimeout               time.Duration
	retryWait, retryMax          time.Duration
	threads                      int
	errorCount, currentlyRetries atomic.Int64
}

func newForwarder(s *section) (*forwarder, error) {
	err := s.only("@type", "@id", "transport", "tls_cert_path", "tls_client_cert_path", "tls_client_private_key_path", "tls_verify_hostname",
		"require_ack_response", "ack_response_timeout", "send_timeout", "connect_timeout", "heartbeat_type", "keepalive", "expire_dns_cache", "compress")
	if err != nil {
		return nil, err
	}
	for key, want := range map[string]string{
		"transport": "tls", "require_ack_response": "true", "tls_verify_hostname": "true", "heartbeat_type": "none", "keepalive": "false",
	} {
		if s.get(key) != want {
			return nil, s.errorf("the stand-in delivers with %s %s only", key, want)
		}
	}
	if err := s.must("@id", "tls_cert_path", "tls_client_cert_path", "tls_client_private_key_path"); err != nil {
		return nil, err
	}
	compression := s.or("compress", "text")
	if compression != "gzip" && compression != "text" {
		return nil, s.errorf("the stand-in compresses with gzip or not at all")
	}
	server, b := s.inner("server"), s.inner("buffer")
	if server == nil || b == nil {
		return nil, s.errorf("<server> and <buffer> are needed")
	}
	if err := server.only("name", "host", "port"); err != nil {
		return nil, err
	}
	if err := server.must("host", "port"); err != nil {
		return nil, err
	}
	err = b.only("@type", "path", "chunk_limit_size", "chunk_limit_records", "total_limit_size", "flush_mode", "flush_interval", "flush_thread_count",
		"flush_thread_burst_interval", "retry_type", "retry_wait", "retry_max_interval", "retry_forever", "overflow_action")
	if err != nil {
		return nil, err
	}
	if b.arg != "tag" || b.get("@type") != "file" || b.get("retry_forever") != "true" || b.get("overflow_action") != "block" {
		return nil, b.errorf("the stand-in keeps chunks by tag in files, for ever, and blocks when they are too many")
	}
	f := &forwarder{
		id: s.get("@id"), address: net.JoinHostPort(server.get("host"), server.get("port")), serverName: server.or("name", server.get("host")),
		compression: compression,
		ca:          s.get("tls_cert_path"), certificate: s.get("tls_client_cert_path"), key: s.get("tls_client_private_key_path"),
	}
	f.folder = b.get("path")
	for _, d := range []struct {
		from      *section
		key       string
		otherwise time.Duration
		to        *time.Duration
	}{
		{s, "ack_response_timeout", 190 * time.Second, &f.ackTimeout},
		{s, "send_timeout", time.Minute, &f.sendTimeout},
		{s, "connect_timeout", time.Minute, &f.connectTimeout},
		{b, "flush_interval", time.Minute, &f.flush},
		{b, "retry_wait", time.Second, &f.retryWait},
		{b, "retry_max_interval", time.Hour, &f.retryMax},
	} {
		if *d.to, err = d.from.duration(d.key, d.otherwise); err != nil {
			return nil, err
		}
	}
	if f.chunkBytes, err = b.size("chunk_limit_size", 256<<20); err != nil {
		return nil, err
	}
	if f.total, err = b.size("total_limit_size", 64<<30); err != nil {
		return nil, err
	}
	if f.chunkRecords, err = b.number("chunk_limit_records", 100000); err != nil {
		return nil, err
	}
	f.threads, err = b.number("flush_thread_count", 1)
	return f, err
}

func (f *forwarder) run(ctx context.Context) {
	var work sync.WaitGroup
	work.Go(func() {
		err := every(ctx, min(f.flush, time.Second), f.age)
		if err != nil {
			log.Print(err)
		}
	})
	for range f.threads {
		work.Go(func() { f.send(ctx) })
	}
	work.Wait()
}

// send delivers chunk after chunk, each over a connection of its own.
func (f *forwarder) send(ctx context.Context) {
	pause := f.retryWait
	for {
		c, err := f.next(ctx)
		if err != nil {
			return
		}
		conn, err := f.dial(ctx)
		if err == nil {
			err = f.deliver(ctx, conn, c)
			_ = conn.Close() // what it carried is acknowledged, or sent again
		}
		if err == nil {
			f.done(c)
			f.currentlyRetries.Store(0)
			pause = f.retryWait
			continue
		}
		f.giveBack(c)
		if ctx.Err() != nil {
			return
		}
		f.errorCount.Add(1)
		f.currentlyRetries.Add(1)
		log.Printf("chunk %x (%s, %d records) again in %s: %v", c.id, c.tag, c.records, pause, err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, f.retryMax)
	}
}

// dial reads the certificates anew: they may have been renewed.
func (f *forwarder) dial(ctx context.Context) (net.Conn, error) {
	certificate, err := tls.LoadX509KeyPair(f.certificate, f.key)
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(f.ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", f.ca)
	}
	d := tls.Dialer{
		NetDialer: &net.Dialer{Timeout: f.connectTimeout},
		Config: &tls.Config{
			Certificates: []tls.Certificate{certificate}, RootCAs: roots, ServerName: f.serverName, MinVersion: tls.VersionTLS12,
		},
	}
	return d.DialContext(ctx, "tcp", f.address)
}

// deliver sends a chunk in PackedForward mode and waits for its id.
func (f *forwarder) deliver(ctx context.Context, conn net.Conn, c *chunk) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	var packed bytes.Buffer
	if err := f.pack(&packed, c); err != nil {
		return err
	}
	// Ruby's Base64.encode64 ends its lines, the last one too
	id := base64.StdEncoding.EncodeToString(c.id) + "\n"
	message := appendString([]byte{0x93}, c.tag)
	message = binary.BigEndian.AppendUint32(append(message, 0xdb), uint32(packed.Len()))
	message = append(message, packed.Bytes()...)
	message = appendUint(appendString(appendMap(message, 3), "size"), uint32(c.records))
	message = appendString(appendString(message, "compressed"), f.compression)
	message = appendString(appendString(message, "chunk"), id)
	if err := conn.SetWriteDeadline(time.Now().Add(f.sendTimeout)); err != nil {
		return err
	}
	if _, err := conn.Write(message); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(f.ackTimeout)); err != nil {
		return err
	}
	ack, err := readAck(conn)
	if err != nil {
		return fmt.Errorf("waiting for the acknowledgement: %w", err)
	}
	if ack != id {
		return fmt.Errorf("%q was acknowledged instead of %q", ack, id)
	}
	return nil
}

func (f *forwarder) pack(w io.Writer, c *chunk) error {
	if f.compression == "text" {
		return c.entries(w)
	}
	z := gzip.NewWriter(w)
	return errors.Join(c.entries(z), z.Close())
}

type statistics struct{ bytes, queued, retries, errors, emitted, delivered int64 }

func (f *forwarder) stats() statistics {
	f.mu.Lock()
	defer f.mu.Unlock()
	return statistics{f.bytes, int64(len(f.queue)), f.currentlyRetries.Load(), f.errorCount.Load(), f.emitted, f.delivered}
}
