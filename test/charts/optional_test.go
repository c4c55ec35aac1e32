package charts

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/catamaran-k8s/catamaran/embedded"
	"github.com/catamaran-k8s/catamaran/inventory"
)

const optionalInventory = `
apiVersion: catamaran/v1alpha1
kind: Inventory
metadata: {name: test}
kubernetes: {version: 1.37.2}
clusters:
  service:
    network: {podCIDR: 10.100.0.0/16, serviceCIDR: 10.101.0.0/16}
    backup: {endpoint: "https://s3.example.org", credentials: {access: {env: SA}, secret: {env: SS}}}
    nodes: [{name: sc-1, role: control-plane, address: 10.77.0.11}]
  workload:
    network: {podCIDR: 10.102.0.0/16, serviceCIDR: 10.103.0.0/16}
    backup: {endpoint: "https://s3.example.org", caFile: ca.pem, credentials: {access: {env: WA}, secret: {env: WS}}}
    nodes: [{name: wc-1, role: control-plane, address: 10.77.0.21}]
platform:
  size: SIZE
  oidc: {connector: {type: ldap, config: {host: "ldap.example.org:636", bindPW: $LDAP_PASSWORD}, secrets: {LDAP_PASSWORD: {env: LDAP_PASSWORD}}}}
  alerts: {webhook: {url: {env: ALERT_URL}}}
components:
  cert-manager: {enabled: true, values: {egress: [203.0.113.7/32]}}
  gateway-api: {enabled: true, values: {gateway: {certificates: [shop-tls]}, clients: [192.0.2.0/24]}}
  velero: {enabled: true}
  dex: {enabled: true}
`

// optionalReleases are those that a site has to ask for.
func optionalReleases(t *testing.T, size string, cluster inventory.ClusterName) []embedded.Release {
	t.Helper()
	inv, err := inventory.Parse([]byte(strings.Replace(optionalInventory, "SIZE", size, 1)), t.TempDir()+"/inventory.yaml")
	require.NoError(t, err)
	all, err := embedded.Releases(t.Context(), inv, cluster)
	require.NoError(t, err)
	return slices.DeleteFunc(all, func(r embedded.Release) bool { return inv.Components[r.Name].Enabled == nil })
}

// cloudInventory has the service cluster in OpenStack and the workload cluster in vSphere; DEFAULT is whether local-path is on.
const cloudInventory = `
apiVersion: catamaran/v1alpha1
kind: Inventory
metadata: {name: test}
kubernetes: {version: 1.37.2}
clusters:
  service:
    network: {podCIDR: 10.100.0.0/16, serviceCIDR: 10.101.0.0/16}
    nodes: [{name: sc-1, role: control-plane, address: 10.77.0.11}]
  workload:
    network: {podCIDR: 10.102.0.0/16, serviceCIDR: 10.103.0.0/16}
    nodes: [{name: wc-1, role: control-plane, address: 10.77.0.21}]
platform: {enabled: false}
components:
  local-path: {enabled: DEFAULT}
  openstack-cloud-controller-manager: {values: {loadBalancers: {enabled: true, subnet: a-b, provider: ovn}}}
  cinder-csi: {values: {replicas: 2, storageClass: {type: ssd}}}
  vsphere-csi: {values: {storageClass: {datastore: "ds:///vmfs/volumes/1/"}}}
`

// The clouds' charts, each in a namespace of its level; their controllers could be in a restricted one.
func TestCloudChartsAreAccepted(t *testing.T) {
	t.Parallel()
	for _, local := range []string{"true", "false"} {
		inv, err := inventory.Parse([]byte(strings.Replace(cloudInventory, "DEFAULT", local, 1)), t.TempDir()+"/inventory.yaml")
		require.NoError(t, err)
		secret := &inventory.Secret{Env: "X"}
		inv.Clusters.Service.Provider = inventory.Provider{OpenStack: &inventory.OpenStack{}}
		inv.Clusters.Service.Cloud = &inventory.Cloud{OpenStack: &inventory.OpenStackCloud{AuthURL: "https://k/v3", ApplicationCredentialID: secret, ApplicationCredentialSecret: secret}}
		inv.Clusters.Workload.Provider = inventory.Provider{VSphere: &inventory.VSphere{}}
		inv.Clusters.Workload.Cloud = &inventory.Cloud{VSphere: &inventory.VSphereCloud{Server: "v", Datacenter: "d", User: secret, Password: secret}}
		var seen []string
		for _, cluster := range inv.ClusterNames() {
			all, err := embedded.Releases(t.Context(), inv, cluster)
			require.NoError(t, err)
			for _, r := range all {
				if !strings.Contains(r.Name, "cloud") && !strings.HasSuffix(r.Name, "-csi") {
					continue
				}
				seen = append(seen, r.Name)
				acceptedCloud(t, r)
			}
		}
		assert.Len(t, seen, 4)
	}
}

