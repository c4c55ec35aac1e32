package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
)

// canaries are secrets that must never be seen where they do not belong.
type canaries struct {
	passphrase, sudo, registry, value string

	mu   sync.Mutex
	more map[string]string // what the product made itself: name -> secret
}

func newCanaries() (*canaries, error) {
	c := &canaries{more: map[string]string{}}
	for _, p := range []*string{&c.passphrase, &c.sudo, &c.registry, &c.value} {
		var b [12]byte
		if _, err := rand.Read(b[:]); err != nil {
			return nil, err
		}
		*p = "canary" + hex.EncodeToString(b[:])
	}
	return c, nil
}

func (c *canaries) add(name, secret string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.more[name] = secret
}

// all are the canaries by name, in the forms in which they could leak.
func (c *canaries) all() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]string{
		"ssh.keyPassphrase": c.passphrase, "ssh.sudoPassword": c.sudo,
		"releases[0].password": c.registry, "releases[0].values.token": c.value,
	}
	maps.Copy(out, c.more)
	for n, v := range maps.Clone(out) {
		out[n+" (base64)"] = base64.StdEncoding.EncodeToString([]byte(v))
	}
	return out
}

// vault adds what the product keeps in the site's vault.
func (c *canaries) vault(t *testing.T, site *site) {
	t.Helper()
	inv := site.Load(t)
	v, err := pki.Open(inv.VaultFile(), inv.IdentityFile(), nil)
	require.NoError(t, err)
	for _, name := range inv.ClusterNames() {
		sec, ok := v.Cluster(string(name))
		require.True(t, ok)
		for what, key := range map[string]string{
			"CA": sec.CA.Key, "etcd CA": sec.EtcdCA.Key, "front proxy CA": sec.FrontProxyCA.Key, "service account": sec.ServiceAccount.Key,
		} {
			c.add(fmt.Sprintf("%s %s key", name, what), strings.Split(key, "\n")[1])
		}
		c.add(string(name)+" encryption key", sec.EncryptionKey)
	}
}

// find returns which canaries are in a text.
func (c *canaries) find(data []byte) []string {
	var found []string
	for name, secret := range c.all() {
		if bytes.Contains(data, []byte(secret)) {
			found = append(found, name)
		}
	}
	return found
}

// testNoSecretIsSeen greps everything that was written or said. What is meant to hold secrets is left out by name: the vault
// (encrypted), the kubeconfigs (the operator's own keys), the secret files the inventory points at.
func testNoSecretIsSeen(t *testing.T) {
	s.canaries.vault(t, s.site)
	said := s.site.Said()
	assert.Empty(t, s.canaries.find(said), "in what commands printed")
	assert.Greater(t, len(said), 1000)

	dir := filepath.Dir(s.site.Path)
	looked := 0
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		switch name := d.Name(); {
		case strings.HasSuffix(name, ".age"), strings.HasSuffix(name, ".agekey"), strings.HasSuffix(name, ".kubeconfig"),
			name == "e2e.sudo", name == "e2e.registry", name == "e2e.key":
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		found := s.canaries.find(data)
		if path == s.site.Path {
			// the release's value stands in the inventory: that is its place
			found = without(found, "releases[0].values.token")
		}
		assert.Empty(t, found, "in %s", path)
		looked++
		return nil
	}))
	assert.Greater(t, looked, 2)

	inv := s.site.Load(t)
	for _, c := range inv.ClusterNames() {
		for _, n := range inv.Cluster(c).Nodes {
			// journal, audit log, container logs and unit outputs of every machine
			text, err := s.machines.root(s.ctx, n.Name, `journalctl --no-pager -o export 2>/dev/null | cat; cat /var/log/kubernetes/audit/*.log /var/log/pods/*/*/*.log /run/catamaran/units/*/output /var/log/auth.log 2>/dev/null; ls /run/catamaran/units/*/in 2>/dev/null; true`, nil)
			require.NoError(t, err)
			assert.Greater(t, len(text), 1000, "%s: the logs", n.Name)
			assert.Empty(t, s.canaries.find([]byte(text)), "in the logs of %s", n.Name)
		}
	}
}

func without(list []string, prefix string) []string {
	var out []string
	for _, l := range list {
		if !strings.HasPrefix(l, prefix) {
			out = append(out, l)
		}
	}
	return out
}

// The search itself must be able to find.
func testCanariesCanBeFound(t *testing.T) {
	for name, secret := range s.canaries.all() {
		assert.Contains(t, s.canaries.find([]byte("xx"+secret+"yy")), name)
	}
	stop := s.canaries.watch(t)
	_, err := s.machines.root(s.ctx, s.site.Load(t).Clusters.Service.Nodes[0].Name, "sleep 1; : "+s.canaries.value, nil)
	require.NoError(t, err)
	assert.NotEmpty(t, stop(), "a secret on a command line is noticed")
}
