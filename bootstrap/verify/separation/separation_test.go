package separation

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/catamaran-k8s/catamaran/bootstrap/verify"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify/harvest"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify/verifytest"
)

// site is two clusters that share nothing but what they must.
type site struct{ service, workload *harvest.Collector }

func newSite(t *testing.T) (site, authorities) {
	t.Helper()
	salt, err := harvest.NewSalt()
	require.NoError(t, err)
	s := site{harvest.NewCollector(salt), harvest.NewCollector(salt)}
	a := authorities{
		sc: verifytest.NewAuthority(t, "kubernetes"), wc: verifytest.NewAuthority(t, "kubernetes"),
		doorServer: verifytest.NewAuthority(t, "ingest-server"), doorClient: verifytest.NewAuthority(t, "ingest-client"),
	}
	for _, side := range []struct {
		c    *harvest.Collector
		name string
		ca   *verifytest.Authority
	}{{s.service, "service", a.sc}, {s.workload, "workload", a.wc}} {
		node := side.name + "-1: "
		side.c.Text(node+"/etc/kubernetes/pki/ca.crt", verifytest.CertPEM(side.ca.Cert))
		side.c.Text(node+"/etc/kubernetes/pki/ca.key", verifytest.KeyPEM(t, side.ca.Key))
		admin := side.ca.Issue(t, "kubernetes-admin")
		side.c.Text(node+"/etc/kubernetes/admin.conf", append(verifytest.CertPEM(admin.Leaf), verifytest.KeyPEM(t, admin.PrivateKey)...))
		side.c.Values(side.name+": Secret app/db", map[string][]byte{"user": []byte("app"), "password": []byte("of " + side.name)}, true)
	}
	door, client := a.doorServer.Issue(t, "ingest"), a.doorClient.Issue(t, "wc-a")
	s.service.Values("service: Secret ingest-gateway/ingest-gateway-door", map[string][]byte{
		"tls.crt": verifytest.CertPEM(door.Leaf),
		"tls.key": verifytest.KeyPEM(t, door.PrivateKey), "ca.crt": verifytest.CertPEM(a.doorClient.Cert),
	}, true)
	s.workload.Values("workload: Secret fluentd/ingest-client", map[string][]byte{
		"tls.crt": verifytest.CertPEM(client.Leaf), "tls.key": verifytest.KeyPEM(t, client.PrivateKey), "ca.crt": verifytest.CertPEM(a.doorServer.Cert),
	}, true)
	return s, a
}

type authorities struct{ sc, wc, doorServer, doorClient *verifytest.Authority }

func (s site) compare() verify.Document {
	var d verify.Document
	Compare(&d, s.service.Credentials(), s.workload.Credentials())
	d.Judge()
	return d
}

func TestSeparateClustersPass(t *testing.T) {
	t.Parallel()
	s, _ := newSite(t)
	d := s.compare()
	assert.Empty(t, d.Findings)
	assert.Equal(t, verify.Pass, d.Verdict)
	allowed := d.Tables[len(d.Tables)-1]
	assert.Len(t, allowed.Rows, 2, "the door's own certificate, and the one for the door: %v", allowed.Rows)
}

