// Package service puts the gateway together and runs it: four listeners, a chain for each tenant, and an orderly stop.
package service

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/certs"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/config"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/door"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/forward"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/loki"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/store"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/telemetry"
)

// Gateway listens and has not begun to serve.
type Gateway struct {
	cfg     config.Config
	log     *slog.Logger
	writers map[string]*chain.Writer
	forward *forward.Server

	logs, metrics, telemetry, probes net.Listener
	doorHandler, telemetryHandler    http.Handler
	stopping                         atomic.Bool
}

// Addresses are where a gateway listens.
type Addresses struct{ Forward, Metrics, Telemetry, Probes string }

// Addresses tells where the gateway listens.
func (g *Gateway) Addresses() Addresses {
	return Addresses{g.logs.Addr().String(), g.metrics.Addr().String(), g.telemetry.Addr().String(), g.probes.Addr().String()}
}

// How long a client may take for parts of a request or a handshake, and how many handshakes are under way at once.
const (
	handshakeTimeout = 10 * time.Second
	headerTimeout    = 10 * time.Second
	bodyTimeout      = time.Minute
	idleTimeout      = 2 * time.Minute
	ackTimeout       = 10 * time.Second
	handshakes       = 256
	firstPause       = 200 * time.Millisecond
	longestPause     = 10 * time.Second
)

// New reads the certificates and opens the listeners.
func New(cfg config.Config, version string, logger *slog.Logger) (*Gateway, error) {
	failed := func(err error) {
		logger.Error("certificates cannot be read again; the old ones stay in use", "error", err.Error())
	}
	public, err := certs.Open(cfg.Certificates.Door, certs.Interval, failed)
	if err != nil {
		return nil, err
	}
	internal, err := certs.Open(cfg.Certificates.Service, certs.Interval, failed)
	if err != nil {
		return nil, err
	}
	meter := telemetry.New(version, cfg.Tenants, time.Now())
	meter.Certificate("door", public.NotAfter)
	meter.Certificate("service", internal.NotAfter)
	g := &Gateway{cfg: cfg, log: logger, writers: map[string]*chain.Writer{}, telemetryHandler: meter.Handler()}
	if err := g.chains(internal, meter); err != nil {
		return nil, err
	}
	tenants := map[string]forward.Tenant{}
	for name, w := range g.writers {
		tenants[name] = forward.Tenant{Queue: w, Records: cfg.Forward.RecordsPerSecond, Bytes: float64(cfg.Forward.BytesPerSecond)}
	}
	g.forward = forward.New(forward.Options{
		Tenants: tenants, Identify: certs.Tenant,
		Limits: forward.Limits{
			MessageBytes: int64(cfg.Forward.MessageBytes), DecompressedBytes: int64(cfg.Forward.DecompressedBytes), Depth: cfg.Forward.Depth,
		},
		Connections: cfg.Forward.Connections, Handshakes: handshakes, Readers: cfg.Forward.Readers,
		HandshakeTimeout: handshakeTimeout, MessageTimeout: time.Duration(cfg.Forward.MessageTimeout),
		IdleTimeout: time.Duration(cfg.Forward.IdleTimeout), AckTimeout: ackTimeout, SubmitTimeout: time.Duration(cfg.Forward.SubmitTimeout),
		Meter: meter, Log: logger,
	})
	g.doorHandler = door.New(door.Options{
		URL: cfg.Metrics.ThanosURL, Dial: internal.Dial, Identify: identify, DropLabels: cfg.Metrics.DropLabels,
		MaxAhead: time.Duration(cfg.Metrics.MaxAhead), BodyBytes: int64(cfg.Metrics.BodyBytes), DecompressedBytes: int64(cfg.Metrics.DecompressedBytes),
		Series: cfg.Metrics.Series, Labels: cfg.Metrics.Labels, Requests: cfg.Metrics.Requests, Bytes: float64(cfg.Metrics.BytesPerSecond),
		Wait: time.Duration(cfg.Metrics.Timeout), Timeout: time.Duration(cfg.Metrics.Timeout), Tenants: cfg.Tenants,
		Meter: meter.Door(), Log: logger,
	})
	return g, g.listen(public, internal)
}

func (g *Gateway) chains(internal *certs.Folder, meter *telemetry.Telemetry) error {
	cfg := g.cfg
	bucket := store.Options{
		Endpoint: cfg.S3.Endpoint, Region: cfg.S3.Region, Bucket: cfg.S3.Bucket, AccessFile: cfg.S3.AccessFile, SecretFile: cfg.S3.SecretFile,
		Timeout: time.Duration(cfg.S3.Timeout),
	}
	switch {
	case cfg.S3.Trust == "service":
		bucket.Dial = internal.Dial
	case cfg.S3.CAFile != "":
		authority, err := certs.OpenAuthority(cfg.S3.CAFile)
		if err != nil {
			return fmt.Errorf("s3.caFile: %w", err)
		}
		bucket.Dial = authority.Dial
	}
	objects, err := store.New(bucket)
	if err != nil {
		return err
	}
	pusher := loki.New(loki.Options{
		URL: cfg.Loki.URL, Dial: internal.Dial, RequestBytes: int(cfg.Loki.RequestBytes), LineBytes: int(cfg.Loki.LineBytes),
		Timeout: time.Duration(cfg.Loki.Timeout), RetryMin: firstPause, RetryMax: longestPause, Meter: meter, Log: g.log,
	})
	for _, name := range cfg.Tenants {
		w, err := chain.New(chain.Options{
			Tenant: name, Store: objects, Sink: pusher, Retention: time.Duration(cfg.Chain.Retention),
			ObjectBytes: int64(cfg.Chain.ObjectBytes), MaxWait: time.Duration(cfg.Chain.MaxWait), BufferBytes: int64(cfg.Chain.BufferBytes),
			RecentChunks: cfg.Chain.RecentChunks, RecentObjects: cfg.Chain.RecentObjects, MaxStreams: cfg.Chain.MaxStreams,
			Timing:        chain.Timing{MaxAge: time.Duration(cfg.Loki.MaxAge), MaxAhead: time.Duration(cfg.Loki.MaxAhead), MaxBehind: time.Duration(cfg.Loki.MaxBehind)},
			Unconditional: !cfg.S3.ConditionalPut, RetryMin: firstPause, RetryMax: longestPause,
			Meter: meter.Chain(name), Log: g.log,
		})
		if err != nil {
			return err
		}
		g.writers[name] = w
	}
	return nil
}

