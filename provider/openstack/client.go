package openstack

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/config"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"golang.org/x/sync/errgroup"
)

// computeVersion is what is needed of nova: tags in the request that makes a server, and soft anti-affinity (2018, Rocky).
const computeVersion = "2.64"

// cloud is a session with one project.
type cloud struct {
	project, user           string
	compute, network, image *gophercloud.ServiceClient
	volume, balancer        *gophercloud.ServiceClient // nil where the cloud has no such service
	limit                   int                        // requests at once
}

// session signs in, once for each entry of clouds.yaml.
func (p *Provider) session(ctx context.Context, name string) (*cloud, error) {
	p.mu.Lock()
	known := p.cloud[name]
	p.mu.Unlock()
	if known != nil {
		return known, nil
	}
	c, err := p.signIn(ctx, name)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cloud[name] = c
	return c, nil
}

func (p *Provider) signIn(ctx context.Context, name string) (*cloud, error) {
	auth, endpoints, transport, err := p.credentials(name)
	if err != nil {
		return nil, permanent("openstack: read the credentials: %v", err)
	}
	var connection http.RoundTripper = transport
	if p.options.Transport != nil {
		connection = p.options.Transport(connection)
	}
	client := http.Client{Transport: &retry{base: connection, timeout: p.options.Timeout, wait: sleep}}
	signed, err := config.NewProviderClient(ctx, auth, config.WithHTTPClient(client))
	if err != nil {
		return nil, explain(ctx, "sign in at "+auth.IdentityEndpoint, err)
	}
	result, ok := signed.GetAuthResult().(tokens.CreateResult)
	if !ok {
		return nil, permanent("openstack: sign in at %s: the cloud speaks no Keystone v3", auth.IdentityEndpoint)
	}
	catalog, err := result.ExtractServiceCatalog()
	if err != nil {
		return nil, explain(ctx, "read the catalog of the cloud", err)
	}
	if err := oneRegion(catalog, endpoints); err != nil {
		return nil, permanent("openstack: sign in at %s: %v", auth.IdentityEndpoint, err)
	}
	project, err := result.ExtractProject()
	if err != nil {
		return nil, explain(ctx, "read the project of the credentials", err)
	}
	if project == nil || project.ID == "" {
		return nil, permanent("openstack: sign in at %s: the credentials are not for a project; name one in clouds.yaml or OS_PROJECT_NAME", auth.IdentityEndpoint)
	}
	user, err := result.ExtractUser()
	if err != nil {
		return nil, explain(ctx, "read the user of the credentials", err)
	}
	out := &cloud{project: project.ID, limit: 8}
	if user != nil {
		out.user = user.ID
	}
	for _, service := range []struct {
		name     string
		open     func(*gophercloud.ProviderClient, gophercloud.EndpointOpts) (*gophercloud.ServiceClient, error)
		into     **gophercloud.ServiceClient
		optional bool
	}{
		{"compute", openstack.NewComputeV2, &out.compute, false},
		{"network", openstack.NewNetworkV2, &out.network, false},
		{"image", openstack.NewImageV2, &out.image, false},
		{"block storage", openstack.NewBlockStorageV3, &out.volume, true},
		{"load balancer", openstack.NewLoadBalancerV2, &out.balancer, true},
	} {
		c, err := service.open(signed, endpoints)
		if service.optional && absent(err) {
			continue
		}
		if err != nil {
			return nil, explain(ctx, "find the "+service.name+" service", err)
		}
		*service.into = c
	}
	out.compute.Microversion = computeVersion
	return out, nil
}

// absent tells that the catalog has no such service. Any other failure says nothing of the kind: a service that did not answer once may
// hold what is to be found.
func absent(err error) bool {
	_, none := errors.AsType[*gophercloud.ErrEndpointNotFound](err)
	return none
}

