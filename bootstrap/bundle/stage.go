package bundle

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
)

// smallest is the size in bytes below which an encoding is not worth it: most image manifests and configurations stay
// readable.
const smallest = 4096

// packed knows by its first bytes what is compressed already: gzip, zstd, xz, bzip2. That the content alone decides about
// the encoding makes the bundle independent of the order in which things are added.
func packed(head []byte) bool {
	for _, m := range [][]byte{{0x1f, 0x8b}, {0x28, 0xb5, 0x2f, 0xfd}, {0xfd, '7', 'z', 'X', 'Z', 0}, []byte("BZh")} {
		if bytes.HasPrefix(head, m) {
			return true
		}
	}
	return false
}

// stage streams one blob to its place beside the bundle. A digest that is given is checked.
func (w *Writer) stage(digest string, open func() (io.ReadCloser, error)) (Blob, error) {
	src, err := open()
	if err != nil {
		return Blob{}, err
	}
	b, err := w.write(digest, src)
	return b, errors.Join(err, src.Close())
}

func (w *Writer) write(digest string, src io.Reader) (Blob, error) {
	f, err := os.CreateTemp(w.dir, "blob-*")
	if err != nil {
		return Blob{}, err
	}
	b, err := w.stream(f, src)
	if err == nil && digest != "" && b.Digest != digest {
		err = fmt.Errorf("expected %s, got %s", digest, b.Digest)
	}
	if err == nil && w.asFolder {
		err = errors.Join(f.Chmod(0o644), f.Sync())
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(w.dir, blobPath(b.Stored)))
	}
	if err != nil {
		return Blob{}, errors.Join(err, removeIfThere(f.Name()))
	}
	return b, nil
}

// stream copies, encoding where it helps, and takes both digests on the way.
func (w *Writer) stream(to io.Writer, src io.Reader) (Blob, error) {
	in := bufio.NewReaderSize(src, 256<<10)
	start, err := in.Peek(smallest)
	short := err == io.EOF //nolint:errorlint // an error that only wraps io.EOF is a download that was cut off
	if err != nil && !short {
		return Blob{}, err
	}
	plain := &tally{w: io.Discard, hash: sha256.New()}
	if short || packed(start) {
		plain.w = to
		if _, err := io.Copy(plain, in); err != nil {
			return Blob{}, err
		}
		d := plain.digest()
		return Blob{Digest: d, Size: plain.n, Stored: d, StoredSize: plain.n}, nil
	}
	out := &tally{w: to, hash: sha256.New()}
	enc, err := w.encoder(out)
	if err != nil {
		return Blob{}, err
	}
	plain.w = enc
	_, err = io.Copy(plain, in)
	if err = errors.Join(err, enc.Close()); err != nil {
		return Blob{}, err
	}
	w.encoders.Put(enc)
	return Blob{
		Digest: plain.digest(), Size: plain.n, Encoding: Zstd, Stored: out.digest(), StoredSize: out.n,
	}, nil
}

// tally counts and hashes what passes.
type tally struct {
	w    io.Writer
	hash hash.Hash
	n    int64
}

func (t *tally) Write(p []byte) (int, error) {
	n, err := t.w.Write(p)
	_, _ = t.hash.Write(p[:n]) // a hash never fails
	t.n += int64(n)
	return n, err
}

func (t *tally) digest() string { return "sha256:" + hex.EncodeToString(t.hash.Sum(nil)) }

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
