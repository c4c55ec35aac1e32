// Package config is the gateway's configuration file: YAML (and so JSON), in which unknown keys are refused.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Config is the whole file. What is not given has the default that Default gives.
type Config struct {
	// Tenants are the clusters that may send: RFC 1123 labels, as in their client certificates.
	Tenants []string `yaml:"tenants"`
	// Certificates are folders in the form of mounted Secrets.
	Certificates Certificates `yaml:"certificates"`
	Forward      Forward      `yaml:"forward"`
	Metrics      Metrics      `yaml:"metrics"`
	// Telemetry is the address of the gateway's own metrics (HTTPS, client certificate of the service CA).
	Telemetry Listen `yaml:"telemetry"`
	// Probes is the address of /healthz and /readyz (plain HTTP, no data).
	Probes Listen `yaml:"probes"`
	Chain  Chain  `yaml:"chain"`
	S3     S3     `yaml:"s3"`
	Loki   Loki   `yaml:"loki"`
	// Shutdown is how long the gateway finishes what it has when it is told to stop.
	Shutdown Duration `yaml:"shutdown"`
}

// Certificates are folders with tls.crt, tls.key and ca.crt.
type Certificates struct {
	// Door is shown to the workload clusters; its ca.crt verifies their client certificates.
	Door string `yaml:"door"`
	// Service is shown to Loki, Thanos and the object store, and on the telemetry port; its ca.crt verifies all of them.
	Service string `yaml:"service"`
}

// Listen is an address to listen on.
type Listen struct {
	Listen string `yaml:"listen"`
}

// Forward is the door for logs.
type Forward struct {
	Listen string `yaml:"listen"`
	// MessageBytes is the longest message, DecompressedBytes what it may decompress to.
	MessageBytes      Size `yaml:"messageBytes"`
	DecompressedBytes Size `yaml:"decompressedBytes"`
	// Depth is how deep records may nest; what is deeper is kept as base64.
	Depth int `yaml:"depth"`
	// Connections is how many a tenant may have.
	Connections int `yaml:"connections"`
	// Readers is how many messages of a tenant are read at once.
	Readers int `yaml:"readers"`
	// RecordsPerSecond and BytesPerSecond are the most that is taken from a tenant; 0: no limit.
	RecordsPerSecond float64 `yaml:"recordsPerSecond"`
	BytesPerSecond   Size    `yaml:"bytesPerSecond"`
	// MessageTimeout bounds a message from its first byte to its last, IdleTimeout the time between two, SubmitTimeout how
	// long one waits for room before its connection is closed.
	MessageTimeout Duration `yaml:"messageTimeout"`
	IdleTimeout    Duration `yaml:"idleTimeout"`
	SubmitTimeout  Duration `yaml:"submitTimeout"`
}

// Metrics is the door for remote write.
type Metrics struct {
	Listen string `yaml:"listen"`
	// ThanosURL is Thanos Receive's, without a path.
	ThanosURL string `yaml:"thanosURL"`
	// DropLabels are dropped from every series, beside cluster, which is stamped. tenant_id must be among them.
	DropLabels []string `yaml:"dropLabels"`
	// MaxAhead is how far in the future a sample may lie.
	MaxAhead          Duration `yaml:"maxAhead"`
	BodyBytes         Size     `yaml:"bodyBytes"`
	DecompressedBytes Size     `yaml:"decompressedBytes"`
	Series            int      `yaml:"series"`
	Labels            int      `yaml:"labels"`
	// Requests is how many of a tenant are under way at once.
	Requests       int      `yaml:"requests"`
	BytesPerSecond Size     `yaml:"bytesPerSecond"`
	Timeout        Duration `yaml:"timeout"`
}

// Chain is how records become objects.
type Chain struct {
	// Retention is how long objects are locked.
	Retention   Duration `yaml:"retention"`
	ObjectBytes Size     `yaml:"objectBytes"`
	// MaxWait is how long the first chunk of an object waits for others.
	MaxWait Duration `yaml:"maxWait"`
	// BufferBytes bounds what waits for a tenant.
	BufferBytes Size `yaml:"bufferBytes"`
	// RecentChunks and RecentObjects bound the memory for chunks that come again.
	RecentChunks  int `yaml:"recentChunks"`
	RecentObjects int `yaml:"recentObjects"`
	// MaxStreams bounds a tenant's label sets within an hour; it must be below Loki's max_global_streams_per_user.
	MaxStreams int `yaml:"maxStreams"`
}

