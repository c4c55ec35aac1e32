package chain

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/semaphore"
)

// ErrClosed says that the writer takes no more chunks.
var ErrClosed = errors.New("the gateway is stopping")

// Options are a writer's. All are required but Meter and Log.
type Options struct {
	Tenant string
	Store  Store
	Sink   Sink
	// Retention is how long objects are locked, from when they are put together.
	Retention time.Duration
	// ObjectBytes is the size, decompressed, at which an object is closed. One chunk is never divided, so an object can be
	// bigger by one chunk.
	ObjectBytes int64
	// MaxWait is how long the first chunk of an object waits for others.
	MaxWait time.Duration
	// BufferBytes bounds the chunks that wait. Submit blocks beyond it.
	BufferBytes int64
	// RecentChunks is how many chunks are remembered to recognise one that comes again, RecentObjects out of how many objects
	// they are read at the start.
	RecentChunks, RecentObjects int
	// MaxStreams bounds the label sets in use within an hour.
	MaxStreams int
	Timing     Timing
	// Unconditional says that the store does not know If-None-Match: the writer then looks before every Put.
	Unconditional bool
	// RetryMin and RetryMax bound the pause before something is tried again; it doubles in between.
	RetryMin, RetryMax time.Duration
	Now                func() time.Time
	Meter              Meter
	Log                *slog.Logger
}

// Meter is told what a writer does. Its methods may be called by several goroutines at once.
type Meter interface {
	// End tells the number of the newest object.
	End(sequence uint64)
	// Object tells of one object that is in the store and in the sink.
	Object(chunks, records int, plainBytes, storedBytes int64, took time.Duration)
	// Duplicates counts chunks that came again.
	Duplicates(n int)
	// Retry counts a failed try at something: recover, put, lock or push.
	Retry(what string)
	// Conflict counts objects that somebody else had written under our next number.
	Conflict()
}

// Writer is the only writer of one tenant's chain in this process. Another process that writes the same chain is noticed
// by its objects and does not break the chain.
type Writer struct {
	opt    Options
	enc    *zstd.Encoder
	dec    *zstd.Decoder
	buffer *semaphore.Weighted

	mu      sync.Mutex
	queue   []*pending
	waiting map[chunkKey]*pending
	closed  bool
	wake    chan struct{} // holds one token when the queue changed

	// Only Run's goroutine uses what follows.
	filing *filing
	known  *recent
	end    uint64
	last   string // sha256 of object number end
}

// pending is a chunk that was submitted and those who wait for it.
type pending struct {
	chunk   *Chunk
	key     chunkKey
	weight  int64
	arrived time.Time
	done    []func(error)
}

// New makes a writer; Run must be called for it to do anything.
func New(opt Options) (*Writer, error) {
	if opt.Meter == nil {
		opt.Meter = noMeter{}
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, err
	}
	dec, err := newDecoder()
	if err != nil {
		return nil, err
	}
	return &Writer{
		opt: opt, enc: enc, dec: dec,
		buffer:  semaphore.NewWeighted(opt.BufferBytes),
		waiting: map[chunkKey]*pending{},
		wake:    make(chan struct{}, 1),
		filing:  newFiling(opt.Timing, opt.MaxStreams),
		known:   newRecent(opt.RecentChunks),
	}, nil
}

// Submit hands over a chunk, which the caller must not change from then on, and blocks while the buffer is full. done is
// called once, from another goroutine and without blocking it: with nil when the chunk is stored, with ErrClosed when it
// will not be. An error of Submit says that done will not be called.
func (w *Writer) Submit(ctx context.Context, c *Chunk, done func(error)) error {
	p := &pending{chunk: c, key: c.key(), weight: min(c.Size(), w.opt.BufferBytes), done: []func(error){done}}
	w.mu.Lock()
	joined := w.join(p)
	w.mu.Unlock()
	if joined {
		return nil
	}
	if err := w.buffer.Acquire(ctx, p.weight); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	joined = w.join(p) // it may have come by another connection meanwhile
	if joined || w.closed {
		w.buffer.Release(p.weight)
	}
	switch {
	case joined:
		return nil
	case w.closed:
		return ErrClosed
	}
	p.arrived = w.opt.Now()
	w.queue = append(w.queue, p)
	if c.ID != "" {
		w.waiting[p.key] = p
	}
	w.signal()
	return nil
}

// join adds p's done to the same chunk, if that waits already: a client that got no acknowledgement in time sends it
// again. The caller holds mu.
func (w *Writer) join(p *pending) bool {
	if p.chunk.ID == "" {
		return false
	}
	same, ok := w.waiting[p.key]
	if ok {
		same.done = append(same.done, p.done...)
	}
	return ok
}

// Close makes Run return when all that was submitted is stored. Submit refuses from then on.
func (w *Writer) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.signal()
}

