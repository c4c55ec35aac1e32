package plan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/catamaran-k8s/catamaran/bootstrap/remote"
)

// Holder is who holds a lock.
type Holder struct {
	User    string    `json:"user"`
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Since   time.Time `json:"since"`
	Command string    `json:"command"`
}

func (h Holder) String() string {
	return fmt.Sprintf("%s of %s on %s (process %d) since %s", h.Command, h.User, h.Host, h.PID, h.Since.Format(time.RFC3339))
}

// HeldError says that somebody else works on the site.
type HeldError struct {
	Where  string
	Holder string
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("%s is held by %s; wait until it has ended", e.Where, e.Holder)
}

// Lock is held until Release, or until the process ends: the kernel frees it then.
type Lock struct{ f *os.File }

// Acquire takes the site folder's lock, or returns a *HeldError at once.
func Acquire(siteDir string, h Holder) (*Lock, error) {
	path := filepath.Join(siteDir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		held := &HeldError{Where: "the site", Holder: "somebody"}
		var other Holder
		if data, rerr := io.ReadAll(f); rerr == nil && json.Unmarshal(data, &other) == nil {
			held.Holder = other.String()
		}
		return nil, errors.Join(held, f.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	data, err := json.Marshal(h)
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(append(data, '\n'), 0)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Lock{f}, nil
}

// Release frees the lock. Closing alone does not always: a process that is being started has a copy of the file for a moment.
func (l *Lock) Release() {
	_ = syscall.Flock(int(l.f.Fd()), syscall.LOCK_UN) // closing frees it all the same, a moment later
	_ = l.f.Close()
}

// AcquireRemote takes a lock on a machine, for operators who work from different machines. It is held by a shell at
// the other end of the SSH connection: when the connection ends, however it ends, the kernel there frees it.
func AcquireRemote(ctx context.Context, r remote.Runner, h Holder) (release func(), err error) {
	const script = `mkdir -p -m 0700 /run/catamaran
exec 9>>/run/catamaran/lock
if ! flock -n 9; then cat /run/catamaran/lock.holder 2>/dev/null; exit 75; fi
IFS= read -r holder
printf '%s' "$holder" > /run/catamaran/lock.holder
echo held
cat >/dev/null`
	in, hold := io.Pipe()
	out := &signalWriter{said: make(chan struct{})}
	ended := make(chan error, 1)
	go func() {
		_, err := r.Run(ctx, remote.Command{Script: script, Root: true, Stdin: in, Stdout: out})
		_ = in.CloseWithError(io.ErrClosedPipe) // nobody reads any more
		ended <- err
	}()
	go func() { _, _ = io.WriteString(hold, h.String()+"\n") }() // fails only when the shell ended, which ended tells
	select {
	case <-out.said:
		return func() {
			_ = hold.Close() // the shell's cat ends, and with it the lock
			<-ended
		}, nil
	case err := <-ended:
		var exit *remote.ExitError
		if errors.As(err, &exit) && exit.Result.ExitCode == 75 {
			return nil, &HeldError{Where: r.Name(), Holder: strings.TrimSpace(out.text())}
		}
		return nil, err
	case <-ctx.Done():
		_ = hold.Close()
		<-ended // Run ends with its context
		return nil, ctx.Err()
	}
}
