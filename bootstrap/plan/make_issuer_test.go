package plan

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/bootstrap/kubeadm"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// withIssuer switches people's sign-in on, as an operator would.
func withIssuer(t *testing.T, s *site) *site {
	t.Helper()
	on := true
	s.in.Inventory.Components = map[string]inventory.Component{"dex": {Enabled: &on}}
	s.in.Inventory.Platform.OIDC = &inventory.OIDC{Address: "10.77.0.11", Port: 30556, UsernameClaim: "email"}
	return s
}

func trustSteps(p Plan) []string {
	var out []string
	for _, st := range p.Steps {
		if strings.HasSuffix(st.ID, "/trust-issuer") {
			out = append(out, st.ID)
		}
	}
	return out
}

// The first run makes the authority and tells the workload cluster's control planes of it; the second changes nothing.
func TestIssuerIsTrustedInTheFirstRun(t *testing.T) {
	t.Parallel()
	s := withIssuer(t, platformSite(t))
	p := s.plan()
	assert.Equal(t, []string{"workload/wc-1/trust-issuer", "workload/wc-2/trust-issuer", "workload/wc-3/trust-issuer"}, trustSteps(p))
	assert.Equal(t, []string{"workload/wc-1/prepare", platformSecrets}, step(t, p, "workload/wc-1/trust-issuer").Needs, "the plain file is written before it")
	s.apply(p, nil)
	assert.Empty(t, ids(s.plan()))

	certificate := strings.TrimSpace(s.platform.ServiceCA.Cert)
	for _, n := range []string{"wc-1", "wc-2", "wc-3"} {
		file := s.facts(n).Files[kubeadm.AuthenticationFile].Content
		assert.Contains(t, file, "https://10.77.0.11:30556/dex", n)
		assert.Contains(t, strings.ReplaceAll(file, "\n      ", "\n"), certificate, n)
		assert.NotContains(t, file, "PRIVATE KEY")
	}
	assert.Equal(t, kubeadm.Authentication(), s.facts("sc-1").Files[kubeadm.AuthenticationFile].Content, "the service cluster trusts nobody's tokens")
	assert.NotContains(t, s.facts("wc-4").Files, kubeadm.AuthenticationFile, "a worker has no API server")
}

// Where the authority is there already, the file is one like others, and its change shows in the diff.
func TestIssuerIsTrustedLater(t *testing.T) {
	t.Parallel()
	s := withIssuer(t, applied(t))
	p := s.plan()
	require.Equal(t, []string{"workload/wc-1/prepare", "workload/wc-2/prepare", "workload/wc-3/prepare"}, ids(p))
	require.Len(t, p.Steps[0].Files, 1)
	assert.Contains(t, p.Steps[0].Files[0].After, "certificateAuthority")
	s.apply(p, nil)
	assert.Empty(t, ids(s.plan()))
	s.in.Inventory.Components = nil
	p = s.plan()
	require.Equal(t, []string{"workload/wc-1/prepare", "workload/wc-2/prepare", "workload/wc-3/prepare"}, ids(p))
	assert.Equal(t, kubeadm.Authentication(), p.Steps[0].Files[0].After, "switched off, nobody's tokens are accepted any more")
}
