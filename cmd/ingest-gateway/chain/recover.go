package chain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"golang.org/x/sync/errgroup"
)

const (
	// headerBytes is how much of an object is read to see its header; most fit.
	headerBytes = 16 << 10
	// foreignNames is how many names that are none of ours are passed over at one place.
	foreignNames = 100
	// recoverReads is how many headers are read at once at the start.
	recoverReads = 16
)

// recover finds the chain's end in the store, remembers the newest chunks, and pushes the last object to the sink again:
// whoever wrote it may have died between the two. The end is known to be at least at atLeast.
func (w *Writer) recover(ctx context.Context, atLeast uint64) error {
	var end uint64
	if err := w.retry(ctx, "recover", func() (err error) {
		end, err = w.findEnd(ctx)
		if err == nil && end < atLeast {
			err = fmt.Errorf("the store's listing ends at object %d, but %d is there", end, atLeast)
		}
		return err
	}); err != nil {
		return err
	}
	w.end, w.last = end, Genesis()
	w.opt.Meter.End(end)
	if end == 0 {
		w.opt.Log.Info("chain: the store has none, starting at 1", "tenant", w.opt.Tenant)
		return nil
	}
	var body []byte
	key := Key(w.opt.Tenant, end)
	if err := w.retry(ctx, "recover", func() (err error) {
		body, err = w.opt.Store.Get(ctx, key, 0)
		return err
	}); err != nil {
		return err
	}
	w.last = digest(body)
	if err := w.readChunks(ctx, end); err != nil {
		return err
	}
	o, err := w.reopen(key, body)
	if err != nil {
		// It is a link of the chain all the same, and a lock may keep it there for years: the next object says so by its
		// hash, verify reports it, and evidence goes on arriving.
		w.opt.Log.Error("chain: the last object cannot be read; going on behind it", "tenant", w.opt.Tenant, "object", key, "error", err.Error())
		return nil
	}
	// An object without its lock was not acknowledged: its chunks must be stored again.
	if err := w.retry(ctx, "recover", func() error {
		info, err := w.opt.Store.Head(ctx, key)
		if err != nil {
			return err
		}
		if lockWrong(info, o.Header.RetainUntil) == "" {
			w.remember(o.Header)
		}
		return nil
	}); err != nil {
		return err
	}
	w.opt.Log.Info("chain: recovered", "tenant", w.opt.Tenant, "sequence", end, "chunks", len(w.known.set))
	return w.push(ctx, o)
}

func (w *Writer) reopen(key string, body []byte) (*Object, error) {
	h, lines, err := open(w.dec, body)
	if err != nil {
		return nil, err
	}
	if h.Tenant != w.opt.Tenant || Key(h.Tenant, h.Sequence) != key {
		return nil, fmt.Errorf("it says it is object %d of %s", h.Sequence, h.Tenant)
	}
	list, err := entries(h, lines)
	if err != nil {
		return nil, err
	}
	return &Object{Key: key, Header: h, Entries: list}, nil
}

// findEnd finds the highest number by asking for the first object behind a number: about 2 log2(n) short listings, however
// long the chain. Objects whose time is over may be gone from its beginning.
func (w *Writer) findEnd(ctx context.Context) (uint64, error) {
	// The end is at least low; nothing is behind high.
	low, high, step := uint64(0), uint64(math.MaxUint64), uint64(1)
	for low < high {
		ask := low + step
		if high != math.MaxUint64 {
			ask = low + (high-low)/2
		}
		next, err := w.behind(ctx, ask)
		switch {
		case err != nil:
			return 0, err
		case next > 0:
			low, step = next, 2*step
		case ask == low:
			return low, nil
		default:
			high = ask
			// Is there anything behind low at all? Otherwise low is the end.
			if next, err = w.behind(ctx, low); err != nil {
				return 0, err
			}
			if next == 0 {
				return low, nil
			}
			low = next
		}
	}
	return low, nil
}

// behind returns the number of the first object behind number n; 0 when there is none. Names that are none of the chain's
// are passed over: verify reports them.
func (w *Writer) behind(ctx context.Context, n uint64) (uint64, error) {
	key := Key(w.opt.Tenant, n)
	for range foreignNames {
		if err := w.retry(ctx, "recover", func() error {
			next, err := w.opt.Store.After(ctx, Prefix(w.opt.Tenant), key)
			if err == nil {
				key = next
			}
			return err
		}); err != nil || key == "" {
			return 0, err
		}
		if sequence, err := Sequence(w.opt.Tenant, key); err == nil {
			return sequence, nil
		}
	}
	return 0, fmt.Errorf("more than %d objects under %q are none of the chain's, the last seen is %q: move them away", foreignNames, Prefix(w.opt.Tenant), key)
}

// readChunks remembers the chunks of the newest objects but the last, oldest first.
func (w *Writer) readChunks(ctx context.Context, end uint64) error {
	first := uint64(1)
	if n := uint64(w.opt.RecentObjects); end > n {
		first = end - n + 1
	}
	headers := make([]Header, end-first)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(recoverReads)
	for i := range headers {
		group.Go(func() error {
			return w.retry(ctx, "recover", func() (err error) {
				headers[i], err = w.header(ctx, Key(w.opt.Tenant, first+uint64(i)))
				return err
			})
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, h := range headers {
		w.remember(h)
	}
	return nil
}

func (w *Writer) remember(h Header) {
	for _, c := range h.Chunks {
		if c.ID != "" {
			w.known.add(keyOf(c.ID, c.SHA256))
		}
	}
}

// header reads an object's header. One that is gone or cannot be read has no chunks: verify reports it.
func (w *Writer) header(ctx context.Context, key string) (Header, error) {
	first, err := w.opt.Store.Get(ctx, key, headerBytes)
	if err != nil {
		if errors.Is(err, ErrNotFound) {
			return Header{}, nil
		}
		return Header{}, err
	}
	h, err := openHeader(first)
	if errors.Is(err, io.ErrUnexpectedEOF) && len(first) >= headerBytes {
		var all []byte
		if all, err = w.opt.Store.Get(ctx, key, 0); err != nil {
			return Header{}, err
		}
		h, err = openHeader(all)
	}
	if err != nil {
		w.opt.Log.Error("chain: an object's header cannot be read", "tenant", w.opt.Tenant, "object", key, "error", err.Error())
		return Header{}, nil
	}
	return h, nil
}
