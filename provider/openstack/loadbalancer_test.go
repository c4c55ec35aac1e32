package openstack

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
	"github.com/gophercloud/gophercloud/v2/pagination"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

const testTimeout = 5 * time.Second

func noWait(ctx context.Context, _ time.Duration) error { return context.Cause(ctx) }

const (
	vipName = "catamaran.umea.workload:vip"
	apiName = "catamaran.umea.workload:api"
	marked  = "made by catamaran for umea/workload"
)

// behind is a job for a cluster of one made and one adopted control plane behind a load balancer, with what is there of it but that.
func behind(t *testing.T) (*job, *octavia) {
	o, client := newOctavia(t)
	c := &inventory.Cluster{
		Endpoint: inventory.Endpoint{Address: "10.88.0.250", Port: 443, Mode: inventory.EndpointExternal}, Network: inventory.Network{CNI: inventory.CNIFlannel},
		Provider: inventory.Provider{OpenStack: &inventory.OpenStack{
			Network: inventory.OpenStackNetwork{CIDR: "10.88.0.0/24"}, APIFrom: []string{"192.0.2.0/24", "2001:db8::/64"}, LoadBalancer: &inventory.OpenStackLoadBalancer{},
		}},
		Nodes: []inventory.Node{
			{Name: "cp-0", Role: inventory.ControlPlane, State: inventory.Present},
			{Name: "cp-1", Role: inventory.ControlPlane, State: inventory.Present, OpenStack: &inventory.OpenStackMachine{Server: "old"}},
		},
	}
	inv := &inventory.Inventory{Metadata: inventory.Metadata{Name: "umea"}}
	inv.Clusters.Workload = c
	j := &job{
		p: New(Options{Poll: time.Millisecond}), cloud: &cloud{project: "p", balancer: client, network: client, compute: client, limit: 4},
		request: provider.Request{Inventory: inv, Cluster: inventory.Workload}, cluster: c, spec: c.Provider.OpenStack, names: names{"umea", inventory.Workload},
		portOf: map[string]string{}, volumeOf: map[string]string{}, poolGroup: map[string]string{}, securityBy: map[string]string{},
		subnet: "s", network: "n",
	}
	j.cidr = allOf(t, "10.88.0.0/24")
	o.neutron = []object{
		{"id": "port-0", "name": "catamaran.umea.workload.cp-0", "description": marked, "fixed_ips": []object{{"subnet_id": "s", "ip_address": "10.88.0.11"}}},
		{"id": "port-vip", "name": vipName, "description": marked, "fixed_ips": []object{{"subnet_id": "s", "ip_address": "10.88.0.250"}}},
	}
	o.nova = []object{
		{"id": "server-0", "name": "cp-0", "status": "ACTIVE", "metadata": object{markSite: "umea", markCluster: "workload", markNode: "cp-0"}},
		{"id": "server-1", "name": "old", "status": "ACTIVE", "addresses": object{"lan": []object{{"addr": "10.99.0.7", "version": 4}}}},
	}
	observeAgain(t, j)
	return j, o
}

func observeAgain(t *testing.T, j *job) {
	t.Helper()
	w := &world{
		networks: []network{{Network: networks.Network{ID: "n2", Name: "lan"}}},
		subnets:  []subnets.Subnet{{ID: "s2", NetworkID: "n2", CIDR: "10.99.0.0/24"}, {ID: "s3", NetworkID: "n3", CIDR: "10.99.0.0/24"}},
	}
	require.NoError(t, j.listPorts(t.Context(), w))
	require.NoError(t, j.listServers(t.Context(), w))
	require.NoError(t, j.observeBalancers(t.Context(), w, true))
	j.world = w
	j.index()
}

// settleBalancer plans and does what is to be done to the load balancer, and returns what was planned.
func settleBalancer(t *testing.T, j *job) []provider.Change {
	t.Helper()
	observeAgain(t, j)
	steps, err := j.planBalancer(nil)
	require.NoError(t, err)
	require.NoError(t, j.run(t.Context(), steps, nil))
	observeAgain(t, j)
	return changes(steps)
}

