package bundle

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func archiveBytes(t testing.TB) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "b")
	build(t, path, sample)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	return data
}

// No byte of a bundle is without a check: one flipped bit anywhere, be it in padding, a header, the manifest or a blob,
// is found when the bundle is opened or verified.
func TestOneFlippedBit(t *testing.T) {
	t.Parallel()
	data := archiveBytes(t)
	b, err := inMemory(data)
	require.NoError(t, err)
	require.NoError(t, verify(b), "the bundle is good to begin with")
	a, ok := b.src.(*archive)
	require.True(t, ok)
	var where []int64
	for _, e := range a.entries { // the edges of every part
		where = append(where, e.at, e.data()-1, e.end()-1, max(e.data()+e.size-1, e.at), min(e.data()+e.size, e.end()-1))
	}
	for at := int64(0); at < int64(len(data)); at += 97 {
		where = append(where, at)
	}
	unopened := 0
	for _, at := range append(where, int64(len(data)-1)) {
		data[at] ^= 1 << (at % 8)
		b, err := inMemory(data)
		if err == nil {
			err = verify(b)
		} else {
			unopened++
		}
		require.Error(t, err, "the flipped bit at %d was not found", at)
		data[at] ^= 1 << (at % 8)
	}
	t.Logf("%d flips in %d bytes, %d of them found by Open", len(where)+1, len(data), unopened)
	assert.Positive(t, unopened)
	assert.Less(t, unopened, len(where), "most are in blobs")
}

// Wherever it is cut, the error says so; of the first bytes only that it is no bundle.
func TestTruncated(t *testing.T) {
	t.Parallel()
	data := archiveBytes(t)
	dir := t.TempDir()
	for size := 0; size < len(data); size += 97 {
		_, err := inMemory(data[:size])
		want := "it is cut off"
		if size < len(manifestName)+1 {
			want = "it is not a bundle"
		}
		require.ErrorContains(t, err, want, "at %d", size)
	}
	_, err := inMemory(append(bytes.Clone(data), 0))
	require.ErrorContains(t, err, "1 bytes behind its end")
	path := filepath.Join(dir, "cut.bundle")
	require.NoError(t, os.WriteFile(path, data[:len(data)-1], 0o600))
	_, err = Open(path)
	require.ErrorContains(t, err, "bundle "+path+": it is cut off")
}

func TestForeign(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(dir+"/text", []byte("this is a letter"), 0o600))
	require.NoError(t, os.WriteFile(dir+"/empty", nil, 0o600))
	require.NoError(t, os.WriteFile(dir+"/zip", append([]byte("PK\x03\x04"), make([]byte, 4096)...), 0o600))
	require.NoError(t, os.Mkdir(dir+"/folder", 0o700))
	for name, want := range map[string]string{
		"text": "not a bundle", "empty": "not a bundle", "zip": "not a bundle", "folder": "not a bundle", "none": "no such file",
	} {
		_, err := Open(dir + "/" + name)
		require.ErrorContains(t, err, want, name)
		assert.Contains(t, err.Error(), dir+"/"+name)
		assert.NotContains(t, err.Error(), "\n", "one clear line")
	}
	_, err := Open("/dev/null")
	require.ErrorContains(t, err, "neither a file nor a folder")
}

// Content that is damaged is never handed out whole, not even to who counts bytes and does not wait for io.EOF.
func TestDamagedContent(t *testing.T) {
	t.Parallel()
	data := archiveBytes(t)
	good, err := inMemory(data)
	require.NoError(t, err)
	a, ok := good.src.(*archive)
	require.True(t, ok)
	for _, x := range good.Manifest.Blobs {
		if x.Size == 0 {
			continue
		}
		e := a.at[blobPath(x.Stored)]
		damaged := bytes.Clone(data)
		damaged[e.data()+e.size-1] ^= 0x10
		b, err := inMemory(damaged)
		require.NoError(t, err, "Open does not read blobs")
		rc, size, err := b.Content(x.Digest)
		require.NoError(t, err)
		n, err := io.ReadFull(rc, make([]byte, size))
		require.ErrorContains(t, err, "blob "+x.Digest+" is damaged")
		assert.Less(t, int64(n), size)
		_, again := rc.Read(make([]byte, 1))
		assert.Equal(t, err, again, "the error stays")
		require.NoError(t, rc.Close())
		require.ErrorContains(t, verify(b), x.Digest)
	}
}

