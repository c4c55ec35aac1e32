package kubeadm

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/catamaran-k8s/catamaran/bootstrap/kubeadm"
)

// longestEvent is what audit-log-truncate-max-event-size is set to; the log agent can deliver lines of 8 MiB.
const longestEvent = 4 << 20

// What one may do with a cluster stands in the audit log of a real API server, and what must not leave it does not.
func TestAuditLog(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.start(t)
	ctx, create := t.Context(), metav1.CreateOptions{}
	eve := a.client(t, s, "eve", "system:masters")
	a.waitReady(t, eve)
	must := func(_ any, err error) {
		t.Helper()
		require.NoError(t, err)
	}

	// what must not be found: each is in a request's or an answer's body
	secrets := eve.CoreV1().Secrets("default")
	must(secrets.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, StringData: map[string]string{"password": canary}}, create))
	must(secrets.Get(ctx, "s", metav1.GetOptions{}))
	must(secrets.List(ctx, metav1.ListOptions{}))
	must(secrets.Patch(ctx, "s", types.MergePatchType, []byte(`{"stringData": {"more": "`+canary+`"}}`), metav1.PatchOptions{}))
	require.NoError(t, secrets.Delete(ctx, "s", metav1.DeleteOptions{}))
	must(eve.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Data: map[string]string{"k": canary}}, create))
	must(eve.CoreV1().ServiceAccounts("default").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "robot"}}, create))
	token, err := eve.CoreV1().ServiceAccounts("default").CreateToken(ctx, "robot", &authenticationv1.TokenRequest{}, create)
	require.NoError(t, err)
	review, err := eve.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token.Status.Token}}, create)
	require.NoError(t, err)
	require.True(t, review.Status.Authenticated, "it is a real token")

	// who may do what, and what refuses: with bodies
	must(eve.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "r", Annotations: map[string]string{"why": "body-of-a-role"}}}, create))
	none := admissionv1.SideEffectClassNone
	must(eve.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(ctx, &admissionv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "w"},
		Webhooks: []admissionv1.ValidatingWebhook{{
			Name: "body.of.a.webhook", AdmissionReviewVersions: []string{"v1"}, SideEffects: &none,
			ClientConfig: admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{Namespace: "default", Name: "w"}},
		}},
	}, create))
	// as written into the log it would have some 14 MiB: each < is six characters there, in the request and in the answer
	huge := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "huge"}, Rules: []rbacv1.PolicyRule{{
		APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get"}, ResourceNames: []string{strings.Repeat("<", 1200<<10)},
	}}}
	must(a.as(t, s, func(c *rest.Config) { c.ContentType = "application/vnd.kubernetes.protobuf" }, "eve", "system:masters").RbacV1().ClusterRoles().Create(ctx, huge, create))

	// entering a pod, every way; there is no kubelet, so it fails, but who tried with what is known
	must(eve.CoreV1().Pods("default").Create(ctx, pod("default", "p", "robot"), create))
	for _, verb := range []string{http.MethodPost, http.MethodGet} {
		for _, how := range []string{"exec", "attach", "portforward"} {
			r := eve.CoreV1().RESTClient().Verb(verb).Namespace("default").Resource("pods").Name("p").SubResource(how)
			if how == "exec" {
				r = r.Param("command", "id")
			}
			require.Error(t, r.Do(ctx).Error(), how)
		}
	}
	// under another's name, without rights, and with a token that is none
	bob := a.as(t, s, func(c *rest.Config) {
		c.Impersonate = rest.ImpersonationConfig{UserName: "bob", Groups: []string{"kubeadm:cluster-admins"}}
	}, "eve", "system:masters")
	_, err = bob.CoreV1().Secrets("kube-system").List(ctx, metav1.ListOptions{})
	require.ErrorContains(t, err, "bob")
	_, err = a.client(t, s, "mallory").CoreV1().Secrets("kube-system").Get(ctx, "any", metav1.GetOptions{})
	require.Error(t, err)
	unknown(t, a.url+"/api/v1/secrets")

	// chatter
	scheduler := a.client(t, s, "system:kube-scheduler")
	_, err = scheduler.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	must(eve.CoreV1().Events("default").Create(ctx, &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: "e"}, InvolvedObject: corev1.ObjectReference{Namespace: "default"}}, create))
	must(eve.CoordinationV1().Leases("default").Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "l"}}, create))
	must(eve.RESTClient().Get().AbsPath("/livez").DoRaw(ctx))
	// but who removes traces leaves one
	require.NoError(t, eve.CoreV1().Events("default").DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))
	require.NoError(t, eve.CoordinationV1().Leases("default").Delete(ctx, "l", metav1.DeleteOptions{}))

	file := filepath.Join(a.dir, kubeadm.AuditLog)
	wanted := map[string]func(e auditv1.Event) bool{
		"a role": func(e auditv1.Event) bool {
			return is(e, "eve create clusterroles r") && bodies(e, true, true) && within(e, "body-of-a-role")
		},
		"a webhook": func(e auditv1.Event) bool {
			return is(e, "eve create validatingwebhookconfigurations w") && bodies(e, true, false) && within(e, "body.of.a.webhook")
		},
		"a role that is huge": func(e auditv1.Event) bool {
			return is(e, "eve create clusterroles huge") && bodies(e, false, false) && e.Annotations["audit.k8s.io/truncated"] == "true"
		},
		"another's name": func(e auditv1.Event) bool {
			return is(e, "eve list secrets ") && e.ImpersonatedUser != nil && e.ImpersonatedUser.Username == "bob" && e.ImpersonatedUser.Groups[0] == "kubeadm:cluster-admins"
		},
		"what was not allowed": func(e auditv1.Event) bool {
			return is(e, "mallory get secrets any") && e.ResponseStatus.Code == http.StatusForbidden && e.Annotations["authorization.k8s.io/decision"] == "forbid"
		},
		"a token that is none": func(e auditv1.Event) bool {
			return e.ResponseStatus != nil && e.ResponseStatus.Code == http.StatusUnauthorized && e.RequestURI == "/api/v1/secrets" && len(e.SourceIPs) == 1
		},
		"traces are removed": func(e auditv1.Event) bool { return is(e, "eve deletecollection events ") },
		"a lease is removed": func(e auditv1.Event) bool { return is(e, "eve delete leases l") },
		"a command": func(e auditv1.Event) bool {
			return is(e, "eve create pods p") && strings.HasSuffix(e.RequestURI, "/exec?command=id")
		},
		"a secret is read": func(e auditv1.Event) bool { return is(e, "eve get secrets s") && bodies(e, false, false) },
		"a token is made": func(e auditv1.Event) bool {
			return is(e, "eve create serviceaccounts robot") && e.ObjectRef.Subresource == "token" && bodies(e, false, false)
		},
		"a token is tried": func(e auditv1.Event) bool { return is(e, "eve create tokenreviews ") && bodies(e, false, false) },
		"a config map":     func(e auditv1.Event) bool { return is(e, "eve create configmaps c") && bodies(e, false, false) },
		"secrets are listed": func(e auditv1.Event) bool {
			return is(e, "eve list secrets ") && e.ImpersonatedUser == nil && bodies(e, false, false)
		},
		"a secret is made":      func(e auditv1.Event) bool { return is(e, "eve create secrets s") && bodies(e, false, false) },
		"a secret is changed":   func(e auditv1.Event) bool { return is(e, "eve patch secrets s") && bodies(e, false, false) },
		"a secret is destroyed": func(e auditv1.Event) bool { return is(e, "eve delete secrets s") && bodies(e, false, false) },
	}
	for _, verb := range []string{"create", "get"} {
		for _, how := range []string{"exec", "attach", "portforward"} {
			wanted[verb+" "+how] = func(e auditv1.Event) bool { return is(e, "eve "+verb+" pods p") && e.ObjectRef.Subresource == how }
		}
	}
	var events []auditv1.Event
	missing := func() []string {
		events = auditEvents(t, file)
		var out []string
		for what, found := range wanted {
			ok := false
			for _, e := range events {
				ok = ok || found(e)
			}
			if !ok {
				out = append(out, what)
			}
		}
		return out
	}
	assert.Eventually(t, func() bool { return len(missing()) == 0 }, 30*time.Second, 100*time.Millisecond)
	require.Empty(t, missing(), "not in the log")

	for _, e := range events {
		assert.NotEqual(t, auditv1.Stage("RequestReceived"), e.Stage)
		for _, left := range []string{"system:kube-scheduler list pods ", "eve create events e", "eve create leases l"} {
			assert.False(t, is(e, left), left)
		}
		assert.NotEqual(t, "/livez", e.RequestURI)
	}
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	for _, hidden := range []string{canary, "Y2FuYXJ5LWlu", token.Status.Token, strings.Split(token.Status.Token, ".")[2]} {
		assert.NotContains(t, string(text), hidden)
	}
	for line := range bytes.Lines(text) {
		assert.LessOrEqual(t, len(line), longestEvent+1)
	}
	info, err := os.Stat(file)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	t.Logf("%d events, %d bytes on average", len(events), len(text)/len(events))
}

