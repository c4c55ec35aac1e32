package charts

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// patience is how long a program may take until what it does shows; measured: 1 to 10 s.
const patience = time.Minute

// argumentsOf are those of the only container of a workload.
func argumentsOf(t *testing.T, list []*unstructured.Unstructured, workload string) []string {
	t.Helper()
	for _, o := range list {
		containers, found, err := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
		require.NoError(t, err)
		if !found || o.GetName() != workload {
			continue
		}
		require.Len(t, containers, 1)
		var out []string
		for _, a := range containers[0].(map[string]any)["args"].([]any) {
			out = append(out, a.(string))
		}
		return out
	}
	require.Fail(t, "no workload "+workload)
	return nil
}

// start runs a program until the test ends; if the test failed, the end of what it said is shown.
func start(t *testing.T, name, program string, args []string, replace *strings.Replacer) {
	t.Helper()
	for i := range args {
		args[i] = replace.Replace(args[i])
		require.NotContains(t, args[i], "/etc/catamaran")
	}
	log, err := os.Create(filepath.Join(t.TempDir(), name+".log"))
	require.NoError(t, err)
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		timer := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		timer.Stop()
		_ = log.Close()
		if t.Failed() {
			said, _ := os.ReadFile(log.Name())
			t.Logf("%s said\n%s", name, said[max(0, len(said)-3000):])
		}
	})
}

// listens waits until somebody accepts connections.
func listens(t *testing.T, address string) {
	t.Helper()
	require.Eventually(t, func() bool {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}, patience, 50*time.Millisecond, address)
}

func get(config *tls.Config, address string) (int, []byte, error) {
	return call(config, http.MethodGet, address, nil, nil)
}

// call opens a connection of its own, so that each call shows who is let in.
func call(config *tls.Config, method, address string, header http.Header, body []byte) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if header != nil {
		request.Header = header
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	out, err := io.ReadAll(response.Body)
	return response.StatusCode, out, err
}

// series are the label sets that a query answers with.
func series(config *tls.Config, base, query string) ([]map[string]string, error) {
	status, body, err := get(config, base+"/api/v1/query?query="+url.QueryEscape(query))
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data struct {
			Result []struct{ Metric map[string]string }
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("HTTP %d: %w", status, err)
	}
	var out []map[string]string
	for _, r := range answer.Data.Result {
		out = append(out, r.Metric)
	}
	return out, nil
}

// writeRequest is one sample in the form of remote_write 1.0.
func writeRequest(value float64, at time.Time, labels ...string) []byte {
	var s []byte
	for i := 0; i < len(labels); i += 2 {
		var l []byte
		l = protowire.AppendString(protowire.AppendTag(l, 1, protowire.BytesType), labels[i])
		l = protowire.AppendString(protowire.AppendTag(l, 2, protowire.BytesType), labels[i+1])
		s = protowire.AppendBytes(protowire.AppendTag(s, 1, protowire.BytesType), l)
	}
	var sample []byte
	sample = protowire.AppendFixed64(protowire.AppendTag(sample, 1, protowire.Fixed64Type), math.Float64bits(value))
	sample = protowire.AppendVarint(protowire.AppendTag(sample, 2, protowire.VarintType), uint64(at.UnixMilli()))
	s = protowire.AppendBytes(protowire.AppendTag(s, 2, protowire.BytesType), sample)
	return s2.EncodeSnappy(nil, protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), s))
}

// door stands in for the ingest gateway: it asks for a certificate of the workload clusters' authority, stamps its name as the
// tenant, and passes on with a certificate of the service authority.
func door(t *testing.T, clients testAuthority, serving string, receive string, towards *tls.Config) string {
	t.Helper()
	target, err := url.Parse(receive)
	require.NoError(t, err)
	config := clients.client(t, serving, "")
	config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, config.RootCAs
	proxy := &httputil.ReverseProxy{
		Transport: &http.Transport{TLSClientConfig: towards},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Header.Set("THANOS-TENANT", r.In.TLS.PeerCertificates[0].Subject.CommonName)
		},
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	require.NoError(t, err)
	server := &http.Server{Handler: proxy, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		assert.ErrorIs(t, <-done, http.ErrServerClosed)
	})
	return l.Addr().String()
}

