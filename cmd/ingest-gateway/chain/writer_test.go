package chain_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain/chaintest"
)

const tenant = "umea"

func options(store chain.Store, sink chain.Sink) chain.Options {
	return chain.Options{
		Tenant: tenant, Store: store, Sink: sink,
		Retention: 24 * time.Hour, ObjectBytes: 1 << 20, MaxWait: time.Millisecond, BufferBytes: 8 << 20,
		RecentChunks: 10000, RecentObjects: 1000, MaxStreams: 50,
		Timing:   chain.Timing{MaxAge: 7 * 24 * time.Hour, MaxAhead: 10 * time.Minute, MaxBehind: time.Hour},
		RetryMin: time.Millisecond, RetryMax: 4 * time.Millisecond,
	}
}

// start runs a writer; kill ends it as a SIGKILL would: nothing is finished, nobody is answered.
func start(t *testing.T, opt chain.Options) (w *chain.Writer, kill func()) {
	t.Helper()
	w, err := chain.New(opt)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = w.Run(ctx)
	}()
	kill = func() { cancel(); <-ended }
	t.Cleanup(kill)
	return w, kill
}

func chunk(id string, lines ...string) *chain.Chunk { return chunkAt(id, time.Now(), lines...) }

func chunkAt(id string, at time.Time, lines ...string) *chain.Chunk {
	c := &chain.Chunk{ID: id, Tag: "test", Streams: []chain.Labels{{Source: "test", Namespace: "default"}}}
	for i, l := range lines {
		from := len(c.JSON)
		c.JSON = fmt.Appendf(c.JSON, `{"message":%q}`, l)
		c.Records = append(c.Records, chain.Record{Time: at.UnixNano() + int64(i), From: from, To: len(c.JSON)})
	}
	c.Digest = sha256.Sum256(c.JSON)
	return c
}

// send submits a chunk and waits until it is stored.
func send(t *testing.T, w *chain.Writer, c *chain.Chunk) error {
	t.Helper()
	done := make(chan error, 1)
	if err := w.Submit(t.Context(), c, func(err error) { done <- err }); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-time.After(20 * time.Second):
		return errors.New("not stored within 20 s")
	}
}

func verify(t *testing.T, store chain.Archive) chain.Report {
	t.Helper()
	r, err := chain.Verify(t.Context(), store, chain.VerifyOptions{Tenant: tenant, MinRetention: 24 * time.Hour})
	require.NoError(t, err)
	return r
}

func TestChunksBecomeLinkedLockedObjects(t *testing.T) {
	t.Parallel()
	store, sink := &chaintest.Store{}, &chaintest.Sink{}
	w, _ := start(t, options(store, sink))
	for i := range 5 {
		require.NoError(t, send(t, w, chunk(fmt.Sprint("c", i), "one", "two")))
	}
	r := verify(t, store)
	assert.Empty(t, r.Findings)
	assert.EqualValues(t, 5, r.Last.Sequence)
	assert.EqualValues(t, 10, r.Records)
	assert.EqualValues(t, 5, r.Chunks)
	assert.Len(t, sink.Lines(), 10)
	assert.Equal(t, "umea/00000000/000000000001.ndjson.zst", store.Keys()[0])
}

// held is a store whose first put begins (inPut is closed) and waits until release is closed.
func held() (store *chaintest.Store, inPut, release chan struct{}) {
	inPut, release = make(chan struct{}), make(chan struct{})
	var once sync.Once
	return &chaintest.Store{Fault: func(op, _ string) chaintest.Fault {
		if op == "put" {
			once.Do(func() { close(inPut); <-release })
		}
		return chaintest.None
	}}, inPut, release
}

func TestChunksThatComeWhileAnObjectIsWrittenShareTheNext(t *testing.T) {
	t.Parallel()
	store, inPut, release := held()
	w, _ := start(t, options(store, &chaintest.Sink{}))
	var wg sync.WaitGroup
	done := func(err error) { assert.NoError(t, err); wg.Done() }
	wg.Add(41)
	require.NoError(t, w.Submit(t.Context(), chunk("first", "x"), done))
	<-inPut
	for i := range 40 {
		require.NoError(t, w.Submit(t.Context(), chunk(fmt.Sprint(i), "x"), done))
	}
	close(release)
	wg.Wait()
	assert.Len(t, store.Keys(), 2)
	assert.Empty(t, verify(t, store).Findings)
}

