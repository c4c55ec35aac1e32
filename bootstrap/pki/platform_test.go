package pki

import (
	"crypto/x509"
	"encoding/pem"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func parsed(t *testing.T, certPEM string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(certPEM))
	require.NotNil(t, block)
	cert, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	return cert
}

// A vault of before the platform opens, and a program of before the platform refuses one that has it.
func TestPlatformInAnOldVault(t *testing.T) {
	t.Parallel()
	_, vault, identity := newVault(t)
	seal(t, vault, identity, `{"version": 1, "site": "umea", "clusters": {"service": {"encryptionKey": "k"}}}`)
	v, err := Open(vault, identity, nil)
	require.NoError(t, err)
	_, ok := v.Platform()
	require.False(t, ok)
	require.NoError(t, v.Save())
	require.Equal(t, 1, v.doc.Version, "nothing in it is new")

	want, err := NewPlatformSecrets()
	require.NoError(t, err)
	want.Passwords["loki"], err = NewPassword()
	require.NoError(t, err)
	v.SetPlatform(want)
	require.NoError(t, v.Save())
	again, err := Open(vault, identity, nil)
	require.NoError(t, err)
	require.Equal(t, 2, again.doc.Version)
	got, ok := again.Platform()
	require.True(t, ok)
	require.Equal(t, want, got)
	sc, _ := again.Cluster("service")
	require.Equal(t, "k", sc.EncryptionKey)
	got.Passwords["loki"] = "changed"
	kept, _ := again.Platform()
	require.Equal(t, want, kept, "what is handed out is a copy")
}

func TestPlatformSecretsAreDifferent(t *testing.T) {
	t.Parallel()
	s, err := NewPlatformSecrets()
	require.NoError(t, err)
	other, err := NewPlatformSecrets()
	require.NoError(t, err)
	a, err := NewPassword()
	require.NoError(t, err)
	b, err := NewPassword()
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, x := range []string{a, b, s.DigestKey, other.DigestKey, s.ServiceCA.Key, s.IngestServerCA.Key, s.IngestClientCA.Key, other.ServiceCA.Key} {
		require.False(t, seen[x])
		seen[x] = true
	}
	require.Regexp(t, `^[A-Za-z0-9_-]{43}$`, a)

	one, err := s.Digest("ab", "c")
	require.NoError(t, err)
	same, err := s.Digest("ab", "c")
	require.NoError(t, err)
	moved, err := s.Digest("a", "bc")
	require.NoError(t, err)
	foreign, err := other.Digest("ab", "c")
	require.NoError(t, err)
	require.Equal(t, one, same)
	require.NotEqual(t, one, moved)
	require.NotEqual(t, one, foreign, "another vault says something else of the same content")
	_, err = PlatformSecrets{}.Digest("x")
	require.Error(t, err)
}

func TestIssue(t *testing.T) {
	t.Parallel()
	s, err := NewPlatformSecrets()
	require.NoError(t, err)
	now := time.Now()
	pair, err := Issue(s.ServiceCA, CertificateRequest{
		CommonName: "loki", Organization: []string{"loki"}, DNSNames: []string{"loki.loki.svc"}, IPs: []string{"127.0.0.1", "fd00::1"}, Server: true, Client: true,
	}, now, 24*time.Hour)
	require.NoError(t, err)
	cert := parsed(t, pair.Cert)
	require.Equal(t, "loki", cert.Subject.CommonName)
	require.WithinDuration(t, now.Add(24*time.Hour), cert.NotAfter, time.Second)
	require.False(t, cert.IsCA)
	verify := func(ca KeyPair, usage x509.ExtKeyUsage) error {
		pool := x509.NewCertPool()
		pool.AddCert(parsed(t, ca.Cert))
		_, err := cert.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{usage}, DNSName: "loki.loki.svc"})
		return err
	}
	require.NoError(t, verify(s.ServiceCA, x509.ExtKeyUsageServerAuth))
	require.NoError(t, verify(s.ServiceCA, x509.ExtKeyUsageClientAuth))
	require.Error(t, verify(s.IngestClientCA, x509.ExtKeyUsageClientAuth), "the authorities do not know each other")
	require.Error(t, verify(s.IngestServerCA, x509.ExtKeyUsageServerAuth))

	pair, err = Issue(s.IngestClientCA, CertificateRequest{CommonName: "t", Client: true}, now, time.Hour)
	require.NoError(t, err)
	require.Equal(t, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, parsed(t, pair.Cert).ExtKeyUsage)
	_, err = Issue(s.ServiceCA, CertificateRequest{CommonName: "x"}, now, time.Hour)
	require.ErrorContains(t, err, "neither server nor client")
	_, err = Issue(s.ServiceCA, CertificateRequest{CommonName: "x", Server: true, IPs: []string{"loki"}}, now, time.Hour)
	require.ErrorContains(t, err, "not an IP address")
}

func TestRedactPlatform(t *testing.T) {
	t.Parallel()
	s, err := NewPlatformSecrets()
	require.NoError(t, err)
	s.Passwords["loki"] = "Canary_7351_Canary_7351"
	r := NewRedactor()
	r.AddPlatform(s)
	text := s.ServiceCA.Key + s.IngestServerCA.Key + s.IngestClientCA.Key + s.DigestKey + s.Passwords["loki"]
	got := r.Text(text)
	require.NotContains(t, got, "Canary")
	require.NotContains(t, got, s.DigestKey)
	for _, k := range []string{s.ServiceCA.Key, s.IngestServerCA.Key, s.IngestClientCA.Key} {
		require.NotContains(t, got, pemBody(k))
	}
	require.Equal(t, s.ServiceCA.Cert, r.Text(s.ServiceCA.Cert), "certificates are public")
}

// pemBody is the first line of a PEM block's content.
func pemBody(text string) string {
	block, _ := pem.Decode([]byte(text))
	return encode(block.Type, block.Bytes)[len("-----BEGIN EC PRIVATE KEY-----\n"):][:64]
}
