package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// maxOutput bounds what one command may print into memory, in bytes.
const maxOutput = 64 << 20

// maxCommand bounds the script with its quoting, in bytes: Linux passes no longer argument (MAX_ARG_STRLEN).
const maxCommand = 128<<10 - 1

// scriptPath is set for every script: cloud images give non-login shells a PATH without sbin.
const scriptPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// passwordMark follows the password on the input of sudo. Where sudo asked for none, the script reads the password
// first and then the mark; where it asked, only the mark. Either way the rest is what the caller gave.
const passwordMark = "catamaran-input-begins"

// Run implements Runner. When ctx ends, Run returns at once and sends the script SIGTERM. sshd delivers it only to scripts
// that run as a login user other than root: one that runs as root goes on to its end, so long work belongs in a Unit.
func (h *Host) Run(ctx context.Context, c Command) (Result, error) {
	l, err := h.connected(ctx)
	if err != nil {
		return Result{}, err
	}
	command, stdin, err := h.command(c)
	if err != nil {
		return Result{}, err
	}
	r := &run{l: l, command: command, stdin: stdin, failed: make(chan error, 1), stdout: &limited{max: maxOutput}, stderr: &limited{max: maxOutput}}
	r.out, r.errs = &output{to: r.stdout}, &output{to: r.stderr}
	if c.Stdout != nil {
		r.out.to = c.Stdout
	}
	ended := make(chan error, 1)
	go func() { ended <- r.do(ctx) }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		r.abandon()
		return Result{}, h.fail("run", Passing, "", ctx.Err())
	case failed := <-r.failed:
		r.abandon() // half an input must not look like a whole one
		return Result{}, h.fail("run", Permanent, "", fmt.Errorf("the script's input can not be read: %w", failed))
	}
	var exit *ssh.ExitError
	if err != nil && !errors.As(err, &exit) {
		l.check(ctx)
	}
	return h.ended(c, r, err)
}

// run is one script under way.
type run struct {
	l              *link
	command        string
	stdin          io.Reader
	failed         chan error // receives what reading stdin failed with
	out, errs      *output
	stdout, stderr *limited

	mu        sync.Mutex
	session   *ssh.Session
	in        *input
	abandoned bool
}

// do opens a session, runs the command and returns how it ended.
func (r *run) do(ctx context.Context) error {
	s, done, err := r.l.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	defer s.Close() //nolint:errcheck // the command's own end is what counts
	s.Stdout, s.Stderr = r.out, r.errs
	w, err := s.StdinPipe()
	if err != nil {
		return err
	}
	if err := s.Start(r.command); err != nil {
		return err
	}
	r.mu.Lock()
	r.session = s
	if !r.abandoned {
		r.in = feed(w, r.stdin, func(err error) { r.failed <- err })
	}
	in := r.in
	r.mu.Unlock()
	if in == nil {
		terminate(s)
		return context.Canceled
	}
	err = s.Wait()
	in.stop()
	return err
}

// abandon ends the command without waiting for anything that the link could hold up.
func (r *run) abandon() {
	r.mu.Lock()
	r.abandoned = true
	s, in := r.session, r.in
	r.mu.Unlock()
	r.out.cut()
	r.errs.cut()
	if s != nil {
		go terminate(s)
	}
	if in != nil {
		in.stop()
	}
}

func terminate(s *ssh.Session) {
	_ = s.Signal(ssh.SIGTERM) // either is allowed to find the script gone
	_ = s.Close()
}