func acceptedCloud(t *testing.T, r embedded.Release) {
	t.Helper()
	manifest, err := r.Manifest()
	require.NoError(t, err)
	namespace, restricted := enforcing(t, r.PodSecurity), enforcing(t, "restricted")
	for _, object := range objects(t, manifest) {
		if object.GetNamespace() == r.Namespace {
			object.SetNamespace(namespace)
		}
		require.NoError(t, dryRun(t, object), "%s: %s %s", r.Name, object.GetKind(), object.GetName())
		if pod := templateOf(t, object, namespace); pod != nil {
			require.NoError(t, dryRun(t, pod), "%s: %s", r.Name, object.GetName())
			pod.SetNamespace(restricted)
			if object.GetKind() == "Deployment" {
				assert.NoError(t, dryRun(t, pod), "%s: %s", r.Name, object.GetName())
			} else {
				assert.Error(t, dryRun(t, pod), "%s: %s does not need its privileged namespace", r.Name, object.GetName())
			}
		}
	}
}

// optionalKinds are the kinds that the charts bring, and whether their status is written apart from the rest, as the programs
// that read them expect it.
func optionalKinds() map[schema.GroupVersion]map[string]bool {
	return map[schema.GroupVersion]map[string]bool{
		{Group: "cert-manager.io", Version: "v1"}:      {"certificates": true, "certificaterequests": true, "issuers": true, "clusterissuers": true},
		{Group: "acme.cert-manager.io", Version: "v1"}: {"orders": true, "challenges": true},
		{Group: "gateway.networking.k8s.io", Version: "v1"}: {
			"gatewayclasses": true, "gateways": true, "httproutes": true, "grpcroutes": true, "tlsroutes": true, "backendtlspolicies": true, "referencegrants": false,
		},
		{Group: "gateway.networking.k8s.io", Version: "v1beta1"}: {"referencegrants": false},
		{Group: "velero.io", Version: "v1"}: {
			"backups": false, "restores": false, "schedules": false, "backupstoragelocations": false, "volumesnapshotlocations": false,
			"downloadrequests": false, "deletebackuprequests": false, "serverstatusrequests": false, "podvolumebackups": false,
			"podvolumerestores": false, "backuprepositories": false,
		},
		{Group: "velero.io", Version: "v2alpha1"}: {"datauploads": false, "datadownloads": false},
	}
}

