package providertest

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

func machinesInOrder(t testing.TB, h Harness) {
	s := newStage(t, h)
	r := s.request(Want{Nodes: 5, Adopted: 1})
	nodes := nodesOf(r)
	require.Len(t, nodes, 5, "the harness's request")
	require.Equal(t, inventory.Absent, nodes[3].State, "the harness's request: the last but one is absent")
	before := s.ensure(present(r))
	machines := s.ensure(r)
	assert.Equal(t, before, machines, "a machine whose node became absent is there: it is drained and reset")
	require.Len(t, machines, len(nodes))
	seen := map[string]string{}
	for i, m := range machines {
		assert.Equal(t, nodes[i].Name, m.Name)
		assert.Equal(t, nodes[i].Role, m.Role)
		assert.Equal(t, r.Cluster, m.Cluster)
		assert.Equal(t, i == 0 || !h.Creates, m.Adopted, "%s: whether somebody else made it", m.Name)
		if nodes[i].Address != "" {
			assert.Equal(t, nodes[i].Address, m.Address, "%s: the inventory asks for this address", m.Name)
		}
		if nodes[i].HostKey != "" {
			assert.Equal(t, nodes[i].HostKey, m.HostKey, "%s: the inventory pins this key", m.Name)
		}
		_, err := netip.ParseAddr(m.Address)
		assert.NoError(t, err, "%s: its address", m.Name)
		assert.Empty(t, seen[m.Address], "%s has another's address", m.Name)
		seen[m.Address] = m.Name
	}
}

func ensureAgain(t testing.TB, h Harness) {
	s := newStage(t, h)
	r := s.request(Want{Nodes: 4, Adopted: 1})
	first, made := s.ensure(r), s.resources()
	var done reports
	second, err := s.provider().Ensure(s.bounded(), r, done.add)
	require.NoError(t, err)
	assert.Equal(t, first, second, "the machines")
	assert.Equal(t, made, s.resources(), "the world")
	assert.Empty(t, done.all(), "what was reported")
}

func ensureGrows(t testing.TB, h Harness) {
	s := newStage(t, h)
	small := s.ensure(present(s.request(Want{Nodes: 2})))
	made := s.resources()
	machines := s.ensure(present(s.request(Want{Nodes: 4})))
	require.Len(t, machines, 4)
	assert.Equal(t, addresses(small), addresses(machines[:2]), "machines that were there have moved")
	assert.Subset(t, s.resources(), made, "something that was there is gone")
	if h.Creates {
		assert.Greater(t, len(s.resources()), len(made), "nothing was made")
	}
}

func ensureAbsent(t testing.TB, h Harness) {
	s := newStage(t, h)
	r := s.request(Want{Nodes: 4})
	absent := nodesOf(r)[2]
	require.Equal(t, inventory.Absent, absent.State, "the harness's request: the last but one is absent")
	machines := s.ensure(r)
	if !h.Creates {
		return
	}
	assert.NotContains(t, names(machines), absent.Name, "a machine was made to be taken away")
	require.Len(t, machines, 3)
	assert.Equal(t, machines, s.plan(r).Machines)
}

func adopts(t testing.TB, h Harness) {
	s := newStage(t, h)
	r := s.request(Want{Nodes: 3, Adopted: 3})
	foreign := s.resources()
	for _, c := range s.plan(r).Changes {
		assert.Equal(t, provider.Adopt, c.Verb, "%v: all machines are there", c)
	}
	assert.Len(t, s.ensure(r), 3)
	assert.Equal(t, foreign, s.resources(), "adopting makes nothing and deletes nothing")
}

func ensureCutOff(t testing.TB, h Harness) {
	want := Want{Nodes: 4, Adopted: 1}
	whole := newStage(t, h)
	whole.ensure(whole.request(want))
	count := len(whole.resources())
	cutOff(t, h, cut{
		want: want,
		do:   callEnsure,
		check: func(s *stage, r provider.Request, point int) {
			assert.Len(t, s.resources(), count, "cut off at operation %d and resumed: something was made twice, or not at all", point)
			assert.Empty(t, s.plan(r).Changes, "cut off at operation %d and resumed", point)
		},
	})
}
