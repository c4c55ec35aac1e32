package kubeadm

import (
	"bufio"
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

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/catamaran-k8s/catamaran/bootstrap/kubeadm"
	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// canary is in the body of a secret, of a token request's answer and of a config map: no log may show it.
const canary = "canary-in-the-body-of-a-secret"

// apiServer is a real API server with a real etcd, with the arguments and files that a control plane gets.
type apiServer struct {
	dir, url, etcd, etcdctl string
	process                 *process
}

// start runs both until the test ends. Paths of the node lie below a folder of the test's, where more may put files and name
// arguments.
func (s site) start(t *testing.T, more ...func(dir string) []string) *apiServer {
	t.Helper()
	a := &apiServer{dir: t.TempDir(), etcdctl: program(t, "etcdctl")}
	ports := freePorts(t, 3)
	a.etcd, a.url = fmt.Sprintf("http://127.0.0.1:%d", ports[0]), fmt.Sprintf("https://127.0.0.1:%d", ports[2])
	peer := fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	etcd := run(t, program(t, "etcd"), "--data-dir", a.dir+"/etcd", "--unsafe-no-fsync", "--listen-client-urls", a.etcd, "--advertise-client-urls", a.etcd,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer)
	require.Contains(t, etcd.says(t, "ready to serve client requests"), "ready to serve client requests")

	in := s.input(inventory.EndpointVIP, inventory.ControlPlane)
	shared, err := kubeadm.Shared(in)
	require.NoError(t, err)
	var config struct {
		APIServer struct {
			ExtraArgs []kubeadm.Arg
		}
	}
	require.NoError(t, yaml.Unmarshal([]byte(document(t, string(shared), "ClusterConfiguration")), &config))
	for path, content := range map[string]string{
		kubeadm.AuditPolicyFile: in.AuditPolicy, kubeadm.EncryptionFile: kubeadm.EncryptionConfiguration(s.secrets.EncryptionKey),
		kubeadm.AuthenticationFile: kubeadm.Authentication(), "/etc/kubernetes/pki/ca.crt": s.secrets.CA.Cert,
		"/etc/kubernetes/pki/sa.pub": s.secrets.ServiceAccount.Cert, "/etc/kubernetes/pki/sa.key": s.secrets.ServiceAccount.Key,
	} {
		write(t, a.dir, path, content)
	}
	if s.guardOf != nil {
		write(t, a.dir, kubeadm.AdmissionFile, strings.ReplaceAll(kubeadm.AdmissionConfiguration(), kubeadm.AdmissionManifests, a.dir+kubeadm.AdmissionManifests))
		write(t, a.dir, kubeadm.AdmissionGuardFile, kubeadm.AdmissionGuard(s.guardOf))
	}
	args := []string{
		"--etcd-servers", a.etcd, "--secure-port", fmt.Sprint(ports[2]), "--bind-address", "127.0.0.1", "--cert-dir", a.dir,
		"--client-ca-file", a.dir + "/etc/kubernetes/pki/ca.crt", "--authorization-mode", "Node,RBAC", "--service-cluster-ip-range", "10.101.0.0/16",
		"--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", a.dir + "/etc/kubernetes/pki/sa.pub",
		"--service-account-signing-key-file", a.dir + "/etc/kubernetes/pki/sa.key",
	}
	for _, arg := range config.APIServer.ExtraArgs {
		if strings.HasPrefix(arg.Value, "/") {
			arg.Value = a.dir + arg.Value
		}
		args = append(args, "--"+arg.Name+"="+arg.Value)
	}
	for _, m := range more {
		args = append(args, m(a.dir)...)
	}
	a.process = run(t, program(t, "kube-apiserver"), args...)
	out := a.process.says(t, "Serving securely")
	require.Contains(t, out, "Serving securely", "it did not start")
	return a
}

func freePorts(t *testing.T, n int) []int {
	t.Helper()
	var out []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close() //nolint:errcheck // all are held until all are known
		out = append(out, l.Addr().(*net.TCPAddr).Port)
	}
	return out
}

