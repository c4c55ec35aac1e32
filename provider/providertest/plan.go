package providertest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/provider"
)

func planIsPure(t testing.TB, h Harness) {
	s := newStage(t, h)
	r := s.request(Want{Nodes: 4, Adopted: 1})
	before := s.resources()
	first := s.plan(r)
	assert.Equal(t, before, s.resources(), "plan changed the world")
	assert.Equal(t, first, s.plan(r), "the second plan differs from the first")
	if h.Creates {
		assert.NotEmpty(t, first.Changes, "two machines are missing")
	}
	explained(t, first.Changes)
}

// explained checks that people can be told of changes.
func explained(t testing.TB, changes []provider.Change) {
	t.Helper()
	for _, c := range changes {
		assert.NotEmpty(t, c.Kind, "%v", c)
		assert.NotEmpty(t, c.Name, "%v", c)
		assert.NotEmpty(t, c.Reason, "%v", c)
	}
}

func planIsTrue(t testing.TB, h Harness) {
	s := newStage(t, h)
	r := s.request(Want{Nodes: 4, Adopted: 1})
	planned := s.plan(r)
	var done reports
	_, err := s.provider().Ensure(s.bounded(), r, done.add)
	require.NoError(t, err)
	assert.Equal(t, words(planned.Changes), done.all(), "what ensure reported is not what was planned")
}

func planEmptyAfterEnsure(t testing.TB, h Harness) {
	s := newStage(t, h)
	r := s.request(Want{Nodes: 4, Adopted: 1})
	s.ensure(r)
	p := s.plan(r)
	assert.NotNil(t, p.Changes, "no change is an empty slice, not nil: it is shown as JSON")
	assert.Empty(t, p.Changes)
	assert.Empty(t, p.Surplus)
}

func planKnowsMachines(t testing.TB, h Harness) {
	s := newStage(t, h)
	r := present(s.request(Want{Nodes: 4, Adopted: 1}))
	nodes := nodesOf(r)
	if h.Creates {
		assert.Equal(t, []string{nodes[0].Name}, names(s.plan(r).Machines), "the machine that somebody made is there, the others are not")
	}
	small, _ := shrunk(r, 2)
	made := s.ensure(small)
	if h.Creates {
		assert.Equal(t, made, s.plan(r).Machines, "some machines are missing")
	}
	made = s.ensure(r)
	assert.Equal(t, made, s.plan(r).Machines, "all machines are there")
}
