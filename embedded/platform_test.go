package embedded

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/catamaran-k8s/catamaran/inventory"
)

const ownS3 = `platform:
  objectStorage:
    endpoint: https://s3.example.org:9000
    credentials:
      evidence: {access: {env: EA}, secret: {env: ES}}
      loki: {access: {env: LA}, secret: {env: LS}}
      thanos: {access: {env: TA}, secret: {env: TS}}
  alerts:
    webhook: {url: {env: HOOK}}
    email: {to: a@example.org, from: b@example.org, smarthost: "mail.example.org:587", username: u, password: {env: MAIL}}
    watchdog: {url: {env: DOG}}
`

// withAuthority is ownS3 with a certificate that no public authority has signed.
var withAuthority = strings.Replace(ownS3, "    credentials:", "    caFile: ca.pem\n    credentials:", 1)

// platforms are the shapes that a platform can have.
func platforms() map[string]string {
	return map[string]string{"small": "platform: {size: small}", "standard": "platform: {size: standard}", "large, with its own S3": ownS3 + "  size: large\n",
		"with its own authority": withAuthority + "  size: standard\n"}
}

// The claim of the platform, at the level of what is asked for: a workload cluster gets what proves its tenant's name to
// the gateway, and nothing that any part of the service cluster would take for more.
func TestSeparation(t *testing.T) {
	t.Parallel()
	for name, more := range platforms() {
		inv := site(t, more)
		passwords := map[string]bool{}
		for _, r := range releases(t, inv, inventory.Service) {
			for _, s := range r.Secrets {
				for _, p := range s.Passwords() {
					passwords[p] = true
				}
				if c := s.Certificate; c != nil && c.Issuer == IssuerIngestClient {
					assert.Fail(t, "a client certificate of the gateway's in the service cluster: "+s.Name)
				}
			}
		}
		assert.NotEmpty(t, passwords, "this check sees passwords")
		var got []string
		for _, r := range releases(t, inv, inventory.Workload) {
			for _, s := range r.Secrets {
				got = append(got, s.Namespace+"/"+s.Name)
				assert.Empty(t, s.Passwords(), name)
				assert.Empty(t, s.Values, name)
				assert.Equal(t, &Certificate{
					Issuer: IssuerIngestClient, Trust: IssuerIngestServer, CommonName: "test-workload", Organization: []string{"test-workload"}, Client: true,
				}, s.Certificate, name)
			}
		}
		assert.Equal(t, []string{"fluentd/ingest-client", "prometheus-agent/ingest-client"}, got, name)
	}
}

func TestSeparationIsGuarded(t *testing.T) {
	t.Parallel()
	inv := site(t, "platform: {size: small}")
	good := func() Secret { return ingestClient(inv, "fluentd") }
	require.NoError(t, checkSeparation(inv, good()))
	for name, spoil := range map[string]func(*Secret){
		"another issuer":      func(s *Secret) { s.Certificate.Issuer = IssuerService },
		"another trust":       func(s *Secret) { s.Certificate.Trust = IssuerService },
		"a server":            func(s *Secret) { s.Certificate.Server = true },
		"another tenant":      func(s *Secret) { s.Certificate.CommonName = "other" },
		"a name":              func(s *Secret) { s.Certificate.DNSNames = []string{"grafana.grafana.svc"} },
		"an address":          func(s *Secret) { s.Certificate.IPs = []string{"10.0.0.1"} },
		"a password":          func(s *Secret) { s.Values = map[string]SecretValue{"k": {Password: "s3-loki"}} },
		"a password in words": func(s *Secret) { s.Certificate, s.Values = nil, map[string]SecretValue{"k": {Text: "x{{s3-loki}}"}} },
	} {
		s := good()
		spoil(&s)
		assert.Error(t, checkSeparation(inv, s), name)
	}
	assert.Error(t, checkSeparation(inv, serviceCertificate(inv.Clusters.Service, "loki")))
}

