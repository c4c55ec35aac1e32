package hosts

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/inventory"
)

func TestDistributionsHaveWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 8; n++ {
		l, err := Distribute(n)
		require.NoError(t, err)
		hosts, err := l.Hosts(netip.MustParsePrefix(DefaultSubnet))
		require.NoError(t, err)
		assert.Len(t, hosts, n)
		for _, c := range []Counts{l.Service, l.Workload} {
			assert.False(t, c.ControlPlanes > 0 && c.ControlPlanes%2 == 0, "%d hosts: an even number of control planes", n)
			assert.False(t, c.ControlPlanes == 0 && c.Workers > 0, "%d hosts: workers without a control plane", n)
		}
	}
	for _, n := range []int{-1, 0, 9} {
		_, err := Distribute(n)
		assert.ErrorContains(t, err, "expected 1 to 8")
	}
}

func TestParseCounts(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]Counts{"1+1": {1, 1}, "3+0": {3, 0}, "3": {3, 0}, "0+0": {0, 0}} {
		got, err := ParseCounts(s)
		require.NoError(t, err, s)
		assert.Equal(t, want, got, s)
	}
	for _, s := range []string{"", "+1", "1+", "1+1+1", "-1+1", "1+-1", "0+1", "a"} {
		_, err := ParseCounts(s)
		assert.Error(t, err, s)
	}
}

func TestHostsKeepTheirAddressWhenOthersCome(t *testing.T) {
	t.Parallel()
	subnet := netip.MustParsePrefix("10.78.0.0/24")
	small, err := Layout{Service: Counts{1, 1}, Workload: Counts{1, 1}, Spares: 1}.Hosts(subnet)
	require.NoError(t, err)
	assert.Equal(t, []Host{
		{Name: "sc-cp-1", Cluster: inventory.Service, Role: inventory.ControlPlane, Address: netip.MustParseAddr("10.78.0.11")},
		{Name: "sc-w-1", Cluster: inventory.Service, Role: inventory.Worker, Address: netip.MustParseAddr("10.78.0.21")},
		{Name: "wc-cp-1", Cluster: inventory.Workload, Role: inventory.ControlPlane, Address: netip.MustParseAddr("10.78.0.31")},
		{Name: "wc-w-1", Cluster: inventory.Workload, Role: inventory.Worker, Address: netip.MustParseAddr("10.78.0.41")},
		{Name: "spare-1", Address: netip.MustParseAddr("10.78.0.51")},
	}, small)
	large, err := Layout{Service: Counts{9, 9}, Workload: Counts{9, 9}, Spares: 9}.Hosts(subnet)
	require.NoError(t, err)
	assert.Subset(t, large, small)

	l := &Lab{state: state{Name: "longes", Subnet: subnet}}
	taken := map[netip.Addr]string{l.bridge().Gateway(): "gateway", l.VIP(inventory.Service): "VIP", l.VIP(inventory.Workload): "VIP"}
	require.Len(t, taken, 3)
	for _, h := range large {
		assert.NotContains(t, taken, h.Address, h.Name)
		taken[h.Address] = h.Name
		assert.LessOrEqual(t, len(l.link(h.Name)), 15, "the kernel refuses longer interface names")
	}
	_, err = Layout{Spares: 10}.Hosts(subnet)
	assert.ErrorContains(t, err, "at most 9")
	_, err = Layout{}.Hosts(subnet)
	assert.ErrorContains(t, err, "no host")
}

func TestNamesThatHostsCanNotBeMadeFrom(t *testing.T) {
	t.Parallel()
	good := netip.MustParsePrefix(DefaultSubnet)
	assert.NoError(t, checkNames(DefaultName, good))
	for _, name := range []string{"", "Cat", "0cat", "longest", "ca-t", "ca/t"} {
		assert.ErrorContains(t, checkNames(name, good), "--name", name)
	}
	for _, subnet := range []string{"10.77.0.1/24", "10.77.0.0/25", "fd00::/64", "0.0.0.0/0"} {
		assert.ErrorContains(t, checkNames("cat0", netip.MustParsePrefix(subnet)), "--subnet", subnet)
	}
}
