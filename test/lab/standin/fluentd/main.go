// A STAND-IN for Fluentd, which is written in Ruby and can not be built here. It reads the fluent.conf that the product's
// chart renders, the very file, and does what Fluentd does with it: it tails container and audit logs through rotations, reads
// the systemd journal, buffers on disk, and delivers over the forward protocol with acknowledgements, gzip and client
// certificates. It knows only the plugins and parameters that this file uses, and refuses others as Fluentd would refuse a
// plugin that its image lacks. It proves the product's configuration and gateway; it proves nothing about Fluentd itself.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

func main() {
	// Fluentd's image takes the file's name from the environment; it lies in /fluentd/etc
	file := flag.String("c", filepath.Join("/fluentd/etc", envOr("FLUENTD_CONF", "fluent.conf")), "the configuration")
	dry := flag.Bool("dry-run", false, "only check the configuration")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, *file, *dry); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, file string, dry bool) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	root, err := parse(string(text), os.Getenv)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	a, err := newAgent(root)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if dry {
		log.Printf("%s is good: %d sources, delivered to %s", file, len(a.sources), a.outs[0].address)
		return nil
	}
	return a.run(ctx)
}

// agent is one configuration at work.
type agent struct {
	sources []labelled
	metrics string // address that the metrics are served on; empty: nowhere
	path    string // of the metrics
	outs    []*forwarder
}

// source reads something and emits it until the context ends.
type source interface {
	run(ctx context.Context, emit func(tag string, events []event) error) error
	id() string
}

// event is a record at its time. The order of fields is kept.
type event struct {
	time   time.Time
	record []field
}

type field struct{ key, value string }

func (e event) get(key string) string {
	for _, f := range e.record {
		if f.key == key {
			return f.value
		}
	}
	return ""
}

// newAgent builds what the configuration describes and refuses what it does not know.
func newAgent(root *section) (*agent, error) {
	a := &agent{}
	labels := map[string]*pipeline{}
	type pending struct {
		source source
		label  string
	}
	var wired []pending
	for _, s := range root.sections {
		switch s.name {
		case "system":
			if err := s.only("log_level", "root_dir", "dir_permission", "file_permission", "ignore_repeated_log_interval"); err != nil {
				return nil, err
			}
		case "label":
			// Fluentd's own events: the stand-in has none, it logs to standard error
			if s.arg == "@FLUENT_LOG" {
				continue
			}
			p, err := newPipeline(s)
			if err != nil {
				return nil, err
			}
			labels[s.arg] = p
		case "source":
			made, err := a.newSource(s)
			if err != nil {
				return nil, err
			}
			if made != nil {
				wired = append(wired, pending{made, s.get("@label")})
			}
		default:
			return nil, s.errorf("<%s> at the top is not known", s.name)
		}
	}
	for _, w := range wired {
		p, ok := labels[w.label]
		if !ok {
			return nil, fmt.Errorf("source %s goes to the label %q, which is not there", w.source.id(), w.label)
		}
		if !p.used {
			a.outs, p.used = append(a.outs, p.forwarders()...), true
		}
		a.sources = append(a.sources, labelled{w.source, p})
	}
	if len(a.outs) == 0 {
		return nil, errors.New("no source has an output")
	}
	return a, nil
}

// labelled is a source whose events go through the filters of its label.
type labelled struct {
	source
	to *pipeline
}

func (l labelled) run(ctx context.Context) error {
	return l.source.run(ctx, func(tag string, events []event) error { return l.to.emit(ctx, tag, events) })
}

func (a *agent) newSource(s *section) (source, error) {
	switch kind := s.get("@type"); kind {
	case "tail":
		return newTail(s)
	case "systemd":
		return newSystemd(s)
	case "prometheus":
		if err := s.only("@type", "@id", "bind", "port", "metrics_path"); err != nil {
			return nil, err
		}
		a.metrics, a.path = net.JoinHostPort(s.or("bind", "0.0.0.0"), s.or("port", "24231")), s.or("metrics_path", "/metrics")
		return nil, nil
	case "prometheus_output_monitor":
		return nil, s.only("@type", "@id", "interval")
	default:
		return nil, s.errorf("the stand-in has no input plugin %q", kind)
	}
}

func (a *agent) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, out := range a.outs {
		if err := out.open(); err != nil {
			return err
		}
	}
	var work sync.WaitGroup
	failed := make(chan error, len(a.sources)+2)
	for _, out := range a.outs {
		work.Go(func() { out.run(ctx) })
	}
	for _, s := range a.sources {
		work.Go(func() {
			if err := s.run(ctx); err != nil && ctx.Err() == nil {
				failed <- fmt.Errorf("source %s: %w", s.id(), err)
			}
		})
	}
	if a.metrics != "" {
		server := &http.Server{Addr: a.metrics, Handler: a.handler(), ReadHeaderTimeout: 10 * time.Second}
		work.Go(func() {
			if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		})
		context.AfterFunc(ctx, func() { _ = server.Close() })
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	cancel()
	work.Wait()
	for _, out := range a.outs {
		err = errors.Join(err, out.close())
	}
	return err
}

// handler serves the metrics by the names that fluent-plugin-prometheus gives them.
func (a *agent) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+a.path, func(w http.ResponseWriter, _ *http.Request) {
		for _, m := range []struct {
			name, kind string
			value      func(statistics) int64
		}{
			{"fluentd_output_status_buffer_total_bytes", "gauge", func(s statistics) int64 { return s.bytes }},
			{"fluentd_output_status_buffer_queue_length", "gauge", func(s statistics) int64 { return s.queued }},
			{"fluentd_output_status_retry_count", "gauge", func(s statistics) int64 { return s.retries }},
			{"fluentd_output_status_num_errors", "gauge", func(s statistics) int64 { return s.errors }},
			{"fluentd_output_status_emit_records", "gauge", func(s statistics) int64 { return s.emitted }},
			{"fluentd_output_status_write_count", "gauge", func(s statistics) int64 { return s.delivered }},
		} {
			fmt.Fprintf(w, "# TYPE %s %s\n", m.name, m.kind) //nolint:errcheck // the client is gone
			for _, out := range a.outs {
				fmt.Fprintf(w, "%s{plugin_id=%q,type=\"forward\"} %d\n", m.name, out.id, m.value(out.stats())) //nolint:errcheck // the client is gone
			}
		}
	})
	return mux
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// every calls f at once and then at each interval until the context ends or f fails.
func every(ctx context.Context, interval time.Duration, f func() error) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := f(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
