package flow

import (
	"context"
	"sort"
	"sync"
	"time"
)

// watch asks the gateway again and again how far the chain is, since neither store can tell when an object was in both of
// them. While the gateway does not answer it sees nothing: what was stored meanwhile counts when it answers again.
type watch struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex
	steps []step
}

// step is a growth of the chain.
type step struct {
	at       time.Time
	sequence uint64
}

// interval is how often the gateway is asked, and so the error of times in the report.
const interval = 250 * time.Millisecond

func startWatch(ctx context.Context, s *Site, from uint64) *watch {
	ctx, cancel := context.WithCancel(ctx)
	w := &watch{cancel: cancel, done: make(chan struct{}), steps: []step{{time.Now(), from}}}
	go func() {
		defer close(w.done)
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				w.look(ctx, s)
			}
		}
	}()
	return w
}

func (w *watch) look(ctx context.Context, s *Site) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	numbers, err := s.stores.Sequences(ctx)
	if err != nil {
		return // it is away: that is what happens here
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := numbers[s.tenant]; n > w.steps[len(w.steps)-1].sequence {
		w.steps = append(w.steps, step{time.Now(), n})
	}
}

func (w *watch) stop() {
	w.cancel()
	<-w.done
}

func (w *watch) newest() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.steps[len(w.steps)-1].sequence
}

// times are the steps so far.
func (w *watch) times() times {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append(times(nil), w.steps...)
}

type times []step

// stored is when an object was in both stores; false when it was not seen.
func (t times) stored(sequence uint64) (time.Time, bool) {
	i := sort.Search(len(t), func(i int) bool { return t[i].sequence >= sequence })
	if i == len(t) {
		return time.Time{}, false
	}
	return t[i].at, true
}

// silence is the longest time without a step in [from, to), with what of it was before from: a fault shows from the last
// step before it on.
func (t times) silence(from, to time.Time) (begin, end time.Time) {
	for i := range len(t) - 1 {
		a, b := t[i].at, t[i+1].at
		if b.Before(from) || !a.Before(to) {
			continue
		}
		if b.After(to) {
			b = to
		}
		if b.Sub(a) > end.Sub(begin) {
			begin, end = a, b
		}
	}
	return begin, end
}
