package harvest

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Salt keys the fingerprints of tokens and passwords. Collectors whose results are compared share one; it is never stored.
type Salt [32]byte

// NewSalt makes one of this run.
func NewSalt() (Salt, error) {
	var s Salt
	_, err := rand.Read(s[:])
	return s, err
}

// Collector gathers credentials from whatever it is shown. It is safe for concurrent use.
type Collector struct {
	salt Salt

	mu sync.Mutex
	// by what makes them the same credential
	secrets map[string]*Credential
	keys    map[string]*Credential // private keys by fingerprint
	certs   map[string]*Credential // certificates by their own SHA-256
	looked  int
}

// NewCollector has found nothing yet.
func NewCollector(s Salt) *Collector {
	return &Collector{salt: s, secrets: map[string]*Credential{}, keys: map[string]*Credential{}, certs: map[string]*Credential{}}
}

// Looked is how many files, objects and environments were shown to it.
func (c *Collector) Looked() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.looked
}

func (c *Collector) count() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looked++
}

func (c *Collector) addSecret(kind Kind, place, who, secret string) {
	mac := hmac.New(sha256.New, c.salt[:])
	mac.Write([]byte(secret))
	mark := "hmac:" + hex.EncodeToString(mac.Sum(nil)[:12])
	c.mu.Lock()
	defer c.mu.Unlock()
	id := mark
	if kind == Password || kind == AccessKey {
		id = mark + " " + who // one password of two users is two credentials
	}
	had, ok := c.secrets[id]
	if !ok {
		had = &Credential{Kind: kind, Subject: who, Fingerprint: mark, hidden: &hidden{secret: secret}}
		c.secrets[id] = had
	}
	if had.Kind == Opaque && kind != Opaque { // somebody said what it is
		had.Kind, had.Subject = kind, who
	}
	had.add(place)
}

func (c *Collector) addKey(place string, key crypto.Signer) {
	mark := keyPrint(key.Public())
	c.mu.Lock()
	defer c.mu.Unlock()
	had, ok := c.keys[mark]
	if !ok {
		had = &Credential{Kind: PrivateKey, Fingerprint: mark, hidden: &hidden{key: key}}
		c.keys[mark] = had
	}
	had.add(place)
}

func (c *Collector) addCertificate(place string, cert *x509.Certificate) {
	sum := sha256.Sum256(cert.Raw)
	c.mu.Lock()
	defer c.mu.Unlock()
	id := string(sum[:])
	had, ok := c.certs[id]
	if !ok {
		had = &Credential{Kind: Certificate, Subject: subject(cert), Fingerprint: keyPrint(cert.PublicKey), CA: cert.IsCA, hidden: &hidden{cert: cert}}
		c.certs[id] = had
	}
	had.add(place)
}

// Credentials returns what was found, sorted by kind, subject and fingerprint. A private key and each certificate of it make
// one ClientCertificate, wherever the two were found; its Places are those of the key.
func (c *Collector) Credentials() []Credential {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Credential
	for _, s := range c.secrets {
		out = append(out, clone(*s))
	}
	paired := map[string]bool{}
	for _, cert := range c.certs {
		n := clone(*cert)
		if k, ok := c.keys[cert.Fingerprint]; ok {
			paired[cert.Fingerprint] = true
			n.Kind, n.Places, n.More = ClientCertificate, slices.Clone(k.Places), k.More
			n.hidden = &hidden{key: k.hidden.key, cert: cert.hidden.cert, chain: c.chain(cert.hidden.cert)}
		}
		out = append(out, n)
	}
	for mark, k := range c.keys {
		if !paired[mark] {
			out = append(out, clone(*k))
		}
	}
	slices.SortFunc(out, func(a, b Credential) int {
		return strings.Compare(a.String()+fmt.Sprint(a.Places), b.String()+fmt.Sprint(b.Places))
	})
	return out
}

func clone(c Credential) Credential {
	c.Places = slices.Clone(c.Places)
	return c
}

// chain is the certificate with the authorities between it and a root, as far as they were found.
func (c *Collector) chain(leaf *x509.Certificate) [][]byte {
	out := [][]byte{leaf.Raw}
	for at := leaf; len(out) < 4; {
		var issuer *x509.Certificate
		for _, k := range c.certs {
			if x := k.hidden.cert; x.IsCA && !x.Equal(at) && at.CheckSignatureFrom(x) == nil && x.CheckSignatureFrom(x) != nil {
				issuer = x
				break
			}
		}
		if issuer == nil {
			break
		}
		out, at = append(out, issuer.Raw), issuer
	}
	return out
}

// keyPrint is the SHA-256 of a public key's SubjectPublicKeyInfo.
func keyPrint(public crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "unknown key type" // neither TLS nor SSH here can use it
	}
	sum := sha256.Sum256(der)
	return "spki:" + hex.EncodeToString(sum[:16])
}

func subject(cert *x509.Certificate) string {
	s := cert.Subject.String()
	if len(cert.DNSNames) > 0 {
		if s != "" {
			s += " "
		}
		s += "(" + cert.DNSNames[0] + ")"
	}
	return s
}
