package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Terminal is a terminal of the operator's that a shell is shown on.
type Terminal struct {
	Type          string // $TERM
	Width, Height int    // characters
	// Resized tells new sizes (width, height) until it is closed; nil: never.
	Resized <-chan [2]int
}

// Shell is an interactive session or one command with the operator's own streams.
type Shell struct {
	// Command is run by the login shell; empty: an interactive login shell.
	Command        string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Terminal, when set, gives the session one.
	Terminal *Terminal
}

// Shell runs s and returns its exit status. It ends with ctx.
func (h *Host) Shell(ctx context.Context, s Shell) (int, error) {
	l, err := h.connected(ctx)
	if err != nil {
		return 0, err
	}
	session, done, err := l.open(ctx)
	if err != nil {
		return 0, h.fail("run", Passing, "", err)
	}
	defer done()
	defer session.Close() //nolint:errcheck // its end was told by Wait
	session.Stdout, session.Stderr = s.Stdout, s.Stderr
	stdin, err := session.StdinPipe()
	if err != nil {
		return 0, h.fail("run", Passing, "", err)
	}
	if t := s.Terminal; t != nil {
		modes := ssh.TerminalModes{ssh.ECHO: 1, ssh.TTY_OP_ISPEED: 115200, ssh.TTY_OP_OSPEED: 115200}
		if err := session.RequestPty(t.Type, t.Height, t.Width, modes); err != nil {
			return 0, h.fail("run", Permanent, "", fmt.Errorf("the machine gives no terminal: %w", err))
		}
		go func() {
			for size := range t.Resized {
				_ = session.WindowChange(size[1], size[0]) // a lost size is only ugly
			}
		}()
	}
	if s.Command == "" {
		err = session.Shell()
	} else {
		err = session.Start(s.Command)
	}
	if err != nil {
		return 0, h.fail("run", Passing, "", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = session.Close() })
	defer stop()
	if s.Stdin == nil {
		s.Stdin = strings.NewReader("")
	}
	// not by session.Stdin: the end of the shell would wait for one more key
	in := feed(stdin, s.Stdin, func(error) { _ = session.Close() })
	defer in.stop()
	err = session.Wait()
	var exit *ssh.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.ExitStatus(), nil
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case err != nil:
		return 0, h.fail("run", Passing, "", err)
	}
	return 0, nil
}