func TestAChunkIsRecognisedWhenItComesAgain(t *testing.T) {
	t.Parallel()
	store, sink := &chaintest.Store{}, &chaintest.Sink{}
	opt := options(store, sink)
	w, kill := start(t, opt)
	require.NoError(t, send(t, w, chunk("a", "once")))
	first := chunk("b", "once")
	require.NoError(t, send(t, w, first))
	require.NoError(t, send(t, w, first), "while running")
	kill()
	w, kill = start(t, opt)
	require.NoError(t, send(t, w, first), "after a restart: in the last object")
	require.NoError(t, send(t, w, chunk("c", "more")))
	kill()
	w, _ = start(t, opt)
	require.NoError(t, send(t, w, first), "after a restart: in an earlier object")
	assert.Len(t, store.Keys(), 3)
	assert.Empty(t, verify(t, store).Findings)

	other := chunk("b", "the same ID with other records is another chunk")
	require.NoError(t, send(t, w, other))
	assert.Len(t, store.Keys(), 4)

	anonymous := chunk("", "x")
	require.NoError(t, send(t, w, anonymous))
	require.NoError(t, send(t, w, anonymous))
	assert.Len(t, store.Keys(), 6, "without an ID nothing is a duplicate")
}

func TestOneWaitingChunkTakesNoRoomTwice(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	down.Store(true)
	store := &chaintest.Store{Fault: func(string, string) chaintest.Fault {
		if down.Load() {
			return chaintest.Refused
		}
		return chaintest.None
	}}
	opt := options(store, &chaintest.Sink{})
	c := chunk("big", strings.Repeat("x", 1000))
	opt.BufferBytes = c.Size() + c.Size()/2
	w, _ := start(t, opt)
	var wg sync.WaitGroup
	wg.Add(3)
	for range 3 {
		require.NoError(t, w.Submit(t.Context(), c, func(err error) { assert.NoError(t, err); wg.Done() }))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := w.Submit(ctx, chunk("another", strings.Repeat("y", 1000)), func(error) {})
	require.ErrorIs(t, err, context.DeadlineExceeded, "the buffer is full: the sender waits")
	down.Store(false)
	wg.Wait()
	assert.Len(t, store.Keys(), 1)
}

// The same chunk comes by two connections, both of which wait for room.
func TestOneChunkThatWaitsForRoomTwice(t *testing.T) {
	t.Parallel()
	store, inPut, release := held()
	opt := options(store, &chaintest.Sink{})
	opt.MaxWait = 50 * time.Millisecond
	first, again := chunk("first", strings.Repeat("x", 1000)), chunk("again", strings.Repeat("y", 100))
	opt.BufferBytes = first.Size()
	w, _ := start(t, opt)
	var wg sync.WaitGroup
	done := func(err error) { assert.NoError(t, err); wg.Done() }
	wg.Add(3)
	require.NoError(t, w.Submit(t.Context(), first, done))
	<-inPut
	var submitted sync.WaitGroup
	for range 2 {
		submitted.Go(func() { assert.NoError(t, w.Submit(t.Context(), again, done)) })
	}
	require.Eventually(t, func() bool { return waiting(t) == 2 }, 10*time.Second, time.Millisecond)
	close(release)
	submitted.Wait()
	wg.Wait()
	r := verify(t, store)
	assert.Empty(t, r.Findings)
	assert.EqualValues(t, 2, r.Chunks)
}

// waiting counts the goroutines of TestOneChunkThatWaitsForRoomTwice that wait for room.
func waiting(t *testing.T) int {
	t.Helper()
	buf := make([]byte, 1<<20)
	n := 0
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, "Weighted).Acquire") && strings.Contains(g, "TestOneChunkThatWaitsForRoomTwice") {
			n++
		}
	}
	return n
}

func TestUnknownOutcomes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		faults        []chaintest.Fault
		unconditional bool
		overwrites    bool
	}{
		"the store refuses":                             {faults: []chaintest.Fault{chaintest.Refused, chaintest.Refused}},
		"the answer is lost":                            {faults: []chaintest.Fault{chaintest.Unanswered}},
		"carried out later":                             {faults: []chaintest.Fault{chaintest.Late, chaintest.Late}},
		"the answer is lost, no If-None-Match":          {faults: []chaintest.Fault{chaintest.Unanswered}, unconditional: true},
		"refused, then the answer is lost, conditional": {faults: []chaintest.Fault{chaintest.Refused, chaintest.Unanswered}},
		"the answer is lost, If-None-Match is ignored":  {faults: []chaintest.Fault{chaintest.Unanswered}, overwrites: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := 0
			store := &chaintest.Store{Overwrites: c.unconditional || c.overwrites, Fault: func(op, _ string) chaintest.Fault {
				if op == "put" && n < len(c.faults) {
					n++
					return c.faults[n-1]
				}
				return chaintest.None
			}}
			opt := options(store, &chaintest.Sink{})
			opt.Unconditional = c.unconditional
			w, _ := start(t, opt)
			require.NoError(t, send(t, w, chunk("a", "x")))
			require.NoError(t, send(t, w, chunk("b", "x")))
			store.Settle()
			assert.Empty(t, verify(t, store).Findings)
			versions := 0
			for range store.Versions(t.Context(), chain.Prefix(tenant)) {
				versions++
			}
			assert.Equal(t, 2, versions, "nothing was written twice")
			assert.Equal(t, len(c.faults), n, "all faults happened")
		})
	}
}