func (w *Writer) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run recovers the chain's end and writes until Close or until ctx ends. What was not stored by then is told so.
func (w *Writer) Run(ctx context.Context) error {
	err := w.run(ctx)
	w.mu.Lock()
	w.closed = true
	left := w.queue
	w.queue = nil
	w.mu.Unlock()
	w.finish(left, ErrClosed)
	return err
}

func (w *Writer) run(ctx context.Context) error {
	if err := w.recover(ctx, 0); err != nil {
		return err
	}
	for {
		batch, err := w.collect(ctx)
		if err != nil || len(batch) == 0 {
			return err
		}
		if err := w.commit(ctx, batch); err != nil {
			w.finish(batch, ErrClosed)
			return err
		}
		w.finish(batch, nil)
	}
}

func (w *Writer) finish(batch []*pending, err error) {
	for _, p := range batch {
		w.mu.Lock()
		if w.waiting[p.key] == p {
			delete(w.waiting, p.key)
		}
		done := p.done
		w.mu.Unlock()
		w.buffer.Release(p.weight)
		for _, f := range done {
			f(err)
		}
	}
}

// collect returns the chunks of the next object, oldest first; none when the writer was closed and all is done. The first
// chunk waits at most MaxWait since it came: under load, when that time went by while the last object was written, not at
// all.
func (w *Writer) collect(ctx context.Context) ([]*pending, error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		w.mu.Lock()
		n, size := 0, int64(0)
		for n < len(w.queue) && (n == 0 || size+w.queue[n].chunk.Size() <= w.opt.ObjectBytes) {
			size += w.queue[n].chunk.Size()
			n++
		}
		full := n < len(w.queue) || size >= w.opt.ObjectBytes
		var wait time.Duration
		if n > 0 {
			wait = w.opt.MaxWait - w.opt.Now().Sub(w.queue[0].arrived)
		}
		if w.closed || full || n > 0 && wait <= 0 {
			batch := slices.Clone(w.queue[:n])
			w.queue = slices.Delete(w.queue, 0, n)
			w.mu.Unlock()
			return batch, nil
		}
		w.mu.Unlock()
		if n > 0 {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-w.wake:
		case <-timer.C:
		}
	}
}

// commit stores a batch as one object, in the store and in the sink. It returns only when that is done or ctx ended.
func (w *Writer) commit(ctx context.Context, batch []*pending) error {
	for {
		fresh := w.fresh(batch)
		if len(fresh) == 0 {
			return nil
		}
		begin := w.opt.Now()
		o, body, plain, err := w.build(fresh)
		if err != nil {
			return err
		}
		conflict, err := w.store(ctx, o, body)
		if err != nil {
			return err
		}
		if conflict {
			// Somebody else wrote this number, perhaps an earlier life of ours whose request was late. Its chunks count.
			w.opt.Meter.Conflict()
			w.opt.Log.Warn("another object was found under the next number: reading the chain's end again",
				"tenant", w.opt.Tenant, "sequence", o.Header.Sequence)
			if err := w.recover(ctx, o.Header.Sequence); err != nil {
				return err
			}
			continue
		}
		if err := w.push(ctx, o); err != nil {
			return err
		}
		w.end, w.last = o.Header.Sequence, digest(body)
		for _, p := range fresh {
			w.known.add(p.key)
		}
		w.opt.Meter.End(w.end)
		w.opt.Meter.Object(len(fresh), o.Header.Records, plain, int64(len(body)), w.opt.Now().Sub(begin))
		return nil
	}
}

// fresh leaves out the chunks that are stored already.
func (w *Writer) fresh(batch []*pending) []*pending {
	var out []*pending
	for _, p := range batch {
		if p.chunk.ID == "" || !w.known.has(p.key) {
			out = append(out, p)
		}
	}
	if n := len(batch) - len(out); n > 0 {
		w.opt.Meter.Duplicates(n)
	}
	return out
}