// The whole way of metrics with the real programs, their rendered arguments and configurations, over mutual TLS: agent and
// Prometheus write, Query answers, rules fire, Alertmanager hears of it; and who is to be refused is refused.
func TestMetricsPipeline(t *testing.T) {
	t.Parallel()
	thanos, prometheus, alertmanager := program(t, "thanos"), program(t, "prometheus"), program(t, "alertmanager")
	dir := t.TempDir()
	service, ingest, stranger := newTestAuthority(t), newTestAuthority(t), newTestAuthority(t)
	certs := func(name string) string { return filepath.Join(dir, "certs", name) }
	service.issue(t, certs("thanos"), "thanos", "thanos-receive.thanos.svc", "thanos-query.thanos.svc", "thanos-rule.thanos.svc")
	for _, name := range []string{"prometheus", "alertmanager", "grafana", "loki", "ingest-gateway"} {
		service.issue(t, certs(name), name, name+"."+name+".svc")
	}
	ingest.issue(t, certs("umea"), "umea")
	ingest.issue(t, certs("door"), "door")
	stranger.issue(t, certs("stranger"), "thanos", "grafana.grafana.svc", "prometheus.prometheus.svc", "thanos-rule.thanos.svc")

	ports, err := freePorts(10)
	require.NoError(t, err)
	at := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", ports[i]) }
	receiveHTTP, receiveGRPC, write, capnp, queryHTTP, queryGRPC, ruleHTTP, ruleGRPC, alerts, server := at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7), at(8), at(9)
	place := func(chart string, more ...string) *strings.Replacer {
		return strings.NewReplacer(append([]string{
			"/etc/catamaran/tls", certs(chart), "/etc/catamaran/ingest", certs("umea"), "/etc/catamaran/rules", filepath.Join(dir, "rules"),
			"/etc/catamaran/" + chart, filepath.Join(dir, chart), "/etc/catamaran/prometheus", filepath.Join(dir, chart),
			"$(POD_NAME).thanos-receive-peers.thanos.svc:10901", receiveGRPC, "thanos-receive-0.thanos-receive-peers.thanos.svc:10901", receiveGRPC,
			"dns+thanos-receive-peers.thanos.svc:10901", receiveGRPC, "dns+thanos-rule-peers.thanos.svc:10901", ruleGRPC,
			"dns+alertmanager-peers.alertmanager.svc:9093", alerts, "thanos-query.thanos.svc:10902", queryHTTP,
		}, more...)...)
	}
	chart := metricsObjects(t, "thanos", nil)
	put := func(name string, files map[string]string, replace *strings.Replacer) {
		writeFiles(t, filepath.Join(dir, name), files, replace)
	}
	put("thanos", configMap(t, chart, "thanos"), place("thanos"))
	put("rules", configMap(t, chart, "thanos-rules"), place("thanos"))
	start(t, "receive", thanos, argumentsOf(t, chart, "thanos-receive"), place("thanos",
		"--http-address=:10902", "--http-address="+receiveHTTP, "--grpc-address=:10901", "--grpc-address="+receiveGRPC,
		"=:19291", "="+write, "127.0.0.1:19391", capnp, "/var/lib/thanos", filepath.Join(dir, "receive"), "$(POD_NAME)", "thanos-receive-0"))
	start(t, "query", thanos, argumentsOf(t, chart, "thanos-query"), place("thanos", "--http-address=:10902", "--http-address="+queryHTTP, "127.0.0.1:10901", queryGRPC))
	start(t, "rule", thanos, argumentsOf(t, chart, "thanos-rule"), place("thanos",
		"--http-address=:10902", "--http-address="+ruleHTTP, "--grpc-address=:10901", "--grpc-address="+ruleGRPC, "/var/lib/thanos", filepath.Join(dir, "rule"),
		"$(POD_NAME)", "thanos-rule-0", "--eval-interval=30s", "--eval-interval=1s"))
	am := metricsObjects(t, "alertmanager", nil)
	put("alertmanager", configMap(t, am, "alertmanager"), place("alertmanager"))
	start(t, "alertmanager", alertmanager, argumentsOf(t, am, "alertmanager"), place("alertmanager", "=:9093", "="+alerts, "/var/lib/alertmanager", filepath.Join(dir, "silences")))
	listens(t, write)

	fast := []string{"scrape_interval: 10s", "scrape_interval: 1s", "scrape_timeout: 10s", "scrape_timeout: 1s"}
	scrape := map[string]any{"scrapeSeconds": 10}
	sc := metricsObjects(t, "prometheus", scrape)
	put("prometheus", configMap(t, sc, "prometheus"), place("prometheus", append(fast, "https://thanos-receive.thanos.svc:19291", "https://"+write, "localhost:9090", server,
		"dns_sd_configs: [{names: [alertmanager-peers.alertmanager.svc], type: A, port: 9093}]", `static_configs: [{targets: ["`+alerts+`"]}]`)...))
	start(t, "prometheus", prometheus, argumentsOf(t, sc, "prometheus"), place("prometheus", "=:9090", "="+server, "/var/lib/prometheus", filepath.Join(dir, "tsdb")))

	towards := service.client(t, certs("ingest-gateway"), "thanos-receive.thanos.svc")
	gateway := door(t, ingest, certs("door"), "https://"+write, towards)
	agentPort, err := freePorts(1)
	require.NoError(t, err)
	agentWeb := fmt.Sprintf("127.0.0.1:%d", agentPort[0])
	wc := metricsObjects(t, "prometheus-agent", scrape)
	put("prometheus-agent", configMap(t, wc, "prometheus-agent"), place("prometheus-agent", append(fast, "10.77.0.10:30443", gateway, "localhost:9090", agentWeb)...))
	start(t, "agent", prometheus, argumentsOf(t, wc, "prometheus-agent"), place("prometheus-agent", "=:9090", "="+agentWeb, "/var/lib/prometheus", filepath.Join(dir, "wal")))

	// what was scraped in both clusters is there, with the tenant that Receive set
	grafana := service.client(t, certs("grafana"), "thanos-query.thanos.svc")
	arrives := func(query, why string) []map[string]string {
		t.Helper()
		var found []map[string]string
		require.Eventually(t, func() bool {
			var err error
			found, err = series(grafana, "https://"+queryHTTP, query)
			return err == nil && len(found) > 0
		}, patience, 100*time.Millisecond, why)
		return found
	}
	assert.Equal(t, []map[string]string{{"__name__": "up", "job": "prometheus", "instance": server, "tenant_id": "service"}}, arrives(`up{job="prometheus"} == 1`, "Prometheus, through mTLS"))
	assert.Equal(t, []map[string]string{{"__name__": "up", "job": "prometheus-agent", "instance": agentWeb, "tenant_id": "umea"}}, arrives(`up{job="prometheus-agent"} == 1`, "the agent, through the door"))
	assert.Len(t, arrives(`ALERTS{alertname="Watchdog"}`, "the rules' own series"), 1)

	// an alert has come to Alertmanager
	rule := service.client(t, certs("thanos"), "alertmanager.alertmanager.svc")
	require.Eventually(t, func() bool {
		status, body, err := get(rule, "https://"+alerts+"/api/v2/alerts")
		return err == nil && status == http.StatusOK && bytes.Contains(body, []byte(`"Watchdog"`)) && !bytes.Contains(body, []byte("rule_replica"))
	}, patience, 100*time.Millisecond, "Watchdog")

	// who is let in where
	reads := map[string]struct{ address, server string }{
		"query":        {"https://" + queryHTTP + "/api/v1/query?query=1", "thanos-query.thanos.svc"},
		"rule":         {"https://" + ruleHTTP + "/metrics", "thanos-rule.thanos.svc"},
		"receive":      {"https://" + receiveHTTP + "/metrics", "thanos-receive.thanos.svc"},
		"alertmanager": {"https://" + alerts + "/metrics", "alertmanager.alertmanager.svc"},
		"prometheus":   {"https://" + server + "/metrics", "prometheus.prometheus.svc"},
	}
	for what, to := range reads {
		listens(t, strings.Split(to.address, "/")[2])
		status, _, err := get(service.client(t, certs("prometheus"), to.server), to.address)
		require.NoError(t, err, what)
		assert.Equal(t, http.StatusOK, status, what)
		for who, config := range map[string]*tls.Config{
			"nobody":                         service.client(t, "", to.server),
			"another authority's":            withRoots(stranger.client(t, certs("stranger"), to.server), service),
			"the workload cluster's":         withRoots(ingest.client(t, certs("umea"), to.server), service),
			"a part with no business there":  service.client(t, certs("loki"), to.server),
			"the gateway, which only writes": service.client(t, certs("ingest-gateway"), to.server),
		} {
			status, _, err := get(config, to.address)
			assert.Error(t, err, "%s let %s in: HTTP %d", what, who, status)
		}
	}
	// Grafana reads, and can not silence
	_, _, err = get(service.client(t, certs("grafana"), "alertmanager.alertmanager.svc"), "https://"+alerts+"/api/v2/silences")
	require.Error(t, err)
	// between replicas
	_, _, err = get(service.client(t, "", "thanos-receive.thanos.svc"), "https://"+receiveGRPC)
	require.ErrorContains(t, err, "certificate required")
	_, _, err = get(service.client(t, "", "thanos-rule.thanos.svc"), "https://"+ruleGRPC)
	require.ErrorContains(t, err, "certificate required")

	// writing
	now := time.Now()
	push := func(config *tls.Config, tenant string, body []byte) (int, string, error) {
		header := http.Header{"Content-Encoding": {"snappy"}, "Content-Type": {"application/x-protobuf"}, "X-Prometheus-Remote-Write-Version": {"0.1.0"}}
		if tenant != "" {
			header.Set("THANOS-TENANT", tenant)
		}
		status, answer, err := call(config, http.MethodPost, "https://"+write+"/api/v1/receive", header, body)
		return status, string(answer), err
	}
	sample := writeRequest(1, now, "__name__", "marker", "n", "1")
	for who, config := range map[string]*tls.Config{
		"nobody":                 service.client(t, "", "thanos-receive.thanos.svc"),
		"another authority's":    withRoots(stranger.client(t, certs("stranger"), "thanos-receive.thanos.svc"), service),
		"the workload cluster's": withRoots(ingest.client(t, certs("umea"), "thanos-receive.thanos.svc"), service),
	} {
		status, _, err := push(config, "umea", sample)
		assert.Error(t, err, "Receive let %s write: HTTP %d", who, status)
	}
	cases := []struct {
		what, tenant string
		body         []byte
		status       int
	}{
		{"a sample", "umea", sample, http.StatusOK},
		{"the same sample again", "umea", sample, http.StatusOK},
		{"another value at the same time", "umea", writeRequest(2, now, "__name__", "marker", "n", "1"), http.StatusConflict},
		// without the label it is the delivered series; with it, it would be shown in its place
		{"another value, as a series that only tenant_id tells apart", "umea", writeRequest(2, now, "__name__", "marker", "n", "1", "tenant_id", "x"), http.StatusConflict},
		{"an older sample of the series", "umea", writeRequest(2, now.Add(-time.Minute), "__name__", "marker", "n", "1"), http.StatusConflict},
		{"a sample from an hour ahead", "umea", writeRequest(2, now.Add(time.Hour), "__name__", "marker", "n", "2"), http.StatusConflict},
		{"as somebody else by labels", "lund", writeRequest(3, now, "__name__", "marker", "n", "3", "receive_replica", "x", "tenant_id", "umea"), http.StatusOK},
	}
	for _, c := range cases {
		status, answer, err := push(towards, c.tenant, c.body)
		require.NoError(t, err, c.what)
		assert.Equal(t, c.status, status, "%s: %s", c.what, answer)
	}
	for _, tenant := range []string{"", "nobody-knows", "default-tenant", "../umea"} {
		status, answer, err := push(towards, tenant, sample)
		require.NoError(t, err)
		assert.GreaterOrEqual(t, status, http.StatusBadRequest, "tenant %q: %s", tenant, answer)
	}
	for _, c := range [][2]string{{http.MethodGet, "/api/v1/receive"}, {http.MethodDelete, "/api/v1/receive"}, {http.MethodPost, "/-/reload"}, {http.MethodGet, "/metrics"}, {http.MethodPost, "/api/v1/admin/tsdb/delete_series"}} {
		status, _, err := call(towards, c[0], "https://"+write+c[1], nil, nil)
		require.NoError(t, err)
		assert.GreaterOrEqual(t, status, http.StatusNotFound, "%s %s", c[0], c[1])
	}
	arrives(`marker{n="3"}`, "the marker of lund")
	stored, err := series(grafana, "https://"+queryHTTP, `marker`)
	require.NoError(t, err)
	assert.ElementsMatch(t, []map[string]string{
		{"__name__": "marker", "n": "1", "tenant_id": "umea"}, {"__name__": "marker", "n": "3", "tenant_id": "lund"},
	}, stored, "the header counts, not labels; what was refused is not there")
	first, err := series(grafana, "https://"+queryHTTP, `marker{n="1"} == 1`)
	require.NoError(t, err)
	assert.Len(t, first, 1, "the first value stayed")
}

