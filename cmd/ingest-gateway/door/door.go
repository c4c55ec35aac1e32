// Package door is the only way for metrics into the service cluster: it takes POST /api/v1/receive with a tenant's client
// certificate, looks at every label and time in it, and passes it on to Thanos Receive as that tenant's.
package door

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/snappy"
	"golang.org/x/time/rate"
)

// Path is the only one there is.
const Path = "/api/v1/receive"

// Options are a door's.
type Options struct {
	// URL is Thanos Receive's, without a path.
	URL string
	// Dial opens TLS connections to it.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Identify returns the tenant of a request, from its client certificate.
	Identify func(*http.Request) (string, error)
	// DropLabels are dropped from every series: tenant_id, and the labels that the service cluster sets.
	DropLabels []string
	// MaxAhead is how far in the future a sample may lie.
	MaxAhead time.Duration
	// BodyBytes and DecompressedBytes bound a request, Series and Labels what is in it.
	BodyBytes, DecompressedBytes int64
	Series, Labels               int
	// Requests is how many requests of one tenant are under way at once, Bytes how many bytes it may send in a second. Beyond
	// it a request waits, at most Wait.
	Requests int
	Bytes    float64
	Wait     time.Duration
	// Timeout bounds one request to Thanos.
	Timeout time.Duration
	Tenants []string
	Now     func() time.Time
	Meter   Meter
	Log     *slog.Logger
}

// Meter is told what the door does.
type Meter interface {
	// Written tells of samples that Thanos took.
	Written(tenant string, samples int, bytes int)
	// Answered tells how a request was answered.
	Answered(tenant string, status int, took time.Duration)
	// Spoofed counts series that claimed another tenant.
	Spoofed(tenant string, series int)
	// Refused counts requests, or parts of them, by reason.
	Refused(tenant, reason string, n int)
}

// Door is an http.Handler.
type Door struct {
	opt     Options
	drop    map[string]bool
	http    *http.Client
	url     string
	tenants map[string]*tenant
}

type tenant struct {
	slots chan struct{}
	bytes *rate.Limiter
}

