package separation

import (
	"github.com/catamaran-k8s/catamaran/bootstrap/kubeadm"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify/harvest"
)

// Where people sign in through the service cluster, the workload cluster's API servers know the authority of its parts: by its
// certificate they know the issuer that they fetch public keys from. What else that authority signs opens nothing there, as long
// as the certificate is nowhere else.

// isIssuerTrust says that an authority is known nowhere in the workload cluster but in its API servers' list of issuers, without
// its key.
func isIssuerTrust(c harvest.Credential) bool {
	return !hasKey(c) && onlyAt(c, ": "+kubeadm.AuthenticationFile)
}
