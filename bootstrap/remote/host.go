package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// Host is a machine reached over SSH. It dials on first use, keeps ONE connection for everything, and dials again on
// the next call after the link was lost.
type Host struct {
	t     Target
	jumps *Jumps

	mu      sync.Mutex
	link    *link
	dialing *attempt
}

var _ Runner = (*Host)(nil)

// Option changes how a Host behaves.
type Option func(*Host)

// WithJumps shares the connections to jump hosts, and the opened key files, with other hosts.
func WithJumps(j *Jumps) Option { return func(h *Host) { h.jumps = j } }

// New prepares a connection; nothing is dialled yet.
func New(t Target, opts ...Option) *Host {
	if t.Port == 0 {
		t.Port = 22
	}
	if t.ConnectTimeout == 0 {
		t.ConnectTimeout = 10 * time.Second
	}
	if t.KeepAlive == 0 {
		t.KeepAlive = 5 * time.Second
	}
	h := &Host{t: t}
	for _, o := range opts {
		o(h)
	}
	if h.jumps == nil {
		h.jumps = NewJumps()
	}
	return h
}

// Name implements Runner.
func (h *Host) Name() string { return h.t.Name }

func (h *Host) label() string {
	if h.t.Name == h.t.Address || h.t.Name == "" {
		return h.t.Address
	}
	return fmt.Sprintf("%s (%s)", h.t.Name, h.t.Address)
}

func (h *Host) fail(op string, kind Kind, hint string, err error) *Error {
	return &Error{Host: h.label(), Op: op, Kind: kind, Hint: hint, Err: err}
}

// Connect dials unless there is a living connection.
func (h *Host) Connect(ctx context.Context) error {
	_, err := h.connected(ctx)
	return err
}

// attempt is one dial that everybody who needs the connection meanwhile waits for: 200 machines behind one dead jump
// host must not try it one after the other.
type attempt struct {
	done    chan struct{}
	cancel  context.CancelFunc
	waiting int // guarded by Host.mu
	link    *link
	err     error
}

func (h *Host) connected(ctx context.Context) (*link, error) {
	h.mu.Lock()
	if h.link != nil && h.link.alive() {
		defer h.mu.Unlock()
		return h.link, nil
	}
	a := h.dialing
	if a == nil {
		a = h.begin()
	}
	a.waiting++
	h.mu.Unlock()
	select {
	case <-a.done:
		return a.link, a.err
	case <-ctx.Done():
		h.mu.Lock()
		defer h.mu.Unlock()
		if a.waiting--; a.waiting == 0 {
			h.abandon(a)
		}
		return nil, h.fail("dial", Passing, "", ctx.Err())
	}
}

// begin dials for all that wait. h.mu is held.
func (h *Host) begin() *attempt {
	ctx, cancel := context.WithCancel(context.Background())
	a := &attempt{done: make(chan struct{}), cancel: cancel}
	h.dialing = a
	go func() {
		defer cancel()
		l, err := h.dial(ctx)
		h.mu.Lock()
		switch {
		case h.dialing != a: // abandoned meanwhile
			if l != nil {
				_ = l.close() // nobody uses it
			}
			a.err = h.fail("dial", Passing, "", context.Canceled)
		default:
			h.dialing = nil
			a.link, a.err = l, err
			if l != nil {
				h.link = l
			}
		}
		h.mu.Unlock()
		close(a.done)
	}()
	return a
}

// abandon ends an attempt that nobody waits for any more. h.mu is held.
func (h *Host) abandon(a *attempt) {
	a.cancel()
	if h.dialing == a {
		h.dialing = nil
	}
}

// dial opens the connection, through the jump hosts if there are any.
func (h *Host) dial(ctx context.Context) (*link, error) {
	config, families, closeAuth, err := h.clientConfig()
	if err != nil {
		return nil, err
	}
	defer closeAuth()
	var mismatch error
	for _, config.HostKeyAlgorithms = range families {
		l, err := h.handshake(ctx, config)
		if err == nil {
			return l, nil
		}
		var e *Error
		if !errors.As(err, &e) || e.Host != h.label() || e.Op != "host key" && e.Op != "host key type" {
			return nil, err // also when a jump host's key is wrong
		}
		if mismatch == nil || e.Op == "host key" {
			mismatch = err
		}
	}
	return nil, mismatch
}

// handshake makes one attempt with one set of host key algorithms.
func (h *Host) handshake(ctx context.Context, config *ssh.ClientConfig) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, h.t.ConnectTimeout)
	defer cancel()
	addr := net.JoinHostPort(h.t.Address, strconv.Itoa(h.t.Port))
	raw, err := h.jumps.dial(ctx, h.t.Jump, addr)
	if err != nil {
		var e *Error
		if errors.As(err, &e) {
			return nil, fmt.Errorf("%s: %w", h.label(), err) // the jump host's own
		}
		return nil, h.fail("dial", Passing, "is the machine up, and is SSH on port "+strconv.Itoa(h.t.Port)+"?", err)
	}
	conn := &listened{Conn: raw}
	// the handshake knows no context: closing the connection ends it
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	sc, chans, reqs, err := ssh.NewClientConn(conn, addr, config)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		if ctx.Err() != nil {
			return nil, h.fail("handshake", Passing, "the machine accepts connections but does not answer", ctx.Err())
		}
		return nil, h.classifyHandshake(err)
	}
	return newLink(ssh.NewClient(sc, chans, reqs), conn, h.t.KeepAlive), nil
}

// Close ends the connection. A later call dials again.
func (h *Host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dialing != nil {
		h.abandon(h.dialing)
	}
	if h.link == nil {
		return nil
	}
	err := h.link.close()
	h.link = nil
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