// build puts the next object together. It returns also the size of its lines.
func (w *Writer) build(batch []*pending) (*Object, []byte, int64, error) {
	now := w.opt.Now().UTC()
	h := Header{
		Format: Format, Tenant: w.opt.Tenant, Sequence: w.end + 1, Previous: w.last, Created: now,
		RetainUntil: now.Add(w.opt.Retention).Truncate(time.Second),
		Streams:     []Labels{}, Chunks: []ChunkRef{},
	}
	size := int64(0)
	for _, p := range batch {
		h.Records += len(p.chunk.Records)
		size += p.chunk.Size()
	}
	lines := make([]byte, 0, size)
	o := &Object{Key: Key(h.Tenant, h.Sequence), Entries: make([]Entry, 0, h.Records)}
	index := map[Labels]int{}
	states := []*run{}
	for _, p := range batch {
		c := p.chunk
		h.Chunks = append(h.Chunks, ChunkRef{ID: c.ID, Records: len(c.Records), SHA256: hex.EncodeToString(c.Digest[:])})
		tag, err := json.Marshal(c.Tag)
		if err != nil {
			return nil, nil, 0, err
		}
		streams := make([]int, len(c.Streams))
		for i, labels := range c.Streams {
			filed, state := w.filing.stream(labels, now)
			at, ok := index[filed]
			if !ok {
				at = len(h.Streams)
				index[filed] = at
				h.Streams = append(h.Streams, filed)
				states = append(states, &run{state: state})
			}
			streams[i] = at
		}
		for _, r := range c.Records {
			stream, text := streams[r.Stream], c.JSON[r.From:r.To]
			at := states[stream].next(w.filing, r.Time, now, len(o.Entries))
			lines = appendLine(lines, r.Time, at, tag, stream, text)
			o.Entries = append(o.Entries, Entry{Stream: stream, At: at, Time: r.Time, Line: text})
		}
	}
	h.SHA256 = digest(lines)
	body, err := seal(w.enc, h, lines)
	if err != nil {
		return nil, nil, 0, err
	}
	o.Header = h
	return o, body, int64(len(lines)), nil
}

// run follows one stream through one object. Records of one stream with the same time are set a nanosecond apart: clients
// that only know seconds would otherwise have equal lines taken for one, and lose the order of the others.
type run struct {
	state *streamState
	time  int64
	count int64
}

func (r *run) next(f *filing, own int64, received time.Time, place int) int64 {
	if own != r.time {
		r.time, r.count = own, 0
	}
	at := f.at(r.state, own, received, place)
	if at == own {
		at += r.count
	}
	r.count++
	return at
}

// store puts an object until it is there under a lock, asserted by HEAD. conflict says that another object has its key.
func (w *Writer) store(ctx context.Context, o *Object, body []byte) (conflict bool, err error) {
	look := w.opt.Unconditional
	err = w.retry(ctx, "put", func() error {
		if look {
			there, err := w.opt.Store.Get(ctx, o.Key, 0)
			switch {
			case err == nil:
				conflict = digest(there) != digest(body)
				return nil
			case !errors.Is(err, ErrNotFound):
				return err
			}
		}
		err := w.opt.Store.Put(ctx, o.Key, body, o.Header.RetainUntil)
		// From here on the object can be there, whatever was answered.
		look = look || err != nil
		if errors.Is(err, ErrExists) {
			there, err := w.opt.Store.Get(ctx, o.Key, 0)
			if err == nil {
				conflict = digest(there) != digest(body)
			}
			return err
		}
		return err
	})
	if err != nil || conflict {
		return conflict, err
	}
	return false, w.retry(ctx, "lock", func() error { return w.assertLock(ctx, o.Key, o.Header.RetainUntil, int64(len(body))) })
}

func (w *Writer) assertLock(ctx context.Context, key string, until time.Time, size int64) error {
	info, err := w.opt.Store.Head(ctx, key)
	if err != nil {
		return err
	}
	if reason := lockWrong(info, until); reason != "" {
		return fmt.Errorf("object %s: %s: was the bucket made with object lock? Nothing is acknowledged until this is so", key, reason)
	}
	if info.Size != size {
		return fmt.Errorf("object %s: the store says %d bytes, %d were sent", key, info.Size, size)
	}
	return nil
}

// lockWrong says what is wrong with an object's lock; "" when it is COMPLIANCE until the given time or later.
func lockWrong(info Info, until time.Time) string {
	switch {
	case info.Mode == "":
		return "it is stored without a lock"
	case info.Mode != ModeCompliance:
		return fmt.Sprintf("its lock is %s, expected %s", info.Mode, ModeCompliance)
	case info.RetainUntil.Before(until.Truncate(time.Second)):
		return fmt.Sprintf("it is locked until %s, expected %s", info.RetainUntil.UTC().Format(time.RFC3339), until.UTC().Format(time.RFC3339))
	}
	return ""
}

func (w *Writer) push(ctx context.Context, o *Object) error {
	return w.retry(ctx, "push", func() error { return w.opt.Sink.Push(ctx, o) })
}

// retry calls try until it succeeds or ctx ends. It never gives up: what cannot be stored must not be acknowledged.
func (w *Writer) retry(ctx context.Context, what string, try func() error) error {
	pause := w.opt.RetryMin
	for {
		err := try()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w.opt.Meter.Retry(what)
		w.opt.Log.Warn("chain: will try again", "tenant", w.opt.Tenant, "what", what, "pause", pause.String(), "error", err.Error())
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		pause = min(2*pause, w.opt.RetryMax)
	}
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

type noMeter struct{}

func (noMeter) End(uint64)                                   {}
func (noMeter) Object(int, int, int64, int64, time.Duration) {}
func (noMeter) Duplicates(int)                               {}
func (noMeter) Retry(string)                                 {}
func (noMeter) Conflict()                                    {}
