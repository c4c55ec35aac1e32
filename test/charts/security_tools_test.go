package charts

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"

	"github.com/catamaran-k8s/catamaran/embedded"
	"github.com/catamaran-k8s/catamaran/embedded/helm"
	"github.com/catamaran-k8s/catamaran/inventory"
)

const gatekeeperNamespace = "gatekeeper-system"

func securityChart(t *testing.T, name string) *helm.Chart {
	t.Helper()
	chart, err := helm.LoadDir(filepath.Join("..", "..", "embedded", "charts", name))
	require.NoError(t, err)
	return chart
}

// gatekeeper is the real program with a real API server of its own, since its rules would be in other tests' way.
type gatekeeper struct {
	server  *apiServer
	clients *kubernetes.Clientset
	objects *dynamic.DynamicClient
	cluster *helm.Cluster
	helm    *said
	log     string // file
	metrics string // address
	process *exec.Cmd
}

// startGatekeeper installs the chart as a site would and runs the program as its pod would: with the pod's arguments, its
// service account's rights, and the Secret as files.
func startGatekeeper(t *testing.T, values map[string]any) *gatekeeper {
	t.Helper()
	dir := t.TempDir()
	s, err := startAPIServer(t.Context(), dir)
	require.NoError(t, err)
	t.Cleanup(s.stop)
	g := &gatekeeper{server: s, log: filepath.Join(dir, "gatekeeper.log"), helm: &said{}}
	g.clients, err = kubernetes.NewForConfig(s.config)
	require.NoError(t, err)
	g.objects, err = dynamic.NewForConfig(s.config)
	require.NoError(t, err)
	g.cluster, err = helm.NewCluster(s.config, g.helm.log)
	require.NoError(t, err)

	chart, installed := securityChart(t, "gatekeeper"), make(chan error, 1)
	go func() {
		installed <- g.cluster.Apply(context.WithoutCancel(t.Context()), helm.Release{
			Name: "gatekeeper", Namespace: gatekeeperNamespace, Chart: chart, Values: values, PodSecurity: "restricted", Timeout: patience,
		})
	}()
	_, err = g.clients.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "test"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: everything()[0]}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	g.runPod(t, dir)
	err = <-installed
	if err != nil {
		text, _ := os.ReadFile(g.log)
		require.NoError(t, err, "%s\n%s", g.helm.text(), text[max(0, len(text)-6000):])
	}
	return g
}

var deployments = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}

