// Package telemetry is what the gateway says about itself: Prometheus metrics, and the meters that fill them.
package telemetry

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/forward"
)

// Telemetry holds the gateway's metrics. All begin with ingest_gateway_; ../README.md lists them. It is the meter of the
// forward server, of the door and of the Loki pusher; Chain makes that of a writer.
type Telemetry struct {
	registry *prometheus.Registry

	records, bytes, chunks, acks, spoofed, refused *prometheus.CounterVec
	connections, last                              *prometheus.GaugeVec
	ackSeconds                                     *prometheus.HistogramVec

	sequence                                                                *prometheus.GaugeVec
	objects, storedRecords, storedChunks, plainBytes, storedBytes, repeated *prometheus.CounterVec
	retries, conflicts                                                      *prometheus.CounterVec
	objectSeconds                                                           *prometheus.HistogramVec

	pushes, adjusted *prometheus.CounterVec
	pushSeconds      *prometheus.HistogramVec

	samples, sampleBytes, requests *prometheus.CounterVec
	requestSeconds                 *prometheus.HistogramVec
}

// New makes the metrics of a gateway of the given version. The last-received times of all tenants begin with now, so that
// an alert on their age also sees a tenant that never sent anything, and a restart is not silence.
func New(version string, tenants []string, now time.Time) *Telemetry {
	t := &Telemetry{registry: prometheus.NewRegistry()}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "ingest_gateway", Name: name, Help: help}, labels)
		t.registry.MustRegister(c)
		return c
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "ingest_gateway", Name: name, Help: help}, labels)
		t.registry.MustRegister(g)
		return g
	}
	seconds := func(name, help string, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "ingest_gateway", Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.005, 2.5, 11), // 5 ms to 48 s
		}, labels)
		t.registry.MustRegister(h)
		return h
	}
	t.records = counter("forward_records_total", "Records received.", "tenant")
	t.bytes = counter("forward_bytes_total", "Bytes of messages received, as they came.", "tenant")
	t.chunks = counter("forward_chunks_total", "Messages received.", "tenant", "mode")
	t.acks = counter("forward_acks_total", "Acknowledgements sent.", "tenant")
	t.spoofed = counter("spoofed_total", "Records and series that claimed another tenant; they were stamped over.", "tenant", "kind")
	t.refused = counter("refused_total", "What was refused, by reason.", "tenant", "door", "reason")
	t.connections = gauge("forward_connections", "Open connections.", "tenant")
	t.last = gauge("last_received_timestamp_seconds", "When logs or metrics of a tenant last came and were stored.", "tenant", "kind")
	t.ackSeconds = seconds("forward_ack_seconds", "From a message to its acknowledgement.", "tenant")

	t.sequence = gauge("chain_sequence", "The number of the newest object.", "tenant")
	t.objects = counter("chain_objects_total", "Objects stored.", "tenant")
	t.storedRecords = counter("chain_records_total", "Records stored.", "tenant")
	t.storedChunks = counter("chain_chunks_total", "Chunks stored.", "tenant")
	t.plainBytes = counter("chain_plain_bytes_total", "Bytes stored, before compression.", "tenant")
	t.storedBytes = counter("chain_stored_bytes_total", "Bytes stored, after compression.", "tenant")
	t.repeated = counter("chain_repeated_chunks_total", "Chunks that came again and were not stored again.", "tenant")
	t.retries = counter("chain_retries_total", "Failed tries: recover, put, lock or push.", "tenant", "what")
	t.conflicts = counter("chain_conflicts_total", "Objects that somebody else had written under our next number.", "tenant")
	t.objectSeconds = seconds("chain_object_seconds", "From an object's making until it is in both stores.", "tenant")

	t.pushes = counter("loki_requests_total", "Push requests by answer; 0: none came.", "tenant", "status")
	t.adjusted = counter("loki_adjusted_total", "Lines changed for Loki: retimed, cut or left-out.", "tenant", "how")
	t.pushSeconds = seconds("loki_request_seconds", "Push requests.", "tenant")

	t.samples = counter("metrics_samples_total", "Samples and histograms that the metrics store took.", "tenant")
	t.sampleBytes = counter("metrics_bytes_total", "Bytes passed on to the metrics store.", "tenant")
	t.requests = counter("metrics_requests_total", "Requests by answer.", "tenant", "status")
	t.requestSeconds = seconds("metrics_request_seconds", "Requests.", "tenant")

	gauge("build_info", "The gateway's version.", "version").WithLabelValues(version).Set(1)
	t.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, name := range tenants {
		t.last.WithLabelValues(name, "logs").Set(float64(now.Unix()))
		t.last.WithLabelValues(name, "metrics").Set(float64(now.Unix()))
		t.connections.WithLabelValues(name)
		t.records.WithLabelValues(name)
		t.samples.WithLabelValues(name)
		t.conflicts.WithLabelValues(name)
	}
	return t
}