// What a chart mounts is what is made before it, key by key, and nothing else is made.
func TestChartsMountWhatIsMade(t *testing.T) {
	t.Parallel()
	for name, more := range platforms() {
		inv := site(t, more)
		checked := 0
		for _, cluster := range inv.ClusterNames() {
			for _, r := range releases(t, inv, cluster) {
				keys := map[string][]string{}
				for _, s := range r.Secrets {
					assert.Equal(t, r.Namespace, s.Namespace, "%s: %s", name, s.Name)
					if s.Certificate != nil {
						keys[s.Name] = append(keys[s.Name], "tls.crt", "tls.key", "ca.crt")
					}
					for k := range s.Values {
						keys[s.Name] = append(keys[s.Name], k)
					}
					assert.NotEmpty(t, keys[s.Name])
				}
				used := map[string]bool{}
				manifest, err := r.Manifest()
				require.NoError(t, err)
				for _, o := range objects(t, manifest) {
					if o["kind"] == "Secret" {
						// one that a program fills by itself
						assert.NotContains(t, o, "data", "%s: %s", name, r.Name)
						assert.NotContains(t, o, "stringData", "%s: %s", name, r.Name)
						own := o["metadata"].(map[string]any)["name"].(string)
						assert.Equal(t, "gatekeeper-webhook-server-cert", own, "%s: %s", name, r.Name)
						keys[own] = []string{"tls.crt", "tls.key", "ca.crt"}
					}
					walkMaps(o, func(m map[string]any) {
						if ref, ok := m["secret"].(map[string]any); ok && ref["secretName"] != nil {
							secret := ref["secretName"].(string)
							used[secret] = true
							if ref["optional"] != true {
								assert.Contains(t, keys, secret, "%s: %s on %s", name, r.Name, cluster)
							}
							checked++
						}
						if ref, ok := m["secretKeyRef"].(map[string]any); ok {
							used[ref["name"].(string)] = true
							assert.Contains(t, keys[ref["name"].(string)], ref["key"], "%s: %s", name, r.Name)
							checked++
						}
					})
				}
				for secret := range keys {
					// a bucket's key is made in every size, so that growing needs no new one; the reader is outside
					if !slices.Contains([]string{"loki-s3", "thanos-s3", "versitygw-reader", unusedRepository}, secret) {
						assert.True(t, used[secret], "%s: %s makes %s for nobody", name, r.Name, secret)
					}
				}
			}
		}
		assert.Greater(t, checked, 12, name)
	}
}

func TestPlatformSwitches(t *testing.T) {
	t.Parallel()
	service := func(more string) []string { return names(releases(t, site(t, more), inventory.Service)) }
	workload := func(more string) []string { return names(releases(t, site(t, more), inventory.Workload)) }
	assert.NotContains(t, service("platform: {enabled: false}"), "loki")
	assert.Contains(t, service("platform: {enabled: false}\ncomponents: {node-exporter: {enabled: true}}"), "node-exporter")
	assert.Contains(t, service("platform: {size: small}"), "loki")
	assert.NotContains(t, service("platform: {size: small}\ncomponents: {grafana: {enabled: false}}"), "grafana")
	assert.NotContains(t, workload("platform: {size: small}"), "loki", "it is for the service cluster")
	assert.Contains(t, workload("platform: {size: small}"), "fluentd")
	assert.NotContains(t, service("platform: {size: small}"), "fluentd")
	assert.NotContains(t, service(ownS3), "versitygw", "the site has its own")
	assert.Contains(t, service(ownS3+"components: {versitygw: {enabled: true}}\n"), "versitygw")
	for _, r := range releases(t, site(t, "platform: {size: large}"), inventory.Service) {
		c, _ := componentNamed(r.Name)
		if c.part == platform {
			assert.Equal(t, "large", r.Values["size"], r.Name)
		}
	}
	order := service("platform: {size: small}")
	assert.Less(t, slices.Index(order, "versitygw"), slices.Index(order, "loki"))
	assert.Less(t, slices.Index(order, "loki"), slices.Index(order, "ingest-gateway"))
	assert.Equal(t, gateway, named(t, releases(t, site(t, "platform: {size: small}"), inventory.Workload), "fluentd").After)
}

