package charts

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Three replicas of Receive hold each sample between them: two are enough to accept one, and all of it is found through either.
func TestReceiveReplicas(t *testing.T) {
	t.Parallel()
	thanos := program(t, "thanos")
	dir := t.TempDir()
	a := newTestAuthority(t)
	a.issue(t, filepath.Join(dir, "tls"), "thanos", "thanos-receive.thanos.svc", "thanos-query.thanos.svc")
	a.issue(t, filepath.Join(dir, "gateway"), "ingest-gateway", "ingest-gateway.ingest-gateway.svc")
	chart := metricsObjects(t, "thanos", map[string]any{"size": "standard"})
	ports, err := freePorts(13) // the last is nobody's
	require.NoError(t, err)
	at := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", ports[i]) }
	places := []string{"/etc/catamaran/tls", filepath.Join(dir, "tls"), "/etc/catamaran/thanos", filepath.Join(dir, "config")}
	for i := range 3 {
		places = append(places, fmt.Sprintf("thanos-receive-%d.thanos-receive-peers.thanos.svc:10901", i), at(4*i))
	}
	writeFiles(t, filepath.Join(dir, "config"), configMap(t, chart, "thanos"), strings.NewReplacer(places...))
	for i := range 2 { // the third is down
		args := argumentsOf(t, chart, "thanos-receive")
		assert.Contains(t, args, "--receive.replication-factor=3")
		pod := fmt.Sprintf("thanos-receive-%d", i)
		start(t, pod, thanos, args, strings.NewReplacer(append([]string{
			"$(POD_NAME).thanos-receive-peers.thanos.svc:10901", at(4 * i), "$(POD_NAME)", pod, "--http-address=:10902", "--http-address=" + at(4*i+1),
			"--grpc-address=:10901", "--grpc-address=" + at(4*i), "=:19291", "=" + at(4*i+2), "127.0.0.1:19391", at(4*i + 3), "/var/lib/thanos", filepath.Join(dir, pod),
		}, places...)...))
	}
	listens(t, at(2))
	listens(t, at(4))
	listens(t, at(6))
	gateway := a.client(t, filepath.Join(dir, "gateway"), "thanos-receive.thanos.svc")
	header := http.Header{"Content-Encoding": {"snappy"}, "Content-Type": {"application/x-protobuf"}, "Thanos-Tenant": {"umea"}}
	for n, write := range []string{at(2), at(6)} {
		body := writeRequest(1, time.Now(), "__name__", "marker", "n", fmt.Sprint(n))
		var answer []byte
		require.Eventually(t, func() bool {
			status, said, err := call(gateway, http.MethodPost, "https://"+write+"/api/v1/receive", header, body)
			answer = said
			return err == nil && status == http.StatusOK
		}, patience, 200*time.Millisecond, "%s", answer)
	}
	// both have both
	for i := range 2 {
		status, body, err := call(gateway, http.MethodGet, "https://"+at(4*i+2)+"/api/v1/status/tsdb", http.Header{"Thanos-Tenant": {"umea"}}, nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, status)
		assert.Contains(t, string(body), `"numSeries":2`, "replica %d", i)
	}
}

// Replicas of Alertmanager find each other over mutual TLS.
func TestAlertmanagerReplicas(t *testing.T) {
	t.Parallel()
	alertmanager := program(t, "alertmanager")
	dir := t.TempDir()
	a := newTestAuthority(t)
	a.issue(t, filepath.Join(dir, "tls"), "alertmanager", "alertmanager.alertmanager.svc")
	a.issue(t, filepath.Join(dir, "thanos"), "thanos", "thanos-rule.thanos.svc")
	chart := metricsObjects(t, "alertmanager", map[string]any{"size": "standard"})
	ports, err := freePorts(4)
	require.NoError(t, err)
	at := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", ports[i]) }
	places := []string{
		"/etc/catamaran/tls", filepath.Join(dir, "tls"), "/etc/catamaran/alertmanager", filepath.Join(dir, "config"),
		"alertmanager-0.alertmanager-peers.alertmanager.svc:9094", at(0), "alertmanager-1.alertmanager-peers.alertmanager.svc:9094", at(1),
	}
	writeFiles(t, filepath.Join(dir, "config"), configMap(t, chart, "alertmanager"), strings.NewReplacer(places...))
	for i := range 2 {
		start(t, fmt.Sprintf("alertmanager-%d", i), alertmanager, argumentsOf(t, chart, "alertmanager"), strings.NewReplacer(append([]string{
			"$(POD_IP):9094", at(i), "=:9093", "=" + at(2+i), "/var/lib/alertmanager", filepath.Join(dir, fmt.Sprint(i)),
		}, places...)...))
	}
	rule := a.client(t, filepath.Join(dir, "thanos"), "alertmanager.alertmanager.svc")
	for i := range 2 {
		require.Eventually(t, func() bool {
			_, body, err := get(rule, "https://"+at(2+i)+"/api/v2/status")
			var status struct{ Cluster struct{ Peers []any } }
			return err == nil && json.Unmarshal(body, &status) == nil && len(status.Cluster.Peers) == 2
		}, patience, 100*time.Millisecond, "replica %d sees its peer", i)
	}
	// a silence given to one is known to the other
	until := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	body := fmt.Appendf(nil, `{"matchers":[{"name":"alertname","value":"x","isRegex":false}],"startsAt":%q,"endsAt":%q,"createdBy":"test","comment":"gossip"}`, time.Now().UTC().Format(time.RFC3339), until)
	status, answer, err := call(rule, http.MethodPost, "https://"+at(2)+"/api/v2/silences", http.Header{"Content-Type": {"application/json"}}, body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status, "%s", answer)
	require.Eventually(t, func() bool {
		_, body, err := get(rule, "https://"+at(3)+"/api/v2/silences")
		return err == nil && bytes.Contains(body, []byte("gossip"))
	}, patience, 100*time.Millisecond)
}
