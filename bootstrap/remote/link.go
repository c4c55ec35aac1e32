package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// maxSessions is how many sessions sshd allows on one connection unless it is told otherwise (MaxSessions of
// sshd_config(5)). More than that wait here for their turn.
const maxSessions = 10

// missedKeepAlives end a connection.
const missedKeepAlives = 3

// link is one living connection to sshd.
type link struct {
	client *ssh.Client
	conn   *listened
	dead   chan struct{} // closed when the connection ended
	broken atomic.Bool   // known to have ended, before dead says so
	// turns holds one token for each session that may be open at once; limit is how many there are.
	turns chan struct{}
	limit atomic.Int32
}

// listened is a connection that counts what it receives: bytes that come are as good as an answered keep-alive, which
// on a slow line waits behind them.
type listened struct {
	net.Conn
	received atomic.Uint64
}

func (c *listened) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.received.Add(uint64(n))
	return n, err
}

func newLink(client *ssh.Client, conn *listened, keepAlive time.Duration) *link {
	l := &link{client: client, conn: conn, dead: make(chan struct{}), turns: make(chan struct{}, maxSessions)}
	for range maxSessions {
		l.turns <- struct{}{}
	}
	l.limit.Store(maxSessions)
	go func() {
		_ = client.Wait() // how it ended shows where it is used
		close(l.dead)
	}()
	go func() {
		tick := time.NewTicker(keepAlive)
		defer tick.Stop()
		l.watch(tick.C)
	}()
	return l
}

func (l *link) alive() bool {
	select {
	case <-l.dead:
		return false
	default:
		return !l.broken.Load()
	}
}

// check finds out whether the link is lost, after something on it failed: sessions hear of it before the link does, and
// the next call must not meet it again.
func (l *link) check(ctx context.Context) {
	answer := make(chan error, 1)
	go func() { answer <- l.roundTrip() }()
	select {
	case err := <-answer:
		if err != nil {
			_ = l.close()
		}
	case <-l.dead:
	case <-ctx.Done():
	}
}

// close ends the connection below SSH too: a close message could wait for a stalled line. Nobody gets the link any more,
// although its sessions hear of the end only later.
func (l *link) close() error {
	l.broken.Store(true)
	return l.client.Close()
}

// watch ends the link when nothing was heard for three keep-alives in a row.
func (l *link) watch(tick <-chan time.Time) {
	answered := make(chan error, 1)
	pending, missed, heard := false, 0, uint64(0)
	for {
		select {
		case <-l.dead:
			return
		case err := <-answered:
			pending, missed = false, 0
			if err != nil {
				_ = l.close()
			}
		case <-tick:
			if pending {
				missed++
				if now := l.conn.received.Load(); now != heard {
					missed, heard = 0, now
				}
				if missed >= missedKeepAlives {
					_ = l.close()
				}
				continue
			}
			pending, heard = true, l.conn.received.Load()
			go func() { answered <- l.roundTrip() }()
		}
	}
}

// roundTrip returns when sshd has dealt with everything sent before.
func (l *link) roundTrip() error {
	_, _, err := l.client.SendRequest("keepalive@openssh.com", true, nil)
	return err
}

// errNoSessions says that sshd opens not a single session.
var errNoSessions = errors.New("sshd opens no session")

// open begins a session as soon as there is room for one; done must be called when it ended.
func (l *link) open(ctx context.Context) (s *ssh.Session, done func(), err error) {
	for {
		select {
		case <-l.turns:
		case <-l.dead:
			return nil, nil, net.ErrClosed
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
		s, err := l.client.NewSession()
		if err == nil {
			return s, l.giveBack, nil
		}
		var refused *ssh.OpenChannelError
		if !errors.As(err, &refused) {
			l.turns <- struct{}{}
			return nil, nil, err
		}
		// sshd was told of another limit than its default: keep one turn less, as long as one is left
		if l.limit.Add(-1) < 1 {
			l.limit.Add(1)
			l.turns <- struct{}{}
			return nil, nil, fmt.Errorf("%w: %w", errNoSessions, err)
		}
	}
}

// giveBack lets the next session begin once sshd has freed the place of the one that ended: it does so after reading on.
func (l *link) giveBack() {
	go func() {
		_ = l.roundTrip() // on a dead link there is nothing to wait for
		l.turns <- struct{}{}
	}()
}
