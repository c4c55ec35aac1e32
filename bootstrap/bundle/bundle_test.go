package bundle

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"site.bundle", "site/"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			m := build(t, dir+"/"+name, sample)
			b := opened(t, dir+"/"+name)
			assert.Equal(t, m, b.Manifest)
			assert.Equal(t, "amd64", m.Arch)
			assert.Equal(t, "1.37.2", m.Kubernetes)

			f, ok := b.File("kubelet")
			require.True(t, ok)
			assert.Equal(t, File{
				Name: "kubelet", Version: "1.2.3", Digest: digestOf(prose(1, 60_000)), Size: 60_000, Mode: 0o755,
				Source: "https://example.org/kubelet",
			}, f)
			assert.Equal(t, prose(1, 60_000), read(t, b, f.Digest))
			x, ok := b.Blob(f.Digest)
			require.True(t, ok)
			assert.Equal(t, Zstd, x.Encoding)
			assert.Less(t, x.StoredSize, x.Size/4)

			for _, asIs := range []string{"tiny", "empty", "cni/bridge"} {
				f, ok := b.File(asIs)
				require.True(t, ok)
				x, ok := b.Blob(f.Digest)
				require.True(t, ok)
				assert.Equal(t, Blob{Digest: f.Digest, Size: f.Size, Stored: f.Digest, StoredSize: f.Size}, x, "%s is stored as it is", asIs)
				read(t, b, f.Digest)
			}

			want := image(t, "amd64", zipped(t, prose(4, 20_000)), tarred(prose(5, 20_000)))
			img, ok := b.Image("registry.k8s.io/one:v1")
			require.True(t, ok)
			digest, err := want.Digest()
			require.NoError(t, err)
			assert.Equal(t, digest.String(), img.Digest)
			raw, err := want.RawManifest()
			require.NoError(t, err)
			assert.Equal(t, raw, read(t, b, img.Blobs[0]))
			config, err := want.RawConfigFile()
			require.NoError(t, err)
			assert.Equal(t, config, read(t, b, img.Blobs[1]))
			layers, err := want.Layers()
			require.NoError(t, err)
			for i, l := range layers {
				rc, err := l.Compressed()
				require.NoError(t, err)
				data, err := io.ReadAll(rc)
				require.NoError(t, err)
				assert.Equal(t, data, read(t, b, img.Blobs[2+i]), "layers are not recompressed")
			}
			two, ok := b.Image("registry.k8s.io/two:v1")
			require.True(t, ok)
			assert.Equal(t, two.Blobs[2], two.Blobs[4], "a layer that is there twice is listed twice")

			_, ok = b.File("own")
			assert.False(t, ok, "charts are not files")
			_, ok = b.Image("registry.k8s.io/one")
			assert.False(t, ok)
			_, _, err = b.Content("sha256:" + fmt.Sprintf("%064d", 0))
			require.ErrorContains(t, err, "no blob sha256:000")
			require.NoError(t, verify(b))
			alone(t, dir, filepath.Base(name))
		})
	}
}

func TestFolderEqualsFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	build(t, dir+"/site.bundle", sample)
	build(t, dir+"/site/", sample)
	// tar itself, which is not our code, unpacks the file into that folder
	require.NoError(t, os.Mkdir(dir+"/unpacked", 0o755))
	out, err := exec.Command("tar", "-xf", dir+"/site.bundle", "-C", dir+"/unpacked").CombinedOutput()
	require.NoError(t, err, string(out))
	out, err = exec.Command("diff", "-r", dir+"/unpacked", dir+"/site").CombinedOutput()
	require.NoError(t, err, string(out))
	sums := exec.Command("sha256sum", "-c", "bundle.json.sha256")
	sums.Dir = dir + "/unpacked"
	out, err = sums.CombinedOutput()
	require.NoError(t, err, string(out))
	file, unpacked := opened(t, dir+"/site.bundle"), opened(t, dir+"/unpacked")
	assert.Equal(t, file.Digest, unpacked.Digest)
	require.NoError(t, verify(unpacked))
}

func TestDeterminism(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	build(t, dir+"/one", sample)
	// the same things from many goroutines at once, each added several times, in whatever order they come
	build(t, dir+"/two", func(t testing.TB, w *Writer) {
		var g sync.WaitGroup
		for range 4 {
			g.Go(func() { sample(t, w) })
		}
		g.Wait()
	})
	one, err := os.ReadFile(dir + "/one")
	require.NoError(t, err)
	two, err := os.ReadFile(dir + "/two")
	require.NoError(t, err)
	assert.True(t, bytes.Equal(one, two), "two builds of the same input differ")
}

