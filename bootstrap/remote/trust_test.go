package remote

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/catamaran-k8s/catamaran/bootstrap/remote/sshdtest"
)

func TestScanAndPin(t *testing.T) {
	t.Parallel()
	s := sshdtest.Start(t)
	target := serverTarget(s, "nobody-signs-in")
	target.KeyFiles, target.HostKeys = nil, nil
	jumps := NewJumps()
	defer jumps.Close()
	keys, err := ScanHostKeys(testContext(t), target, jumps)
	require.NoError(t, err)
	require.Len(t, keys, len(s.HostKeys))
	for _, k := range keys {
		require.Equal(t, ssh.FingerprintSHA256(s.HostKeys[k.Type].PublicKey()), k.Fingerprint)
	}

	file := knownFile(t, "# a comment", "other.example ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2b9YbJYk2sV5dJv0mUeM2mS0b3JxQ2pW3n5o8pQw0l")
	require.NoError(t, os.Truncate(file, fileSize(t, file)-1), "a file that somebody's editor left without an end of line")
	require.NoError(t, Pin(file, target.Address, target.Port, keys))
	once, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, 2+len(keys), strings.Count(string(once), "\n"))
	require.NoError(t, Pin(file, target.Address, target.Port, keys), "again")
	twice, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(once), string(twice))

	known, err := IsKnown([]string{"/nowhere", file}, target.Address, target.Port)
	require.NoError(t, err)
	require.True(t, known)
	known, err = IsKnown([]string{file}, target.Address, target.Port+1)
	require.NoError(t, err)
	require.False(t, known)
	_, err = IsKnown([]string{knownFile(t, "nonsense")}, target.Address, target.Port)
	require.Error(t, err)

	target = serverTarget(s, "root")
	target.HostKeys, target.KnownHosts = nil, []string{file}
	require.NoError(t, connect(t, target).Connect(testContext(t)), "what was pinned is what is asked for")
}

func TestPinRefusesOtherKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := func(kind string) HostKey {
		pub := sshdtest.WriteKey(t, filepath.Join(dir, "k"), kind, "").PublicKey()
		return HostKey{Type: pub.Type(), Fingerprint: ssh.FingerprintSHA256(pub), Key: pub}
	}
	ed, other, ecdsa := key(ssh.KeyAlgoED25519), key(ssh.KeyAlgoED25519), key(ssh.KeyAlgoECDSA256)
	file := filepath.Join(dir, "known_hosts")
	require.NoError(t, Pin(file, "10.0.0.1", 22, []HostKey{ed}))
	st, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), st.Mode().Perm())

	err = Pin(file, "10.0.0.1", 22, []HostKey{other})
	require.ErrorContains(t, err, "line 1 knows another ssh-ed25519 key")
	err = Pin(file, "10.0.0.1", 22, []HostKey{ecdsa})
	require.ErrorContains(t, err, "the machine does not show it", "somebody in between could show only types that are not known")
	require.NoError(t, Pin(file, "10.0.0.1", 22, []HostKey{ed, ecdsa}), "a further key beside the known one")
	require.NoError(t, Pin(file, "10.0.0.1", 2222, []HostKey{other}), "another port is another machine")
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, files, 3, "nothing is left beside: %v", files)
}

func TestScanFailures(t *testing.T) {
	t.Parallel()
	s, jump := sshdtest.Start(t), sshdtest.Start(t)
	jumps := NewJumps()
	defer jumps.Close()
	target := serverTarget(s, "root")
	p := sshdtest.StartProxy(t, s.Port)
	p.Set(false, true)
	target.Port = p.Port
	_, err := ScanHostKeys(testContext(t), target, jumps)
	requireFails(t, err, Passing, "handshake")

	hop := serverTarget(jump, "plain")
	hop.HostKeys = []string{ssh.FingerprintSHA256(s.HostKeys[ssh.KeyAlgoRSA].PublicKey())}
	target = serverTarget(s, "root")
	target.Jump = []Target{hop}
	_, err = ScanHostKeys(testContext(t), target, jumps)
	requireFails(t, err, Permanent, "host key", "the pinned key is")

	only := sshdtest.Start(t, "HostKey /run/private/host_ssh-rsa")
	keys, err := ScanHostKeys(testContext(t), serverTarget(only, "root"), jumps)
	require.NoError(t, err)
	require.Len(t, keys, 1)
	require.Equal(t, ssh.KeyAlgoRSA, keys[0].Type)
}

func fileSize(t *testing.T, file string) int64 {
	st, err := os.Stat(file)
	require.NoError(t, err)
	return st.Size()
}
