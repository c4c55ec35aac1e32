package openstack

import (
	"strconv"
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/limits"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servergroups"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/rules"
	"github.com/stretchr/testify/assert"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

func TestWhatIsMadeAgainIsCountedOnce(t *testing.T) {
	t.Parallel()
	scope := names{"umea", inventory.Workload}
	j := &job{
		names: scope, cloud: &cloud{user: "me"}, world: &world{servers: []servers.Server{{ID: "s1", UserID: "me"}, {ID: "s2", UserID: "me"}}},
		servers:      map[string]*servers.Server{"wc-1": {ID: "s1", UserID: "me", Flavor: map[string]any{"vcpus": 4.0, "ram": 8192.0}, Metadata: map[string]string{markPool: "wc"}}},
		volumes:      map[string]*volumes.Volume{scope.node("wc-1"): {Size: 20}},
		security:     map[string]*groups.SecGroup{scope.part(partNodes): {Rules: make([]rules.SecGroupRule, 5)}},
		serverGroups: map[string]*servergroups.ServerGroup{scope.part("wc"): {Members: []string{"s1", "s2"}}},
	}
	b := j.reckon([]step{
		{change: remove("server", "wc-1", "")},
		{change: remove("volume", scope.node("wc-1"), "")},
		{change: remove("security-group", scope.part(partNodes), "")},
		{change: add("server", "wc-1", ""), needs: need{cores: 4, mebibytes: 8192, group: "wc"}},
		{change: add("volume", scope.node("wc-1"), ""), needs: need{gibibytes: 50}},
		{change: mend("server", "wc-2", ""), needs: need{cores: 99}},
	})
	assert.Equal(t, need{gibibytes: 30, rules: -5}, b.sum)
	assert.Equal(t, map[string]int{"wc": 0}, b.group)
	assert.Equal(t, map[string]int{"server": 0, "volume": 0, "security-group": -1}, b.count)
	assert.NoError(t, short("umea.workload", j.computeLines(&limits.Absolute{MaxTotalInstances: 2, TotalInstancesUsed: 2, MaxServerGroupMembers: 2}, b)))
}

func TestQuotaOfServerGroupMembers(t *testing.T) {
	t.Parallel()
	scope := names{"umea", inventory.Workload}
	j := &job{names: scope, cloud: &cloud{user: "me"}, world: &world{}}
	group := &servergroups.ServerGroup{}
	for i := range 9 {
		s := servers.Server{ID: strconv.Itoa(i), UserID: "me"}
		if i == 8 {
			s.UserID = "somebody else" // whose members do not count for us
		}
		j.world.servers = append(j.world.servers, s)
		group.Members = append(group.Members, s.ID)
	}
	j.serverGroups = map[string]*servergroups.ServerGroup{scope.part("wc"): group}
	var steps []step
	for _, pool := range []string{"wc", "wc", "wc", "new", ""} {
		steps = append(steps, step{change: add("server", "x", ""), needs: need{group: pool}})
	}
	free := limits.Absolute{MaxTotalInstances: -1, MaxTotalCores: -1, MaxTotalRAMSize: -1, MaxServerGroups: -1, MaxServerGroupMembers: 10}
	err := short("umea.workload", j.computeLines(&free, j.reckon(steps)))
	assert.ErrorIs(t, err, provider.ErrPermanent)
	assert.ErrorContains(t, err, "members of a server group (pool wc): 3 are needed, 2 of 10 are free, 1 are missing")
	assert.NotContains(t, err.Error(), "pool new")
	free.MaxServerGroupMembers = 11
	assert.NoError(t, short("umea.workload", j.computeLines(&free, j.reckon(steps))))
}
