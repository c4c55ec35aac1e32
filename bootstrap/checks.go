package bootstrap

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"time"

	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// signingPassword is the vault's password whose 256 bits are the seed of the key that signs documents.
const signingPassword = "document-signing-key"

// SigningKey is the key with which the site vouches for its documents. It is made on first use and lies in the vault.
func (s *Site) SigningKey() (ed25519.PrivateKey, error) {
	p, err := s.platformSecretsAlone("sign", signingPassword)
	if err != nil {
		return nil, fmt.Errorf("the key that signs documents: %w", err)
	}
	seed, err := base64.RawURLEncoding.DecodeString(p.Passwords[signingPassword])
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("the vault's password %s is not %d bytes in base64url", signingPassword, ed25519.SeedSize)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// ServiceCA is the authority of the service cluster's parts among themselves.
func (s *Site) ServiceCA() (pki.KeyPair, error) {
	p, err := s.platformSecretsAlone("verify")
	return p.ServiceCA, err
}

// InventoryDigest is the SHA-256 of the inventory file, in hex.
func (s *Site) InventoryDigest() (string, error) {
	data, err := os.ReadFile(s.Inventory.Path)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// controlValidity is how long the certificates of ControlCertificates live: longer than any check.
const controlValidity = 2 * time.Hour

// ControlCertificates are certificates that open the service cluster: as its parts, as its administrator, and for its etcd.
// Checks show with them that what was refused to others would have worked. They never leave memory.
func (s *Site) ControlCertificates() (map[string]tls.Certificate, error) {
	platform, err := s.platformSecretsAlone("verify")
	if err != nil {
		return nil, err
	}
	sc, err := s.secrets(inventory.Service)
	if err != nil {
		return nil, err
	}
	begin := time.Now().Add(-5 * time.Minute)
	parts := []string{
		"grafana.grafana.svc", "prometheus.prometheus.svc", "thanos-query.thanos.svc", "thanos-rule.thanos.svc",
		"alertmanager.alertmanager.svc", "ingest-gateway.ingest-gateway.svc",
	}
	out := map[string]tls.Certificate{}
	for name, make := range map[string]func() (pki.KeyPair, error){
		"as a part of the service cluster": func() (pki.KeyPair, error) {
			return pki.Issue(platform.ServiceCA, pki.CertificateRequest{CommonName: "catamaran-verify", DNSNames: parts, Client: true}, begin, controlValidity)
		},
		"as the service cluster's administrator": func() (pki.KeyPair, error) {
			return pki.AdminCertificate(sc.CA, s.Operator, begin, controlValidity)
		},
		"as a client of the service cluster's etcd": func() (pki.KeyPair, error) {
			return pki.Issue(sc.EtcdCA, pki.CertificateRequest{CommonName: "catamaran-verify", Client: true}, begin, controlValidity)
		},
	} {
		pair, err := make()
		if err != nil {
			return nil, fmt.Errorf("a certificate %s: %w", name, err)
		}
		if out[name], err = tls.X509KeyPair([]byte(pair.Cert), []byte(pair.Key)); err != nil {
			return nil, fmt.Errorf("a certificate %s: %w", name, err)
		}
	}
	return out, nil
}
