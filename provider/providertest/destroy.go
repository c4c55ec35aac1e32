package providertest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/provider"
)

func planDestroyIsPure(t testing.TB, h Harness) {
	s := newStage(t, h)
	r := s.request(Want{Nodes: 4, Adopted: 1})
	nothing := s.planDestroy(r)
	assert.NotNil(t, nothing, "no change is an empty slice, not nil: it is shown as JSON")
	assert.Empty(t, nothing, "nothing was ensured")
	s.ensure(r)
	before := s.resources()
	first := s.planDestroy(r)
	assert.Equal(t, before, s.resources(), "plan of destroy changed the world")
	assert.Equal(t, first, s.planDestroy(r), "the second plan differs from the first")
	if h.Creates {
		assert.NotEmpty(t, first, "machines were made")
	}
	explained(t, first)
}

func planDestroyIsTrue(t testing.TB, h Harness) {
	s := newStage(t, h)
	r := present(s.request(Want{Nodes: 4, Adopted: 1}))
	s.ensure(r)
	small, _ := shrunk(r, 1)
	planned := s.planDestroy(small)
	var done reports
	require.NoError(t, s.provider().Destroy(s.bounded(), small, done.add))
	assert.Equal(t, words(planned), done.all(), "what destroy reported is not what was planned")
}

func destroysAll(t testing.TB, h Harness) {
	s := newStage(t, h)
	r := s.request(Want{Nodes: 4})
	before := s.resources()
	s.ensure(r)
	var done reports
	require.NoError(t, s.provider().Destroy(s.bounded(), r, done.add))
	assert.Equal(t, before, s.resources(), "what ensure created is not what destroy deleted")
	if h.Creates {
		assert.NotEmpty(t, done.all(), "deletions are reported")
		for _, c := range done.done {
			assert.Equal(t, provider.Delete, c.Verb)
		}
	} else {
		assert.Empty(t, done.all(), "nothing was created")
	}
}

func destroysSurplus(t testing.TB, h Harness) {
	s := newStage(t, h)
	r := present(s.request(Want{Nodes: 4}))
	before := s.resources()
	s.ensure(r)
	small, _ := shrunk(r, 2)
	s.destroy(small)
	assert.Equal(t, before, s.resources(), "what ensure created is not what destroy deleted")
}

func destroyLeavesAdopted(t testing.TB, h Harness) {
	s := newStage(t, h)
	r := s.request(Want{Nodes: 4, Adopted: 2})
	foreign := s.resources()
	s.ensure(r)
	s.destroy(r)
	assert.Equal(t, foreign, s.resources(), "adopted machines must stay, everything else must go")
}

func destroyAgain(t testing.TB, h Harness) {
	s := newStage(t, h)
	r := s.request(Want{Nodes: 4, Adopted: 1})
	s.destroy(r) // nothing was ever ensured
	s.ensure(r)
	s.destroy(r)
	left := s.resources()
	s.destroy(r)
	assert.Equal(t, left, s.resources())
}

// destroySpoiled: who can not afford the machines any more, or has mistyped something, can still get rid of them.
func destroySpoiled(t testing.TB, h Harness) {
	s := newStage(t, h)
	r := present(s.request(Want{Nodes: 4, Adopted: 1}))
	foreign := s.resources()
	s.ensure(r)
	spoiled, can := s.Spoil(t, present(r))
	if !can {
		require.False(t, h.Creates, "a provider that makes machines has settings that can be wrong")
		return
	}
	_, err := s.provider().Plan(s.bounded(), spoiled)
	require.ErrorIs(t, err, provider.ErrPermanent, "the harness's request: plan must refuse it")
	_, gone := shrunk(r, 1)
	assert.NoError(t, s.provider().Retire(s.bounded(), spoiled, gone, nil), "retire")
	planned := s.planDestroy(spoiled)
	if h.Creates {
		assert.NotEmpty(t, planned)
	}
	s.destroy(spoiled)
	assert.Equal(t, foreign, s.resources(), "what ensure created is not what destroy deleted")
}

func destroyCutOff(t testing.TB, h Harness) {
	foreign := map[*stage][]string{}
	cutOff(t, h, cut{
		want: Want{Nodes: 4, Adopted: 1},
		prepare: func(s *stage, r provider.Request) {
			foreign[s] = s.resources()
			s.ensure(r)
		},
		do: callDestroy,
		check: func(s *stage, _ provider.Request, point int) {
			assert.Equal(t, foreign[s], s.resources(), "cut off at operation %d and resumed", point)
		},
	})
}
