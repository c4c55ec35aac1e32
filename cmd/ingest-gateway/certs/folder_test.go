package certs_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/certs"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/certs/certstest"
)

// answer serves one byte to each connection that gets through.
func answer(t *testing.T, cfg *tls.Config) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				_, _ = conn.Write([]byte("x"))
			}()
		}
	}()
	return l.Addr().String()
}

func try(conn net.Conn, err error) error {
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_, err = conn.Read(make([]byte, 1))
	return err
}

func TestChangedCertificatesAreUsed(t *testing.T) {
	t.Parallel()
	old, next := certstest.New(t, "old"), certstest.New(t, "next")
	serverDir, clientDir := old.Folder(t, "server", old), old.Folder(t, "client", old)
	var failures int
	server, err := certs.Open(serverDir, 0, func(error) { failures++ })
	require.NoError(t, err)
	client, err := certs.Open(clientDir, 0, nil)
	require.NoError(t, err)
	address := answer(t, server.Server())
	dial := func() error { return try(client.Dial(context.Background(), "tcp", address)) }
	require.NoError(t, dial())

	require.NoError(t, os.WriteFile(filepath.Join(serverDir, "tls.key"), []byte("half written"), 0o600))
	require.NoError(t, dial(), "the last good ones stay in use")
	assert.Positive(t, failures)

	next.Write(t, serverDir, "server", next)
	require.Error(t, dial(), "the client trusts the old authority")
	next.Write(t, clientDir, "client", next)
	require.NoError(t, dial())
}

func TestClientsWithoutTheRightCertificate(t *testing.T) {
	t.Parallel()
	ca, other := certstest.New(t, "ca"), certstest.New(t, "ca")
	folder, err := certs.Open(ca.Folder(t, "server", ca), certs.Interval, nil)
	require.NoError(t, err)
	address := answer(t, folder.Server())
	dial := func(cfg *tls.Config) error { return try(tls.Dial("tcp", address, cfg)) }
	name := pkix.Name{CommonName: "umea", Organization: []string{"umea"}}
	require.NoError(t, dial(ca.Client(t, "umea", ca)))

	none := ca.Client(t, "umea", ca)
	none.Certificates = nil
	require.Error(t, dial(none), "no certificate")
	require.Error(t, dial(other.Client(t, "umea", ca)), "another authority of the same name")
	require.Error(t, dial(ca.ClientAs(t, name, ca, func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(1) })), "expired")
	require.Error(t, dial(ca.ClientAs(t, name, ca, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })), "a server's")
	old := ca.Client(t, "umea", ca)
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	require.Error(t, dial(old), "TLS 1.1")
}

func TestTenant(t *testing.T) {
	t.Parallel()
	for want, name := range map[string]pkix.Name{
		"umea":     {CommonName: "umea", Organization: []string{"umea"}},
		"!0":       {CommonName: "umea"},
		"!2":       {CommonName: "umea", Organization: []string{"umea", "lund"}},
		"!another": {CommonName: "umea", Organization: []string{"lund"}},
		"!no name": {Organization: []string{""}},
	} {
		got, err := certs.Tenant(&x509.Certificate{Subject: name})
		if want[0] == '!' {
			assert.Error(t, err, want)
			assert.Empty(t, got)
		} else {
			assert.NoError(t, err)
			assert.Equal(t, want, got)
		}
	}
}

func TestFoldersThatDoNotFit(t *testing.T) {
	t.Parallel()
	ca := certstest.New(t, "ca")
	for name, harm := range map[string]func(dir string) error{
		"no key":       func(dir string) error { return os.Remove(filepath.Join(dir, "tls.key")) },
		"no authority": func(dir string) error { return os.WriteFile(filepath.Join(dir, "ca.crt"), []byte("x"), 0o600) },
	} {
		dir := ca.Folder(t, "server", ca)
		require.NoError(t, harm(dir))
		_, err := certs.Open(dir, 0, nil)
		assert.ErrorContains(t, err, dir, name)
	}
}