// The reader of content works with any size of reads, and passes the standard library's test of readers.
func TestContentReader(t *testing.T) {
	t.Parallel()
	b, err := inMemory(archiveBytes(t))
	require.NoError(t, err)
	for _, x := range b.Manifest.Blobs {
		rc, _, err := b.Content(x.Digest)
		require.NoError(t, err)
		data, err := io.ReadAll(iotest.OneByteReader(rc))
		require.NoError(t, err)
		require.Equal(t, x.Digest, digestOf(data))
		rc, _, err = b.Content(x.Digest)
		require.NoError(t, err)
		require.NoError(t, iotest.TestReader(rc, data))
	}
}

// A manifest that promises other sizes than the content has, with digests to match nothing.
func TestLyingSizes(t *testing.T) {
	t.Parallel()
	text := prose(1, 50_000)
	path := filepath.Join(t.TempDir(), "b")
	m := build(t, path, func(t testing.TB, w *Writer) {
		require.NoError(t, w.AddFile(File{Name: "a", Version: "1"}, opens(text)))
	})
	b := opened(t, path)
	for size, digest := range map[int64]string{
		0: m.Blobs[0].Digest, 49_999: m.Blobs[0].Digest, 50_001: m.Blobs[0].Digest,
		49_998: digestOf(text[:49_998]), // right as far as it goes
	} {
		x := m.Blobs[0]
		x.Size, x.Digest = size, digest
		stored, err := b.src.open(x)
		require.NoError(t, err)
		c, err := newContent(stored, x)
		require.NoError(t, err)
		data, err := io.ReadAll(c)
		require.ErrorContains(t, err, "is damaged")
		assert.LessOrEqual(t, int64(len(data)), size, "not a byte more than the manifest says")
	}
}

func TestDamagedFolder(t *testing.T) {
	t.Parallel()
	fresh := func(t *testing.T) (string, Manifest) {
		dir := filepath.Join(t.TempDir(), "b")
		return dir, build(t, dir+"/", sample)
	}
	blob := func(dir string, x Blob) string { return filepath.Join(dir, blobPath(x.Stored)) }
	for name, c := range map[string]struct {
		break_  func(t *testing.T, dir string, m Manifest)
		opens   bool
		says    string
		mention bool
	}{
		"flipped": {func(t *testing.T, dir string, m Manifest) {
			data, err := os.ReadFile(blob(dir, m.Blobs[0]))
			require.NoError(t, err)
			data[len(data)/2] ^= 1
			require.NoError(t, os.WriteFile(blob(dir, m.Blobs[0]), data, 0o600))
		}, true, "is damaged", true},
		"cut":     {func(t *testing.T, dir string, m Manifest) { require.NoError(t, os.Truncate(blob(dir, m.Blobs[0]), 3)) }, false, "has 3 bytes of", false},
		"missing": {func(t *testing.T, dir string, m Manifest) { require.NoError(t, os.Remove(blob(dir, m.Blobs[0]))) }, false, "no such file", false},
		"stranger": {func(t *testing.T, dir string, _ Manifest) {
			require.NoError(t, os.WriteFile(dir+"/blobs/readme", nil, 0o600))
		}, true, "blobs/readme is not listed", false},
		"link": {func(t *testing.T, dir string, m Manifest) {
			require.NoError(t, os.Rename(blob(dir, m.Blobs[0]), dir+"/../elsewhere"))
			require.NoError(t, os.Symlink("../../../elsewhere", blob(dir, m.Blobs[0])))
		}, false, "is not a file", false},
		"manifest": {func(t *testing.T, dir string, _ Manifest) {
			data, err := os.ReadFile(dir + "/bundle.json")
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(dir+"/bundle.json", bytes.Replace(data, []byte("example.org"), []byte("example.com"), 1), 0o600))
		}, false, "bundle.json.sha256 is not the digest of bundle.json", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, m := fresh(t)
			c.break_(t, dir, m)
			b, err := Open(dir)
			if c.opens {
				require.NoError(t, err)
				err = verify(b)
				require.NoError(t, b.Close())
			}
			require.ErrorContains(t, err, c.says)
			if c.mention {
				assert.Contains(t, err.Error(), m.Blobs[0].Stored[len("sha256:"):])
			}
		})
	}
}