// client signs in with a certificate of the cluster's authority; the serving certificate is the API server's own here.
func (a *apiServer) client(t *testing.T, s site, name string, groups ...string) *kubernetes.Clientset {
	t.Helper()
	cert, key := s.sign(t, name, groups)
	c, err := kubernetes.NewForConfig(&rest.Config{Host: a.url, QPS: -1, TLSClientConfig: rest.TLSClientConfig{Insecure: true, CertData: cert, KeyData: key}})
	require.NoError(t, err)
	return c
}

func (s site) sign(t *testing.T, name string, groups []string) (cert, key []byte) {
	t.Helper()
	ca, err := tls.X509KeyPair([]byte(s.secrets.CA.Cert), []byte(s.secrets.CA.Key))
	require.NoError(t, err)
	parent, err := x509.ParseCertificate(ca.Certificate[0])
	require.NoError(t, err)
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name, Organization: groups},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, parent, k.Public(), ca.PrivateKey)
	require.NoError(t, err)
	private, err := x509.MarshalECPrivateKey(k)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private})
}

// waitReady returns when the API server has its own roles in place.
func (a *apiServer) waitReady(t *testing.T, c *kubernetes.Clientset) {
	t.Helper()
	require.Eventually(t, func() bool {
		body, err := c.RESTClient().Get().AbsPath("/readyz").DoRaw(t.Context())
		return err == nil && string(body) == "ok"
	}, time.Minute, 100*time.Millisecond)
}

func TestAPIServer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.start(t)
	ctx := t.Context()
	root := a.client(t, s, "root", "system:masters")
	a.waitReady(t, root)

	t.Run("the anonymous see health and the cluster's information only", func(t *testing.T) {
		anonymous := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		defer anonymous.CloseIdleConnections()
		for path, want := range map[string]int{
			"/livez": http.StatusOK, "/readyz": http.StatusOK, "/healthz": http.StatusOK,
			// authentication lets it pass; whether it is there and allowed is up to kubeadm's own role
			"/api/v1/namespaces/kube-public/configmaps/cluster-info": http.StatusForbidden,
			"/version": http.StatusUnauthorized, "/api": http.StatusUnauthorized, "/metrics": http.StatusUnauthorized,
			"/api/v1/namespaces/kube-public/configmaps": http.StatusUnauthorized, "/livez/ping": http.StatusUnauthorized,
		} {
			res, err := anonymous.Get(a.url + path)
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			require.Equal(t, want, res.StatusCode, path)
		}
	})
	t.Run("the operator's kubeconfig", func(t *testing.T) {
		_, err := root.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "kubeadm:cluster-admins"}, // as kubeadm makes it
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: "kubeadm:cluster-admins"}},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
		data, err := pki.AdminKubeconfig(s.secrets.CA, "umea-service", a.url, "anna", time.Now().Add(-time.Minute), time.Hour)
		require.NoError(t, err)
		config, err := clientcmd.RESTConfigFromKubeConfig(data)
		require.NoError(t, err)
		config.Insecure, config.CAData = true, nil // the serving certificate is made by the API server itself in this test
		anna, err := kubernetes.NewForConfig(config)
		require.NoError(t, err)
		require.Eventually(t, func() bool { // the authorizer learns of the binding by watching
			_, err := anna.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
			return err == nil
		}, time.Minute, 50*time.Millisecond)
	})
	t.Run("secrets are encrypted at rest, and never logged", func(t *testing.T) {
		eve := a.client(t, s, "eve", "system:masters")
		secret, err := eve.CoreV1().Secrets("default").Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, StringData: map[string]string{"password": canary}}, metav1.CreateOptions{})
		require.NoError(t, err)
		_, err = eve.CoreV1().Secrets("default").Update(ctx, secret, metav1.UpdateOptions{})
		require.NoError(t, err)
		_, err = eve.CoreV1().Secrets("default").Get(ctx, "s", metav1.GetOptions{})
		require.NoError(t, err)
		_, err = eve.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Data: map[string]string{"k": canary}}, metav1.CreateOptions{})
		require.NoError(t, err)
		_, err = eve.RbacV1().Roles("default").Create(ctx, &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "r"}}, metav1.CreateOptions{})
		require.NoError(t, err)

		raw, err := exec.Command(a.etcdctl, "--endpoints", a.etcd, "get", "--print-value-only", "/registry/secrets/default/s").Output()
		require.NoError(t, err)
		require.True(t, bytes.HasPrefix(raw, []byte("k8s:enc:secretbox:v1:key1:")), "%q", raw[:min(len(raw), 40)])
		require.NotContains(t, string(raw), canary)
		raw, err = exec.Command(a.etcdctl, "--endpoints", a.etcd, "get", "--print-value-only", "/registry/configmaps/default/c").Output()
		require.NoError(t, err)
		require.Contains(t, string(raw), canary, "what is looked for can be found: this one is in plain")

		log := filepath.Join(a.dir, kubeadm.AuditLog)
		levels := map[string]string{}
		require.Eventually(t, func() bool {
			levels = auditLevels(t, log)
			return levels["eve create roles"] != ""
		}, time.Minute, 50*time.Millisecond)
		for what, want := range map[string]string{
			"eve create secrets": "Metadata", "eve update secrets": "Metadata", "eve get secrets": "Metadata",
			"eve create configmaps": "Metadata", "eve create roles": "RequestResponse",
		} {
			require.Equal(t, want, levels[what], what)
		}
		text, err := os.ReadFile(log)
		require.NoError(t, err)
		require.NotContains(t, string(text), canary)
		require.NotContains(t, string(text), "Y2FuYXJ5LWlu", "in base64 neither")
		a.process.mu.Lock()
		defer a.process.mu.Unlock()
		require.NotContains(t, a.process.out.String(), canary)
		require.NotContains(t, a.process.out.String(), s.secrets.EncryptionKey)
	})
}