func TestWhatThePlatformNeeds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		more string
		want []string
	}{
		"an S3, in standard": {"platform: {size: standard}\ncomponents: {versitygw: {enabled: false}}", []string{
			"platform.objectStorage: thanos on the service cluster needs an S3 with object lock: versitygw is off and no other is named",
			"platform.objectStorage: loki on the service cluster needs an S3 with object lock: versitygw is off and no other is named",
			"platform.objectStorage: ingest-gateway on the service cluster needs an S3 with object lock: versitygw is off and no other is named",
		}},
		"an S3, in small": {"platform: {size: small}\ncomponents: {versitygw: {enabled: false}}", []string{
			"platform.objectStorage: ingest-gateway on the service cluster needs an S3 with object lock: versitygw is off and no other is named",
		}},
		"a gateway": {"platform: {size: small}\ncomponents: {ingest-gateway: {enabled: false}, prometheus-agent: {enabled: false}}", []string{
			"components.fluentd: fluentd on the workload cluster needs the component ingest-gateway, which is off",
		}},
		"nothing more, with the site's own authority": {withAuthority, nil},
		"nothing more":              {ownS3, nil},
		"nothing, when it is off":   {"platform: {enabled: false}\ncomponents: {versitygw: {enabled: false}}", nil},
		"a setting that is decided": {"platform: {size: small}\ncomponents: {loki: {values: {size: large}}}", []string{"components.loki.values.size: it follows from other parts of the inventory (`catamaran charts values loki` says which)"}},
		"a retention that is a field": {"platform: {size: small}\ncomponents: {loki: {values: {retentionDays: 3}}}", []string{
			"components.loki.values.retentionDays: it follows from other parts of the inventory (`catamaran charts values loki` says which)",
		}},
	} {
		err := Validate(site(t, c.more))
		if c.want == nil {
			assert.NoError(t, err, name)
			continue
		}
		assert.ElementsMatch(t, c.want, refusals(t, err), name)
	}
	inv := site(t, "platform: {enabled: false}\ncomponents: {loki: {enabled: true}}")
	inv.Clusters.Service = nil
	assert.Equal(t, []string{"components.loki.enabled: loki is for the service cluster, which this inventory does not have"}, refusals(t, Validate(inv)))
}

// A workload cluster that delivers to another site's service cluster has what its operator was given.
func TestForeignIngest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, f := range []string{"ca.pem", "shop.pem", "shop.key"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, f), []byte(f), 0o600))
	}
	inv, err := inventory.Parse([]byte(`
apiVersion: catamaran/v1alpha1
kind: Inventory
metadata: {name: test}
kubernetes: {version: 1.37.2}
clusters:
  workload:
    network: {podCIDR: 10.102.0.0/16, serviceCIDR: 10.103.0.0/16}
    nodes: [{name: wc-1, role: control-plane, address: 10.77.0.21}]
platform:
  size: small
  ingest: {address: 203.0.113.10, metricsPort: 443, credentials: {caFile: ca.pem, certificateFile: shop.pem, key: {file: shop.key}}}
`), filepath.Join(dir, "inventory.yaml"))
	require.NoError(t, err)
	r := named(t, releases(t, inv, inventory.Workload), "fluentd")
	assert.Equal(t, map[string]any{"address": "203.0.113.10", "forwardPort": 30224, "serverName": ""}, r.Values["ingest"])
	require.Len(t, r.Secrets, 1)
	require.NoError(t, r.Secrets[0].Check())
	key, err := r.Secrets[0].Values["tls.key"].Resolve(nil)
	require.NoError(t, err)
	assert.Equal(t, "shop.key", key)
	require.NoError(t, os.Remove(filepath.Join(dir, "shop.key")))
	require.ErrorContains(t, r.Secrets[0].Check(), "secret fluentd/ingest-client, key tls.key: ")
	assert.Contains(t, r.Values["network"].(map[string]any)["peers"], "203.0.113.10/32")
}

func TestStoreOfTheSites(t *testing.T) {
	t.Parallel()
	inv := site(t, ownS3)
	list := releases(t, inv, inventory.Service)
	assert.Equal(t, map[string]any{"endpoint": "https://s3.example.org:9000", "region": "us-east-1", "bucket": "test-evidence", "serviceAuthority": false, "siteAuthority": false}, named(t, list, gateway).Values["s3"])
	assert.Equal(t, "s3.example.org:9000", named(t, list, "thanos").Values["s3"].(map[string]any)["endpoint"], "Thanos wants no scheme")
	assert.Equal(t, SecretValue{From: &inventory.Secret{Env: "LS"}}, storeKey(inv, "loki").Values["secret"])
	assert.Equal(t, []any{
		map[string]any{"name": "operators", "webhook": map[string]any{"urlKey": "webhook-url"}, "email": map[string]any{
			"to": "a@example.org", "from": "b@example.org", "smarthost": "mail.example.org:587", "username": "u", "passwordKey": "email-password",
		}},
		map[string]any{"name": "watchdog", "webhook": map[string]any{"urlKey": "watchdog-url"}},
	}, named(t, list, "alertmanager").Values["receivers"])
	small := releases(t, site(t, "platform: {size: small}"), inventory.Service)
	assert.Empty(t, named(t, small, "loki").Values["s3"].(map[string]any)["endpoint"])
	assert.NotEmpty(t, named(t, small, gateway).Values["s3"].(map[string]any)["endpoint"])
}

