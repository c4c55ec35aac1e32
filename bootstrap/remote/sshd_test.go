package remote

import (
	"context"
	"flag"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/catamaran-k8s/catamaran/bootstrap/remote/sshdtest"
)

func TestMain(m *testing.M) {
	// most of these tests wait for other processes
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// Secrets of the tests. No error, log or process list may show them.
const (
	canarySudo   = sshdtest.Password
	canaryPhrase = "canary-passphrase"
	canaryWrong  = "canary-wrong-pw"
)

var canaries = []string{canarySudo, canaryPhrase, canaryWrong}

// requireNoCanary fails when a text shows a secret.
func requireNoCanary(t *testing.T, text string) {
	t.Helper()
	for _, c := range canaries {
		require.NotContains(t, text, c)
	}
}

// requireFails checks kind, operation and that the message names the machine and no secret.
func requireFails(t *testing.T, err error, kind Kind, op string, words ...string) {
	t.Helper()
	require.Error(t, err)
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, kind, e.Kind, "%v", err)
	require.Equal(t, op, e.Op, "%v", err)
	require.Equal(t, kind == Permanent, IsPermanent(err))
	require.Equal(t, kind == Passing, IsPassing(err))
	for _, w := range words {
		require.Contains(t, err.Error(), w)
	}
	requireNoCanary(t, err.Error())
}

// patience is how long what must happen may take: on a busy machine an sshd that forks takes more than the ten seconds that a
// dial has by default. Tests of what runs out of time, and of links that are lost, set their own.
const patience = 5 * time.Minute

// serverTarget reaches the server as a user with everything right.
func serverTarget(s *sshdtest.Server, user string) Target {
	return Target{
		ConnectTimeout: patience, KeepAlive: time.Minute,
		Name: "m1", Address: "127.0.0.1", Port: s.Port, User: user, KeyFiles: []string{s.Client},
		HostKeys: []string{ssh.FingerprintSHA256(s.HostKeys[ssh.KeyAlgoED25519].PublicKey())},
	}
}

// connect opens a host that the test closes.
func connect(t *testing.T, target Target) *Host {
	t.Helper()
	jumps := NewJumps()
	h := New(target, WithJumps(jumps))
	t.Cleanup(func() {
		require.NoError(t, h.Close())
		jumps.Close()
	})
	return h
}

func sudoPassword(pw string) func() ([]byte, error) {
	return func() ([]byte, error) { return []byte(pw), nil }
}

// run runs a script that must succeed.
func run1(t *testing.T, h *Host, c Command) string {
	t.Helper()
	res, err := h.Run(testContext(t), c)
	require.NoError(t, err)
	return string(res.Stdout)
}

// testContext bounds what a broken implementation can hang.
func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// pattern is an endless reader of bytes that do not compress.
type pattern struct{ n uint64 }

func (r *pattern) Read(p []byte) (int, error) {
	for i := range p {
		r.n = r.n*6364136223846793005 + 1442695040888963407
		p[i] = byte(r.n >> 56)
	}
	return len(p), nil
}