// auditLevels are the levels at which requests were logged, by "user verb resource".
func auditLevels(t *testing.T, file string) map[string]string {
	t.Helper()
	out := map[string]string{}
	f, err := os.Open(file)
	if os.IsNotExist(err) {
		return out
	}
	require.NoError(t, err)
	defer f.Close() //nolint:errcheck // only read
	r := bufio.NewReader(f)
	for {
		line, err := r.ReadBytes('\n')
		if err == io.EOF {
			return out // the last line may be half written
		}
		require.NoError(t, err)
		var e struct {
			Level, Verb string
			User        struct{ Username string }
			ObjectRef   struct{ Resource string }
		}
		require.NoError(t, json.Unmarshal(line, &e))
		out[e.User.Username+" "+e.Verb+" "+e.ObjectRef.Resource] = e.Level
	}
}

func TestAPIServerRefusesABrokenFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newSite(t)
	ca := write(t, dir, "ca.crt", s.secrets.CA.Cert)
	pub, key := write(t, dir, "sa.pub", s.secrets.ServiceAccount.Cert), write(t, dir, "sa.key", s.secrets.ServiceAccount.Key)
	for flag, c := range map[string]struct{ content, word string }{
		"audit-policy-file":          {strings.Replace(kubeadm.AuditPolicy(), "omitStages", "omitStage", 1), "omitStage"},
		"authentication-config":      {strings.Replace(kubeadm.Authentication(), "conditions", "condition", 1), "anonymous.condition"},
		"encryption-provider-config": {kubeadm.EncryptionConfiguration("dG9vIHNob3J0"), "expected one of [32]"},
	} {
		// a context that ends it in any case: an accepted file would leave it waiting for etcd
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		out, err := exec.CommandContext(ctx, program(t, "kube-apiserver"), "--etcd-servers", "http://127.0.0.1:1", "--cert-dir", dir, "--client-ca-file", ca,
			"--service-account-issuer", "https://x", "--service-account-key-file", pub, "--service-account-signing-key-file", key, "--service-cluster-ip-range", "10.101.0.0/16",
			"--authorization-mode", "RBAC", "--audit-log-path", dir+"/audit.log", "--"+flag+"="+write(t, dir, flag, c.content)).CombinedOutput()
		cancel()
		require.Error(t, err)
		require.Contains(t, string(out), c.word, flag)
	}
}
