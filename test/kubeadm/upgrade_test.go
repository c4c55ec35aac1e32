package kubeadm

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/catamaran-k8s/catamaran/embedded/helm"
)

// Helm installs and upgrades Gatekeeper's webhook, as apply has it do, on an API server with the rules from files: an upgrade passes,
// and one that would make the webhook see less is refused and taken back.
func TestAnUpgradePassesTheGuard(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.guardOf = platformed()
	a := s.start(t)
	root := a.client(t, s, "root", "system:masters")
	a.waitReady(t, root)
	cert, key := s.sign(t, "catamaran", []string{"system:masters"})
	cluster, err := helm.NewCluster(&rest.Config{Host: a.url, QPS: -1, TLSClientConfig: rest.TLSClientConfig{Insecure: true, CertData: cert, KeyData: key}}, func(l string) { t.Log(l) })
	require.NoError(t, err)

	chart := webhookChart(t)
	apply := func(values map[string]any) error {
		return cluster.Apply(t.Context(), helm.Release{
			Name: "gatekeeper", Namespace: "gatekeeper-system", Chart: chart, PodSecurity: "restricted", Timeout: 20 * time.Second,
			Values: helm.Merge(map[string]any{"network": map[string]any{"podCIDR": "10.102.0.0/16", "nodes": []any{"10.77.0.21/32"}}}, values),
		})
	}
	exempt := func() []string {
		hook, err := root.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), "gatekeeper", metav1.GetOptions{})
		require.NoError(t, err)
		assert.Equal(t, s.secrets.CA.Cert, string(hook.Webhooks[0].ClientConfig.CABundle), "what Gatekeeper wrote stays")
		return hook.Webhooks[0].NamespaceSelector.MatchExpressions[0].Values
	}
	require.NoError(t, apply(nil))
	// as Gatekeeper does when it starts
	hooks := root.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	hook, err := hooks.Get(t.Context(), "gatekeeper", metav1.GetOptions{})
	require.NoError(t, err)
	for i := range hook.Webhooks {
		hook.Webhooks[i].ClientConfig.CABundle = []byte(s.secrets.CA.Cert)
	}
	_, err = a.client(t, s, "system:serviceaccount:gatekeeper-system:gatekeeper", "system:masters").AdmissionregistrationV1().ValidatingWebhookConfigurations().Update(t.Context(), hook, metav1.UpdateOptions{})
	require.NoError(t, err)

	require.NoError(t, apply(map[string]any{"exemptNamespaces": []any{"legacy"}}))
	assert.Equal(t, []string{"kube-system", "gatekeeper-system", "legacy"}, exempt())
	require.NoError(t, apply(nil), "one namespace less is left out")
	assert.Equal(t, []string{"kube-system", "gatekeeper-system"}, exempt())

	assert.ErrorContains(t, apply(map[string]any{"exemptNamespaces": []any{"shop"}}), "nobody may make the webhook gatekeeper see less")
	assert.Equal(t, []string{"kube-system", "gatekeeper-system"}, exempt())
	require.NoError(t, apply(nil), "it goes on")
}

// webhookChart is the chart of Gatekeeper without what would have to run.
func webhookChart(t *testing.T) *helm.Chart {
	t.Helper()
	from, to := filepath.Join("..", "..", "embedded", "charts", "gatekeeper"), t.TempDir()
	for _, name := range []string{"Chart.yaml", "values.yaml", "values.schema.json", "templates/_helpers.tpl", "templates/webhook.yaml"} {
		data, err := os.ReadFile(filepath.Join(from, name))
		require.NoError(t, err)
		write(t, to, name, string(data))
	}
	chart, err := helm.LoadDir(to)
	require.NoError(t, err)
	return chart
}
