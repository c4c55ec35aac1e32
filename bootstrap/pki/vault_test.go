package pki

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/stretchr/testify/require"
)

// files are a vault and its identity in a folder of the test's.
func files(t *testing.T) (vault, identity string) {
	dir := t.TempDir()
	return filepath.Join(dir, "umea.vault.age"), filepath.Join(dir, "keys", "umea.agekey")
}

func newVault(t *testing.T, recipients ...string) (v *Vault, vault, identity string) {
	t.Helper()
	vault, identity = files(t)
	v, err := Create(vault, identity, "umea", recipients)
	require.NoError(t, err)
	return v, vault, identity
}

func TestVault(t *testing.T) {
	t.Parallel()
	v, vault, identity := newVault(t)
	require.NoFileExists(t, vault, "nothing is written before Save")
	sc, err := NewClusterSecrets()
	require.NoError(t, err)
	wc, err := NewClusterSecrets()
	require.NoError(t, err)
	v.SetCluster("service", sc)
	v.SetCluster("workload", wc)
	require.NoError(t, v.Save())

	for file, mode := range map[string]os.FileMode{vault: 0o600, identity: 0o600, filepath.Dir(identity): 0o700} {
		st, err := os.Stat(file)
		require.NoError(t, err)
		require.Equal(t, mode, st.Mode().Perm(), file)
	}
	data, err := os.ReadFile(vault)
	require.NoError(t, err)
	require.NotContains(t, string(data), "PRIVATE KEY")
	require.NotContains(t, string(data), sc.EncryptionKey)
	entries, err := os.ReadDir(filepath.Dir(vault))
	require.NoError(t, err)
	require.Len(t, entries, 2, "nothing is left beside: %v", entries)

	again, err := Open(vault, identity, nil)
	require.NoError(t, err)
	got, ok := again.Cluster("service")
	require.True(t, ok)
	require.Equal(t, sc, got)
	_, ok = again.Cluster("nobody")
	require.False(t, ok)

	_, err = Create(vault, identity, "umea", nil)
	require.ErrorContains(t, err, "exists already")
	// an identity that is there is used, not replaced
	before, err := os.ReadFile(identity)
	require.NoError(t, err)
	_, err = Create(vault+".other", identity, "other", nil)
	require.NoError(t, err)
	after, err := os.ReadFile(identity)
	require.NoError(t, err)
	require.Equal(t, before, after)
}

func TestClustersShareNothing(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, cluster := range []string{"service", "workload"} {
		s, err := NewClusterSecrets()
		require.NoError(t, err)
		data, err := json.Marshal(s)
		require.NoError(t, err)
		var values map[string]any
		require.NoError(t, json.Unmarshal(data, &values))
		for name, v := range values {
			pair, ok := v.(map[string]any)
			if !ok {
				pair = map[string]any{"": v}
			}
			for half, text := range pair {
				where := cluster + "." + name + "." + half
				require.NotEmpty(t, text, where)
				require.Empty(t, seen[text.(string)], "%s is also %s", where, seen[text.(string)])
				seen[text.(string)] = where
			}
		}
	}
	require.Len(t, seen, 2*9)
}

func TestVaultRecipients(t *testing.T) {
	t.Parallel()
	escrow, err := age.GenerateX25519Identity()
	require.NoError(t, err)
	v, vault, identity := newVault(t, escrow.Recipient().String())
	s, err := NewClusterSecrets()
	require.NoError(t, err)
	v.SetCluster("service", s)
	require.NoError(t, v.Save())
	other := filepath.Join(t.TempDir(), "escrow")
	require.NoError(t, os.WriteFile(other, []byte(escrow.String()+"\n"), 0o600))
	for _, id := range []string{identity, other} {
		opened, err := Open(vault, id, nil)
		require.NoError(t, err)
		got, _ := opened.Cluster("service")
		require.Equal(t, s, got)
	}
	// a recipient that is taken out of the inventory can not open what is saved after that
	opened, err := Open(vault, identity, nil)
	require.NoError(t, err)
	require.NoError(t, opened.Save())
	_, err = Open(vault, other, nil)
	require.ErrorContains(t, err, "not encrypted for the identity")

	for _, open := range []func() (*Vault, error){
		func() (*Vault, error) { return Create(vault+"2", identity, "umea", []string{"age1nonsense"}) },
		func() (*Vault, error) { return Open(vault, identity, []string{"age1nonsense"}) },
	} {
		_, err = open()
		require.ErrorContains(t, err, `vault.recipients: "age1nonsense"`)
	}
}

