package kubeadm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/catamaran-k8s/catamaran/bootstrap/kubeadm"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// platformed is an inventory with Gatekeeper, whose webhook leaves out one namespace more.
func platformed() *inventory.Inventory {
	on := true
	return &inventory.Inventory{Components: map[string]inventory.Component{
		"gatekeeper": {Enabled: &on, Values: map[string]any{"exemptNamespaces": []any{"legacy"}}},
	}}
}

// attempt is something that one may try.
type attempt func(ctx context.Context, c *kubernetes.Clientset) error

const testAdmins = "test:admins"

// Who has every right that roles can give is still refused what only operators and the control plane may do.
func TestAdmissionGuard(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.guardOf = platformed()
	a := s.start(t)
	root := a.client(t, s, "root", "system:masters")
	a.waitReady(t, root)
	seed(t, root, s.secrets.CA.Cert)
	seedKinds(t, root)
	eve := a.client(t, s, "eve", testAdmins)
	// the authorizer learns of the binding by watching
	require.Eventually(t, func() bool {
		_, err := eve.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
		return err == nil
	}, time.Minute, 50*time.Millisecond)

	attempts := attempts()
	t.Run("an administrator by role", func(t *testing.T) {
		for name, try := range attempts {
			err := try(t.Context(), eve)
			assert.ErrorContains(t, err, "catamaran.static.k8s.io", name)
			assert.Regexp(t, "denied request: (only operators of the platform may|nobody but the controller manager may act)", err.Error(), name)
		}
	})
	t.Run("the log agent's own account", func(t *testing.T) {
		c := a.client(t, s, "system:serviceaccount:fluentd:fluentd", testAdmins)
		for name, try := range attempts {
			assert.ErrorContains(t, try(t.Context(), c), "catamaran.static.k8s.io", name)
		}
	})
	t.Run("elsewhere everything goes on", func(t *testing.T) {
		for name, try := range elsewhere() {
			assert.NoError(t, try(t.Context(), eve), name)
		}
	})
	for who, groups := range map[string][]string{"anna": {"kubeadm:cluster-admins", testAdmins}, "super-admin": {"system:masters"}} {
		t.Run("an operator, "+who, func(t *testing.T) {
			operator := a.client(t, s, who, groups...)
			for name, why := range forNobody() {
				assert.ErrorContains(t, attempts[name](t.Context(), operator), why, name)
			}
			for name, try := range attempts {
				if _, refused := forNobody()[name]; refused {
					continue
				}
				if strings.HasPrefix(name, "act as a controller") {
					assert.ErrorContains(t, try(t.Context(), operator), "nobody but the controller manager", name)
					continue
				}
				if name == "enter a pod" {
					assert.NotContains(t, message(try(t.Context(), operator)), "static.k8s.io", "there is no kubelet, but no rule either")
					continue
				}
				assert.NoError(t, try(t.Context(), operator), name)
			}
		})
	}
	t.Run("an upgrade may change the webhook, but not to see less", func(t *testing.T) {
		operator := a.client(t, s, "anna", "kubeadm:cluster-admins", testAdmins)
		for name, c := range webhookChanges() {
			err := changeWebhook(t, operator, c.change)
			if c.ok {
				assert.NoError(t, err, name)
			} else {
				assert.ErrorContains(t, err, "nobody may make the webhook gatekeeper see less", name)
			}
		}
	})
	t.Run("the control plane", func(t *testing.T) {
		controller := a.client(t, s, "system:serviceaccount:kube-system:daemon-set-controller", testAdmins)
		for _, name := range []string{"stop the log agent", "delete a pod", "create a pod", "change its configuration"} {
			assert.NoError(t, attempts[name](t.Context(), controller), name)
		}
		assert.ErrorContains(t, attempts["delete the webhook"](t.Context(), controller), "only operators")
		collector := a.client(t, s, "system:serviceaccount:kube-system:generic-garbage-collector", testAdmins)
		assert.ErrorContains(t, attempts["delete the webhook"](t.Context(), collector), "nobody may delete gatekeeper")
		assert.NoError(t, attempts["delete what Gatekeeper made"](t.Context(), collector))
		assert.NoError(t, attempts["act as a controller: a token"](t.Context(), a.client(t, s, "system:kube-controller-manager", testAdmins)))
	})
	t.Run("Gatekeeper", func(t *testing.T) {
		gatekeeper := a.client(t, s, "system:serviceaccount:gatekeeper-system:gatekeeper", testAdmins)
		for name, c := range map[string]struct {
			change func(*admissionv1.ValidatingWebhook)
			ok     bool
		}{
			"its authority": {func(w *admissionv1.ValidatingWebhook) { w.ClientConfig.CABundle = []byte(s.secrets.CA.Cert) }, true},
			"its selector": {func(w *admissionv1.ValidatingWebhook) {
				w.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"no": "where"}}
			}, false},
			"its rules": {func(w *admissionv1.ValidatingWebhook) { w.Rules = nil }, false},
			"its conditions": {func(w *admissionv1.ValidatingWebhook) {
				w.MatchConditions = []admissionv1.MatchCondition{{Name: "never", Expression: "false"}}
			}, false},
			"its Service": {func(w *admissionv1.ValidatingWebhook) { w.ClientConfig.Service.Name = "other" }, false},
		} {
			err := changeWebhook(t, gatekeeper, c.change)
			assert.Equal(t, c.ok, err == nil, "%s: %v", name, err)
		}
		assert.NoError(t, attempts["delete what Gatekeeper made"](t.Context(), gatekeeper))
		assert.ErrorContains(t, attempts["stop the log agent"](t.Context(), gatekeeper), "only operators")
		assert.ErrorContains(t, attempts["delete a role"](t.Context(), gatekeeper), "only operators")
	})
	t.Run("the rules can not be seen or removed", func(t *testing.T) {
		list, err := root.AdmissionregistrationV1().ValidatingAdmissionPolicies().List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		for _, p := range list.Items {
			assert.NotContains(t, p.Name, "static")
		}
		err = root.AdmissionregistrationV1().ValidatingAdmissionPolicies().Delete(t.Context(), "platform.catamaran.static.k8s.io", metav1.DeleteOptions{})
		assert.True(t, apierrors.IsNotFound(err), "%v", err)
	})
	t.Run("a broken file leaves the rules as they were", func(t *testing.T) {
		file := filepath.Join(a.dir, kubeadm.AdmissionGuardFile)
		// as a whole, as apply writes it: a file that is empty for a moment has no rules
		broken := write(t, a.dir, "broken", "kind: Nothing\n")
		require.NoError(t, os.Rename(broken, file))
		require.Contains(t, a.process.says(t, "reloading manifest config"), "reloading manifest config")
		assert.ErrorContains(t, attempts["delete the webhook"](t.Context(), eve), "only operators")
	})
	t.Run("the way out: without the file nothing is refused", func(t *testing.T) {
		require.NoError(t, os.Remove(filepath.Join(a.dir, kubeadm.AdmissionGuardFile)))
		begin := time.Now()
		require.Eventually(t, func() bool { return attempts["delete the webhook"](t.Context(), eve) == nil }, 3*time.Minute, 200*time.Millisecond)
		t.Logf("lifted %s after the file was removed", time.Since(begin).Round(time.Millisecond))
		assert.NoError(t, attempts["stop the log agent"](t.Context(), eve))
	})
}

