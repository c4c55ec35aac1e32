package remote

import (
	"errors"
	"fmt"
	"strings"
)

// Error says machine, operation, cause and what to do next.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %s: %v", e.Host, e.Op, e.Err)
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Error shows the last lines of what the script said.
func (e *ExitError) Error() string {
	lines := strings.Split(strings.TrimSpace(string(e.Result.Stderr)), "\n")
	const most = 5
	if len(lines) > most {
		lines = lines[len(lines)-most:]
	}
	return fmt.Sprintf("%s: the script ended with status %d: %s", e.Host, e.Result.ExitCode, strings.Join(lines, "\n"))
}

// IsPermanent says that trying again can not help. A script that failed is not permanent by itself.
func IsPermanent(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == Permanent
}

// IsPassing says that the machine or the link failed, so that trying again may help.
func IsPassing(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == Passing
}
