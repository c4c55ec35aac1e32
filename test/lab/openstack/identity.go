package openstack

import (
	"context"
	"fmt"

	"github.com/gophercloud/gophercloud/v2"
	gopenstack "github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/applicationcredentials"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/endpoints"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/roles"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/services"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/users"
)

// identity is who there is, as far as others need to know.
type identity struct {
	// Projects are ids by name.
	Projects map[string]string `json:"projects"`
	// Credentials are the application credentials of the projects' users, by the project's name.
	Credentials map[string]credential `json:"credentials"`
}

type credential struct {
	ID     string `json:"id"`
	Secret string `json:"secret"`
}

// catalog are the services that users find, with the paths of their APIs.
var catalog = []struct{ kind, name, port, path string }{
	{"image", "glance", "image", ""},
	{"placement", "placement", "placement", ""},
	{"network", "neutron", "network", ""},
	{"compute", "nova", "compute", "/v2.1"},
	{"block-storage", "cinder", "volume", "/v3/%(project_id)s"},
	{"volumev3", "cinderv3", "volume", "/v3/%(project_id)s"},
}

// admin logs in as the cloud's operator, past the gate.
func (s *supervisor) admin(ctx context.Context) (*gophercloud.ProviderClient, error) {
	return gopenstack.AuthenticatedClient(ctx, gophercloud.AuthOptions{
		IdentityEndpoint: s.o.local("identity") + "/v3", Username: "admin", Password: s.settings.Secrets.Admin, TenantName: "admin", DomainID: "default",
		AllowReauth: true,
	})
}

// inner asks for APIs past the gate.
func inner() gophercloud.EndpointOpts {
	return gophercloud.EndpointOpts{Region: Region, Availability: gophercloud.AvailabilityInternal}
}

// makeIdentity makes everything in keystone but what its bootstrap made.
func (s *supervisor) makeIdentity(ctx context.Context) (identity, error) {
	out := identity{Projects: map[string]string{}, Credentials: map[string]credential{}}
	client, err := s.admin(ctx)
	if err != nil {
		return out, err
	}
	api, err := gopenstack.NewIdentityV3(client, inner())
	if err != nil {
		return out, err
	}
	role := map[string]string{}
	pages, err := roles.List(api, roles.ListOpts{}).AllPages(ctx)
	if err != nil {
		return out, err
	}
	all, err := roles.ExtractRoles(pages)
	if err != nil {
		return out, err
	}
	for _, r := range all {
		role[r.Name] = r.ID
	}
	for _, name := range []string{"service", "load-balancer_member"} {
		if role[name] != "" {
			continue
		}
		r, err := roles.Create(ctx, api, roles.CreateOpts{Name: name}).Extract()
		if err != nil {
			return out, fmt.Errorf("role %s: %w", name, err)
		}
		role[name] = r.ID
	}
	person := func(name, password, project string, wants ...string) (string, error) {
		u, err := users.Create(ctx, api, users.CreateOpts{Name: name, Password: password, DomainID: "default", DefaultProjectID: project}).Extract()
		if err != nil {
			return "", fmt.Errorf("user %s: %w", name, err)
		}
		for _, r := range wants {
			if err := roles.Assign(ctx, api, role[r], roles.AssignOpts{UserID: u.ID, ProjectID: project}).ExtractErr(); err != nil {
				return "", fmt.Errorf("user %s: role %s: %w", name, r, err)
			}
		}
		return u.ID, nil
	}
	project := func(name string) (string, error) {
		p, err := projects.Create(ctx, api, projects.CreateOpts{Name: name, DomainID: "default"}).Extract()
		if err != nil {
			return "", fmt.Errorf("project %s: %w", name, err)
		}
		return p.ID, nil
	}
	service, err := project("daemons") // a cluster is called "service"
	if err != nil {
		return out, err
	}
	for _, name := range []string{"glance", "placement", "neutron", "nova", "cinder"} {
		if _, err := person(name, s.settings.Secrets.Service, service, "admin", "service"); err != nil {
			return out, err
		}
	}
	for _, x := range catalog {
		if err := s.offer(ctx, api, x.kind, x.name, x.port, x.path); err != nil {
			return out, err
		}
	}
	for _, name := range projectNames {
		if out.Projects[name], err = project(name); err != nil {
			return out, err
		}
		id, err := person(name, s.settings.Secrets.Users[name], out.Projects[name], "member", "reader", "load-balancer_member")
		if err != nil {
			return out, err
		}
		if out.Credentials[name], err = s.makeCredential(ctx, name, id); err != nil {
			return out, err
		}
	}
	return out, nil
}

// offer puts a service into the catalog: users find it at the gate, daemons past it.
func (s *supervisor) offer(ctx context.Context, api *gophercloud.ServiceClient, kind, name, port, path string) error {
	x, err := services.Create(ctx, api, services.CreateOpts{Type: kind, Extra: map[string]any{"name": name}}).Extract()
	if err != nil {
		return fmt.Errorf("service %s: %w", name, err)
	}
	for face, url := range map[gophercloud.Availability]string{
		gophercloud.AvailabilityPublic: s.o.public(port), gophercloud.AvailabilityInternal: s.o.local(port), gophercloud.AvailabilityAdmin: s.o.local(port),
	} {
		if _, err := endpoints.Create(ctx, api, endpoints.CreateOpts{Availability: face, Name: name, Region: Region, URL: url + path, ServiceID: x.ID}).Extract(); err != nil {
			return fmt.Errorf("endpoint of %s: %w", name, err)
		}
	}
	return nil
}

// makeCredential makes a user's application credential, which only the user can do.
func (s *supervisor) makeCredential(ctx context.Context, name, user string) (credential, error) {
	client, err := gopenstack.AuthenticatedClient(ctx, gophercloud.AuthOptions{
		IdentityEndpoint: s.o.local("identity") + "/v3", Username: name, Password: s.settings.Secrets.Users[name], TenantName: name, DomainID: "default",
	})
	if err != nil {
		return credential{}, err
	}
	api, err := gopenstack.NewIdentityV3(client, inner())
	if err != nil {
		return credential{}, err
	}
	c, err := applicationcredentials.Create(ctx, api, user, applicationcredentials.CreateOpts{Name: "catamaran"}).Extract()
	if err != nil {
		return credential{}, fmt.Errorf("application credential of %s: %w", name, err)
	}
	return credential{c.ID, c.Secret}, nil
}
