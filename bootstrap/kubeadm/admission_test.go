package kubeadm

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admissionregistration/v1"

	"github.com/catamaran-k8s/catamaran/inventory"
)

func TestHasStaticAdmission(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{
		"1.35.4": false, "1.36.3": false, "1.37.2": true, "1.37.0-rc.1": true, "1.100.0": true, "2.0.0": false, "": false, "v1.37.2": false,
	} {
		assert.Equal(t, want, HasStaticAdmission(version), version)
	}
}

// The rules guard Gatekeeper and what it keeps: without it, or where Kubernetes takes none from files, there are none.
func TestGuarded(t *testing.T) {
	t.Parallel()
	on, off := true, false
	for name, c := range map[string]struct {
		version             string
		platform, component *bool
		want                bool
	}{
		"the platform": {"1.37.2", &on, nil, true}, "no platform": {"1.37.2", &off, nil, false}, "Gatekeeper by itself": {"1.37.2", &off, &on, true},
		"the platform without Gatekeeper": {"1.37.2", &on, &off, false}, "an older Kubernetes": {"1.36.3", &on, &on, false},
	} {
		inv := &inventory.Inventory{
			Kubernetes: inventory.Kubernetes{Version: c.version}, Platform: inventory.Platform{Enabled: c.platform},
			Components: map[string]inventory.Component{"gatekeeper": {Enabled: c.component}},
		}
		assert.Equal(t, c.want, Guarded(inv, &inventory.Cluster{}), name)
	}
}

// The API server is strict about what it takes from files; test/kubeadm has a real one read them.
func TestAdmissionGuard(t *testing.T) {
	t.Parallel()
	guard := AdmissionGuard(&inventory.Inventory{Components: map[string]inventory.Component{"gatekeeper": {Values: map[string]any{"exemptNamespaces": []any{"legacy"}}}}})
	assert.NotRegexp(t, `\b(NAMESPACES|CONTROLLERS|EXEMPT)\b`, guard)
	assert.Contains(t, guard, `v in ["kube-system", "gatekeeper-system", "legacy"]`)
	bound := map[string]bool{}
	for _, doc := range strings.Split(guard, "\n---\n") {
		switch o := strictly(t, doc, admissionv1.AddToScheme).(type) {
		case *admissionv1.ValidatingAdmissionPolicy:
			assert.Equal(t, admissionv1.Fail, *o.Spec.FailurePolicy, o.Name)
			bound[o.Name] = bound[o.Name] || false
			assert.True(t, strings.HasSuffix(o.Name, ".static.k8s.io"), o.Name)
			assert.Nil(t, o.Spec.ParamKind, "a file can not refer to an object")
		case *admissionv1.ValidatingAdmissionPolicyBinding:
			assert.Equal(t, []admissionv1.ValidationAction{admissionv1.Deny}, o.Spec.ValidationActions)
			assert.Contains(t, bound, o.Spec.PolicyName)
			bound[o.Spec.PolicyName] = true
		default:
			require.Fail(t, "what is it", "%T", o)
		}
	}
	assert.Len(t, bound, 3)
	for name, is := range bound {
		assert.True(t, is, name)
	}
}

// A namespace that the rules do not know would be unguarded; one that is a part of Kubernetes would be shut.
func TestGuardedNamespaces(t *testing.T) {
	t.Parallel()
	for _, ns := range []string{"fluentd", "falco", "prometheus-agent", "gatekeeper-system", "trivy", "loki"} {
		assert.Contains(t, guardedNamespaces(), ns)
	}
	for _, ns := range []string{"kube-system", "default", "kube-public", "kube-node-lease"} {
		assert.NotContains(t, guardedNamespaces(), ns)
	}
}
