package external

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"github.com/catamaran-k8s/catamaran/provider"
)

// Limits of what a program may say. Ten thousand machines fit into one line.
const (
	maxLine   = 8 << 20
	maxOutput = 64 << 20
	maxStderr = 16 << 10 // what is kept of it, the end
	lastLines = 12       // of the standard error, in an error
)

// run starts the program, tells report what it does, and returns what it came to. The request goes through standard input only:
// nothing of it is an argument or in the environment, which is the caller's.
func (c *call) run(ctx context.Context, report func(provider.Change)) (*Result, error) {
	request, err := json.Marshal(c.request)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", c.what(), err, provider.ErrPermanent)
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	cmd := exec.CommandContext(ctx, c.command[0], c.command[1:]...)
	cmd.Dir = c.dir
	cmd.Stdin = bytes.NewReader(append(request, '\n'))
	said := &tail{}
	cmd.Stderr = said
	// A group of its own: what it started ends with it, and a key that is pressed in the terminal reaches it through ctx alone.
	// When this process is killed, the kernel asks the program to end; it does so when the thread is gone that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error {
		err := syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		if errors.Is(err, syscall.ESRCH) {
			return os.ErrProcessDone
		}
		return err
	}
	cmd.WaitDelay = c.options.Grace
	out := newSpool()
	cmd.Stdout = out
	if err := cmd.Start(); err != nil {
		return nil, c.notStarted(ctx, err)
	}
	heard := &hearing{call: c, report: report}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := heard.listen(out); err != nil {
			stop(err) // it says what it must not say, or too much
		}
	}()
	status := cmd.Wait()
	out.close()
	<-done
	// whatever it left running has no caller any more
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	return c.judge(ctx, heard, status, said.String())
}

// notStarted explains why there is no process.
func (c *call) notStarted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return c.ended(ctx, nil)
	}
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOEXEC) {
		return permanent("%s: the program can not be started: %w; install it, or correct provider.external.command", c.what(), err)
	}
	return fmt.Errorf("%s: the program can not be started: %w", c.what(), err)
}

// judge makes one result of what was said and how it ended. What was said counts more than the status, and a context that
// ended more than an error.
func (c *call) judge(ctx context.Context, h *hearing, status error, stderr string) (*Result, error) {
	var exit *exec.ExitError
	clean := status == nil || errors.Is(status, exec.ErrWaitDelay)
	switch {
	case h.broken != nil:
		return nil, fmt.Errorf("%w%s", h.broken, shown(stderr))
	case h.result != nil && clean:
		return h.result, nil
	case ctx.Err() != nil:
		return nil, c.ended(ctx, h.failed())
	case h.failure != nil:
		return nil, fmt.Errorf("%w%s", h.failed(), shown(stderr))
	case h.half != "":
		return nil, fmt.Errorf("%s: the program's output ends in the middle of line %d (%s)%s", c.what(), h.number, ending(status), shown(stderr))
	case h.result != nil:
		return nil, fmt.Errorf("%s: the program told a result and then ended with %s%s", c.what(), ending(status), shown(stderr))
	case errors.As(status, &exit):
		return nil, fmt.Errorf("%s: the program ended with %s and told neither a result nor an error%s", c.what(), ending(status), shown(stderr))
	case !clean:
		return nil, fmt.Errorf("%s: %w%s", c.what(), status, shown(stderr))
	}
	return nil, fmt.Errorf("%w%s", c.broken("after %d lines it ended well, without a result; expected {\"result\": ...} or {\"error\": ...} as the last line", h.number), shown(stderr))
}

func ending(status error) string {
	if status == nil {
		return "status 0"
	}
	return status.Error()
}

// shown is the end of a program's standard error, for an error.
func shown(stderr string) string {
	stderr = strings.TrimSpace(stderr)
	if stderr == "" {
		return ""
	}
	lines := strings.Split(stderr, "\n")
	return "; it said:\n" + strings.Join(lines[max(0, len(lines)-lastLines):], "\n")
}

