package tamper

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/tinylib/msgp/msgp"
)

// forged is one record for the door for logs.
type forged struct {
	tag  string
	at   time.Duration // behind now
	more map[string]string
}

// forwardRequests are for the door for logs: the tenant's certificate may append, and is stamped with its name.
func forwardRequests() []Request {
	out := []Request{}
	for _, f := range []struct {
		name string
		verb Verb
		f    forged
	}{
		{"a record", Append, forged{tag: "host.journal"}},
		{"a record that claims another tenant and cluster", Spoof, forged{tag: "host.journal", more: map[string]string{"tenant": other, "cluster": other, "tenant_id": other}}},
		{"a record an hour old", Spoof, forged{tag: "host.journal", at: time.Hour}},
		{"a record of the future", Spoof, forged{tag: "host.journal", at: -time.Hour}},
		{"a record under another source", Spoof, forged{tag: "service.audit"}},
		{"a record with a tag that names a tenant", Spoof, forged{tag: other + ".kube.audit"}},
		{"a record that claims to be the gateway's", Spoof, forged{tag: "kube.containers", more: map[string]string{"namespace": "ingest-gateway", "pod": "ingest-gateway-0", "node": "sc-1"}}},
	} {
		expect := Accepted
		if f.name == "a record of the future" {
			expect = Either // it may be refused or filed under the time of receipt
		}
		out = append(out, Request{Name: f.name, Verb: f.verb, Expect: expect, Send: func(ctx context.Context, s *session) result { return s.forward(ctx, f.f) }})
	}
	return append(out,
		Request{Name: "GET / by HTTPS", Verb: Read, Method: get, Path: "/"},
		Request{Name: "a handshake with a shared key", Verb: Login, Send: func(ctx context.Context, s *session) result {
			return s.exchange(ctx, msgp.AppendString(msgp.AppendArrayHeader(nil, 1), "PING"))
		}},
		Request{Name: "a message that is none", Verb: Append, Send: func(ctx context.Context, s *session) result { return s.exchange(ctx, []byte("forged\n")) }},
	)
}

// forward sends one record in Forward mode, and wants it acknowledged.
func (s *session) forward(ctx context.Context, f forged) result {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return result{outcome: Unclear, detail: err.Error()}
	}
	chunk := base64.StdEncoding.EncodeToString(id[:])
	record := map[string]string{"message": s.vars.run + " forged: " + f.tag}
	for k, v := range f.more {
		record[k] = v
	}
	b := msgp.AppendString(msgp.AppendArrayHeader(nil, 3), f.tag)
	b = msgp.AppendArrayHeader(b, 1)
	b = msgp.AppendArrayHeader(b, 2)
	b = msgp.AppendInt64(b, time.Now().Add(-f.at).Unix())
	b = msgp.AppendMapStrStr(b, record)
	b = msgp.AppendMapStrStr(b, map[string]string{"chunk": chunk})
	return s.converse(ctx, b, func(answer []byte) result {
		got := map[string]string{}
		if m, _, err := msgp.ReadMapStrIntfBytes(answer, nil); err == nil {
			for k, v := range m {
				got[k] = fmt.Sprint(v)
			}
		}
		if got["ack"] == chunk {
			return result{outcome: Succeeded, detail: "acknowledged"}
		}
		return result{outcome: Unclear, detail: "answered, but not by an acknowledgement"}
	})
}

// exchange sends bytes that must not be answered.
func (s *session) exchange(ctx context.Context, b []byte) result {
	return s.converse(ctx, b, func([]byte) result { return result{outcome: Succeeded, detail: "answered"} })
}

// converse sends b over TLS and judges the first piece of the answer.
func (s *session) converse(ctx context.Context, b []byte, judge func([]byte) result) result {
	raw, err := s.connect(ctx)
	if err != nil {
		return fromError(err)
	}
	defer raw.Close() //nolint:errcheck // whatever it was, it is over
	conn := tls.Client(raw, s.tlsConfig())
	// an acknowledgement takes as long as storing: longer than an answer of HTTP
	if err := raw.SetDeadline(time.Now().Add(5 * s.timeout)); err != nil {
		return fromError(err)
	}
	if err := conn.HandshakeContext(ctx); err != nil {
		return fromError(err)
	}
	if _, err := conn.Write(b); err != nil {
		return fromError(err)
	}
	answer := make([]byte, 4096)
	n, err := conn.Read(answer)
	if n == 0 {
		if err == nil {
			return result{outcome: Closed, detail: "no answer"}
		}
		return fromError(err)
	}
	return judge(answer[:n])
}
