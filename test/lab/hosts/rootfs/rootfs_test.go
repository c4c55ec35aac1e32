package rootfs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLayerIsMadeOnce(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cache", "layer")
	var calls atomic.Int32
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			assert.NoError(t, ensure(context.Background(), dir, func(d string) error {
				calls.Add(1)
				return os.MkdirAll(filepath.Join(d, "etc"), 0o755)
			}))
		})
	}
	wg.Wait()
	assert.EqualValues(t, 1, calls.Load())
	assert.DirExists(t, filepath.Join(dir, "etc"))
}

func TestFailedLayerLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "layer")
	cut := errors.New("cut off")
	err := ensure(context.Background(), dir, func(d string) error {
		require.NoError(t, os.MkdirAll(filepath.Join(d, "half"), 0o755))
		return cut
	})
	require.ErrorIs(t, err, cut)
	assert.NoDirExists(t, dir)
	assert.NoDirExists(t, dir+".new")
	// what a killed run left is no part of the next
	require.NoError(t, os.MkdirAll(filepath.Join(dir+".new", "half"), 0o755))
	require.NoError(t, ensure(context.Background(), dir, func(d string) error { return os.MkdirAll(d, 0o755) }))
	assert.NoDirExists(t, filepath.Join(dir, "half"))
}

func TestChangesLayer(t *testing.T) {
	t.Parallel()
	content, err := embedded()
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, adjust(dir, content))
	for path := range modes {
		assert.Contains(t, content, path, "modes names a file that is not embedded")
	}
	for path, want := range map[string]os.FileMode{"usr/local/sbin/lab-host": 0o755, "etc/sudoers.d/ops": 0o440, "etc/ssh/sshd_config.d/lab.conf": 0o644} {
		st, err := os.Stat(filepath.Join(dir, path))
		require.NoError(t, err)
		assert.Equal(t, want, st.Mode().Perm(), path)
	}
	for _, u := range masked {
		target, err := os.Readlink(filepath.Join(dir, "etc/systemd/system", u))
		require.NoError(t, err)
		assert.Equal(t, "/dev/null", target, u)
	}
	wants := filepath.Join(dir, "etc/systemd/system/sysinit.target.wants/lab-host.service")
	assert.FileExists(t, wants, "the link must lead to the unit")
	assert.True(t, strings.HasPrefix(content["etc/sudoers.d/ops"], User+" "))
}

func TestDigestNamesTheContent(t *testing.T) {
	t.Parallel()
	a := digest(map[string]string{"a": "1", "b": "2"}, []string{"x"})
	assert.Equal(t, a, digest(map[string]string{"b": "2", "a": "1"}, []string{"x"}))
	assert.NotEqual(t, a, digest(map[string]string{"b": "2", "a": "3"}, []string{"x"}))
	assert.NotEqual(t, digest("ab", "c"), digest("a", "bc"))
}
