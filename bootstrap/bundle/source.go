package bundle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// source is where stored bytes come from: an archive or a folder. It is safe for concurrent use.
type source interface {
	// open returns the stored bytes of a blob, unchecked.
	open(b Blob) (io.ReadCloser, error)
	// rest checks every byte that is not a blob's.
	rest(ctx context.Context) error
	Close() error
}

// archive is a tar file.
type archive struct {
	r       io.ReaderAt
	entries []entry
	at      map[string]entry // by name
	total   int64
	close   func() error
}

// errForeign is what a file says that never was a bundle.
var errForeign = errors.New("it is not a bundle (it does not begin with " + manifestName + ")")

// openArchive reads the manifest and compares the archive's size and headers with what follows from it.
func openArchive(r io.ReaderAt, size int64) (*archive, head, error) {
	data, err := readManifest(r, size)
	if err != nil {
		return nil, head{}, err
	}
	h, err := decode(data)
	if err != nil {
		return nil, head{}, err
	}
	a := &archive{r: r, at: map[string]entry{}, close: func() error { return nil }}
	if a.entries, a.total, err = layout(data, h.Blobs); err != nil {
		return nil, head{}, err
	}
	switch {
	case size < a.total:
		return nil, head{}, fmt.Errorf("it is cut off: it has %d bytes of %d; copy it again", size, a.total)
	case size > a.total:
		return nil, head{}, fmt.Errorf("it has %d bytes behind its end", size-a.total)
	}
	for _, e := range a.entries {
		if err := a.equal(e.at, e.header); err != nil {
			return nil, head{}, fmt.Errorf("header of %s: %w", e.name, err)
		}
		a.at[e.name] = e
	}
	if err := a.equal(a.entries[1].data(), []byte(h.sumLine())); err != nil {
		return nil, head{}, fmt.Errorf("%s is not the digest of %s: %w", sumName, manifestName, err)
	}
	return a, h, nil
}

// readManifest reads the first member. Its header has one form only, given its size.
func readManifest(r io.ReaderAt, size int64) ([]byte, error) {
	var head [block]byte
	n, err := r.ReadAt(head[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if !bytes.HasPrefix(head[:n], []byte(manifestName+"\x00")) {
		return nil, errForeign
	}
	if n < block {
		return nil, fmt.Errorf("it is cut off: it has %d bytes; copy it again", size)
	}
	length, err := strconv.ParseInt(strings.Trim(string(head[124:136]), " \x00"), 8, 64)
	if err != nil || length < 0 || length > maxManifest {
		return nil, errors.New("the header of " + manifestName + " is damaged; copy it again")
	}
	want, err := header(manifestName, length)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(head[:], want) {
		return nil, errors.New("the header of " + manifestName + " is damaged; copy it again")
	}
	if size < block+length {
		return nil, fmt.Errorf("it is cut off: it has %d bytes, and its manifest alone has %d; copy it again", size, length)
	}
	data := make([]byte, length)
	if _, err := r.ReadAt(data, block); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return data, nil
}

// equal compares the bytes at an offset.
func (a *archive) equal(at int64, want []byte) error {
	got := make([]byte, len(want))
	if n, err := a.r.ReadAt(got, at); n < len(got) {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("the bytes at %d are not as written", at)
	}
	return nil
}

func (a *archive) open(b Blob) (io.ReadCloser, error) {
	e, ok := a.at[blobPath(b.Stored)]
	if !ok {
		return nil, fmt.Errorf("%s: %w", blobPath(b.Stored), fs.ErrNotExist)
	}
	return io.NopCloser(io.NewSectionReader(a.r, e.data(), e.size)), nil
}

// rest checks the padding; headers and manifest were checked when the archive was opened.
func (a *archive) rest(context.Context) error {
	var problems []error
	zero := func(from, to int64) {
		if err := a.equal(from, make([]byte, to-from)); err != nil {
			problems = append(problems, err)
		}
	}
	for _, e := range a.entries {
		zero(e.data()+e.size, e.end())
	}
	zero(a.total-trailer, a.total)
	return errors.Join(problems...)
}

func (a *archive) Close() error { return a.close() }

// folder is a bundle whose members are files. Nothing outside it is followed.
type folder struct {
	root  *os.Root
	known map[string]bool
}

func openFolder(path string) (*folder, head, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, head{}, err
	}
	f := &folder{root: root, known: map[string]bool{manifestName: true, sumName: true}}
	h, err := f.manifest()
	if err != nil {
		return nil, head{}, errors.Join(err, root.Close())
	}
	return f, h, nil
}

func (f *folder) manifest() (head, error) {
	data, err := f.small(manifestName, maxManifest)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return head{}, errors.New("it is not a bundle (it holds no " + manifestName + ")")
	case err != nil:
		return head{}, err
	}
	h, err := decode(data)
	if err != nil {
		return head{}, err
	}
	sum, err := f.small(sumName, block)
	if err != nil {
		return head{}, err
	}
	if string(sum) != h.sumLine() {
		return head{}, errors.New(sumName + " is not the digest of " + manifestName)
	}
	var problems []error
	for _, b := range storedOnce(h.Blobs) {
		name := blobPath(b.Stored)
		f.known[name] = true
		st, err := f.root.Lstat(name)
		switch {
		case err != nil:
			problems = append(problems, err)
		case !st.Mode().IsRegular():
			problems = append(problems, fmt.Errorf("%s is not a file", name))
		case st.Size() != b.StoredSize:
			problems = append(problems, fmt.Errorf("%s has %d bytes of %d; copy it again", name, st.Size(), b.StoredSize))
		}
	}
	return h, errors.Join(problems...)
}

func (f *folder) small(name string, limit int64) ([]byte, error) {
	r, err := f.root.Open(name)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return data, nil
}

func (f *folder) open(b Blob) (io.ReadCloser, error) { return f.root.Open(blobPath(b.Stored)) }

// rest finds files that nobody listed.
func (f *folder) rest(context.Context) error {
	var problems []error
	err := fs.WalkDir(f.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.IsDir() && !f.known[name] {
			problems = append(problems, fmt.Errorf("%s is not listed in %s", name, manifestName))
		}
		return nil
	})
	return errors.Join(append(problems, err)...)
}

func (f *folder) Close() error { return f.root.Close() }
