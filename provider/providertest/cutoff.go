package providertest

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/provider"
)

// cut is a call that is cut off.
type cut struct {
	want Want
	// prepare makes what the call finds; nil: an empty world.
	prepare func(s *stage, r provider.Request)
	do      func(ctx context.Context, s *stage, r provider.Request) error
	// check says whether the world is as an undisturbed call leaves it.
	check func(s *stage, r provider.Request, point int)
}

// cutOff does the call with a context that ends at each operation in turn, in a world of its own each, until it is not cut
// off any more; then the same call again must reach what an undisturbed one reaches.
func cutOff(t testing.TB, h Harness, c cut) {
	t.Helper()
	for point := 1; ; point += max(h.Stride, 1) {
		require.Less(t, point, 1000, "operations do not end")
		s := newStage(t, h)
		r := s.request(c.want)
		if c.prepare != nil {
			c.prepare(s, r)
		}
		ctx, cancel := context.WithCancel(s.bounded())
		var mu sync.Mutex
		count := 0
		s.Watch(func() {
			mu.Lock()
			defer mu.Unlock()
			if count++; count == point {
				cancel()
			}
		})
		err := c.do(ctx, s, r)
		mu.Lock()
		operations := count
		mu.Unlock()
		cancel()
		if err != nil {
			assert.ErrorIs(t, err, context.Canceled, "cut off at operation %d", point)
			assert.NotErrorIs(t, err, provider.ErrPermanent, "cut off at operation %d: trying again does help", point)
		}
		s.Watch(func() {})
		require.NoError(t, c.do(s.bounded(), s, r), "resumed after operation %d", point)
		c.check(s, r, point)
		if operations < point {
			require.NoError(t, err, "it was not cut off")
			if h.Creates {
				require.GreaterOrEqual(t, operations, 2, "the world shows no operations: the harness does not watch them")
			}
			return
		}
	}
}

func callEnsure(ctx context.Context, s *stage, r provider.Request) error {
	_, err := s.provider().Ensure(ctx, r, func(provider.Change) {})
	return err
}

func callDestroy(ctx context.Context, s *stage, r provider.Request) error {
	return s.provider().Destroy(ctx, r, func(provider.Change) {})
}