// runPod is kubelet and controller for the only pod.
func (g *gatekeeper) runPod(t *testing.T, dir string) {
	t.Helper()
	ctx := t.Context()
	var deployment *unstructured.Unstructured
	require.Eventually(t, func() bool {
		var err error
		deployment, err = g.objects.Resource(deployments).Namespace(gatekeeperNamespace).Get(ctx, "gatekeeper", metav1.GetOptions{})
		return err == nil
	}, patience, 50*time.Millisecond, "%s", g.helm.text())
	pod := templateOf(t, deployment, gatekeeperNamespace)
	made, err := g.objects.Resource(schema.GroupVersionResource{Version: "v1", Resource: "pods"}).Namespace(gatekeeperNamespace).Create(ctx, pod, metav1.CreateOptions{})
	require.NoError(t, err)

	ports, err := freePorts(3)
	require.NoError(t, err)
	// the API server reaches a Service of this type without kube-proxy
	patch := `{"spec": {"type": "ExternalName", "externalName": "localhost", "clusterIP": null, "clusterIPs": null}}`
	require.Eventually(t, func() bool {
		_, err = g.clients.CoreV1().Services(gatekeeperNamespace).Patch(ctx, "gatekeeper", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		return err == nil
	}, patience, 50*time.Millisecond, "%v", err)
	require.Eventually(t, func() bool {
		hook, failed := g.clients.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, "gatekeeper", metav1.GetOptions{})
		if failed != nil {
			return false
		}
		port := int32(ports[0])
		for i := range hook.Webhooks {
			hook.Webhooks[i].ClientConfig.Service.Port = &port
		}
		_, err = g.clients.AdmissionregistrationV1().ValidatingWebhookConfigurations().Update(ctx, hook, metav1.UpdateOptions{})
		return err == nil
	}, patience, 50*time.Millisecond, "%v", err)

	certs, cache := filepath.Join(dir, "gatekeeper-certs"), filepath.Join(dir, "audit")
	require.NoError(t, os.Mkdir(certs, 0o700))
	require.NoError(t, os.Mkdir(cache, 0o700))
	replace := map[string]string{
		"--port=8443": fmt.Sprintf("--port=%d", ports[0]), "--health-addr=:9090": fmt.Sprintf("--health-addr=127.0.0.1:%d", ports[1]),
		"--prometheus-port=8888": fmt.Sprintf("--prometheus-port=%d", ports[2]), "--api-cache-dir=/tmp/audit": "--api-cache-dir=" + cache,
		"--audit-interval=30": "--audit-interval=2",
	}
	containers, _, err := unstructured.NestedSlice(made.Object, "spec", "containers")
	require.NoError(t, err)
	var args []string
	for _, a := range containers[0].(map[string]any)["args"].([]any) {
		arg := a.(string)
		if r, ok := replace[arg]; ok {
			arg = r
			delete(replace, a.(string))
		}
		args = append(args, arg)
	}
	require.Empty(t, replace, "arguments that the chart gives no more")
	args = append(args, "--cert-dir="+certs, "--kubeconfig="+g.kubeconfig(t, dir), "--default-wait-for-vapb-generation=1", "--shutdown-delay=0")
	out, err := os.Create(g.log)
	require.NoError(t, err)
	g.process = exec.Command(program(t, "gatekeeper"), args...)
	g.process.Env = append(os.Environ(), "POD_NAMESPACE="+gatekeeperNamespace, "POD_NAME="+made.GetName(), "GOMEMLIMIT=268435456")
	g.process.Stdout, g.process.Stderr = out, out
	require.NoError(t, g.process.Start())
	t.Cleanup(func() {
		g.kill()
		_ = out.Close()
		if t.Failed() {
			t.Logf("gatekeeper said\n%s", g.said(t))
		}
	})

	g.metrics = fmt.Sprintf("http://127.0.0.1:%d/metrics", ports[2])
	g.mountSecret(t, certs)
	require.Eventually(t, func() bool {
		status, _, err := get(nil, fmt.Sprintf("http://127.0.0.1:%d/readyz", ports[1]))
		return err == nil && status == http.StatusOK
	}, patience, 100*time.Millisecond, "it does not get ready: %s", g.log)
	status := `{"status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}}`
	_, err = g.objects.Resource(deployments).Namespace(gatekeeperNamespace).Patch(ctx, "gatekeeper", types.MergePatchType, []byte(status), metav1.PatchOptions{}, "status")
	require.NoError(t, err)
}