// An earlier life of the gateway sent an object that the store takes in only after the next life read the chain's end.
func TestAnEarlierLifesLateObject(t *testing.T) {
	t.Parallel()
	var late atomic.Bool
	store := &chaintest.Store{}
	store.Fault = func(op, _ string) chaintest.Fault {
		if op == "put" && late.Load() {
			return chaintest.Late
		}
		return chaintest.None
	}
	sink := &chaintest.Sink{}
	opt := options(store, sink)
	w, kill := start(t, opt)
	require.NoError(t, send(t, w, chunk("a", "x")))
	late.Store(true)
	lost := chunk("lost", "y")
	require.NoError(t, w.Submit(t.Context(), lost, func(err error) { assert.ErrorIs(t, err, chain.ErrClosed) }))
	require.Eventually(t, func() bool { return store.Pending() > 0 }, 10*time.Second, time.Millisecond)
	kill()
	late.Store(false)

	w, _ = start(t, opt)
	require.NoError(t, send(t, w, chunk("a", "x")), "so that the end was read")
	store.Settle()
	require.NoError(t, send(t, w, chunk("new", "z")))
	require.NoError(t, send(t, w, lost), "is in the late object")
	r := verify(t, store)
	assert.Empty(t, r.Findings)
	assert.Len(t, sink.Lines(), int(r.Records), "the late object went to the sink too")
	assert.GreaterOrEqual(t, len(store.Keys()), 3)
}

func TestKilledBetweenStoreAndSink(t *testing.T) {
	t.Parallel()
	store := &chaintest.Store{}
	pushing := make(chan struct{})
	var once sync.Once
	sink := &chaintest.Sink{Fault: func() chaintest.Fault {
		once.Do(func() { close(pushing) })
		return chaintest.Refused
	}}
	opt := options(store, sink)
	w, kill := start(t, opt)
	c := chunk("a", "x")
	require.NoError(t, w.Submit(t.Context(), c, func(err error) { assert.ErrorIs(t, err, chain.ErrClosed, "no acknowledgement without the sink") }))
	<-pushing
	kill()
	require.Len(t, store.Keys(), 1)
	require.Empty(t, sink.Lines())

	healthy := &chaintest.Sink{}
	opt.Sink = healthy
	w, _ = start(t, opt)
	require.NoError(t, send(t, w, c))
	assert.Len(t, healthy.Lines(), 1)
	assert.Len(t, store.Keys(), 1)
}

func TestNothingIsAcknowledgedWithoutItsLock(t *testing.T) {
	t.Parallel()
	store := &chaintest.Store{NoLock: true}
	w, kill := start(t, options(store, &chaintest.Sink{}))
	done := make(chan error, 1)
	require.NoError(t, w.Submit(t.Context(), chunk("a", "x"), func(err error) { done <- err }))
	require.Eventually(t, func() bool { return len(store.Keys()) == 1 }, 10*time.Second, time.Millisecond)
	kill()
	assert.ErrorIs(t, <-done, chain.ErrClosed)

	store.NoLock = false
	w, _ = start(t, options(store, &chaintest.Sink{}))
	require.NoError(t, send(t, w, chunk("a", "x")))
	assert.Len(t, store.Keys(), 2, "stored again, under a lock")
	kinds := map[chain.Kind]int{}
	for _, f := range verify(t, store).Findings {
		kinds[f.Kind]++
	}
	assert.Equal(t, map[chain.Kind]int{chain.Unlocked: 1}, kinds)
}

