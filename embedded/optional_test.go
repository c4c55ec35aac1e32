package embedded

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// signIn is what the component dex needs.
const signIn = `oidc: {connector: {type: ldap, name: Staff, config: {host: "ldap.example.org:636", bindDN: "cn=dex", bindPW: $LDAP_PASSWORD}, secrets: {LDAP_PASSWORD: {env: LDAP_PASSWORD}}}}`

// optionals has all that is off by itself; withBackups is the rest of what it needs.
const optionals = `platform: {size: small, ` + signIn + `}
components:
  cert-manager: {enabled: true, values: {egress: [203.0.113.7/32]}}
  gateway-api: {enabled: true, values: {gateway: {certificates: [shop-tls]}, clients: [192.0.2.0/24]}}
  velero: {enabled: true}
  dex: {enabled: true}
`

// withBackups gives each cluster a place for its backups.
func withBackups(inv *inventory.Inventory) *inventory.Inventory {
	for _, name := range inv.ClusterNames() {
		c := string(name)
		inv.Cluster(name).Backup = &inventory.Backup{
			Endpoint: "https://s3.example.org:9000", Region: "us-east-1", Bucket: "test-" + c + "-backup",
			Credentials: inventory.AccessKey{Access: &inventory.Secret{Env: "BACKUP_ACCESS_" + c}, Secret: &inventory.Secret{Env: "BACKUP_SECRET_" + c}},
		}
	}
	return inv
}

func optionalNames() []string {
	var out []string
	for _, c := range optionalComponents() {
		out = append(out, c.name)
	}
	return out
}

// What is off is on no cluster, and its images are in no bundle.
func TestOptionalIsOff(t *testing.T) {
	t.Parallel()
	lock, err := Lock()
	require.NoError(t, err)
	for _, more := range []string{"platform: {size: small}", "platform: {enabled: false}"} {
		inv := site(t, more)
		for _, cluster := range inv.ClusterNames() {
			images, err := Images(t.Context(), inv, cluster)
			require.NoError(t, err)
			list := names(releases(t, inv, cluster))
			for _, name := range optionalNames() {
				assert.NotContains(t, list, name)
				for _, l := range lock {
					if len(l.UsedBy) == 1 && l.UsedBy[0] == name {
						assert.NotContains(t, images, l.Ref)
					}
				}
			}
		}
	}
	inv := withBackups(site(t, optionals))
	require.NoError(t, Validate(inv))
	images, err := Images(t.Context(), inv, inventory.Workload)
	require.NoError(t, err)
	for _, image := range []string{"quay.io/jetstack/cert-manager-acmesolver:v1.21.2", "docker.io/velero/velero-plugin-for-aws:v1.14.3", "docker.io/library/traefik:v3.7.13"} {
		assert.Contains(t, images, image)
	}
}

