package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
	"sigs.k8s.io/yaml"

	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// site is the inventory under test, edited as an operator would, and everything the product ever said of it.
type site struct {
	binary string
	path   string
	env    []string
	own    *chartRegistry

	mu   sync.Mutex
	said bytes.Buffer // stdout and stderr of every command
}

// newSite takes the machines' inventory and puts a canary into each of its secret fields: the key is encrypted, sudo asks
// for a password in one of the clusters, and a release of the site's own comes from a registry with a password.
func newSite(ctx context.Context, s *suite) (*site, error) {
	t := &site{binary: s.binary, path: filepath.Join(filepath.Dir(s.machines.inventory()), "e2e.yaml")}
	base, err := inventory.Load(s.machines.inventory())
	if err != nil {
		return nil, err
	}
	if t.own, err = newRegistry(base, s.dir, s.canaries.registry); err != nil {
		return nil, err
	}
	t.env = append(os.Environ(), "E2E_KEY_PASSPHRASE="+s.canaries.passphrase, "SSL_CERT_FILE="+t.own.ca)
	if err := t.secrets(ctx, s, base); err != nil {
		return nil, errors.Join(err, t.own.close())
	}
	return t, nil
}

func (t *site) secrets(ctx context.Context, s *suite, base *inventory.Inventory) error {
	dir := filepath.Dir(t.path)
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
	return t.edit(s.machines.inventory(), func(m map[string]any) {
		sshSettings := at(m, "ssh")
		sshSettings["keyFile"] = "e2e.key"
		sshSettings["keyPassphrase"] = map[string]any{"env": "E2E_KEY_PASSPHRASE"}
		at(m, "clusters", "service")["ssh"] = map[string]any{"sudoPassword": map[string]any{"file": "e2e.sudo"}}
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

// at walks a parsed inventory.
func at(m map[string]any, path ...string) map[string]any {
	for _, p := range path {
		next, ok := m[p].(map[string]any)
		if !ok {
			next = map[string]any{}
			m[p] = next
		}
		m = next
	}
	return m
}

// edit reads an inventory, changes it and writes it as the site's.
func (t *site) edit(from string, change func(map[string]any)) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	m := map[string]any{}
	if err := yaml.Unmarshal(data, &m); err != nil {
		return err
	}
	change(m)
	if data, err = yaml.Marshal(m); err != nil {
		return err
	}
	return os.WriteFile(t.path, data, 0o600)
}

// change edits the site's inventory.
func (t *site) change(tt *testing.T, change func(map[string]any)) {
	tt.Helper()
	require.NoError(tt, t.edit(t.path, change))
}

// nodes is the list of a cluster in a parsed inventory.
func nodes(m map[string]any, c inventory.ClusterName) []any {
	list, _ := at(m, "clusters", string(c))["nodes"].([]any)
	return list
}

func (t *site) load(tt *testing.T) *inventory.Inventory {
	tt.Helper()
	inv, err := inventory.Load(t.path)
	require.NoError(tt, err)
	return inv
}

// command prepares the product; what it says is kept.
func (t *site) command(ctx context.Context, args ...string) (*exec.Cmd, *bytes.Buffer) {
	c := exec.CommandContext(ctx, t.binary, append([]string{"-f", t.path}, args...)...)
	c.Env = t.env
	var out bytes.Buffer
	w := io.MultiWriter(&out, &locked{t})
	c.Stdout, c.Stderr = w, w
	return c, &out
}

type locked struct{ t *site }

func (l *locked) Write(p []byte) (int, error) {
	l.t.mu.Lock()
	defer l.t.mu.Unlock()
	return l.t.said.Write(p)
}

// run runs the product to its end and returns what it said and its exit code.
func (t *site) run(tt *testing.T, args ...string) (string, int) {
	tt.Helper()
	c, out := t.command(s.ctx, args...)
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(tt, err)
	}
	return out.String(), c.ProcessState.ExitCode()
}

// must runs the product and expects an exit code.
func (t *site) must(tt *testing.T, code int, args ...string) string {
	tt.Helper()
	out, got := t.run(tt, args...)
	require.Equal(tt, code, got, "catamaran %s:\n%s", strings.Join(args, " "), out)
	return out
}

// journal is the site's whole journal, checked.
func (t *site) journal(tt *testing.T) []plan.Entry {
	tt.Helper()
	f, err := os.Open(filepath.Join(t.load(tt).SiteDir(), plan.JournalName))
	require.NoError(tt, err)
	defer f.Close() //nolint:errcheck // only read
	entries, err := plan.ReadJournal(f)
	require.NoError(tt, err)
	return entries
}

// planned is what a plan would do, by step.
func (t *site) planned(tt *testing.T) []string {
	tt.Helper()
	c := exec.CommandContext(s.ctx, t.binary, "-f", t.path, "plan", "-o", "json")
	c.Env = t.env
	out, err := c.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		require.NoError(tt, err)
	}
	var p plan.Plan
	require.NoError(tt, json.Unmarshal(out, &p), string(out))
	ids := []string{}
	for _, st := range p.Steps {
		ids = append(ids, st.ID)
	}
	return ids
}

// parseNode reads one node as it stands in a list of an inventory.
func parseNode(line string) (map[string]any, error) {
	m := map[string]any{}
	return m, yaml.Unmarshal([]byte(line), &m)
}
