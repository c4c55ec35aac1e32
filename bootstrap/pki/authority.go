package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

// caValidity is how long authorities live: ten years, as kubeadm's own.
const caValidity = 10 * 365 * 24 * time.Hour

// NewClusterSecrets makes all the secrets of one cluster. Nothing in it is shared with another cluster's.
func NewClusterSecrets() (ClusterSecrets, error) {
	var s ClusterSecrets
	var err error
	for _, ca := range []struct {
		to *KeyPair
		cn string
	}{{&s.CA, "kubernetes"}, {&s.FrontProxyCA, "front-proxy-ca"}, {&s.EtcdCA, "etcd-ca"}} {
		if *ca.to, err = newAuthority(ca.cn, time.Now()); err != nil {
			return s, err
		}
	}
	if s.ServiceAccount, err = newServiceAccountKey(); err != nil {
		return s, err
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return s, err
	}
	s.EncryptionKey = base64.StdEncoding.EncodeToString(key)
	return s, nil
}

func newAuthority(cn string, now time.Time) (KeyPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return KeyPair{}, err
	}
	serial, err := newSerial()
	if err != nil {
		return KeyPair{}, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: cn}, DNSNames: []string{cn},
		NotBefore: now.Add(-5 * time.Minute).UTC(), NotAfter: now.Add(caValidity).UTC(),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageCertSign,
		BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return KeyPair{}, err
	}
	return pair(der, key)
}

// newServiceAccountKey signs service account tokens; Cert holds the public key.
func newServiceAccountKey() (KeyPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return KeyPair{}, err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return KeyPair{}, err
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return KeyPair{}, err
	}
	return KeyPair{Cert: encode("PUBLIC KEY", public), Key: encode("EC PRIVATE KEY", private)}, nil
}

// KubeletServing signs the certificate with which a node's kubelet shows itself to the API server.
func KubeletServing(ca KeyPair, node, address string, notBefore time.Time, validity time.Duration) (KeyPair, error) {
	ip := net.ParseIP(address)
	if ip == nil {
		return KeyPair{}, fmt.Errorf("%s: %q is not an IP address", node, address)
	}
	return sign(ca, &x509.Certificate{
		Subject:  pkix.Name{CommonName: "system:node:" + node, Organization: []string{"system:nodes"}},
		DNSNames: []string{node}, IPAddresses: []net.IP{ip},
		NotBefore: notBefore.UTC(), NotAfter: notBefore.Add(validity).UTC(),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

// adminGroup is what kubeadm binds to cluster-admin; unlike system:masters its rights can be taken away.
const adminGroup = "kubeadm:cluster-admins"

// AdminCertificate signs a client certificate for one operator by name, so that the audit log tells operators apart.
func AdminCertificate(ca KeyPair, operator string, notBefore time.Time, validity time.Duration) (KeyPair, error) {
	return sign(ca, &x509.Certificate{
		Subject:   pkix.Name{CommonName: operator, Organization: []string{adminGroup}},
		NotBefore: notBefore.UTC(), NotAfter: notBefore.Add(validity).UTC(),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

func sign(ca KeyPair, t *x509.Certificate) (KeyPair, error) {
	parent, signer, err := load(ca)
	if err != nil {
		return KeyPair{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return KeyPair{}, err
	}
	if t.SerialNumber, err = newSerial(); err != nil {
		return KeyPair{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer)
	if err != nil {
		return KeyPair{}, err
	}
	return pair(der, key)
}

func load(ca KeyPair) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(ca.Cert))
	keyBlock, _ := pem.Decode([]byte(ca.Key))
	if block == nil || keyBlock == nil {
		return nil, nil, errors.New("the authority in the vault is not PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, nil, err
	}
	key, err := x509.ParseECPrivateKey(keyBlock.Bytes)
	return cert, key, err
}

// NotAfter is when a PEM certificate ends.
func NotAfter(certPEM string) (time.Time, error) {
	block, _ := pem.Decode([]byte(certPEM))
	if block == nil {
		return time.Time{}, errors.New("not a PEM certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return time.Time{}, err
	}
	return cert.NotAfter, nil
}

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

func pair(der []byte, key *ecdsa.PrivateKey) (KeyPair, error) {
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return KeyPair{}, err
	}
	return KeyPair{Cert: encode("CERTIFICATE", der), Key: encode("EC PRIVATE KEY", private)}, nil
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
