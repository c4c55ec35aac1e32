package main

import (
	"net"
	"sync"
	"time"
)

// link makes a connection over loopback as slow as one over a network with a given round trip, in user space: what
// arrives is handed on half a round trip after it arrived, what is written leaves half a round trip after it was
// written. Bytes on the way do not wait for each other, as on a network with room to spare; bandwidth and loss are not
// played.
//
// The kernel's own handshake takes no time on loopback. On a network the client could write after one round trip, and
// the machine would see the connection after one and a half: that is when this one begins to be served, and nothing
// is handed on before.
type link struct {
	net.Conn
	oneWay time.Duration
	in     chan piece
	out    chan piece
	rest   []byte
	last   error // how reading ended

	closing sync.Once
	closed  chan struct{}
}

// piece is bytes on the way.
type piece struct {
	data []byte
	due  time.Time
	err  error
}

// ways bounds the pieces on their way in one direction.
const ways = 1024

// slow wraps a connection that was accepted just now, and waits until a machine at that distance would have accepted it.
func slow(c net.Conn, roundTrip time.Duration) net.Conn {
	if roundTrip == 0 {
		return c
	}
	l := &link{
		Conn: c, oneWay: roundTrip / 2,
		in: make(chan piece, ways), out: make(chan piece, ways), closed: make(chan struct{}),
	}
	accepted := time.Now().Add(3 * l.oneWay)
	go l.receive(accepted)
	go l.send()
	time.Sleep(time.Until(accepted))
	return l
}

func (l *link) receive(accepted time.Time) {
	defer close(l.in)
	for {
		buf := make([]byte, 32<<10)
		n, err := l.Conn.Read(buf)
		due := time.Now().Add(l.oneWay)
		if due.Before(accepted) {
			due = accepted
		}
		select {
		case l.in <- piece{buf[:n], due, err}:
		case <-l.closed:
			return
		}
		if err != nil {
			return
		}
	}
}

// Read implements net.Conn. Like every connection's, it is not for several goroutines at once.
func (l *link) Read(p []byte) (int, error) {
	for len(l.rest) == 0 {
		if l.last != nil {
			return 0, l.last
		}
		select {
		case next, ok := <-l.in:
			if !ok {
				return 0, net.ErrClosed
			}
			time.Sleep(time.Until(next.due))
			l.rest, l.last = next.data, next.err
		case <-l.closed:
			return 0, net.ErrClosed
		}
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

// Write implements net.Conn. That the other end is gone shows on the next read.
func (l *link) Write(p []byte) (int, error) {
	select {
	case l.out <- piece{data: append([]byte(nil), p...), due: time.Now().Add(l.oneWay)}:
		return len(p), nil
	case <-l.closed:
		return 0, net.ErrClosed
	}
}

func (l *link) send() {
	for {
		select {
		case next := <-l.out:
			time.Sleep(time.Until(next.due))
			if _, err := l.Conn.Write(next.data); err != nil {
				_ = l.Close()
				return
			}
		case <-l.closed:
			return
		}
	}
}

// Close implements net.Conn. What is still on its way is lost: the client hangs up first here.
func (l *link) Close() error {
	err := net.ErrClosed
	l.closing.Do(func() {
		close(l.closed)
		err = l.Conn.Close()
	})
	return err
}