func TestABrokenLastObjectDoesNotStopEvidence(t *testing.T) {
	t.Parallel()
	store := &chaintest.Store{}
	opt := options(store, &chaintest.Sink{})
	w, kill := start(t, opt)
	require.NoError(t, send(t, w, chunk("a", "x")))
	require.NoError(t, send(t, w, chunk("b", "x")))
	kill()
	store.Replace(chain.Key(tenant, 2), func(o *chaintest.Object) { o.Body = []byte("junk") })
	w, _ = start(t, opt)
	require.NoError(t, send(t, w, chunk("c", "x")))
	findings := verify(t, store).Findings
	require.Len(t, findings, 1)
	assert.Equal(t, chain.Unreadable, findings[0].Kind)
	assert.EqualValues(t, 2, findings[0].Sequence)
}

func TestTheEndIsFoundInLongAndShortenedChains(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ first, last uint64 }{{1, 1}, {1, 2}, {1, 7}, {1, 8}, {1, 9}, {500, 1234}, {9_000_000, 9_000_003}} {
		store := &chaintest.Store{}
		var asked atomic.Int64
		store.Fault = func(op, _ string) chaintest.Fault {
			if op == "after" {
				asked.Add(1)
			}
			return chaintest.None
		}
		for n := c.first; n <= c.last; n++ {
			store.Add(chain.Key(tenant, n), chaintest.Object{Body: []byte("x")})
		}
		store.Add("umea/00000000/notes.txt", chaintest.Object{})
		store.Add("umea/zzz", chaintest.Object{})
		store.Add("umeb/00000000/000000000099.ndjson.zst", chaintest.Object{})
		opt := options(store, &chaintest.Sink{})
		opt.RecentObjects = 1
		w, kill := start(t, opt)
		require.NoError(t, send(t, w, chunk("a", "x")))
		kill()
		assert.Contains(t, store.Keys(), chain.Key(tenant, c.last+1))
		assert.Less(t, asked.Load(), int64(150))
	}
}

func TestTimesThatTheSinkRefuses(t *testing.T) {
	t.Parallel()
	store, sink := &chaintest.Store{}, &chaintest.Sink{}
	w, _ := start(t, options(store, sink))
	now := time.Now()
	require.NoError(t, send(t, w, chunkAt("now", now, "now")))
	require.NoError(t, send(t, w, chunkAt("old", now.Add(-8*24*time.Hour), "same", "same")))
	require.NoError(t, send(t, w, chunkAt("behind", now.Add(-2*time.Hour), "behind its stream")))
	require.NoError(t, send(t, w, chunkAt("future", now.Add(time.Hour), "future")))
	require.NoError(t, send(t, w, chunkAt("late", now.Add(-time.Minute), "fine")))
	own := 0
	for _, l := range sink.Lines() {
		assert.WithinDuration(t, now, time.Unix(0, l.At), 2*time.Minute, l.Text)
		if l.At < now.Add(-30*time.Second).UnixNano() {
			own++
		}
	}
	assert.Len(t, sink.Lines(), 6)
	assert.Equal(t, 1, own, "only the one that is a minute late keeps its own time")
	assert.Empty(t, verify(t, store).Findings)
}

func TestEqualLinesOfOneSecondStayApart(t *testing.T) {
	t.Parallel()
	sink := &chaintest.Sink{}
	w, _ := start(t, options(&chaintest.Store{}, sink))
	c := chunk("a", "same", "same", "same", "other")
	for i := range c.Records {
		c.Records[i].Time = time.Now().Truncate(time.Second).UnixNano()
	}
	require.NoError(t, send(t, w, c))
	assert.Len(t, sink.Lines(), 4)
}

func TestLabelsAreBounded(t *testing.T) {
	t.Parallel()
	store, sink := &chaintest.Store{}, &chaintest.Sink{}
	w, _ := start(t, options(store, sink))
	for i := range 100 {
		c := chunk(fmt.Sprint(i), fmt.Sprint("x", i))
		c.Streams[0].Pod = fmt.Sprint("pod-", i)
		require.NoError(t, send(t, w, c))
	}
	seen := map[chain.Labels]int{}
	for _, l := range sink.Lines() {
		seen[l.Labels]++
	}
	assert.LessOrEqual(t, len(seen), 51)
	assert.GreaterOrEqual(t, seen[chain.Labels{Source: "overflow"}], 50)
}

func TestCloseFinishesWhatWaits(t *testing.T) {
	t.Parallel()
	store := &chaintest.Store{}
	opt := options(store, &chaintest.Sink{})
	opt.MaxWait = time.Hour
	w, err := chain.New(opt)
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(t.Context()) }()
	done := make(chan error, 1)
	require.NoError(t, w.Submit(t.Context(), chunk("a", "x"), func(err error) { done <- err }))
	w.Close()
	require.NoError(t, <-done)
	require.NoError(t, <-ended)
	require.ErrorIs(t, w.Submit(t.Context(), chunk("b", "x"), func(error) {}), chain.ErrClosed)
	assert.Len(t, store.Keys(), 1)
}

