package build

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestKeyTellsListsApart(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	for n, k := range []func(*key){
		func(k *key) { k.add("ab", "c") },
		func(k *key) { k.add("a", "bc") },
		func(k *key) { k.add("a", "b", "c") },
		func(k *key) { k.add("a"); k.add("b", "c") },
		func(k *key) { k.add("abc", "") },
		func(*key) {},
	} {
		built := newKey()
		k(built)
		again := newKey()
		k(again)
		assert.Equal(t, built.sum(), again.sum())
		other, dup := seen[built.sum()]
		assert.False(t, dup, "lists %d and %d have one key", other, n)
		seen[built.sum()] = n
	}
}

func TestKeyOfTree(t *testing.T) {
	t.Parallel()
	sum := func(dir string) string {
		k := newKey()
		require.NoError(t, k.addTree(dir, isGoTest))
		return k.sum()
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "go.mod"), "module a")
	write(t, filepath.Join(dir, "stub", "a.go"), "package a")
	before := sum(dir)

	write(t, filepath.Join(dir, "a_test.go"), "package a")
	assert.Equal(t, before, sum(dir), "a test is no part of a program")

	write(t, filepath.Join(dir, "stub", "a.go"), "package b")
	changed := sum(dir)
	assert.NotEqual(t, before, changed, "content")

	require.NoError(t, os.Rename(filepath.Join(dir, "stub", "a.go"), filepath.Join(dir, "stub", "b.go")))
	assert.NotEqual(t, changed, sum(dir), "name")
}

func TestEntryIsThereWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	s := store{t.TempDir()}
	ctx := context.Background()
	broken := errors.New("broken")
	var dir string
	_, _, err := s.entry(ctx, "kind/thing", newKey("1"), func(part string) error {
		dir = part
		write(t, filepath.Join(part, "half"), "x")
		return broken
	})
	require.ErrorIs(t, err, broken)
	assert.NoDirExists(t, dir, "a failed build leaves its half behind")

	write(t, filepath.Join(dir, "half"), "of a process that was killed")
	got, made, err := s.entry(ctx, "kind/thing", newKey("1"), func(part string) error {
		write(t, filepath.Join(part, "whole"), "x")
		final, _ := filepath.Glob(filepath.Join(s.root, "kind", "thing-*[0-9a-f]"))
		assert.Empty(t, final, "the entry can be seen while it is made")
		return nil
	})
	require.NoError(t, err)
	assert.True(t, made)
	assert.FileExists(t, filepath.Join(got, "whole"))
	assert.NoFileExists(t, filepath.Join(got, "half"))

	again, made, err := s.entry(ctx, "kind/thing", newKey("1"), func(string) error { return broken })
	require.NoError(t, err)
	assert.False(t, made)
	assert.Equal(t, got, again)

	_, made, err = s.entry(ctx, "kind/thing", newKey("2"), func(string) error { return nil })
	require.NoError(t, err)
	assert.True(t, made, "another key is another entry")
}

func TestEntryIsMadeOnce(t *testing.T) {
	t.Parallel()
	s := store{t.TempDir()}
	var calls atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			_, _, err := s.entry(context.Background(), "a", newKey(), func(string) error { calls.Add(1); return nil })
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	assert.EqualValues(t, 1, calls.Load())
}

func TestEntryWaitsNoLongerThanItsContext(t *testing.T) {
	t.Parallel()
	s := store{t.TempDir()}
	_, _, err := s.entry(context.Background(), "a", newKey(), func(string) error {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, _, err := s.entry(ctx, "a", newKey(), func(string) error { return errors.New("two builders at once") })
		return err
	})
	require.ErrorIs(t, err, context.Canceled)
	assert.ErrorContains(t, err, "another process")
}

func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
}
