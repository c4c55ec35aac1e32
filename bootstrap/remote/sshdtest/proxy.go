package sshdtest

import (
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Proxy is a link that can be cut and stalled.
type Proxy struct {
	Port int

	mu      sync.Mutex
	moved   *sync.Cond
	conns   map[net.Conn]bool
	stalled bool
	refuse  bool
	closed  bool
	passed  int64 // bytes towards the server
	dials   int
}

// StartProxy forwards to a port on loopback until the test ends.
func StartProxy(t *testing.T, port int) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &Proxy{Port: l.Addr().(*net.TCPAddr).Port, conns: map[net.Conn]bool{}}
	p.moved = sync.NewCond(&p.mu)
	var all sync.WaitGroup
	all.Add(1)
	go func() {
		defer all.Done()
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil || !p.take(near, far) {
				_ = near.Close()
				if far != nil {
					_ = far.Close()
				}
				continue
			}
			all.Add(2)
			go func() { defer all.Done(); p.pass(far, near, true) }()
			go func() { defer all.Done(); p.pass(near, far, false) }()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		p.closed = true
		p.moved.Broadcast()
		p.mu.Unlock()
		p.Cut()
		all.Wait()
	})
	return p
}

func (p *Proxy) take(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse {
		return false
	}
	p.dials++
	p.moved.Broadcast()
	for _, c := range conns {
		p.conns[c] = true
	}
	return true
}

func (p *Proxy) pass(to, from net.Conn, up bool) {
	defer to.Close()   //nolint:errcheck // the other side is gone
	defer from.Close() //nolint:errcheck // as above
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		p.mu.Lock()
		for p.stalled && !p.closed {
			p.moved.Wait()
		}
		if up {
			p.passed += int64(n)
			p.moved.Broadcast()
		}
		p.mu.Unlock()
		if _, werr := to.Write(b[:n]); err != nil || werr != nil {
			return
		}
	}
}

// Cut ends all connections at once, as a reset does.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
	clear(p.conns)
}

// Set changes what the proxy does with connections.
func (p *Proxy) Set(stalled, refuse bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled, p.refuse = stalled, refuse
	p.moved.Broadcast()
}

// WaitPassed returns when n bytes went towards the server.
func (p *Proxy) WaitPassed(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.passed < n && !p.closed {
		p.moved.Wait()
	}
}

// WaitDialled returns when n connections came.
func (p *Proxy) WaitDialled(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.dials < n && !p.closed {
		p.moved.Wait()
	}
}

// Dialled is how many connections came.
func (p *Proxy) Dialled() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dials
}