func TestStoreUsers(t *testing.T) {
	t.Parallel()
	s := Secret{Namespace: "versitygw", Name: "versitygw-users", Values: map[string]SecretValue{"users.json": {Text: storeUsers()}}}
	passwords := map[string]string{}
	for _, p := range s.Passwords() {
		passwords[p] = "secret of " + p
	}
	assert.Equal(t, []string{"s3-ingest-gateway", "s3-loki", "s3-reader", "s3-thanos"}, s.Passwords())
	assert.Contains(t, s.Passwords(), StoreReaderPassword)
	text, err := s.Values["users.json"].Resolve(passwords)
	require.NoError(t, err)
	var users struct {
		AccessAccounts map[string]struct{ Access, Secret, Role string }
	}
	require.NoError(t, json.Unmarshal([]byte(text), &users))
	for name, u := range users.AccessAccounts {
		assert.Equal(t, name, u.Access)
		assert.Equal(t, "secret of s3-"+name, u.Secret)
		assert.Equal(t, "user", u.Role)
	}
	inv := site(t, "platform: {size: small}")
	for _, user := range []string{gateway, "loki", "thanos"} {
		key := storeKey(inv, user)
		assert.Equal(t, []string{passwordOf(user)}, key.Passwords(), "both sides have the same")
		assert.Contains(t, users.AccessAccounts, key.Values["access"].Text)
	}
}

func TestDoor(t *testing.T) {
	t.Parallel()
	inv := site(t, "platform: {size: small}")
	cert := doorCertificate(inv, inv.Clusters.Service).Certificate
	assert.Equal(t, IssuerIngestServer, cert.Issuer)
	assert.Equal(t, IssuerIngestClient, cert.Trust)
	assert.Equal(t, []string{"10.77.0.11"}, cert.IPs)
	assert.Contains(t, cert.DNSNames, doorName(inv))
	assert.False(t, cert.Client)
	inv = site(t, "platform: {ingest: {address: ingest.example.org}}")
	assert.Contains(t, doorCertificate(inv, inv.Clusters.Service).Certificate.DNSNames, "ingest.example.org")
	assert.Empty(t, doorName(inv), "the address is a name already")
}

// All that speak to an S3 of the site's own believe the authority that the site names, and no public one then; without it, the public
// ones; with the S3 that we bring, the service cluster's.
func TestAuthorityOfTheStore(t *testing.T) {
	t.Parallel()
	authority := func(more, component, key string) (path any, mounted bool) {
		r := named(t, releases(t, site(t, more), inventory.Service), component)
		manifest, err := r.Manifest()
		require.NoError(t, err)
		var config map[string]any
		require.NoError(t, yaml.Unmarshal([]byte(data(t, manifest, key)), &config))
		walkMaps(config, func(m map[string]any) {
			for _, name := range []string{"tls_ca_path", "caFile"} {
				if m[name] != nil {
					path = m[name]
				}
			}
			if tls, ok := m["tls_config"].(map[string]any); ok {
				path = tls["ca_file"]
			}
		})
		for _, s := range r.Secrets {
			if s.Name == component+"-s3" {
				_, mounted = s.Values["ca.crt"]
			}
		}
		return path, mounted
	}
	for component, key := range map[string]string{"loki": "loki.yaml", "thanos": "bucket.yaml", gateway: "gateway.yaml"} {
		path, mounted := authority(withAuthority, component, key)
		assert.Equal(t, "/etc/catamaran/s3/ca.crt", path, component)
		assert.True(t, mounted, component)
		path, mounted = authority(ownS3, component, key)
		assert.Nil(t, path, component)
		assert.False(t, mounted, component)
	}
	path, _ := authority("platform: {size: standard}", "loki", "loki.yaml")
	assert.Equal(t, "/etc/catamaran/tls/ca.crt", path)

	// where the file is read from, and that each container that needs it has it
	inv := site(t, withAuthority)
	assert.Equal(t, SecretValue{File: filepath.Join(inv.Dir, "ca.pem")}, storeKey(inv, "loki").Values["ca.crt"])
	mounts := map[string]bool{}
	for _, component := range []string{"loki", "thanos", gateway} {
		manifest, err := named(t, releases(t, inv, inventory.Service), component).Manifest()
		require.NoError(t, err)
		for _, o := range objects(t, manifest) {
			for _, pod := range podSpecs(o) {
				for _, m := range pod["containers"].([]any)[0].(map[string]any)["volumeMounts"].([]any) {
					if m.(map[string]any)["mountPath"] == "/etc/catamaran/s3" {
						mounts[o["metadata"].(map[string]any)["name"].(string)] = true
					}
				}
			}
		}
	}
	assert.Equal(t, map[string]bool{"loki": true, gateway: true, "thanos-receive": true, "thanos-store": true, "thanos-compact": true, "thanos-rule": true}, mounts)
}
