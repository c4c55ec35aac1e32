package hosts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// Dial opens an SSH connection to a host with the lab's key; the host must show the key that the lab gave it. The
// connection lasts no longer than ctx.
func (l *Lab) Dial(ctx context.Context, host, user string) (*ssh.Client, error) {
	h, err := l.Host(host)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(l.KeyFile())
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.KeyFile(), err)
	}
	key, err := l.HostKey(host)
	if err != nil {
		return nil, err
	}
	addr := net.JoinHostPort(h.Address.String(), "22")
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	// neither the handshake nor a session knows a context: closing the connection ends them
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	c, chans, reqs, err := ssh.NewClientConn(conn, addr, &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: ssh.FixedHostKey(key), HostKeyAlgorithms: []string{key.Type()},
	})
	if ctx.Err() != nil {
		err = ctx.Err() // which closed the connection
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s (%s): %w", host, addr, err), closing(conn))
	}
	return ssh.NewClient(c, chans, reqs), nil
}

// closing drops the complaint that a connection is closed already.
func closing(conn net.Conn) error {
	if err := conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Run runs a command on a host and returns what it printed; an error has what it printed on stderr.
func (l *Lab) Run(ctx context.Context, host, user, command string) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // also ends what Dial watches
	c, err := l.Dial(ctx, host, user)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	s, err := c.NewSession()
	if err != nil {
		return "", fmt.Errorf("%s: %w", host, err)
	}
	var out, errs bytes.Buffer
	s.Stdout, s.Stderr = &out, &errs
	if err := s.Run(command); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return out.String(), fmt.Errorf("%s: `%s`: %w: %s", host, command, err, bytes.TrimSpace(errs.Bytes()))
	}
	return out.String(), nil
}

// bootTimeout is how long a host may take until it answers. A boot takes a second or two; eight at once on two busy CPUs
// take longer.
const bootTimeout = 90 * time.Second

// await returns when the host really answers: its own key, a login, sudo. ended yields when its supervisor has ended.
func (l *Lab) await(ctx context.Context, host, user string, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	var last error
	for {
		try, done := context.WithTimeout(ctx, 3*time.Second)
		out, err := l.Run(try, host, user, "sudo -n systemctl show --property=Result --value lab-host.service")
		done()
		if err == nil {
			if result := strings.TrimSpace(out); result != "success" {
				return fmt.Errorf("%s is up, but not as it should be: lab-host.service says %q; `journalctl -u lab-host` there says why", host, result)
			}
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ended:
			return fmt.Errorf("%s did not come up: its supervisor has ended; %s", host, l.consoleTail(host))
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer on SSH: %w (last try: %w); %s", host, ctx.Err(), last, l.consoleTail(host))
		case <-time.After(25 * time.Millisecond):
		}
	}
}

// consoleTail is the end of a host's console, for messages.
func (l *Lab) consoleTail(host string) string {
	path := l.hostDir(host, "console.log")
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	const enough = 2000
	if len(data) > enough {
		data = data[len(data)-enough:]
	}
	return fmt.Sprintf("the end of %s:\n%s", path, bytes.TrimSpace(data))
}
