package tamper

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"

	"github.com/catamaran-k8s/catamaran/bootstrap/verify/harvest"
)

// Credential is one that is tried. The zero value is nobody: anonymous.
type Credential struct {
	harvest.Credential
	// Own says that it is the tenant's certificate, with which the doors let append.
	Own bool
	// Made says that it was not found but forged.
	Made bool
}

func (c Credential) anonymous() bool { return c.Kind == "" }

func (c Credential) name() string {
	if c.anonymous() {
		return "anonymous"
	}
	return c.String()
}

func (c Credential) place() string {
	if len(c.Places) == 0 {
		return ""
	}
	if n := len(c.Places) - 1 + c.More; n > 0 {
		return fmt.Sprintf("%s and %d more", c.Places[0], n)
	}
	return c.Places[0]
}

// other is the tenant that forgeries claim to be.
const other = "catamaran-forged-tenant"

// arsenal is what is tried: nobody, what was found, and what can be made of it.
func arsenal(found []harvest.Credential, tenant string) ([]Credential, error) {
	out := []Credential{{}}
	for _, c := range found {
		if c.Kind == harvest.Certificate {
			continue // public: it opens nothing
		}
		n := Credential{Credential: c}
		if cert, ok := c.X509(); ok && c.Kind == harvest.ClientCertificate && !c.CA {
			n.Own = tenant != "" && cert.Subject.CommonName == tenant && len(cert.Subject.Organization) == 1 && cert.Subject.Organization[0] == tenant
		}
		out = append(out, n)
	}
	made, err := forge(out, tenant)
	return append(out, made...), err
}

// identities are those that a forged certificate claims.
func identities(tenant string) []pkix.Name {
	return []pkix.Name{
		{CommonName: tenant, Organization: []string{tenant}},
		{CommonName: other, Organization: []string{other}},
		{CommonName: "grafana.grafana.svc"},
		{CommonName: "admin", Organization: []string{"system:masters"}},
	}
}

// forge makes certificates for identities that the workload cluster was never given: signed by itself, by each authority whose
// key was found, expired, and by the tenant's own certificate as if it were an authority.
func forge(found []Credential, tenant string) ([]Credential, error) {
	var out []Credential
	add := func(place string, name pkix.Name, notAfter time.Time, issuer *x509.Certificate, signer crypto.Signer, chain [][]byte) error {
		c, err := certificate(name, notAfter, issuer, signer)
		if err != nil {
			return fmt.Errorf("tamper: make a certificate (%s): %w", place, err)
		}
		c.Certificate = append(c.Certificate, chain...)
		h, err := harvest.FromTLS(place, c)
		if err != nil {
			return err
		}
		out = append(out, Credential{Credential: h, Made: true})
		return nil
	}
	later, past := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	for _, name := range identities(tenant) {
		if err := add("made: signed by itself", name, later, nil, nil, nil); err != nil {
			return nil, err
		}
	}
	if err := add("made: signed by itself, expired", identities(tenant)[0], past, nil, nil, nil); err != nil {
		return nil, err
	}
	for _, c := range found {
		key, ok := c.Key()
		issuer, ok2 := c.X509()
		if !ok || !ok2 {
			continue
		}
		switch {
		case c.CA:
			for _, name := range identities(tenant) {
				if err := add("made: signed by "+c.Subject+" of "+c.place(), name, later, issuer, key, [][]byte{issuer.Raw}); err != nil {
					return nil, err
				}
			}
		case c.Own:
			for _, name := range identities(tenant)[1:] {
				if err := add("made: signed by the tenant's own certificate", name, later, issuer, key, [][]byte{issuer.Raw}); err != nil {
					return nil, err
				}
			}
		}
	}
	return out, nil
}

func certificate(name pkix.Name, notAfter time.Time, issuer *x509.Certificate, signer crypto.Signer) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		return tls.Certificate{}, err
	}
	c := &x509.Certificate{
		SerialNumber: serial, Subject: name, DNSNames: []string{name.CommonName},
		NotBefore: notAfter.Add(-48 * time.Hour), NotAfter: notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if issuer == nil {
		issuer, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, issuer, key.Public(), signer)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
