// Package s3test runs a real versitygw for tests, with a bucket under object lock and the rights that an installation
// gives, and a proxy in front of it that fails as it is told to.
package s3test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/buckets"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/certs/certstest"
)

// Bucket is the bucket under object lock.
const Bucket = "evidence"

// S3 is a running versitygw.
type S3 struct {
	// Endpoint is its URL.
	Endpoint string
	// CAFile verifies it.
	CAFile string
	// Access and Secret hold the gateway's keys, RootAccess and RootSecret the administrator's.
	Access, Secret, RootAccess, RootSecret string
	// Pool is CAFile's content.
	Pool *x509.CertPool
}

// Start builds (once, in Go's cache) and runs versitygw until the test's end, and makes Bucket. Its certificate is of ca.
func Start(t testing.TB, ca *certstest.CA) *S3 {
	t.Helper()
	return StartIn(t, ca, t.TempDir())
}

// StartIn is Start with objects in a folder of the test's, whose file system may be a small one.
func StartIn(t testing.TB, ca *certstest.CA, data string) *S3 {
	t.Helper()
	program := build(t)
	dir := t.TempDir()
	certificate := ca.Folder(t, "versitygw", ca)
	s := &S3{CAFile: filepath.Join(certificate, "ca.crt"), Pool: x509.NewCertPool()}
	s.Pool.AppendCertsFromPEM(ca.PEM)
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	s.RootAccess, s.RootSecret = write("root-access", "root\n"), write("root-secret", "root-secret-of-a-test\n")
	s.Access, s.Secret = write("access", "ingest-gateway\n"), write("secret", "secret-of-a-test\n")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "users"), 0o700))
	for _, sub := range []string{"data", "versions", "sidecar"} {
		require.NoError(t, os.Mkdir(filepath.Join(data, sub), 0o700))
	}
	users, err := json.Marshal(map[string]any{"accessAccounts": map[string]any{"ingest-gateway": map[string]any{
		"access": "ingest-gateway", "secret": "secret-of-a-test", "role": "user"}}})
	require.NoError(t, err)
	write("users/users.json", string(users))

	port := freePort(t)
	args := []string{"--port", "127.0.0.1:" + port, "--cert", filepath.Join(certificate, "tls.crt"), "--key", filepath.Join(certificate, "tls.key"),
		"--iam-dir", filepath.Join(dir, "users"), "--health", "/healthz", "--keep-alive", "--quiet", "posix", "--versioning-dir", filepath.Join(data, "versions")}
	if unix.Setxattr(data, "user.probe", []byte("x"), 0) != nil {
		args = append(args, "--sidecar", filepath.Join(data, "sidecar"))
	}
	cmd := exec.Command(program, append(args, filepath.Join(data, "data"))...)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY_ID=root", "ROOT_SECRET_ACCESS_KEY=root-secret-of-a-test")
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log("versitygw: " + output.String())
		}
	})
	s.Endpoint = "https://127.0.0.1:" + port
	s.wait(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	require.NoError(t, buckets.Ensure(ctx, s.File(), slog.New(slog.DiscardHandler)))
	return s
}

// File is what an installation gives `ingest-gateway buckets`.
func (s *S3) File() buckets.File {
	allow := func(resource string, actions ...string) map[string]any {
		return map[string]any{"Effect": "Allow", "Principal": map[string]any{"AWS": []string{"ingest-gateway"}},
			"Action": actions, "Resource": []string{resource}}
	}
	policy, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []any{
		allow("arn:aws:s3:::"+Bucket, "s3:ListBucket", "s3:ListBucketVersions", "s3:GetBucketLocation"),
		allow("arn:aws:s3:::"+Bucket+"/*", "s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectRetention", "s3:PutObject", "s3:PutObjectRetention"),
	}})
	if err != nil {
		panic(err) // maps and strings
	}
	return buckets.File{
		Endpoint: s.Endpoint, Region: "us-east-1", CAFile: s.CAFile, AccessFile: s.RootAccess, SecretFile: s.RootSecret,
		Buckets: []buckets.Bucket{{Name: Bucket, ObjectLock: true, Versioning: true,
			DefaultRetention: &buckets.Retention{Mode: "COMPLIANCE", Days: 2}, Policy: string(policy)}},
	}
}

// Dial opens TLS connections to it, or to a Proxy.
func (s *S3) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.Pool}}
	return d.DialContext(ctx, network, address)
}

func (s *S3) wait(t testing.TB) {
	t.Helper()
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DialTLSContext: s.Dial}}
	defer client.CloseIdleConnections()
	require.Eventually(t, func() bool {
		resp, err := client.Get(s.Endpoint + "/healthz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, 30*time.Second, 20*time.Millisecond, "versitygw does not answer")
}

// build returns the path of the program, which Go keeps in its cache. The wrapper module pins its version.
func build(t testing.TB) string {
	t.Helper()
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	require.NoError(t, err)
	dir := filepath.Join(filepath.Dir(strings.TrimSpace(string(mod))), "test/lab/modules/versitygw")
	cmd := exec.Command("go", "tool", "-n", "versitygw")
	cmd.Dir = dir
	out, err := cmd.Output()
	require.NoError(t, err, "build versitygw in %s: %s", dir, stderrOf(err))
	return strings.TrimSpace(string(out))
}

func stderrOf(err error) string {
	var exit *exec.ExitError
	if e, ok := err.(*exec.ExitError); ok { //nolint:errorlint // Output returns it bare
		exit = e
		return string(exit.Stderr)
	}
	return fmt.Sprint(err)
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port
}
