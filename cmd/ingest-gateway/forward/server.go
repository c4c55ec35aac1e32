package forward

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/tinylib/msgp/msgp"
	"golang.org/x/time/rate"

	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain"
)

// Queue takes chunks; chain.Writer is one.
type Queue interface {
	Submit(ctx context.Context, c *chain.Chunk, done func(error)) error
}

// Tenant is one sender's side of the server.
type Tenant struct {
	Queue Queue
	// Records and Bytes are the most that is taken within a second; beyond it the server stops reading. 0: no limit.
	Records, Bytes float64
}

// Options are a server's.
type Options struct {
	// Tenants are those that may send, by name.
	Tenants map[string]Tenant
	// Identify returns whose certificate it is.
	Identify func(*x509.Certificate) (string, error)
	Limits   Limits
	// Connections bounds the connections of one tenant, Handshakes those of which nobody knows yet whose they are.
	Connections, Handshakes int
	// Readers is how many messages of one tenant are read at once. With Limits it bounds the memory.
	Readers int
	// HandshakeTimeout bounds the TLS handshake, MessageTimeout the time from a message's first byte to its last, IdleTimeout
	// the time between two messages, AckTimeout the sending of one acknowledgement.
	HandshakeTimeout, MessageTimeout, IdleTimeout, AckTimeout time.Duration
	// SubmitTimeout is how long a message waits for its turn to be read, and then for room. After that the connection is
	// closed, and the client sends it again. Twice this must be shorter than the time that clients wait for an
	// acknowledgement (Fluentd: 190 s), or their abandoned connections pile up.
	SubmitTimeout time.Duration
	Now           func() time.Time
	Meter         Meter
	Log           *slog.Logger
}

// Meter is told what the server does.
type Meter interface {
	// Connections tells how many a tenant has.
	Connections(tenant string, n int)
	// Message tells of a message that was taken.
	Message(tenant string, m *Message)
	// Acked tells of an acknowledgement that was sent, and how long after the message came.
	Acked(tenant string, after time.Duration)
	// Refused counts refusals by reason; tenant is empty where it is not known.
	Refused(tenant, reason string)
}

// inFlight is how many messages of one connection may wait for their acknowledgement.
const inFlight = 32

// farewell is how long a connection stays for its acknowledgements after the client closed its side.
const farewell = 5 * time.Second

// Server serves the forward protocol.
type Server struct {
	opt        Options
	handshakes chan struct{}
	tenants    map[string]*tenant

	stop     context.Context // ends reading
	stopping context.CancelFunc
	conns    sync.WaitGroup
}

type tenant struct {
	Tenant
	name           string
	readers        chan struct{}
	records, bytes *rate.Limiter

	mu    sync.Mutex
	conns int
}

// New makes a server.
func New(opt Options) *Server {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	s := &Server{opt: opt, handshakes: make(chan struct{}, opt.Handshakes), tenants: map[string]*tenant{}}
	s.stop, s.stopping = context.WithCancel(context.Background())
	for name, t := range opt.Tenants {
		s.tenants[name] = &tenant{Tenant: t, name: name, readers: make(chan struct{}, opt.Readers), records: limiter(t.Records), bytes: limiter(t.Bytes)}
	}
	return s
}

// limiter allows perSecond, and two seconds' worth at once.
func limiter(perSecond float64) *rate.Limiter {
	if perSecond <= 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(perSecond), int(2*perSecond)+1)
}

// Serve accepts connections until Stop closes the listener's use, or Accept fails for good.
func (s *Server) Serve(l net.Listener) error {
	defer context.AfterFunc(s.stop, func() { _ = l.Close() })()
	for {
		conn, err := l.Accept()
		if err != nil {
			if s.stop.Err() != nil {
				return nil
			}
			var temporary net.Error
			if errors.As(err, &temporary) && temporary.Timeout() || isExhausted(err) {
				// No file descriptors: wait for some to be closed.
				select {
				case <-s.stop.Done():
					return nil
				case <-time.After(100 * time.Millisecond):
					continue
				}
			}
			return fmt.Errorf("accept on %s: %w", l.Addr(), err)
		}
		s.conns.Add(1)
		go func() {
			defer s.conns.Done()
			defer func() { _ = conn.Close() }()
			s.serve(conn)
		}()
	}
}

