package build

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
)

// item is one entry of a layer: a folder (path ends in /), a link, a text or a file. Its parents are made as needed.
type item struct {
	path string // without a leading slash
	mode int64
	link string
	text string
	// file is copied; digest stands for its content.
	file, digest string
}

//go:embed layer.go
var layerSource string

// layer packs items, or finds the layer in the cache. The same items give the same bytes: order, owner and time are fixed.
func (b *builder) layer(ctx context.Context, name string, items []item) (v1.Layer, error) {
	items = slices.Clone(items)
	slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.path, b.path) })
	k := newKey("layer", layerSource, b.tool.goVersion) // archive/tar is Go's
	for _, i := range items {
		k.add(i.path, fmt.Sprint(i.mode), i.link, i.text, i.digest)
	}
	dir, _, err := b.store.entry(ctx, "layer/"+name, k, func(dir string) error {
		d, err := writeLayer(ctx, filepath.Join(dir, layerName), items)
		if err != nil {
			return err
		}
		b.log("packed layer %s, %d MB", name, d.Size/1_000_000)
		return writeJSON(filepath.Join(dir, entryName), d)
	})
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", name, err)
	}
	l := fileLayer{file: filepath.Join(dir, layerName)}
	if err := readJSON(filepath.Join(dir, entryName), &l.layerDigests); err != nil {
		return nil, fmt.Errorf("layer %s: %w", name, err)
	}
	return l, nil
}

const layerName = "layer.tar.gz"

type layerDigests struct {
	Packed   v1.Hash `json:"packed"`
	Unpacked v1.Hash `json:"unpacked"`
	Size     int64   `json:"size"` // bytes, packed
}

func writeLayer(ctx context.Context, file string, items []item) (_ layerDigests, err error) {
	f, err := os.Create(file)
	if err != nil {
		return layerDigests{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	packed, unpacked := sha256.New(), sha256.New()
	// the fastest level: these layers travel over a bridge inside one machine
	zip, err := gzip.NewWriterLevel(io.MultiWriter(f, packed), gzip.BestSpeed)
	if err != nil {
		return layerDigests{}, err
	}
	if err := writeTar(ctx, io.MultiWriter(zip, unpacked), items); err != nil {
		return layerDigests{}, err
	}
	if err := zip.Close(); err != nil {
		return layerDigests{}, err
	}
	size, err := f.Seek(0, io.SeekCurrent)
	return layerDigests{
		Packed:   v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(packed.Sum(nil))},
		Unpacked: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(unpacked.Sum(nil))},
		Size:     size,
	}, err
}

// builtAt is the time of everything in an image.
func builtAt() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

func writeTar(ctx context.Context, to io.Writer, items []item) error {
	tw := tar.NewWriter(to)
	made := map[string]bool{}
	for _, i := range items {
		for _, parent := range parents(i.path) {
			if made[parent] {
				continue
			}
			if err := writeItem(ctx, tw, item{path: parent, mode: 0o755}); err != nil {
				return err
			}
			made[parent] = true
		}
		if made[i.path] {
			return fmt.Errorf("%s is in the layer twice", i.path)
		}
		if err := writeItem(ctx, tw, i); err != nil {
			return fmt.Errorf("%s: %w", i.path, err)
		}
		made[i.path] = true
	}
	return tw.Close()
}

// parents of a/b/c are a/ and a/b/.
func parents(name string) []string {
	var out []string
	for d := path.Dir(strings.TrimSuffix(name, "/")); d != "."; d = path.Dir(d) {
		out = append(out, d+"/")
	}
	slices.Reverse(out)
	return out
}

func writeItem(ctx context.Context, tw *tar.Writer, i item) error {
	h := &tar.Header{Name: i.path, Mode: i.mode, ModTime: builtAt(), Format: tar.FormatPAX, Typeflag: tar.TypeReg}
	switch {
	case strings.HasSuffix(i.path, "/"):
		h.Typeflag = tar.TypeDir
		return tw.WriteHeader(h)
	case i.link != "":
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, i.link, 0o777
		return tw.WriteHeader(h)
	case i.file == "":
		h.Size = int64(len(i.text))
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		_, err := io.WriteString(tw, i.text)
		return err
	}
	f, err := os.Open(i.file)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it was only read
	st, err := f.Stat()
	if err != nil {
		return err
	}
	h.Size = st.Size()
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(tw, cancelable{ctx, f})
	return err
}

// cancelable ends with its context.
type cancelable struct {
	ctx context.Context
	io.Reader
}

func (c cancelable) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.Reader.Read(p)
}

// tree turns a folder into items.
func tree(root string) ([]item, error) {
	var out []item
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		i := item{path: filepath.ToSlash(name)}
		if d.Type()&fs.ModeSymlink != 0 {
			i.link, err = os.Readlink(file)
			out = append(out, i)
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		i.file, i.mode = file, int64(st.Mode().Perm())
		i.digest, _, err = digestFile(file)
		out = append(out, i)
		return err
	})
	return out, err
}

// fileLayer is a layer in the cache.
type fileLayer struct {
	file string
	layerDigests
}

func (l fileLayer) Digest() (v1.Hash, error)            { return l.Packed, nil }
func (l fileLayer) DiffID() (v1.Hash, error)            { return l.Unpacked, nil }
func (l fileLayer) Size() (int64, error)                { return l.layerDigests.Size, nil }
func (l fileLayer) MediaType() (types.MediaType, error) { return types.OCILayer, nil }
func (l fileLayer) Compressed() (io.ReadCloser, error)  { return os.Open(l.file) }
func (l fileLayer) Uncompressed() (io.ReadCloser, error) {
	f, err := os.Open(l.file)
	if err != nil {
		return nil, err
	}
	zip, err := gzip.NewReader(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{zip, f}, nil
}
