package remote

import (
	"crypto/ed25519"
	"crypto/rand"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

func TestKnownKeys(t *testing.T) {
	t.Parallel()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	key, err := ssh.NewPublicKey(public)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "known_hosts")
	want := HostKey{Type: key.Type(), Fingerprint: ssh.FingerprintSHA256(key), Key: key}
	require.NoError(t, Pin(file, "10.0.0.1", 2222, []HostKey{want}))
	got, err := KnownKeys([]string{file + "-not", file}, "10.0.0.1", 2222)
	require.NoError(t, err)
	require.Len(t, got, 1)
	assert.Equal(t, want.Fingerprint, got[0].Fingerprint)
	got, err = KnownKeys([]string{file}, "10.0.0.1", 22)
	require.NoError(t, err)
	assert.Empty(t, got, "another port is another machine")
}