func TestVerifyTellsAllAtOnce(t *testing.T) {
	t.Parallel()
	data := archiveBytes(t)
	good, err := inMemory(data)
	require.NoError(t, err)
	a, ok := good.src.(*archive)
	require.True(t, ok)
	for _, e := range a.entries[2:] {
		if e.size > 0 {
			data[e.data()] ^= 1
		}
	}
	data[len(data)-1] = 1
	b, err := inMemory(data)
	require.NoError(t, err)
	err = verify(b)
	for _, x := range b.Manifest.Blobs {
		if x.Size > 0 {
			require.ErrorContains(t, err, x.Digest)
		}
	}
	for _, i := range b.Manifest.Images {
		require.ErrorContains(t, err, i.Ref)
	}
	require.ErrorContains(t, err, "are not as written")
}

func TestVerifyProgressAndStop(t *testing.T) {
	t.Parallel()
	b, err := inMemory(archiveBytes(t))
	require.NoError(t, err)
	var last, total int64
	require.NoError(t, b.Verify(context.Background(), func(done, all int64) {
		assert.GreaterOrEqual(t, done, last)
		last, total = done, all
	}))
	assert.Equal(t, total, last)
	assert.Positive(t, total)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, b.Verify(ctx, nil), context.Canceled)
}

// What the manifest says about itself must fit together, whoever wrote it.
func TestManifestContradictions(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "b")
	m := build(t, path, sample)
	text, err := encode(m)
	require.NoError(t, err)
	other := "sha256:" + strings.Repeat("ab", 32)
	for want, change := range map[string]func(m *Manifest){
		"belongs to no file, image or chart":   func(m *Manifest) { m.Charts = nil },
		"file runc: its blob sha256:abab":      func(m *Manifest) { m.Files[4].Digest = other },
		"image registry.k8s.io/one:v1: its bl": func(m *Manifest) { m.Images[0].Blobs[2] = other },
		"must begin with its manifest":         func(m *Manifest) { m.Images[0].Digest = other },
		"file runc is not in its place":        func(m *Manifest) { m.Files[4], m.Files[5] = m.Files[5], m.Files[4] },
		"file kubelet is not in its place":     func(m *Manifest) { m.Files[3] = m.Files[2]; m.Files[3].Name = "kubelet" },
		"is not in its place, or is there twi": func(m *Manifest) { m.Blobs[1] = m.Blobs[0] },
		"the unknown encoding \"lzma\"":        func(m *Manifest) { m.Blobs[0].Encoding, m.Blobs[0].Stored = "lzma", other },
		"has no encoding, but is stored as":    func(m *Manifest) { m.Blobs[0].Encoding, m.Blobs[0].Stored = "", other },
		"are impossible":                       func(m *Manifest) { m.Blobs[0].Size = -1 },
		"sizes 2":                              func(m *Manifest) { m.Blobs[0].Size = 1 << 41 },
		"mode 10000 is impossible":             func(m *Manifest) { m.Files[0].Mode = 0o10000 },
		"file \"../x\": the name":              func(m *Manifest) { m.Files[0].Name = "../x" },
		"a digest is sha256: and 64":           func(m *Manifest) { m.Blobs[0].Stored = "sha256:../../etc/passwd" },
		"this program reads":                   func(m *Manifest) { m.APIVersion = "catamaran/v2" },
		"file kubelet has 1 bytes, its blob":   func(m *Manifest) { m.Files[2].Size = 1 },
	} {
		var c Manifest
		require.NoError(t, json.Unmarshal(text, &c))
		change(&c)
		data, err := encode(c)
		require.NoError(t, err)
		_, err = decode(data)
		require.ErrorContains(t, err, want)
	}
	_, err = decode(bytes.Replace(text, []byte(`"arch"`), []byte(`"arc"`), 1))
	require.ErrorContains(t, err, `unknown field "arc"`)
	_, err = decode(append(bytes.Clone(text), "{}"...))
	require.ErrorContains(t, err, "after top-level value")
	_, err = decode(text)
	assert.NoError(t, err)
}

