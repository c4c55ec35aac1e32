package remote

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// beginMark is the first line that every script prints, on both outputs. What comes before it is not the script's: noise
// of the login shell's own files, or sudo's talk.
const beginMark = "catamaran-script-begins"

// maxNoise bounds what is kept of such noise, in bytes.
const maxNoise = 64 << 10

// output passes on what a script prints after the mark, until it is cut.
type output struct {
	mu    sync.Mutex
	to    io.Writer
	noise []byte
	begun bool
	isCut bool
	err   error // the first of the writer behind it
}

// Write implements io.Writer. It never fails: a reader that stops would leave the machine's sshd waiting for ever.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(p)
	if o.isCut {
		return n, nil
	}
	if !o.begun {
		o.noise = append(o.noise, p...)
		before, after, found := bytes.Cut(o.noise, []byte(beginMark+"\n"))
		if !found {
			if over := len(o.noise) - maxNoise; over > 0 {
				o.noise = o.noise[over:]
			}
			return n, nil
		}
		o.begun, o.noise, p = true, before, after
	}
	if len(p) > 0 && o.err == nil {
		_, o.err = o.to.Write(p)
	}
	return n, nil
}

// cut ends it: when cut has returned, the writer behind is not used any more.
func (o *output) cut() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.isCut = true
}

// limited keeps what is written up to max bytes and remembers that there was more.
type limited struct {
	b    bytes.Buffer
	max  int
	over bool
}

func (l *limited) Write(p []byte) (int, error) {
	if l.b.Len()+len(p) > l.max {
		l.over = true
		return len(p), nil
	}
	return l.b.Write(p)
}

// input feeds a script. Its reader may block for ever, such as a pipe that nobody writes to: the end of the script must
// not wait for it.
type input struct {
	r       io.Reader
	err     error // the reader's, used by the feeding goroutine alone
	stopped atomic.Bool
	done    chan struct{}
}

// feed copies r to w in the background and closes w; when r fails it calls failed instead, and leaves w open.
func feed(w io.WriteCloser, r io.Reader, failed func(error)) *input {
	in := &input{r: r, done: make(chan struct{})}
	go func() {
		defer close(in.done)
		_, _ = io.Copy(w, in) // a script that has ended takes no more, which is no error
		if in.err != nil {
			failed(in.err)
			return
		}
		_ = w.Close() // as above
	}()
	return in
}

// Read implements io.Reader.
func (in *input) Read(p []byte) (int, error) {
	if in.stopped.Load() {
		return 0, io.EOF
	}
	n, err := in.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		in.err = err
	}
	return n, err
}

// stop ends the feeding. A read under way gets a moment to end, so that readers that never block are not used any more.
func (in *input) stop() {
	in.stopped.Store(true)
	t := time.NewTimer(100 * time.Millisecond)
	defer t.Stop()
	select {
	case <-in.done:
	case <-t.C:
	}
}
