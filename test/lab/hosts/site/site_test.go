package site

import (
	"crypto/sha256"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts/machine"
)

// hostKey is a fingerprint that no other node has.
func hostKey(node string) string {
	sum := sha256.Sum256([]byte(node))
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// able is a machine that lacks nothing.
var able = machine.Features{CPUs: 8, MemoryMiB: 32768, SysResource: true, NFTQueue: true, BridgeNetfilter: true}

func sample(m machine.Features) Site {
	return Site{
		Name: "cat0", Kubernetes: "1.37.2", Bundle: "bundle.tar", User: "ops", KeyFile: "key", Machine: m, DiskFreeGiB: 100, PlatformSize: "small",
		Clusters: []Cluster{
			{Name: inventory.Service, VIP: "10.77.0.100", PodCIDR: "10.100.0.0/16", ServiceCIDR: "10.101.0.0/16", Nodes: []Node{
				{"sc-cp-1", inventory.ControlPlane, "10.77.0.11", hostKey("sc-cp-1")},
			}},
			{Name: inventory.Workload, VIP: "10.77.0.101", PodCIDR: "10.102.0.0/16", ServiceCIDR: "10.103.0.0/16", Nodes: []Node{
				{"wc-cp-1", inventory.ControlPlane, "10.77.0.31", hostKey("wc-cp-1")},
				{"wc-w-1", inventory.Worker, "10.77.0.41", hostKey("wc-w-1")},
			}},
		},
		Spares: []Node{{"spare-1", inventory.Worker, "10.77.0.51", hostKey("spare-1")}},
	}
}

// load renders and reads back, with the product's own reader.
func load(t *testing.T, s Site) (*inventory.Inventory, string) {
	t.Helper()
	data, err := s.Render()
	require.NoError(t, err)
	dir := t.TempDir()
	for name, content := range map[string]string{"inventory.yaml": string(data), "key": "", "bundle.tar": ""} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	inv, warnings, err := inventory.LoadWithWarnings(filepath.Join(dir, "inventory.yaml"))
	require.NoError(t, err, "%s", data)
	if inv.Platform.On() {
		require.Len(t, warnings, 1)
		assert.Equal(t, "nobody is told of alerts", warnings[0].Message, "there is nobody")
	} else {
		assert.Empty(t, warnings)
	}
	return inv, string(data)
}

func TestInventoryOfAnAbleMachine(t *testing.T) {
	t.Parallel()
	inv, text := load(t, sample(able))
	assert.True(t, *inv.Kubernetes.FailOnCgroupV1)
	assert.Empty(t, inv.Kubernetes.IgnorePreflightErrors)
	assert.False(t, inv.Host.RestrictOOMScoreAdj)
	assert.Equal(t, 2, inv.Host.Minimum.ControlPlaneCPUs)
	assert.NotContains(t, text, "\nhost:")
	assert.True(t, *inv.Clusters.Workload.Network.NetworkPolicy)
	assert.Equal(t, filepath.Join(inv.Dir, "bundle.tar"), inv.Bundle)
	assert.Equal(t, filepath.Join(inv.Dir, "cat0.agekey"), inv.IdentityFile())
	assert.Equal(t, "ops", inv.SSH.User)
	assert.True(t, *inv.Components["smoke"].Enabled)
	assert.Equal(t, inventory.Small, inv.Platform.Size)
	assert.True(t, inv.Platform.On())

	assert.Equal(t, inventory.EndpointVIP, inv.Clusters.Service.Endpoint.Mode)
	assert.Equal(t, hostKey("wc-w-1"), inv.Node("wc-w-1").HostKey)
	assert.Nil(t, inv.Node("wc-cp-1").Taints)
	require.NotNil(t, inv.Node("sc-cp-1").Taints, "a cluster without workers runs pods on its control planes")
	assert.Empty(t, *inv.Node("sc-cp-1").Taints)
	assert.Nil(t, inv.Node("spare-1"))
}

func TestInventorySaysWhatTheMachineLacks(t *testing.T) {
	t.Parallel()
	s := sample(machine.Features{CPUs: 1, MemoryMiB: 1200, CgroupV1: true})
	s.DiskFreeGiB = 4
	inv, text := load(t, s)
	assert.False(t, *inv.Kubernetes.FailOnCgroupV1)
	assert.Equal(t, []string{"SystemVerification"}, inv.Kubernetes.IgnorePreflightErrors)
	assert.True(t, inv.Host.RestrictOOMScoreAdj)
	assert.Equal(t, 1, inv.Host.Minimum.ControlPlaneCPUs)
	assert.Equal(t, 1200, inv.Host.Minimum.ControlPlaneMemoryMiB)
	assert.Equal(t, 4, inv.Host.Minimum.DiskGiB)
	assert.False(t, *inv.Clusters.Service.Network.NetworkPolicy)
	assert.Contains(t, text, "queue verdict", "why NetworkPolicy is off stands beside it")
}

func TestSpareLinesCanBeUsedAsNodes(t *testing.T) {
	t.Parallel()
	s := sample(able)
	data, err := s.Render()
	require.NoError(t, err)
	var used []string
	for _, l := range strings.Split(string(data), "\n") {
		if strings.HasPrefix(l, "#     - {name: spare-") {
			l = " " + strings.TrimPrefix(l, "#")
		}
		if strings.HasPrefix(l, "# Spare") {
			continue
		}
		used = append(used, l)
	}
	inv, err := inventory.Parse([]byte(strings.Join(used, "\n")), "inventory.yaml")
	require.NoError(t, err)
	require.NotNil(t, inv.Node("spare-1"))
	assert.Equal(t, inventory.Worker, inv.Node("spare-1").Role)
}

func TestInventoryWithoutBundle(t *testing.T) {
	t.Parallel()
	s := sample(able)
	s.Bundle = ""
	s.PlatformOff = true
	inv, _ := load(t, s)
	assert.Empty(t, inv.Bundle)
	assert.False(t, inv.Platform.On())
}
