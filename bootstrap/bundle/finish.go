package bundle

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Close writes the manifest and puts the bundle in its place: all of it, on disk, or nothing.
func (w *Writer) Close() (Manifest, error) {
	m, err := w.finish()
	if err != nil {
		return Manifest{}, errors.Join(fmt.Errorf("bundle %s: %w", w.path, err), w.Abort())
	}
	return m, nil
}

// Abort throws away what was written; what lay at the path before stays. It is harmless after Close.
func (w *Writer) Abort() error {
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	return os.RemoveAll(w.dir)
}

func (w *Writer) finish() (Manifest, error) {
	m, err := w.seal()
	if err != nil {
		return m, err
	}
	data, err := encode(m)
	if err != nil {
		return m, err
	}
	h, err := decode(data)
	if err != nil {
		return m, err
	}
	if err := w.prune(h.Blobs); err != nil {
		return m, err
	}
	if w.asFolder {
		return m, w.finishFolder(data, h)
	}
	return m, w.finishFile(data, h)
}

// seal ends the adding and returns the manifest in its order, with the blobs that something refers to: those of an image
// that failed half way are left out.
func (w *Writer) seal() (Manifest, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return Manifest{}, errClosed
	}
	w.ended = true
	m := w.manifest
	used := map[string]bool{}
	for _, f := range append(append([]File{}, m.Files...), m.Charts...) {
		used[f.Digest] = true
	}
	for _, i := range m.Images {
		for _, d := range i.Blobs {
			used[d] = true
		}
	}
	for d, c := range w.blobs {
		if used[d] {
			m.Blobs = append(m.Blobs, c.blob)
		}
	}
	m.arrange()
	return m, nil
}

// prune removes staged files that are not part of the bundle.
func (w *Writer) prune(blobs []Blob) error {
	keep := map[string]bool{}
	for _, b := range blobs {
		keep[filepath.Base(blobPath(b.Stored))] = true
	}
	dir := filepath.Join(w.dir, filepath.Dir(blobPath("")))
	have, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range have {
		if !keep[e.Name()] {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *Writer) finishFile(manifest []byte, h head) error {
	f, err := os.CreateTemp(w.dir, "archive-*")
	if err != nil {
		return err
	}
	err = errors.Join(w.archive(f, manifest, h), f.Chmod(0o644), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), w.path); err != nil {
		return err
	}
	return errors.Join(syncDir(filepath.Dir(w.path)), os.RemoveAll(w.dir))
}

// archive writes the tar. Staged blobs are removed one by one, so that the disk holds the bundle once, not twice.
func (w *Writer) archive(to io.Writer, manifest []byte, h head) error {
	entries, _, err := layout(manifest, h.Blobs)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(to, 1<<20)
	small := map[string][]byte{manifestName: manifest, sumName: []byte(h.sumLine())}
	for _, e := range entries {
		if _, err := out.Write(e.header); err != nil {
			return err
		}
		if data, ok := small[e.name]; ok {
			_, err = out.Write(data)
		} else {
			err = w.move(out, e)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
		if _, err := out.Write(make([]byte, padded(e.size)-e.size)); err != nil {
			return err
		}
	}
	if _, err := out.Write(make([]byte, trailer)); err != nil {
		return err
	}
	return out.Flush()
}

func (w *Writer) move(to io.Writer, e entry) error {
	path := filepath.Join(w.dir, e.name)
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	n, err := io.Copy(to, f)
	if err == nil && n != e.size {
		err = fmt.Errorf("it has %d bytes of %d", n, e.size)
	}
	return errors.Join(err, f.Close(), os.Remove(path))
}

func (w *Writer) finishFolder(manifest []byte, h head) error {
	for name, data := range map[string][]byte{manifestName: manifest, sumName: []byte(h.sumLine())} {
		if err := writeSynced(filepath.Join(w.dir, name), data); err != nil {
			return err
		}
	}
	if err := os.Chmod(w.dir, 0o755); err != nil { //nolint:gosec // a bundle holds no secret
		return err
	}
	for _, d := range []string{filepath.Dir(blobPath("")), "blobs", "."} {
		if err := syncDir(filepath.Join(w.dir, d)); err != nil {
			return err
		}
	}
	return w.replaceFolder()
}

// replaceFolder swaps the old folder for the new one. A folder can not be renamed over another: should the machine die
// between the two renames, the old bundle is beside, whole.
func (w *Writer) replaceFolder() error {
	old := w.dir + ".old"
	err := os.Rename(w.path, old)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Rename(w.dir, w.path); err != nil {
		return err
	}
	return errors.Join(syncDir(filepath.Dir(w.path)), os.RemoveAll(old))
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // as above
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// syncDir makes renames inside a folder last.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
