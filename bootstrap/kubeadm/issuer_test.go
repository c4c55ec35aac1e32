package kubeadm

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

func TestAuthenticationBy(t *testing.T) {
	t.Parallel()
	const authority = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
	file := AuthenticationBy(Issuer{URL: "https://10.77.0.11:30556/dex", Client: "kubernetes", UsernameClaim: "email"}, authority)
	golden(t, "authentication-by-issuer.yaml", file)
	require.True(t, strings.HasPrefix(file, Authentication()), "the anonymous may do what they may without it")
	var c struct {
		APIVersion, Kind string
		Anonymous        any
		JWT              []struct {
			Issuer struct {
				URL                  string
				Audiences            []string
				CertificateAuthority string
			}
			ClaimMappings struct {
				Username, Groups struct{ Claim, Prefix string }
			}
			UserValidationRules []struct{ Expression, Message string }
		}
	}
	require.NoError(t, yaml.UnmarshalStrict([]byte(file), &c))
	require.Len(t, c.JWT, 1)
	require.Equal(t, authority, c.JWT[0].Issuer.CertificateAuthority)
	require.Equal(t, []struct{ Expression, Message string }{{"user.username != 'oidc:'", "the token names nobody"}}, c.JWT[0].UserValidationRules)
	require.Equal(t, "oidc:", c.JWT[0].ClaimMappings.Username.Prefix)
	require.Equal(t, "oidc:", c.JWT[0].ClaimMappings.Groups.Prefix, "no token can say system:masters")
}
