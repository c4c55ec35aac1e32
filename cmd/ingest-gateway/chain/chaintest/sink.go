package chaintest

import (
	"context"
	"sync"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain"
)

// Line is an entry as a sink keeps it. Like Loki, a sink shows an entry with the same labels, time and text once.
type Line struct {
	Tenant string
	Labels chain.Labels
	At     int64
	Text   string
}

// Sink is a chain.Sink in memory.
type Sink struct {
	// Fault, when set, is asked for each entry: Refused ends the push before it, Unanswered after it.
	Fault func() Fault

	mu     sync.Mutex
	lines  map[Line]bool
	pushes int
}

// Push implements chain.Sink.
func (s *Sink) Push(ctx context.Context, o *chain.Object) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lines == nil {
		s.lines = map[Line]bool{}
	}
	s.pushes++
	for _, e := range o.Entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		fault := None
		if s.Fault != nil {
			fault = s.Fault()
		}
		if fault == Refused {
			return errInjected
		}
		s.lines[Line{o.Header.Tenant, o.Header.Streams[e.Stream], e.At, string(e.Line)}] = true
		if fault == Unanswered {
			return errInjected
		}
	}
	return nil
}

// Lines returns all lines, in no order.
func (s *Sink) Lines() []Line {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Line, 0, len(s.lines))
	for l := range s.lines {
		out = append(out, l)
	}
	return out
}

// Pushes counts calls.
func (s *Sink) Pushes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pushes
}

// Discard is a chain.Sink that keeps nothing.
type Discard struct{}

// Push implements chain.Sink.
func (Discard) Push(context.Context, *chain.Object) error { return nil }
