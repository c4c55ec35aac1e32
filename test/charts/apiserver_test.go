// Package charts tests the embedded charts and the Helm installer against a real kube-apiserver with etcd: what it
// refuses would be refused on a site. There is no kubelet and no controller manager: workloads become ready when a test says
// so through the API's status (status_test.go).
package charts

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
	"github.com/catamaran-k8s/catamaran/test/lab/build"
)

// startLimit bounds how long etcd and the API server may take to answer; measured: 2 to 6 s on two busy cores.
const startLimit = 2 * time.Minute

// server is the API server of this test run.
var server *apiServer

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		os.Exit(child())
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "test/charts:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "catamaran-apiserver-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if server, err = startAPIServer(context.Background(), dir); err != nil {
		return 0, err
	}
	defer server.stop()
	return m.Run(), nil
}

// apiServer is a kube-apiserver and its etcd.
type apiServer struct {
	dir     string
	config  *rest.Config
	running []*exec.Cmd
}

func startAPIServer(ctx context.Context, dir string) (*apiServer, error) {
	options := build.Options{Log: func(line string) { fmt.Fprintln(os.Stderr, line) }}
	etcd, err := build.One(ctx, options, "etcd")
	if err != nil {
		return nil, err
	}
	api, err := build.One(ctx, options, "kube-apiserver")
	if err != nil {
		return nil, err
	}
	s := &apiServer{dir: dir}
	if err := s.start(ctx, etcd.Path, api.Path); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *apiServer) start(ctx context.Context, etcd, api string) error {
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	client, peer := fmt.Sprintf("http://127.0.0.1:%d", ports[0]), fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	err = s.process(etcd, "--data-dir="+filepath.Join(s.dir, "etcd"), "--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer, "--unsafe-no-fsync")
	if err != nil {
		return err
	}
	authority, err := pki.NewClusterSecrets()
	if err != nil {
		return err
	}
	token := make([]byte, 16)
	if _, err := rand.Read(token); err != nil {
		return err
	}
	files := map[string]string{
		"tokens.csv": hex.EncodeToString(token) + ",test,test,system:masters\n",
		"sa.key":     authority.ServiceAccount.Key,
		"sa.pub":     authority.ServiceAccount.Cert,
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	err = s.process(api, "--etcd-servers="+client, fmt.Sprintf("--secure-port=%d", ports[2]), "--bind-address=127.0.0.1",
		"--cert-dir="+filepath.Join(s.dir, "certs"), "--service-cluster-ip-range=10.101.0.0/16",
		"--service-account-issuer=https://127.0.0.1", "--service-account-signing-key-file="+filepath.Join(s.dir, "sa.key"),
		"--service-account-key-file="+filepath.Join(s.dir, "sa.pub"), "--token-auth-file="+filepath.Join(s.dir, "tokens.csv"),
		// as kubeadm sets them
		"--authorization-mode=RBAC", "--allow-privileged=true",
		// nobody makes the default service accounts that it asks for
		"--disable-admission-plugins=ServiceAccount")
	if err != nil {
		return err
	}
	s.config = &rest.Config{
		Host: fmt.Sprintf("https://127.0.0.1:%d", ports[2]), BearerToken: hex.EncodeToString(token), QPS: 500, Burst: 1000,
		TLSClientConfig: rest.TLSClientConfig{CAFile: filepath.Join(s.dir, "certs", "apiserver.crt")},
	}
	return s.await(ctx)
}

// process starts a program whose output is kept for when it fails.
func (s *apiServer) process(program string, args ...string) error {
	out, err := os.Create(filepath.Join(s.dir, filepath.Base(program)+".log"))
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }() // the process has its own
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return err
	}
	s.running = append(s.running, cmd)
	return nil
}

// await asks until the API server says that it is ready.
func (s *apiServer) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			log, _ := os.ReadFile(filepath.Join(s.dir, "kube-apiserver.log")) // without it the error still says what is wrong
			return fmt.Errorf("the API server is not ready after %s: %w\n%s", startLimit, err, bytes.TrimSpace(log[max(0, len(log)-4000):]))
		}
	}
}

func (s *apiServer) ready(ctx context.Context) error {
	// the certificate is made at the first start
	if _, err := os.Stat(s.config.CAFile); err != nil {
		return err
	}
	clients, err := kubernetes.NewForConfig(s.config)
	if err != nil {
		return err
	}
	code := 0
	result := clients.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).StatusCode(&code)
	if result.Error() == nil && code != http.StatusOK {
		return fmt.Errorf("HTTP %d", code)
	}
	return result.Error()
}

func (s *apiServer) stop() {
	for i := len(s.running) - 1; i >= 0; i-- {
		_ = s.running[i].Process.Kill() // it may have ended
		_ = s.running[i].Wait()
	}
}

// freePorts are ports that nobody listens on; all are held until the last is known, so that they differ.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