func TestDeduplication(t *testing.T) {
	t.Parallel()
	base := prose(10, 200_000)
	var asked atomic.Int32
	path := filepath.Join(t.TempDir(), "b")
	m := build(t, path, func(t testing.TB, w *Writer) {
		for i := range 5 {
			ref := fmt.Sprintf("registry.k8s.io/image-%d:v1", i)
			require.NoError(t, w.AddImage(ref, image(t, "amd64", zipped(t, base), tarred(base), zipped(t, prose(uint64(i), 100)))))
		}
		for i := range 5 {
			require.NoError(t, w.AddFile(File{Name: fmt.Sprintf("f%d", i), Version: "1", Digest: digestOf(base)}, func() (io.ReadCloser, error) {
				asked.Add(1)
				return opens(base)()
			}))
		}
	})
	// 5 manifests, 5 configurations, 5 small layers; the zipped base once, and the plain one once for layers and files
	assert.Len(t, m.Blobs, 17)
	assert.Zero(t, asked.Load(), "what is known to be inside is not even opened")
	var stored, plain int64
	for _, b := range m.Blobs {
		stored += b.StoredSize
	}
	for _, i := range m.Images {
		for _, d := range i.Blobs {
			for _, b := range m.Blobs {
				if b.Digest == d {
					plain += b.Size
				}
			}
		}
	}
	plain += 5 * 200_000
	t.Logf("%d bytes are stored in %d", plain, stored)
	assert.Less(t, stored, plain/20)
}

func TestOneDownloadForManyCallers(t *testing.T) {
	t.Parallel()
	data := noise(1, 100_000)
	var opened atomic.Int32
	build(t, filepath.Join(t.TempDir(), "b"), func(t testing.TB, w *Writer) {
		var g sync.WaitGroup
		for i := range 8 {
			g.Go(func() {
				assert.NoError(t, w.AddFile(File{Name: fmt.Sprintf("f%d", i), Version: "1", Digest: digestOf(data)}, func() (io.ReadCloser, error) {
					opened.Add(1)
					return opens(data)()
				}))
			})
		}
		g.Wait()
	})
	assert.EqualValues(t, 1, opened.Load())
}

// A source that fails must not spoil the blob for others who have a good one.
func TestFailedSourceLeavesRoom(t *testing.T) {
	t.Parallel()
	data, broken := prose(1, 50_000), errors.New("the line is cut")
	path := filepath.Join(t.TempDir(), "b")
	m := build(t, path, func(t testing.TB, w *Writer) {
		f := File{Name: "f", Version: "1", Digest: digestOf(data)}
		bad := func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(data[:20_000]), failing{broken})), nil
		}
		require.ErrorIs(t, w.AddFile(f, bad), broken)
		require.ErrorContains(t, w.AddFile(f, opens(data[1:])), "expected sha256:")
		require.NoError(t, w.AddFile(f, opens(data)))
		// an image that fails half way leaves no blob behind
		img := image(t, "amd64", tarred(prose(8, 9_000)), lost{zipped(t, nil)})
		require.Error(t, w.AddImage("registry.k8s.io/x:v1", img))
	})
	assert.Len(t, m.Blobs, 1)
	assert.Empty(t, m.Images)
	require.NoError(t, verify(opened(t, path)))
}

func TestConcurrentReaders(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "b")
	build(t, path, sample)
	b := opened(t, path)
	var g sync.WaitGroup
	for range 8 {
		g.Go(func() {
			for _, x := range b.Manifest.Blobs {
				rc, _, err := b.Content(x.Digest)
				if err != nil {
					t.Error(err)
					return
				}
				data, err := io.ReadAll(rc)
				assert.NoError(t, err)
				assert.NoError(t, rc.Close())
				assert.Equal(t, x.Digest, digestOf(data))
			}
		})
	}
	g.Wait()
}

