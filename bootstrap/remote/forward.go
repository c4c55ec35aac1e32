package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/crypto/ssh"
)

// Dial implements Runner. A link that turns out to be lost is dialled anew once: nothing was opened on it yet, and behind
// a chain of jump hosts each hop learns of its loss only when it is used.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	for again := true; ; again = false {
		l, err := h.connected(ctx)
		if err != nil {
			return nil, err
		}
		conn, err := l.client.DialContext(ctx, network, address)
		if err == nil {
			return newForwarded(conn), nil
		}
		var refused *ssh.OpenChannelError
		if errors.As(err, &refused) && refused.Reason == ssh.Prohibited {
			return nil, h.fail("forward", Permanent, "set AllowTcpForwarding and PermitOpen in its sshd_config", fmt.Errorf("%s: %w", address, err))
		}
		if refused == nil {
			if l.check(ctx); again && !l.alive() && ctx.Err() == nil {
				continue
			}
		}
		return nil, h.fail("forward", Passing, "", fmt.Errorf("%s: %w", address, err))
	}
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
