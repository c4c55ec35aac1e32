package separation

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/bootstrap/kubeadm"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify/verifytest"
)

// withIssuer lets the workload cluster's API server know the authority of the service cluster's parts, as it does for an issuer.
func withIssuer(t *testing.T) (site, *verifytest.Authority) {
	t.Helper()
	s, _ := newSite(t)
	service := verifytest.NewAuthority(t, "catamaran-service")
	for _, name := range []string{"dex", "loki"} {
		part := service.Issue(t, name)
		s.service.Values("service: Secret "+name+"/"+name+"-tls", map[string][]byte{
			"tls.crt": verifytest.CertPEM(part.Leaf), "tls.key": verifytest.KeyPEM(t, part.PrivateKey), "ca.crt": verifytest.CertPEM(service.Cert),
		}, true)
	}
	file := kubeadm.AuthenticationBy(kubeadm.Issuer{URL: "https://10.77.0.11:30556/dex", Client: "kubernetes", UsernameClaim: "email"}, string(verifytest.CertPEM(service.Cert)))
	s.workload.Text("wc-1: "+kubeadm.AuthenticationFile, []byte(file))
	return s, service
}

func TestTheIssuersAuthorityMayBeKnown(t *testing.T) {
	t.Parallel()
	s, _ := withIssuer(t)
	d := s.compare()
	assert.Empty(t, d.Findings)
	assert.Equal(t, verify.Pass, d.Verdict)
	allowed := d.Tables[len(d.Tables)-1]
	require.Len(t, allowed.Rows, 3, "it is told: %v", allowed.Rows)
	assert.Contains(t, allowed.Rows[0][0]+allowed.Rows[1][0]+allowed.Rows[2][0], "catamaran-service")
}

func TestTheIssuersAuthorityMayDoNoMore(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(*testing.T, site, *verifytest.Authority)
		says  string
	}{
		"its certificate elsewhere in the workload cluster": {func(_ *testing.T, s site, a *verifytest.Authority) {
			s.workload.Values("workload: Secret app/trust", map[string][]byte{"ca.crt": verifytest.CertPEM(a.Cert)}, true)
		}, "same authority"},
		"its key in the workload cluster": {func(t *testing.T, s site, a *verifytest.Authority) {
			s.workload.Text("wc-1: /root/ca.key", verifytest.KeyPEM(t, a.Key))
		}, "same authority"},
		"its key in the service cluster": {func(t *testing.T, s site, a *verifytest.Authority) {
			s.service.Text("sc-1: /root/ca.key", verifytest.KeyPEM(t, a.Key))
		}, "same authority"},
		"a certificate of it, with the key, in the workload cluster": {func(t *testing.T, s site, a *verifytest.Authority) {
			stolen := a.Issue(t, "grafana")
			s.workload.Text("wc-1: /root/g.pem", append(verifytest.CertPEM(stolen.Leaf), verifytest.KeyPEM(t, stolen.PrivateKey)...))
		}, "an authority of the service cluster signed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, a := withIssuer(t)
			c.spoil(t, s, a)
			d := s.compare()
			assert.Equal(t, verify.Fail, d.Verdict)
			require.NotEmpty(t, d.Findings)
			assert.Contains(t, d.Findings[0].Message, c.says)
		})
	}
}