func memberOf(members []object) map[string]string {
	out := map[string]string{}
	for _, m := range members {
		subnet, _ := m["subnet_id"].(string)
		out[m["name"].(string)] = m["address"].(string) + " " + subnet
	}
	return out
}

func only1[T any](t *testing.T, m map[string]T) T {
	t.Helper()
	require.Len(t, m, 1)
	for _, v := range m {
		return v
	}
	panic("unreachable")
}

func TestBalancerIsMadeOnce(t *testing.T) {
	t.Parallel()
	j, o := behind(t)
	o.lose = "POST loadbalancers"
	require.Len(t, settleBalancer(t, j), 1)
	b := only1(t, o.balancers)
	assert.Equal(t, "port-vip", b["vip_port_id"], "the port of its address is ours")
	assert.Empty(t, o.ports, "so that a refused one leaves none behind")
	l := only1(t, o.listeners)
	assert.InDelta(t, 443, l["protocol_port"], 0)
	assert.ElementsMatch(t, []any{"10.88.0.0/24", "10.99.0.7/32", "192.0.2.0/24"}, l["allowed_cidrs"], "of its address's family, and the adopted node too")
	assert.InDelta(t, 600_000, l["timeout_client_data"], 0, "a watch may be silent for long")
	members := only1(t, o.members)
	assert.Equal(t, map[string]string{"cp-0": "10.88.0.11 s", "cp-1": "10.99.0.7 s2"}, memberOf(members))
	for _, m := range members {
		assert.InDelta(t, 6443, m["protocol_port"], 0, "API servers listen on 6443")
	}
	assert.Empty(t, settleBalancer(t, j), "nothing is to be done again")
}

func TestBalancerLetsInWhomTheInventoryNames(t *testing.T) {
	t.Parallel()
	j, o := behind(t)
	settleBalancer(t, j)
	j.spec.APIFrom = []string{"198.51.100.0/24"}
	done := settleBalancer(t, j)
	require.Len(t, done, 1)
	assert.Equal(t, provider.Update, done[0].Verb)
	assert.ElementsMatch(t, []any{"10.88.0.0/24", "10.99.0.7/32", "198.51.100.0/24"}, only1(t, o.listeners)["allowed_cidrs"])
	assert.Empty(t, settleBalancer(t, j))
}

// TestBalancerThatIsBusy changes members and clients at once: the second change comes while the first one is being carried out.
func TestBalancerThatIsBusy(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(*octavia){
		"a change is under way": func(o *octavia) { o.slow = 30 },
		"others are faster":     func(o *octavia) { o.refuse = 3 },
		"a lost answer":         func(o *octavia) { o.lose = "PUT pools" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j, o := behind(t)
			settleBalancer(t, j)
			harm(o)
			j.spec.APIFrom = nil
			j.cluster.Nodes = j.cluster.Nodes[:1]
			assert.Len(t, settleBalancer(t, j), 1)
			assert.Equal(t, map[string]string{"cp-0": "10.88.0.11 s"}, memberOf(only1(t, o.members)))
			assert.Equal(t, []any{"10.88.0.0/24"}, only1(t, o.listeners)["allowed_cidrs"])
			assert.Empty(t, settleBalancer(t, j))
		})
	}
}

func TestBalancerIsDeletedInAnyState(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"PENDING_CREATE", "PENDING_DELETE", "ACTIVE", "ERROR"} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			j, o := behind(t)
			settleBalancer(t, j)
			b := only1(t, o.balancers)
			b["provisioning_status"], o.seen = state, nil
			if strings.HasPrefix(state, "PENDING") {
				o.pending[b["id"].(string)] = 100
			}
			observeAgain(t, j)
			require.NoError(t, j.run(t.Context(), j.dropBalancer("because", stageDropBalancer, stageDropFloating), nil))
			assert.Empty(t, o.balancers)
			assert.NotContains(t, o.seen, "DELETE loadbalancers: 409", "it is not asked while it refuses")
			if state == "PENDING_DELETE" {
				assert.Empty(t, o.seen, "it is going already")
			}
			observeAgain(t, j)
			assert.Empty(t, j.dropBalancer("because", stageDropBalancer, stageDropFloating))
		})
	}
}