// command is what sshd is asked to run, and what it reads.
func (h *Host) command(c Command) (string, io.Reader, error) {
	stdin := c.Stdin
	if stdin == nil {
		stdin = bytes.NewReader(nil)
	}
	script := "echo " + beginMark + "; echo " + beginMark + " >&2\nPATH=" + scriptPath + " LC_ALL=C; export PATH LC_ALL\n" + c.Script
	var command string
	switch {
	case !viaSudo(c, h.t):
		command = "sh -c " + quote(script)
	case h.t.SudoPassword == nil:
		command = "sudo -n -- sh -c " + quote(script)
	default:
		password, err := h.t.SudoPassword()
		if err != nil {
			return "", nil, h.fail("sudo", Permanent, "", err)
		}
		if bytes.ContainsAny(password, "\n\x00") {
			return "", nil, h.fail("sudo", Permanent, "", errors.New("the sudo password has more than one line"))
		}
		script = "IFS= read -r REPLY; [ \"$REPLY\" = " + passwordMark + " ] || IFS= read -r REPLY; unset REPLY\n" + script
		// -k: no password stays good for a while, neither one given before nor this one
		command = "sudo -k -S -p '' -- sh -c " + quote(script)
		head := append(append(make([]byte, 0, len(password)+len(passwordMark)+2), password...), "\n"+passwordMark+"\n"...)
		stdin = io.MultiReader(bytes.NewReader(head), stdin)
	}
	if len(command) > maxCommand {
		return "", nil, h.fail("run", Permanent, "",
			fmt.Errorf("the script has %d bytes with its quoting, %d are possible: large content belongs on its input", len(command), maxCommand))
	}
	return command, stdin, nil
}

func viaSudo(c Command, t Target) bool { return c.Root && t.User != "root" }

// ended turns the end of a session into a result or an error of the right kind.
func (h *Host) ended(c Command, r *run, err error) (Result, error) {
	res := Result{Stdout: r.stdout.b.Bytes(), Stderr: r.stderr.b.Bytes()}
	var exit *ssh.ExitError
	var missing *ssh.ExitMissingError
	switch {
	case errors.Is(err, errNoSessions):
		return res, h.fail("run", Permanent, "is MaxSessions of its sshd 0, or is the account for forwarding only?", err)
	case errors.As(err, &missing):
		return res, h.fail("run", Passing, "", errors.New("the link was lost while the script ran"))
	case errors.As(err, &exit) && exit.Signal() != "":
		res.ExitCode = 128
		return res, h.fail("run", Passing, "", fmt.Errorf("the script was ended by signal %s", exit.Signal()))
	case errors.As(err, &exit):
		res.ExitCode = exit.ExitStatus()
	case err != nil:
		return res, h.fail("run", Passing, "", err)
	}
	switch {
	case !r.errs.begun && viaSudo(c, h.t):
		hint := fmt.Sprintf("let %s use sudo without a password, or give ssh.sudoPassword", h.t.User)
		if h.t.SudoPassword != nil {
			hint = fmt.Sprintf("is ssh.sudoPassword that of %s, and may %[1]s use sudo?", h.t.User)
		}
		return res, h.fail("sudo", Permanent, hint, errors.New(lastWords(r)))
	case !r.errs.begun:
		return res, h.fail("run", Permanent, fmt.Sprintf("%s needs a login shell that runs commands", h.t.User),
			fmt.Errorf("the script did not begin (status %d): %s", res.ExitCode, lastWords(r)))
	case r.stdout.over || r.stderr.over:
		return res, h.fail("run", Permanent, "", fmt.Errorf("the script printed more than %d MiB", maxOutput>>20))
	case res.ExitCode != 0:
		return res, &ExitError{Host: h.label(), Result: res}
	case r.out.err != nil:
		return res, h.fail("run", Permanent, "", fmt.Errorf("the script's output can not be written: %w", r.out.err))
	}
	return res, nil
}

// lastWords are the last two lines that were said before the script should have begun: sudo's last one alone may only
// tell that an administrator was informed.
func lastWords(r *run) string {
	for _, noise := range [][]byte{r.errs.noise, r.out.noise} {
		var said []string
		for _, l := range strings.Split(string(noise), "\n") {
			if strings.TrimSpace(l) != "" && l[0] != ' ' { // sudo's lecture is indented
				said = append(said, strings.TrimSpace(l))
			}
		}
		if len(said) > 0 {
			return strings.Join(said[max(0, len(said)-2):], " ")
		}
	}
	return "not a word was said"
}

// quote makes one shell word.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
