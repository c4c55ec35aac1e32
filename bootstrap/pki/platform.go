package pki

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"time"
)

// PlatformSecrets are the site's secrets of the compliance platform: authorities that no cluster's own authority has
// signed and that trust none, and random passwords.
type PlatformSecrets struct {
	// ServiceCA is for the parts of the service cluster among themselves.
	ServiceCA KeyPair `json:"serviceCA"`
	// IngestServerCA signs what the ingest gateway shows to workload clusters, IngestClientCA what they show to it. They are two
	// so that no certificate of one direction is good for the other.
	IngestServerCA KeyPair `json:"ingestServerCA"`
	IngestClientCA KeyPair `json:"ingestClientCA"`
	// DigestKey is 32 random bytes, base64: the key of digests that are shown outside the vault.
	DigestKey string `json:"digestKey"`
	// Passwords are 32 random bytes each, base64url, by name.
	Passwords map[string]string `json:"passwords"`
}

// NewPlatformSecrets makes all but the passwords, which are made when they are asked for first.
func NewPlatformSecrets() (PlatformSecrets, error) {
	s := PlatformSecrets{Passwords: map[string]string{}}
	var err error
	for _, ca := range []struct {
		to *KeyPair
		cn string
	}{{&s.ServiceCA, "catamaran-service"}, {&s.IngestServerCA, "catamaran-ingest-server"}, {&s.IngestClientCA, "catamaran-ingest-client"}} {
		if *ca.to, err = newAuthority(ca.cn, time.Now()); err != nil {
			return s, err
		}
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return s, err
	}
	s.DigestKey = base64.StdEncoding.EncodeToString(key)
	return s, nil
}

// NewPassword is 256 random bits in 43 characters that need no quotes anywhere.
func NewPassword() (string, error) {
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(b), nil
}

// Digest is of parts, in hex, and tells who does not have the vault nothing about them, not even by trying likely ones.
func (s PlatformSecrets) Digest(parts ...string) (string, error) {
	key, err := base64.StdEncoding.DecodeString(s.DigestKey)
	if err != nil || len(key) != 32 {
		return "", fmt.Errorf("the vault's digest key is not 32 bytes in base64")
	}
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		_, _ = fmt.Fprintf(h, "%d:%s", len(p), p) // a hash never fails
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// CertificateRequest is what a certificate is asked to be.
type CertificateRequest struct {
	CommonName     string
	Organization   []string
	DNSNames       []string
	IPs            []string
	Server, Client bool
}

// Issue signs a certificate for a new key.
func Issue(ca KeyPair, r CertificateRequest, notBefore time.Time, validity time.Duration) (KeyPair, error) {
	t := &x509.Certificate{
		Subject:  pkix.Name{CommonName: r.CommonName, Organization: r.Organization},
		DNSNames: r.DNSNames, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: notBefore.UTC(), NotAfter: notBefore.Add(validity).UTC(),
	}
	for _, a := range r.IPs {
		ip := net.ParseIP(a)
		if ip == nil {
			return KeyPair{}, fmt.Errorf("certificate of %s: %q is not an IP address", r.CommonName, a)
		}
		t.IPAddresses = append(t.IPAddresses, ip)
	}
	if r.Server {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if r.Client {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	if t.ExtKeyUsage == nil {
		// without any it would be good for everything
		return KeyPair{}, fmt.Errorf("certificate of %s: it is for neither server nor client", r.CommonName)
	}
	return sign(ca, t)
}

// clone keeps the vault's own map out of other hands.
func (s PlatformSecrets) clone() PlatformSecrets {
	s.Passwords = maps.Clone(s.Passwords)
	return s
}
