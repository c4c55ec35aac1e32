package hosts

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts/machine"
)

// paper is a lab that has files and no hosts in the kernel.
func paper(t *testing.T, layout Layout) *Lab {
	t.Helper()
	l := &Lab{dir: t.TempDir(), state: state{Name: "cat5", Subnet: netip.MustParsePrefix("10.79.0.0/24"), Kubernetes: DefaultKubernetes}}
	hosts, err := layout.Hosts(l.state.Subnet)
	require.NoError(t, err)
	l.state.Hosts = hosts
	require.NoError(t, ensureKey(l.KeyFile(), "lab"))
	for _, h := range hosts {
		require.NoError(t, l.ensureIdentity(h.Name))
	}
	return l
}

func TestEveryLayoutIsAnInventory(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 8; n++ {
		layout, err := Distribute(n)
		require.NoError(t, err)
		layout.Spares = 1
		l := paper(t, layout)
		data, err := l.render(machine.Features{CgroupV1: true}, 100)
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Dir(l.Inventory()), 0o755))
		require.NoError(t, os.WriteFile(l.Inventory(), data, 0o644))
		inv, warnings, err := inventory.LoadWithWarnings(l.Inventory())
		require.NoError(t, err, "%d hosts:\n%s", n, data)
		require.Len(t, warnings, 1)
		assert.Contains(t, warnings[0].String(), "nobody is told of alerts", "in a lab")
		found := 0
		for _, h := range l.Hosts() {
			node := inv.Node(h.Name)
			if h.Cluster == "" {
				assert.Nil(t, node, h.Name)
				continue
			}
			found++
			require.NotNil(t, node, h.Name)
			key, err := l.HostKey(h.Name)
			require.NoError(t, err)
			assert.Equal(t, ssh.FingerprintSHA256(key), node.HostKey)
			assert.Equal(t, h.Role, node.Role)
			assert.Equal(t, h.Address.String(), node.Address)
		}
		assert.Equal(t, n, found)
	}
}

func TestOnlySparesHaveNoInventory(t *testing.T) {
	t.Parallel()
	data, err := paper(t, Layout{Spares: 2}).render(machine.Features{}, 100)
	require.NoError(t, err)
	assert.Nil(t, data)
}

func TestIdentityIsMadeOnce(t *testing.T) {
	t.Parallel()
	l := paper(t, Layout{Spares: 2})
	before, err := l.HostKey("spare-1")
	require.NoError(t, err)
	other, err := l.HostKey("spare-2")
	require.NoError(t, err)
	assert.NotEqual(t, before.Marshal(), other.Marshal())
	require.NoError(t, l.ensureIdentity("spare-1"))
	after, err := l.HostKey("spare-1")
	require.NoError(t, err)
	assert.Equal(t, before.Marshal(), after.Marshal())
	st, err := os.Stat(l.hostDir("spare-1", "identity", "ssh_host_ed25519_key"))
	require.NoError(t, err)
	assert.EqualValues(t, 0o600, st.Mode().Perm())
}
