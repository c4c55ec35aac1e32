package bundle

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"
)

// Writer makes a bundle. Its Add methods may be called by several goroutines at once.
type Writer struct {
	path     string // where the bundle will be
	asFolder bool
	dir      string // beside it, where it grows
	encoders sync.Pool

	mu       sync.Mutex
	manifest Manifest
	blobs    map[string]*claim // by content digest
	ended    bool
}

var errClosed = errors.New("the bundle is closed already")

// claim is a blob that somebody adds, or has added.
type claim struct {
	done chan struct{} // closed when it is in place or failed
	blob Blob
	err  error
}

// Create begins a bundle at a path, which keeps what it holds until Close; a path that ends in "/" makes a folder. Of
// head, Created, Arch and Kubernetes count. Call Close or Abort.
func Create(path string, head Manifest) (*Writer, error) {
	asFolder := strings.HasSuffix(path, "/")
	path = filepath.Clean(path)
	if err := replaceable(path, asFolder); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), filepath.Base(path)+".building-*")
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(blobPath(""))), 0o755); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	head.APIVersion, head.Kind = APIVersion, Kind
	head.Files, head.Images, head.Charts, head.Blobs = []File{}, []Image{}, nil, []Blob{}
	return &Writer{path: path, asFolder: asFolder, dir: dir, manifest: head, blobs: map[string]*claim{}}, nil
}

// replaceable refuses to put a bundle where something else is.
func replaceable(path string, asFolder bool) error {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("bundle: %w", err)
	case asFolder && !st.IsDir():
		return fmt.Errorf("bundle %s/: a file has this name", path)
	case !asFolder && st.IsDir():
		return fmt.Errorf("bundle %s: a folder has this name; end it in / to make a bundle that is a folder", path)
	case !asFolder:
		return nil
	}
	inside, err := os.ReadDir(path)
	if err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	for _, e := range inside {
		if e.Name() == manifestName {
			return nil
		}
	}
	if len(inside) > 0 {
		return fmt.Errorf("bundle %s/: the folder holds other things than a bundle", path)
	}
	return nil
}

// AddFile adds a program or archive. f.Digest and f.Size are filled in, and checked where they are given. The same file
// twice is one; another one of the same name is an error.
func (w *Writer) AddFile(f File, open func() (io.ReadCloser, error)) error {
	return w.addFile("file", &w.manifest.Files, f, open)
}

// AddChart adds a chart archive of the site's own, as AddFile does.
func (w *Writer) AddChart(f File, open func() (io.ReadCloser, error)) error {
	return w.addFile("chart", &w.manifest.Charts, f, open)
}

func (w *Writer) addFile(what string, to *[]File, f File, open func() (io.ReadCloser, error)) error {
	if !namePattern.MatchString(f.Name) {
		return fmt.Errorf("%s %q: the name is not allowed", what, f.Name)
	}
	b, err := w.add(f.Digest, open)
	if err != nil {
		return fmt.Errorf("%s %s: %w", what, f.Name, err)
	}
	if f.Size != 0 && f.Size != b.Size {
		return fmt.Errorf("%s %s: it has %d bytes, not %d", what, f.Name, b.Size, f.Size)
	}
	f.Digest, f.Size = b.Digest, b.Size
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, have := range *to {
		if have.Name == f.Name {
			if have.Digest != f.Digest {
				return fmt.Errorf("%s %s: there are two of this name, %s and %s", what, f.Name, have.Digest, f.Digest)
			}
			return nil
		}
	}
	*to = append(*to, f)
	return nil
}

// AddImage adds an image of one architecture, byte by byte as its manifest has it. ref is the whole reference by which
// nodes will ask for it: registry, repository, and tag or digest.
func (w *Writer) AddImage(ref string, img v1.Image) error {
	if err := w.addImage(ref, img); err != nil {
		return fmt.Errorf("image %s: %w", ref, err)
	}
	return nil
}

