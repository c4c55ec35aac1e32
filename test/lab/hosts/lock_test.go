package hosts

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
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

// `down --purge` removes the lock while it holds it. Whoever opened it before that must not believe to hold it after.
func TestLockThatIsRemovedByItsHolder(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	var holders, taken, twice atomic.Int32
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for taken.Load() < 200 {
				release, err := acquire(path, true)
				if err != nil {
					continue
				}
				if holders.Add(1) > 1 {
					twice.Add(1)
				}
				runtime.Gosched()
				taken.Add(1)
				holders.Add(-1)
				assert.NoError(t, os.Remove(path))
				release()
			}
		})
	}
	wg.Wait()
	assert.Zero(t, twice.Load(), "two held it at once")
}