// Faults at random while senders send and send again, and the writer is killed now and then. At the end every
// acknowledged chunk is exactly once in the chain and in the sink, and the chain verifies.
func TestRandomFaults(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			randomFaults(t, seed)
		})
	}
}

func randomFaults(t *testing.T, seed uint64) {
	t.Helper()
	var mu sync.Mutex
	dice := rand.New(rand.NewPCG(seed, 7))
	roll := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return dice.IntN(n)
	}
	store, sink := &chaintest.Store{}, &chaintest.Sink{}
	var calm atomic.Bool
	store.Fault = func(op, _ string) chaintest.Fault {
		if calm.Load() {
			return chaintest.None
		}
		switch n := roll(12); {
		case op == "put" && n < 3:
			return chaintest.Fault(1 + n)
		case n == 3:
			return chaintest.Refused
		case n == 4:
			store.Settle()
		}
		return chaintest.None
	}
	sink.Fault = func() chaintest.Fault {
		if !calm.Load() {
			if n := roll(60); n < 2 {
				return chaintest.Fault(1 + n)
			}
		}
		return chaintest.None
	}
	opt := options(store, sink)
	var current atomic.Pointer[chain.Writer]
	w, kill := start(t, opt)
	current.Store(w)

	const senders, each = 6, 40
	var wg sync.WaitGroup
	for s := range senders {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range each {
				c := chunk(fmt.Sprintf("%d-%d", s, i), fmt.Sprintf("%d %d first", s, i), fmt.Sprintf("%d %d second", s, i))
				for {
					done := make(chan error, 1)
					if current.Load().Submit(context.Background(), c, func(err error) { done <- err }) != nil {
						time.Sleep(100 * time.Microsecond) // as a client would: the gateway is away
						continue
					}
					if roll(10) == 0 {
						continue // gave up waiting, sends again
					}
					if err := <-done; err == nil {
						break
					}
				}
			}
		}()
	}
	finished := make(chan struct{})
	go func() { wg.Wait(); close(finished) }()
	for alive := true; alive; {
		select {
		case <-finished:
			alive = false
		case <-time.After(time.Duration(5+roll(30)) * time.Millisecond):
			kill()
			w, kill = start(t, opt)
			current.Store(w)
		}
	}
	calm.Store(true)
	store.Settle() // whatever is still on its way arrives now
	kill()
	w, kill = start(t, opt)
	require.NoError(t, send(t, w, chunk("last", "last")))
	kill()

	r := verify(t, store)
	assert.Empty(t, r.Findings)
	assert.EqualValues(t, senders*each*2+1, r.Records, "each record once in the chain")
	assert.EqualValues(t, senders*each+1, r.Chunks)
	assert.Len(t, sink.Lines(), senders*each*2+1, "each record once in the sink")
	for s := range senders {
		for i := range each {
			assert.Equal(t, 1, count(sink.Lines(), fmt.Sprintf(`{"message":"%d %d first"}`, s, i)))
		}
	}
}

func count(lines []chaintest.Line, text string) int {
	n := 0
	for _, l := range lines {
		if l.Text == text {
			n++
		}
	}
	return n
}

func TestHeadersLongerThanAGlance(t *testing.T) {
	t.Parallel()
	store := &chaintest.Store{}
	opt := options(store, &chaintest.Sink{})
	opt.MaxWait = 2 * time.Second // on a busy machine too, all chunks are in one object
	w, kill := start(t, opt)
	var wg sync.WaitGroup
	var kept []*chain.Chunk
	for i := range 1000 {
		sum := sha256.Sum256(fmt.Append(nil, i))
		c := chunk(fmt.Sprintf("%x", sum), "x")
		kept = append(kept, c)
		wg.Add(1)
		require.NoError(t, w.Submit(t.Context(), c, func(err error) { assert.NoError(t, err); wg.Done() }))
	}
	wg.Wait()
	require.NoError(t, send(t, w, chunk("end", "x")))
	kill()
	body, err := store.Get(t.Context(), chain.Key(tenant, 1), 0)
	require.NoError(t, err)
	require.Greater(t, len(bytes.TrimSpace(body)), 16<<10, "otherwise this tests nothing")
	before := len(store.Keys())
	w, _ = start(t, opt)
	for _, c := range kept {
		wg.Add(1)
		require.NoError(t, w.Submit(t.Context(), c, func(err error) { assert.NoError(t, err); wg.Done() }))
	}
	wg.Wait()
	assert.Len(t, store.Keys(), before)
}
