package bundle

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
)

// maxDescribed bounds an image's manifest and configuration, in bytes; registries allow 4 MiB.
const maxDescribed = 4 << 20

// Verify reads everything and returns all problems at once: the digest and size of every blob as it is stored and
// decoded, every other byte of the archive (or file of the folder), and that each image's manifest names exactly the
// blobs that are listed for it. progress, which may be nil, is called by one goroutine at a time with stored bytes.
func (b *Bundle) Verify(ctx context.Context, progress func(done, total int64)) error {
	if b.src == nil {
		return errors.New("bundle: it has a manifest alone, no content")
	}
	v := &verification{bundle: b, report: progress}
	for _, x := range b.Manifest.Blobs {
		v.total += x.StoredSize
	}
	problems := make([]error, len(b.Manifest.Blobs)+len(b.Manifest.Images)+1)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(min(runtime.GOMAXPROCS(0), 4))
	at := 0
	check := func(f func() error) {
		to := &problems[at]
		at++
		g.Go(func() error {
			if ctx.Err() == nil {
				*to = f()
			}
			return ctx.Err()
		})
	}
	for _, x := range b.Manifest.Blobs {
		check(func() error { return v.blob(ctx, x) })
	}
	for _, img := range b.Manifest.Images {
		check(func() error { return b.closure(img) })
	}
	check(func() error { return b.src.rest(ctx) })
	if err := g.Wait(); err != nil {
		return err
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("bundle %s: %w", b.path, err)
	}
	return nil
}

type verification struct {
	bundle *Bundle
	mu     sync.Mutex
	done   int64
	total  int64
	report func(done, total int64)
}

func (v *verification) add(n int) {
	if v.report == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.done += int64(n)
	v.report(v.done, v.total)
}

// blob takes both digests in one pass.
func (v *verification) blob(ctx context.Context, x Blob) error {
	stored, err := v.bundle.src.open(x)
	if err != nil {
		return err
	}
	defer stored.Close() //nolint:errcheck // only read
	in := &tally{w: io.Discard, hash: sha256.New()}
	raw := io.TeeReader(&watched{r: stored, ctx: ctx, add: v.add}, in)
	c, err := newContent(io.NopCloser(raw), x)
	if err != nil {
		return err
	}
	_, decoding := io.CopyBuffer(io.Discard, c, make([]byte, 512<<10))
	if err := c.Close(); err != nil {
		return err
	}
	// a decoder that failed has not read to the end
	if _, err := io.Copy(io.Discard, raw); err != nil {
		return fmt.Errorf("blob %s: %w", x.Digest, err)
	}
	if got := in.digest(); got != x.Stored || in.n != x.StoredSize {
		return fmt.Errorf("blob %s is damaged: %s has %d bytes with digest %s, expected %d", x.Digest, blobPath(x.Stored), in.n, got, x.StoredSize)
	}
	return decoding
}

// watched stops reading when the context ends, and counts.
type watched struct {
	r   io.Reader
	ctx context.Context
	add func(n int)
}

func (w *watched) Read(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := w.r.Read(p)
	w.add(n)
	return n, err
}

// closure compares an image's manifest with the blobs listed for it.
func (b *Bundle) closure(img Image) error {
	m, err := b.imageManifest(img)
	if err != nil {
		return fmt.Errorf("image %s: %w", img.Ref, err)
	}
	want := []string{img.Digest, m.Config.Digest.String()}
	sizes := []int64{-1, m.Config.Size}
	for _, l := range m.Layers {
		want, sizes = append(want, l.Digest.String()), append(sizes, l.Size)
	}
	if !slices.Equal(want, img.Blobs) {
		return fmt.Errorf("image %s: its manifest names other blobs than are listed", img.Ref)
	}
	for i, d := range want {
		if x, _ := b.Blob(d); sizes[i] >= 0 && x.Size != sizes[i] {
			return fmt.Errorf("image %s: its manifest says that %s has %d bytes, it has %d", img.Ref, d, sizes[i], x.Size)
		}
	}
	return b.configuration(img)
}

func (b *Bundle) imageManifest(img Image) (*v1.Manifest, error) {
	rc, err := b.described(img.Digest)
	if err != nil {
		return nil, err
	}
	m, err := v1.ParseManifest(rc)
	return m, errors.Join(err, rc.Close())
}

func (b *Bundle) configuration(img Image) error {
	rc, err := b.described(img.Blobs[1])
	if err != nil {
		return fmt.Errorf("image %s: %w", img.Ref, err)
	}
	c, err := v1.ParseConfigFile(rc)
	if err = errors.Join(err, rc.Close()); err != nil {
		return fmt.Errorf("image %s: %w", img.Ref, err)
	}
	if a := b.Manifest.Arch; a != "" && c.Architecture != "" && a != c.Architecture {
		return fmt.Errorf("image %s is for %s, the bundle is for %s", img.Ref, c.Architecture, a)
	}
	return nil
}

func (b *Bundle) described(digest string) (io.ReadCloser, error) {
	rc, size, err := b.Content(digest)
	if err != nil {
		return nil, err
	}
	if size > maxDescribed {
		return nil, errors.Join(fmt.Errorf("%s has %d bytes, too many for a manifest or configuration", digest, size), rc.Close())
	}
	return rc, nil
}
