// Package certstest makes certificate authorities and folders for tests.
package certstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// CA is a certificate authority.
type CA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	// PEM is its certificate.
	PEM []byte
}

// New makes an authority.
func New(t testing.TB, name string) *CA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &CA{cert: cert, key: key, PEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// Issue makes a certificate for localhost and 127.0.0.1, for servers and clients. change, when set, changes the template.
func (c *CA) Issue(t testing.TB, subject pkix.Name, change func(*x509.Certificate)) (cert, key []byte) {
	t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: serial(t), Subject: subject, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, &own.PublicKey, c.key)
	require.NoError(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(own)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

// Folder writes a folder with a certificate of c, whose ca.crt is trusts'.
func (c *CA) Folder(t testing.TB, name string, trusts *CA) string {
	t.Helper()
	dir := t.TempDir()
	c.Write(t, dir, name, trusts)
	return dir
}

// Write writes a new certificate into a folder.
func (c *CA) Write(t testing.TB, dir, name string, trusts *CA) {
	t.Helper()
	cert, key := c.Issue(t, pkix.Name{CommonName: name, Organization: []string{name}}, nil)
	for file, content := range map[string][]byte{"tls.crt": cert, "tls.key": key, "ca.crt": trusts.PEM} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, file), content, 0o600))
	}
}

// Client is a client's TLS configuration with a certificate of c for a tenant; it trusts servers of server.
func (c *CA) Client(t testing.TB, tenant string, server *CA) *tls.Config {
	t.Helper()
	return c.ClientAs(t, pkix.Name{CommonName: tenant, Organization: []string{tenant}}, server, nil)
}

// ClientAs is Client with any subject and changes to the template.
func (c *CA) ClientAs(t testing.TB, subject pkix.Name, server *CA, change func(*x509.Certificate)) *tls.Config {
	t.Helper()
	cert, key := c.Issue(t, subject, change)
	pair, err := tls.X509KeyPair(cert, key)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(server.cert)
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, RootCAs: pool, ServerName: "localhost"}
}

func serial(t testing.TB) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(t, err)
	return n
}
