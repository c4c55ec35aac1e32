package main

import "sync"

// tally counts from many goroutines.
type tally struct {
	mu  sync.Mutex
	now Counts
}

func newTally() *tally { return &tally{now: newCounts()} }

func newCounts() Counts { return Counts{Connections: map[string]int{}, Commands: map[string]int{}} }

func (t *tally) connection(machine string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now.Connections[machine]++
}

func (t *tally) command(machine string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now.Commands[machine]++
}

func (t *tally) unknown() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now.Unknown++
}

// take returns what was counted and begins anew.
func (t *tally) take() Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.now
	t.now = newCounts()
	return c
}
