package forward

import (
	"errors"
	"syscall"
)

// isExhausted says that accept failed because the process or the machine has no file descriptors left; it will again.
func isExhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOBUFS) ||
		errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.ECONNABORTED)
}
