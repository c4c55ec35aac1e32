package plan

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// shrink takes nodes out of the model's inventory whose machines a provider made: they are surplus.
func shrink(s *site, nodes ...string) {
	for _, name := range nodes {
		n := s.in.Inventory.Node(name)
		require.NotNil(s.t, n)
		n.State, n.Leaving = inventory.Absent, true
		s.in.Surplus = append(s.in.Surplus, name)
	}
}

func TestSurplusLeavesItsClusterBeforeItsMachineIsDeleted(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.apply(s.plan(), nil)
	shrink(s, "sc-2", "wc-3", "wc-4")
	p := s.plan()
	for _, name := range []string{"wc-3", "wc-4"} {
		retire := step(t, p, "workload/"+name+"/retire")
		assert.ElementsMatch(t, []string{"workload/" + name + "/drain", "workload/" + name + "/reset", "workload/" + name + "/delete"}, retire.Needs)
		assert.Equal(t, "the inventory does not list it any more", retire.Reason)
		assert.Equal(t, RetireMachine{Cluster: inventory.Workload, Machine: name}, retire.Task)
	}
	prepare := step(t, p, "service/sc-1/prepare")
	assert.Subset(t, prepare.Needs, []string{"service/sc-2/reset", "service/sc-2/delete"}, "it must have gone before the firewall forgets it")
	s.apply(p, nil)
	assert.Empty(t, ids(s.plan()), "the second plan: firewalls do not know it any more")
}

func TestAMadeMachineOfAnAbsentNodeIsDeletedToo(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.apply(s.plan(), nil)
	n := s.in.Inventory.Node("wc-4")
	n.State, n.Leaving = inventory.Absent, true
	assert.Equal(t, "the inventory says `state: absent`", step(t, s.plan(), "workload/wc-4/retire").Reason)
	n.Leaving = false // adopted
	assert.NotContains(t, ids(s.plan()), "workload/wc-4/retire", "somebody else made it")
}

func TestSurplusThatCanNotBeReachedIsDeletedAllTheSame(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.apply(s.plan(), nil)
	shrink(s, "wc-4")
	s.unplug("wc-4")
	p := s.plan()
	assert.NotContains(t, ids(p), "workload/wc-4/reset")
	retire := step(t, p, "workload/wc-4/retire")
	assert.Contains(t, retire.Needs, "workload/wc-4/delete")
	assert.Contains(t, retire.Reason, "it can not be reached (wc-4: dial: no route to host) and is deleted without being reset")
	assert.Empty(t, p.Unreachable, "nobody is sent to look for it")
}

func TestSurplusStaysWhileItsClusterCanNotBeAsked(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.apply(s.plan(), nil)
	shrink(s, "wc-4")
	for _, f := range s.in.Facts {
		f.Cluster, f.ClusterError = nil, "connection refused"
	}
	p := s.plan()
	assert.NotContains(t, ids(p), "workload/wc-4/retire")
	assert.Contains(t, p.Warnings, "workload: the machine of wc-4 stays until an API server answers: it may be in the cluster")
}

func TestTheLastControlPlaneIsNoSurplus(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.apply(s.plan(), nil)
	shrink(s, "sc-1")
	_, err := Make(s.in)
	assert.ErrorContains(t, err, "sc-1 is the last control plane")
}
