package bundle

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// Bundle is an opened bundle. It is safe for concurrent use. One that is made of a Manifest alone answers File, Image and
// Blob, but has no content.
type Bundle struct {
	Manifest Manifest
	// Digest is the manifest's, and stands for the whole bundle: everything inside is under it. Empty unless opened.
	Digest string

	path string
	src  source

	once   sync.Once
	files  map[string]File
	images map[string]Image
	blobs  map[string]Blob
}

// Open opens a bundle: a tar file or a folder. It reads and checks the manifest, and that every blob is there with its
// size; digests are checked when content is read, or all of them by Verify.
func Open(path string) (*Bundle, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	b := &Bundle{path: path}
	open := openFile
	if st.IsDir() {
		open = openDirectory
	}
	src, h, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", path, err)
	}
	b.src, b.Manifest, b.Digest = src, h.Manifest, h.digest
	return b, nil
}

func openDirectory(path string) (source, head, error) {
	f, h, err := openFolder(path)
	if err != nil {
		return nil, head{}, err
	}
	return f, h, nil
}

func openFile(path string) (source, head, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, head{}, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, head{}, errors.Join(err, f.Close())
	}
	if !st.Mode().IsRegular() {
		return nil, head{}, errors.Join(errors.New("it is neither a file nor a folder"), f.Close())
	}
	a, h, err := openArchive(f, st.Size())
	if err != nil {
		return nil, head{}, errors.Join(err, f.Close())
	}
	a.close = f.Close
	return a, h, nil
}

// Close closes the bundle. Content that is still being read fails.
func (b *Bundle) Close() error {
	if b.src == nil {
		return nil
	}
	return b.src.Close()
}

func (b *Bundle) index() {
	b.once.Do(func() {
		b.files, b.images, b.blobs = map[string]File{}, map[string]Image{}, map[string]Blob{}
		for _, f := range b.Manifest.Files {
			b.files[f.Name] = f
		}
		for _, i := range b.Manifest.Images {
			b.images[i.Ref] = i
		}
		for _, x := range b.Manifest.Blobs {
			b.blobs[x.Digest] = x
		}
	})
}

// File finds a program or archive for nodes by its name.
func (b *Bundle) File(name string) (File, bool) {
	b.index()
	f, ok := b.files[name]
	return f, ok
}

// Image finds an image by its whole reference.
func (b *Bundle) Image(ref string) (Image, bool) {
	b.index()
	i, ok := b.images[ref]
	return i, ok
}

// Blob finds a blob by the digest of its content.
func (b *Bundle) Blob(digest string) (Blob, bool) {
	b.index()
	x, ok := b.blobs[digest]
	return x, ok
}

// Content returns the decoded bytes of a blob and their number. They are checked while they are read: of a blob that is
// damaged, the last Read returns an error instead of io.EOF, and the last bytes are withheld.
func (b *Bundle) Content(digest string) (io.ReadCloser, int64, error) {
	x, ok := b.Blob(digest)
	if !ok {
		return nil, 0, fmt.Errorf("bundle %s: no blob %s", b.path, digest)
	}
	if b.src == nil {
		return nil, 0, errors.New("bundle: it has a manifest alone, no content")
	}
	stored, err := b.src.open(x)
	if err != nil {
		return nil, 0, fmt.Errorf("bundle %s: %w", b.path, err)
	}
	rc, err := newContent(stored, x)
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("bundle %s: %w", b.path, err), stored.Close())
	}
	return rc, x.Size, nil
}
