package site

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Alone keeps a second run of a test away from the lab in dir until release is called: each begins with taking away
// what it finds there, the machines of one that still runs too. The lock lies beside dir, which is purged; the kernel
// frees it with the process, however that ends.
func Alone(dir string) (release func() error, err error) {
	path := filepath.Clean(dir) + ".test.lock"
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("claim the lab in %s: %w", dir, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("claim the lab in %s: lock %s: %w", dir, path, err), f.Close())
		}
		holder, _ := os.ReadFile(path) // only for people
		return nil, errors.Join(fmt.Errorf("process %s runs its tests in the lab %s and would lose its machines: wait for its end",
			strings.TrimSpace(string(holder)), dir), f.Close())
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintln(f, os.Getpid())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("claim the lab in %s: %w", dir, err), f.Close())
	}
	return f.Close, nil
}
