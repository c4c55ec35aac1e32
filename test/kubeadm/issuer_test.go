package kubeadm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/catamaran-k8s/catamaran/bootstrap/kubeadm"
	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// issuer is an OpenID Connect provider as far as an API server asks it: who it is, and its keys.
type issuer struct {
	url string
	key *ecdsa.PrivateKey
}

// newIssuer answers with a certificate of an authority of the platform's.
func newIssuer(t *testing.T, authority pki.KeyPair) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	i := &issuer{key: key}
	cert, err := pki.Issue(authority, pki.CertificateRequest{CommonName: "dex", IPs: []string{"127.0.0.1"}, Server: true}, time.Now().Add(-time.Minute), time.Hour)
	require.NoError(t, err)
	pair, err := tls.X509KeyPair([]byte(cert.Cert), []byte(cert.Key))
	require.NoError(t, err)
	mux := http.NewServeMux()
	answer := func(path string, content func() any) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(content()) // who asked is gone
		})
	}
	answer("/dex/.well-known/openid-configuration", func() any {
		return map[string]any{
			"issuer": i.url, "jwks_uri": i.url + "/keys", "authorization_endpoint": i.url + "/auth", "token_endpoint": i.url + "/token",
			"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"ES256"},
		}
	})
	answer("/dex/keys", func() any {
		public, err := i.key.PublicKey.Bytes()
		if err != nil {
			return nil
		}
		return map[string]any{"keys": []any{map[string]any{
			"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "one", "x": encode(public[1:33]), "y": encode(public[33:]),
		}}}
	})
	server := httptest.NewUnstartedServer(mux)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	i.url = server.URL + "/dex"
	return i
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// left stands for a claim that is left out.
const left = "left out"

// token is one for anna, with some claims changed.
func (i *issuer) token(t *testing.T, key *ecdsa.PrivateKey, change map[string]any) string {
	t.Helper()
	claims := map[string]any{
		"iss": i.url, "sub": "anna", "aud": inventory.IssuerClient, "email": "anna@example.org", "email_verified": true,
		"groups": []string{"staff", "system:masters"}, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	maps.Copy(claims, change)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == left })
	head, err := json.Marshal(map[string]any{"alg": "ES256", "kid": "one", "typ": "JWT"})
	require.NoError(t, err)
	body, err := json.Marshal(claims)
	require.NoError(t, err)
	text := encode(head) + "." + encode(body)
	digest := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	require.NoError(t, err)
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return text + "." + encode(signature)
}

// who is the user that the API server takes a token's bearer for.
func (a *apiServer) who(t *testing.T, token string) (authenticationv1.UserInfo, error) {
	t.Helper()
	c, err := kubernetes.NewForConfig(&rest.Config{Host: a.url, QPS: -1, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
	require.NoError(t, err)
	review, err := c.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return authenticationv1.UserInfo{}, err
	}
	return review.Status.UserInfo, nil
}

// A real API server, told of an issuer while it runs, as `apply` does.
func TestIssuer(t *testing.T) {
	t.Parallel()
	platform, err := pki.NewPlatformSecrets()
	require.NoError(t, err)
	i := newIssuer(t, platform.ServiceCA)
	s := newSite(t)
	a := s.start(t)
	a.waitReady(t, a.client(t, s, "root", "system:masters"))
	good := i.token(t, i.key, nil)
	_, err = a.who(t, good)
	require.ErrorContains(t, err, "Unauthorized", "nobody told it of the issuer yet")

	file := filepath.Join(a.dir, kubeadm.AuthenticationFile)
	trust := func(authority string) {
		content := kubeadm.AuthenticationBy(kubeadm.Issuer{URL: i.url, Client: inventory.IssuerClient, UsernameClaim: "email"}, authority)
		require.NoError(t, os.WriteFile(file+".new", []byte(content), 0o600))
		require.NoError(t, os.Rename(file+".new", file))
	}
	trust(platform.ServiceCA.Cert)
	require.Eventually(t, func() bool {
		_, err = a.who(t, good)
		return err == nil
	}, 2*time.Minute, 100*time.Millisecond)
	user, err := a.who(t, good)
	require.NoError(t, err)
	require.Equal(t, "oidc:anna@example.org", user.Username)
	require.Equal(t, []string{"oidc:staff", "oidc:system:masters", "system:authenticated"}, user.Groups, "the prefix takes the power from a name")

	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	for name, token := range map[string]string{
		"a key that is not the issuer's": i.token(t, stranger, nil),
		"another issuer":                 i.token(t, i.key, map[string]any{"iss": "https://127.0.0.1:1/dex"}),
		"another client's":               i.token(t, i.key, map[string]any{"aud": "grafana"}),
		"one that has ended":             i.token(t, i.key, map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}),
		"an address nobody has verified": i.token(t, i.key, map[string]any{"email_verified": false}),
		"no name":                        i.token(t, i.key, map[string]any{"email": left}),
		"a name that is null":            i.token(t, i.key, map[string]any{"email": nil}),
	} {
		_, err := a.who(t, token)
		require.ErrorContains(t, err, "Unauthorized", name)
	}
	// it may do nothing until somebody says so
	c, err := kubernetes.NewForConfig(&rest.Config{Host: a.url, BearerToken: good, TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
	require.NoError(t, err)
	_, err = c.CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{})
	require.ErrorContains(t, err, `User "oidc:anna@example.org" cannot list resource "secrets"`)
}

// An issuer whose server has a certificate of another authority is not believed, and the API server works without it.
func TestIssuerOfAnotherAuthority(t *testing.T) {
	t.Parallel()
	ours, err := pki.NewPlatformSecrets()
	require.NoError(t, err)
	i := newIssuer(t, ours.IngestServerCA)
	s := newSite(t)
	a := s.start(t, func(dir string) []string {
		write(t, dir, kubeadm.AuthenticationFile, kubeadm.AuthenticationBy(kubeadm.Issuer{URL: i.url, Client: inventory.IssuerClient, UsernameClaim: "email"}, ours.ServiceCA.Cert))
		return nil
	})
	a.waitReady(t, a.client(t, s, "root", "system:masters"))
	require.Contains(t, a.process.says(t, "certificate signed by unknown authority"), "certificate signed by unknown authority")
	_, err = a.who(t, i.token(t, i.key, nil))
	require.ErrorContains(t, err, "Unauthorized")
}