// forNobody is what operators are refused too, and a part of the answer: apply does none of it.
func forNobody() map[string]string {
	return map[string]string{
		"delete the webhook":                  "nobody may delete gatekeeper",
		"delete all webhooks":                 "nobody may delete gatekeeper",
		"change the webhook":                  "nobody may make the webhook gatekeeper see less",
		"delete what Gatekeeper made":         "nobody may delete gatekeeper-catamaranprotected",
		"change what Gatekeeper made":         "nobody but Gatekeeper may change gatekeeper-catamaranprotected",
		"delete Gatekeeper's namespace":       "nobody may delete the namespace gatekeeper-system",
		"delete the kind of kinds":            "nobody may delete constrainttemplates.templates.gatekeeper.sh",
		"delete a kind of rule":               "nobody may delete things.constraints.gatekeeper.sh",
		"give a kind of rule another's owner": "nobody but Gatekeeper may change things.constraints.gatekeeper.sh",
		"delete a rule's template":            "nobody may delete things",
	}
}

type webhookChange struct {
	change func(*admissionv1.ValidatingWebhook)
	ok     bool
}

// webhookChanges are what an upgrade, or somebody with its rights, may do to the webhook.
func webhookChanges() map[string]webhookChange {
	ignore, fail, exact := admissionv1.Ignore, admissionv1.Fail, admissionv1.Exact
	one, ten := int32(1), int32(10)
	without := func(namespaces ...string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "kubernetes.io/metadata.name", Operator: metav1.LabelSelectorOpNotIn, Values: namespaces}}}
	}
	return map[string]webhookChange{
		"nothing":      {func(*admissionv1.ValidatingWebhook) {}, true},
		"more patient": {func(w *admissionv1.ValidatingWebhook) { w.TimeoutSeconds = &ten }, true},
		"stricter":     {func(w *admissionv1.ValidatingWebhook) { w.FailurePolicy = &fail }, true},
		"one operation more, another kind": {func(w *admissionv1.ValidatingWebhook) {
			w.Rules[0].Operations = append(w.Rules[0].Operations, admissionv1.Delete)
			w.Rules = append(w.Rules, *w.Rules[0].DeepCopy())
			w.Rules[1].Resources = []string{"services"}
		}, true},
		"every kind": {func(w *admissionv1.ValidatingWebhook) {
			w.Rules[0].APIGroups, w.Rules[0].Resources = []string{"*"}, []string{"*/*"}
		}, true},
		"without the exempt namespaces": {func(w *admissionv1.ValidatingWebhook) {
			w.NamespaceSelector = without("kube-system", "gatekeeper-system", "legacy")
		}, true},
		"with all namespaces":       {func(w *admissionv1.ValidatingWebhook) { w.NamespaceSelector = without("kube-system") }, true},
		"without another namespace": {func(w *admissionv1.ValidatingWebhook) { w.NamespaceSelector = without("kube-system", "shop") }, false},
		"only where a label is": {func(w *admissionv1.ValidatingWebhook) {
			w.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"no": "where"}}
		}, false},
		"only objects with a label": {func(w *admissionv1.ValidatingWebhook) {
			w.ObjectSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"no": "where"}}
		}, false},
		"without rules":        {func(w *admissionv1.ValidatingWebhook) { w.Rules = nil }, false},
		"another kind instead": {func(w *admissionv1.ValidatingWebhook) { w.Rules[0].Resources = []string{"services"} }, false},
		"another operation instead": {func(w *admissionv1.ValidatingWebhook) {
			w.Rules[0].Operations = []admissionv1.OperationType{admissionv1.Delete}
		}, false},
		"never": {func(w *admissionv1.ValidatingWebhook) {
			w.MatchConditions = []admissionv1.MatchCondition{{Name: "never", Expression: "false"}}
		}, false},
		"one version only": {func(w *admissionv1.ValidatingWebhook) { w.MatchPolicy = &exact }, false},
		"hardly any time":  {func(w *admissionv1.ValidatingWebhook) { w.TimeoutSeconds = &one }, false},
		"another Service":  {func(w *admissionv1.ValidatingWebhook) { w.ClientConfig.Service.Name = "other" }, false},
		"an authority that nobody has": {func(w *admissionv1.ValidatingWebhook) {
			w.ClientConfig.CABundle = append(w.ClientConfig.CABundle, '\n')
		}, false},
		"another name":                       {func(w *admissionv1.ValidatingWebhook) { w.Name = "validation.example.org" }, false},
		"as lax as it was, which is no less": {func(w *admissionv1.ValidatingWebhook) { w.FailurePolicy = &ignore }, true},
	}
}

