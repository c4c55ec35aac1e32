package openstack

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"

	"github.com/catamaran-k8s/catamaran/inventory"
)

func allOf(t *testing.T, text string) netip.Prefix {
	t.Helper()
	p, err := netip.ParsePrefix(text)
	require.NoError(t, err)
	return p
}

func TestChosenAddressesAreGivenToNobodyElse(t *testing.T) {
	t.Parallel()
	inv := site(t)
	for name, address := range map[inventory.ClusterName]string{inventory.Workload: "10.77.0.2", inventory.Service: "10.77.0.250"} {
		c := inv.Cluster(name)
		c.Provider.OpenStack.Network.CIDR = "10.77.0.0/24"
		c.Endpoint.Address = address
	}
	inv.Clusters.Service.Nodes = []inventory.Node{{Address: "10.77.0.11"}, {Address: "192.0.2.1"}, {}}
	subnet := allOf(t, "10.77.0.0/24")
	assert.Equal(t, []subnets.AllocationPool{
		{Start: "10.77.0.3", End: "10.77.0.10"}, {Start: "10.77.0.12", End: "10.77.0.249"}, {Start: "10.77.0.251", End: "10.77.0.254"},
	}, allocation(subnet, chosen(inv, "10.77.0.0/24")), "of both clusters")
	inv.Clusters.Service.Provider.OpenStack.Network.CIDR = "10.78.0.0/24"
	assert.Equal(t, []subnets.AllocationPool{{Start: "10.77.0.3", End: "10.77.0.254"}}, allocation(subnet, chosen(inv, "10.77.0.0/24")))
	assert.Equal(t, []subnets.AllocationPool{{Start: "10.77.0.2", End: "10.77.0.253"}}, allocation(subnet, []netip.Addr{netip.MustParseAddr("10.77.0.254")}))
	assert.Nil(t, allocation(subnet, nil), "the cloud's default")
}