// credentials are those of an entry of clouds.yaml and secure.yaml, or else of the OS_* variables, as the openstack command reads them.
func (p *Provider) credentials(name string) (gophercloud.AuthOptions, gophercloud.EndpointOpts, *http.Transport, error) {
	var options []clouds.ParseOption
	if name == "" {
		name = os.Getenv("OS_CLOUD")
	}
	switch {
	case name != "":
		options = append(cloudsLocations(p.options.CloudsFile, os.Getenv), clouds.WithCloudName(name))
	default:
		text, err := fromEnvironment(os.Getenv)
		if err != nil {
			return gophercloud.AuthOptions{}, gophercloud.EndpointOpts{}, nil, err
		}
		options = append(options, clouds.WithCloudName("environment"), clouds.WithCloudsYAML(strings.NewReader(text)))
	}
	auth, endpoints, trust, err := parse(options)
	if err != nil {
		return auth, endpoints, nil, err
	}
	if name != "" {
		if endpoints.Region, err = onlyRegion(cloudsFile(p.options.CloudsFile, os.Getenv), name, endpoints.Region); err != nil {
			return auth, endpoints, nil, err
		}
	}
	oneIdentity(&auth)
	auth.AllowReauth = true
	if auth.ApplicationCredentialSecret != "" {
		// such a credential is for one project already, and Keystone refuses a second word about it
		auth.Scope, auth.TenantID, auth.TenantName = nil, "", ""
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = trust
	transport.MaxIdleConnsPerHost = 16
	return auth, endpoints, transport, nil
}

// parse reads credentials; the library does not expect an entry without an auth section.
func parse(options []clouds.ParseOption) (auth gophercloud.AuthOptions, endpoints gophercloud.EndpointOpts, config *tls.Config, err error) {
	defer func() {
		if recover() != nil {
			err = fmt.Errorf("the entry of clouds.yaml has no auth section")
		}
	}()
	return clouds.Parse(options...)
}

// fromEnvironment writes the OS_* variables as a clouds.yaml, so that both are read by the same rules.
func fromEnvironment(get func(string) string) (string, error) {
	if get("OS_AUTH_URL") == "" {
		return "", fmt.Errorf("there are none: name a cloud of clouds.yaml in the inventory (provider.openstack.cloud) or in OS_CLOUD, or set OS_AUTH_URL and its fellows")
	}
	first := func(names ...string) string {
		for _, n := range names {
			if v := get(n); v != "" {
				return v
			}
		}
		return ""
	}
	for _, service := range overridden() {
		if key := "OS_" + strings.ToUpper(service) + "_ENDPOINT_OVERRIDE"; get(key) != "" {
			return "", fmt.Errorf("the variable %s is not supported: every service is found in the catalog of the cloud; unset it, and have the catalog say the right address", key)
		}
	}
	either, standard := [2]string{get("OS_DOMAIN_ID"), get("OS_DOMAIN_NAME")}, [2]string{get("OS_DEFAULT_DOMAIN"), ""}
	userID, userName := firstDomain([2]string{get("OS_USER_DOMAIN_ID"), get("OS_USER_DOMAIN_NAME")}, either, standard)
	projectID, projectName := firstDomain([2]string{get("OS_PROJECT_DOMAIN_ID"), get("OS_PROJECT_DOMAIN_NAME")}, either, standard)
	entry := clouds.Cloud{
		RegionName: get("OS_REGION_NAME"), Interface: get("OS_INTERFACE"),
		CACertFile: get("OS_CACERT"), ClientCertFile: get("OS_CERT"), ClientKeyFile: get("OS_KEY"),
		AuthInfo: &clouds.AuthInfo{
			AuthURL: get("OS_AUTH_URL"), Token: get("OS_TOKEN"),
			Username: get("OS_USERNAME"), UserID: first("OS_USER_ID", "OS_USERID"), Password: get("OS_PASSWORD"),
			ApplicationCredentialID:     get("OS_APPLICATION_CREDENTIAL_ID"),
			ApplicationCredentialName:   get("OS_APPLICATION_CREDENTIAL_NAME"),
			ApplicationCredentialSecret: get("OS_APPLICATION_CREDENTIAL_SECRET"),
			ProjectID:                   first("OS_PROJECT_ID", "OS_TENANT_ID"), ProjectName: first("OS_PROJECT_NAME", "OS_TENANT_NAME"),
			UserDomainID: userID, UserDomainName: userName, ProjectDomainID: projectID, ProjectDomainName: projectName,
		},
	}
	data, err := json.Marshal(clouds.Clouds{Clouds: map[string]clouds.Cloud{"environment": entry}})
	return string(data), err
}

// together runs functions at once, no more than the cloud is asked for at a time.
func (c *cloud) together(ctx context.Context, fs ...func(context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.limit)
	for _, f := range fs {
		g.Go(func() error { return f(ctx) })
	}
	return g.Wait()
}
