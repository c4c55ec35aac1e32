// Package query reads what the service cluster keeps, as the operator: logs in Loki, metrics in Thanos, locked objects in S3,
// and the gateway's own figures. Connections go through SSH of a node of the service cluster, so that nothing has to be
// opened for it, and show a client certificate that lives for hours and never leaves memory. Nothing here writes.
package query

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
	"github.com/catamaran-k8s/catamaran/embedded"
)

// Way opens a connection from a machine that reaches the service cluster's Services, such as remote.Host's Dial.
type Way func(ctx context.Context, network, address string) (net.Conn, error)

// Keys are what the site's vault holds for reading.
type Keys struct {
	// ServiceCA signs the service cluster's servers and their clients.
	ServiceCA pki.KeyPair
	// ReaderAccess and ReaderSecret may read and list the evidence bucket, and nothing else.
	ReaderAccess, ReaderSecret string
}

// maxAnswer bounds one answer in memory, in bytes. What is asked for is bounded by its own limits long before.
const maxAnswer = 64 << 20

// validity is how long the operator's certificate lives, from five minutes before: longer than any check, shorter than a
// day's work.
const validity = 2 * time.Hour

// timeout bounds one request.
const timeout = 30 * time.Second

// Stores reaches the service cluster's stores. It is safe for concurrent use.
type Stores struct {
	way    Way
	client kubernetes.Interface
	tls    *tls.Config
	keys   Keys
	http   *http.Client

	mu        sync.Mutex
	addresses map[string]string // Service's name to its address
}

// New prepares to read; it does not connect. client is one of the service cluster, operator the name in the certificate.
func New(way Way, client kubernetes.Interface, keys Keys, operator string) (*Stores, error) {
	// its organisation tells the operator from the platform's own parts
	pair, err := pki.Issue(keys.ServiceCA, pki.CertificateRequest{
		CommonName: operator, Organization: []string{"catamaran:operators"}, DNSNames: []string{embedded.OperatorName}, Client: true,
	}, time.Now().Add(-5*time.Minute), validity)
	if err != nil {
		return nil, fmt.Errorf("a certificate to read the service cluster with: %w", err)
	}
	cert, err := tls.X509KeyPair([]byte(pair.Cert), []byte(pair.Key))
	if err != nil {
		return nil, fmt.Errorf("a certificate to read the service cluster with: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(keys.ServiceCA.Cert)) {
		return nil, errors.New("the vault's authority of the service cluster's parts is not PEM")
	}
	s := &Stores{way: way, client: client, keys: keys, addresses: map[string]string{}, tls: &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{cert},
	}}
	s.http = &http.Client{Timeout: timeout, Transport: &http.Transport{
		DialTLSContext: s.dialTLS, MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute,
	}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return s, nil
}

// dialTLS connects to a Service by its name, NAME.NAMESPACE.svc:PORT. The name is resolved by the API and verified in the
// server's certificate: the node that the connection passes through needs no DNS of the cluster.
func (s *Stores) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	ip, err := s.address(ctx, host)
	if err != nil {
		return nil, err
	}
	raw, err := s.way(ctx, network, net.JoinHostPort(ip, port))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	config := s.tls.Clone()
	config.ServerName = host
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close() // the handshake's error is what counts
		return nil, fmt.Errorf("%s: TLS: %w", address, err)
	}
	return conn, nil
}

func (s *Stores) address(ctx context.Context, host string) (string, error) {
	s.mu.Lock()
	ip, ok := s.addresses[host]
	s.mu.Unlock()
	if ok {
		return ip, nil
	}
	name, rest, _ := strings.Cut(host, ".")
	namespace, kind, _ := strings.Cut(rest, ".")
	if name == "" || namespace == "" || kind != "svc" {
		return "", fmt.Errorf("%q is not the name of a Service: expected NAME.NAMESPACE.svc", host)
	}
	svc, err := s.client.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("find the service cluster's %s: %w; is the platform installed?", host, err)
	}
	if net.ParseIP(svc.Spec.ClusterIP) == nil {
		return "", fmt.Errorf("the Service %s/%s has no address of its own (%q)", namespace, name, svc.Spec.ClusterIP)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addresses[host] = svc.Spec.ClusterIP
	return svc.Spec.ClusterIP, nil
}

// get fetches a page and returns its body. A status that is not 200 is an error with the beginning of the answer.
func (s *Stores) get(ctx context.Context, url string, header http.Header) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	res, err := s.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close() //nolint:errcheck // only read
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", req.URL.Host, err)
	case len(body) > maxAnswer:
		return nil, fmt.Errorf("%s answers with more than %d MiB", req.URL.Host, maxAnswer>>20)
	case res.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s answers %s: %.300s", req.URL.Host, res.Status, body)
	}
	return body, nil
}
