package certs_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/certs"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/certs/certstest"
)

// A server that the site's own authority has signed is believed; one of another authority, or of another name, is not.
func TestAuthority(t *testing.T) {
	t.Parallel()
	site, other := certstest.New(t, "site"), certstest.New(t, "other")
	cert, key := site.Issue(t, pkix.Name{CommonName: "s3"}, nil)
	pair, err := tls.X509KeyPair(cert, key)
	require.NoError(t, err)
	address := answer(t, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}})

	file := filepath.Join(t.TempDir(), "ca.crt")
	_, err = certs.OpenAuthority(file)
	require.ErrorContains(t, err, "authorities: open "+file)
	require.NoError(t, os.WriteFile(file, []byte("nothing"), 0o600))
	_, err = certs.OpenAuthority(file)
	require.ErrorContains(t, err, file+" holds no certificate")

	require.NoError(t, os.WriteFile(file, site.PEM, 0o600))
	authority, err := certs.OpenAuthority(file)
	require.NoError(t, err)
	require.NoError(t, try(authority.Dial(t.Context(), "tcp", address)))

	require.NoError(t, os.WriteFile(file, other.PEM, 0o600))
	var verify *tls.CertificateVerificationError
	require.ErrorAs(t, try(authority.Dial(t.Context(), "tcp", address)), &verify, "the file is read anew")

	elsewhere, key := site.Issue(t, pkix.Name{CommonName: "s3"}, withoutAddresses)
	pair, err = tls.X509KeyPair(elsewhere, key)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, site.PEM, 0o600))
	address = answer(t, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}})
	err = try(authority.Dial(t.Context(), "tcp", address))
	require.ErrorAs(t, err, &verify)
	assert.ErrorContains(t, err, "127.0.0.1")
}

func withoutAddresses(c *x509.Certificate) { c.IPAddresses = nil }