// Stop ends reading; Wait returns when the connections have got their acknowledgements, or ctx ended.
func (s *Server) Stop() { s.stopping() }

// Wait waits for the connections after Stop.
func (s *Server) Wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() { s.conns.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Server) refused(tenant, reason string, conn net.Conn, err error) {
	s.opt.Meter.Refused(tenant, reason)
	s.opt.Log.Warn("forward: refused", "reason", reason, "tenant", tenant, "peer", conn.RemoteAddr().String(), "error", err.Error())
}

// serve handles one connection up to its end.
func (s *Server) serve(conn net.Conn) {
	select {
	case s.handshakes <- struct{}{}:
	default:
		s.refused("", "too-many-handshakes", conn, fmt.Errorf("%d are under way", cap(s.handshakes)))
		return
	}
	tc, cert, err := s.handshake(conn)
	<-s.handshakes
	if err != nil {
		// A TCP probe or heartbeat closes before it says anything.
		if !errors.Is(err, io.EOF) {
			s.refused("", "tls", conn, err)
		}
		return
	}
	name, err := s.opt.Identify(cert)
	if err != nil {
		s.refused("", "identity", conn, err)
		return
	}
	t, ok := s.tenants[name]
	if !ok {
		s.refused("", "identity", conn, fmt.Errorf("no tenant is called %q", name))
		return
	}
	if !s.enter(t) {
		s.refused(name, "too-many-connections", conn, fmt.Errorf("%d are open", s.opt.Connections))
		return
	}
	defer s.leave(t)
	c := &connection{server: s, tenant: t, conn: tc, cert: cert, acks: make(chan ack, inFlight), slots: make(chan struct{}, inFlight)}
	c.run()
}

func (s *Server) handshake(conn net.Conn) (*tls.Conn, *x509.Certificate, error) {
	tc, ok := conn.(*tls.Conn)
	if !ok {
		return nil, nil, errors.New("not a TLS connection: the listener must be one of crypto/tls")
	}
	ctx, cancel := context.WithTimeout(s.stop, s.opt.HandshakeTimeout)
	defer cancel()
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, nil, err
	}
	state := tc.ConnectionState()
	if len(state.VerifiedChains) == 0 {
		return nil, nil, errors.New("no verified client certificate")
	}
	return tc, state.PeerCertificates[0], nil
}

func (s *Server) enter(t *tenant) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conns >= s.opt.Connections {
		return false
	}
	t.conns++
	s.opt.Meter.Connections(t.name, t.conns)
	return true
}

func (s *Server) leave(t *tenant) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conns--
	s.opt.Meter.Connections(t.name, t.conns)
}

// connection is one client's. Its reader hands messages to the queue, its writer sends the acknowledgements.
type connection struct {
	server *Server
	tenant *tenant
	conn   *tls.Conn
	cert   *x509.Certificate
	acks   chan ack      // as many as slots, so that the queue never waits for a client
	slots  chan struct{} // one for each message that has no answer yet
}

type ack struct {
	id   string
	came time.Time
	err  error
}

func (c *connection) run() {
	// Whatever ends the writer ends the reader, and the other way round after the acknowledgements.
	ctx, cancel := context.WithCancel(c.server.stop)
	defer cancel()
	read := make(chan struct{})
	go func() {
		defer close(read)
		err := c.read(ctx)
		var refusal *Refusal
		if errors.As(err, &refusal) {
			c.server.refused(c.tenant.name, refusal.Reason, c.conn, refusal)
		}
	}()
	c.write(read)
	cancel()
	_ = c.conn.Close()
	<-read
}

// write sends acknowledgements until the reader ended and nothing is in flight, or until sending fails.
func (c *connection) write(read <-chan struct{}) {
	done := read
	var last <-chan time.Time
	for {
		select {
		case a := <-c.acks:
			<-c.slots
			if a.err != nil {
				return // not stored: the client must send it again
			}
			if a.id != "" && c.send(a) != nil {
				return
			}
		case <-done:
			done = nil // its end is seen once
			if c.server.stop.Err() == nil {
				last = time.After(farewell)
			}
		case <-last:
			return
		}
		if done == nil && len(c.slots) == 0 {
			return
		}
	}
}

