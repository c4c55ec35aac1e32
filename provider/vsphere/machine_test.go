package vsphere

import (
	"encoding/base64"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"
	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/ssh"

	"github.com/catamaran-k8s/catamaran/provider"
)

func decoded(t *testing.T, text string) map[string]any {
	t.Helper()
	data, err := base64.StdEncoding.DecodeString(text)
	require.NoError(t, err)
	var out map[string]any
	require.NoError(t, yaml.Unmarshal(data, &out))
	return out
}

func TestMachineIsAsTheInventorySays(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	r := c.site(t, `
    nodes:
      - {name: wc-1, role: control-plane, address: 10.9.1.11, vsphere: {gateway: 10.9.1.1, prefix: 24, dns: [10.9.1.2], diskGiB: 20, extraDisksGiB: [5]}}
`)
	machines, err := c.with(nil).Ensure(t.Context(), r, nil)
	require.NoError(t, err)
	vm := c.machine(t, "wc-1")
	set := settings(vm)
	assert.Equal(t, int32(2), vm.Config.Hardware.NumCPU)
	assert.Equal(t, int32(2048), vm.Config.Hardware.MemoryMB)
	var sizes []int64
	for _, d := range object.VirtualDeviceList(vm.Config.Hardware.Device).SelectByType((*types.VirtualDisk)(nil)) {
		sizes = append(sizes, d.(*types.VirtualDisk).CapacityInKB>>20)
	}
	assert.Equal(t, []int64{20, 5}, sizes)
	assert.Equal(t, types.VirtualMachinePowerStatePoweredOn, vm.Runtime.PowerState)

	user := decoded(t, set["guestinfo.userdata"])
	account := user["users"].([]any)[0].(map[string]any)
	assert.Equal(t, "ops", account["name"])
	assert.Equal(t, "ALL=(ALL) NOPASSWD:ALL", account["sudo"])
	public, err := os.ReadFile(c.keyFile + ".pub")
	require.NoError(t, err)
	assert.Equal(t, []any{strings.TrimSpace(string(public))}, account["ssh_authorized_keys"])
	signer, err := ssh.ParsePrivateKey([]byte(user["ssh_keys"].(map[string]any)["ed25519_private"].(string)))
	require.NoError(t, err)
	assert.Equal(t, machines[0].HostKey, line(signer.PublicKey()), "the key that is pinned is the one that the machine shows")

	meta := decoded(t, set["guestinfo.metadata"])
	assert.Equal(t, "wc-1", meta["local-hostname"])
	assert.Equal(t, []any{"userdata"}, meta["cleanup-guestinfo"], "the private key does not stay")
	card := meta["network"].(map[string]any)["ethernets"].(map[string]any)["nodes"].(map[string]any)
	assert.Equal(t, []any{"10.9.1.11/24"}, card["addresses"])
	assert.Equal(t, []any{map[string]any{"to": "0.0.0.0/0", "via": "10.9.1.1"}}, card["routes"])
	assert.Equal(t, "10.9.1.11", machines[0].Address)
}

// Somebody clones one of our machines to look into it: the copy has its marks, and is still not ours.
func TestCopyIsNotOurs(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	r := c.site(t, oneNode)
	require.NoError(t, ensured(c, r))
	original := c.machine(t, "wc-1")
	pool := *original.ResourcePool
	c.done(t, func() (*object.Task, error) {
		folder := object.NewFolder(c.admin.Client, *original.Parent)
		return c.named(t, "wc-1").Clone(t.Context(), folder, "wc-1-copy", types.VirtualMachineCloneSpec{
			Location: types.VirtualMachineRelocateSpec{Pool: &pool}, Config: &types.VirtualMachineConfigSpec{ExtraConfig: original.Config.ExtraConfig},
		})
	})
	p, err := c.with(nil).Plan(t.Context(), r)
	require.NoError(t, err)
	assert.Empty(t, p.Changes)
	assert.Empty(t, p.Surplus)
	require.NoError(t, destroyed(c, r))
	assert.Equal(t, 1, c.made(t)["VirtualMachine"], "the copy")
}