// New makes a door; it does not connect.
func New(opt Options) *Door {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	d := &Door{opt: opt, drop: map[string]bool{}, url: strings.TrimRight(opt.URL, "/") + Path, tenants: map[string]*tenant{}, http: &http.Client{
		Timeout:       opt.Timeout,
		Transport:     &http.Transport{DialTLSContext: opt.Dial, MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	for _, name := range opt.DropLabels {
		d.drop[name] = true
	}
	for _, name := range opt.Tenants {
		t := &tenant{slots: make(chan struct{}, opt.Requests), bytes: rate.NewLimiter(rate.Inf, 0)}
		if opt.Bytes > 0 {
			t.bytes = rate.NewLimiter(rate.Limit(opt.Bytes), int(2*opt.Bytes)+1)
		}
		d.tenants[name] = t
	}
	return d
}

// answer is an answer of the door's own.
type answer struct {
	status int
	reason string // for metrics
	text   string
}

// ServeHTTP answers one request. Who it is comes first: nobody without a tenant's certificate learns which paths there are.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begin := d.opt.Now()
	name, err := d.opt.Identify(r)
	t := d.tenants[name]
	if err == nil && t == nil {
		err = fmt.Errorf("no tenant is called %q", name)
	}
	if err != nil {
		d.refuse(w, r, "", answer{http.StatusForbidden, "identity", "the client certificate is not a tenant's"}, err)
		return
	}
	status := http.StatusOK
	if refused := d.receive(w, r, name, t, &status); refused != nil {
		status = refused.status
		d.refuse(w, r, name, *refused, errors.New(refused.text))
	}
	d.opt.Meter.Answered(name, status, d.opt.Now().Sub(begin))
}

func (d *Door) refuse(w http.ResponseWriter, r *http.Request, tenant string, a answer, err error) {
	d.opt.Meter.Refused(tenant, a.reason, 1)
	d.opt.Log.Warn("door: refused", "reason", a.reason, "tenant", tenant, "peer", r.RemoteAddr, "method", r.Method, "path", r.URL.Path, "error", err.Error())
	if a.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", http.MethodPost)
	}
	http.Error(w, a.text, a.status)
}

// receive passes one request on. It returns the refusal when it is the door's own.
func (d *Door) receive(w http.ResponseWriter, r *http.Request, name string, t *tenant, status *int) *answer {
	if r.URL.Path != Path || r.URL.RawQuery != "" {
		return &answer{http.StatusNotFound, "path", "only POST " + Path + " is here"}
	}
	if r.Method != http.MethodPost {
		return &answer{http.StatusMethodNotAllowed, "method", "only POST " + Path + " is here"}
	}
	version, refused := versionOf(r.Header)
	if refused != nil {
		return refused
	}
	ctx, cancel := context.WithTimeout(r.Context(), d.opt.Wait)
	defer cancel()
	select {
	case t.slots <- struct{}{}:
		defer func() { <-t.slots }()
	case <-ctx.Done():
		return busy()
	}
	body, refused := d.read(w, r)
	if refused != nil {
		return refused
	}
	for n := len(body); n > 0 && t.bytes.Limit() != rate.Inf; {
		piece := min(n, t.bytes.Burst())
		if t.bytes.WaitN(ctx, piece) != nil {
			return busy()
		}
		n -= piece
	}
	s := stamp{tenant: name, drop: d.drop, newest: d.opt.Now().Add(d.opt.MaxAhead).UnixMilli(), maxSeries: d.opt.Series, maxLabels: d.opt.Labels}
	rewrite := s.number1
	if version == 2 {
		rewrite = s.number2
	}
	out, count, err := rewrite(body)
	if err != nil {
		return &answer{http.StatusBadRequest, "malformed", err.Error()}
	}
	d.opt.Meter.Spoofed(name, count.spoofed)
	d.opt.Meter.Refused(name, "future-sample", count.future)
	if count.future > 0 && count.total() == 0 {
		return d.future(count)
	}
	return d.forward(w, r, name, snappy.Encode(nil, out), count, status)
}

// busy is an answer that senders repeat: Prometheus repeats 5xx always, 429 only where it is told to, and drops the
// samples otherwise.
func busy() *answer {
	return &answer{http.StatusServiceUnavailable, "busy", "the tenant's limit is reached: send it again later"}
}

// future is the answer where samples were left out because they lie in the future. The rest is stored. It must be an
// answer for good: an agent that repeated it would stop there until that time came. The protocol asks for 400 where a
// part is refused and the rest is taken; Prometheus counts and logs it and goes on with the next.
func (d *Door) future(count written) *answer {
	return &answer{http.StatusBadRequest, "future-samples", fmt.Sprintf("%d samples lie more than %s in the future and are refused; %d are stored: is the clock right?",
		count.future, d.opt.MaxAhead, count.total())}
}

func versionOf(h http.Header) (int, *answer) {
	if e := h.Get("Content-Encoding"); e != "" && e != "snappy" {
		return 0, &answer{http.StatusUnsupportedMediaType, "media-type", fmt.Sprintf("Content-Encoding %q: expected snappy", e)}
	}
	media, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err == nil && media == "application/x-protobuf" {
		switch params["proto"] {
		case "", "prometheus.WriteRequest":
			return 1, nil
		case "io.prometheus.write.v2.Request":
			return 2, nil
		}
	}
	return 0, &answer{http.StatusUnsupportedMediaType, "media-type", fmt.Sprintf("Content-Type %q: expected remote write 1.0 or 2.0", h.Get("Content-Type"))}
}

func (d *Door) read(w http.ResponseWriter, r *http.Request) ([]byte, *answer) {
	compressed, err := io.ReadAll(http.MaxBytesReader(w, r.Body, d.opt.BodyBytes))
	if err != nil {
		var tooBig *http.MaxBytesError
		if errors.As(err, &tooBig) {
			return nil, &answer{http.StatusRequestEntityTooLarge, "body-too-big", fmt.Sprintf("more than %d bytes", d.opt.BodyBytes)}
		}
		return nil, &answer{http.StatusBadRequest, "malformed", "the body could not be read"}
	}
	n, err := snappy.DecodedLen(compressed)
	if err != nil {
		return nil, &answer{http.StatusBadRequest, "malformed", "the body is not snappy"}
	}
	if int64(n) > d.opt.DecompressedBytes {
		return nil, &answer{http.StatusRequestEntityTooLarge, "decompressed-too-big", fmt.Sprintf("decompresses to more than %d bytes", d.opt.DecompressedBytes)}
	}
	body, err := snappy.Decode(nil, compressed)
	if err != nil {
		return nil, &answer{http.StatusBadRequest, "malformed", "the body is not snappy"}
	}
	return body, nil
}

// forward sends a rewritten request to Thanos and passes its answer on as it is.
func (d *Door) forward(w http.ResponseWriter, r *http.Request, name string, body []byte, count written, status *int) *answer {
	req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, d.url, bytes.NewReader(body))
	if err != nil {
		return &answer{http.StatusInternalServerError, "internal", "the gateway is at fault"}
	}
	req.Header.Set("User-Agent", r.UserAgent())
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("THANOS-TENANT", name)
	resp, err := d.http.Do(req)
	if err != nil {
		d.opt.Log.Warn("door: Thanos Receive does not answer", "tenant", name, "error", err.Error())
		return &answer{http.StatusServiceUnavailable, "upstream", "the metrics store does not answer: send it again later"}
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return &answer{http.StatusServiceUnavailable, "upstream", "the metrics store broke off: send it again later"}
	}
	*status = resp.StatusCode
	if resp.StatusCode < 300 {
		d.opt.Meter.Written(name, count.samples+count.histograms, len(body))
		// A sender of 2.0 takes the samples for lost without these.
		for kind, n := range map[string]int{"Samples": count.samples, "Histograms": count.histograms, "Exemplars": count.exemplars} {
			w.Header().Set("X-Prometheus-Remote-Write-"+kind+"-Written", strconv.Itoa(n))
		}
		if count.future > 0 {
			return d.future(count)
		}
	} else {
		d.opt.Meter.Refused(name, "upstream-"+strconv.Itoa(resp.StatusCode), 1)
	}
	for k, v := range resp.Header {
		if k == "Content-Type" || k == "Retry-After" {
			w.Header()[k] = v
		}
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(text) // the client is gone otherwise
	return nil
}