// kubeconfig has a token of the chart's service account.
func (g *gatekeeper) kubeconfig(t *testing.T, dir string) string {
	t.Helper()
	token, err := g.clients.CoreV1().ServiceAccounts(gatekeeperNamespace).CreateToken(t.Context(), "gatekeeper", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	require.NoError(t, err)
	c := clientcmdapi.NewConfig()
	c.Clusters["c"] = &clientcmdapi.Cluster{Server: g.server.config.Host, CertificateAuthority: g.server.config.CAFile}
	c.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
	c.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	c.CurrentContext = "x"
	file := filepath.Join(dir, "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(*c, file))
	return file
}

// mountSecret shows the Secret as files, once Gatekeeper has written it.
func (g *gatekeeper) mountSecret(t *testing.T, certs string) {
	t.Helper()
	var secret *corev1.Secret
	if !assert.Eventually(t, func() bool {
		var err error
		secret, err = g.clients.CoreV1().Secrets(gatekeeperNamespace).Get(t.Context(), "gatekeeper-webhook-server-cert", metav1.GetOptions{})
		return err == nil && len(secret.Data["tls.crt"]) > 0
	}, patience, 100*time.Millisecond, "Gatekeeper writes no certificate") {
		text, _ := os.ReadFile(g.log)
		require.Fail(t, "it said", "%s", text[max(0, len(text)-6000):])
	}
	for name, content := range secret.Data {
		require.NoError(t, os.WriteFile(filepath.Join(certs, name), content, 0o600))
	}
}

func (g *gatekeeper) kill() {
	_ = g.process.Process.Signal(syscall.SIGKILL) // it may have ended
	_ = g.process.Wait()
}

// said is what the program wrote, without the complaints of its own probe while it starts.
func (g *gatekeeper) said(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(g.log)
	require.NoError(t, err)
	lines := slices.DeleteFunc(strings.Split(string(text), "\n"), func(line string) bool {
		return strings.Contains(line, "webhook-tls-checker") || strings.Contains(line, "controller-runtime.healthz")
	})
	return strings.Join(lines, "\n")
}

// rules installs gatekeeper-policies.
func (g *gatekeeper) rules(t *testing.T, values map[string]any) {
	t.Helper()
	// as the installer does for each release: what kinds there are is asked anew
	cluster, err := helm.NewCluster(g.server.config, g.helm.log)
	require.NoError(t, err)
	require.NoError(t, cluster.Apply(t.Context(), helm.Release{
		Name: "gatekeeper-policies", Namespace: gatekeeperNamespace, Chart: securityChart(t, "gatekeeper-policies"), Values: values,
		PodSecurity: "restricted", Timeout: patience,
	}), g.helm.text())
}

// warnings gathers what the API server warns of.
type warnings struct {
	mu    sync.Mutex
	texts []string
}

func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.texts = append(w.texts, text)
}

// as asks in the name of another one: what the API server says to a dry run, with its warnings.
func (g *gatekeeper) as(t *testing.T, user string, groups []string, verb string, object *unstructured.Unstructured) (warned []string, err error) {
	t.Helper()
	w := &warnings{}
	config := rest.CopyConfig(g.server.config)
	config.Impersonate, config.WarningHandler = rest.ImpersonationConfig{UserName: user, Groups: groups}, w
	client, err := dynamic.NewForConfig(config)
	require.NoError(t, err)
	kind := object.GroupVersionKind()
	var resource dynamic.ResourceInterface = client.Resource(schema.GroupVersionResource{Group: kind.Group, Version: kind.Version, Resource: resourceOf(kind)})
	if object.GetNamespace() != "" {
		resource = resource.(dynamic.NamespaceableResourceInterface).Namespace(object.GetNamespace())
	}
	all := []string{metav1.DryRunAll}
	switch verb {
	case "create":
		_, err = resource.Create(t.Context(), object, metav1.CreateOptions{DryRun: all})
	case "delete":
		err = resource.Delete(t.Context(), object.GetName(), metav1.DeleteOptions{DryRun: all})
	case "label":
		_, err = resource.Patch(t.Context(), object.GetName(), types.MergePatchType, []byte(`{"metadata": {"labels": {"x": "y"}}}`), metav1.PatchOptions{DryRun: all})
	default:
		require.Fail(t, verb)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.texts, err
}

// resourceOf is how a kind is called in an address; constraints have no plural.
func resourceOf(kind schema.GroupVersionKind) string {
	name := strings.ToLower(strings.Replace(kind.Kind, "Policy", "Policie", 1))
	if kind.Group == "constraints.gatekeeper.sh" {
		return name
	}
	return name + "s"
}

// parse reads one object.
func parse(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	require.NoError(t, yaml.UnmarshalStrict([]byte(text), &o.Object))
	return o
}

// goodPod breaks no rule.
const goodPod = `
apiVersion: v1
kind: Pod
metadata: {name: good, namespace: shop}
spec:
  automountServiceAccountToken: false
  containers: [{name: a, image: "registry.example.org/app:1", resources: {limits: {memory: 1Mi, cpu: 1}}}]
`

// offences break one rule each: what the rule says, and the object.
func offences() map[string]struct{ says, object string } {
	workload := func(kind, api string) string {
		return fmt.Sprintf(`{apiVersion: %s, kind: %s, metadata: {name: x, namespace: shop}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {automountServiceAccountToken: false,
  containers: [{name: a, image: "registry.example.org/app", resources: {limits: {memory: 1Mi, cpu: 1}}}]}}}}`, api, kind)
	}
	return map[string]struct{ says, object string }{
		"latest":            {"tag that is not latest: a has registry.example.org/app:latest", strings.Replace(goodPod, "app:1", "app:latest", 1)},
		"no tag":            {"tag that is not latest: a has registry.example.org/app", strings.Replace(goodPod, "app:1", "app", 1)},
		"a port, no tag":    {"tag that is not latest: a has registry.example.org:5000/app", strings.Replace(goodPod, "registry.example.org/app:1", "registry.example.org:5000/app", 1)},
		"a Deployment":      {"tag that is not latest: a has registry.example.org/app", workload("Deployment", "apps/v1")},
		"a DaemonSet":       {"tag that is not latest: a has registry.example.org/app", workload("DaemonSet", "apps/v1")},
		"a StatefulSet":     {"tag that is not latest: a has registry.example.org/app", workload("StatefulSet", "apps/v1")},
		"a CronJob":         {"tag that is not latest: a has registry.example.org/app", `{apiVersion: batch/v1, kind: CronJob, metadata: {name: x, namespace: shop}, spec: {schedule: "0 0 * * *", jobTemplate: {spec: {template: {spec: {restartPolicy: Never, automountServiceAccountToken: false, containers: [{name: a, image: registry.example.org/app, resources: {limits: {memory: 1Mi, cpu: 1}}}]}}}}}}`},
		"an init container": {"tag that is not latest: i has registry.example.org/i", strings.Replace(goodPod, "  containers:", "  initContainers: [{name: i, image: registry.example.org/i, resources: {limits: {memory: 1Mi, cpu: 1}}}]\n  containers:", 1)},
		"no limit":          {"must have limits for [memory] and requests for [cpu, memory]: a", strings.Replace(goodPod, "limits: {memory: 1Mi, cpu: 1}", "requests: {memory: 1Mi, cpu: 1}", 1)},
		"no request":        {"must have limits for [memory] and requests for [cpu, memory]: a", strings.Replace(goodPod, "memory: 1Mi, cpu: 1", "memory: 1Mi", 1)},
		"nothing":           {"must have limits for [memory] and requests for [cpu, memory]: a", strings.Replace(goodPod, `, resources: {limits: {memory: 1Mi, cpu: 1}}`, "", 1)},
		"another registry":  {"images must come from [registry.example.org]: a has docker.io/app:1", strings.Replace(goodPod, "registry.example.org/", "docker.io/", 1)},
		"a token":           {"must say automountServiceAccountToken: false", strings.Replace(goodPod, "  automountServiceAccountToken: false\n", "", 1)},
		"a node port":       {"Services of type NodePort", `{apiVersion: v1, kind: Service, metadata: {name: x, namespace: shop}, spec: {type: NodePort, ports: [{port: 80}]}}`},
		"an address":        {"must not have externalIPs", `{apiVersion: v1, kind: Service, metadata: {name: x, namespace: shop}, spec: {externalIPs: [10.9.9.9], ports: [{port: 80}]}}`},
	}
}

func strict(action string) map[string]any {
	a := map[string]any{"action": action}
	return map[string]any{
		"platformNamespaces": []any{"fluentd"}, "imageTag": a, "resources": a, "serviceTypes": a, "defaultToken": a, "protect": a,
		"registries": map[string]any{"action": action, "trusted": []any{"registry.example.org"}},
	}
}

// What the rules say: by the webhook and by the policies that are made of them, while Gatekeeper is there and after it was
// killed.
func TestGatekeeper(t *testing.T) {
	t.Parallel()
	values := map[string]any{"auditSeconds": 30, "network": map[string]any{"nodes": []any{"10.77.0.21/32"}}}
	g := startGatekeeper(t, values)
	ctx := t.Context()
	for _, name := range []string{"shop", "fluentd"} {
		_, err := g.clients.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	bad := parse(t, strings.Replace(goodPod, "app:1", "app:latest", 1))
	bad.SetName("bad")
	_, err := g.objects.Resource(pods).Namespace("shop").Create(ctx, bad, metav1.CreateOptions{})
	require.NoError(t, err)
	config := parse(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: fluentd, namespace: fluentd}, data: {a: b}}`)
	_, err = g.objects.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace("fluentd").Create(ctx, config, metav1.CreateOptions{})
	require.NoError(t, err)

	t.Run("warned of", func(t *testing.T) {
		g.rules(t, strict("warn"))
		for name, o := range offences() {
			require.Eventually(t, func() bool {
				warned, err := g.as(t, "eve", everything(), "create", parse(t, o.object))
				return err == nil && strings.Contains(strings.Join(warned, "\n"), o.says)
			}, patience, 200*time.Millisecond, name)
		}
	})
	t.Run("refused", func(t *testing.T) {
		g.rules(t, strict("deny"))
		g.refuses(t)
		warned, err := g.as(t, "eve", everything(), "create", parse(t, goodPod))
		require.NoError(t, err)
		assert.Empty(t, warned)
		_, err = g.as(t, "eve", everything(), "delete", bad)
		require.NoError(t, err, "what is bad can be removed")
		exempt := parse(t, strings.Replace(goodPod, "app:1", "app", 1))
		exempt.SetNamespace("kube-system")
		_, err = g.as(t, "eve", everything(), "create", exempt)
		require.NoError(t, err, "kube-system is not looked at")
	})
	t.Run("counted", func(t *testing.T) {
		require.Eventually(t, func() bool {
			v := g.violations(t, "catamarannamespacenetworkpolicy", "network-policy")
			return slices.Contains(v, "namespace shop has no NetworkPolicy: everybody reaches its pods") && !strings.Contains(strings.Join(v, "\n"), "kube-system")
		}, patience, 200*time.Millisecond, "%v", g.violations(t, "catamarannamespacenetworkpolicy", "network-policy"))
		require.Eventually(t, func() bool {
			return slices.Contains(g.violations(t, "catamaranimagetag", "image-tag"), "images must have a tag that is not latest: a has registry.example.org/app:latest")
		}, patience, 200*time.Millisecond)
		_, err := g.objects.Resource(schema.GroupVersionResource{Group: "networking.k8s.io", Version: "v1", Resource: "networkpolicies"}).Namespace("shop").Create(ctx,
			parse(t, `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: x, namespace: shop}, spec: {podSelector: {}}}`), metav1.CreateOptions{})
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			v := strings.Join(g.violations(t, "catamarannamespacenetworkpolicy", "network-policy"), "\n")
			return !strings.Contains(v, "namespace shop ") && strings.Contains(v, "namespace default ")
		}, patience, 200*time.Millisecond)
		assert.Empty(t, g.violations(t, "catamaranprotected", "protect"), "who did it is not known any more")
	})
	t.Run("a namespace can not take itself out", func(t *testing.T) {
		for name, refused := range map[string]bool{"shop": true, gatekeeperNamespace: false} {
			patch := `{"metadata": {"labels": {"admission.gatekeeper.sh/ignore": "yes"}}}`
			_, err := g.clients.CoreV1().Namespaces().Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
			assert.Equal(t, refused, err != nil, "%s: %v", name, err)
		}
	})
	t.Run("its certificate survives an upgrade", func(t *testing.T) {
		before := g.certificate(t)
		changed := helm.Merge(values, map[string]any{"exemptNamespaces": []any{"kube-flannel"}})
		cluster, err := helm.NewCluster(g.server.config, g.helm.log)
		require.NoError(t, err)
		chart, done := securityChart(t, "gatekeeper"), make(chan error, 1)
		go func() {
			done <- cluster.Apply(context.WithoutCancel(ctx), helm.Release{
				Name: "gatekeeper", Namespace: gatekeeperNamespace, Chart: chart, Values: changed, PodSecurity: "restricted", Timeout: patience,
			})
		}()
		require.Eventually(t, func() bool {
			d, err := g.objects.Resource(deployments).Namespace(gatekeeperNamespace).Get(ctx, "gatekeeper", metav1.GetOptions{})
			return err == nil && d.GetGeneration() == 2
		}, patience, 50*time.Millisecond)
		_, err = g.objects.Resource(deployments).Namespace(gatekeeperNamespace).Patch(ctx, "gatekeeper", types.MergePatchType, []byte(`{"status": {"observedGeneration": 2}}`), metav1.PatchOptions{}, "status")
		require.NoError(t, err)
		require.NoError(t, <-done)
		assert.Equal(t, before, g.certificate(t))
	})
	t.Run("measured", func(t *testing.T) {
		g.measures(t)
	})
	assert.NotContains(t, g.said(t), "is forbidden", "it lacks a right")
	t.Run("refused without Gatekeeper", func(t *testing.T) {
		bindings, err := g.clients.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().List(ctx, metav1.ListOptions{})
		require.NoError(t, err)
		assert.Len(t, bindings.Items, 7, "one a rule in CEL")
		g.kill()
		g.refuses(t)
		warned, err := g.as(t, "eve", everything(), "create", parse(t, goodPod))
		require.NoError(t, err)
		assert.Empty(t, warned)
		_, err = g.as(t, "eve", everything(), "delete", bad)
		require.NoError(t, err, "what is bad can be removed")
	})
}

var pods = schema.GroupVersionResource{Version: "v1", Resource: "pods"}

// everything is a group that may do everything as far as roles go. It is not system:masters, which operators have.
func everything() []string { return []string{"test:admins", "system:authenticated"} }

// violations are the messages of a rule's last audit.
func (g *gatekeeper) violations(t *testing.T, kind, name string) []string {
	t.Helper()
	rule, err := g.objects.Resource(schema.GroupVersionResource{Group: "constraints.gatekeeper.sh", Version: "v1beta1", Resource: kind}).Get(t.Context(), name, metav1.GetOptions{})
	require.NoError(t, err)
	list, _, err := unstructured.NestedSlice(rule.Object, "status", "violations")
	require.NoError(t, err)
	var out []string
	for _, v := range list {
		out = append(out, v.(map[string]any)["message"].(string))
	}
	return out
}

// certificate is what Gatekeeper wrote into its Secret and into its webhook.
func (g *gatekeeper) certificate(t *testing.T) []string {
	t.Helper()
	secret, err := g.clients.CoreV1().Secrets(gatekeeperNamespace).Get(t.Context(), "gatekeeper-webhook-server-cert", metav1.GetOptions{})
	require.NoError(t, err)
	hook, err := g.clients.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), "gatekeeper", metav1.GetOptions{})
	require.NoError(t, err)
	out := []string{string(secret.Data["tls.crt"])}
	for _, w := range hook.Webhooks {
		out = append(out, string(w.ClientConfig.CABundle))
	}
	assert.NotContains(t, out, "")
	return out
}

// refuses: every offence, and everybody but operators in the platform's namespaces.
func (g *gatekeeper) refuses(t *testing.T) {
	t.Helper()
	for name, o := range offences() {
		var err error
		require.Eventually(t, func() bool {
			_, err = g.as(t, "eve", everything(), "create", parse(t, o.object))
			return err != nil && strings.Contains(err.Error(), o.says)
		}, patience, 200*time.Millisecond, "%s: %v", name, err)
	}
	foreign := parse(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: x, namespace: fluentd}, data: {a: b}}`)
	own := parse(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: fluentd, namespace: fluentd}}`)
	for verb, object := range map[string]*unstructured.Unstructured{"create": foreign, "delete": own, "label": own} {
		_, err := g.as(t, "eve", everything(), verb, object)
		assert.ErrorContains(t, err, "only operators of the platform may", verb)
		for user, groups := range map[string][]string{
			"anna": {"kubeadm:cluster-admins"}, "system:serviceaccount:kube-system:root-ca-cert-publisher": {"system:serviceaccounts:kube-system"}, "system:kube-controller-manager": nil,
		} {
			_, err := g.as(t, user, append(groups, everything()...), verb, object)
			assert.NoError(t, err, "%s: %s", user, verb)
		}
	}
	// the rules guard themselves and their kinds, not those of others
	for _, rule := range []*unstructured.Unstructured{
		parse(t, `{apiVersion: templates.gatekeeper.sh/v1, kind: ConstraintTemplate, metadata: {name: catamaranimagetag}}`),
		parse(t, `{apiVersion: constraints.gatekeeper.sh/v1beta1, kind: CatamaranImageTag, metadata: {name: image-tag}}`),
		parse(t, `{apiVersion: constraints.gatekeeper.sh/v1beta1, kind: CatamaranProtected, metadata: {name: protect-rules}}`),
	} {
		what := rule.GetKind() + " " + rule.GetName()
		for _, verb := range []string{"delete", "label"} {
			_, err := g.as(t, "eve", everything(), verb, rule)
			assert.ErrorContains(t, err, "only operators of the platform may", "%s: %s", verb, what)
			_, err = g.as(t, "anna", append(everything(), "kubeadm:cluster-admins"), verb, rule)
			assert.NoError(t, err, "%s: %s", verb, what)
		}
	}
	own = parse(t, `{apiVersion: constraints.gatekeeper.sh/v1beta1, kind: CatamaranImageTag, metadata: {name: the-sites}, spec: {enforcementAction: dryrun}}`)
	_, err := g.as(t, "eve", everything(), "create", own)
	assert.NoError(t, err, "a rule of the site's own")
	foreign.SetNamespace("shop")
	_, err = g.as(t, "eve", everything(), "create", foreign)
	assert.NoError(t, err, "elsewhere")
}

// measures: Gatekeeper has the names that dashboards and alerts ask for, on the port that is scraped.
func (g *gatekeeper) measures(t *testing.T) {
	t.Helper()
	status, answer, err := get(nil, g.metrics)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
	body := string(answer)
	var text strings.Builder
	read := func(file string) string {
		data, err := os.ReadFile(filepath.Join("..", "..", "embedded", "charts", filepath.FromSlash(file)))
		require.NoError(t, err)
		return string(data)
	}
	for _, file := range []string{"grafana/dashboards/policy.yaml", "thanos/rules/security.yaml"} {
		text.WriteString(read(file))
	}
	kept := regexp.MustCompile(`\bgatekeeper_\([a-z_|]+\)`).FindString(read("prometheus-agent/templates/_jobs.tpl"))
	require.NotEmpty(t, kept)
	asked := regexp.MustCompile(`\bgatekeeper_[a-z_]+`).FindAllString(text.String(), -1)
	slices.Sort(asked)
	asked = slices.Compact(asked)
	require.Greater(t, len(asked), 3)
	for _, name := range asked {
		assert.True(t, regexp.MustCompile("(?m)^"+name+"[ {]").MatchString(body), "there is no %s", name)
		assert.Regexp(t, "^"+kept+"$", name, "it is scraped")
	}
	for _, line := range []string{
		`gatekeeper_violations\{.*enforcement_action="deny".*\} [1-9]`, `gatekeeper_constraints\{.*enforcement_action="deny".*status="active".*\} [1-9]`,
		// which of the two depends on how early the generated policies are in force: what they refuse, the webhook never sees
		`gatekeeper_validation_request_count_total\{.*admission_status="(allow|deny)".*\} [1-9]`,
	} {
		assert.True(t, regexp.MustCompile("(?m)^"+line).MatchString(body), "nothing is like %s", line)
	}
}

// Charts of ours and the pods that they make keep every rule, however strict.
func TestOwnChartsKeepTheRules(t *testing.T) {
	t.Parallel()
	for _, size := range []string{"small", "standard"} {
		inv := bothClusters(t, "platform: {size: "+size+"}\ncomponents: {smoke: {enabled: true}}\n")
		for _, cluster := range inv.ClusterNames() {
			dir := t.TempDir()
			list, err := embedded.Releases(t.Context(), inv, cluster)
			require.NoError(t, err)
			var namespaces []string
			for _, r := range list {
				text, err := r.Manifest()
				require.NoError(t, err)
				if r.Name == "gatekeeper-policies" {
					text = regexp.MustCompile("enforcementAction: (warn|dryrun)").ReplaceAllString(text, "enforcementAction: deny")
					assert.Equal(t, 7, strings.Count(text, "enforcementAction: deny"))
					for _, n := range append(r.Values["platformNamespaces"].([]any), r.Values["foundationNamespaces"].([]any)...) {
						namespaces = append(namespaces, n.(string))
					}
				}
				require.NoError(t, os.WriteFile(filepath.Join(dir, r.Name+".yaml"), []byte(text), 0o600))
			}
			assert.Subset(t, namespaces, namespacesOfAll(list), "each namespace of ours is known to the rules")
			out, err := exec.CommandContext(t.Context(), program(t, "gator"), "test", "--filename="+dir).CombinedOutput()
			require.NoError(t, err, "%s, %s: %s", size, cluster, out)
			bad := strings.Replace(goodPod, "app:1", "app:latest", 1)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "bad.yaml"), []byte(bad), 0o600))
			out, err = exec.CommandContext(t.Context(), program(t, "gator"), "test", "--filename="+dir).CombinedOutput()
			require.Error(t, err, "this check can fail")
			assert.Contains(t, string(out), "tag that is not latest")
		}
	}
}

func namespacesOfAll(list []embedded.Release) []string {
	var out []string
	for _, r := range list {
		if !slices.Contains(out, r.Namespace) {
			out = append(out, r.Namespace)
		}
	}
	return out
}

// bothClusters is an inventory with a service and a workload cluster.
func bothClusters(t *testing.T, more string) *inventory.Inventory {
	t.Helper()
	inv, err := inventory.Parse([]byte(`