func TestVaultThatCanNotBeOpened(t *testing.T) {
	t.Parallel()
	_, stranger := files(t)
	_, err := newIdentity(stranger)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		spoil func(t *testing.T, vault, identity string)
		words []string
	}{
		"no identity":           {func(t *testing.T, _, id string) { require.NoError(t, os.Remove(id)) }, []string{"identity", "no such file"}},
		"another identity":      {func(t *testing.T, _, id string) { copyFile(t, stranger, id) }, []string{"not encrypted for the identity", "vault.identityFile"}},
		"identity for everyone": {func(t *testing.T, _, id string) { require.NoError(t, os.Chmod(id, 0o640)) }, []string{"can be read by others (mode 0640)", "chmod 600"}},
		"identity of nonsense": {func(t *testing.T, _, id string) {
			require.NoError(t, os.WriteFile(id, []byte("AGE-SECRET-KEY-1CANARY\n"), 0o600))
		}, []string{"is not an age identity"}},
		"an empty identity": {func(t *testing.T, _, id string) { require.NoError(t, os.WriteFile(id, nil, 0o600)) }, []string{"is not an age identity"}},
		"no vault":          {func(t *testing.T, v, _ string) { require.NoError(t, os.Remove(v)) }, []string{"no such file"}},
		"an empty vault":    {func(t *testing.T, v, _ string) { require.NoError(t, os.WriteFile(v, nil, 0o600)) }, []string{"is damaged", "backup"}},
		"a vault cut short": {func(t *testing.T, v, _ string) {
			st, err := os.Stat(v)
			require.NoError(t, err)
			require.NoError(t, os.Truncate(v, st.Size()-20))
		}, []string{"is damaged", "backup"}},
		"a byte changed": {func(t *testing.T, v, _ string) {
			data, err := os.ReadFile(v)
			require.NoError(t, err)
			data[len(data)-40] ^= 1
			require.NoError(t, os.WriteFile(v, data, 0o600))
		}, []string{"is damaged", "backup"}},
		"another version": {func(t *testing.T, v, id string) { seal(t, v, id, `{"version": 3}`) }, []string{"has version 3, this program reads 1 to 2"}},
		"no JSON":         {func(t *testing.T, v, id string) { seal(t, v, id, "CANARY") }, []string{"invalid character"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, vault, identity := newVault(t)
			require.NoError(t, v.Save())
			c.spoil(t, vault, identity)
			_, err := Open(vault, identity, nil)
			require.Error(t, err)
			for _, w := range c.words {
				require.ErrorContains(t, err, w)
			}
			require.NotContains(t, err.Error(), "CANARY")
		})
	}
	t.Run("a vault of no cluster can be filled", func(t *testing.T) {
		_, vault, identity := newVault(t)
		seal(t, vault, identity, `{"version": 1}`)
		v, err := Open(vault, identity, nil)
		require.NoError(t, err)
		v.SetCluster("service", ClusterSecrets{EncryptionKey: "k"})
		require.NoError(t, v.Save())
	})
}

// seal writes a vault with any content.
func seal(t *testing.T, vault, identity, content string) {
	t.Helper()
	id, err := readIdentity(identity)
	require.NoError(t, err)
	var b bytes.Buffer
	w, err := age.Encrypt(&b, id.Recipient())
	require.NoError(t, err)
	_, err = w.Write([]byte(content))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.NoError(t, os.WriteFile(vault, b.Bytes(), 0o600))
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to, data, 0o600))
}

func TestWriteFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	require.NoError(t, WriteFile(path, []byte("one"), 0o600))
	require.NoError(t, WriteFile(path, []byte("two"), 0o640))
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "two", string(data))
	st, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o640), st.Mode().Perm())

	// a write that fails leaves the old file and nothing beside it
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder"), 0o700))
	require.Error(t, WriteFile(filepath.Join(dir, "folder"), []byte("x"), 0o600))
	require.Error(t, WriteFile(filepath.Join(dir, "nowhere", "f"), []byte("x"), 0o600))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	require.Equal(t, "f folder", strings.Join(names, " "))
}
