package hosts

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// acquire locks a file until the returned function is called or the process ends. Who holds it exclusively is written
// into it, for the one who is refused.
func acquire(path string, exclusive bool) (release func(), err error) {
	how := syscall.LOCK_SH
	if exclusive {
		how = syscall.LOCK_EX
	}
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		err = syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			holder, _ := os.ReadFile(path) // only for the message
			return nil, errors.Join(fmt.Errorf("%s is held by %s; wait until it has ended", path, orSomebody(holder)), f.Close())
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		// `down --purge` removes the file: a lock on a removed one excludes nobody
		mine, err := f.Stat()
		now, nerr := os.Stat(path)
		if err == nil && nerr == nil && os.SameFile(mine, now) {
			if exclusive {
				err = errors.Join(f.Truncate(0), writeAt(f, fmt.Sprintf("process %d (%s)", os.Getpid(), strings.Join(os.Args, " "))))
			}
			if err != nil {
				return nil, errors.Join(err, f.Close())
			}
			return func() {
				// closing alone would not do: a child that is just being started has a copy of the descriptor
				_ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
				_ = f.Close()
			}, nil
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
}

func writeAt(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

func orSomebody(holder []byte) string {
	if len(holder) == 0 {
		return "another lab command"
	}
	return string(holder)
}

// lockLab is held by what changes the lab as a whole: up and down exclusively, everything about single hosts shared.
func (l *Lab) lockLab(exclusive bool) (func(), error) { return acquire(l.path("lock"), exclusive) }

// lockHost is held by whoever starts or stops a host.
func (l *Lab) lockHost(host string) (func(), error) { return acquire(l.hostDir(host, "lock"), true) }