func (g *Gateway) listen(public, internal *certs.Folder) error {
	for _, l := range []struct {
		address string
		tls     *tls.Config
		into    *net.Listener
	}{
		{g.cfg.Forward.Listen, public.Server(), &g.logs},
		{g.cfg.Metrics.Listen, public.Server("http/1.1"), &g.metrics},
		{g.cfg.Telemetry.Listen, internal.Server("http/1.1"), &g.telemetry},
		{g.cfg.Probes.Listen, nil, &g.probes},
	} {
		lc := net.ListenConfig{KeepAlive: 30 * time.Second}
		listener, err := lc.Listen(context.Background(), "tcp", l.address)
		if err != nil {
			g.close()
			return fmt.Errorf("listen on %s: %w", l.address, err)
		}
		if l.tls != nil {
			listener = tls.NewListener(listener, l.tls)
		}
		*l.into = listener
	}
	return nil
}

func (g *Gateway) close() {
	for _, l := range []net.Listener{g.logs, g.metrics, g.telemetry, g.probes} {
		if l != nil {
			_ = l.Close()
		}
	}
}

// identify is certs.Tenant for a request. A connection can outlive the certificate that it began with.
func identify(r *http.Request) (string, error) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return "", errors.New("no verified client certificate")
	}
	cert := r.TLS.PeerCertificates[0]
	if time.Now().After(cert.NotAfter) {
		return "", fmt.Errorf("the client certificate ended at %s", cert.NotAfter.UTC().Format(time.RFC3339))
	}
	return certs.Tenant(cert)
}

// Run serves until ctx ends, then finishes what it has: reading stops, what was read is stored and acknowledged, at most for
// the configured time. It returns an error when something could not be served, or not be finished.
func (g *Gateway) Run(ctx context.Context) error {
	defer g.close()
	work, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var writers, servers sync.WaitGroup
	for name, w := range g.writers {
		writers.Go(func() {
			if err := w.Run(work); err != nil && work.Err() == nil {
				fail(fmt.Errorf("chain of %s: %w", name, err))
			}
		})
	}
	web := []*http.Server{g.web(g.doorHandler, bodyTimeout), g.web(g.own(), headerTimeout), g.web(g.health(), headerTimeout)}
	for i, l := range []net.Listener{g.metrics, g.telemetry, g.probes} {
		servers.Go(func() {
			if err := web[i].Serve(l); !errors.Is(err, http.ErrServerClosed) {
				fail(err)
			}
		})
	}
	servers.Go(func() {
		if err := g.forward.Serve(g.logs); err != nil {
			fail(err)
		}
	})
	g.log.Info("serving", "forward", g.logs.Addr().String(), "metrics", g.metrics.Addr().String(),
		"telemetry", g.telemetry.Addr().String(), "probes", g.probes.Addr().String(), "tenants", g.cfg.Tenants)

	<-ctx.Done()
	err := context.Cause(ctx)
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, g.finish(work, kill, web, &writers, &servers))
}

func (g *Gateway) finish(work context.Context, kill func(), web []*http.Server, writers, servers *sync.WaitGroup) error {
	g.log.Info("stopping: finishing what was received")
	g.stopping.Store(true)
	limited, cancel := context.WithTimeout(work, time.Duration(g.cfg.Shutdown))
	defer cancel()
	g.forward.Stop()
	for _, w := range g.writers {
		w.Close()
	}
	errs := []error{web[0].Shutdown(limited)}
	stored := make(chan struct{})
	go func() { writers.Wait(); close(stored) }()
	select {
	case <-stored:
		errs = append(errs, g.forward.Wait(limited))
	case <-limited.Done():
		errs = append(errs, fmt.Errorf("not everything could be stored within %s; it was not acknowledged and will be sent again", time.Duration(g.cfg.Shutdown)))
	}
	kill()
	for _, s := range web {
		_ = s.Close() // after Shutdown nothing of value is left
	}
	g.close()
	servers.Wait()
	writers.Wait()
	return errors.Join(errs...)
}

func (g *Gateway) web(h http.Handler, body time.Duration) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: body, WriteTimeout: body + time.Duration(g.cfg.Metrics.Timeout)*2,
		IdleTimeout: idleTimeout, MaxHeaderBytes: 16 << 10, ErrorLog: log.New(webLog{g.log}, "", 0),
	}
}

// webLog takes net/http's notes, most of which are handshakes that failed.
type webLog struct{ log *slog.Logger }

func (w webLog) Write(b []byte) (int, error) {
	w.log.Info("http", "note", string(b))
	return len(b), nil
}

// own serves the gateway's metrics.
func (g *Gateway) own() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", g.telemetryHandler)
	return mux
}

// health answers probes. The gateway is ready while it listens: when Loki or the object store is down it must go on being
// reachable, since it is by not answering that it keeps its clients waiting, and its metrics are wanted then above all.
func (g *Gateway) health() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if g.stopping.Load() {
			http.Error(w, "stopping", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	return mux
}
