package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// maxRetryAfter bounds how long a server can make us wait.
const maxRetryAfter = time.Minute

// errStalled is a connection that stays open and says nothing.
var errStalled = errors.New("the server stopped sending")

// errGaveUp marks downloads that were begun, cut off and could not be resumed.
var errGaveUp = errors.New("the download was cut off and could not be resumed")

// transport asks servers patiently: what fails for a passing reason is asked again, and a download that is cut off goes
// on where it ended. It serves files and registries alike, since it stands below both.
type transport struct {
	next      http.RoundTripper
	plainHTTP bool
	attempts  int           // without any progress, before giving up
	pause     time.Duration // after the first failure, doubled each time
	stall     time.Duration // without a byte
	received  atomic.Int64  // bytes of bodies
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := t.allowed(req.URL); err != nil {
		return nil, err
	}
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		return t.next.RoundTrip(req)
	}
	res, err := t.patient(req)
	if err != nil || req.Method == http.MethodHead {
		return res, err
	}
	b := &body{t: t, req: req, r: res.Body, tag: res.Header.Get("ETag")}
	switch start, ok := rangeStart(res); {
	case res.StatusCode == http.StatusOK:
	case res.StatusCode == http.StatusPartialContent && ok:
		b.at = start
	default:
		return res, nil
	}
	res.Body = b
	return res, nil
}

// allowed refuses to send or fetch anything in plain text, but for this machine or by the operator's word.
func (t *transport) allowed(u *url.URL) error {
	if u.Scheme == "https" || t.plainHTTP {
		return nil
	}
	if ip := net.ParseIP(u.Hostname()); u.Hostname() == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("%s://%s is not encrypted: use https, or allow it with --plain-http", u.Scheme, u.Host)
}

// patient asks until there is an answer that will not change by itself.
func (t *transport) patient(req *http.Request) (*http.Response, error) {
	pause := t.pause
	for n := 1; ; n++ {
		res, err := t.once(req)
		wait, passes := passing(res, err)
		if !passes || n >= t.attempts || req.Context().Err() != nil {
			return res, err
		}
		if res != nil {
			_ = res.Body.Close() // only an error page
		}
		if err := sleep(req.Context(), max(pause, wait)); err != nil {
			return nil, err
		}
		pause *= 2
	}
}

// once sends a request whose body can be given up on its own.
func (t *transport) once(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	r := req.Clone(ctx)
	if r.Header.Get("Accept-Encoding") == "" {
		r.Header.Set("Accept-Encoding", "identity") // offsets must be those of the file
	}
	res, err := t.next.RoundTrip(r)
	if err != nil {
		cancel(err)
		return nil, err
	}
	res.Body = &guarded{ReadCloser: res.Body, ctx: ctx, cancel: cancel, stall: t.stall}
	return res, nil
}

// guarded ends reads that wait for too long.
type guarded struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	stall  time.Duration
}

func (g *guarded) Read(p []byte) (int, error) {
	timer := time.AfterFunc(g.stall, func() { g.cancel(errStalled) })
	n, err := g.ReadCloser.Read(p)
	timer.Stop()
	if err != nil && err != io.EOF && errors.Is(context.Cause(g.ctx), errStalled) {
		err = errStalled
	}
	return n, err
}

func (g *guarded) Close() error {
	err := g.ReadCloser.Close()
	g.cancel(nil)
	return err
}

// body goes on after it was cut off.
type body struct {
	t        *transport
	req      *http.Request
	r        io.ReadCloser
	at       int64 // of the next byte, from the beginning of the file
	tag      string
	failures int
	broken   error
}

func (b *body) Read(p []byte) (int, error) {
	for {
		for b.broken != nil {
			if err := b.resume(); err != nil {
				return 0, err
			}
		}
		n, err := b.r.Read(p)
		b.at += int64(n)
		b.t.received.Add(int64(n))
		if n > 0 {
			b.failures = 0
		}
		if err == nil || err == io.EOF {
			return n, err
		}
		if b.broken = err; n > 0 {
			return n, nil
		}
	}
}

// resume asks for the rest. A server that knows no ranges sends all of it again, and what is known is skipped.
func (b *body) resume() error {
	_, passes := passing(nil, b.broken)
	b.failures++
	if !passes || b.req.Context().Err() != nil {
		return b.broken
	}
	if b.failures >= b.t.attempts {
		return fmt.Errorf("%w after %d bytes: %w", errGaveUp, b.at, b.broken)
	}
	if err := sleep(b.req.Context(), b.t.pause<<(b.failures-1)); err != nil {
		return err
	}
	_ = b.r.Close() // it is broken
	req := b.req.Clone(b.req.Context())
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-", b.at))
	if b.tag != "" && !strings.HasPrefix(b.tag, "W/") {
		req.Header.Set("If-Range", b.tag)
	}
	res, err := b.t.patient(req) //nolint:bodyclose // it is closed as ours
	if err != nil {
		return fmt.Errorf("%w after %d bytes: %w", errGaveUp, b.at, err)
	}
	b.r = res.Body
	start, ok := rangeStart(res)
	switch {
	case res.StatusCode == http.StatusPartialContent && ok && start == b.at:
	case res.StatusCode == http.StatusOK && (b.tag == "" || res.Header.Get("ETag") == b.tag):
		_, b.broken = io.CopyN(io.Discard, b.r, b.at) // should it break again, Read resumes again
		return nil
	default:
		return fmt.Errorf("%w after %d bytes: the server answered %s", errGaveUp, b.at, res.Status)
	}
	b.broken = nil
	return nil
}

func (b *body) Close() error { return b.r.Close() }

// rangeStart is the first byte of a partial answer.
func rangeStart(res *http.Response) (int64, bool) {
	rest, ok := strings.CutPrefix(res.Header.Get("Content-Range"), "bytes ")
	if !ok {
		return 0, false
	}
	first, _, _ := strings.Cut(rest, "-")
	n, err := strconv.ParseInt(first, 10, 64)
	return n, err == nil && n >= 0
}

// passing tells failures that may be gone the next time, and how long the server asks to wait.
func passing(res *http.Response, err error) (wait time.Duration, passes bool) {
	if err == nil {
		switch res.StatusCode {
		case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusInternalServerError,
			http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			s, err := strconv.Atoi(res.Header.Get("Retry-After"))
			if err != nil || s < 0 {
				return 0, true
			}
			return min(time.Duration(s)*time.Second, maxRetryAfter), true
		}
		return 0, false
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return 0, dns.IsTemporary || dns.IsTimeout
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return 0, true
	}
	for _, e := range []error{
		errStalled, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed,
		syscall.ECONNRESET, syscall.ECONNREFUSED, syscall.ECONNABORTED, syscall.EPIPE,
	} {
		if errors.Is(err, e) {
			return 0, true
		}
	}
	// net/http has no types for these
	return 0, strings.Contains(err.Error(), "http2: ") || strings.Contains(err.Error(), "stream error: ")
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
