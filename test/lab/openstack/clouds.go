package openstack

import (
	"go.yaml.in/yaml/v3"
)

// Entries of clouds.yaml: each project has one with its application credential and one with its user's password; the operator's has
// every right.
const (
	ServiceCloud  = "service"
	WorkloadCloud = "workload"
	AdminCloud    = "admin"
	// WithPassword is added to a project's name.
	WithPassword = "-password"
)

// writeClouds writes clouds.yaml, and secure.yaml beside it with what is secret.
func (s *supervisor) writeClouds() error {
	type entry map[string]any
	open, secret := map[string]entry{}, map[string]entry{}
	add := func(name, kind string, auth, hidden entry) {
		auth["auth_url"] = s.o.AuthURL()
		e := entry{"auth": auth, "region_name": Region, "identity_api_version": 3, "interface": "public"}
		if kind != "" {
			e["auth_type"] = kind
		}
		open[name], secret[name] = e, entry{"auth": hidden}
	}
	for _, p := range projectNames {
		c := s.identity.Credentials[p]
		add(p, "v3applicationcredential", entry{"application_credential_id": c.ID}, entry{"application_credential_secret": c.Secret})
		add(p+WithPassword, "password", entry{"username": p, "project_name": p, "user_domain_name": "Default", "project_domain_name": "Default"},
			entry{"password": s.settings.Secrets.Users[p]})
	}
	add(AdminCloud, "password", entry{"username": "admin", "project_name": "admin", "user_domain_name": "Default", "project_domain_name": "Default"},
		entry{"password": s.settings.Secrets.Admin})
	for name, clouds := range map[string]map[string]entry{"clouds.yaml": open, "secure.yaml": secret} {
		data, err := yaml.Marshal(map[string]any{"clouds": clouds})
		if err != nil {
			return err
		}
		if err := writeFile(s.o.path("clouds", name), data); err != nil {
			return err
		}
	}
	return nil
}
