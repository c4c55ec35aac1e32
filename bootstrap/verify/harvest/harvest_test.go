package harvest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/catamaran-k8s/catamaran/bootstrap/remote"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify/verifytest"
)

func newCollector(t *testing.T) *Collector {
	t.Helper()
	salt, err := NewSalt()
	require.NoError(t, err)
	return NewCollector(salt)
}

// token is a JWT of a service account; nobody checks its signature here.
func token(name string) string {
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(`{"alg":"RS256","kid":"x"}`)) + "." + enc([]byte(`{"iss":"kubernetes","sub":"system:serviceaccount:`+name+`"}`)) + "." + enc([]byte("CANARY-signature-"+name+"-0123456789"))
}

// All the secrets of the table hold this word, so that its absence from the output can be checked.
const canary = "CANARY"

func TestRecognisers(t *testing.T) {
	t.Parallel()
	ca := verifytest.NewAuthority(t, "kubernetes")
	admin := ca.Issue(t, "kubernetes-admin", "kubeadm:cluster-admins")
	cert, key := string(verifytest.CertPEM(admin.Leaf)), string(verifytest.KeyPEM(t, admin.PrivateKey))
	b64 := base64.StdEncoding.EncodeToString
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(edKey, "")
	require.NoError(t, err)
	locked, err := ssh.MarshalPrivateKeyWithPassphrase(edKey, "", []byte("secret"))
	require.NoError(t, err)

	for name, c := range map[string]struct {
		text string
		want []string // kind and subject
	}{
		"key and certificate":     {key + "\n" + cert, []string{"certificate and key CN=kubernetes-admin,O=kubeadm:cluster-admins (kubernetes-admin)"}},
		"certificate only":        {"# comment\n" + cert, []string{"certificate CN=kubernetes-admin,O=kubeadm:cluster-admins (kubernetes-admin)"}},
		"key only":                {key, []string{"private key"}},
		"OpenSSH key":             {string(pem.EncodeToMemory(block)), []string{"private key"}},
		"locked OpenSSH key":      {string(pem.EncodeToMemory(locked)), nil},
		"indented PEM":            {"a:\n  b: |\n    " + strings.ReplaceAll(key, "\n", "\n    "), []string{"private key"}},
		"PEM in JSON":             {`{"key": "` + strings.ReplaceAll(key, "\n", `\n`) + `"}`, []string{"private key"}},
		"kubeconfig, certificate": {"users:\n- user:\n    client-certificate-data: " + b64([]byte(cert)) + "\n    client-key-data: " + b64([]byte(key)) + "\n", []string{"certificate and key CN=kubernetes-admin,O=kubeadm:cluster-admins (kubernetes-admin)"}},
		"kubeconfig, token":       {"users:\n- user:\n    token: " + canary + "opaque0123\n", []string{"token"}},
		"kubeconfig in a manifest": {b64([]byte(`{"users":[{"user":{"token":"` + token("ns:a") + `"}}],"padding":"` + strings.Repeat("x", 80) + `"}`)),
			[]string{"token system:serviceaccount:ns:a"}},
		"service account token": {token("kube-system:default") + "\n", []string{"token system:serviceaccount:kube-system:default"}},
		"bootstrap token":       {"token: abcdef.0123456789abcdef", []string{"token bootstrap token abcdef"}},
		"user and password":     {`{"user": "grafana", "password": "` + canary + `pw1"}`, []string{"password grafana"}},
		"password, then user":   {"password: " + canary + "pw2\nusername: bob\n", []string{"password bob"}},
		"password alone":        {"DB_PASSWORD=" + canary + "pw3", []string{"password"}},
		"URL":                   {"proxy = http://carol:" + canary + "pw4@proxy:3128/", []string{"password carol"}},
		"basic header":          {"Authorization: Basic " + b64([]byte("dave:"+canary+"pw5")), []string{"password dave"}},
		"bearer header":         {"curl -H 'Authorization: Bearer " + canary + "tok6'", []string{"opaque secret"}},
		"docker auth":           {`{"auths":{"r.example":{"auth":"` + b64([]byte("erin:"+canary+"pw7")) + `"}}}`, []string{"password erin"}},
		"aws ini":               {"[default]\naws_access_key_id = AKIA123\naws_secret_access_key = " + canary + "s3", []string{"access key AKIA123"}},
		"argument":              {"server --admin-password " + canary + "arg --other x", []string{"password"}},
		"encryption at rest":    {"providers:\n- aescbc:\n    keys:\n    - name: k1\n      secret: " + canary + "Base64KeyForEtcd0123456789abcdefghi=\n", []string{"opaque secret"}},
		"shadow":                {"root:*:19000:0:::::\nops:$y$j9T$" + canary + "hash.hash:19000:0:99999:7:::\n", []string{"opaque secret ops"}},
		"YAML in JSON":          {`{"a": "automountServiceAccountToken: false\nspec: x"}`, nil},
		"paths are no secrets":  {"password_file=/etc/x\ntoken: ${TOKEN}\nsecret: short\nkeyFile: /a/b\nPasswordAuthentication no\nuser: nobody", nil},
		"names in a template":   {"chart.kubernetesversion", nil},
		"prose":                 {"The password is changed yearly. A token, or a secret, opens the door.", nil},
		"binary":                {"\xff\xfe\x00password=CANARYx", nil},
		"damaged PEM":           {"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n-----BEGIN CERTIFICATE-----\nnope", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := newCollector(t)
			found.Text("wc-1: /etc/thing", []byte(c.text))
			var got []string
			for _, x := range found.Credentials() {
				got = append(got, strings.TrimSpace(strings.TrimSuffix(x.String(), x.Fingerprint)))
				requireHidden(t, x)
				assert.Equal(t, []string{"wc-1: /etc/thing"}, x.Places)
			}
			assert.Equal(t, c.want, got)
		})
	}
}

