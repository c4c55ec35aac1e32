package charts

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/catamaran-k8s/catamaran/embedded/helm"
	"github.com/catamaran-k8s/catamaran/test/lab/build"
)

// toolPatience bounds how long a program may take to answer; measured: Loki 1 to 4 s.
const toolPatience = time.Minute

func logChart(t *testing.T, name string, values map[string]any) []*unstructured.Unstructured {
	t.Helper()
	chart, err := helm.LoadDir(filepath.Join("..", "..", "embedded", "charts", name))
	require.NoError(t, err)
	require.NoError(t, chart.CheckValues(values))
	out, err := chart.Render(helm.RenderOptions{Name: name, Namespace: name, KubeVersion: "1.37.2", Values: values})
	require.NoError(t, err)
	return objects(t, out.Manifest)
}

// configured is a key of a ConfigMap.
func configured(t *testing.T, objects []*unstructured.Unstructured, key string) string {
	t.Helper()
	for _, o := range objects {
		if text, ok, _ := unstructured.NestedString(o.Object, "data", key); ok {
			return text
		}
	}
	require.Fail(t, "no ConfigMap has "+key)
	return ""
}

// arguments are those of the first container of the kind.
func arguments(t *testing.T, objects []*unstructured.Unstructured, kind string) []string {
	t.Helper()
	for _, o := range objects {
		if o.GetKind() != kind {
			continue
		}
		containers, _, err := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
		require.NoError(t, err)
		args, _, err := unstructured.NestedStringSlice(containers[0].(map[string]any), "args")
		require.NoError(t, err)
		return args
	}
	require.Fail(t, "there is no "+kind)
	return nil
}

// Every branch of the charts that logs pass through is accepted by the API server, pods included.
func TestLogChartsAreAccepted(t *testing.T) {
	t.Parallel()
	network := map[string]any{"podCIDR": "10.102.0.0/16", "nodes": []any{"10.77.0.21/32"}, "peers": []any{"10.77.0.11/32"}}
	for name, c := range map[string]struct {
		chart, security string
		values          map[string]any
	}{
		"fluentd":                           {"fluentd", "privileged", map[string]any{"ingest": map[string]any{"address": "10.77.0.10"}}},
		"fluentd by name":                   {"fluentd", "privileged", map[string]any{"size": "large", "ingest": map[string]any{"address": "ingest.example.org"}, "network": map[string]any{"peers": []any{}}}},
		"fluentd by IPv6":                   {"fluentd", "privileged", map[string]any{"ingest": map[string]any{"address": "fd00::10"}}},
		"falco":                             {"falco", "privileged", nil},
		"falco, narrower":                   {"falco", "privileged", map[string]any{"privileged": false, "size": "standard"}},
		"loki on a volume":                  {"loki", "restricted", map[string]any{"storageClass": "fast"}},
		"loki in versitygw":                 {"loki", "restricted", map[string]any{"size": "standard", "s3": map[string]any{"endpoint": "https://versitygw.versitygw.svc:7070"}}},
		"loki in S3":                        {"loki", "restricted", map[string]any{"size": "large", "s3": map[string]any{"endpoint": "https://s3.example.org:9000", "serviceAuthority": false}}},
		"versitygw":                         {"versitygw", "restricted", map[string]any{"size": "large"}},
		"gateway":                           {"ingest-gateway", "restricted", map[string]any{"tenants": []any{"a", "b"}}},
		"loki, S3 of a site's authority":    {"loki", "restricted", map[string]any{"size": "large", "s3": map[string]any{"endpoint": "https://s3.example.org", "serviceAuthority": false, "siteAuthority": true}}},
		"gateway, S3 of a site's authority": {"ingest-gateway", "restricted", map[string]any{"s3": map[string]any{"endpoint": "https://s3.example.org", "serviceAuthority": false, "siteAuthority": true}}},
		"gateway to S3":                     {"ingest-gateway", "restricted", map[string]any{"s3": map[string]any{"endpoint": "https://s3.example.org", "serviceAuthority": false}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			namespace := enforcing(t, c.security)
			for _, object := range logChart(t, c.chart, helm.Merge(map[string]any{"network": network}, c.values)) {
				if object.GetNamespace() == c.chart {
					object.SetNamespace(namespace)
				}
				require.NoError(t, dryRun(t, object), "%s %s", object.GetKind(), object.GetName())
				if pod := templateOf(t, object, namespace); pod != nil {
					assert.NoError(t, dryRun(t, pod), "pods of %s %s", object.GetKind(), object.GetName())
				}
			}
		})
	}
}

