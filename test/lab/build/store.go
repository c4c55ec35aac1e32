package build

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// store is the cache: folders named by the digest of all that they were made from. An entry that is there is complete: it
// grows beside its place, is synced, and then renamed.
type store struct{ root string }

// entry returns the folder of a key, and makes it if it is not there. Of several processes that want the same entry one
// makes it while the others wait; what a killed one left behind is removed by the next.
func (s store) entry(ctx context.Context, name string, k *key, build func(dir string) error) (dir string, made bool, err error) {
	dir = filepath.Join(s.root, name+"-"+k.sum())
	if isDir(dir) {
		return dir, false, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", false, err
	}
	unlock, err := lock(ctx, dir+".lock")
	if err != nil {
		return "", false, err
	}
	defer unlock()
	if isDir(dir) { // another one made it while this one waited
		return dir, false, nil
	}
	if err := s.make(dir, build); err != nil {
		return "", false, err
	}
	return dir, true, nil
}

func (s store) make(dir string, build func(dir string) error) (err error) {
	part := dir + ".part"
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(part))
		}
	}()
	if err := os.Mkdir(part, 0o755); err != nil {
		return err
	}
	if err := build(part); err != nil {
		return err
	}
	if err := syncTree(part); err != nil {
		return err
	}
	if err := os.Rename(part, dir); err != nil {
		return err
	}
	return syncPath(filepath.Dir(dir))
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// lock takes an exclusive lock that the kernel drops when this process ends. Its file stays: who removes a locked file
// lets two in.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	locked := make(chan error, 1)
	go func() {
		for {
			err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
			if err != unix.EINTR {
				locked <- err
				return
			}
		}
	}()
	closeFile := func() { _ = f.Close() } // nothing was written
	select {
	case err := <-locked:
		if err != nil {
			closeFile()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		return closeFile, nil
	case <-ctx.Done():
		go func() { // give it back as soon as it is had
			<-locked
			closeFile()
		}()
		return nil, fmt.Errorf("waiting for another process that builds %s: %w", path, ctx.Err())
	}
}

func syncTree(root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		return syncPath(path)
	})
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// key collects what an entry is made from. Every part has its length before it, so that no two lists give one key.
type key struct{ hash hash.Hash }

func newKey(parts ...string) *key {
	k := &key{sha256.New()}
	k.add(parts...)
	return k
}

// add adds a list of strings as one part.
func (k *key) add(parts ...string) {
	k.size(len(parts))
	for _, p := range parts {
		k.size(len(p))
		io.WriteString(k.hash, p) //nolint:errcheck // a hash does not fail
	}
}

func (k *key) size(n int) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	k.hash.Write(b[:])
}

// addTree adds every file under a folder, by name and content, but those that skip names.
func (k *key) addTree(root string, skip func(name string) bool) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil || d.IsDir() || skip != nil && skip(name) {
			return err
		}
		return k.addFile(name, path)
	})
}

func (k *key) addFile(name, path string) error {
	digest, size, err := digestFile(path)
	if err != nil {
		return err
	}
	k.add(name, digest, fmt.Sprint(size))
	return nil
}

func (k *key) sum() string { return hex.EncodeToString(k.hash.Sum(nil)) }

func digestFile(path string) (digest string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	h := sha256.New()
	size, err = io.Copy(h, f)
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), size, err
}
