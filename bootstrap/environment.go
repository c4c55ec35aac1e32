package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"
	bootstraputil "k8s.io/cluster-bootstrap/token/util"

	"github.com/catamaran-k8s/catamaran/bootstrap/bundle"
	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/bootstrap/remote"
	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

// environment is what the tasks of one apply act through. It implements plan.Env.
type environment struct {
	site     *Site
	redactor *pki.Redactor

	mu      sync.Mutex
	clients map[inventory.ClusterName]*kubernetes.Clientset
	configs map[inventory.ClusterName]*rest.Config
	tokens  map[inventory.ClusterName]string
	created map[inventory.ClusterName]bool // the token is known to the API
}

func newEnvironment(s *Site, r *pki.Redactor) *environment {
	return &environment{
		site: s, redactor: r,
		clients: map[inventory.ClusterName]*kubernetes.Clientset{},
		configs: map[inventory.ClusterName]*rest.Config{},
		tokens:  map[inventory.ClusterName]string{},
		created: map[inventory.ClusterName]bool{},
	}
}

func (e *environment) Host(node string) remote.Runner { return e.site.hosts[node] }
func (e *environment) Bundle() *bundle.Bundle         { return e.site.Bundle }
func (e *environment) SiteDir() string                { return e.site.Inventory.SiteDir() }
func (e *environment) Operator() string               { return e.site.Operator }
func (e *environment) Redact(secret string)           { e.redactor.Add(secret) }

// Secrets returns what the vault holds of a cluster.
func (e *environment) Secrets(c inventory.ClusterName) (pki.ClusterSecrets, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.site.secrets(c)
}

// MakeSecrets makes a cluster's secrets, and the vault where there is none.
func (e *environment) MakeSecrets(c inventory.ClusterName) (pki.ClusterSecrets, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s, err := e.site.secrets(c); err == nil {
		return s, nil
	}
	s, err := e.site.makeSecrets(c)
	if err == nil {
		e.redactor.AddSecrets(s)
	}
	return s, err
}

// Platform returns the compliance platform's secrets, and makes those that are missing.
func (e *environment) Platform(passwords ...string) (pki.PlatformSecrets, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s, err := e.site.platformSecrets(passwords)
	if err == nil {
		e.redactor.AddPlatform(s)
	}
	return s, err
}

// Retire implements plan.Env. Node settings that are not valid any more do not matter.
func (e *environment) Retire(ctx context.Context, c inventory.ClusterName, machine string, log func(string)) error {
	p, r, err := e.site.providerOf(c)
	if err != nil {
		return err
	}
	return p.Retire(ctx, r, []string{machine}, func(c provider.Change) { log(changeWords(c)) })
}

// API returns a configuration whose connections pass through SSH of the first control plane that answers.
func (e *environment) API(c inventory.ClusterName) (*rest.Config, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if cfg, ok := e.configs[c]; ok {
		return cfg, nil
	}
	secrets, err := e.site.secrets(c)
	if err != nil {
		return nil, err
	}
	cert, err := pki.AdminCertificate(secrets.CA, e.site.Operator, time.Now().Add(-5*time.Minute), 24*time.Hour)
	if err != nil {
		return nil, err
	}
	cfg := &rest.Config{
		Host: "https://127.0.0.1:6443",
		TLSClientConfig: rest.TLSClientConfig{
			ServerName: "kubernetes", CAData: []byte(secrets.CA.Cert),
			CertData: []byte(cert.Cert), KeyData: []byte(cert.Key),
		},
		Dial:  e.dialAPI(c),
		QPS:   100,
		Burst: 200,
	}
	e.configs[c] = cfg
	return cfg, nil
}

// dialAPI connects to the API server of the first control plane that has one, through its SSH connection. It needs
// neither the VIP nor a route from here to the API port.
func (e *environment) dialAPI(c inventory.ClusterName) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		var errs []error
		for _, n := range e.site.Inventory.Cluster(c).ControlPlanes() {
			h := e.site.hosts[n.Name]
			if h == nil {
				continue
			}
			conn, err := h.Dial(ctx, "tcp", "127.0.0.1:6443")
			if err == nil {
				return conn, nil
			}
			errs = append(errs, fmt.Errorf("%s: %w", n.Name, err))
		}
		return nil, fmt.Errorf("%s: no control plane's API server answers: %w", c, errors.Join(errs...))
	}
}

// Client is API as a clientset.
func (e *environment) Client(c inventory.ClusterName) (kubernetes.Interface, error) {
	cfg, err := e.API(c)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if cl, ok := e.clients[c]; ok {
		return cl, nil
	}
	cl, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	e.clients[c] = cl
	return cl, nil
}

// FoundingToken is the token that kubeadm init is told to accept; joins of the same apply use it too.
func (e *environment) FoundingToken(c inventory.ClusterName) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t, err := e.token(c)
	e.created[c] = true
	return t, err
}

func (e *environment) token(c inventory.ClusterName) (string, error) {
	if t, ok := e.tokens[c]; ok {
		return t, nil
	}
	t, err := bootstraputil.GenerateBootstrapToken()
	if err != nil {
		return "", err
	}
	e.redactor.Add(t)
	_, secret, _ := cutToken(t)
	e.redactor.Add(secret)
	e.tokens[c] = t
	return t, nil
}

// JoinToken returns a token that the cluster accepts, writing it through the API on first use.
func (e *environment) JoinToken(ctx context.Context, c inventory.ClusterName) (string, error) {
	client, err := e.Client(c)
	if err != nil {
		return "", err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	t, err := e.token(c)
	if err != nil || e.created[c] {
		return t, err
	}
	id, secret, _ := cutToken(t)
	s := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: bootstrapapi.BootstrapTokenSecretPrefix + id, Namespace: metav1.NamespaceSystem},
		Type:       bootstrapapi.SecretTypeBootstrapToken,
		StringData: map[string]string{
			bootstrapapi.BootstrapTokenIDKey:               id,
			bootstrapapi.BootstrapTokenSecretKey:           secret,
			bootstrapapi.BootstrapTokenExpirationKey:       time.Now().Add(plan.JoinTokenTTL).UTC().Format(time.RFC3339),
			bootstrapapi.BootstrapTokenUsageAuthentication: "true",
			bootstrapapi.BootstrapTokenUsageSigningKey:     "true",
			bootstrapapi.BootstrapTokenExtraGroupsKey:      "system:bootstrappers:kubeadm:default-node-token",
			bootstrapapi.BootstrapTokenDescriptionKey:      "one apply of catamaran",
		},
	}
	_, err = client.CoreV1().Secrets(s.Namespace).Create(ctx, s, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return "", fmt.Errorf("%s: write the join token: %w", c, err)
	}
	e.created[c] = true
	return t, nil
}

// cutToken splits a bootstrap token into its public ID and its secret.
func cutToken(token string) (id, secret string, ok bool) { return strings.Cut(token, ".") }