// requireHidden fails when a credential shows its secret in any way in which Go prints things.
func requireHidden(t *testing.T, c Credential) {
	t.Helper()
	data, err := json.Marshal(c)
	require.NoError(t, err)
	nested := struct{ C any }{c}
	private := struct{ c Credential }{c}
	shown := string(data) + fmt.Sprintf("%v %+v %#v %s %q %x", c, c, c, c, c, c) + fmt.Sprintf("%v %+v %#v", nested, nested, nested) +
		fmt.Sprintf("%v %+v %#v", private, private, private) + fmt.Sprintf("%v %+v", &c, []Credential{c})
	assert.NotContains(t, shown, canary)
	if bearer, ok := c.Bearer(); ok {
		assert.NotContains(t, shown, bearer)
	}
	if key, ok := c.Key(); ok {
		assert.NotContains(t, shown, strings.TrimSpace(fmt.Sprintf("%v", key)))
	}
}

func TestValuesOfASecret(t *testing.T) {
	t.Parallel()
	ca := verifytest.NewAuthority(t, "ingest-ca")
	leaf := ca.Issue(t, "wc-a", "wc-a")
	for name, c := range map[string]struct {
		values map[string][]byte
		want   []string
	}{
		"tls": {map[string][]byte{"tls.crt": verifytest.CertPEM(leaf.Leaf), "tls.key": verifytest.KeyPEM(t, leaf.PrivateKey), "ca.crt": verifytest.CertPEM(ca.Cert)},
			[]string{"certificate CN=ingest-ca", "certificate and key CN=wc-a,O=wc-a (wc-a)"}},
		"s3":       {map[string][]byte{"access": []byte("loki"), "secret": []byte(canary + "s")}, []string{"access key loki"}},
		"grafana":  {map[string][]byte{"user": []byte("admin"), "password": []byte(canary + "p")}, []string{"password admin"}},
		"anything": {map[string][]byte{"blob": []byte(canary + "x")}, []string{"opaque secret"}},
		"token":    {map[string][]byte{"token": []byte(token("a:b")), "namespace": []byte("a")}, []string{"token system:serviceaccount:a:b"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := newCollector(t)
			found.Values("workload: Secret ns/x", c.values, true)
			var got []string
			for _, x := range found.Credentials() {
				got = append(got, strings.TrimSpace(strings.TrimSuffix(x.String(), x.Fingerprint)))
				requireHidden(t, x)
			}
			assert.Equal(t, c.want, got)
		})
	}
}