// Loki itself accepts its configuration, for each store, and would refuse a mistake in it.
func TestLokiVerifiesItsConfiguration(t *testing.T) {
	t.Parallel()
	loki := tool(t, "loki")
	verify := func(t *testing.T, text string) error {
		file := filepath.Join(t.TempDir(), "loki.yaml")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		cmd := exec.CommandContext(t.Context(), loki, "-config.file="+file, "-config.expand-env=true", "-verify-config")
		cmd.Env = []string{"LOKI_S3_ACCESS=loki", "LOKI_S3_SECRET=secret"}
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	for name, values := range map[string]map[string]any{
		"small":                    nil,
		"versitygw":                {"size": "standard", "s3": map[string]any{"endpoint": "https://versitygw.versitygw.svc:7070"}},
		"S3 of a site's authority": {"size": "large", "s3": map[string]any{"endpoint": "https://s3.example.org", "serviceAuthority": false, "siteAuthority": true}},
		"S3":                       {"size": "large", "s3": map[string]any{"endpoint": "https://s3.example.org", "serviceAuthority": false}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := configured(t, logChart(t, "loki", values), "loki.yaml")
			require.NoError(t, verify(t, text))
			for good, bad := range map[string]string{"replication_factor": "replication_facto", "schema: v13": "schema: v99", "max_line_size_truncate": "max_line_size_trunc"} {
				require.Contains(t, text, good)
				assert.Error(t, verify(t, strings.Replace(text, good, bad, 1)), "it does not look at %s", good)
			}
		})
	}
}

