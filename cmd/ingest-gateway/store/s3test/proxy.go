package s3test

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/certs/certstest"
)

// Fault is what a Proxy does with a request.
type Fault int

const (
	// Pass it on.
	Pass Fault = iota
	// Unavailable answers 503 and does not pass it on.
	Unavailable
	// Lost passes it on and closes the connection instead of answering.
	Lost
	// Half passes it on and breaks off in the middle of the answer's body.
	Half
	// Cut closes the connection without passing it on.
	Cut
)

// Proxy stands in front of an S3.
type Proxy struct {
	// Endpoint is its URL.
	Endpoint string

	mu    sync.Mutex
	fault func(*http.Request) Fault
}

// Set says what happens to requests from now on; nil: all pass.
func (p *Proxy) Set(fault func(*http.Request) Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = fault
}

// NewProxy runs a proxy until the test's end. Its certificate is of ca.
func (s *S3) NewProxy(t testing.TB, ca *certstest.CA) *Proxy {
	t.Helper()
	to, err := url.Parse(s.Endpoint)
	require.NoError(t, err)
	p := &Proxy{}
	reverse := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // it is signed
		},
		Transport: &http.Transport{DialTLSContext: s.Dial, DisableCompression: true},
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // clients that are killed
	}
	folder := ca.Folder(t, "proxy", ca)
	pair, err := tls.LoadX509KeyPair(filepath.Join(folder, "tls.crt"), filepath.Join(folder, "tls.key"))
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		fault := Pass
		if p.fault != nil {
			fault = p.fault(r)
		}
		p.mu.Unlock()
		switch fault {
		case Pass:
			reverse.ServeHTTP(w, r)
		case Unavailable:
			http.Error(w, "slow down", http.StatusServiceUnavailable)
		case Cut:
			panic(http.ErrAbortHandler)
		case Lost, Half:
			answer := httptest.NewRecorder()
			reverse.ServeHTTP(answer, r)
			if body := answer.Body.Bytes(); fault == Half && len(body) > 1 {
				for k, v := range answer.Header() {
					w.Header()[k] = v
				}
				w.WriteHeader(answer.Code)
				_, _ = w.Write(body[:len(body)/2])
				_ = http.NewResponseController(w).Flush()
			}
			panic(http.ErrAbortHandler)
		}
	}))
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	server.Config.ErrorLog = reverse.ErrorLog
	server.StartTLS()
	t.Cleanup(server.Close)
	p.Endpoint = server.URL
	return p
}
