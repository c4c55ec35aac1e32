package e2e

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
	"sigs.k8s.io/yaml"

	"github.com/catamaran-k8s/catamaran/inventory"
	testsite "github.com/catamaran-k8s/catamaran/test/site"
)

// site is the inventory under test and the registry that its own release comes from.
type site struct {
	*testsite.Site
	own *chartRegistry
}

// newSite takes the machines' inventory and puts a canary into each of its secret fields: the key is encrypted, sudo asks
// for a password in one of the clusters, and a release of the site's own comes from a registry with a password.
func newSite(ctx context.Context, s *suite) (*site, error) {
	t := &site{Site: &testsite.Site{Ctx: ctx, Binary: s.binary, Path: filepath.Join(filepath.Dir(s.machines.inventory()), "e2e.yaml")}}
	base, err := inventory.Load(s.machines.inventory())
	if err != nil {
		return nil, err
	}
	if t.own, err = newRegistry(base, s.dir, s.canaries.registry); err != nil {
		return nil, err
	}
	t.Env = append(os.Environ(), "E2E_KEY_PASSPHRASE="+s.canaries.passphrase, "SSL_CERT_FILE="+t.own.ca)
	if err := t.secrets(ctx, s, base); err != nil {
		return nil, errors.Join(err, t.own.close())
	}
	return t, nil
}

func (t *site) secrets(ctx context.Context, s *suite, base *inventory.Inventory) error {
	dir := filepath.Dir(t.Path)
	key, err := encryptedKey(base.SSH.KeyFile, s.canaries.passphrase)
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"e2e.key": key, "e2e.sudo": []byte(s.canaries.sudo + "\n"), "e2e.registry": []byte(s.canaries.registry + "\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	for _, n := range base.Clusters.Service.Nodes {
		user := base.SSHFor(inventory.Service, &n).User
		script := fmt.Sprintf(`set -e; chpasswd; grep -rl '^%[1]s ' /etc/sudoers.d /etc/sudoers | xargs -r sed -i '/^%[1]s /d'; echo '%[1]s ALL=(ALL:ALL) ALL' > /etc/sudoers.d/%[1]s; chmod 0440 /etc/sudoers.d/%[1]s`, user)
		if _, err := s.machines.root(ctx, n.Name, script, strings.NewReader(user+":"+s.canaries.sudo+"\n")); err != nil {
			return err
		}
	}
	return t.Edit(s.machines.inventory(), func(m map[string]any) {
		sshSettings := testsite.At(m, "ssh")
		sshSettings["keyFile"] = "e2e.key"
		sshSettings["keyPassphrase"] = map[string]any{"env": "E2E_KEY_PASSPHRASE"}
		testsite.At(m, "clusters", "service")["ssh"] = map[string]any{"sudoPassword": map[string]any{"file": "e2e.sudo"}}
		m["platform"] = map[string]any{"enabled": false} // its chapters come later
		m["releases"] = []any{map[string]any{
			"name": "own", "namespace": "own", "cluster": "workload", "chart": t.own.reference, "version": "1.0.0",
			"username": registryUser, "password": map[string]any{"file": "e2e.registry"},
			"values": map[string]any{"token": s.canaries.value},
		}}
	})
}

func encryptedKey(file, passphrase string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	key, err := ssh.ParseRawPrivateKey(data)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(block), nil
}

func (t *site) close() { _ = t.own.close() } // the process ends

// parseNode reads one node as it stands in a list of an inventory.
func parseNode(line string) (map[string]any, error) {
	m := map[string]any{}
	return m, yaml.Unmarshal([]byte(line), &m)
}
