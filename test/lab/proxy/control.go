package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// Control lets another process set the rules and see what was asked: GET /status, PUT /rules with a list of rules as JSON. Serve it on
// a socket that only its owner can open.
func (p *Proxy) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(p.Status()) // who asked may be gone
	})
	mux.HandleFunc("PUT /rules", func(w http.ResponseWriter, r *http.Request) {
		var rules []Rule
		d := json.NewDecoder(r.Body)
		d.DisallowUnknownFields()
		err := d.Decode(&rules)
		if err == nil {
			err = p.Set(rules)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	return mux
}

// Client controls a proxy in another process.
type Client struct {
	// Socket is the path of its control socket.
	Socket string
}

// Set replaces the rules; none: everything is passed on.
func (c Client) Set(ctx context.Context, rules ...Rule) error {
	if rules == nil {
		rules = []Rule{}
	}
	data, err := json.Marshal(rules)
	if err != nil {
		return err
	}
	return c.call(ctx, http.MethodPut, "/rules", data, nil)
}

// Status tells what the proxy has seen.
func (c Client) Status(ctx context.Context) (Status, error) {
	var s Status
	return s, c.call(ctx, http.MethodGet, "/status", nil, &s)
}

// Get asks what else the process answers on its control socket.
func (c Client) Get(ctx context.Context, path string, result any) error {
	return c.call(ctx, http.MethodGet, path, nil, result)
}

func (c Client) call(ctx context.Context, method, path string, body []byte, result any) error {
	h := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", c.Socket)
		},
	}}
	r, err := http.NewRequestWithContext(ctx, method, "http://proxy"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	answer, err := h.Do(r)
	if err != nil {
		return fmt.Errorf("the proxy's control socket %s: %w", c.Socket, err)
	}
	data, err := io.ReadAll(answer.Body)
	if cerr := answer.Body.Close(); err == nil {
		err = cerr
	}
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, strings.TrimSpace(string(data)))
	}
	if err != nil {
		return fmt.Errorf("the proxy's control socket %s: %s %s: %w", c.Socket, method, path, err)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(data, result)
}