// changeWebhook tries a change of Gatekeeper's webhook and makes none.
func changeWebhook(t *testing.T, c *kubernetes.Clientset, change func(*admissionv1.ValidatingWebhook)) error {
	t.Helper()
	hooks := c.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	hook, err := hooks.Get(t.Context(), "gatekeeper", metav1.GetOptions{})
	require.NoError(t, err)
	change(&hook.Webhooks[0])
	_, err = hooks.Update(t.Context(), hook, metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app.kubernetes.io/part-of": "catamaran"}}
}

// seed makes what is guarded.
func seed(t *testing.T, c *kubernetes.Clientset, authority string) {
	t.Helper()
	ctx, o := t.Context(), metav1.CreateOptions{}
	must := func(_ any, err error) {
		t.Helper()
		require.NoError(t, err)
	}
	must(c.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "test"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: testAdmins}},
	}, o))
	for _, ns := range []string{"fluentd", "gatekeeper-system", "shop"} {
		must(c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, o))
		must(c.CoreV1().ServiceAccounts(ns).Create(ctx, &corev1.ServiceAccount{ObjectMeta: meta(ns, "default")}, o))
		must(c.CoreV1().ServiceAccounts(ns).Create(ctx, &corev1.ServiceAccount{ObjectMeta: meta(ns, "fluentd")}, o))
		must(c.AppsV1().DaemonSets(ns).Create(ctx, daemonSet(ns), o))
		must(c.CoreV1().Pods(ns).Create(ctx, pod(ns, "a", ""), o))
		must(c.CoreV1().ConfigMaps(ns).Create(ctx, &corev1.ConfigMap{ObjectMeta: meta(ns, "fluentd")}, o))
	}
	must(c.CoreV1().ServiceAccounts("kube-system").Create(ctx, &corev1.ServiceAccount{ObjectMeta: meta("kube-system", "daemon-set-controller")}, o))
	must(c.CoreV1().ServiceAccounts("kube-system").Create(ctx, &corev1.ServiceAccount{ObjectMeta: meta("kube-system", "coredns")}, o))
	must(c.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: meta("", "catamaran:gatekeeper")}, o))
	none, ignore, timeout := admissionv1.SideEffectClassNone, admissionv1.Ignore, int32(3)
	must(c.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(ctx, &admissionv1.ValidatingWebhookConfiguration{
		ObjectMeta: meta("", "gatekeeper"),
		Webhooks: []admissionv1.ValidatingWebhook{{
			Name: "validation.gatekeeper.sh", AdmissionReviewVersions: []string{"v1"}, SideEffects: &none, FailurePolicy: &ignore,
			ClientConfig: admissionv1.WebhookClientConfig{
				Service: &admissionv1.ServiceReference{Namespace: "gatekeeper-system", Name: "gatekeeper"}, CABundle: []byte(authority),
			},
			TimeoutSeconds:    &timeout,
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"only": "here"}},
			Rules: []admissionv1.RuleWithOperations{{
				Operations: []admissionv1.OperationType{admissionv1.Create},
				Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			}},
		}},
	}, o))
	must(c.AdmissionregistrationV1().ValidatingAdmissionPolicies().Create(ctx, &admissionv1.ValidatingAdmissionPolicy{
		ObjectMeta: meta("", "gatekeeper-catamaranprotected"),
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			Validations: []admissionv1.Validation{{Expression: "true"}},
			MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
				Operations: []admissionv1.OperationType{admissionv1.Create},
				Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			}}}},
		},
	}, o))
}