// Loki runs with its rendered configuration: who has no certificate gets nothing, a push is found again under its tenant
// only, there is no way to delete, and what is old or late is taken.
func TestLokiServes(t *testing.T) {
	t.Parallel()
	ports, err := freePorts(2)
	require.NoError(t, err)
	dir := t.TempDir()
	c := newCertificates(t, dir)
	text := configured(t, logChart(t, "loki", nil), "loki.yaml")
	for _, r := range [][2]string{
		{"/etc/catamaran/tls", dir}, {"/var/loki", dir + "/loki"}, {"http_listen_port: 3100", fmt.Sprintf("http_listen_address: 127.0.0.1\n  http_listen_port: %d", ports[0])},
		{"grpc_listen_port: 9095", fmt.Sprintf("grpc_listen_port: %d", ports[1])},
	} {
		require.Contains(t, text, r[0])
		text = strings.ReplaceAll(text, r[0], r[1])
	}
	file := filepath.Join(dir, "loki.yaml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	launch(t, nil, tool(t, "loki"), "-config.file="+file, "-config.expand-env=true")
	base := fmt.Sprintf("https://127.0.0.1:%d", ports[0])
	await(t, c.client, base+"/ready")

	_, err = c.stranger.Get(base + "/ready") //nolint:bodyclose // there is no answer
	require.Error(t, err, "without a certificate")

	now := time.Now()
	push := func(tenant, line string, at time.Time) (int, string) {
		body := fmt.Sprintf(`{"streams":[{"stream":{"source":"test"},"values":[["%d",%q]]}]}`, at.UnixNano(), line)
		return request(t, c.client, http.MethodPost, base+"/loki/api/v1/push", tenant, body)
	}
	for line, at := range map[string]time.Time{"now": now, "an hour late": now.Add(-time.Hour), "ten hours late": now.Add(-10 * time.Hour)} {
		code, answer := push("wc-1", line, at)
		require.Equal(t, http.StatusNoContent, code, "%s: %s", line, answer)
	}
	code, answer := push("wc-1", "from the future", now.Add(time.Hour))
	assert.Equal(t, http.StatusBadRequest, code, answer)
	code, answer = push("", "of nobody", now)
	assert.Equal(t, http.StatusUnauthorized, code, answer)
	code, answer = push("wc-2", strings.Repeat("x", 2<<20), now)
	assert.Equal(t, http.StatusNoContent, code, "a long line is cut off, not refused: %s", answer)

	found := func(tenant string) string {
		query := fmt.Sprintf("%s/loki/api/v1/query_range?query=%%7Bsource%%3D%%22test%%22%%7D&start=%d&end=%d", base, now.Add(-24*time.Hour).UnixNano(), now.Add(time.Minute).UnixNano())
		code, answer := request(t, c.client, http.MethodGet, query, tenant, "")
		require.Equal(t, http.StatusOK, code, answer)
		return answer
	}
	for _, line := range []string{"now", "an hour late", "ten hours late"} {
		assert.Contains(t, found("wc-1"), line)
		assert.NotContains(t, found("wc-2"), line)
		assert.Contains(t, found("wc-1|wc-2"), line, "several tenants at once")
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodGet, http.MethodDelete} {
		code, answer := request(t, c.client, method, base+"/loki/api/v1/delete?query=%7Bsource%3D%22test%22%7D&start=0", "wc-1", "")
		assert.Contains(t, []int{http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed}, code, "%s: %s", method, answer)
	}
	assert.Contains(t, found("wc-1"), "an hour late")

	// what is in force
	code, answer = request(t, c.client, http.MethodGet, base+"/config", "", "")
	require.Equal(t, http.StatusOK, code)
	var inForce struct {
		Limits map[string]any `json:"limits_config"`
	}
	require.NoError(t, yaml.Unmarshal([]byte(answer), &inForce))
	for limit, want := range map[string]any{"deletion_mode": "disabled", "reject_old_samples": false, "max_line_size_truncate": true, "retention_period": "30d"} {
		assert.Equal(t, want, inForce.Limits[limit], limit)
	}
}

// versitygw runs with its rendered arguments, users and policies: the gateway may store and lock, and nothing else;
// nobody may remove what is locked, the root user included.
func TestVersitygwKeepsEvidence(t *testing.T) {
	t.Parallel()
	ports, err := freePorts(2)
	require.NoError(t, err)
	dir := t.TempDir()
	c := newCertificates(t, dir)
	chart := logChart(t, "versitygw", nil)
	secrets := map[string]string{"ingest-gateway": "gateway-secret", "loki": "loki-secret", "thanos": "thanos-secret", "reader": "reader-secret"}
	accounts := map[string]any{}
	for user, secret := range secrets {
		accounts[user] = map[string]any{"access": user, "secret": secret, "role": "user"}
	}
	users, err := json.Marshal(map[string]any{"accessAccounts": accounts})
	require.NoError(t, err)
	for _, d := range []string{"users", "data/buckets", "data/versions"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, d), 0o700))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "users", "users.json"), users, 0o600))
	require.NoError(t, os.Chmod(filepath.Join(dir, "users"), 0o500))
	var args []string
	for _, a := range arguments(t, chart, "StatefulSet") {
		for _, r := range [][2]string{
			{"--port=:7070", fmt.Sprintf("--port=127.0.0.1:%d", ports[0])}, {"127.0.0.1:7071", fmt.Sprintf("127.0.0.1:%d", ports[1])},
			{"/etc/catamaran/tls", dir}, {"/etc/catamaran/users", dir + "/users"}, {"/data/", dir + "/data/"},
		} {
			a = strings.Replace(a, r[0], r[1], 1)
		}
		args = append(args, a)
	}
	launch(t, []string{"ROOT_ACCESS_KEY_ID=root-key", "ROOT_SECRET_ACCESS_KEY=root-secret"}, tool(t, "versitygw"), args...)
	endpoint := fmt.Sprintf("127.0.0.1:%d", ports[0])
	await(t, c.stranger, "https://"+endpoint+"/healthz")

	as := func(user, secret string) *minio.Client {
		client, err := minio.New(endpoint, &minio.Options{
			Creds: credentials.NewStaticV4(user, secret, ""), Secure: true, Region: "us-east-1", Transport: c.stranger.Transport, MaxRetries: 1,
		})
		require.NoError(t, err)
		return client
	}
	root := as("root-key", "root-secret")
	var config struct {
		Buckets []struct {
			Name       string
			ObjectLock bool
			Policy     string
		}
	}
	require.NoError(t, yaml.Unmarshal([]byte(configured(t, chart, "buckets.yaml")), &config))
	for _, b := range config.Buckets {
		require.NoError(t, root.MakeBucket(t.Context(), b.Name, minio.MakeBucketOptions{ObjectLocking: b.ObjectLock}))
		require.NoError(t, root.SetBucketPolicy(t.Context(), b.Name, b.Policy), b.Name)
	}
	versioning, err := root.GetBucketVersioning(t.Context(), "evidence")
	require.NoError(t, err)
	assert.True(t, versioning.Enabled())

	ctx := t.Context()
	until := time.Now().Add(24 * time.Hour)
	put := func(by *minio.Client, bucket, key, body string, o minio.PutObjectOptions) error {
		_, err := by.PutObject(ctx, bucket, key, strings.NewReader(body), int64(len(body)), o)
		return err
	}
	gateway := as("ingest-gateway", secrets["ingest-gateway"])
	lock := minio.PutObjectOptions{Mode: minio.Compliance, RetainUntilDate: until}
	require.NoError(t, put(gateway, "evidence", "wc-1/1", "first", lock))
	head, err := gateway.StatObject(ctx, "evidence", "wc-1/1", minio.StatObjectOptions{})
	require.NoError(t, err)
	assert.Equal(t, "COMPLIANCE", head.Metadata.Get("X-Amz-Object-Lock-Mode"))
	taken := lock
	taken.SetMatchETagExcept("*")
	assert.ErrorContains(t, put(gateway, "evidence", "wc-1/1", "second", taken), "pre-condition", "a key that is taken stays")

	mode, sooner := minio.Compliance, time.Now().Add(time.Hour)
	refused := map[string]func(*minio.Client) error{
		"remove the version": func(by *minio.Client) error {
			return by.RemoveObject(ctx, "evidence", "wc-1/1", minio.RemoveObjectOptions{VersionID: head.VersionID})
		},
		"remove it with bypass": func(by *minio.Client) error {
			return by.RemoveObject(ctx, "evidence", "wc-1/1", minio.RemoveObjectOptions{VersionID: head.VersionID, GovernanceBypass: true})
		},
		"shorten the lock": func(by *minio.Client) error {
			return by.PutObjectRetention(ctx, "evidence", "wc-1/1", minio.PutObjectRetentionOptions{Mode: &mode, RetainUntilDate: &sooner, VersionID: head.VersionID, GovernanceBypass: true})
		},
		"lift the lock": func(by *minio.Client) error {
			return by.PutObjectRetention(ctx, "evidence", "wc-1/1", minio.PutObjectRetentionOptions{VersionID: head.VersionID, GovernanceBypass: true})
		},
		"remove the bucket": func(by *minio.Client) error { return by.RemoveBucket(ctx, "evidence") },
	}
	onlyRoot := map[string]func(*minio.Client) error{
		"hide it": func(by *minio.Client) error {
			return by.RemoveObject(ctx, "evidence", "wc-1/1", minio.RemoveObjectOptions{})
		},
		"change the policy":  func(by *minio.Client) error { return by.SetBucketPolicy(ctx, "evidence", "") },
		"suspend versioning": func(by *minio.Client) error { return by.SuspendVersioning(ctx, "evidence") },
		"configure the lock": func(by *minio.Client) error { return by.SetObjectLockConfig(ctx, "evidence", nil, nil, nil) },
		"make a bucket":      func(by *minio.Client) error { return by.MakeBucket(ctx, "another", minio.MakeBucketOptions{}) },
		"write to Loki's":    func(by *minio.Client) error { return put(by, "loki", "x", "x", minio.PutObjectOptions{}) },
	}
	clients := map[string]*minio.Client{"ingest-gateway": gateway, "root": root}
	for _, user := range []string{"loki", "thanos", "reader"} {
		clients[user] = as(user, secrets[user])
	}
	for user, by := range clients {
		for what, try := range refused {
			assert.Error(t, try(by), "%s could %s", user, what)
		}
		if user == "root" {
			continue
		}
		for what, try := range onlyRoot {
			if user == "loki" && what == "write to Loki's" {
				assert.NoError(t, try(by), "it is its own")
				continue
			}
			assert.Error(t, try(by), "%s could %s", user, what)
		}
		if user != "ingest-gateway" {
			assert.Error(t, put(by, "evidence", "wc-1/x", "x", lock), "%s could store evidence", user)
		}
	}
	// an overwrite is another version; the first stays as it was
	require.NoError(t, put(gateway, "evidence", "wc-1/1", "changed", lock))
	first, err := clients["reader"].GetObject(ctx, "evidence", "wc-1/1", minio.GetObjectOptions{VersionID: head.VersionID})
	require.NoError(t, err)
	body, err := io.ReadAll(first)
	require.NoError(t, err)
	assert.Equal(t, "first", string(body))
	for _, user := range []string{"loki", "thanos"} {
		_, err := clients[user].StatObject(ctx, "evidence", "wc-1/1", minio.StatObjectOptions{})
		assert.Error(t, err, "%s could read evidence", user)
	}
	// administration is not on the port that is open to the network
	code, answer := request(t, c.stranger, http.MethodPatch, "https://"+endpoint+"/list-users", "", "")
	assert.NotEqual(t, http.StatusOK, code, answer)
}