func (w *Writer) addImage(ref string, img v1.Image) error {
	if _, err := name.ParseReference(ref, name.StrictValidation); err != nil || !refPattern.MatchString(ref) {
		return errors.Join(errors.New("it must be a whole reference: registry/repository:tag"), err)
	}
	m, err := img.Manifest()
	if err != nil {
		return err
	}
	if mt, err := img.MediaType(); err != nil || !mt.IsImage() {
		return errors.Join(fmt.Errorf("it is of type %q, not an image of one architecture", mt), err)
	}
	if err := w.architecture(img); err != nil {
		return err
	}
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	out := Image{Ref: ref, Digest: digest.String(), Blobs: []string{digest.String(), m.Config.Digest.String()}}
	raw := []struct {
		digest string
		bytes  func() ([]byte, error)
	}{{digest.String(), img.RawManifest}, {m.Config.Digest.String(), img.RawConfigFile}}
	for _, r := range raw {
		if _, err := w.add(r.digest, opener(r.bytes)); err != nil {
			return err
		}
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	if len(layers) != len(m.Layers) {
		return fmt.Errorf("its manifest names %d layers, it has %d", len(m.Layers), len(layers))
	}
	for i, l := range layers {
		d := m.Layers[i].Digest.String()
		if _, err := w.add(d, l.Compressed); err != nil {
			return err
		}
		out.Blobs = append(out.Blobs, d)
	}
	return w.record(out)
}

// architecture refuses an image of another architecture; an image that names none is taken.
func (w *Writer) architecture(img v1.Image) error {
	c, err := img.ConfigFile()
	if err != nil {
		return err
	}
	if want := w.manifest.Arch; c.Architecture != "" && want != "" && c.Architecture != want {
		return fmt.Errorf("it is for %s, the bundle is for %s", c.Architecture, want)
	}
	return nil
}

func (w *Writer) record(img Image) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, have := range w.manifest.Images {
		if have.Ref == img.Ref {
			if have.Digest != img.Digest {
				return fmt.Errorf("there are two of this reference, %s and %s", have.Digest, img.Digest)
			}
			return nil
		}
	}
	w.manifest.Images = append(w.manifest.Images, img)
	return nil
}

func opener(raw func() ([]byte, error)) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		data, err := raw()
		if err != nil {
			return nil, err
		}
		return io.NopCloser(bytes.NewReader(data)), nil
	}
}

// add brings a blob into place, once: who comes second with the same digest waits for the first. An empty digest is
// learnt.
func (w *Writer) add(digest string, open func() (io.ReadCloser, error)) (Blob, error) {
	if digest == "" {
		if err := w.open(); err != nil {
			return Blob{}, err
		}
		b, err := w.stage("", open)
		if err != nil {
			return Blob{}, err
		}
		return b, w.place(b)
	}
	if !digestPattern.MatchString(digest) {
		return Blob{}, fmt.Errorf("digest %q: expected sha256: and 64 hexadecimal digits", digest)
	}
	for {
		c, mine, err := w.claim(digest)
		if err != nil {
			return Blob{}, err
		}
		if mine {
			c.blob, c.err = w.stage(digest, open)
			w.settle(digest, c)
			return c.blob, c.err
		}
		<-c.done
		if c.err == nil {
			return c.blob, nil
		} // the other one failed: try with our own source
	}
}

// open says whether things may still be added.
func (w *Writer) open() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return errClosed
	}
	return nil
}

func (w *Writer) claim(digest string) (c *claim, mine bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return nil, false, errClosed
	}
	if c := w.blobs[digest]; c != nil {
		return c, false, nil
	}
	c = &claim{done: make(chan struct{})}
	w.blobs[digest] = c
	return c, true, nil
}

// settle ends a claim; a failed one is forgotten, so that somebody else may try.
func (w *Writer) settle(digest string, c *claim) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.err != nil && w.blobs[digest] == c {
		delete(w.blobs, digest)
	}
	close(c.done)
}

// place records a blob whose digest was learnt. Its bytes are those of any other with this digest.
func (w *Writer) place(b Blob) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return errClosed
	}
	c := &claim{done: make(chan struct{}), blob: b}
	close(c.done)
	w.blobs[b.Digest] = c
	return nil
}

// encoder takes one out of the pool. One goroutine each: whole blobs are what runs in parallel.
func (w *Writer) encoder(to io.Writer) (*zstd.Encoder, error) {
	if e, ok := w.encoders.Get().(*zstd.Encoder); ok {
		e.Reset(to)
		return e, nil
	}
	return zstd.NewWriter(to, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault))
}