func TestBalancerOfOVN(t *testing.T) {
	t.Parallel()
	j, o := behind(t)
	j.spec.LoadBalancer.Provider = "ovn"
	assert.Empty(t, j.reserved(), "it makes the port by itself")
	o.neutron = o.neutron[:1]
	require.Len(t, settleBalancer(t, j), 1)
	only1(t, o.balancers)
	assert.Nil(t, only1(t, o.listeners)["allowed_cidrs"])
	j.spec.APIFrom = nil
	assert.Empty(t, settleBalancer(t, j), "whom it lets in the machines' groups say")
}

func TestBalancerThatTheCloudRefuses(t *testing.T) {
	t.Parallel()
	j, o := behind(t)
	o.refuseAll = true
	steps, err := j.planBalancer(nil)
	require.NoError(t, err)
	err = j.run(t.Context(), steps, nil)
	assert.ErrorIs(t, err, provider.ErrPermanent)
	assert.ErrorContains(t, err, "loadBalancer.provider")
	assert.Empty(t, o.ports, "nothing is left behind")
	assert.Len(t, o.seen, 1, "it is not tried again")
}

func TestBalancersThatMayNotBeLookedAt(t *testing.T) {
	t.Parallel()
	j, o := behind(t)
	o.forbidden = true
	err := j.listBalancers(t.Context(), &world{})
	require.ErrorIs(t, err, provider.ErrPermanent, "the inventory asks for one")
	j.spec.LoadBalancer = nil
	w := &world{}
	require.NoError(t, j.listBalancers(t.Context(), w), "nobody needs the role who asks for none")
	assert.True(t, w.hidden)
	observeAgain(t, j)
	assert.NoError(t, j.unseen())
	j.ports[vipName].SecurityGroups = []string{"lb-1"}
	assert.ErrorContains(t, j.unseen(), "load-balancer_member")
	steps := j.planDestroy()
	i := slices.IndexFunc(steps, func(s step) bool { return s.at == stageDropBalancer })
	require.GreaterOrEqual(t, i, 0, "destroy says that it could not look")
	assert.ErrorIs(t, steps[i].do(t.Context()), provider.ErrPermanent)
}

func TestBalancerWithPartsOfOthers(t *testing.T) {
	t.Parallel()
	j, o := behind(t)
	settleBalancer(t, j)
	id := only1(t, o.balancers)["id"]
	for _, key := range []string{"a", "z"} { // before and after ours
		o.pools[key] = object{"id": key, "balancer": id, "name": "somebody's"}
		o.members[key] = []object{{"name": "x", "address": "10.0.0.1", "protocol_port": 1}}
		o.listeners[key] = object{"id": key, "balancer": id, "name": "somebody's", "protocol_port": 80}
	}
	assert.Empty(t, settleBalancer(t, j))
}

func TestBalancerThatWentAway(t *testing.T) {
	t.Parallel()
	ready := balancerReady("lb-1")
	var err error
	for range 3 {
		_, err = ready(t.Context(), &world{})
	}
	assert.ErrorContains(t, err, "not there any more")
}

func TestBalancerThatCanNotBeChanged(t *testing.T) {
	t.Parallel()
	j, _ := behind(t)
	settleBalancer(t, j)
	j.cluster.Endpoint.Port = 6443
	_, err := j.planBalancer(nil)
	assert.ErrorContains(t, err, "the port 443, and the inventory says 6443")
	j.cluster.Endpoint.Port, j.cluster.Endpoint.Address = 443, "10.88.0.251"
	_, err = j.planBalancer(nil)
	assert.ErrorContains(t, err, "it answers at 10.88.0.250, and the inventory says 10.88.0.251")
}