// What was found can be used.
func TestUse(t *testing.T) {
	t.Parallel()
	ca := verifytest.NewAuthority(t, "ca")
	leaf := ca.Issue(t, "client")
	c := newCollector(t)
	c.Text("a", verifytest.KeyPEM(t, leaf.PrivateKey))
	c.Text("b", verifytest.CertPEM(leaf.Leaf)) // elsewhere
	c.Text("c", []byte("user: u1\npassword: CANARYpw\n"))
	c.Text("d", []byte("access: id1\nsecret: CANARYkey\n"))
	c.Text("e", []byte(token("x:y")))
	c.Text("f", []byte(token("x:y")))
	all := c.Credentials()
	require.Len(t, all, 4)
	byKind := map[Kind]Credential{}
	for _, x := range all {
		byKind[x.Kind] = x
	}
	pair, ok := byKind[ClientCertificate].TLS()
	require.True(t, ok)
	assert.Equal(t, leaf.Certificate, pair.Certificate)
	user, password, ok := byKind[Password].Basic()
	assert.Equal(t, []any{"u1", "CANARYpw", true}, []any{user, password, ok})
	id, secret, ok := byKind[AccessKey].AccessKey()
	assert.Equal(t, []any{"id1", "CANARYkey", true}, []any{id, secret, ok})
	bearer, ok := byKind[Token].Bearer()
	assert.Equal(t, []any{token("x:y"), true}, []any{bearer, ok})
	assert.Equal(t, []string{"e", "f"}, byKind[Token].Places, "one credential, both places")
	_, ok = byKind[AccessKey].Bearer()
	assert.False(t, ok)
	assert.Equal(t, 6, c.Looked())
}

// Fingerprints compare within a run, and say nothing in another.
func TestFingerprints(t *testing.T) {
	t.Parallel()
	salt, err := NewSalt()
	require.NoError(t, err)
	mark := func(s Salt, text string) string {
		c := NewCollector(s)
		c.Text("x", []byte(text))
		require.Len(t, c.Credentials(), 1)
		return c.Credentials()[0].Fingerprint
	}
	other, err := NewSalt()
	require.NoError(t, err)
	assert.Equal(t, mark(salt, "password: CANARY1"), mark(salt, "passwd=CANARY1"))
	assert.NotEqual(t, mark(salt, "password: CANARY1"), mark(other, "password: CANARY1"))
	key := string(verifytest.KeyPEM(t, verifytest.NewAuthority(t, "a").Key))
	assert.Equal(t, mark(salt, key), mark(other, key), "public keys are public")
}

// local runs scripts on this machine.
type local struct{ script string }

func (local) Name() string { return "wc-1" }

func (l local) Run(ctx context.Context, c remote.Command) (remote.Result, error) {
	cmd := exec.CommandContext(ctx, "sh", "-c", l.script)
	cmd.Stdout = c.Stdout
	return remote.Result{}, cmd.Run()
}

// The real script, against this machine: it must be understood as a whole, whatever lies here.
func TestNodeScriptIsUnderstood(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	script := strings.NewReplacer("/etc/", "/nonexistent/etc/", "/root", t.TempDir(), "/home", "/nonexistent/home", "/tmp /opt", "/nonexistent").Replace(nodeScript)
	require.Contains(t, script, "/nonexistent/etc/kubernetes")
	require.NoError(t, Node(t.Context(), local{script}, c))
	assert.Positive(t, c.Looked(), "at least this process was seen")
}

