package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
)

// Authority is a file of authorities (PEM) for servers that ask for no client certificate, such as a site's own S3.
type Authority struct{ path string }

// OpenAuthority checks that the file can be used. It is read anew at each connection, so a changed one counts from the next.
func OpenAuthority(path string) (Authority, error) {
	a := Authority{path: path}
	_, err := a.pool()
	return a, err
}

func (a Authority) pool() (*x509.CertPool, error) {
	pem, err := os.ReadFile(a.path)
	if err != nil {
		return nil, fmt.Errorf("authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("authorities: %s holds no certificate", a.path)
	}
	return pool, nil
}

// Dial opens a TLS connection and verifies the server against the file's authorities, and no others. It is for
// http.Transport.DialTLSContext.
func (a Authority) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	pool, err := a.pool()
	if err != nil {
		return nil, err
	}
	return dial(ctx, network, address, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool})
}