func TestFloatingIPOfABalancerFollowsIt(t *testing.T) {
	t.Parallel()
	j, _ := behind(t)
	settleBalancer(t, j)
	j.spec.LoadBalancer.FloatingIP, j.external = true, "x"
	j.floating = map[string]*floatingips.FloatingIP{balancerNode: {ID: "f", PortID: "port-vip"}}
	steps, err := j.planBalancer(nil)
	require.NoError(t, err)
	assert.Empty(t, steps)
	j.floating[balancerNode].PortID = "before"
	steps, err = j.planBalancer(nil)
	require.NoError(t, err)
	require.Len(t, steps, 1)
	assert.Equal(t, "floating-ip", steps[0].change.Kind)
	assert.Greater(t, steps[0].at, stageBalancer)
}

func TestPortOfTheAPI(t *testing.T) {
	t.Parallel()
	j, _ := behind(t)
	assert.Equal(t, "10.88.0.250", j.reserved())
	j.owner = "the network belongs to another"
	assert.Empty(t, j.reserved(), "only the owner of a network chooses addresses")
	j.owner = ""
	settleBalancer(t, j)
	assert.Equal(t, "10.88.0.250", j.reserved())
	j.balancers[apiName].VipPortID = "its own"
	assert.Empty(t, j.reserved())
	j.spec.LoadBalancer = nil
	assert.Empty(t, j.reserved(), "mode external keeps none")
	j.cluster.Endpoint.Mode = inventory.EndpointVIP
	assert.Equal(t, "10.88.0.250", j.reserved())

	j.cluster.Endpoint.Mode = inventory.EndpointExternal
	j.cluster.Nodes = nil
	steps, err := j.planEnsure()
	require.NoError(t, err)
	left := map[string]stage{}
	for _, s := range steps {
		left[s.change.Kind+" "+s.change.Name] = s.at
	}
	assert.Equal(t, map[string]stage{"load-balancer " + apiName: stageClean, "port " + vipName: stageCleanParts}, left, "what nobody asks for goes, the port after what is at it")
}

func TestFixedAddressesComeFirst(t *testing.T) {
	t.Parallel()
	j, _ := behind(t)
	j.ports = map[string]*ports.Port{}
	nodes := []*inventory.Node{{Name: "a", Address: "10.88.0.2", Role: inventory.Worker}, {Name: "b", Role: inventory.Worker}}
	steps, err := j.planPorts(nodes)
	require.NoError(t, err)
	at := map[string]stage{}
	for _, s := range steps {
		at[s.change.Name] = s.at
	}
	assert.Equal(t, []subnets.AllocationPool{{Start: "10.88.0.2", End: "10.88.0.249"}, {Start: "10.88.0.251", End: "10.88.0.254"}},
		j.subnetOpts("s", "10.88.0.0/24").AllocationPools)
	assert.Equal(t, map[string]stage{vipName: stageFixedPorts, j.names.node("a"): stageFixedPorts, j.names.node("b"): stagePorts}, at)
}

func TestNetworkOfAnotherProject(t *testing.T) {
	t.Parallel()
	j, _ := behind(t)
	j.owner = "the network lan belongs to the project q"
	_, err := j.planPorts([]*inventory.Node{{Name: "a", Address: "10.88.0.2", Role: inventory.Worker}})
	assert.ErrorIs(t, err, provider.ErrPermanent)
	assert.ErrorContains(t, err, "a: the network lan belongs to the project q, and only that project may choose addresses")
	_, err = j.planPorts([]*inventory.Node{{Name: "b", Role: inventory.Worker}})
	assert.NoError(t, err)
	j.spec.LoadBalancer, j.cluster.Endpoint.Mode, j.spec.Network.CIDR = nil, inventory.EndpointVIP, ""
	_, err = j.planPorts([]*inventory.Node{{Name: "c", Role: inventory.ControlPlane}})
	assert.ErrorContains(t, err, "mode vip")
	j.world.networks = []network{{Network: networks.Network{ID: "n2", Name: "lan", ProjectID: "q"}}}
	j.spec.Network.Name, j.owner = "lan", ""
	j.cluster.Nodes = nil
	j.world.subnets = j.world.subnets[:1]
	require.NoError(t, j.existingNetwork())
	assert.Equal(t, "the network lan belongs to the project q", j.owner)
}

