package proxy

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const whole = "the whole answer"

// world is an API that counts, the proxy in front of it, and its control in what could be another process.
type world struct {
	url     string
	reached *[]string
	proxy   Client
}

func newWorld(t *testing.T) world {
	t.Helper()
	var reached []string
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached = append(reached, r.Method+" "+r.URL.Path+" as "+r.Header.Get("X-Auth-Token"))
		_, _ = io.WriteString(w, whole)
	}))
	t.Cleanup(api.Close)
	upstream, err := url.Parse(api.URL)
	require.NoError(t, err)
	p := New(upstream, func(r *http.Request, _ []byte) string { return r.Method + " " + r.URL.Path })
	front := httptest.NewServer(p)
	t.Cleanup(front.Close)
	c := Client{Socket: filepath.Join(t.TempDir(), "control")}
	l, err := net.Listen("unix", c.Socket)
	require.NoError(t, err)
	control := &http.Server{Handler: p.Control(), ReadHeaderTimeout: time.Second}
	go control.Serve(l) //nolint:errcheck // it ends with the test
	t.Cleanup(func() { _ = control.Close() })
	return world{url: front.URL, reached: &reached, proxy: c}
}

// ask asks once, on a connection of its own: Go's client tries again by itself on an old one.
func (w world) ask(t *testing.T, method, path string) (string, int, error) {
	t.Helper()
	h := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := http.NewRequestWithContext(t.Context(), method, w.url+path, strings.NewReader("x"))
	if err != nil {
		return "", 0, err
	}
	r.Header.Set("X-Auth-Token", "me")
	a, err := h.Do(r)
	if err != nil {
		return "", 0, err
	}
	defer a.Body.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(a.Body)
	return string(text), a.StatusCode, err
}

func TestRequestsPassAndAreCounted(t *testing.T) {
	w := newWorld(t)
	for range 2 {
		text, code, err := w.ask(t, "POST", "/servers")
		require.NoError(t, err)
		assert.Equal(t, whole, text)
		assert.Equal(t, 200, code)
	}
	_, _, err := w.ask(t, "HEAD", "/servers")
	require.NoError(t, err)
	s, err := w.proxy.Status(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 3, s.Total)
	assert.Equal(t, map[string]int{"POST /servers": 2, "HEAD /servers": 1}, s.Counts)
}

func TestRulesFitTheRequestsTheyName(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.proxy.Set(t.Context(), Rule{Match: "^POST /servers", First: 2, Times: 2, Status: 503, RetryAfterSeconds: 1}))
	var codes []int
	for range 5 {
		_, code, err := w.ask(t, "POST", "/servers")
		require.NoError(t, err)
		codes = append(codes, code)
		_, code, err = w.ask(t, "GET", "/servers")
		require.NoError(t, err)
		assert.Equal(t, 200, code)
	}
	assert.Equal(t, []int{200, 503, 503, 200, 200}, codes)
	s, err := w.proxy.Status(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 5, s.Rules[0].Matched)
	assert.Equal(t, 2, s.Rules[0].Done)
	assert.Len(t, *w.reached, 8, "what is refused does not reach the API")
	assert.ErrorContains(t, w.proxy.Set(t.Context(), Rule{Match: "("}), "rule 1")
}

func TestFaults(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.proxy.Set(t.Context(),
		Rule{Match: "/cut", Cut: true}, Rule{Match: "/half", Half: true}, Rule{Match: "/slow", DelayMillis: 200}, Rule{Match: "/expired", Unsigned: true}))
	_, _, err := w.ask(t, "POST", "/cut")
	assert.ErrorIs(t, err, io.EOF)
	text, _, err := w.ask(t, "POST", "/half")
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.Equal(t, whole[:len(whole)/2], text)
	begin := time.Now()
	_, _, err = w.ask(t, "POST", "/slow")
	require.NoError(t, err)
	assert.GreaterOrEqual(t, time.Since(begin), 200*time.Millisecond)
	_, _, err = w.ask(t, "POST", "/expired")
	require.NoError(t, err)
	assert.Equal(t, []string{"POST /cut as me", "POST /half as me", "POST /slow as me", "POST /expired as "}, *w.reached, "all were carried out")
}

// A process is held at its first request until its number is known, and dies at the second one without an answer.
func TestKill(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.proxy.Set(t.Context(), Rule{Hold: true}))
	victim := exec.Command("sleep", "60")
	require.NoError(t, victim.Start())
	answered := make(chan error, 1)
	go func() {
		_, _, err := w.ask(t, "POST", "/first")
		answered <- err
	}()
	select {
	case <-answered:
		require.Fail(t, "it was not held")
	case <-time.After(100 * time.Millisecond):
	}
	assert.Empty(t, *w.reached)
	require.NoError(t, w.proxy.Set(t.Context(), Rule{First: 2, Kill: victim.Process.Pid}))
	require.NoError(t, <-answered)
	_, _, err := w.ask(t, "POST", "/second")
	assert.ErrorIs(t, err, io.EOF)
	require.Error(t, victim.Wait())
	assert.Equal(t, syscall.SIGKILL, victim.ProcessState.Sys().(syscall.WaitStatus).Signal())
	assert.Len(t, *w.reached, 2, "the request at which it died was carried out")
}