// tail keeps the end of what is written.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p...)
	if over := len(t.kept) - maxStderr; over > 0 {
		t.kept = append([]byte(nil), t.kept[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.ToValidUTF8(string(t.kept), "?")
}

// spool holds what a program said until it is heard: who is told of a change may take its time, and the program's end does not
// wait for that.
type spool struct {
	mu     sync.Mutex
	more   *sync.Cond
	held   []byte
	taken  int // all that was ever written
	closed bool
}

func newSpool() *spool {
	s := &spool{}
	s.more = sync.NewCond(&s.mu)
	return s
}

// Write never waits. Of what is too much it keeps as much as shows that.
func (s *spool) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keep := p[:min(len(p), maxOutput+1-s.taken)]
	s.held, s.taken = append(s.held, keep...), s.taken+len(keep)
	s.more.Broadcast()
	return len(p), nil
}

// Read waits for something to be there, or for the end.
func (s *spool) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.held) == 0 {
		if s.closed {
			return 0, io.EOF
		}
		s.more.Wait()
	}
	n := copy(p, s.held)
	s.held = s.held[n:]
	return n, nil
}

func (s *spool) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.more.Broadcast()
}

// hearing is what a program said.
type hearing struct {
	call    *call
	report  func(provider.Change)
	number  int // of the last line
	result  *Result
	failure *Failure
	broken  error
	half    string // a last line without an end
}

// listen reads lines until there are no more, or one that must not be. It returns that as an error.
func (h *hearing) listen(from io.Reader) error {
	limited := &io.LimitedReader{R: from, N: maxOutput + 1}
	in := bufio.NewReaderSize(limited, 64<<10)
	for {
		raw, err := readLine(in)
		switch {
		case errors.Is(err, errLong):
			return h.broke("line %d is longer than %d MiB", h.number+1, maxLine>>20)
		case limited.N <= 0:
			return h.broke("it said more than %d MiB", maxOutput>>20)
		case err != nil && len(raw) == 0:
			return nil
		}
		h.number++
		if err != nil {
			h.half = string(raw)
			return nil //nolint:nilerr // whether a half line is an error depends on how the program ended
		}
		if err := h.line(raw); err != nil {
			return err
		}
	}
}

var errLong = errors.New("too long")

// readLine reads one line without its end. With an error, it is what came before.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxLine:
			return nil, errLong
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil:
			return line, err
		}
		return line[:len(line)-1], nil
	}
}

func (h *hearing) broke(format string, args ...any) error {
	h.broken = h.call.broken(format, args...)
	return h.broken
}

// line understands one line.
func (h *hearing) line(raw []byte) error {
	if h.result != nil || h.failure != nil {
		return h.broke("line %d comes after the result: %s", h.number, excerpt(raw))
	}
	l, err := decode(raw)
	if err != nil {
		return h.broke("line %d: %w: %s", h.number, err, excerpt(raw))
	}
	switch {
	case l.Change != nil:
		if err := sound(*l.Change); err != nil {
			return h.broke("line %d: %w: %s", h.number, err, excerpt(raw))
		}
		if h.call.request.Call == CallPlan || h.call.request.Call == CallPlanDestroy || h.call.request.Call == CallConsole {
			return h.broke("line %d: a change was made by %s, which only looks: %s", h.number, h.call.request.Call, excerpt(raw))
		}
		if h.report != nil {
			h.report(*l.Change)
		}
	case l.Log != nil:
		h.call.options.Log(*l.Log)
	case l.Error != nil:
		if strings.TrimSpace(l.Error.Message) == "" {
			return h.broke("line %d: the error has no message", h.number)
		}
		h.failure = l.Error
	default:
		h.result = l.Result
	}
	return nil
}

// failed is the error that the program told; nil: none.
func (h *hearing) failed() error {
	if h.failure == nil {
		return nil
	}
	err := fmt.Errorf("%s: %s", h.call.what(), h.failure.Message)
	if h.failure.Permanent {
		err = fmt.Errorf("%w: %w", err, provider.ErrPermanent)
	}
	return err
}
