// Package certs reads certificates from folders in the form of mounted Secrets (tls.crt, tls.key, ca.crt), follows their
// changes, and says whose a client's certificate is.
package certs

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Folder is a mounted Secret of type kubernetes.io/tls with ca.crt. Changes are seen at the next connection, at most
// Interval later; files that do not fit together are passed over until they do.
type Folder struct {
	path     string
	interval time.Duration
	failed   func(error)

	mu      sync.Mutex
	checked time.Time
	sum     [sha256.Size]byte
	pair    *tls.Certificate
	pool    *x509.CertPool
}

// Interval is how often a folder is looked at, at most.
const Interval = 10 * time.Second

// Open reads a folder. failed is told when a later read fails; the last good certificates stay in use then.
func Open(path string, interval time.Duration, failed func(error)) (*Folder, error) {
	f := &Folder{path: path, interval: interval, failed: failed}
	if err := f.read(); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *Folder) read() error {
	var parts [3][]byte
	hash := sha256.New()
	for i, name := range []string{"tls.crt", "tls.key", "ca.crt"} {
		b, err := os.ReadFile(filepath.Join(f.path, name))
		if err != nil {
			return fmt.Errorf("certificate folder: %w", err)
		}
		parts[i] = b
		fmt.Fprintf(hash, "%d ", len(b)) //nolint:errcheck // a hash takes everything
		hash.Write(b)
	}
	sum := [sha256.Size]byte(hash.Sum(nil))
	if f.pair != nil && sum == f.sum {
		return nil
	}
	pair, err := tls.X509KeyPair(parts[0], parts[1])
	if err != nil {
		return fmt.Errorf("certificate folder %s: tls.crt and tls.key: %w", f.path, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(parts[2]) {
		return fmt.Errorf("certificate folder %s: ca.crt holds no certificate", f.path)
	}
	f.sum, f.pair, f.pool = sum, &pair, pool
	return nil
}

func (f *Folder) current() (*tls.Certificate, *x509.CertPool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); now.Sub(f.checked) >= f.interval {
		f.checked = now
		if err := f.read(); err != nil && f.failed != nil {
			f.failed(err)
		}
	}
	return f.pair, f.pool
}

// NotAfter is the end of the folder's own certificate.
func (f *Folder) NotAfter() time.Time {
	pair, _ := f.current()
	return pair.Leaf.NotAfter
}

// Server is for listeners: it asks for a client certificate of ca.crt. Sessions are not resumed, because a resumed one
// would outlive a change of ca.crt.
func (f *Folder) Server(protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			pair, pool := f.current()
			return &tls.Config{
				MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*pair}, NextProtos: protocols,
				ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, SessionTicketsDisabled: true,
			}, nil
		},
	}
}

// Dial opens a TLS connection that shows the folder's certificate and verifies the server's against ca.crt. It is for
// http.Transport.DialTLSContext.
func (f *Folder) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	pair, pool := f.current()
	return dial(ctx, network, address, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, Certificates: []tls.Certificate{*pair}})
}

// dial opens a TLS connection and verifies the server for the address's host.
func dial(ctx context.Context, network, address string, config *tls.Config) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	config.ServerName = host
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}, Config: config}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return d.DialContext(ctx, network, address)
}

// Tenant returns whose a client certificate is: CN and the only Organization are the tenant's name.
func Tenant(c *x509.Certificate) (string, error) {
	if len(c.Subject.Organization) != 1 {
		return "", fmt.Errorf("the client certificate %q has %d organizations, expected one", c.Subject.CommonName, len(c.Subject.Organization))
	}
	if c.Subject.CommonName == "" {
		return "", errors.New("the client certificate has no common name")
	}
	if o := c.Subject.Organization[0]; o != c.Subject.CommonName {
		return "", fmt.Errorf("the client certificate's common name is %q, its organization %q, expected the same", c.Subject.CommonName, o)
	}
	return c.Subject.CommonName, nil
}
