package providertest

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/provider"
)

func reportNil(t testing.TB, h Harness) {
	s := newStage(t, h)
	r := present(s.request(Want{Nodes: 4, Adopted: 1}))
	small, gone := shrunk(r, 1)
	assert.NotPanics(t, func() {
		_, err := s.provider().Ensure(s.bounded(), r, nil)
		assert.NoError(t, err)
		assert.NoError(t, s.provider().Retire(s.bounded(), small, gone, nil))
		assert.NoError(t, s.provider().Destroy(s.bounded(), small, nil))
	})
}

// reportFree calls the provider from within report: who holds a lock then, hangs.
func reportFree(t testing.TB, h Harness) {
	s := newStage(t, h)
	r := s.request(Want{Nodes: 4, Adopted: 1})
	p := s.provider()
	done := make(chan error, 1)
	go func() {
		_, err := p.Ensure(s.bounded(), r, func(provider.Change) { _, _ = p.Plan(s.bounded(), r) }) // its result is another case's
		done <- err
	}()
	select {
	case err := <-done:
		assert.NoError(t, err)
	case <-time.After(h.patience()):
		assert.Fail(t, "ensure hangs while report calls plan: it holds a lock")
	}
}

func reportEnds(t testing.TB, h Harness) {
	s := newStage(t, h)
	r := s.request(Want{Nodes: 4, Adopted: 1})
	var over atomic.Bool
	late := make(chan struct{}, 1)
	_, err := s.provider().Ensure(s.bounded(), r, func(provider.Change) {
		if over.Load() {
			select {
			case late <- struct{}{}:
			default:
			}
		}
	})
	over.Store(true)
	require.NoError(t, err)
	select {
	case <-late:
		assert.Fail(t, "report was called after ensure returned")
	case <-time.After(300 * time.Millisecond):
	}
}

func contextHonoured(t testing.TB, h Harness) {
	s := newStage(t, h)
	r := present(s.request(Want{Nodes: 4, Adopted: 1}))
	small, gone := shrunk(r, 1)
	before := s.resources()
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the operator pressed a key")
	cancel(cause)
	isCause := func(call string, err error) {
		assert.Error(t, err, "%s went on", call)
		assert.True(t, errors.Is(err, context.Canceled) || errors.Is(err, cause), "%s: the error does not wrap the context's: %v", call, err)
		assert.NotErrorIs(t, err, provider.ErrPermanent, call)
	}
	p := s.provider()
	_, err := p.Plan(ctx, r)
	isCause("plan", err)
	_, err = p.Ensure(ctx, r, nil)
	isCause("ensure", err)
	assert.Equal(t, before, s.resources(), "ensure changed the world")
	s.ensure(r)
	made := s.resources()
	isCause("retire", p.Retire(ctx, small, gone, nil))
	assert.Equal(t, made, s.resources(), "retire changed the world")
	_, err = p.PlanDestroy(ctx, r)
	isCause("plan of destroy", err)
	isCause("destroy", p.Destroy(ctx, r, nil))
	assert.Equal(t, made, s.resources(), "destroy changed the world")
}

func permanentErrors(t testing.TB, h Harness) {
	s := newStage(t, h)
	r := present(s.request(Want{Nodes: 3}))
	isPermanent := func(r provider.Request, why string) {
		p := s.provider()
		_, err := p.Plan(s.bounded(), r)
		assert.ErrorIs(t, err, provider.ErrPermanent, "plan: %s", why)
		_, err = p.Ensure(s.bounded(), r, nil)
		assert.ErrorIs(t, err, provider.ErrPermanent, "ensure: %s", why)
		assert.ErrorIs(t, p.Retire(s.bounded(), r, []string{"wc-9"}, nil), provider.ErrPermanent, "retire: %s", why)
		_, err = p.PlanDestroy(s.bounded(), r)
		assert.ErrorIs(t, err, provider.ErrPermanent, "plan of destroy: %s", why)
		assert.ErrorIs(t, p.Destroy(s.bounded(), r, nil), provider.ErrPermanent, "destroy: %s", why)
	}
	isPermanent(provider.Request{Inventory: r.Inventory, Cluster: "management"}, "no such cluster")
	if s.Break(t) {
		isPermanent(r, "nothing can be done any more")
	} else {
		assert.False(t, h.Creates, "a world in which machines are made can be broken")
	}
}

// concurrent calls one provider from several goroutines; with -race it finds shared state.
func concurrent(t testing.TB, h Harness) {
	s := newStage(t, h)
	r := s.request(Want{Nodes: 4, Adopted: 1})
	s.ensure(r)
	p, made := s.provider(), s.resources()
	errs := make(chan error, 8)
	for range cap(errs) / 2 {
		go func() {
			_, err := p.Ensure(s.bounded(), r, func(provider.Change) {})
			errs <- err
		}()
		go func() {
			_, err := p.Plan(s.bounded(), r)
			errs <- err
		}()
	}
	for range cap(errs) {
		assert.NoError(t, <-errs)
	}
	assert.Equal(t, made, s.resources())
}
