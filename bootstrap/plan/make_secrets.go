package plan

import (
	"fmt"
	"time"

	"github.com/catamaran-k8s/catamaran/embedded"
)

const (
	// secretValidity is how long certificates in Secrets live, secretRenewal how long before its end one is made anew.
	secretValidity = 365 * 24 * time.Hour
	secretRenewal  = 60 * 24 * time.Hour
)

// platformSecrets is the step that makes the site's authorities of the platform.
const platformSecrets = "site/platform-secrets"

// platform plans making the secrets of the compliance platform, where a release needs some and there are none.
func (m *maker) platform() {
	if m.in.Local.Platform != nil {
		return
	}
	for _, c := range m.in.Inventory.ClusterNames() {
		for _, r := range m.in.Releases[c] {
			if len(r.Secrets) > 0 {
				m.add(Step{
					ID: platformSecrets, Title: "make the platform's authorities",
					Reason: fmt.Sprintf("%s holds none", m.in.Inventory.VaultFile()),
					Task:   MakePlatformSecrets{},
				})
				return
			}
		}
	}
}

// secrets plans the Secrets that a release mounts and that are missing, changed or near their end; it returns the steps.
// installing says that the release itself is planned too: it then waits for what was restarted.
func (m *maker) secrets(v *view, r embedded.Release, installing bool) []string {
	var steps []string
	for _, s := range r.Secrets {
		digest := m.in.Local.Platform.DigestOf(s)
		reason := m.secretReason(v, s, digest)
		if reason == "" {
			continue
		}
		steps = append(steps, m.add(Step{
			ID: id(v, "secret", s.Namespace, s.Name), Cluster: v.name, Lock: id(v, "secrets", s.Namespace),
			Title: fmt.Sprintf("put secret %s in %s", s.Name, s.Namespace), Reason: reason,
			Needs: append(m.restarts(v), platformSecrets, id(v, v.lead().Name, "init")),
			Task: PutSecret{
				Cluster: v.name, Secret: s, Digest: digest, PodSecurity: r.PodSecurity, Await: !installing, Timeout: r.Timeout,
			},
		}))
	}
	return steps
}

// secretReason says why a Secret must be put; empty: it is good.
func (m *maker) secretReason(v *view, s embedded.Secret, digest string) string {
	have, ok := v.secrets[s.Namespace+"/"+s.Name]
	left := have.NotAfter.Sub(m.in.Now)
	switch {
	case !ok:
		return "it is not there"
	case have.Digest == "":
		return "an earlier run was cut off while it put it"
	case digest == "":
		return "the vault does not hold what it is made from"
	case have.Digest != digest:
		return "what it is made from changed"
	case !have.NotAfter.IsZero() && left < secretRenewal:
		return fmt.Sprintf("its certificate ends in %d days", int(left.Hours()/24))
	}
	return ""
}
