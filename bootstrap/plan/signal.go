package plan

import (
	"bytes"
	"strings"
	"sync"
)

// signalWriter tells when the other end has said that it holds the lock.
type signalWriter struct {
	mu   sync.Mutex
	b    bytes.Buffer
	said chan struct{}
	done bool
}

func (w *signalWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b.Write(p)
	if !w.done && strings.Contains(w.b.String(), "held\n") {
		w.done = true
		close(w.said)
	}
	return len(p), nil
}

func (w *signalWriter) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}
