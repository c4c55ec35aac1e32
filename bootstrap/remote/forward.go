package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/crypto/ssh"
)

// Dial implements Runner.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	l, err := h.connected(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := l.client.DialContext(ctx, network, address)
	var refused *ssh.OpenChannelError
	switch {
	case errors.As(err, &refused) && refused.Reason == ssh.Prohibited:
		return nil, h.fail("forward", Permanent, "set AllowTcpForwarding and PermitOpen in its sshd_config", fmt.Errorf("%s: %w", address, err))
	case err != nil:
		if refused == nil {
			l.check(ctx)
		}
		return nil, h.fail("forward", Passing, "", fmt.Errorf("%s: %w", address, err))
	}
	return newForwarded(conn), nil
}

// forwarded gives an SSH channel what a net.Conn must have and channels lack: deadlines that hold also on a stalled
// link, where even closing a channel waits for the other side. The caller gets one end of a pipe in memory.
type forwarded struct {
	net.Conn
	channel net.Conn
}

func newForwarded(channel net.Conn) net.Conn {
	near, far := net.Pipe()
	go func() {
		_, _ = io.Copy(channel, far) // ends with either side
		// no half-close in TCP terms is needed: TLS and SSH both end their streams themselves
		_ = channel.Close()
	}()
	go func() {
		_, _ = io.Copy(far, channel)
		_ = far.Close()
	}()
	return &forwarded{Conn: near, channel: channel}
}

// LocalAddr implements net.Conn.
func (c *forwarded) LocalAddr() net.Addr { return c.channel.LocalAddr() }

// RemoteAddr implements net.Conn.
func (c *forwarded) RemoteAddr() net.Addr { return c.channel.RemoteAddr() }