// as is client with more in its configuration.
func (a *apiServer) as(t *testing.T, s site, more func(*rest.Config), name string, groups ...string) *kubernetes.Clientset {
	t.Helper()
	cert, key := s.sign(t, name, groups)
	config := &rest.Config{Host: a.url, QPS: -1, TLSClientConfig: rest.TLSClientConfig{Insecure: true, CertData: cert, KeyData: key}}
	more(config)
	c, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	return c
}

// unknown asks with a token that nobody has.
func unknown(t *testing.T, url string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	r, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer nonsense")
	res, err := client.Do(r)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusUnauthorized, res.StatusCode)
}

// is compares an event with "user verb resource name".
func is(e auditv1.Event, what string) bool {
	o := e.ObjectRef
	return o != nil && what == fmt.Sprintf("%s %s %s %s", e.User.Username, e.Verb, o.Resource, o.Name)
}

func bodies(e auditv1.Event, request, answer bool) bool {
	return (e.RequestObject != nil) == request && (e.ResponseObject != nil) == answer
}

func within(e auditv1.Event, text string) bool {
	return strings.Contains(string(e.RequestObject.Raw), text)
}

// auditEvents are the whole lines of the log; there may be none yet.
func auditEvents(t *testing.T, file string) []auditv1.Event {
	t.Helper()
	text, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return nil
	}
	require.NoError(t, err)
	var out []auditv1.Event
	for line := range bytes.Lines(text) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // it is being written
		}
		var e auditv1.Event
		require.NoError(t, json.Unmarshal(line, &e))
		out = append(out, e)
	}
	return out
}
