package plan

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A process that is being started has a copy of each open file until it runs its program.
func TestLockIsFreeWhileACopyOfItsFileIsOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := Acquire(dir, Holder{Command: "apply"})
	require.NoError(t, err)
	copied, err := syscall.Dup(int(l.f.Fd()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, syscall.Close(copied)) })
	l.Release()
	l, err = Acquire(dir, Holder{Command: "plan"})
	require.NoError(t, err)
	l.Release()
}
