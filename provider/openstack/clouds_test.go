package openstack

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCredentialsNameOneDomain(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		env                        map[string]string
		user, id, name             string
		projectDomain, projectName string
	}{
		"the default domain":      {map[string]string{"OS_USERNAME": "demo", "OS_DEFAULT_DOMAIN": "default"}, "", "default", "", "default", ""},
		"names beside a default":  {map[string]string{"OS_USERNAME": "demo", "OS_DEFAULT_DOMAIN": "default", "OS_USER_DOMAIN_NAME": "A", "OS_PROJECT_DOMAIN_NAME": "B"}, "", "", "A", "", "B"},
		"only the user's":         {map[string]string{"OS_USERNAME": "demo", "OS_DEFAULT_DOMAIN": "default", "OS_USER_DOMAIN_NAME": "A"}, "", "", "A", "default", ""},
		"names and IDs":           {map[string]string{"OS_USERNAME": "demo", "OS_USER_DOMAIN_NAME": "A", "OS_USER_DOMAIN_ID": "a", "OS_PROJECT_DOMAIN_ID": "b"}, "", "a", "", "b", ""},
		"one for both":            {map[string]string{"OS_USERNAME": "demo", "OS_DOMAIN_NAME": "A", "OS_USER_DOMAIN_ID": "a"}, "", "a", "", "", "A"},
		"a user's ID":             {map[string]string{"OS_USER_ID": "u1", "OS_USER_DOMAIN_NAME": "A", "OS_DEFAULT_DOMAIN": "default"}, "u1", "", "", "default", ""},
		"a user's ID and name":    {map[string]string{"OS_USER_ID": "u1", "OS_USERNAME": "demo", "OS_USER_DOMAIN_ID": "a", "OS_PROJECT_DOMAIN_ID": "b"}, "u1", "", "", "b", ""},
		"a token among variables": {map[string]string{"OS_TOKEN": "secret", "OS_PASSWORD": "", "OS_USERNAME": "demo", "OS_DEFAULT_DOMAIN": "default"}, "", "", "", "default", ""},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			text, err := fromEnvironment(func(k string) string {
				if v, ok := c.env[k]; ok {
					return v
				}
				return map[string]string{"OS_AUTH_URL": "https://cloud.test:5000/v3", "OS_PASSWORD": "x", "OS_PROJECT_NAME": "p"}[k]
			})
			require.NoError(t, err)
			auth, _, _, err := parse([]clouds.ParseOption{clouds.WithCloudName("environment"), clouds.WithCloudsYAML(strings.NewReader(text))})
			require.NoError(t, err)
			oneIdentity(&auth)
			assert.Equal(t, []string{c.user, c.id, c.name}, []string{auth.UserID, auth.DomainID, auth.DomainName})
			require.NotNil(t, auth.Scope)
			assert.Equal(t, gophercloud.AuthScope{ProjectName: "p", DomainID: c.projectDomain, DomainName: c.projectName}, *auth.Scope)
			scope, err := auth.ToTokenV3ScopeMap()
			require.NoError(t, err)
			_, err = auth.ToTokenV3CreateMap(scope)
			assert.NoError(t, err, "the library takes it")
		})
	}
}