// S3 is the bucket.
type S3 struct {
	Endpoint string `yaml:"endpoint"`
	Region   string `yaml:"region"`
	Bucket   string `yaml:"bucket"`
	// AccessFile and SecretFile hold the keys.
	AccessFile string `yaml:"accessFile"`
	SecretFile string `yaml:"secretFile"`
	// Trust is service (the service CA, with a client certificate) or system (public authorities, without).
	Trust string `yaml:"trust"`
	// CAFile has the authorities (PEM) that count instead of the public ones where Trust is system.
	CAFile string `yaml:"caFile"`
	// ConditionalPut says that the store knows If-None-Match. Without it the gateway looks before it writes.
	ConditionalPut bool     `yaml:"conditionalPut"`
	Timeout        Duration `yaml:"timeout"`
}

// Loki is where records are searched.
type Loki struct {
	URL string `yaml:"url"`
	// RequestBytes must be below Loki's ingestion_burst_size_mb, LineBytes not above max_line_size.
	RequestBytes Size     `yaml:"requestBytes"`
	LineBytes    Size     `yaml:"lineBytes"`
	Timeout      Duration `yaml:"timeout"`
	// MaxAge is Loki's reject_old_samples_max_age, MaxAhead its creation_grace_period, MaxBehind half of its max_chunk_age,
	// each less a margin.
	MaxAge    Duration `yaml:"maxAge"`
	MaxAhead  Duration `yaml:"maxAhead"`
	MaxBehind Duration `yaml:"maxBehind"`
}

const mib = 1 << 20

// Default is what a file need not say.
func Default() Config {
	return Config{
		Certificates: Certificates{Door: "/etc/catamaran/door", Service: "/etc/catamaran/tls"},
		Forward: Forward{
			Listen: ":24224", MessageBytes: 16 * mib, DecompressedBytes: 32 * mib, Depth: 32, Connections: 256, Readers: 4,
			RecordsPerSecond: 50000, BytesPerSecond: 32 * mib,
			MessageTimeout: Duration(time.Minute), IdleTimeout: Duration(10 * time.Minute), SubmitTimeout: Duration(30 * time.Second),
		},
		Metrics: Metrics{
			Listen: ":9443", DropLabels: []string{"tenant_id"}, MaxAhead: Duration(5 * time.Minute),
			BodyBytes: 4 * mib, DecompressedBytes: 32 * mib, Series: 20000, Labels: 64, Requests: 16, BytesPerSecond: 32 * mib,
			Timeout: Duration(30 * time.Second),
		},
		Telemetry: Listen{":9090"},
		Probes:    Listen{":8080"},
		Chain: Chain{
			ObjectBytes: 16 * mib, MaxWait: Duration(time.Second), BufferBytes: 48 * mib, RecentChunks: 100000, RecentObjects: 1000, MaxStreams: 2000,
		},
		S3: S3{Region: "us-east-1", Trust: "service", ConditionalPut: true, Timeout: Duration(30 * time.Second), //nolint:gosec // names of files
			AccessFile: "/etc/catamaran/s3/access", SecretFile: "/etc/catamaran/s3/secret"},
		Loki: Loki{
			RequestBytes: mib, LineBytes: 256 << 10, Timeout: Duration(30 * time.Second),
			MaxAge: Duration(167 * time.Hour), MaxAhead: Duration(9 * time.Minute), MaxBehind: Duration(55 * time.Minute),
		},
		Shutdown: Duration(25 * time.Second),
	}
}

// Read reads and checks a file.
func Read(path string) (Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Config{}, err
	}
	c, err := Parse(b)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Parse reads and checks a file's content.
func Parse(b []byte) (Config, error) {
	c := Default()
	if err := Strict(b, &c); err != nil {
		return Config{}, err
	}
	return c, c.check()
}

// Strict reads one YAML document into v and refuses unknown keys.
func Strict(b []byte, v any) error {
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(v); err != nil {
		if errors.Is(err, io.EOF) {
			return errors.New("the file is empty")
		}
		return err
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return errors.New("there is more than one document in the file")
	}
	return nil
}