func (c *connection) send(a ack) error {
	b := msgp.AppendMapHeader(nil, 1)
	b = msgp.AppendString(b, "ack")
	b = msgp.AppendString(b, a.id)
	if err := c.conn.SetWriteDeadline(c.server.opt.Now().Add(c.server.opt.AckTimeout)); err != nil {
		return err
	}
	if _, err := c.conn.Write(b); err != nil {
		return err
	}
	c.server.opt.Meter.Acked(c.tenant.name, c.server.opt.Now().Sub(a.came))
	return nil
}

// read takes messages until the client or the server ends it.
func (c *connection) read(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = c.conn.SetReadDeadline(time.Unix(1, 0)) })()
	r := bufio.NewReaderSize(c.conn, 64<<10)
	opt := c.server.opt
	for {
		if err := c.deadline(ctx, opt.IdleTimeout); err != nil {
			return err
		}
		if _, err := r.Peek(1); err != nil {
			return err
		}
		if now := opt.Now(); now.After(c.cert.NotAfter) {
			return refuse("certificate-expired", fmt.Errorf("it ended at %s", c.cert.NotAfter.UTC().Format(time.RFC3339)))
		}
		if err := c.one(ctx, r); err != nil {
			return err
		}
	}
}

func (c *connection) deadline(ctx context.Context, after time.Duration) error {
	if err := c.conn.SetReadDeadline(c.server.opt.Now().Add(after)); err != nil {
		return err
	}
	return ctx.Err() // after, so that the deadline of the end is not overwritten unseen
}

// one takes one message and hands it over.
func (c *connection) one(ctx context.Context, r *bufio.Reader) error {
	opt, t := c.server.opt, c.tenant
	if err := c.turn(ctx); err != nil {
		return err
	}
	defer func() { <-t.readers }()
	if err := c.deadline(ctx, opt.MessageTimeout); err != nil {
		return err
	}
	m, err := ReadMessage(r, t.name, opt.Limits)
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
			return refuse("message-too-slow", fmt.Errorf("not whole after %s", opt.MessageTimeout))
		}
		return err
	}
	opt.Meter.Message(t.name, m)
	if len(m.Chunk.Records) == 0 && m.Chunk.ID == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, opt.SubmitTimeout)
	defer cancel()
	err = c.submit(ctx, m)
	if errors.Is(err, context.DeadlineExceeded) {
		return refuse("busy", fmt.Errorf("no room within %s", opt.SubmitTimeout))
	}
	return err
}

// turn waits until one of the tenant's readers is free.
func (c *connection) turn(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, c.server.opt.SubmitTimeout)
	defer cancel()
	err := take(limited, c.tenant.readers)
	if err != nil && ctx.Err() == nil {
		return refuse("busy", fmt.Errorf("no reader was free within %s", c.server.opt.SubmitTimeout))
	}
	return err
}

func (c *connection) submit(ctx context.Context, m *Message) error {
	if err := wait(ctx, c.tenant.records, len(m.Chunk.Records)); err != nil {
		return err
	}
	if err := wait(ctx, c.tenant.bytes, m.WireBytes); err != nil {
		return err
	}
	if err := take(ctx, c.slots); err != nil {
		return err
	}
	came, id := c.server.opt.Now(), m.Chunk.ID
	err := c.tenant.Queue.Submit(ctx, m.Chunk, func(err error) { c.acks <- ack{id: id, came: came, err: err} })
	if err != nil {
		<-c.slots
	}
	return err
}

func take(ctx context.Context, slots chan struct{}) error {
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wait takes n from a limiter, in pieces that it can give.
func wait(ctx context.Context, l *rate.Limiter, n int) error {
	if l.Limit() == rate.Inf {
		return nil
	}
	for n > 0 {
		piece := min(n, l.Burst())
		// WaitN refuses at once what it cannot give before the deadline; that is the same as waiting in vain.
		if err := l.WaitN(ctx, piece); err != nil {
			return fmt.Errorf("%w: the tenant's rate", context.DeadlineExceeded)
		}
		n -= piece
	}
	return nil
}