// withRoots is a client that trusts a server of another authority than its own certificate's.
func withRoots(config *tls.Config, server testAuthority) *tls.Config {
	config.RootCAs.AddCert(server.cert)
	return config
}

// With a bucket there are two more parts; the bucket is a folder here.
func TestMetricsBucketParts(t *testing.T) {
	t.Parallel()
	thanos := program(t, "thanos")
	dir := t.TempDir()
	a := newTestAuthority(t)
	a.issue(t, filepath.Join(dir, "tls"), "thanos", "thanos-query.thanos.svc")
	a.issue(t, filepath.Join(dir, "prometheus"), "prometheus", "prometheus.prometheus.svc")
	chart := metricsObjects(t, "thanos", map[string]any{"s3": map[string]any{"endpoint": "versitygw.versitygw.svc:7070", "bucket": "thanos"}})
	files := configMap(t, chart, "thanos")
	assert.Contains(t, files["bucket.yaml"], "endpoint: \"versitygw.versitygw.svc:7070\"\n")
	files["bucket.yaml"] = "type: FILESYSTEM\nconfig: {directory: " + filepath.Join(dir, "bucket") + "}\n"
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "bucket"), 0o700))
	ports, err := freePorts(4)
	require.NoError(t, err)
	for i, part := range []string{"store", "compact"} {
		address, grpc := fmt.Sprintf("127.0.0.1:%d", ports[2*i]), fmt.Sprintf("127.0.0.1:%d", ports[2*i+1])
		replace := strings.NewReplacer("/etc/catamaran/tls", filepath.Join(dir, "tls"), "/etc/catamaran/thanos", filepath.Join(dir, "config"),
			"/var/lib/thanos", filepath.Join(dir, part), "--http-address=:10902", "--http-address="+address, "--grpc-address=:10901", "--grpc-address="+grpc)
		writeFiles(t, filepath.Join(dir, "config"), files, replace)
		start(t, part, thanos, argumentsOf(t, chart, "thanos-"+part), replace)
		require.Eventually(t, func() bool {
			status, _, err := get(a.client(t, filepath.Join(dir, "prometheus"), "thanos-query.thanos.svc"), "https://"+address+"/-/ready")
			return err == nil && status == http.StatusOK
		}, patience, 100*time.Millisecond, part)
	}
}

