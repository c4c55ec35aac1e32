// Package harvest finds the credentials that a cluster holds: in its API objects, in its nodes' files, in the environment and
// arguments of their processes. They stay in memory. What leaves this package for a report is the kind of a credential, where
// it was found, whom it speaks for and a fingerprint; the secret itself can be used (TLS, Bearer, ...) but not printed.
package harvest

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Kind says how a credential is used.
type Kind string

// Kinds.
const (
	// ClientCertificate is a private key with a certificate of it, whatever the certificate's usage says.
	ClientCertificate Kind = "certificate and key"
	// PrivateKey has no certificate: SSH keys, service account signing keys. Every private key is also tried for SSH.
	PrivateKey Kind = "private key"
	// Certificate has no private key here. It opens nothing, but tells which authorities are trusted.
	Certificate Kind = "certificate"
	// Token is shown as it is: service account tokens, bootstrap tokens, API tokens.
	Token Kind = "token"
	// Password goes with a user's name; the name may be unknown.
	Password Kind = "password"
	// AccessKey is an access key ID with its secret, as S3 and clouds use.
	AccessKey Kind = "access key"
	// Opaque is what looks like a secret, and of which nobody said what it is for. It is tried as token and as password.
	Opaque Kind = "opaque secret"
)

// Credential is one credential with every place where it was found.
type Credential struct {
	Kind Kind
	// Subject is whom it speaks for: a certificate's subject, a token's subject, a user name, an access key's ID. May be empty.
	Subject string
	// Fingerprint names it without telling it. For keys and certificates it is the SHA-256 of the public key ("spki:..."),
	// for all else an HMAC with a key that lives as long as the Salt ("hmac:..."), so that short passwords can not be guessed from it.
	Fingerprint string
	// Places are sorted; at most maxPlaces of them, More counts the others.
	Places []string
	More   int
	// CA says that a certificate may sign others.
	CA bool

	// behind a pointer: printing a Credential by reflection shows an address
	hidden *hidden
}

type hidden struct {
	secret string
	key    crypto.Signer
	cert   *x509.Certificate
	chain  [][]byte
}

// String tells the kind, subject and fingerprint.
func (c Credential) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", c.Kind, c.Subject, c.Fingerprint))
}

// Format keeps every fmt verb from reaching the secret.
func (c Credential) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(c.String())) }

// MarshalJSON shows what may be shown.
func (c Credential) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Kind        Kind     `json:"kind"`
		Subject     string   `json:"subject,omitempty"`
		Fingerprint string   `json:"fingerprint"`
		Places      []string `json:"places"`
		More        int      `json:"more,omitempty"`
	}{c.Kind, c.Subject, c.Fingerprint, c.Places, c.More})
}

// TLS is a ClientCertificate for use.
func (c Credential) TLS() (tls.Certificate, bool) {
	if c.hidden == nil || c.Kind != ClientCertificate {
		return tls.Certificate{}, false
	}
	return tls.Certificate{Certificate: c.hidden.chain, PrivateKey: c.hidden.key, Leaf: c.hidden.cert}, true
}

// Key is the private key of a ClientCertificate or PrivateKey.
func (c Credential) Key() (crypto.Signer, bool) {
	if c.hidden == nil || c.hidden.key == nil {
		return nil, false
	}
	return c.hidden.key, true
}

// X509 is the certificate of a ClientCertificate or Certificate.
func (c Credential) X509() (*x509.Certificate, bool) {
	if c.hidden == nil || c.hidden.cert == nil {
		return nil, false
	}
	return c.hidden.cert, true
}

// Bearer is what to send as a bearer token: tokens, passwords and opaque secrets.
func (c Credential) Bearer() (string, bool) {
	if c.hidden == nil || c.hidden.secret == "" || c.Kind == AccessKey {
		return "", false
	}
	return c.hidden.secret, true
}

// Basic is a user name and password; a password without a name goes with "admin".
func (c Credential) Basic() (user, password string, ok bool) {
	if c.hidden == nil || c.Kind != Password && c.Kind != Opaque {
		return "", "", false
	}
	user = c.Subject
	if user == "" {
		user = "admin"
	}
	return user, c.hidden.secret, true
}

// AccessKey is an access key's ID and secret.
func (c Credential) AccessKey() (id, secret string, ok bool) {
	if c.hidden == nil || c.Kind != AccessKey {
		return "", "", false
	}
	return c.Subject, c.hidden.secret, true
}

// FromTLS makes a credential of a certificate and key that were not harvested: forged ones, or a control's.
func FromTLS(place string, cert tls.Certificate) (Credential, error) {
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return Credential{}, err
	}
	key, ok := cert.PrivateKey.(crypto.Signer)
	if !ok {
		return Credential{}, fmt.Errorf("%s: its key can not sign", place)
	}
	return Credential{
		Kind: ClientCertificate, Subject: subject(leaf), Fingerprint: keyPrint(leaf.PublicKey), Places: []string{place}, CA: leaf.IsCA,
		hidden: &hidden{key: key, cert: leaf, chain: cert.Certificate},
	}, nil
}

// FromAccessKey makes an access key credential that was not harvested.
func FromAccessKey(place, id, secret string) Credential {
	return Credential{Kind: AccessKey, Subject: id, Fingerprint: "not harvested", Places: []string{place}, hidden: &hidden{secret: secret}}
}

// maxPlaces is how many places of one credential are kept: a cluster's CA certificate is in every pod.
const maxPlaces = 12

func (c *Credential) add(place string) {
	if at, found := slices.BinarySearch(c.Places, place); !found {
		if len(c.Places) >= maxPlaces {
			c.More++
			return
		}
		c.Places = slices.Insert(c.Places, at, place)
	}
}