func TestManifestAlone(t *testing.T) {
	t.Parallel()
	b := &Bundle{Manifest: Manifest{Files: []File{{Name: "runc", Digest: "sha256:x"}}, Blobs: []Blob{{Digest: "sha256:x"}}}}
	_, ok := b.File("runc")
	assert.True(t, ok)
	_, ok = b.Blob("sha256:x")
	assert.True(t, ok)
	_, _, err := b.Content("sha256:x")
	require.ErrorContains(t, err, "a manifest alone")
	require.ErrorContains(t, verify(b), "a manifest alone")
	assert.NoError(t, b.Close())
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w, err := Create(dir+"/b", Manifest{Arch: "amd64"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.Abort() })
	require.NoError(t, os.WriteFile(dir+"/file", nil, 0o600))
	require.NoError(t, os.MkdirAll(dir+"/other/things", 0o700))
	create := func(path string) error { _, err := Create(path, Manifest{}); return err }
	img, other := image(t, "amd64", zipped(t, nil)), image(t, "amd64")
	require.NoError(t, w.AddFile(File{Name: "runc", Version: "1"}, opens([]byte("a"))))
	require.NoError(t, w.AddFile(File{Name: "runc", Version: "1"}, opens([]byte("a"))), "the same again is fine")
	require.NoError(t, w.AddImage("registry.k8s.io/a:v1", img))
	for want, err := range map[string]error{
		"there are two of this name":            w.AddFile(File{Name: "runc", Version: "2"}, opens([]byte("b"))),
		"it has 1 bytes, not 5":                 w.AddFile(File{Name: "x", Size: 5}, opens([]byte("b"))),
		`"../etc/passwd": the name`:             w.AddFile(File{Name: "../etc/passwd"}, opens(nil)),
		`"/etc/passwd": the name`:               w.AddFile(File{Name: "/etc/passwd"}, opens(nil)),
		"digest \"md5:1\"":                      w.AddFile(File{Name: "x", Digest: "md5:1"}, opens(nil)),
		"image kube: it must be a whole":        w.AddImage("kube", img),
		"image a.b/kube: it must be":            w.AddImage("a.b/kube", img),
		"it is for arm64, the bundle is for":    w.AddImage("registry.k8s.io/b:v1", image(t, "arm64")),
		"there are two of this reference":       w.AddImage("registry.k8s.io/a:v1", other),
		"file gone: open /nowhere: no such":     w.AddFile(File{Name: "gone"}, func() (io.ReadCloser, error) { return os.Open("/nowhere") }),
		"a folder has this name":                create(dir),
		"a file has this name":                  create(dir + "/file/"),
		"the folder holds other things than a ": create(dir + "/other/"),
		"no such file or directory":             create(dir + "/nowhere/b"),
	} {
		require.ErrorContains(t, err, want)
	}
}

// Close and Abort leave what was there, or the new one, and nothing beside.
func TestReplacing(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"b", "b/"} {
		dir := t.TempDir()
		build(t, dir+"/"+name, sample)
		before := opened(t, dir+"/"+name).Digest

		w, err := Create(dir+"/"+name, Manifest{Arch: "arm64"})
		require.NoError(t, err)
		require.NoError(t, w.AddFile(File{Name: "x", Version: "1"}, opens([]byte("new"))))
		require.NoError(t, w.Abort())
		require.ErrorIs(t, w.AddFile(File{Name: "y", Version: "1"}, opens(nil)), errClosed)
		_, err = w.Close()
		require.ErrorIs(t, err, errClosed)
		alone(t, dir, "b")
		assert.Equal(t, before, opened(t, dir+"/"+name).Digest)

		build(t, dir+"/"+name, func(t testing.TB, w *Writer) {
			require.NoError(t, w.AddFile(File{Name: "x", Version: "1"}, opens([]byte("new"))))
		})
		alone(t, dir, "b")
		after := opened(t, dir+"/"+name)
		assert.NotEqual(t, before, after.Digest)
		require.NoError(t, verify(after), "no blob of the old one is in the new folder")
	}
}

// The encoded form of one blob can be a blob of its own.
func TestBlobThatIsAnothersEncoding(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := prose(1, 10_000)
	m := build(t, dir+"/one", func(t testing.TB, w *Writer) {
		require.NoError(t, w.AddFile(File{Name: "a", Version: "1"}, opens(text)))
	})
	encoded, err := fs.ReadFile(os.DirFS(dir), "one")
	require.NoError(t, err)
	b, err := inMemory(encoded)
	require.NoError(t, err)
	rc, err := b.src.open(m.Blobs[0])
	require.NoError(t, err)
	z, err := io.ReadAll(rc)
	require.NoError(t, err)
	build(t, dir+"/two", func(t testing.TB, w *Writer) {
		require.NoError(t, w.AddFile(File{Name: "a", Version: "1"}, opens(text)))
		require.NoError(t, w.AddFile(File{Name: "b", Version: "1"}, opens(z)))
	})
	two := opened(t, dir+"/two")
	require.Len(t, two.Manifest.Blobs, 2)
	assert.Equal(t, two.Manifest.Blobs[0].Stored, two.Manifest.Blobs[1].Stored)
	require.NoError(t, verify(two))
	assert.Equal(t, text, read(t, two, digestOf(text)))
	assert.Equal(t, z, read(t, two, digestOf(z)))
}
