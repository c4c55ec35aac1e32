package plan

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/catamaran-k8s/catamaran/bootstrap/remote"
)

// act is an action made of a function.
type act func(ctx context.Context, log func(string)) error

func (a act) Do(ctx context.Context, log func(string)) error { return a(ctx, log) }

func ok(context.Context, func(string)) error { return nil }

func fail(text string) act {
	return func(context.Context, func(string)) error { return errors.New(text) }
}

func outcomes(s Summary) map[string]EventType {
	out := map[string]EventType{}
	for _, o := range s.Outcomes {
		out[o.Step.ID] = o.Type
	}
	return out
}

func TestRunFollowsTheGraph(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var order []string
	record := func(id string) act {
		return func(context.Context, func(string)) error {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, id)
			return nil
		}
	}
	p := Plan{Steps: []Step{
		{ID: "c", Needs: []string{"b"}, Action: record("c")},
		{ID: "b", Needs: []string{"a"}, Action: record("b")},
		{ID: "a", Action: record("a")},
	}}
	s, err := Run(context.Background(), p, RunOptions{})
	require.NoError(t, err)
	assert.False(t, s.Failed())
	assert.Equal(t, []string{"a", "b", "c"}, order)
}

func TestAFailureSkipsOnlyWhatNeedsIt(t *testing.T) {
	t.Parallel()
	p := Plan{Steps: []Step{
		{ID: "bad", Action: fail("boom")},
		{ID: "after", Needs: []string{"bad"}, Action: act(ok)},
		{ID: "later", Needs: []string{"after"}, Action: act(ok)},
		{ID: "other", Action: act(ok)},
		{ID: "panics", Action: act(func(context.Context, func(string)) error { panic("ouch") })},
	}}
	s, err := Run(context.Background(), p, RunOptions{})
	require.NoError(t, err)
	assert.Equal(t, map[string]EventType{"bad": Failed, "after": Skipped, "later": Skipped, "other": End, "panics": Failed}, outcomes(s))
	assert.EqualError(t, s.Outcomes[1].Err, "it needs bad")
	assert.ErrorContains(t, s.Outcomes[4].Err, "ouch")
}

// One step at a time on a node and under a lock; everything else at once.
func TestNodesAndLocksExcludeAndNothingElseDoes(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	running, most := map[string]int{}, map[string]int{}
	var steps []Step
	gate := make(chan struct{})
	var waiting sync.WaitGroup
	waiting.Add(3) // one of n1, one of n2, the free one
	var once [4]sync.Once
	for i := range 12 {
		keys := []string{fmt.Sprintf("n%d", 1+i%2)}
		s := Step{ID: fmt.Sprint(i), Node: keys[0]}
		group := i % 2
		if i >= 8 {
			s.Node, s.Lock, keys, group = "", "etcd", []string{"etcd"}, 2
		}
		s.Action = act(func(context.Context, func(string)) error {
			mu.Lock()
			for _, k := range keys {
				running[k]++
				most[k] = max(most[k], running[k])
			}
			mu.Unlock()
			once[group].Do(waiting.Done)
			<-gate // all three groups are running at once, or this never opens
			mu.Lock()
			for _, k := range keys {
				running[k]--
			}
			mu.Unlock()
			return nil
		})
		steps = append(steps, s)
	}
	go func() { waiting.Wait(); close(gate) }()
	s, err := Run(context.Background(), Plan{Steps: steps}, RunOptions{})
	require.NoError(t, err)
	assert.False(t, s.Failed())
	assert.Equal(t, map[string]int{"n1": 1, "n2": 1, "etcd": 1}, most)
}

func TestPassingErrorsAreTriedAgainAndOthersAreNot(t *testing.T) {
	t.Parallel()
	tries := map[string]int{}
	var mu sync.Mutex
	failing := func(id string, err error, until int) act {
		return func(context.Context, func(string)) error {
			mu.Lock()
			defer mu.Unlock()
			if tries[id]++; tries[id] < until {
				return err
			}
			return nil
		}
	}
	passing := &remote.Error{Host: "h", Op: "dial", Kind: remote.Passing, Err: errors.New("refused")}
	permanent := &remote.Error{Host: "h", Op: "sudo", Kind: remote.Permanent, Err: errors.New("no")}
	p := Plan{Steps: []Step{
		{ID: "passing", Action: failing("passing", passing, 3)},
		{ID: "always", Action: failing("always", passing, 99)},
		{ID: "permanent", Action: failing("permanent", permanent, 2)},
		{ID: "script", Action: failing("script", &remote.ExitError{Host: "h"}, 2)},
	}}
	s, err := Run(context.Background(), p, RunOptions{Pause: time.Millisecond})
	require.NoError(t, err)
	assert.Equal(t, map[string]int{"passing": 3, "always": 3, "permanent": 1, "script": 1}, tries)
	assert.Equal(t, map[string]EventType{"passing": End, "always": Failed, "permanent": Failed, "script": Failed}, outcomes(s))
}

func TestAnInterruptBeginsNothingAnyMore(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	p := Plan{Steps: []Step{
		{ID: "running", Action: act(func(ctx context.Context, _ func(string)) error { cancel(); <-ctx.Done(); return ctx.Err() })},
		{ID: "next", Needs: []string{"running"}, Action: act(ok)},
		{ID: "waiting", Node: "n", Action: act(func(ctx context.Context, _ func(string)) error { <-ctx.Done(); return ctx.Err() })},
		{ID: "behind", Node: "n", Action: act(ok)},
	}}
	s, err := Run(ctx, p, RunOptions{})
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, map[string]EventType{"running": Failed, "next": Skipped, "waiting": Failed, "behind": Skipped}, outcomes(s))
	assert.True(t, s.Failed())
}

func TestGraphsThatCanNotBeRunAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		want  string
		steps []Step
	}{
		{"planned twice", []Step{{ID: "a"}, {ID: "a"}}},
		{"needs b, which is not planned", []Step{{ID: "a", Needs: []string{"b"}}}},
		{"need each other: a -> b -> a", []Step{{ID: "a", Needs: []string{"b"}}, {ID: "b", Needs: []string{"a"}}}},
	} {
		_, err := Run(context.Background(), Plan{Steps: c.steps}, RunOptions{})
		assert.ErrorContains(t, err, c.want)
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
