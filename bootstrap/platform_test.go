package bootstrap

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/embedded"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// platformSite writes an inventory whose vault and identity lie beside it, and returns its path.
func platformSite(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "inventory.yaml")
	require.NoError(t, os.WriteFile(path, []byte(`
apiVersion: catamaran/v1alpha1
kind: Inventory
metadata: {name: umea}
kubernetes: {version: 1.37.2}
vault: {identityFile: umea.agekey}
clusters:
  service:
    network: {podCIDR: 10.100.0.0/16, serviceCIDR: 10.101.0.0/16}
    nodes: [{name: sc-1, role: control-plane, address: 10.77.0.11}]
platform: {size: small, alerts: {webhook: {url: {file: hook}}}}
`), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "hook"), []byte("https://chat.example.org/Canary_7351"), 0o600))
	return path
}

func openSite(t *testing.T, path string) *Site {
	t.Helper()
	s, err := Open(path, Options{Operator: "ops"})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

func TestPlatformSecretsAreMadeOnce(t *testing.T) {
	t.Parallel()
	path := platformSite(t)
	s := openSite(t, path)
	first, err := s.platformSecrets([]string{"s3-loki"})
	require.NoError(t, err)
	more, err := s.platformSecrets([]string{"s3-loki", "grafana-admin"})
	require.NoError(t, err)
	assert.Equal(t, first.Passwords["s3-loki"], more.Passwords["s3-loki"])
	assert.Equal(t, first.ServiceCA, more.ServiceCA)
	assert.NotContains(t, first.Passwords, "grafana-admin")
	again, err := openSite(t, path).platformSecrets(nil)
	require.NoError(t, err)
	assert.Equal(t, more, again, "they were saved before anybody saw them")
}

// Two runs that have the vault open lose nothing of each other.
func TestPlatformSecretsOfTwoRuns(t *testing.T) {
	t.Parallel()
	path := platformSite(t)
	a, b := openSite(t, path), openSite(t, path)
	made, err := b.platformSecrets([]string{"s3-loki"})
	require.NoError(t, err)
	_, err = b.makeSecrets(inventory.Service)
	require.NoError(t, err)
	got, err := a.platformSecretsAlone("verify", "other")
	require.NoError(t, err)
	assert.Equal(t, made.Passwords["s3-loki"], got.Passwords["s3-loki"])
	now := openSite(t, path)
	_, err = now.secrets(inventory.Service)
	require.NoError(t, err)
	kept, _ := now.vault.Platform()
	assert.Len(t, kept.Passwords, 2)

	lock, err := plan.Acquire(a.Inventory.SiteDir(), a.holder("apply"))
	require.NoError(t, err)
	defer lock.Release()
	_, err = b.platformSecretsAlone("verify", "third")
	var held *plan.HeldError
	require.ErrorAs(t, err, &held)
	_, err = b.platformSecretsAlone("verify", "s3-loki")
	require.NoError(t, err, "what is there needs no lock")
}

// Digests follow what Secrets are made from; a secret of the inventory's that is not there is said before anything runs.
func TestPlatformFacts(t *testing.T) {
	t.Parallel()
	path := platformSite(t)
	s := openSite(t, path)
	list, err := embedded.Releases(t.Context(), s.Inventory, inventory.Service)
	require.NoError(t, err)
	releases := map[inventory.ClusterName][]embedded.Release{inventory.Service: list}
	facts, err := s.platformFacts(releases)
	require.NoError(t, err)
	assert.Nil(t, facts, "there are no secrets yet")

	_, err = s.platformSecrets([]string{"s3-loki"})
	require.NoError(t, err)
	facts, err = s.platformFacts(releases)
	require.NoError(t, err)
	digest := func(name string) string {
		for _, r := range list {
			for _, secret := range r.Secrets {
				if secret.Name == name {
					return facts.DigestOf(secret)
				}
			}
		}
		require.Fail(t, "nobody wants "+name)
		return ""
	}
	assert.NotEmpty(t, digest("loki-s3"))
	assert.NotEmpty(t, digest("loki-tls"))
	assert.Empty(t, digest("thanos-s3"), "its password was not made yet")
	before := digest("alertmanager-receivers")
	assert.NotEmpty(t, before)

	hook := filepath.Join(filepath.Dir(path), "hook")
	require.NoError(t, os.WriteFile(hook, []byte("https://chat.example.org/Canary_7352"), 0o600))
	facts, err = s.platformFacts(releases)
	require.NoError(t, err)
	assert.NotEqual(t, before, digest("alertmanager-receivers"), "what stands in the file counts")
	require.NoError(t, os.Remove(hook))
	_, err = s.platformFacts(releases)
	require.ErrorContains(t, err, "secret alertmanager/alertmanager-receivers, key webhook-url: ")
	assert.NotContains(t, err.Error(), "Canary")
}