func (c Config) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Tenants) == 0 {
		bad("tenants: name at least one")
	}
	label := regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	for i, t := range c.Tenants {
		if !label.MatchString(t) {
			bad("tenants: %q is not an RFC 1123 label", t)
		}
		if slices.Contains(c.Tenants[:i], t) {
			bad("tenants: %q is named twice", t)
		}
	}
	for _, u := range []struct{ key, value string }{{"metrics.thanosURL", c.Metrics.ThanosURL}, {"s3.endpoint", c.S3.Endpoint}, {"loki.url", c.Loki.URL}} {
		if p, err := url.Parse(u.value); err != nil || p.Scheme != "https" || p.Host == "" || strings.Trim(p.Path, "/") != "" || p.RawQuery != "" || p.User != nil {
			bad("%s: %q: expected https://HOST[:PORT]", u.key, u.value)
		}
	}
	if c.S3.Bucket == "" {
		bad("s3.bucket: name one")
	}
	if c.S3.Trust != "service" && c.S3.Trust != "system" {
		bad("s3.trust: %q: expected service or system", c.S3.Trust)
	}
	if c.S3.CAFile != "" && c.S3.Trust != "system" {
		bad("s3.caFile: it stands for the public authorities: set trust to system, or leave it out")
	}
	if c.Chain.Retention < Duration(24*time.Hour) {
		bad("chain.retention: %s: expected at least 24h; what is stored cannot be removed before", time.Duration(c.Chain.Retention))
	}
	if !slices.Contains(c.Metrics.DropLabels, "tenant_id") {
		bad("metrics.dropLabels: tenant_id must be among them: a series with it can shadow what was delivered")
	}
	for _, s := range c.sizes() {
		if s.value <= 0 {
			bad("%s: %v: expected more than 0", s.key, s.value)
		}
	}
	if c.Forward.RecordsPerSecond < 0 || c.Forward.BytesPerSecond < 0 || c.Metrics.BytesPerSecond < 0 {
		bad("forward.recordsPerSecond, forward.bytesPerSecond, metrics.bytesPerSecond: expected 0 (no limit) or more")
	}
	if c.Loki.LineBytes < 4096 {
		bad("loki.lineBytes: %d: expected at least 4096", c.Loki.LineBytes)
	}
	return errors.Join(errs...)
}

// sizes are the values that must be more than 0.
func (c Config) sizes() []struct {
	key   string
	value int64
} {
	return []struct {
		key   string
		value int64
	}{
		{"forward.messageBytes", int64(c.Forward.MessageBytes)}, {"forward.decompressedBytes", int64(c.Forward.DecompressedBytes)},
		{"forward.depth", int64(c.Forward.Depth)}, {"forward.connections", int64(c.Forward.Connections)},
		{"forward.readers", int64(c.Forward.Readers)}, {"forward.messageTimeout", int64(c.Forward.MessageTimeout)},
		{"forward.idleTimeout", int64(c.Forward.IdleTimeout)}, {"forward.submitTimeout", int64(c.Forward.SubmitTimeout)},
		{"metrics.maxAhead", int64(c.Metrics.MaxAhead)}, {"metrics.bodyBytes", int64(c.Metrics.BodyBytes)},
		{"metrics.decompressedBytes", int64(c.Metrics.DecompressedBytes)}, {"metrics.series", int64(c.Metrics.Series)},
		{"metrics.labels", int64(c.Metrics.Labels)}, {"metrics.requests", int64(c.Metrics.Requests)},
		{"metrics.timeout", int64(c.Metrics.Timeout)}, {"chain.objectBytes", int64(c.Chain.ObjectBytes)},
		{"chain.maxWait", int64(c.Chain.MaxWait)}, {"chain.bufferBytes", int64(c.Chain.BufferBytes)},
		{"chain.recentChunks", int64(c.Chain.RecentChunks)}, {"chain.recentObjects", int64(c.Chain.RecentObjects)},
		{"chain.maxStreams", int64(c.Chain.MaxStreams)}, {"s3.timeout", int64(c.S3.Timeout)},
		{"loki.requestBytes", int64(c.Loki.RequestBytes)}, {"loki.timeout", int64(c.Loki.Timeout)},
		{"loki.maxAge", int64(c.Loki.MaxAge)}, {"loki.maxAhead", int64(c.Loki.MaxAhead)}, {"loki.maxBehind", int64(c.Loki.MaxBehind)},
		{"shutdown", int64(c.Shutdown)},
	}
}

// Duration is written as 90s, 12h or, which Go does not have, 30d.
type Duration time.Duration

// UnmarshalYAML implements yaml.Unmarshaler.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	text := n.Value
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if v, err := strconv.ParseUint(days, 10, 16); err == nil {
			*d = Duration(time.Duration(v) * 24 * time.Hour)
			return nil
		}
	}
	v, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("line %d: %q is not a duration such as 90s, 12h or 30d", n.Line, text)
	}
	*d = Duration(v)
	return nil
}

// Size is a number of bytes, written as a number or with KiB, MiB or GiB.
type Size int64

// UnmarshalYAML implements yaml.Unmarshaler.
func (s *Size) UnmarshalYAML(n *yaml.Node) error {
	text, unit := n.Value, int64(1)
	for suffix, u := range map[string]int64{"KiB": 1 << 10, "MiB": mib, "GiB": 1 << 30} {
		if rest, ok := strings.CutSuffix(text, suffix); ok {
			text, unit = strings.TrimSpace(rest), u
		}
	}
	v, err := strconv.ParseInt(text, 10, 40)
	if err != nil {
		return fmt.Errorf("line %d: %q is not a size such as 65536, 64KiB or 16MiB", n.Line, n.Value)
	}
	*s = Size(v * unit)
	return nil
}