// An image's list of blobs in the manifest is compared with what the image itself says.
func TestImageClosure(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "b")
	build(t, path, sample)
	b := opened(t, path)
	one, ok := b.Image("registry.k8s.io/one:v1")
	require.True(t, ok)
	short := one
	short.Blobs = one.Blobs[:3]
	require.ErrorContains(t, b.closure(short), "names other blobs than are listed")
	b.Manifest.Arch = "arm64"
	require.ErrorContains(t, b.closure(one), "is for amd64, the bundle is for arm64")
	runc, ok := b.File("runc")
	require.True(t, ok)
	assert.Error(t, b.closure(Image{Ref: "x", Digest: runc.Digest, Blobs: []string{runc.Digest, runc.Digest}}), "runc is no image")
}

// FuzzOpen throws damaged and foreign archives at the reader: it must refuse or work, and never hand out content whose
// digest is wrong. Since hardly any damage passes the checks of the manifest, the fuzzer's manifest is also put into an
// archive that is right around it, with the fuzzer's bytes as blobs.
func FuzzOpen(f *testing.F) {
	small := filepath.Join(f.TempDir(), "b")
	m := build(f, small, func(t testing.TB, w *Writer) {
		require.NoError(t, w.AddFile(File{Name: "a", Version: "1", Mode: 0o755}, opens([]byte("a file"))))
		require.NoError(t, w.AddFile(File{Name: "b", Version: "1", Mode: 0o755}, opens(prose(1, 5000))))
		require.NoError(t, w.AddImage("registry.k8s.io/a:v1", image(t, "amd64", tarred([]byte("layer")))))
	})
	data, err := os.ReadFile(small)
	require.NoError(f, err)
	manifest, err := encode(m)
	require.NoError(f, err)
	f.Add(data, manifest)
	f.Add(data[:len(data)/2], []byte{})
	f.Add([]byte(manifestName+"\x00"), []byte(`{"apiVersion":"catamaran/v1alpha1","kind":"Bundle"}`))
	f.Fuzz(func(t *testing.T, data, manifest []byte) {
		for _, archive := range [][]byte{data, around(manifest, data)} {
			b, err := inMemory(archive)
			if err != nil {
				continue
			}
			wrong := 0
			for _, x := range b.Manifest.Blobs {
				rc, size, err := b.Content(x.Digest)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(rc)
				if err == nil && (int64(len(got)) != size || digestOf(got) != x.Digest) {
					t.Fatalf("blob %s was handed out with digest %s", x.Digest, digestOf(got))
				}
				if err != nil {
					wrong++
				}
				_ = rc.Close()
			}
			if err := verify(b); err == nil && wrong > 0 {
				t.Fatalf("verified, with %d wrong blobs", wrong)
			}
		}
	})
}

// around makes the archive that a manifest promises, if it is small, with blobs cut from data.
func around(manifest, data []byte) []byte {
	h, err := decode(manifest)
	if err != nil {
		return nil
	}
	entries, total, err := layout(manifest, h.Blobs)
	if err != nil || total > 1<<20 {
		return nil
	}
	out := make([]byte, total)
	for _, e := range entries {
		copy(out[e.at:], e.header)
		body := out[e.data() : e.data()+e.size]
		switch e.name {
		case manifestName:
			copy(body, manifest)
		case sumName:
			copy(body, h.sumLine())
		default:
			copy(body, data)
		}
	}
	return out
}

// FuzzManifest is FuzzOpen behind the checks that a fuzzer can not get past: whatever manifest is believed, the layout
// that follows from it is sound, and it is written as it was read.
func FuzzManifest(f *testing.F) {
	small := filepath.Join(f.TempDir(), "b")
	m := build(f, small, sample)
	data, err := encode(m)
	require.NoError(f, err)
	f.Add(data)
	f.Add([]byte(`{"apiVersion":"catamaran/v1alpha1","kind":"Bundle"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := decode(data)
		if err != nil {
			return
		}
		entries, total, err := layout(data, h.Blobs)
		if err != nil {
			t.Fatalf("a manifest that is believed has no layout: %v", err)
		}
		at := int64(0)
		for _, e := range entries {
			if e.at != at || e.size < 0 || e.end() < e.data() {
				t.Fatalf("%s lies at %d, expected %d", e.name, e.at, at)
			}
			at = e.end()
		}
		if total != at+trailer {
			t.Fatalf("the whole has %d bytes, expected %d", total, at+trailer)
		}
		again, err := encode(h.Manifest)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(again); err != nil {
			t.Fatalf("a manifest is refused after it was written again: %v", err)
		}
	})
}
