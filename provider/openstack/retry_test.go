package openstack

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// standIn is a stand-in for an API: it gives the answers of a list, one after the other.
func standIn(t *testing.T, answers ...http.HandlerFunc) (client *http.Client, url string, asked *atomic.Int64, waits *[]time.Duration) {
	asked, waits = &atomic.Int64{}, &[]time.Duration{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(asked.Add(1)) - 1
		answers[min(n, len(answers)-1)](w, r)
	}))
	t.Cleanup(s.Close)
	wait := func(_ context.Context, d time.Duration) error { *waits = append(*waits, d); return nil }
	return &http.Client{Transport: &retry{base: s.Client().Transport, timeout: 300 * time.Millisecond, wait: wait}}, s.URL, asked, waits
}

func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

func whole(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"said": %q}`, body)
}

// halfLength ends before its length; halfJSON has the length that it says, but a proxy lost the rest.
func halfLength(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", "100")
	_, _ = w.Write([]byte(`{"a":`))
}

func halfJSON(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"a": [1, 2`))
}

// never answers. A server sees that a client has left only once it has read the body.
func never(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

func TestRequestsThatAreRepeated(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]http.HandlerFunc{
		"429": status(429), "500": status(500), "503": status(503), "half an answer": halfLength, "half a JSON": halfJSON, "no answer": never,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, url, asked, _ := standIn(t, first, first, whole)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, strings.NewReader("hello"))
			require.NoError(t, err)
			resp, err := client.Do(req)
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, resp.Body.Close())
			require.NoError(t, err)
			assert.JSONEq(t, `{"said": "hello"}`, string(body), "the third request has the whole body again")
			assert.EqualValues(t, 3, asked.Load())
		})
	}
}

func TestPostIsNotRepeatedWhenItMayHaveBeenDone(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]http.HandlerFunc{"500": status(500), "503": status(503), "half an answer": halfLength, "half a JSON": halfJSON, "no answer": never} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, url, asked, _ := standIn(t, first, whole)
			resp, err := client.Post(url, "application/json", strings.NewReader("{}")) //nolint:noctx // the stand-in ends it
			if err == nil {
				assert.GreaterOrEqual(t, resp.StatusCode, 500)
				require.NoError(t, resp.Body.Close())
			} else {
				assert.ErrorIs(t, err, errLost)
			}
			assert.EqualValues(t, 1, asked.Load())
		})
	}
}

func TestRateLimitOfPost(t *testing.T) {
	t.Parallel()
	client, url, asked, waits := standIn(t, status(429, "Retry-After", "7"), status(429, "Retry-After", "9999"), whole)
	resp, err := client.Post(url, "application/json", strings.NewReader("{}")) //nolint:noctx // the stand-in ends it
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, 200, resp.StatusCode)
	assert.EqualValues(t, 3, asked.Load())
	assert.Equal(t, []time.Duration{7 * time.Second, longestWait}, *waits, "the cloud's wish is honoured, within bounds")
}

func TestRepetitionsEnd(t *testing.T) {
	t.Parallel()
	client, url, asked, waits := standIn(t, status(503))
	resp, err := client.Get(url) //nolint:noctx // the stand-in ends it
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, 503, resp.StatusCode)
	assert.EqualValues(t, tries, asked.Load())
	for i := 1; i < len(*waits); i++ {
		assert.Greater(t, (*waits)[i], (*waits)[i-1], "each wait is longer")
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 30, 9, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{"3": 3 * time.Second, "Mon, 30 Nov 2026 09:00:05 GMT": 5 * time.Second, "-4": 0, "Mon, 30 Nov 2026 08:00:00 GMT": 0} {
		got, ok := retryAfter(http.Header{"Retry-After": {value}}, now)
		assert.True(t, ok, value)
		assert.Equal(t, want, got, value)
	}
	_, ok := retryAfter(http.Header{"Retry-After": {"soon"}}, now)
	assert.False(t, ok)
}