// Each case puts one thing where it must not be; the finding names both places.
func TestCommonCredentialsAreFound(t *testing.T) {
	t.Parallel()
	token := "eyJhbGciOiJSUzI1NiJ9." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"system:serviceaccount:a:b"}`)) + ".CANARY-0123456789abcdef"
	for name, c := range map[string]struct {
		spoil func(*testing.T, site, authorities)
		says  []string
	}{
		"private key": {func(t *testing.T, s site, _ authorities) {
			key := verifytest.KeyPEM(t, verifytest.NewAuthority(t, "x").Key)
			s.service.Text("sc-1: /etc/ssh/ssh_host_ecdsa_key", key)
			s.workload.Text("wc-1: /etc/ssh/ssh_host_ecdsa_key", key)
		}, []string{"private key", "sc-1: /etc/ssh/ssh_host_ecdsa_key", "wc-1: /etc/ssh/ssh_host_ecdsa_key"}},
		"authority with its key": {func(t *testing.T, s site, a authorities) {
			s.workload.Text("wc-1: /root/sc-ca.crt", verifytest.CertPEM(a.sc.Cert))
			s.workload.Text("wc-1: /root/sc-ca.key", verifytest.KeyPEM(t, a.sc.Key))
		}, []string{"same private key", "/etc/kubernetes/pki/ca.key", "/root/sc-ca.key"}},
		"authority's certificate": {func(_ *testing.T, s site, a authorities) {
			s.workload.Text("wc-1: /root/sc-ca.crt", verifytest.CertPEM(a.sc.Cert))
		}, []string{"same authority", "wc-1: /root/sc-ca.crt"}},
		"the door uses the cluster's authority": {func(_ *testing.T, s site, a authorities) {
			s.workload.Values("workload: Secret prometheus-agent/ingest-client", map[string][]byte{"ca.crt": verifytest.CertPEM(a.sc.Cert)}, true)
		}, []string{"same authority", "prometheus-agent/ingest-client"}},
		"the authority for the door's clients": {func(t *testing.T, s site, a authorities) {
			s.workload.Text("wc-1: /root/a.crt", verifytest.CertPEM(a.doorClient.Cert))
			s.workload.Text("wc-1: /root/a.key", verifytest.KeyPEM(t, a.doorClient.Key))
		}, []string{"same authority", "/root/a.key"}},
		"the authority of the door with its key": {func(t *testing.T, s site, a authorities) {
			s.workload.Text("wc-1: /root/a.crt", verifytest.CertPEM(a.doorServer.Cert))
			s.workload.Text("wc-1: /root/a.key", verifytest.KeyPEM(t, a.doorServer.Key))
		}, []string{"an authority of the workload cluster signed", "ingest-gateway-door"}},
		"the door's key elsewhere": {func(t *testing.T, s site, a authorities) {
			other := a.doorServer.Issue(t, "ingest")
			s.service.Text("sc-1: /root/door.pem", append(verifytest.CertPEM(other.Leaf), verifytest.KeyPEM(t, other.PrivateKey)...))
		}, []string{"an authority of the workload cluster signed", "sc-1: /root/door.pem"}},
		"token": {func(_ *testing.T, s site, _ authorities) {
			s.service.Text("sc-1: /root/t", []byte(token))
			s.workload.Text("wc-1: /root/t", []byte(token))
		}, []string{"same secret", "token", "sc-1: /root/t", "wc-1: /root/t"}},
		"password": {func(_ *testing.T, s site, _ authorities) {
			s.service.Values("service: Secret grafana/grafana-admin", map[string][]byte{"user": []byte("admin"), "password": []byte("CANARYcommon")}, true)
			s.workload.Text("environ of process 7 (app) DB_PASSWORD", []byte("password: CANARYcommon"))
		}, []string{"same secret", "grafana/grafana-admin key password", "process 7"}},
		"access key": {func(_ *testing.T, s site, _ authorities) {
			for _, c := range []*harvest.Collector{s.service, s.workload} {
				c.Values("Secret velero/cloud", map[string][]byte{"access": []byte("id"), "secret": []byte("CANARYkey")}, true)
			}
		}, []string{"same secret", "access key", "velero/cloud"}},
		"certificate of the service cluster": {func(t *testing.T, s site, a authorities) {
			stolen := a.sc.Issue(t, "grafana.grafana.svc")
			s.workload.Text("wc-1: /root/g.pem", append(verifytest.CertPEM(stolen.Leaf), verifytest.KeyPEM(t, stolen.PrivateKey)...))
		}, []string{"grafana.grafana.svc", "an authority of the service cluster signed", "wc-1: /root/g.pem"}},
		"certificate of the workload cluster": {func(t *testing.T, s site, a authorities) {
			stolen := a.wc.Issue(t, "someone")
			s.service.Text("sc-1: /root/w.pem", append(verifytest.CertPEM(stolen.Leaf), verifytest.KeyPEM(t, stolen.PrivateKey)...))
		}, []string{"someone", "an authority of the workload cluster signed", "sc-1: /root/w.pem"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, a := newSite(t)
			c.spoil(t, s, a)
			d := s.compare()
			assert.Equal(t, verify.Fail, d.Verdict)
			var text strings.Builder
			for _, f := range d.Findings {
				text.WriteString(f.Subject + ": " + f.Message + "\n")
			}
			for _, word := range c.says {
				assert.Contains(t, text.String(), word)
			}
			assert.NotContains(t, text.String(), "CANARY")
		})
	}
}

// A cluster that could not be looked through is not a separate one.
func TestNothingFoundIsNotAPass(t *testing.T) {
	t.Parallel()
	empty := harvest.Cluster{Name: "service", Client: fake.NewClientset()}
	d, err := Run(t.Context(), verify.Subject{Site: "x"}, empty, harvest.Cluster{Name: "workload", Client: fake.NewClientset()})
	require.NoError(t, err)
	assert.Equal(t, verify.Unjudged, d.Verdict)
	assert.Len(t, d.Findings, 2)
}
