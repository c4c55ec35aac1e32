package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/bootstrap/verify"
)

func TestCheckDocument(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	signer, err := verify.NewSigner(private)
	require.NoError(t, err)
	d := verify.New("separation", "Separation", "Nothing is common.", verify.Subject{Site: "umea"})
	d.Add(verify.Breach, "a key", "is in both")
	d.Judge()
	path, err := verify.Write(t.TempDir(), d, signer)
	require.NoError(t, err)
	html := strings.TrimSuffix(path, ".json") + ".html"

	var out bytes.Buffer
	require.NoError(t, checkDocument(&out, path, public, "text"))
	require.NoError(t, checkDocument(&out, html, public, "text"))
	assert.Contains(t, out.String(), "FAIL")
	assert.Contains(t, out.String(), path+": sound")
	assert.Contains(t, out.String(), html+": sound")

	for _, file := range []string{path, html} {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, bytes.Replace(data, []byte("is in both"), []byte("is in none"), 1), 0o600))
		require.ErrorIs(t, checkDocument(&out, file, public, "text"), verify.ErrChanged)
	}
}

func TestVerdictChoosesTheExitCode(t *testing.T) {
	t.Parallel()
	for v, want := range map[verify.Verdict]int{verify.Fail: 1, verify.Unjudged: 4} {
		var code *exitCode
		require.ErrorAs(t, verdict(verify.Document{Verdict: v}), &code)
		assert.Equal(t, want, code.code)
	}
	require.NoError(t, verdict(verify.Document{Verdict: verify.Pass}))
}

func TestHostPort(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"https://s3.example": "s3.example:443", "https://10.0.0.1:9000": "10.0.0.1:9000"} {
		got, err := hostPort(in)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
}