// tool is a program that the lab builds.
func tool(t *testing.T, name string) string {
	t.Helper()
	p, err := build.One(t.Context(), build.Options{Log: func(line string) { t.Log(line) }}, name)
	require.NoError(t, err)
	return p.Path
}

// launch runs a program until the test ends; what it said shows when the test failed.
func launch(t *testing.T, env []string, program string, args ...string) {
	t.Helper()
	var out bytes.Buffer
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, &out, env
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			text := out.Bytes()
			t.Logf("%s:\n%s", filepath.Base(program), text[max(0, len(text)-4000):])
		}
	})
}

func await(t *testing.T, client *http.Client, url string) {
	t.Helper()
	require.Eventually(t, func() bool {
		answer, err := client.Get(url)
		if err != nil {
			return false
		}
		return answer.Body.Close() == nil && answer.StatusCode == http.StatusOK
	}, toolPatience, 50*time.Millisecond, url)
}

func request(t *testing.T, client *http.Client, method, url, tenant, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	if tenant != "" {
		r.Header.Set("X-Scope-OrgID", tenant)
	}
	answer, err := client.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close() //nolint:errcheck // it was read
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(text)
}

// certificates are an authority, a server's in a folder as the Secrets have it, and two clients of which one is known.
type certificates struct{ client, stranger *http.Client }

func newCertificates(t *testing.T, dir string) certificates {
	t.Helper()
	var authority *x509.Certificate
	var signer *ecdsa.PrivateKey
	issue := func(name string) ([]byte, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		template := &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name, "localhost"},
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		}
		parent, by := authority, signer
		if authority == nil {
			template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
			parent, by = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
		require.NoError(t, err)
		return der, key
	}
	save := func(name, kind string, der []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
	root, key := issue("authority")
	authority, err := x509.ParseCertificate(root)
	require.NoError(t, err)
	signer = key
	der, private := issue("server")
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	save("ca.crt", "CERTIFICATE", root)
	save("tls.crt", "CERTIFICATE", der)
	save("tls.key", "PRIVATE KEY", encoded)
	roots := x509.NewCertPool()
	roots.AddCert(authority)
	client := func(certificates ...tls.Certificate) *http.Client {
		return &http.Client{Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: certificates, MinVersion: tls.VersionTLS12},
		}}
	}
	known, own := issue("client")
	return certificates{client: client(tls.Certificate{Certificate: [][]byte{known}, PrivateKey: own}), stranger: client()}
}
