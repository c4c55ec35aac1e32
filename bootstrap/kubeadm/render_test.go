package kubeadm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"flag"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/catamaran-k8s/catamaran/inventory"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "run the test with -update to make it")
	require.Equal(t, string(want), got)
}

// token and authority stand for the secrets that a real run makes.
const (
	token     = "abcdef.0123456789abcdef"
	authority = `-----BEGIN CERTIFICATE-----
MIIBWTCB/6ADAgECAgEBMAoGCCqGSM49BAMCMBUxEzARBgNVBAMTCmt1YmVybmV0
-----END CERTIFICATE-----
`
)

// spec is a cluster of three control planes behind a VIP, or of one that is its own endpoint.
func spec(mode inventory.EndpointMode) *inventory.Cluster {
	c := &inventory.Cluster{
		Endpoint:  inventory.Endpoint{Address: "10.77.0.10", Port: 6443, Mode: mode},
		Network:   inventory.Network{PodCIDR: "10.100.0.0/16", ServiceCIDR: "10.101.0.0/16", DNSDomain: "cluster.local", ProxyMode: "nftables"},
		APIServer: inventory.APIServer{AuditMaxAgeDays: 30, AuditMaxBackups: 10, AuditMaxSizeMiB: 100, CertSANs: []string{"api.example.org"}},
		Kubelet:   inventory.Kubelet{MaxPods: 110, EvictionHard: map[string]string{"memory.available": "200Mi"}},
	}
	if mode == inventory.EndpointNode {
		c.Endpoint.Address = "10.77.0.11"
		off := false
		c.Encryption.Enabled = &off
		c.APIServer.ExtraArgs = map[string]string{"v": "2", "profiling": "true"}
		c.Kubelet.SystemReserved = map[string]string{"memory": "256Mi"}
	}
	return c
}

func input(mode inventory.EndpointMode, role inventory.Role) Input {
	return Input{
		Site: "umea", Cluster: inventory.Service, Spec: spec(mode), Version: "1.37.2", Address: "10.77.0.11",
		Node:         &inventory.Node{Name: "sc-1", Role: role, Address: "10.77.0.11"},
		FailCgroupV1: true, AuditPolicy: "policy",
	}
}

// Where a controller of the cloud's tells Kubernetes about nodes, kubelets wait for it; elsewhere they must not.
func TestExternalCloud(t *testing.T) {
	t.Parallel()
	for _, role := range []inventory.Role{inventory.ControlPlane, inventory.Worker} {
		in := input(inventory.EndpointVIP, role)
		without, err := Init(in, "abcdef.0123456789abcdef", time.Hour)
		require.NoError(t, err)
		assert.NotContains(t, string(without), "cloud-provider")
		in.ExternalCloud = true
		with, err := Init(in, "abcdef.0123456789abcdef", time.Hour)
		require.NoError(t, err)
		assert.Contains(t, string(with), "name: cloud-provider\n    value: external\n")
	}
}

func TestRendered(t *testing.T) {
	t.Parallel()
	tainted := input(inventory.EndpointNode, inventory.ControlPlane)
	tainted.Node.Taints = &[]inventory.Taint{}
	tainted.FailCgroupV1, tainted.IgnorePreflightErrors = false, []string{"SystemVerification"}
	guarded := input(inventory.EndpointVIP, inventory.ControlPlane)
	guarded.Guarded = true
	worker := input(inventory.EndpointVIP, inventory.Worker)
	worker.Node.Taints = &[]inventory.Taint{{Key: "dedicated", Value: "db", Effect: "NoSchedule"}}
	ca := newAuthority(t)
	for name, render := range map[string]func() ([]byte, error){
		"init-vip.yaml": func() ([]byte, error) {
			return Init(input(inventory.EndpointVIP, inventory.ControlPlane), token, time.Hour)
		},
		"init-node.yaml":            func() ([]byte, error) { return Init(tainted, token, time.Hour) },
		"join-control-plane.yaml":   func() ([]byte, error) { return Join(input(inventory.EndpointVIP, inventory.ControlPlane), token, ca) },
		"join-worker.yaml":          func() ([]byte, error) { return Join(worker, token, ca) },
		"shared-control-plane.yaml": func() ([]byte, error) { return Shared(input(inventory.EndpointVIP, inventory.ControlPlane)) },
		"shared-guarded.yaml":       func() ([]byte, error) { return Shared(guarded) },
		"shared-worker.yaml":        func() ([]byte, error) { return Shared(worker) },
	} {
		t.Run(name, func(t *testing.T) {
			got, err := render()
			require.NoError(t, err)
			hash, err := CACertHash(ca)
			require.NoError(t, err)
			golden(t, name, strings.ReplaceAll(string(got), hash, "sha256:(of the authority)"))
			again, err := render()
			require.NoError(t, err)
			require.Equal(t, string(got), string(again), "the same input renders the same: a plan compares it")
			if strings.HasPrefix(name, "shared") {
				require.NotContains(t, string(got), token)
			}
		})
	}
}