// seedKinds makes a kind of Gatekeeper's, a kind of rule as Gatekeeper makes one, and a template.
func seedKinds(t *testing.T, c *kubernetes.Clientset) {
	t.Helper()
	for _, k := range []struct{ group, plural, kind string }{
		{"templates.gatekeeper.sh", "constrainttemplates", "ConstraintTemplate"}, {"constraints.gatekeeper.sh", "things", "Thing"},
	} {
		post(t, c, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", fmt.Sprintf(`{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
			"metadata": {"name": "%[2]s.%[1]s"}, "spec": {"group": "%[1]s", "scope": "Cluster", "names": {"plural": "%[2]s", "kind": "%[3]s"},
			"versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}}`, k.group, k.plural, k.kind))
	}
	post(t, c, "/apis/templates.gatekeeper.sh/v1/constrainttemplates", `{"apiVersion": "templates.gatekeeper.sh/v1", "kind": "ConstraintTemplate",
		"metadata": {"name": "things", "labels": {"app.kubernetes.io/part-of": "catamaran"}}}`)
}

// post creates an object of a kind that may have been made just now.
func post(t *testing.T, c *kubernetes.Clientset, path, object string) {
	t.Helper()
	var err error
	require.Eventually(t, func() bool {
		err = c.RESTClient().Post().AbsPath(path).Body([]byte(object)).Do(t.Context()).Error()
		return !apierrors.IsNotFound(err)
	}, time.Minute, 50*time.Millisecond)
	require.NoError(t, err)
}

func daemonSet(ns string) *appsv1.DaemonSet {
	labels := map[string]string{"a": "b"}
	return &appsv1.DaemonSet{ObjectMeta: meta(ns, "fluentd"), Spec: appsv1.DaemonSetSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod("", "", "").Spec},
	}}
}

func pod(ns, name, account string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: meta(ns, name), Spec: corev1.PodSpec{ServiceAccountName: account, Containers: []corev1.Container{{Name: "a", Image: "a:1"}}}}
}

