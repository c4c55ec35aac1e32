package openstack

import (
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

// serverAt is a server with fixed addresses and a floating one.
func serverAt(mark string, addresses ...string) servers.Server {
	var entries []any
	for _, a := range addresses {
		entries = append(entries, map[string]any{"addr": a, "OS-EXT-IPS:type": "fixed"})
	}
	entries = append(entries, map[string]any{"addr": "203.0.113.9", "OS-EXT-IPS:type": "floating"})
	s := servers.Server{ID: "s1", Name: "by-hand", Addresses: map[string]any{"net": entries}, Metadata: map[string]string{}}
	if mark != "" {
		s.Metadata[markAdopted] = mark
	}
	return s
}

func TestAddressesOfAdoptedServers(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		has           []string
		address, cidr string
		network       string
		want, says    string
	}{
		"the only one":                    {has: []string{"10.0.0.5"}, want: "10.0.0.5"},
		"IPv4 before IPv6":                {has: []string{"2001:db8::1", "10.0.0.5"}, want: "10.0.0.5"},
		"the one in the managed subnet":   {has: []string{"10.0.0.5", "10.77.0.5"}, cidr: "10.77.0.0/24", want: "10.77.0.5"},
		"the one in the named network":    {has: []string{"10.0.0.5", "10.78.0.5"}, network: "named", want: "10.78.0.5"},
		"two, and nobody knows which":     {has: []string{"10.0.0.5", "10.1.0.5"}, says: "wc-1: the server s1 has the addresses 10.0.0.5, 10.1.0.5; say which one is the node's"},
		"two in the subnet":               {has: []string{"10.77.0.6", "10.77.0.5"}, cidr: "10.77.0.0/24", says: "10.77.0.5, 10.77.0.6"},
		"two, and the inventory says one": {has: []string{"10.0.0.5", "10.1.0.5"}, address: "10.1.0.5", want: "10.1.0.5"},
		"one that it has not":             {has: []string{"10.0.0.5"}, address: "10.0.0.6", says: "it has 10.0.0.5, and the inventory says 10.0.0.6"},
		"none":                            {says: "it has none"},
	} {
		for _, mark := range []string{"", "umea.workload.wc-1"} {
			t.Run(what+" "+mark, func(t *testing.T) {
				t.Parallel()
				j := jobWith(t, inventory.OpenStackMachine{}, inventory.Node{Name: "wc-1", Address: c.address, OpenStack: &inventory.OpenStackMachine{Server: "by-hand"}})
				j.spec.Network.CIDR, j.spec.Network.Name = c.cidr, c.network
				j.world.servers = []servers.Server{serverAt(mark, c.has...)}
				j.world.networks = []network{{Network: networks.Network{ID: "n1", Name: "named"}}}
				j.world.subnets = []subnets.Subnet{{NetworkID: "n0", CIDR: "10.0.0.0/24"}, {NetworkID: "n1", CIDR: "10.78.0.0/24"}}
				steps, err := j.planAdopt()
				if c.says != "" {
					assert.ErrorIs(t, err, provider.ErrPermanent)
					assert.ErrorContains(t, err, c.says, "also where the server is marked already")
					return
				}
				require.NoError(t, err)
				assert.Equal(t, mark == "", len(steps) == 1)
				require.Len(t, j.machines(), 1)
				assert.Equal(t, c.want, j.machines()[0].Address)
			})
		}
	}
}
