package openstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"sync"
	"time"

	"github.com/catamaran-k8s/catamaran/test/lab/proxy"
)

// gate is where users find the APIs: one proxy for all of them, so that the n-th request is the n-th of all.
type gate struct {
	servers []*http.Server
	log     *os.File
}

type apiKey struct{}

// uuid is what tells one resource from the next in a path.
var uuid = regexp.MustCompile(`[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}`)

// describe says what is asked: "network GET /v2.0/ports", with (guest) at the end where a server asks. Ids are left out, so that
// requests of one kind count together.
func (s *supervisor) describe(r *http.Request, _ []byte) string {
	api, _ := r.Context().Value(apiKey{}).(string)
	what := api + " " + r.Method + " " + uuid.ReplaceAllString(r.URL.Path, "{id}")
	if from, err := netip.ParseAddrPort(r.RemoteAddr); err == nil && from.Addr().Unmap() != s.o.gate() {
		what += " (guest)"
	}
	return what
}

// route sends a request to the API that it was made to.
type route struct {
	o    Options
	next http.RoundTripper
}

// RoundTrip passes the request on.
func (t route) RoundTrip(r *http.Request) (*http.Response, error) {
	api, _ := r.Context().Value(apiKey{}).(string)
	u, err := url.Parse(t.o.local(api))
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.URL.Host = u.Host
	return t.next.RoundTrip(r)
}

// openGate lets users in.
func (s *supervisor) openGate() (*gate, error) {
	p := proxy.New(&url.URL{Scheme: "http"}, s.describe)
	// a daemon may close a connection that is idle just when it is used again
	p.Transport = route{s.o, &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	g := &gate{}
	var err error
	if g.log, err = os.OpenFile(s.o.path("log", "requests.jsonl"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return nil, err
	}
	var mu sync.Mutex
	record := json.NewEncoder(g.log)
	for api, offset := range offsets {
		if offset >= firstInner {
			continue
		}
		handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			began := time.Now()
			seen := &recorder{ResponseWriter: w}
			r = r.WithContext(context.WithValue(r.Context(), apiKey{}, api))
			defer func() { // an answer that is cut off ends in a panic
				mu.Lock()
				defer mu.Unlock()
				_ = record.Encode(map[string]any{ // a log that can not be written is not worth an answer
					"time": began, "from": r.RemoteAddr, "api": api, "method": r.Method, "path": r.URL.RequestURI(), "status": seen.status,
					"millis": time.Since(began).Milliseconds(),
				})
			}()
			p.ServeHTTP(seen, r)
		})
		if err := g.serve("tcp", net.JoinHostPort(s.o.gate().String(), fmt.Sprint(s.o.port(api))), handler); err != nil {
			g.close()
			return nil, err
		}
	}
	if err := os.RemoveAll(s.o.ProxySocket()); err != nil {
		g.close()
		return nil, err
	}
	if err := g.serve("unix", s.o.ProxySocket(), p.Control()); err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

func (g *gate) serve(network, address string, handler http.Handler) error {
	l, err := net.Listen(network, address)
	if err != nil {
		return err
	}
	h := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	g.servers = append(g.servers, h)
	go func() {
		if err := h.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			fmt.Println(address, err)
		}
	}()
	return nil
}

func (g *gate) close() {
	for _, h := range g.servers {
		_ = h.Close() // who is being served is cut off
	}
	_ = g.log.Close()
}

// recorder remembers the status of an answer; 0: there was none.
type recorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader notes the status.
func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
