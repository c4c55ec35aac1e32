package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// buffer keeps events on disk until they are acknowledged. A chunk is a file: a sequence of frames, each the length and the
// number of some events and their MessagePack. A frame that a crash cut off is dropped when the file is read again: whoever
// appended it had not been told that it is kept. The id of a chunk is in its name and never changes, so that the other side
// knows it when it is sent again.
type buffer struct {
	folder             string
	chunkBytes, total  int64
	chunkRecords       int
	flush              time.Duration
	mu                 sync.Mutex
	changed            chan struct{} // closed and made anew when something changed
	staged             map[string]*chunk
	queue              []*chunk
	bytes              int64
	emitted, delivered int64
}

type chunk struct {
	tag     string
	id      []byte
	path    string
	file    *os.File
	bytes   int64
	records int
	since   time.Time
	busy    bool // a sender has it
}

const frameHead = 8

// open takes up what an earlier run left: all of it is queued.
func (b *buffer) open() error {
	b.changed, b.staged = make(chan struct{}), map[string]*chunk{}
	if err := os.MkdirAll(b.folder, 0o700); err != nil {
		return err
	}
	left, err := filepath.Glob(filepath.Join(b.folder, "*.chunk"))
	if err != nil {
		return err
	}
	// names begin with the time: the oldest is first
	slices.Sort(left)
	for _, path := range left {
		c, err := resume(path)
		if err != nil {
			return err
		}
		if c.records == 0 {
			if err := os.Remove(path); err != nil {
				return err
			}
			continue
		}
		b.queue = append(b.queue, c)
		b.bytes += c.bytes
	}
	return nil
}

func resume(path string) (*chunk, error) {
	name := strings.Split(strings.TrimSuffix(filepath.Base(path), ".chunk"), "_")
	if len(name) != 3 {
		return nil, fmt.Errorf("%s is no chunk's name", path)
	}
	tag, err1 := hex.DecodeString(name[1])
	id, err2 := hex.DecodeString(name[2])
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("%s is no chunk's name: %w", path, err)
	}
	c := &chunk{tag: string(tag), id: id, path: path}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for rest := data; len(rest) >= frameHead; {
		size := int64(binary.BigEndian.Uint32(rest))
		if int64(len(rest)) < frameHead+size {
			break
		}
		c.records += int(binary.BigEndian.Uint32(rest[4:]))
		c.bytes += frameHead + size
		rest = rest[frameHead+size:]
	}
	return c, os.Truncate(path, c.bytes)
}

// append keeps events, and waits while the buffer is full: overflow_action block.
func (b *buffer) append(ctx context.Context, tag string, events []event) error {
	for len(events) > 0 {
		n := min(len(events), b.chunkRecords)
		var packed []byte
		for _, e := range events[:n] {
			packed = appendEvent(packed, e)
		}
		if err := b.frame(ctx, tag, n, packed); err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

func (b *buffer) frame(ctx context.Context, tag string, records int, packed []byte) error {
	size := int64(frameHead + len(packed))
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.bytes > 0 && b.bytes+size > b.total {
		if err := b.wait(ctx); err != nil {
			return err
		}
	}
	c := b.staged[tag]
	if c != nil && (c.bytes+size > b.chunkBytes || c.records+records > b.chunkRecords) {
		if err := b.enqueue(c); err != nil {
			return err
		}
		c = nil
	}
	if c == nil {
		var err error
		if c, err = b.newChunk(tag); err != nil {
			return err
		}
		b.staged[tag] = c
	}
	head := binary.BigEndian.AppendUint32(nil, uint32(len(packed)))
	head = binary.BigEndian.AppendUint32(head, uint32(records))
	if _, err := c.file.Write(append(head, packed...)); err != nil {
		return err
	}
	c.bytes, c.records = c.bytes+size, c.records+records
	b.bytes, b.emitted = b.bytes+size, b.emitted+int64(records)
	return nil
}

func (b *buffer) newChunk(tag string) (*chunk, error) {
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return nil, err
	}
	c := &chunk{tag: tag, id: id, since: time.Now()}
	c.path = filepath.Join(b.folder, fmt.Sprintf("%020d_%x_%x.chunk", c.since.UnixNano(), tag, id))
	var err error
	c.file, err = os.OpenFile(c.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	return c, err
}

// enqueue ends a chunk: it is only sent from now on.
func (b *buffer) enqueue(c *chunk) error {
	delete(b.staged, c.tag)
	b.queue = append(b.queue, c)
	b.notify()
	return c.file.Close()
}

// age queues the chunks that are old enough.
func (b *buffer) age() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.staged {
		if time.Since(c.since) >= b.flush {
			if err := b.enqueue(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// next takes the oldest chunk that nobody sends, and waits for one.
func (b *buffer) next(ctx context.Context) (*chunk, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		for _, c := range b.queue {
			if !c.busy {
				c.busy = true
				return c, nil
			}
		}
		if err := b.wait(ctx); err != nil {
			return nil, err
		}
	}
}

// giveBack lets a chunk that was not acknowledged be sent again.
func (b *buffer) giveBack(c *chunk) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c.busy = false
	b.notify()
}

// done forgets a chunk that was acknowledged.
func (b *buffer) done(c *chunk) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := os.Remove(c.path); err != nil {
		log.Printf("%v: it will be sent again after a restart", err)
	}
	b.queue = slices.DeleteFunc(b.queue, func(q *chunk) bool { return q == c })
	b.bytes -= c.bytes
	b.delivered++
	b.notify()
}

// wait gives up the lock until something changed.
func (b *buffer) wait(ctx context.Context) error {
	changed := b.changed
	b.mu.Unlock()
	defer b.mu.Lock()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *buffer) notify() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// close keeps what is staged for the next run.
func (b *buffer) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	for _, c := range b.staged {
		errs = append(errs, c.file.Close())
	}
	return errors.Join(errs...)
}

// entries writes the chunk's events without the frames.
func (c *chunk) entries(w io.Writer) error {
	data, err := os.ReadFile(c.path)
	if err != nil {
		return err
	}
	for rest := data; len(rest) >= frameHead; {
		size := frameHead + int(binary.BigEndian.Uint32(rest))
		if _, err := w.Write(rest[frameHead:size]); err != nil {
			return err
		}
		rest = rest[size:]
	}
	return nil
}
