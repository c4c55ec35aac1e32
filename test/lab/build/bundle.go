package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/catamaran-k8s/catamaran/bootstrap/bundle"
)

// bundlePrograms are what nodes get as files; all other programs are in images alone.
func bundlePrograms() []string {
	return []string{
		"cni/bandwidth", "cni/bridge", "cni/firewall", "cni/flannel", "cni/host-local", "cni/loopback", "cni/portmap", "cni/ptp", "cni/tuning",
		"containerd", "containerd-shim-runc-v2", "ctr", "etcdctl", "kubeadm", "kubectl", "kubelet", "runc",
	}
}

// Bundle makes the lab's bundle of a Kubernetes version, and of the platform if it is asked for, with the product's own code, in folder form, and returns the
// folder. It is in the cache: read it, never write to it.
func Bundle(ctx context.Context, o Options) (string, error) {
	b, err := newBuilder(ctx, o)
	if err != nil {
		return "", err
	}
	c, err := b.all(ctx)
	if err != nil {
		return "", err
	}
	images, err := b.images(ctx, c)
	if err != nil {
		return "", err
	}
	k, err := b.bundleKey(c, images)
	if err != nil {
		return "", err
	}
	dir, _, err := b.store.entry(ctx, "bundle/"+b.release.kubernetes, k, func(dir string) error {
		b.log("bundling %d images", len(images))
		return b.writeBundle(ctx, filepath.Join(dir, bundleName), c, images)
	})
	if err != nil {
		return "", fmt.Errorf("bundle: %w", err)
	}
	return filepath.Join(dir, bundleName), nil
}

const bundleName = "bundle"

// bundleKey is over the content, and over the product's code that writes it.
func (b *builder) bundleKey(c Components, images []Image) (*key, error) {
	k := newKey("bundle", b.release.kubernetes, runtime.GOARCH)
	for _, n := range bundlePrograms() {
		p := c.Programs[n]
		k.add(p.Name, p.Version, p.Source, p.Digest)
	}
	for _, i := range images {
		d, err := i.Digest()
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", i.Ref, err)
		}
		k.add(i.Ref, d.String())
	}
	format := filepath.Join(b.source, "..", "..", "bootstrap", "bundle")
	return k, k.addTree(format, func(name string) bool { return isGoTest(name) || !strings.HasSuffix(name, ".go") })
}

func (b *builder) writeBundle(ctx context.Context, path string, c Components, images []Image) error {
	w, err := bundle.Create(path+"/", bundle.Manifest{Arch: runtime.GOARCH, Kubernetes: b.release.kubernetes})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	for _, n := range bundlePrograms() {
		g.Go(func() error {
			p := c.Programs[n]
			f := bundle.File{Name: p.Name, Version: p.Version, Digest: p.Digest, Size: p.Size, Mode: 0o755, Source: p.Source}
			return w.AddFile(f, func() (io.ReadCloser, error) { return openUntil(ctx, p.Path) })
		})
	}
	for _, i := range images {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return w.AddImage(i.Ref, i.Image)
		})
	}
	if err := g.Wait(); err != nil {
		return errors.Join(err, w.Abort())
	}
	m, err := w.Close()
	if err != nil {
		return err
	}
	var stored int64
	for _, x := range m.Blobs {
		stored += x.StoredSize
	}
	b.log("bundled %d files and %d images, %d MB", len(m.Files), len(m.Images), stored/1_000_000)
	return nil
}

// openUntil opens a file whose reading ends with the context.
func openUntil(ctx context.Context, path string) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{cancelable{ctx, f}, f}, nil
}
