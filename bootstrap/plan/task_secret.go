package plan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
	"github.com/catamaran-k8s/catamaran/embedded"
	"github.com/catamaran-k8s/catamaran/embedded/helm"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// PlatformFacts is what may be known of the platform's secrets outside the vault.
type PlatformFacts struct {
	// Digests are SecretDigest of the Secrets that the inventory wants, by SecretID; missing: the vault lacks something that
	// the Secret is made from.
	Digests map[string]string
	// ServiceCA is the certificate (PEM) of the authority of the service cluster's parts.
	ServiceCA string
}

// DigestOf is the digest of a Secret; empty where it is not known.
func (p *PlatformFacts) DigestOf(s embedded.Secret) string {
	if p == nil {
		return ""
	}
	return p.Digests[SecretID(s)]
}

// SecretID tells the Secrets of a site apart: what is asked for stands in it, since both clusters may have one of the same
// name.
func SecretID(s embedded.Secret) string {
	data, err := json.Marshal(s)
	if err != nil {
		// plain data: not marshalling is a bug, and a constant would mix Secrets up
		panic(fmt.Sprintf("secret %s/%s: %v", s.Namespace, s.Name, err))
	}
	return string(data)
}

// SecretDigest is of all that a Secret is made from: what it is asked to be, the authorities, and the content of an Opaque
// one. It is keyed by the vault, so it tells nobody else anything. The error says what is missing.
func SecretDigest(s embedded.Secret, vault pki.PlatformSecrets) (string, error) {
	parts := []string{SecretID(s)}
	if c := s.Certificate; c != nil {
		for _, issuer := range []embedded.Issuer{c.Issuer, c.Trust} {
			ca, err := authority(issuer, vault)
			if err != nil {
				return "", err
			}
			parts = append(parts, ca.Cert)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.Values)) {
		value, err := s.Values[key].Resolve(vault.Passwords)
		if err != nil {
			return "", fmt.Errorf("secret %s/%s, key %s: %w", s.Namespace, s.Name, key, err)
		}
		parts = append(parts, key, value)
	}
	return vault.Digest(parts...)
}

func authority(i embedded.Issuer, vault pki.PlatformSecrets) (pki.KeyPair, error) {
	switch i {
	case embedded.IssuerService:
		return vault.ServiceCA, nil
	case embedded.IssuerIngestServer:
		return vault.IngestServerCA, nil
	case embedded.IssuerIngestClient:
		return vault.IngestClientCA, nil
	}
	return pki.KeyPair{}, fmt.Errorf("there is no authority %q", i)
}

// secretContent makes what a Secret holds; notAfter is when its certificate ends, zero where it has none.
func secretContent(s embedded.Secret, vault pki.PlatformSecrets, now time.Time) (kind corev1.SecretType, data map[string][]byte, notAfter time.Time, err error) {
	kind, data = corev1.SecretTypeOpaque, map[string][]byte{}
	if c := s.Certificate; c != nil {
		issuer, err := authority(c.Issuer, vault)
		if err != nil {
			return kind, nil, notAfter, err
		}
		trust, err := authority(c.Trust, vault)
		if err != nil {
			return kind, nil, notAfter, err
		}
		cert, err := pki.Issue(issuer, pki.CertificateRequest{
			CommonName: c.CommonName, Organization: c.Organization, DNSNames: c.DNSNames, IPs: c.IPs, Server: c.Server, Client: c.Client,
		}, now.Add(-5*time.Minute), secretValidity)
		if err != nil {
			return kind, nil, notAfter, err
		}
		kind = corev1.SecretTypeTLS
		data[corev1.TLSCertKey], data[corev1.TLSPrivateKeyKey] = []byte(cert.Cert), []byte(cert.Key)
		data[corev1.ServiceAccountRootCAKey] = []byte(trust.Cert)
		if notAfter, err = pki.NotAfter(cert.Cert); err != nil {
			return kind, nil, notAfter, err
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.Values)) {
		if _, twice := data[key]; twice {
			return kind, nil, notAfter, fmt.Errorf("secret %s/%s: the certificate has the key %s already", s.Namespace, s.Name, key)
		}
		value, err := s.Values[key].Resolve(vault.Passwords)
		if err != nil {
			return kind, nil, notAfter, fmt.Errorf("secret %s/%s, key %s: %w", s.Namespace, s.Name, key, err)
		}
		data[key] = []byte(value)
	}
	if len(data) == 0 {
		return kind, nil, notAfter, fmt.Errorf("secret %s/%s would hold nothing", s.Namespace, s.Name)
	}
	return kind, data, notAfter, nil
}

// MakePlatformSecrets makes the platform's authorities in the vault.
type MakePlatformSecrets struct{}

// Do implements Task.
func (MakePlatformSecrets) Do(_ context.Context, env Env, _ func(string)) error {
	_, err := env.Platform()
	return err
}

// PutSecret makes a Secret from the vault, or replaces it and restarts what uses it.
type PutSecret struct {
	Cluster inventory.ClusterName
	// Secret says what it is made from. It holds no secret itself.
	Secret embedded.Secret
	// Digest is what the plan saw; the content of the inventory's own secrets must still be that. Empty: it was not known.
	Digest      string
	PodSecurity string
	Await       bool
	Timeout     time.Duration
}

// errSecretMoved says that a file or a variable that the inventory names changed after the plan was made.
var errSecretMoved = errors.New("what it is made from changed since the plan was made: plan again")

// Do implements Task.
func (t PutSecret) Do(ctx context.Context, env Env, log func(string)) error {
	vault, err := env.Platform(t.Secret.Passwords()...)
	if err != nil {
		return err
	}
	digest, err := SecretDigest(t.Secret, vault)
	if err != nil {
		return err
	}
	if t.Digest != "" && t.Digest != digest {
		return errSecretMoved
	}
	kind, data, notAfter, err := secretContent(t.Secret, vault, time.Now())
	if err != nil {
		return err
	}
	for key, value := range data {
		v := t.Secret.Values[key]
		for _, secret := range v.Form.Secrets() {
			env.Redact(secret)
		}
		if key == corev1.TLSPrivateKeyKey || v.From != nil || v.Form != nil || v.Password != "" {
			env.Redact(string(value)) // the passwords within texts are the vault's, and known
		}
	}
	cfg, err := env.API(t.Cluster)
	if err != nil {
		return err
	}
	return embedded.NewInstaller(cfg, log).PutSecret(ctx, helm.Secret{
		Namespace: t.Secret.Namespace, Name: t.Secret.Name, Type: kind, Data: data, Digest: digest, NotAfter: notAfter,
		PodSecurity: t.PodSecurity, Await: t.Await, Timeout: t.Timeout,
	})
}