func TestWhatOptionalComponentsNeed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		more string
		want []string
	}{
		"a place for backups, on each cluster": {"components: {velero: {enabled: true}}", []string{
			"clusters.service.backup: velero on the service cluster needs an S3 outside of both clusters, with a bucket and a key of this cluster's own",
			"clusters.workload.backup: velero on the workload cluster needs an S3 outside of both clusters, with a bucket and a key of this cluster's own",
		}},
		"the evidence's S3 is no place for backups": {ownS3 + "components: {velero: {enabled: true}}", []string{
			"clusters.service.backup: velero on the service cluster needs an S3 outside of both clusters, with a bucket and a key of this cluster's own",
			"clusters.workload.backup: velero on the workload cluster needs an S3 outside of both clusters, with a bucket and a key of this cluster's own",
		}},
		"ports that nobody else has": {"components: {gateway-api: {enabled: true, values: {httpPort: 30224, httpsPort: 30443}}}", []string{
			"components.gateway-api.values.httpPort: gateway-api on the service cluster needs a node port of its own: 30224 is platform.ingest.forwardPort",
			"components.gateway-api.values.httpsPort: gateway-api on the service cluster needs a node port of its own: 30443 is platform.ingest.metricsPort",
		}},
		"a port that Dex has not": {"platform: {enabled: false, " + signIn + "}\ncomponents: {dex: {enabled: true}, gateway-api: {enabled: true, values: {httpPort: 30556}}}", []string{
			"components.gateway-api.values.httpPort: gateway-api on the service cluster needs a node port of its own: 30556 is platform.oidc.port",
		}},
		"a directory of people": {"components: {dex: {enabled: true}}", []string{
			"platform.oidc: dex on the service cluster needs a directory of people to ask",
		}},
		"a storage class": {"platform: {enabled: false, " + signIn + "}\ncomponents: {dex: {enabled: true}, local-path: {enabled: false}}", []string{
			"components.dex.values.storageClass: dex on the service cluster needs a storage class: local-path is off and none is named",
		}},
		"a storage class of the site's own": {"platform: {enabled: false, " + signIn + "}\ncomponents: {dex: {enabled: true, values: {storageClass: fast}}, local-path: {enabled: false}}", nil},
		"nothing":                           {"components: {gateway-api: {enabled: true}, cert-manager: {enabled: true}}", nil},
	} {
		errs := checkComponents(site(t, c.more)) // a part of Validate, and of Releases
		if c.want == nil {
			assert.Empty(t, errs, name)
			continue
		}
		assert.ElementsMatch(t, c.want, refusals(t, errs), name)
	}
}

// Where something is missing is said with the file's line, if the file has it.
func TestMissingIsLocated(t *testing.T) {
	t.Parallel()
	err := Validate(site(t, "components:\n  gateway-api:\n    enabled: true\n    values:\n      httpsPort: 30443\n"))
	var errs inventory.Errors
	require.ErrorAs(t, err, &errs)
	require.Len(t, errs, 1)
	assert.Positive(t, errs[0].Line)
	assert.Contains(t, errs[0].Error(), "inventory.yaml:")
}

// Each cluster's backup key is its own, comes from the operator and never from the vault, and nothing but it is in the cluster.
func TestBackupKeys(t *testing.T) {
	t.Parallel()
	inv := withBackups(site(t, optionals))
	inv.Clusters.Workload.Backup.CAFile = "/ca.pem"
	seen := map[SecretValue]string{}
	for _, cluster := range inv.ClusterNames() {
		r := named(t, releases(t, inv, cluster), velero)
		require.Len(t, r.Secrets, 2)
		for _, s := range r.Secrets {
			assert.Nil(t, s.Certificate)
			assert.Empty(t, s.Passwords(), "the vault's")
			for key, v := range s.Values {
				assert.NotContains(t, seen, v, "%s of both clusters is the same", key)
				seen[v] = s.Name
			}
		}
		s3 := r.Values["s3"].(map[string]any)
		assert.Equal(t, "test-"+string(cluster)+"-backup", s3["bucket"])
		assert.Equal(t, cluster == inventory.Workload, s3["authority"])
	}
	r := named(t, releases(t, inv, inventory.Workload), velero)
	assert.Equal(t, SecretValue{File: "/ca.pem"}, r.Secrets[0].Values["ca.crt"])
}

// What Velero may do: read everything, and write everything only while a restore is asked for.
func TestVeleroRights(t *testing.T) {
	t.Parallel()
	verbs := func(more string) any {
		manifest, err := named(t, releases(t, withBackups(site(t, more)), inventory.Workload), velero).Manifest()
		require.NoError(t, err)
		for _, o := range objects(t, manifest) {
			if o["kind"] == "ClusterRole" {
				return o["rules"].([]any)[0].(map[string]any)["verbs"]
			}
		}
		return nil
	}
	assert.Equal(t, []any{"get", "list", "watch"}, verbs("components: {velero: {enabled: true}}"))
	assert.Equal(t, []any{"*"}, verbs("components: {velero: {enabled: true, values: {restore: true}}}"))
}