// attempts are what the rules refuse. None changes anything.
func attempts() map[string]attempt {
	all := []string{metav1.DryRunAll}
	create, del, patch := metav1.CreateOptions{DryRun: all}, metav1.DeleteOptions{DryRun: all}, metav1.PatchOptions{DryRun: all}
	label := []byte(`{"metadata": {"labels": {"x": "y"}}}`)
	out := map[string]attempt{
		"delete the webhook": func(ctx context.Context, c *kubernetes.Clientset) error {
			return c.AdmissionregistrationV1().ValidatingWebhookConfigurations().Delete(ctx, "gatekeeper", del)
		},
		"delete all webhooks": func(ctx context.Context, c *kubernetes.Clientset) error {
			return c.AdmissionregistrationV1().ValidatingWebhookConfigurations().DeleteCollection(ctx, del, metav1.ListOptions{})
		},
		"change the webhook": func(ctx context.Context, c *kubernetes.Clientset) error {
			_, err := c.AdmissionregistrationV1().ValidatingWebhookConfigurations().Patch(ctx, "gatekeeper", types.MergePatchType, []byte(`{"webhooks": []}`), patch)
			return err
		},
		"delete what Gatekeeper made": func(ctx context.Context, c *kubernetes.Clientset) error {
			return c.AdmissionregistrationV1().ValidatingAdmissionPolicies().Delete(ctx, "gatekeeper-catamaranprotected", del)
		},
		"change what Gatekeeper made": func(ctx context.Context, c *kubernetes.Clientset) error {
			_, err := c.AdmissionregistrationV1().ValidatingAdmissionPolicies().Patch(ctx, "gatekeeper-catamaranprotected", types.MergePatchType, label, patch)
			return err
		},
		"delete Gatekeeper's namespace": func(ctx context.Context, c *kubernetes.Clientset) error {
			return c.CoreV1().Namespaces().Delete(ctx, "gatekeeper-system", del)
		},
		"delete the kind of kinds": func(ctx context.Context, c *kubernetes.Clientset) error {
			return dryDelete(ctx, c, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/constrainttemplates.templates.gatekeeper.sh")
		},
		"delete a kind of rule": func(ctx context.Context, c *kubernetes.Clientset) error {
			return dryDelete(ctx, c, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.constraints.gatekeeper.sh")
		},
		// the garbage collector would do the rest
		"give a kind of rule another's owner": func(ctx context.Context, c *kubernetes.Clientset) error {
			return c.RESTClient().Patch(types.MergePatchType).AbsPath("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.constraints.gatekeeper.sh").Param("dryRun", "All").
				Body([]byte(`{"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Namespace", "name": "gone", "uid": "gone"}]}}`)).Do(ctx).Error()
		},
		"delete a rule's template": func(ctx context.Context, c *kubernetes.Clientset) error {
			return dryDelete(ctx, c, "/apis/templates.gatekeeper.sh/v1/constrainttemplates/things")
		},
		"change a rule's template": func(ctx context.Context, c *kubernetes.Clientset) error {
			return c.RESTClient().Patch(types.MergePatchType).AbsPath("/apis/templates.gatekeeper.sh/v1/constrainttemplates/things").Param("dryRun", "All").Body(label).Do(ctx).Error()
		},
		"delete a role": func(ctx context.Context, c *kubernetes.Clientset) error {
			return c.RbacV1().ClusterRoles().Delete(ctx, "catamaran:gatekeeper", del)
		},
		"stop the log agent": func(ctx context.Context, c *kubernetes.Clientset) error {
			return c.AppsV1().DaemonSets("fluentd").Delete(ctx, "fluentd", del)
		},
		"send the log agent nowhere": func(ctx context.Context, c *kubernetes.Clientset) error {
			_, err := c.AppsV1().DaemonSets("fluentd").Patch(ctx, "fluentd", types.MergePatchType, []byte(`{"spec": {"template": {"spec": {"nodeSelector": {"no": "where"}}}}}`), patch)
			return err
		},
		"delete a pod": func(ctx context.Context, c *kubernetes.Clientset) error {
			return c.CoreV1().Pods("fluentd").Delete(ctx, "a", del)
		},
		"create a pod": func(ctx context.Context, c *kubernetes.Clientset) error {
			_, err := c.CoreV1().Pods("fluentd").Create(ctx, pod("fluentd", "thief", ""), create)
			return err
		},
		"change its configuration": func(ctx context.Context, c *kubernetes.Clientset) error {
			_, err := c.CoreV1().ConfigMaps("fluentd").Patch(ctx, "fluentd", types.MergePatchType, label, patch)
			return err
		},
		"relax the namespace": func(ctx context.Context, c *kubernetes.Clientset) error {
			_, err := c.CoreV1().Namespaces().Patch(ctx, "fluentd", types.MergePatchType, label, patch)
			return err
		},
		"delete the namespace": func(ctx context.Context, c *kubernetes.Clientset) error {
			return c.CoreV1().Namespaces().Delete(ctx, "fluentd", del)
		},
		"act as the log agent": func(ctx context.Context, c *kubernetes.Clientset) error {
			_, err := c.CoreV1().ServiceAccounts("fluentd").CreateToken(ctx, "fluentd", &authenticationv1.TokenRequest{}, create)
			return err
		},
		"enter a pod": func(ctx context.Context, c *kubernetes.Clientset) error {
			return c.CoreV1().RESTClient().Post().Namespace("fluentd").Resource("pods").Name("a").SubResource("exec").
				Param("command", "sh").Param("container", "a").Do(ctx).Error()
		},
		"act as a controller: a token": func(ctx context.Context, c *kubernetes.Clientset) error {
			_, err := c.CoreV1().ServiceAccounts("kube-system").CreateToken(ctx, "daemon-set-controller", &authenticationv1.TokenRequest{}, create)
			return err
		},
		"act as a controller: a pod": func(ctx context.Context, c *kubernetes.Clientset) error {
			_, err := c.CoreV1().Pods("kube-system").Create(ctx, pod("kube-system", "thief", "daemon-set-controller"), create)
			return err
		},
		"act as a controller: a secret": func(ctx context.Context, c *kubernetes.Clientset) error {
			secret := &corev1.Secret{ObjectMeta: meta("kube-system", "thief"), Type: corev1.SecretTypeServiceAccountToken}
			secret.Annotations = map[string]string{corev1.ServiceAccountNameKey: "daemon-set-controller"}
			_, err := c.CoreV1().Secrets("kube-system").Create(ctx, secret, create)
			return err
		},
	}
	return out
}

func dryDelete(ctx context.Context, c *kubernetes.Clientset, path string) error {
	return c.RESTClient().Delete().AbsPath(path).Param("dryRun", "All").Do(ctx).Error()
}

// elsewhere is what the rules must not be in the way of.
func elsewhere() map[string]attempt {
	all := []string{metav1.DryRunAll}
	create, del := metav1.CreateOptions{DryRun: all}, metav1.DeleteOptions{DryRun: all}
	return map[string]attempt{
		"a DaemonSet": func(ctx context.Context, c *kubernetes.Clientset) error {
			return c.AppsV1().DaemonSets("shop").Delete(ctx, "fluentd", del)
		},
		"a namespace": func(ctx context.Context, c *kubernetes.Clientset) error {
			return c.CoreV1().Namespaces().Delete(ctx, "shop", del)
		},
		"a pod of kube-system": func(ctx context.Context, c *kubernetes.Clientset) error {
			_, err := c.CoreV1().Pods("kube-system").Create(ctx, pod("kube-system", "x", "coredns"), create)
			return err
		},
		"a token of kube-system": func(ctx context.Context, c *kubernetes.Clientset) error {
			_, err := c.CoreV1().ServiceAccounts("kube-system").CreateToken(ctx, "coredns", &authenticationv1.TokenRequest{}, create)
			return err
		},
		"a secret of kube-system": func(ctx context.Context, c *kubernetes.Clientset) error {
			_, err := c.CoreV1().Secrets("kube-system").Create(ctx, &corev1.Secret{ObjectMeta: meta("kube-system", "x")}, create)
			return err
		},
		"a role": func(ctx context.Context, c *kubernetes.Clientset) error {
			return c.RbacV1().ClusterRoles().Delete(ctx, "view", del)
		},
		"an event of the log agent": func(ctx context.Context, c *kubernetes.Clientset) error {
			_, err := c.CoreV1().Events("fluentd").Create(ctx, &corev1.Event{ObjectMeta: meta("fluentd", "x"), InvolvedObject: corev1.ObjectReference{Namespace: "fluentd"}}, create)
			return err
		},
		"a cluster role of another's": func(ctx context.Context, c *kubernetes.Clientset) error {
			_, err := c.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: meta("", "x")}, create)
			return err
		},
	}
}
