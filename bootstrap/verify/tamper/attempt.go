package tamper

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
)

// Outcome is what an attempt came to.
type Outcome string

// Outcomes. Unreachable and Skipped say nothing about credentials; Unclear must be looked at by somebody.
const (
	Unreachable  Outcome = "unreachable"     // no connection: closed, filtered, no route
	TLSRefused   Outcome = "TLS refused"     // the certificate, or the want of one
	Closed       Outcome = "closed"          // the connection ended without an answer
	Unauthorized Outcome = "unauthorized"    // 401, or SSH's refusal
	Forbidden    Outcome = "forbidden"       // 403
	NoSuchPath   Outcome = "no such path"    // 404
	NoMethod     Outcome = "method refused"  // 405
	Rejected     Outcome = "rejected"        // any other 4xx: understood, and not done
	Unclear      Outcome = "unclear"         // 3xx to elsewhere, 5xx, an answer that is not understood, a timeout behind the connection
	Appended     Outcome = "append accepted" // as the tenant's certificate may; stamped is checked afterwards
	Skipped      Outcome = "not sent"        // something harmless has worked already with this credential: see Request.Harm
	Succeeded    Outcome = "SUCCEEDED"
)

// Attempt is one thing that was tried, without any secret.
type Attempt struct {
	Credential string  `json:"credential"`
	Found      string  `json:"found,omitempty"`
	Role       Role    `json:"role"`
	Target     string  `json:"target"`
	Address    string  `json:"address"`
	Verb       Verb    `json:"verb"`
	Request    string  `json:"request"`
	Outcome    Outcome `json:"outcome"`
	Detail     string  `json:"detail,omitempty"`
	Breach     bool    `json:"breach,omitempty"`
	StandsFor  int     `json:"standsFor,omitempty"` // requests that had no connection to be sent on
}

// stalled is the detail of a connection that was there and said nothing.
const stalled = "no answer in time"

// result is what one request came to.
type result struct {
	outcome Outcome
	detail  string
	body    []byte // at most maxBody bytes; never in a report
}

// byStatus names HTTP answers.
func byStatus(status int) (Outcome, bool) {
	o, ok := map[int]Outcome{
		http.StatusUnauthorized: Unauthorized, http.StatusForbidden: Forbidden, http.StatusNotFound: NoSuchPath, http.StatusMethodNotAllowed: NoMethod,
	}[status]
	return o, ok
}

func fromStatus(r *http.Response, body []byte) result {
	out := result{detail: r.Status, body: body}
	known, ok := byStatus(r.StatusCode)
	switch {
	case ok:
		out.outcome = known
	case r.StatusCode >= 200 && r.StatusCode < 300:
		out.outcome = Succeeded
	case r.StatusCode >= 300 && r.StatusCode < 400:
		out.outcome = Unclear
		if strings.Contains(r.Header.Get("Location"), "login") {
			out.outcome = Unauthorized
		}
	case r.StatusCode == http.StatusBadRequest && strings.Contains(string(body), "HTTP request to an HTTPS server"):
		out.outcome = TLSRefused
	case r.StatusCode >= 400 && r.StatusCode < 500:
		out.outcome = Rejected
	default:
		out.outcome = Unclear
	}
	return out
}

// dialError marks errors that happened before there was a connection.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// fromError tells a connection that was never there from one that was refused, closed or stalled.
func fromError(err error) result {
	text := err.Error()
	var dial *dialError
	switch {
	case errors.As(err, &dial):
		return result{outcome: Unreachable, detail: reason(text)}
	case isTimeout(err):
		return result{outcome: Unclear, detail: stalled}
	case strings.Contains(text, "tls:") || strings.Contains(text, "x509:") || strings.Contains(text, "server gave HTTP response to HTTPS client"):
		return result{outcome: TLSRefused, detail: text[max(0, strings.Index(text, "tls:")):]}
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		strings.Contains(text, "http2: client conn") || strings.Contains(text, "EOF") || strings.Contains(text, "malformed HTTP") || strings.Contains(text, "closed"):
		return result{outcome: Closed, detail: "the connection ended without an answer"}
	}
	return result{outcome: Unclear, detail: text}
}

// reason is why there is no connection, in few words.
func reason(text string) string {
	for _, r := range []struct{ in, say string }{
		{"refused", "refused"}, {"timed out", "timed out"}, {"deadline exceeded", "timed out"}, {"no route", "no route"}, {"unreachable", "no route"},
	} {
		if strings.Contains(strings.ToLower(text), r.in) {
			return r.say
		}
	}
	return text
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &n) && n.Timeout() ||
		strings.Contains(err.Error(), "timed out") || strings.Contains(err.Error(), "Client.Timeout")
}
