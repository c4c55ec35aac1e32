package providertest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/provider"
)

func surplusStays(t testing.TB, h Harness) {
	s := newStage(t, h)
	r := present(s.request(Want{Nodes: 5, Adopted: 1}))
	made, world := s.ensure(r), s.resources()
	small, gone := shrunk(r, 2)
	p := s.plan(small)
	assert.Empty(t, p.Changes, "a machine too many is no change of ensure's")
	assert.Equal(t, made[:3], p.Machines)
	if h.Creates {
		require.Equal(t, gone, names(p.Surplus), "sorted by name")
		for i, m := range p.Surplus {
			was := made[len(made)-len(gone)+i]
			assert.Equal(t, was.Role, m.Role, "%s: it is drained and removed by its role", m.Name)
			assert.Equal(t, was.Cluster, m.Cluster, m.Name)
			assert.Equal(t, was.Address, m.Address, "%s: it is reached there to be reset", m.Name)
		}
	} else {
		assert.Empty(t, p.Surplus, "nothing was made")
	}
	assert.Equal(t, made[:3], s.ensure(small))
	assert.Equal(t, world, s.resources(), "surplus was not left alone")
}

func adoptedIsNoSurplus(t testing.TB, h Harness) {
	s := newStage(t, h)
	r := present(s.request(Want{Nodes: 3, Adopted: 3}))
	s.ensure(r)
	small, _ := shrunk(r, 1)
	assert.Empty(t, s.plan(small).Surplus, "somebody else made it")
}

func retiresNamed(t testing.TB, h Harness) {
	s := newStage(t, h)
	whole := present(s.request(Want{Nodes: 5, Adopted: 1}))
	small, gone := shrunk(whole, 2)
	require.Len(t, s.ensure(small), 3)
	before := s.resources()
	s.ensure(whole)
	grown := s.resources()

	done := s.retire(small, gone[1])
	for _, c := range done {
		assert.Equal(t, provider.Delete, c.Verb, "%v", c)
	}
	p := s.plan(small)
	if h.Creates {
		assert.NotEmpty(t, done, "deletions are reported")
		assert.Equal(t, gone[:1], names(p.Surplus), "the other one was not named")
		assert.Less(t, len(s.resources()), len(grown), "nothing was deleted")
	}
	assert.Subset(t, grown, s.resources(), "something was made")
	assert.Subset(t, s.resources(), before, "something that others use is gone")
	assert.Empty(t, p.Changes, "something that others use is gone")

	s.retire(small, gone[0])
	assert.Equal(t, before, s.resources(), "what was made for a machine goes with it, and nothing else")
	assert.Empty(t, s.plan(small).Surplus)
}

func retiresAbsent(t testing.TB, h Harness) {
	s := newStage(t, h)
	r := s.request(Want{Nodes: 4})
	absent := nodesOf(r)[2]
	s.ensure(r)
	before := s.resources()
	s.ensure(present(r))
	s.retire(r, absent.Name)
	assert.Equal(t, before, s.resources(), "what was made for a machine goes with it, and nothing else")
	p := s.plan(r)
	assert.Empty(t, p.Changes, "it was made to be taken away")
	if h.Creates {
		assert.NotContains(t, names(p.Machines), absent.Name)
	}
}

func retireLeavesAdopted(t testing.TB, h Harness) {
	s := newStage(t, h)
	r := present(s.request(Want{Nodes: 3, Adopted: 3}))
	s.ensure(r)
	foreign := s.resources()
	small, gone := shrunk(r, 1)
	assert.Empty(t, s.retire(small, gone...), "what was reported")
	assert.Equal(t, foreign, s.resources(), "somebody else made it")
}

func retireAgain(t testing.TB, h Harness) {
	s := newStage(t, h)
	r := present(s.request(Want{Nodes: 4, Adopted: 1}))
	s.retire(r, "nobody") // nothing was ever ensured
	s.ensure(r)
	small, gone := shrunk(r, 1)
	s.retire(small, gone...)
	left := s.resources()
	assert.Empty(t, s.retire(small, append(gone, "nobody")...), "what was reported")
	assert.Equal(t, left, s.resources())
}

func retireCutOff(t testing.TB, h Harness) {
	smaller := func(r provider.Request) (provider.Request, []string) { return shrunk(present(r), 1) }
	before := map[*stage][]string{}
	cutOff(t, h, cut{
		want: Want{Nodes: 4, Adopted: 1},
		prepare: func(s *stage, r provider.Request) {
			small, _ := smaller(r)
			s.ensure(small)
			before[s] = s.resources()
			s.ensure(present(r))
		},
		do: func(ctx context.Context, s *stage, r provider.Request) error {
			small, gone := smaller(r)
			return s.provider().Retire(ctx, small, gone, func(provider.Change) {})
		},
		check: func(s *stage, r provider.Request, point int) {
			small, _ := smaller(r)
			p := s.plan(small)
			assert.Equal(t, before[s], s.resources(), "cut off at operation %d and resumed", point)
			assert.Empty(t, p.Changes, "cut off at operation %d and resumed", point)
			assert.Empty(t, p.Surplus, "cut off at operation %d and resumed", point)
		},
	})
}