// The charts are installed as a site would, kinds included. Then every size's objects, of both clusters, are sent as a strict
// dry run, and their pods into namespaces that enforce what the charts ask for.
func TestOptionalComponents(t *testing.T) {
	t.Parallel()
	list := optionalReleases(t, "small", inventory.Workload)
	require.GreaterOrEqual(t, len(list), 3)
	installer := embedded.NewInstaller(server.config, func(line string) { t.Log(line) })
	for _, r := range list {
		runsEverything(t, r.Namespace)
		r.Timeout = 2 * time.Minute
		require.NoError(t, installer.Apply(t.Context(), r), r.Name)
	}
	for version, kinds := range optionalKinds() {
		have, err := clientset(t).Discovery().ServerResourcesForGroupVersion(version.String())
		require.NoError(t, err)
		got := map[string]bool{}
		for _, r := range have.APIResources {
			if kind, sub, ok := strings.Cut(r.Name, "/"); ok {
				got[kind] = sub == "status"
			} else if _, known := got[kind]; !known {
				got[kind] = false
			}
		}
		assert.Equal(t, kinds, got, version)
	}
	checked := 0
	for _, size := range []string{"small", "standard", "large"} {
		for _, cluster := range []inventory.ClusterName{inventory.Service, inventory.Workload} {
			for _, r := range optionalReleases(t, size, cluster) {
				manifest, err := r.Manifest()
				require.NoError(t, err)
				namespace := enforcing(t, r.PodSecurity)
				for _, object := range objects(t, manifest) {
					if object.GetNamespace() == r.Namespace {
						object.SetNamespace(namespace)
					}
					if object.GetKind() == "Service" {
						// its node ports are taken by the one that was installed
						for _, p := range object.Object["spec"].(map[string]any)["ports"].([]any) {
							delete(p.(map[string]any), "nodePort")
						}
					}
					require.NoError(t, dryRun(t, object), "%s: %s %s", r.Name, object.GetKind(), object.GetName())
					if object.GetKind() == "Schedule" {
						continue // its template is that of a backup
					}
					if pod := templateOf(t, object, namespace); pod != nil {
						checked++
						assert.NoError(t, dryRun(t, pod), "%s: the pods of %s %s in a namespace that enforces %s", r.Name, object.GetKind(), object.GetName(), r.PodSecurity)
					}
				}
			}
		}
	}
	// both clusters have three of cert-manager, one of the proxy and one of Velero; Dex is in the service cluster
	assert.Equal(t, 3*(2*5+1), checked)

	t.Run("nothing of an object is lost, and routes get the defaults that the proxy relies on", func(t *testing.T) {
		location := read(t, "velero.io", "v1", "backupstoragelocations", "velero", "default")
		bucket, _, err := unstructured.NestedString(location, "spec", "objectStorage", "bucket")
		require.NoError(t, err)
		assert.Equal(t, "test-workload-backup", bucket)
		key, _, err := unstructured.NestedString(location, "spec", "objectStorage", "caCertRef", "key")
		require.NoError(t, err)
		assert.Equal(t, "ca.crt", key)

		namespace := newNamespace(t, nil)
		create(t, namespace, "gateway.networking.k8s.io", "v1", "httproutes", `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop}
spec:
  parentRefs: [{name: catamaran, namespace: gateway-api}]
  rules:
    - backendRefs: [{name: shop, port: 8080}]
      timeouts: {request: 10s}
`)
		spec := read(t, "gateway.networking.k8s.io", "v1", "httproutes", namespace, "shop")["spec"]
		assert.Equal(t, map[string]any{
			"parentRefs": []any{map[string]any{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "catamaran", "namespace": "gateway-api"}},
			"rules": []any{map[string]any{
				"matches":     []any{map[string]any{"path": map[string]any{"type": "PathPrefix", "value": "/"}}},
				"backendRefs": []any{map[string]any{"group": "", "kind": "Service", "name": "shop", "port": int64(8080), "weight": int64(1)}},
				"timeouts":    map[string]any{"request": "10s"},
			}},
		}, spec)
		create(t, namespace, "gateway.networking.k8s.io", "v1", "gateways", `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: own}
spec:
  gatewayClassName: catamaran
  listeners: [{name: https, protocol: HTTPS, port: 443, tls: {certificateRefs: [{name: shop-tls}]}}]
`)
		listeners := read(t, "gateway.networking.k8s.io", "v1", "gateways", namespace, "own")["spec"].(map[string]any)["listeners"]
		assert.Equal(t, []any{map[string]any{
			"name": "https", "protocol": "HTTPS", "port": int64(443), "allowedRoutes": map[string]any{"namespaces": map[string]any{"from": "Same"}},
			"tls": map[string]any{"mode": "Terminate", "certificateRefs": []any{map[string]any{"group": "", "kind": "Secret", "name": "shop-tls"}}},
		}}, listeners)
	})
	t.Run("what the kinds do not check, cert-manager's webhook has to: without it nothing comes in", func(t *testing.T) {
		object := parsed(t, "apiVersion: cert-manager.io/v1\nkind: Issuer\nmetadata: {name: own}\nspec: {selfSigned: {}}\n")
		_, err := dynamicClient(t).Resource(schema.GroupVersionResource{Group: "cert-manager.io", Version: "v1", Resource: "issuers"}).
			Namespace(newNamespace(t, nil)).Create(t.Context(), object, metav1.CreateOptions{})
		assert.ErrorContains(t, err, "webhook.cert-manager.io")
	})
}

func parsed(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	object := &unstructured.Unstructured{}
	require.NoError(t, yaml.Unmarshal([]byte(text), &object.Object))
	return object
}

func create(t *testing.T, namespace, group, version, resource, text string) {
	t.Helper()
	_, err := dynamicClient(t).Resource(schema.GroupVersionResource{Group: group, Version: version, Resource: resource}).
		Namespace(namespace).Create(t.Context(), parsed(t, text), metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
	require.NoError(t, err)
}

func read(t *testing.T, group, version, resource, namespace, name string) map[string]any {
	t.Helper()
	object, err := dynamicClient(t).Resource(schema.GroupVersionResource{Group: group, Version: version, Resource: resource}).
		Namespace(namespace).Get(t.Context(), name, metav1.GetOptions{})
	require.NoError(t, err)
	return object.Object
}