func TestCertManagerKnowsOfGateways(t *testing.T) {
	t.Parallel()
	for more, want := range map[string]bool{
		"components: {cert-manager: {enabled: true}}":                                false,
		"components: {cert-manager: {enabled: true}, gateway-api: {enabled: false}}": false,
		"components: {cert-manager: {enabled: true}, gateway-api: {enabled: true}}":  true,
	} {
		list := releases(t, site(t, more), inventory.Workload)
		r := named(t, list, "cert-manager")
		assert.Equal(t, want, r.Values["gatewayAPI"], more)
		manifest, err := r.Manifest()
		require.NoError(t, err)
		if want {
			assert.Contains(t, manifest, "--enable-gateway-api")
			assert.Less(t, named(t, list, gatewayAPI).Order, r.Order, "it asks for the kinds at its start")
		} else {
			assert.NotContains(t, manifest, "gateway")
		}
	}
}

// The issuer is one address for all: what Dex says of itself, what its certificate is for, and what the workload cluster's API
// server is told.
func TestSignIn(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]Certificate{
		"10.77.0.12":      {DNSNames: serviceNames(&inventory.Cluster{Network: inventory.Network{DNSDomain: "cluster.local"}}, "dex", "dex"), IPs: []string{"127.0.0.1", "10.77.0.12"}},
		"sso.example.org": {DNSNames: append(serviceNames(&inventory.Cluster{Network: inventory.Network{DNSDomain: "cluster.local"}}, "dex", "dex"), "sso.example.org"), IPs: []string{"127.0.0.1"}},
	} {
		inv := withBackups(site(t, strings.Replace(optionals, "oidc: {", "oidc: {address: "+address+", ", 1)))
		r := named(t, releases(t, inv, inventory.Service), dex)
		assert.Equal(t, "https://"+address+":30556/dex", inv.Issuer())
		assert.Equal(t, inv.Issuer(), r.Values["issuer"])
		want.Issuer, want.Trust, want.CommonName, want.Organization, want.Server = IssuerService, IssuerService, "dex", []string{"dex"}, true
		assert.Equal(t, &want, r.Secrets[0].Certificate, "a server, and nobody's client")
		assert.Equal(t, map[string]SecretValue{"LDAP_PASSWORD": {From: &inventory.Secret{Env: "LDAP_PASSWORD"}}}, r.Secrets[1].Values)
		manifest, err := r.Manifest()
		require.NoError(t, err)
		var config struct {
			Issuer     string
			Connectors []struct {
				Type   string
				Config map[string]any
			}
			StaticClients []struct {
				ID     string
				Public bool
			}
		}
		require.NoError(t, yaml.Unmarshal([]byte(data(t, manifest, "config.yaml")), &config))
		assert.Equal(t, inv.Issuer(), config.Issuer)
		require.Len(t, config.Connectors, 1)
		assert.Equal(t, map[string]any{"host": "ldap.example.org:636", "bindDN": "cn=dex", "bindPW": "$LDAP_PASSWORD"}, config.Connectors[0].Config)
		require.Len(t, config.StaticClients, 1)
		assert.Equal(t, inventory.IssuerClient, config.StaticClients[0].ID)
		assert.True(t, config.StaticClients[0].Public)
	}
	assert.NotContains(t, names(releases(t, withBackups(site(t, optionals)), inventory.Workload)), dex, "it is the service cluster's")
	assert.Empty(t, site(t, "platform: {size: small, "+signIn+"}").Issuer(), "a directory alone switches nothing on")
}

