package openstack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// errLost is a request that may have been carried out, though no whole answer came.
var errLost = errors.New("the answer was lost")

const (
	tries     = 7
	firstWait = 500 * time.Millisecond
	// longestWait bounds what Retry-After asks for.
	longestWait = time.Minute
)

// retry is a connection to the APIs that repeats what can be repeated without doing it twice: requests that were never sent or were
// refused for their number (429), and requests that change nothing more the second time. A POST that may have been carried out is
// left to the caller, who looks whether it was (create.go).
type retry struct {
	base    http.RoundTripper
	timeout time.Duration
	wait    func(ctx context.Context, d time.Duration) error
}

// RoundTrip implements http.RoundTripper. The answer's body is whole.
func (t *retry) RoundTrip(req *http.Request) (*http.Response, error) {
	for try := 1; ; try++ {
		resp, err := t.once(req)
		if try == tries || req.Context().Err() != nil || !repeatable(req, resp, err) {
			return resp, err
		}
		if err := t.wait(req.Context(), pause(resp, try)); err != nil {
			return nil, err
		}
	}
}

func (t *retry) once(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(req.Context(), t.timeout)
	defer cancel()
	sent := req.Clone(ctx)
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		sent.Body = body
	}
	resp, err := t.base.RoundTrip(sent)
	if err != nil {
		return nil, t.lost(req, err)
	}
	data, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close() // all of it was read, or the error says so
	if err != nil {
		return nil, t.lost(req, err)
	}
	if half(resp, data) {
		return nil, t.lost(req, errors.New("it ends in the middle"))
	}
	resp.Body = io.NopCloser(bytes.NewReader(data))
	return resp, nil
}

// half tells whether a good answer is not whole, though its connection ended properly: a proxy in between may have lost the rest.
func half(resp *http.Response, data []byte) bool {
	return resp.StatusCode < http.StatusMultipleChoices && len(data) > 0 &&
		strings.Contains(resp.Header.Get("Content-Type"), "json") && !json.Valid(data)
}

// lost tells an answer that did not come from a request that was never sent or given up by the caller.
func (t *retry) lost(req *http.Request, err error) error {
	var op *net.OpError
	switch {
	case req.Context().Err() != nil:
		return context.Cause(req.Context())
	case errors.As(err, &op) && op.Op == "dial":
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: nothing came within %s", errLost, t.timeout)
	}
	return fmt.Errorf("%w: %w", errLost, err)
}

func repeatable(req *http.Request, resp *http.Response, err error) bool {
	if req.Body != nil && req.Body != http.NoBody && req.GetBody == nil {
		return false
	}
	again := req.Method != http.MethodPost && req.Method != http.MethodPatch || strings.HasSuffix(req.URL.Path, "/auth/tokens")
	if err != nil {
		var op *net.OpError
		return again && errors.Is(err, errLost) || errors.As(err, &op) && op.Op == "dial"
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests:
		return true
	case http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return again
	}
	return false
}

// pause is what the cloud asks for, or else twice as long each time.
func pause(resp *http.Response, try int) time.Duration {
	if resp != nil {
		if d, ok := retryAfter(resp.Header, time.Now()); ok {
			return d
		}
	}
	d := firstWait << (try - 1)
	return d + rand.N(d/4) //nolint:gosec // no secret: requests must not come in step
}

// retryAfter reads the header, seconds or a date.
func retryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	value := h.Get("Retry-After")
	if value == "" {
		return 0, false
	}
	d := time.Duration(0)
	if seconds, err := strconv.Atoi(value); err == nil {
		d = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		d = at.Sub(now)
	} else {
		return 0, false
	}
	return min(max(d, 0), longestWait), true
}

// sleep waits, or returns why it did not.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