func TestWhatCloudsYAMLMayNotSay(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "clouds.yaml")
	require.NoError(t, os.WriteFile(path, []byte(`
clouds:
  plain: {region_name: north}
  one: {regions: [north]}
  two: {regions: [north, {name: south}]}
  values: {regions: [{name: north, values: {auth: {}}}, south]}
  other: {object_store_endpoint_override: https://x.test}
  override: {network_endpoint_override: https://secret@x.test}
`), 0o600))
	for _, c := range []struct{ cloud, chosen, region, says string }{
		{"plain", "north", "north", ""},
		{"one", "", "north", ""},
		{"two", "", "", "clouds.two has the regions north, south; say which one"},
		{"two", "south", "south", ""},
		{"values", "north", "", "values that count for the region north only"},
		{"values", "south", "south", ""},
		{"other", "", "", ""},
		{"override", "", "", "clouds.override.network_endpoint_override is not supported"},
		{"unknown", "", "", ""},
	} {
		region, err := onlyRegion(path, c.cloud, c.chosen)
		assert.Equal(t, c.region, region, c.cloud)
		if c.says == "" {
			assert.NoError(t, err, c.cloud)
		} else {
			assert.ErrorContains(t, err, c.says)
			assert.NotContains(t, err.Error(), "secret")
		}
	}
	_, err := fromEnvironment(func(k string) string {
		return map[string]string{"OS_AUTH_URL": "https://cloud.test", "OS_COMPUTE_ENDPOINT_OVERRIDE": "https://x.test"}[k]
	})
	assert.ErrorContains(t, err, "OS_COMPUTE_ENDPOINT_OVERRIDE")

	get := func(k string) string { return map[string]string{"OS_CLIENT_CONFIG_FILE": path}[k] }
	assert.Equal(t, path, cloudsFile("", get))
	assert.Empty(t, cloudsFile(path+"x", get), "the given one, or none")
	p := New(Options{CloudsFile: path})
	_, _, _, err = p.credentials("override")
	assert.Error(t, err)
}

func TestOneRegion(t *testing.T) {
	t.Parallel()
	entry := func(kind string, regions ...string) tokens.CatalogEntry {
		e := tokens.CatalogEntry{Type: kind}
		for _, r := range regions {
			e.Endpoints = append(e.Endpoints, tokens.Endpoint{Region: r, Interface: "public"}, tokens.Endpoint{Region: r + "-inside", Interface: "internal"})
		}
		return e
	}
	public := gophercloud.EndpointOpts{Availability: gophercloud.AvailabilityPublic}
	catalog := &tokens.ServiceCatalog{Entries: []tokens.CatalogEntry{entry("compute", "south", "north"), entry("network", "north"), entry("object-store", "moon")}}
	assert.EqualError(t, oneRegion(catalog, public), "the cloud has the regions north, south; say which one as region_name in clouds.yaml, or in OS_REGION_NAME")
	public.Region = "north"
	assert.NoError(t, oneRegion(catalog, public))
	public.Region = ""
	catalog.Entries[0] = entry("compute", "north")
	catalog.Entries[2] = entry("object-store", "moon", "mars")
	assert.NoError(t, oneRegion(catalog, public), "services that are not used do not count")
	catalog.Entries[1] = entry("network", "global")
	assert.NoError(t, oneRegion(catalog, public), "there is nothing to choose")
}

// secure.yaml is found beside the clouds.yaml that is named, in the inventory's way or by the variable, or where its own variable says.
func TestSecretsBesideANamedFile(t *testing.T) {
	t.Parallel()
	dir, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "mine.yaml")
	secret := func(path, password string) {
		require.NoError(t, os.WriteFile(path, []byte("clouds: {umea: {auth: {password: "+password+"}}}"), 0o600))
	}
	file := filepath.Join(dir, "clouds.yaml")
	require.NoError(t, os.WriteFile(file, []byte("clouds: {umea: {auth: {auth_url: 'https://cloud.test/v3', username: demo}}}"), 0o600))
	secret(filepath.Join(dir, "secure.yaml"), "beside")
	secret(elsewhere, "elsewhere")
	for name, c := range map[string]struct {
		given string
		env   map[string]string
		want  string
	}{
		"a file that is given":  {file, nil, "beside"},
		"a file of a variable":  {"", map[string]string{"OS_CLIENT_CONFIG_FILE": file}, "beside"},
		"secrets of a variable": {file, map[string]string{"OS_CLIENT_SECURE_FILE": elsewhere}, "elsewhere"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options := cloudsLocations(c.given, func(k string) string { return c.env[k] })
			auth, _, _, err := parse(append(options, clouds.WithCloudName("umea")))
			require.NoError(t, err)
			assert.Equal(t, c.want, auth.Password)
		})
	}
}