func TestNodeStream(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	enc := base64.StdEncoding.EncodeToString
	fmt.Fprintf(&b, "environ 17 prog %s\n", enc([]byte("A=1\x00DB_USER=u\x00DB_PASSWORD=CANARYenv\x00")))
	fmt.Fprintf(&b, "cmdline 17 prog %s\n", enc([]byte("prog\x00--token\x00CANARYargument\x00")))
	b.WriteString("files\n")
	w := tar.NewWriter(&b)
	body := []byte(token("ns:sa"))
	require.NoError(t, w.WriteHeader(&tar.Header{Name: "var/lib/kubelet/pods/1/volumes/kubernetes.io~projected/k/..2026_11_24_14_00_00.123/token", Typeflag: tar.TypeReg, Size: int64(len(body)), Mode: 0o600}))
	_, err := w.Write(body)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	b.WriteString("end\n")
	whole := b.Bytes()

	c := newCollector(t)
	require.NoError(t, c.nodeStream("wc-1", bytes.NewReader(whole)))
	var got []string
	for _, x := range c.Credentials() {
		got = append(got, fmt.Sprint(x.Kind, " at ", x.Places))
	}
	assert.Equal(t, []string{
		"password at [wc-1: environ of process 17 (prog) DB_PASSWORD]",
		"token at [wc-1: cmdline of process 17 (prog)]",
		"token at [wc-1: /var/lib/kubelet/pods/1/volumes/kubernetes.io~projected/k/token]",
	}, got)

	for cut := range len(whole) {
		require.Error(t, newCollector(t).nodeStream("wc-1", bytes.NewReader(whole[:cut])), "cut at %d: half a node is not a node", cut)
	}
	err = newCollector(t).nodeStream("wc-1", strings.NewReader("password=CANARY of something else\n"))
	require.Error(t, err)
	assert.NotContains(t, err.Error(), canary)
}

func TestAPI(t *testing.T) {
	t.Parallel()
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, err := w.Write([]byte(`{"config":{"user":"rel","password":"CANARYrelease"}}`))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	client := fake.NewClientset(
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "s"}, Data: map[string][]byte{"access": []byte("id"), "secret": []byte("CANARYsecret")}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "r"}, Type: "helm.sh/release.v1", Data: map[string][]byte{"release": []byte(base64.StdEncoding.EncodeToString(z.Bytes()))}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "bootstrap-token-abcdef"}, Type: "bootstrap.kubernetes.io/token",
			Data: map[string][]byte{"token-id": []byte("abcdef"), "token-secret": []byte("0123456789abcdef"), "description": []byte("of everybody"), "auth-extra-groups": []byte("system:bootstrappers:x")}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "m", Annotations: map[string]string{"x": "password: CANARYnote"}}, Data: map[string]string{"c": "password: CANARYmap"}},
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "p"}, Spec: corev1.PodSpec{ServiceAccountName: "sa", Containers: []corev1.Container{{
			Env: []corev1.EnvVar{{Name: "API_TOKEN", Value: "CANARYtoken"}}, Args: []string{"--password=CANARYarg"},
		}}}},
	)
	c := newCollector(t)
	require.NoError(t, API(t.Context(), client, "workload", c))
	places := map[string]Kind{}
	for _, x := range c.Credentials() {
		requireHidden(t, x)
		for _, p := range x.Places {
			places[p] = x.Kind
		}
	}
	assert.Equal(t, map[string]Kind{
		"workload: Secret kube-system/bootstrap-token-abcdef": Token,
		"workload: Secret a/s key secret":                     AccessKey,
		"workload: Secret a/r (values of a release of Helm)":  Password,
		"workload: ConfigMap a/m key c":                       Password,
		"workload: ConfigMap a/m annotation x":                Password,
		"workload: Pod a/p variable API_TOKEN":                Token,
		"workload: Pod a/p argument":                          Password,
	}, places)
}
