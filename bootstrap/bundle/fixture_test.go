package bundle

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"
)

// noise is bytes that do not compress; prose is bytes that do.
func noise(seed uint64, size int) []byte {
	out := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(out) // never fails
	return out
}

func prose(seed uint64, size int) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	var b bytes.Buffer
	for b.Len() < size {
		fmt.Fprintf(&b, "line %d of the text of seed %d\n", r.IntN(1000), seed)
	}
	return b.Bytes()[:size]
}

func opens(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

// zipped is a layer as registries have it, tarred one as some builders leave it.
func zipped(t testing.TB, content []byte) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(content)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return static.NewLayer(b.Bytes(), types.DockerLayer)
}

func tarred(content []byte) v1.Layer { return static.NewLayer(content, types.OCIUncompressedLayer) }

func image(t testing.TB, arch string, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: arch, RootFS: v1.RootFS{Type: "layers"}})
	require.NoError(t, err)
	img, err = mutate.AppendLayers(img, layers...)
	require.NoError(t, err)
	return img
}

// sample adds one of everything: a large file that compresses, one that does not, a tiny and an empty one, twins, a
// compressed one, images that share a layer, an uncompressed layer, a chart.
func sample(t testing.TB, w *Writer) {
	t.Helper()
	text := prose(1, 60_000)
	for name, data := range map[string][]byte{
		"kubelet": text, "kubelet-twin": text, "runc": noise(2, 5_000), "tiny": []byte("#!/bin/sh\n"), "empty": {},
		"cni/bridge": append([]byte{0x1f, 0x8b}, prose(3, 5_000)...),
	} {
		require.NoError(t, w.AddFile(File{Name: name, Version: "1.2.3", Mode: 0o755, Source: "https://example.org/" + name}, opens(data)))
	}
	base := zipped(t, prose(4, 20_000))
	require.NoError(t, w.AddImage("registry.k8s.io/one:v1", image(t, "amd64", base, tarred(prose(5, 20_000)))))
	require.NoError(t, w.AddImage("registry.k8s.io/two:v1", image(t, "amd64", base, zipped(t, prose(6, 8_000)), base)))
	require.NoError(t, w.AddChart(File{Name: "own", Version: "0.1.0", Mode: 0o644}, opens(noise(7, 700))))
}

func build(t testing.TB, path string, fill func(testing.TB, *Writer)) Manifest {
	t.Helper()
	w, err := Create(path, Manifest{Arch: "amd64", Kubernetes: "1.37.2"})
	require.NoError(t, err)
	fill(t, w)
	m, err := w.Close()
	require.NoError(t, err)
	require.NoError(t, w.Abort(), "harmless after Close")
	return m
}

func opened(t testing.TB, path string) *Bundle {
	t.Helper()
	b, err := Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

func read(t testing.TB, b *Bundle, digest string) []byte {
	t.Helper()
	rc, size, err := b.Content(digest)
	require.NoError(t, err)
	data, err := io.ReadAll(rc)
	require.NoError(t, err)
	require.NoError(t, rc.Close())
	require.Len(t, data, int(size))
	require.Equal(t, digest, digestOf(data))
	return data
}

// inMemory opens an archive's bytes.
func inMemory(data []byte) (*Bundle, error) {
	a, h, err := openArchive(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, err
	}
	return &Bundle{Manifest: h.Manifest, Digest: h.digest, path: "memory", src: a}, nil
}

func verify(b *Bundle) error { return b.Verify(context.Background(), nil) }

// alone asserts that nothing but the named entries is in a folder.
func alone(t testing.TB, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	got := []string{}
	for _, e := range entries {
		got = append(got, e.Name())
	}
	require.ElementsMatch(t, names, got, "left behind in %s", filepath.Base(dir))
}

// failing is a reader that always fails.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// lost is a layer that the registry names and does not have.
type lost struct{ v1.Layer }

func (lost) Compressed() (io.ReadCloser, error) { return nil, errors.New("404") }
