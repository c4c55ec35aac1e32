package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts"
)

// TestMachines holds the virtual machines to the lab's hosts of the e2e tests: names, roles and addresses.
func TestMachines(t *testing.T) {
	t.Parallel()
	machines, err := parse(machinesJSON)
	require.NoError(t, err)
	lab, err := hosts.Layout{
		Service: hosts.Counts{ControlPlanes: 1, Workers: 1}, Workload: hosts.Counts{ControlPlanes: 3, Workers: 1}, Spares: 1,
	}.Hosts(netip.MustParsePrefix(hosts.DefaultSubnet))
	require.NoError(t, err)
	var want []machine
	for _, h := range lab {
		if h.Role == "" {
			h.Role = inventory.Worker
		}
		want = append(want, machine{Name: h.Name, Cluster: h.Cluster, Role: h.Role, Address: h.Address.String()})
	}
	assert.Equal(t, want, machines)
}

// TestInventory: what is written is an inventory that the product takes, with every machine and its key.
func TestInventory(t *testing.T) {
	t.Parallel()
	machines, err := parse(machinesJSON)
	require.NoError(t, err)
	const pin = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	for i := range machines {
		machines[i].HostKey = pin
	}
	dir := t.TempDir()
	key, file := filepath.Join(dir, "key"), filepath.Join(dir, "inventory.yaml")
	require.NoError(t, os.WriteFile(key, nil, 0o600))
	text, err := render(machines, dir, key)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, text, 0o600))
	inv, err := inventory.Load(file)
	require.NoError(t, err)
	for _, m := range machines {
		if m.Cluster == "" {
			assert.Contains(t, string(text), "#     - {name: "+m.Name)
			continue
		}
		n := inv.Node(m.Name)
		require.NotNil(t, n, m.Name)
		assert.Equal(t, pin, n.HostKey)
		assert.Equal(t, m.Address, n.Address)
	}
}