func TestNetworkThatFiltersNothing(t *testing.T) {
	t.Parallel()
	j, _ := behind(t)
	n := network{Network: networks.Network{Name: "lan"}}
	j.filtered(&n)
	assert.Empty(t, j.unfiltered, "a cloud that says nothing filters")
	var listed []network
	page := networks.NetworkPage{LinkedPageBase: pagination.LinkedPageBase{PageResult: pagination.PageResult{Result: gophercloud.Result{Body: object{
		"networks": []any{object{"id": "n1", "name": "lan", "port_security_enabled": false, "router:external": true}, object{"id": "n2"}},
	}}}}}
	require.NoError(t, networks.ExtractNetworksInto(page, &listed))
	assert.True(t, listed[0].External)
	assert.Nil(t, listed[1].Filter.On)
	j.filtered(&listed[0])
	assert.Equal(t, "lan", j.unfiltered)
	node := &inventory.Node{Name: "a", Role: inventory.ControlPlane}
	o := j.portOpts(node, nil)
	assert.Nil(t, o.SecurityGroups)
	assert.Empty(t, o.AllowedAddressPairs)
	assert.Empty(t, j.portDiffers(node, &ports.Port{}, nil))
	node.OpenStack = &inventory.OpenStackMachine{SecurityGroups: []string{"own"}}
	_, err := j.extraSecurity(node)
	assert.ErrorContains(t, err, "port security is off")
}

func TestPortsOfBalancersAreNoStrangers(t *testing.T) {
	t.Parallel()
	j, _ := behind(t)
	j.world.attached = []ports.Port{
		{ID: "1", NetworkID: "n", Name: "octavia-lb-vrrp-1", DeviceOwner: "compute:nova"}, {ID: "2", NetworkID: "n", Name: "ovn-lb-vip-1"},
		{ID: "3", NetworkID: "n", DeviceOwner: "ovn-lb-hm:distributed"}, {ID: "4", NetworkID: "n", DeviceOwner: "Octavia"},
	}
	assert.Len(t, j.strangers("n"), 4, "no load balancer is ours")
	attached := j.world.attached
	settleBalancer(t, j)
	j.world.attached = append(attached, ports.Port{ID: "5", NetworkID: "n", Name: "mine"})
	assert.Len(t, j.strangers("n"), 1)
}

func TestFloatingIPBeforeItsPort(t *testing.T) {
	t.Parallel()
	assert.False(t, isAt(&floatingips.FloatingIP{}, ""), "a port that is still to be made is not the one it is on")
	assert.True(t, isAt(&floatingips.FloatingIP{PortID: "p"}, "p"))
}

func TestServiceThatDidNotAnswer(t *testing.T) {
	t.Parallel()
	assert.True(t, absent(&gophercloud.ErrEndpointNotFound{}))
	assert.False(t, absent(refusal(503, "")), "what it holds would be left behind")
	assert.False(t, absent(errLost))
	assert.False(t, absent(nil))
}

func TestVolumesThatMayNotBeLookedAt(t *testing.T) {
	t.Parallel()
	j, o := behind(t)
	o.forbidden = true
	j.cloud.volume = j.cloud.balancer
	require.NoError(t, j.listVolumes(t.Context(), &world{}))
	j.cluster.Nodes[0].OpenStack = &inventory.OpenStackMachine{Volume: &inventory.OpenStackVolume{SizeGiB: 1}}
	assert.ErrorIs(t, j.listVolumes(t.Context(), &world{}), provider.ErrPermanent)
}
