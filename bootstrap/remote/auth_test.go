package remote

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/catamaran-k8s/catamaran/bootstrap/remote/sshdtest"
)

// knownFile writes a known_hosts file.
func knownFile(t *testing.T, lines ...string) string {
	t.Helper()
	f := filepath.Join(t.TempDir(), "known_hosts")
	require.NoError(t, os.WriteFile(f, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	return f
}

func TestHostKeys(t *testing.T) {
	t.Parallel()
	s := sshdtest.Start(t)
	addr := fmt.Sprintf("[127.0.0.1]:%d", s.Port)
	stranger := sshdtest.WriteKey(t, filepath.Join(t.TempDir(), "k"), ssh.KeyAlgoED25519, "").PublicKey()
	fingerprint := func(kind string) string { return ssh.FingerprintSHA256(s.HostKeys[kind].PublicKey()) }
	public := func(k ssh.PublicKey) string { return string(ssh.MarshalAuthorizedKey(k)) }
	line := func(k ssh.PublicKey) string { return knownhosts.Line([]string{addr}, k) }
	own := func(kind string) ssh.PublicKey { return s.HostKeys[kind].PublicKey() }

	for name, c := range map[string]struct {
		pins, known []string
		op          string // empty: it must connect
		words       []string
	}{
		"pinned ed25519 fingerprint":        {pins: []string{fingerprint(ssh.KeyAlgoED25519)}},
		"pinned ecdsa fingerprint":          {pins: []string{fingerprint(ssh.KeyAlgoECDSA256)}},
		"pinned rsa fingerprint":            {pins: []string{fingerprint(ssh.KeyAlgoRSA)}},
		"pinned ed25519 public key":         {pins: []string{public(own(ssh.KeyAlgoED25519))}},
		"pinned rsa public key":             {pins: []string{public(own(ssh.KeyAlgoRSA))}},
		"one of two pins":                   {pins: []string{public(stranger), public(own(ssh.KeyAlgoECDSA256))}},
		"fingerprint beside a public key":   {pins: []string{public(stranger), fingerprint(ssh.KeyAlgoRSA)}},
		"another fingerprint":               {pins: []string{ssh.FingerprintSHA256(stranger)}, op: "host key", words: []string{ssh.FingerprintSHA256(stranger), "the machine shows SHA256:", "reinstalled"}},
		"another public key":                {pins: []string{public(stranger)}, op: "host key", words: []string{fingerprint(ssh.KeyAlgoED25519)}},
		"a pin wins over known_hosts":       {pins: []string{public(stranger)}, known: []string{line(own(ssh.KeyAlgoED25519))}, op: "host key"},
		"no pin at all":                     {op: "host key", words: []string{"not known", "catamaran trust"}},
		"a broken pin":                      {pins: []string{"SHA256:short"}, op: "host key", words: []string{"not a SHA256 fingerprint"}},
		"nonsense as a pin":                 {pins: []string{"hello"}, op: "host key", words: []string{"neither"}},
		"known ed25519":                     {known: []string{line(own(ssh.KeyAlgoED25519))}},
		"known ecdsa only":                  {known: []string{line(own(ssh.KeyAlgoECDSA256))}},
		"known rsa only":                    {known: []string{line(own(ssh.KeyAlgoRSA))}},
		"known hashed":                      {known: []string{knownhosts.HashHostname(knownhosts.Normalize(addr)) + " " + public(own(ssh.KeyAlgoRSA))}},
		"known under another name only":     {known: []string{knownhosts.Line([]string{"[127.0.0.2]:22"}, own(ssh.KeyAlgoED25519))}, op: "host key", words: []string{"not known"}},
		"known with another key":            {known: []string{line(stranger)}, op: "host key", words: []string{"knows " + ssh.FingerprintSHA256(stranger), "the machine shows " + fingerprint(ssh.KeyAlgoED25519)}},
		"revoked":                           {known: []string{line(own(ssh.KeyAlgoED25519)), "@revoked " + line(own(ssh.KeyAlgoED25519))}, op: "host key", words: []string{"revoked"}},
		"a known_hosts file that is broken": {known: []string{"this is no known_hosts"}, op: "host key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := serverTarget(s, "root")
			target.HostKeys = c.pins
			if c.known != nil {
				target.KnownHosts = []string{knownFile(t, c.known...)}
			}
			err := connect(t, target).Connect(testContext(t))
			if c.op == "" {
				require.NoError(t, err)
				return
			}
			requireFails(t, err, Permanent, c.op, append(c.words, "m1 (127.0.0.1)")...)
		})
	}
}

func TestHostKeyOfATypeThatTheMachineLacks(t *testing.T) {
	t.Parallel()
	s := sshdtest.Start(t, "HostKey /run/private/host_ssh-rsa")
	target := serverTarget(s, "root")
	target.HostKeys = []string{string(ssh.MarshalAuthorizedKey(s.HostKeys[ssh.KeyAlgoED25519].PublicKey()))}
	requireFails(t, connect(t, target).Connect(testContext(t)), Permanent, "host key type", "pin a key that the machine has")
	target.HostKeys = []string{ssh.FingerprintSHA256(s.HostKeys[ssh.KeyAlgoRSA].PublicKey())}
	require.NoError(t, connect(t, target).Connect(testContext(t)))
}

func TestNoCommonCipher(t *testing.T) {
	t.Parallel()
	s := sshdtest.Start(t, "Ciphers aes256-cbc")
	requireFails(t, connect(t, serverTarget(s, "root")).Connect(testContext(t)), Permanent, "handshake", "current algorithms")
}

func TestKeys(t *testing.T) {
	t.Parallel()
	s := sshdtest.Start(t)
	dir := t.TempDir()
	file := func(name, kind, phrase string) (string, string) {
		f := filepath.Join(dir, name)
		return f, string(ssh.MarshalAuthorizedKey(sshdtest.WriteKey(t, f, kind, phrase).PublicKey()))
	}
	rsaKey, rsaPub := file("rsa", ssh.KeyAlgoRSA, "")
	lockedKey, lockedPub := file("locked", ssh.KeyAlgoED25519, canaryPhrase)
	strangerKey, _ := file("stranger", ssh.KeyAlgoECDSA256, "")
	notKey := filepath.Join(dir, "not-a-key")
	require.NoError(t, os.WriteFile(notKey, []byte("hello "+canaryPhrase), 0o600))
	root := connect(t, serverTarget(s, "root"))
	run1(t, root, Command{Script: "cat >> /run/keys/authorized_keys", Stdin: strings.NewReader(rsaPub + lockedPub)})

	phrase := func(p string) func() ([]byte, error) { return func() ([]byte, error) { return []byte(p), nil } }
	for name, c := range map[string]struct {
		files  []string
		phrase func() ([]byte, error)
		words  []string // empty: it must connect
	}{
		"rsa":                      {files: []string{rsaKey}},
		"second key is the right":  {files: []string{strangerKey, rsaKey}},
		"encrypted":                {files: []string{lockedKey}, phrase: phrase(canaryPhrase)},
		"encrypted, no passphrase": {files: []string{lockedKey}, words: []string{"is encrypted", "ssh.keyPassphrase"}},
		"encrypted, a wrong one":   {files: []string{lockedKey}, phrase: phrase(canaryWrong), words: []string{"does not open", lockedKey}},
		"passphrase unreadable":    {files: []string{lockedKey}, phrase: func() ([]byte, error) { return nil, os.ErrPermission }, words: []string{"permission denied"}},
		"wrong key":                {files: []string{strangerKey}, words: []string{"unable to authenticate", "authorized_keys of root"}},
		"no such file":             {files: []string{filepath.Join(dir, "none")}, words: []string{"no such file"}},
		"not a key":                {files: []string{notKey}, words: []string{notKey}},
		"no key at all":            {words: []string{"no key to sign in with", "ssh.keyFile"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := serverTarget(s, "root")
			target.KeyFiles, target.Passphrase = c.files, c.phrase
			err := connect(t, target).Connect(testContext(t))
			if c.words == nil {
				require.NoError(t, err)
				return
			}
			requireFails(t, err, Permanent, "authenticate", c.words...)
		})
	}
	t.Run("an encrypted key is opened once for all hosts", func(t *testing.T) {
		ring := newKeyring()
		target := serverTarget(s, "root")
		target.Passphrase = phrase(canaryPhrase)
		for range 3 {
			_, err := ring.open(New(target), lockedKey)
			require.NoError(t, err)
		}
		require.Len(t, ring.opened, 1)
	})
}

func TestAgent(t *testing.T) {
	s := sshdtest.Start(t)
	sock := filepath.Join(t.TempDir(), "agent")
	t.Setenv("SSH_AUTH_SOCK", sock)
	target := serverTarget(s, "root")
	target.KeyFiles, target.Agent = nil, true
	requireFails(t, connect(t, target).Connect(testContext(t)), Permanent, "authenticate", "start an agent")

	c := exec.Command("ssh-agent", "-D", "-a", sock)
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() }) // it is killed
	_, err = out.Read(make([]byte, 1))                       // it speaks when the socket is there
	require.NoError(t, err)

	requireFails(t, connect(t, target).Connect(testContext(t)), Permanent, "authenticate", "no key to sign in with")
	added, err := exec.Command("ssh-add", "-q", s.Client).CombinedOutput()
	require.NoError(t, err, "%s", added)
	require.Equal(t, "root\n", run1(t, connect(t, target), Command{Script: "id -un"}))

	t.Run("more keys than sshd tries", func(t *testing.T) {
		_, err := exec.Command("ssh-add", "-q", "-D").CombinedOutput()
		require.NoError(t, err)
		for i := range 7 {
			f := filepath.Join(t.TempDir(), fmt.Sprint(i))
			sshdtest.WriteKey(t, f, ssh.KeyAlgoED25519, "")
			added, err := exec.Command("ssh-add", "-q", f).CombinedOutput()
			require.NoError(t, err, "%s", added)
		}
		requireFails(t, connect(t, target).Connect(testContext(t)), Permanent, "authenticate")
	})
}
