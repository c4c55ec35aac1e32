package pki

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/clientcmd"
)

func parse(t *testing.T, certPEM string) *x509.Certificate {
	t.Helper()
	block, rest := pem.Decode([]byte(certPEM))
	require.NotNil(t, block)
	require.Empty(t, rest)
	c, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	return c
}

func verify(t *testing.T, ca, cert string, usage x509.ExtKeyUsage, at time.Time) error {
	t.Helper()
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM([]byte(ca)))
	_, err := parse(t, cert).Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{usage}, CurrentTime: at})
	return err
}

func TestAuthorities(t *testing.T) {
	t.Parallel()
	s, err := NewClusterSecrets()
	require.NoError(t, err)
	for cn, ca := range map[string]KeyPair{"kubernetes": s.CA, "front-proxy-ca": s.FrontProxyCA, "etcd-ca": s.EtcdCA} {
		c := parse(t, ca.Cert)
		require.Equal(t, cn, c.Subject.CommonName)
		require.True(t, c.IsCA && c.BasicConstraintsValid)
		require.NotZero(t, c.KeyUsage&x509.KeyUsageCertSign)
		require.NoError(t, c.CheckSignatureFrom(c))
		require.InDelta(t, caValidity.Hours(), time.Until(c.NotAfter).Hours(), 1)
		require.True(t, c.NotBefore.Before(time.Now().Add(-time.Minute)), "clocks differ a little")
		_, err := tls.X509KeyPair([]byte(ca.Cert), []byte(ca.Key))
		require.NoError(t, err, "the key is the certificate's")
	}
	require.Error(t, verify(t, s.EtcdCA.Cert, s.CA.Cert, x509.ExtKeyUsageAny, time.Now()), "none vouches for another")

	block, _ := pem.Decode([]byte(s.ServiceAccount.Key))
	require.Equal(t, "EC PRIVATE KEY", block.Type)
	private, err := x509.ParseECPrivateKey(block.Bytes)
	require.NoError(t, err)
	block, _ = pem.Decode([]byte(s.ServiceAccount.Cert))
	require.Equal(t, "PUBLIC KEY", block.Type)
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	require.NoError(t, err)
	require.True(t, private.PublicKey.Equal(public.(*ecdsa.PublicKey)))

	key, err := base64.StdEncoding.DecodeString(s.EncryptionKey)
	require.NoError(t, err)
	require.Len(t, key, 32)
}

func TestKubeletServing(t *testing.T) {
	t.Parallel()
	s, err := NewClusterSecrets()
	require.NoError(t, err)
	begin := time.Now().Add(-time.Minute).Truncate(time.Second)
	pair, err := KubeletServing(s.CA, "sc-1", "10.77.0.11", begin, 24*time.Hour)
	require.NoError(t, err)
	c := parse(t, pair.Cert)
	require.Equal(t, "system:node:sc-1", c.Subject.CommonName)
	require.Equal(t, []string{"system:nodes"}, c.Subject.Organization)
	require.NoError(t, c.VerifyHostname("sc-1"))
	require.NoError(t, c.VerifyHostname("10.77.0.11"))
	require.Error(t, c.VerifyHostname("sc-2"))
	require.Equal(t, []net.IP{net.ParseIP("10.77.0.11").To4()}, c.IPAddresses)
	require.False(t, c.IsCA)
	require.True(t, c.NotBefore.Equal(begin))
	end, err := NotAfter(pair.Cert)
	require.NoError(t, err)
	require.True(t, end.Equal(begin.Add(24*time.Hour)))
	_, err = tls.X509KeyPair([]byte(pair.Cert), []byte(pair.Key))
	require.NoError(t, err)

	require.NoError(t, verify(t, s.CA.Cert, pair.Cert, x509.ExtKeyUsageServerAuth, time.Now()))
	require.Error(t, verify(t, s.CA.Cert, pair.Cert, x509.ExtKeyUsageClientAuth, time.Now()), "it can not sign in")
	require.Error(t, verify(t, s.EtcdCA.Cert, pair.Cert, x509.ExtKeyUsageServerAuth, time.Now()))
	require.Error(t, verify(t, s.CA.Cert, pair.Cert, x509.ExtKeyUsageServerAuth, begin.Add(25*time.Hour)), "expired")
	require.Error(t, verify(t, s.CA.Cert, pair.Cert, x509.ExtKeyUsageServerAuth, begin.Add(-time.Hour)), "not yet")

	other, err := KubeletServing(s.CA, "sc-1", "10.77.0.11", begin, time.Hour)
	require.NoError(t, err)
	require.NotEqual(t, c.SerialNumber, parse(t, other.Cert).SerialNumber)
	require.NotEqual(t, pair.Key, other.Key)

	six, err := KubeletServing(s.CA, "sc-1", "fd00::11", begin, time.Hour)
	require.NoError(t, err)
	require.NoError(t, parse(t, six.Cert).VerifyHostname("fd00::11"))

	_, err = KubeletServing(s.CA, "sc-1", "sc-1.example.org", begin, time.Hour)
	require.ErrorContains(t, err, `sc-1: "sc-1.example.org" is not an IP address`)
}

func TestAdminKubeconfig(t *testing.T) {
	t.Parallel()
	s, err := NewClusterSecrets()
	require.NoError(t, err)
	data, err := AdminKubeconfig(s.CA, "umea-service", "https://10.77.0.10:6443", "anna", time.Now().Add(-time.Minute), time.Hour)
	require.NoError(t, err)
	config, err := clientcmd.RESTConfigFromKubeConfig(data)
	require.NoError(t, err)
	require.Equal(t, "https://10.77.0.10:6443", config.Host)
	require.Equal(t, s.CA.Cert, string(config.CAData))
	require.NotContains(t, string(data), base64.StdEncoding.EncodeToString([]byte(s.CA.Key)))
	c := parse(t, string(config.CertData))
	require.Equal(t, "anna", c.Subject.CommonName)
	require.Equal(t, []string{"kubeadm:cluster-admins"}, c.Subject.Organization)
	require.NoError(t, verify(t, s.CA.Cert, string(config.CertData), x509.ExtKeyUsageClientAuth, time.Now()))
	require.Error(t, verify(t, s.CA.Cert, string(config.CertData), x509.ExtKeyUsageServerAuth, time.Now()))
}

func TestBrokenAuthority(t *testing.T) {
	t.Parallel()
	s, err := NewClusterSecrets()
	require.NoError(t, err)
	for name, ca := range map[string]KeyPair{
		"nothing": {}, "no key": {Cert: s.CA.Cert}, "no PEM": {Cert: "CANARY", Key: "CANARY"},
		"a certificate as the key": {Cert: s.CA.Cert, Key: s.CA.Cert}, "the key as certificate": {Cert: s.CA.Key, Key: s.CA.Key},
		"another's key": {Cert: s.CA.Cert, Key: s.EtcdCA.Key},
	} {
		_, err := AdminCertificate(ca, "anna", time.Now(), time.Hour)
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), "CANARY")
		_, err = AdminKubeconfig(ca, "c", "https://x", "anna", time.Now(), time.Hour)
		require.Error(t, err, name)
		_, err = KubeletServing(ca, "n", "10.0.0.1", time.Now(), time.Hour)
		require.Error(t, err, name)
	}
	for _, broken := range []string{"", "hello", s.CA.Key} {
		_, err := NotAfter(broken)
		require.Error(t, err)
	}
}