apiVersion: catamaran/v1alpha1
kind: Inventory
metadata: {name: test}
kubernetes: {version: 1.37.2}
clusters:
  service:
    network: {podCIDR: 10.100.0.0/16, serviceCIDR: 10.101.0.0/16}
    nodes: [{name: sc-1, role: control-plane, address: 10.77.0.11}]
  workload:
    network: {podCIDR: 10.102.0.0/16, serviceCIDR: 10.103.0.0/16}
    nodes: [{name: wc-1, role: control-plane, address: 10.77.0.21}]
`+more), filepath.Join(t.TempDir(), "inventory.yaml"))
	require.NoError(t, err)
	return inv
}

// gator judges the rendered rules without a cluster, as a site can do in its own pipeline.
func TestGatorOnRules(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	for name, values := range map[string]map[string]any{
		"gatekeeper":          nil,
		"gatekeeper-policies": helm.Merge(strict("deny"), map[string]any{"imageTag": map[string]any{"action": "deny", "digest": true, "exemptImages": []any{"registry.example.org/own/"}}}),
	} {
		out, err := securityChart(t, name).Render(helm.RenderOptions{Name: name, Namespace: gatekeeperNamespace, KubeVersion: "1.37.2", Values: values})
		require.NoError(t, err)
		write(name+".yaml", out.Manifest)
	}
	digest := "@sha256:" + strings.Repeat("0", 64)
	for name, c := range map[string]struct{ image, says string }{
		"tag":               {"registry.example.org/app:1", "images must have a digest: a has registry.example.org/app:1"},
		"digest":            {"registry.example.org/app" + digest, ""},
		"tag and digest":    {"registry.example.org/app:latest" + digest, ""},
		"exempt":            {"registry.example.org/own/app:1", ""},
		"almost exempt":     {"registry.example.org/ownapp:1", "images must have a digest"},
		"a port and no tag": {"registry.example.org:5000/app", "images must have a digest"},
	} {
		write("object.yaml", strings.Replace(goodPod, "registry.example.org/app:1", c.image, 1))
		out, err := exec.CommandContext(t.Context(), program(t, "gator"), "test", "--filename="+dir).CombinedOutput()
		if c.says == "" {
			require.NoError(t, err, "%s: %s", name, out)
			continue
		}
		require.Error(t, err, "%s: %s", name, out)
		assert.Contains(t, string(out), c.says, name)
	}
}