func TestSettingsThatHarden(t *testing.T) {
	t.Parallel()
	in := input(inventory.EndpointVIP, inventory.ControlPlane)
	in.Guarded = true
	got, err := Shared(in)
	require.NoError(t, err)
	docs := map[string]map[string]any{}
	for _, d := range strings.Split(string(got), "---\n") {
		var m map[string]any
		require.NoError(t, yaml.Unmarshal([]byte(d), &m))
		docs[m["kind"].(string)] = m
	}
	kubelet := docs["KubeletConfiguration"]
	require.Equal(t, map[string]any{"enabled": false}, kubelet["authentication"].(map[string]any)["anonymous"])
	require.Equal(t, "Webhook", kubelet["authorization"].(map[string]any)["mode"])
	require.EqualValues(t, 0, kubelet["readOnlyPort"], "it must be said: the default of the file format is 10255 no more, but drift must show")
	require.Equal(t, true, kubelet["protectKernelDefaults"])
	require.Equal(t, ServingCert, kubelet["tlsCertFile"])

	api := map[string]string{}
	for _, a := range docs["ClusterConfiguration"]["apiServer"].(map[string]any)["extraArgs"].([]any) {
		api[a.(map[string]any)["name"].(string)] = a.(map[string]any)["value"].(string)
	}
	for name, want := range map[string]string{
		"profiling": "false", "tls-min-version": "VersionTLS12", "kubelet-certificate-authority": "/etc/kubernetes/pki/ca.crt",
		"audit-policy-file": AuditPolicyFile, "encryption-provider-config": EncryptionFile, "authentication-config": AuthenticationFile,
		"admission-control-config-file": AdmissionFile,
	} {
		require.Equal(t, want, api[name], name)
	}
	// every file that the API server is pointed at lies in a volume, else the pod can not see it
	mounts := []string{"/etc/kubernetes/pki"} // kubeadm's own
	for _, v := range docs["ClusterConfiguration"]["apiServer"].(map[string]any)["extraVolumes"].([]any) {
		mounts = append(mounts, v.(map[string]any)["mountPath"].(string))
	}
	for name, value := range api {
		if strings.HasPrefix(value, "/") {
			require.Contains(t, mounts, filepath.Dir(value), "%s=%s", name, value)
		}
	}
}

func TestAuditPolicyChangeRestartsTheAPIServer(t *testing.T) {
	t.Parallel()
	one, other := input(inventory.EndpointVIP, inventory.ControlPlane), input(inventory.EndpointVIP, inventory.ControlPlane)
	other.AuditPolicy = "another policy"
	a, err := Shared(one)
	require.NoError(t, err)
	b, err := Shared(other)
	require.NoError(t, err)
	require.NotEqual(t, string(a), string(b))
}

func TestCACertHash(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	block, _ := pem.Decode([]byte(ca))
	cert, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	spki, err := x509.MarshalPKIXPublicKey(cert.PublicKey)
	require.NoError(t, err)
	sum := sha256.Sum256(spki)
	got, err := CACertHash(ca)
	require.NoError(t, err)
	require.Equal(t, "sha256:"+hex.EncodeToString(sum[:]), got)
	for _, broken := range []string{"", "hello", authority} {
		_, err := CACertHash(broken)
		require.Error(t, err)
		_, err = Join(input(inventory.EndpointVIP, inventory.Worker), token, broken)
		require.Error(t, err)
	}
}

func TestImages(t *testing.T) {
	t.Parallel()
	images, err := Images("1.37.2")
	require.NoError(t, err)
	require.Equal(t, []string{
		"registry.k8s.io/kube-apiserver:v1.37.2", "registry.k8s.io/kube-controller-manager:v1.37.2", "registry.k8s.io/kube-scheduler:v1.37.2",
		"registry.k8s.io/kube-proxy:v1.37.2", "registry.k8s.io/coredns/coredns:v1.14.6", "registry.k8s.io/pause:3.10.2", "registry.k8s.io/etcd:3.7.0-0",
	}, images)
	for version, want := range map[string]string{"1.35.4": "registry.k8s.io/pause:3.10.1", "1.36.3": "registry.k8s.io/pause:3.10.2", "1.37.2": "registry.k8s.io/pause:3.10.2"} {
		pause, err := Pause(version)
		require.NoError(t, err)
		require.Equal(t, want, pause)
	}
	for _, version := range []string{"1.34.4", "1.38.0", "2", "", "v1.37.2"} {
		_, err := Images(version)
		require.ErrorContains(t, err, "not supported", version)
		_, err = Pause(version)
		require.Error(t, err)
	}
}

func newAuthority(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubernetes"}, NotAfter: time.Now().Add(time.Hour), IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