// The rules that the platform's own charts would break spare the optional ones too, which nobody guards.
func TestOptionalNamespacesAreSpared(t *testing.T) {
	t.Parallel()
	inv := withBackups(site(t, optionals))
	for cluster, want := range map[inventory.ClusterName][]any{
		inventory.Service: {"cert-manager", "dex", "gateway-api", "velero"}, inventory.Workload: {"cert-manager", "gateway-api", "velero"},
	} {
		r := named(t, releases(t, inv, cluster), "gatekeeper-policies")
		assert.Equal(t, want, r.Values["optionalNamespaces"])
		manifest, err := r.Manifest()
		require.NoError(t, err)
		constraints := 0
		for _, o := range objects(t, manifest) {
			spec, _ := o["spec"].(map[string]any)
			match, constraint := spec["match"].(map[string]any)
			if !constraint {
				continue
			}
			constraints++
			switch o["metadata"].(map[string]any)["name"] {
			case "service-types":
				assert.Subset(t, match["excludedNamespaces"], want)
			case "protect":
				assert.NotContains(t, match["namespaces"], "gateway-api")
			}
		}
		assert.Positive(t, constraints)
	}
}

// What has a port of the name "metrics" is scraped: Prometheus of its cluster may go there, and it lets Prometheus in.
func TestMetricsOfOptionalComponents(t *testing.T) {
	t.Parallel()
	inv := withBackups(site(t, optionals))
	for cluster, prometheus := range map[inventory.ClusterName]string{inventory.Service: "prometheus", inventory.Workload: "prometheus-agent"} {
		list := releases(t, inv, cluster)
		scraper, err := named(t, list, prometheus).Manifest()
		require.NoError(t, err)
		ports := map[string]any{}
		for _, name := range optionalNames() {
			if !slices.Contains(names(list), name) {
				continue
			}
			manifest, err := named(t, list, name).Manifest()
			require.NoError(t, err)
			for _, o := range objects(t, manifest) {
				for _, pod := range podSpecs(o) {
					for _, c := range pod["containers"].([]any) {
						given, _ := c.(map[string]any)["ports"].([]any)
						for _, p := range given {
							if p := p.(map[string]any); p["name"] == "metrics" {
								ports[name] = p["containerPort"]
							}
						}
					}
				}
			}
			assert.True(t, lets(t, manifest, "ingress", prometheus, ports[name]), "%s lets %s in", name, prometheus)
			assert.True(t, lets(t, scraper, "egress", name, ports[name]), "%s may go to %s", prometheus, name)
			assert.False(t, lets(t, scraper, "egress", name, 5556.0), "and to nothing else there")
			assert.Regexp(t, `names: \[[^]]*\b`+name+`\b`, scraper)
		}
		want := map[string]any{"cert-manager": 9402.0, "gateway-api": 8082.0, "velero": 8085.0}
		if cluster == inventory.Service {
			want["dex"] = 5558.0
		}
		assert.Equal(t, want, ports)
	}
}

// lets says whether a NetworkPolicy of a manifest has a rule for a port and a namespace.
func lets(t *testing.T, manifest, direction, namespace string, port any) bool {
	t.Helper()
	found := false
	for _, o := range objects(t, manifest) {
		if o["kind"] != "NetworkPolicy" {
			continue
		}
		rules, _ := o["spec"].(map[string]any)[direction].([]any)
		for _, r := range rules {
			rule := r.(map[string]any)
			peers, _ := rule[map[string]string{"ingress": "from", "egress": "to"}[direction]].([]any)
			ports, _ := rule["ports"].([]any)
			if !slices.ContainsFunc(ports, func(p any) bool { return p.(map[string]any)["port"] == port }) {
				continue
			}
			for _, p := range peers {
				selector, _ := p.(map[string]any)["namespaceSelector"].(map[string]any)
				labels, _ := selector["matchLabels"].(map[string]any)
				found = found || labels["kubernetes.io/metadata.name"] == namespace
				expressions, _ := selector["matchExpressions"].([]any)
				for _, e := range expressions {
					found = found || slices.Contains(e.(map[string]any)["values"].([]any), any(namespace))
				}
			}
		}
	}
	return found
}