// The exporters run with their rendered arguments, answer Prometheus and nobody else.
func TestExporters(t *testing.T) {
	t.Parallel()
	ports, err := freePorts(3)
	require.NoError(t, err)
	a := newTestAuthority(t)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(kubeconfig, fmt.Appendf(nil, `{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}],
clusters: [{name: c, cluster: {server: %q, certificate-authority: %q}}], users: [{name: u, user: {token: %q}}]}`, server.config.Host, server.config.CAFile, server.config.BearerToken), 0o600))
	for i, c := range []struct {
		chart, program string
		more           []string
		listen         [2]string
		has            string
	}{
		{"node-exporter", "node_exporter", nil, [2]string{":9100", fmt.Sprintf("127.0.0.1:%d", ports[0])}, "node_memory_MemAvailable_bytes "},
		{"kube-state-metrics", "kube-state-metrics", []string{"--kubeconfig=" + kubeconfig, "--host=127.0.0.1"}, [2]string{"--port=8080", fmt.Sprintf("--port=%d", ports[1])}, `kube_namespace_status_phase{namespace="kube-system",phase="Active"} 1`},
	} {
		dir := t.TempDir()
		address := fmt.Sprintf("127.0.0.1:%d", ports[i])
		service := c.chart + "." + c.chart + ".svc"
		a.issue(t, filepath.Join(dir, "tls"), c.chart, service)
		a.issue(t, filepath.Join(dir, "prometheus"), "prometheus", "prometheus.prometheus.svc")
		replace := strings.NewReplacer("/etc/catamaran/tls", filepath.Join(dir, "tls"), "/etc/catamaran/"+c.chart, dir, "/host/root", "/",
			c.listen[0], c.listen[1], "--telemetry-port=8081", fmt.Sprintf("--telemetry-port=%d", ports[2]))
		objects := metricsObjects(t, c.chart, nil)
		writeFiles(t, dir, configMap(t, objects, c.chart), replace)
		start(t, c.chart, program(t, c.program), append(argumentsOf(t, objects, c.chart), c.more...), replace)
		listens(t, address)
		require.Eventually(t, func() bool {
			_, body, err := get(a.client(t, filepath.Join(dir, "prometheus"), service), "https://"+address+"/metrics")
			return err == nil && bytes.Contains(body, []byte(c.has))
		}, patience, 100*time.Millisecond, c.chart)
		_, body, err := get(a.client(t, filepath.Join(dir, "prometheus"), service), "https://"+address+"/metrics")
		require.NoError(t, err)
		assert.NotContains(t, string(body), "kube_secret_")
		assert.NotContains(t, string(body), "kube_configmap_")
		for who, folder := range map[string]string{"nobody": "", "itself": "tls"} {
			if folder != "" {
				folder = filepath.Join(dir, folder)
			}
			_, _, err := get(a.client(t, folder, service), "https://"+address+"/metrics")
			assert.Error(t, err, "%s let %s in", c.chart, who)
		}
	}
}
