package hosts

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSecondIsRefusedAndToldWhoIsFirst(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	release, err := acquire(path, true)
	require.NoError(t, err)
	for _, exclusive := range []bool{true, false} {
		_, err = acquire(path, exclusive)
		assert.ErrorContains(t, err, "process "+strconv.Itoa(os.Getpid()))
	}
	release()
	a, err := acquire(path, false)
	require.NoError(t, err)
	b, err := acquire(path, false)
	require.NoError(t, err, "faults on different hosts go on at once")
	_, err = acquire(path, true)
	assert.Error(t, err)
	a()
	b()
}

func TestLockOfARemovedFileExcludesNobody(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	release, err := acquire(path, true)
	require.NoError(t, err)
	require.NoError(t, os.Remove(path)) // what `down --purge` does while it holds it
	again, err := acquire(path, true)
	require.NoError(t, err)
	defer again()
	release()
	_, err = acquire(path, true)
	assert.Error(t, err, "the new lock must hold although the old one was let go")
}