func TestDriftIsMended(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	require.NoError(t, ensured(c, c.site(t, oneNode)))
	c.done(t, func() (*object.Task, error) { return c.named(t, "wc-1").PowerOff(t.Context()) })
	more := c.site(t, "    nodes:\n      - {name: wc-1, role: control-plane, vsphere: {cpus: 4, memoryMiB: 4096, diskGiB: 30}}\n")
	p, err := c.with(nil).Plan(t.Context(), more)
	require.NoError(t, err)
	require.Len(t, p.Changes, 1)
	assert.Equal(t, "it is powered off, it has 2 CPUs, not 4, it has 2048 MiB of memory, not 4096, its disk has 10 GiB, not 30", p.Changes[0].Reason)
	require.NoError(t, ensured(c, more))
	vm := c.machine(t, "wc-1")
	assert.Equal(t, int32(4), vm.Config.Hardware.NumCPU)
	assert.Equal(t, types.VirtualMachinePowerStatePoweredOn, vm.Runtime.PowerState)
	p, err = c.with(nil).Plan(t.Context(), more)
	require.NoError(t, err)
	assert.Empty(t, p.Changes)
}

func TestRuleFollowsThePool(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	pool := func(n string) provider.Request {
		return c.site(t, strings.Replace(spreadPool, "count: 2", "count: "+n, 1))
	}
	members := func() int {
		s := &survey{job: job{site: "umea", cluster: "workload"}}
		at, err := c.admin.catalog(t.Context(), "")
		require.NoError(t, err)
		s.at = at
		n := 0
		for _, r := range s.rules() {
			assert.True(t, r.hard)
			n += len(r.members)
		}
		return n
	}
	require.NoError(t, ensured(c, pool("1")))
	assert.Zero(t, members(), "one machine needs no rule")
	require.NoError(t, ensured(c, pool("3")))
	assert.Equal(t, 3, members())
	require.NoError(t, c.with(nil).Retire(t.Context(), pool("2"), []string{"wc-w-3"}, nil))
	assert.Equal(t, 2, members())
	p, err := c.with(nil).Plan(t.Context(), pool("2"))
	require.NoError(t, err)
	assert.Empty(t, p.Changes)
	require.NoError(t, c.with(nil).Retire(t.Context(), pool("1"), []string{"wc-w-2"}, nil))
	assert.Zero(t, members())
}

// A volume of the cluster's users is not deleted with the machine that it is attached to.
func TestVolumesStay(t *testing.T) {
	t.Parallel()
	m := &machine{}
	m.vm.Config = &types.VirtualMachineConfigInfo{}
	m.vm.Config.Hardware.Device = []types.BaseVirtualDevice{
		&types.VirtualDisk{VirtualDevice: types.VirtualDevice{Key: 2000}},
		&types.VirtualDisk{VirtualDevice: types.VirtualDevice{Key: 2001}, VDiskId: &types.ID{Id: "fcd-1"}},
	}
	off := m.volumes()
	require.Len(t, off, 1)
	spec := off[0].GetVirtualDeviceConfigSpec()
	assert.Equal(t, int32(2001), spec.Device.GetVirtualDevice().Key)
	assert.Equal(t, types.VirtualDeviceConfigSpecOperationRemove, spec.Operation)
	assert.Empty(t, spec.FileOperation, "its file stays")
}

// The address is one of the machine's own card: no pod's, and not the VIP that it carries today.
func TestAddress(t *testing.T) {
	t.Parallel()
	m := &machine{marks: map[string]string{}}
	m.vm.Runtime.PowerState = types.VirtualMachinePowerStatePoweredOn
	m.vm.Config = &types.VirtualMachineConfigInfo{}
	m.vm.Config.Hardware.Device = []types.BaseVirtualDevice{
		&types.VirtualVmxnet3{VirtualVmxnet: types.VirtualVmxnet{VirtualEthernetCard: types.VirtualEthernetCard{VirtualDevice: types.VirtualDevice{Key: 4000}}}},
	}
	m.vm.Guest = &types.GuestInfo{IpAddress: "10.244.0.1", Net: []types.GuestNicInfo{
		{DeviceConfigId: -1, IpAddress: []string{"10.244.0.1"}},
		{DeviceConfigId: 4000, IpAddress: []string{"fe80::1", "fd00::7", "10.9.0.100", "10.9.0.7"}},
	}}
	assert.Equal(t, "10.9.0.7", m.address("10.9.0.100", ""))
	assert.Equal(t, "fd00::7", m.address("10.9.0.100", "fd00::7"), "the inventory asks for it")
	assert.Empty(t, m.address("10.9.0.100", "10.9.0.8"), "it is waited for")
	m.vm.Runtime.PowerState = types.VirtualMachinePowerStatePoweredOff
	assert.Empty(t, m.address("", ""))
}