// Handler serves the metrics.
func (t *Telemetry) Handler() http.Handler {
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{Registry: t.registry})
}

// Certificate adds the end of a certificate.
func (t *Telemetry) Certificate(name string, notAfter func() time.Time) {
	t.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "ingest_gateway", Name: "certificate_not_after_timestamp_seconds", Help: "The end of one of the gateway's certificates.",
		ConstLabels: prometheus.Labels{"certificate": name},
	}, func() float64 { return float64(notAfter().Unix()) }))
}

// Connections implements forward.Meter.
func (t *Telemetry) Connections(tenant string, n int) {
	t.connections.WithLabelValues(tenant).Set(float64(n))
}

// Message implements forward.Meter.
func (t *Telemetry) Message(tenant string, m *forward.Message) {
	t.records.WithLabelValues(tenant).Add(float64(len(m.Chunk.Records)))
	t.bytes.WithLabelValues(tenant).Add(float64(m.WireBytes))
	t.chunks.WithLabelValues(tenant, m.Mode).Inc()
	if m.Spoofed > 0 {
		t.spoofed.WithLabelValues(tenant, "record").Add(float64(m.Spoofed))
	}
}

// Acked implements forward.Meter.
func (t *Telemetry) Acked(tenant string, after time.Duration) {
	t.acks.WithLabelValues(tenant).Inc()
	t.ackSeconds.WithLabelValues(tenant).Observe(after.Seconds())
}

// Refused implements forward.Meter.
func (t *Telemetry) Refused(tenant, reason string) {
	t.refused.WithLabelValues(tenant, "forward", reason).Inc()
}

// Pushed implements loki.Meter.
func (t *Telemetry) Pushed(tenant string, status int, took time.Duration) {
	t.pushes.WithLabelValues(tenant, strconv.Itoa(status)).Inc()
	t.pushSeconds.WithLabelValues(tenant).Observe(took.Seconds())
}

// Adjusted implements loki.Meter.
func (t *Telemetry) Adjusted(tenant, how string, n int) {
	t.adjusted.WithLabelValues(tenant, how).Add(float64(n))
}

// Door is the meter of the metrics door.
func (t *Telemetry) Door() *Door { return &Door{t} }

// Door implements door.Meter.
type Door struct{ t *Telemetry }

// Written implements door.Meter.
func (d *Door) Written(tenant string, samples, bytes int) {
	d.t.samples.WithLabelValues(tenant).Add(float64(samples))
	d.t.sampleBytes.WithLabelValues(tenant).Add(float64(bytes))
	if samples > 0 {
		d.t.last.WithLabelValues(tenant, "metrics").SetToCurrentTime()
	}
}

// Spoofed implements door.Meter.
func (d *Door) Spoofed(tenant string, series int) {
	d.t.spoofed.WithLabelValues(tenant, "series").Add(float64(series))
}

// Answered implements door.Meter.
func (d *Door) Answered(tenant string, status int, took time.Duration) {
	d.t.requests.WithLabelValues(tenant, strconv.Itoa(status)).Inc()
	d.t.requestSeconds.WithLabelValues(tenant).Observe(took.Seconds())
}

// Refused implements door.Meter.
func (d *Door) Refused(tenant, reason string, n int) {
	d.t.refused.WithLabelValues(tenant, "metrics", reason).Add(float64(n))
}

// Chain is the meter of one tenant's writer.
func (t *Telemetry) Chain(tenant string) *Chain { return &Chain{t: t, tenant: tenant} }

// Chain implements chain.Meter.
type Chain struct {
	t      *Telemetry
	tenant string
}

// End implements chain.Meter.
func (c *Chain) End(sequence uint64) {
	c.t.sequence.WithLabelValues(c.tenant).Set(float64(sequence))
}

// Object implements chain.Meter.
func (c *Chain) Object(chunks, records int, plainBytes, storedBytes int64, took time.Duration) {
	c.t.objects.WithLabelValues(c.tenant).Inc()
	c.t.storedChunks.WithLabelValues(c.tenant).Add(float64(chunks))
	c.t.storedRecords.WithLabelValues(c.tenant).Add(float64(records))
	c.t.plainBytes.WithLabelValues(c.tenant).Add(float64(plainBytes))
	c.t.storedBytes.WithLabelValues(c.tenant).Add(float64(storedBytes))
	c.t.objectSeconds.WithLabelValues(c.tenant).Observe(took.Seconds())
	if records > 0 {
		c.t.last.WithLabelValues(c.tenant, "logs").SetToCurrentTime()
	}
}

// Duplicates implements chain.Meter.
func (c *Chain) Duplicates(n int) { c.t.repeated.WithLabelValues(c.tenant).Add(float64(n)) }

// Retry implements chain.Meter.
func (c *Chain) Retry(what string) { c.t.retries.WithLabelValues(c.tenant, what).Inc() }

// Conflict implements chain.Meter.
func (c *Chain) Conflict() { c.t.conflicts.WithLabelValues(c.tenant).Inc() }
