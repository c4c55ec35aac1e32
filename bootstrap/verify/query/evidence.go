package query

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/store"
)

// Bucket says where the locked objects are. The zero value is the platform's own store.
type Bucket struct {
	// Endpoint is https://HOST[:PORT]. One that ends in .svc is a Service of the service cluster; any other is reached
	// directly, and its certificate verified by CA (PEM), or without it by the system's authorities.
	Endpoint, Region, Name string
	CA                     []byte
}

// Evidence reads the bucket of locked objects with the reader's key.
func (s *Stores) Evidence(b Bucket) (*store.S3, error) {
	if b.Endpoint == "" {
		b = Bucket{Endpoint: "https://versitygw.versitygw.svc:7070", Region: "us-east-1", Name: "evidence"}
	}
	u, err := url.Parse(b.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("the bucket's endpoint: %w", err)
	}
	opt := store.Options{
		Endpoint: b.Endpoint, Region: b.Region, Bucket: b.Name,
		Keys: credentials.NewStaticV4(s.keys.ReaderAccess, s.keys.ReaderSecret, ""),
	}
	switch {
	case strings.HasSuffix(u.Hostname(), ".svc"):
		opt.Dial = s.dialTLS
	case b.CA != nil:
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(b.CA) {
			return nil, errors.New("the authority of the bucket's endpoint is not PEM")
		}
		opt.Dial = (&tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}}).DialContext
	}
	return store.New(opt)
}
