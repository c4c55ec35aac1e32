package kubeadm

import (
	"fmt"
	"strings"
)

// Issuer is who signs tokens of people for an API server.
type Issuer struct {
	// URL is what the tokens name; its discovery document and keys are fetched there.
	URL string
	// Client is the tokens' audience.
	Client string
	// UsernameClaim is the claim that names the user. Of email, only verified ones are believed.
	UsernameClaim string
}

// IdentityPrefix stands before the names and groups of an issuer's users, so that none can be one of Kubernetes' own, such as
// system:masters.
const IdentityPrefix = "oidc:"

// AuthenticationBy is Authentication with an issuer whose server has a certificate of the authority (PEM). The API server reads
// a changed file by itself, and starts without the issuer being there.
func AuthenticationBy(i Issuer, authority string) string {
	return Authentication() + fmt.Sprintf(`jwt:
- issuer:
    url: %[1]q
    audiences: [%[2]q]
    certificateAuthority: |
      %[3]s
  claimMappings:
    username: {claim: %[4]q, prefix: %[5]q}
    groups: {claim: groups, prefix: %[5]q}
  userValidationRules:
  # a claim that is null would name a user without a name
  - expression: "user.username != '%[5]s'"
    message: the token names nobody
`, i.URL, i.Client, strings.ReplaceAll(strings.TrimSpace(authority), "\n", "\n      "), i.UsernameClaim, IdentityPrefix)
}
