package bundle

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// peak is the most heap that was seen, in bytes above where it began.
type peak struct {
	mu          sync.Mutex
	began, most uint64
}

func newPeak() *peak {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return &peak{began: m.HeapInuse}
}

func (p *peak) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	p.most = max(p.most, m.HeapInuse)
}

func (p *peak) mebibytes() float64 { return float64(p.most-min(p.began, p.most)) / (1 << 20) }

// binary is size bytes that look like a program: this test's own, shifted by a seed so that no two are equal.
type binary struct {
	from io.ReaderAt
	seed byte
	size int64
	span int64
	at   int64
	look func()
	seen int64
}

func (b *binary) Read(p []byte) (int, error) {
	if b.at == b.size {
		return 0, io.EOF
	}
	n, err := b.from.ReadAt(p[:min(int64(len(p)), b.size-b.at, b.span-b.at%b.span)], b.at%b.span)
	for i := range p[:n] {
		p[i] += b.seed
	}
	b.at += int64(n)
	if b.at-b.seen > 8<<20 {
		b.seen = b.at
		b.look()
	}
	if n > 0 {
		err = nil
	}
	return n, err
}

// large makes a bundle out of count programs of size bytes, by several goroutines as a build does.
func large(t testing.TB, path string, count int, size int64, look func()) Manifest {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	f, err := os.Open(self)
	require.NoError(t, err)
	defer f.Close() //nolint:errcheck // only read
	st, err := f.Stat()
	require.NoError(t, err)
	return build(t, path, func(t testing.TB, w *Writer) {
		var g sync.WaitGroup
		for i := range count {
			g.Go(func() {
				assert.NoError(t, w.AddFile(File{Name: fmt.Sprintf("f%d", i), Version: "1", Mode: 0o755}, func() (io.ReadCloser, error) {
					return io.NopCloser(&binary{from: f, seed: byte(i), size: size, span: st.Size(), look: look}), nil
				}))
			})
		}
		g.Wait()
	})
}

// Blobs stream: building, verifying and reading 192 MiB takes a small part of that in memory. Not parallel, since the
// heap is everybody's.
func TestBlobsStream(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b")
	p := newPeak()
	m := large(t, path, 2, 96<<20, p.look)
	t.Logf("Create: %.0f MiB of heap", p.mebibytes())
	assert.Less(t, p.mebibytes(), 80.0, "two encoders have windows of 8 MiB each")
	b := opened(t, path)
	p = newPeak()
	require.NoError(t, b.Verify(t.Context(), func(done, _ int64) {
		if done%8 == 0 {
			p.look()
		}
	}))
	t.Logf("Verify: %.0f MiB of heap", p.mebibytes())
	assert.Less(t, p.mebibytes(), 80.0)
	p = newPeak()
	rc, _, err := b.Content(m.Files[0].Digest)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, io.TeeReader(rc, every{8 << 20, p.look}.writer()))
	require.NoError(t, err)
	require.NoError(t, rc.Close())
	t.Logf("Content: %.0f MiB of heap", p.mebibytes())
	assert.Less(t, p.mebibytes(), 40.0)
}

// every calls look after so many bytes.
type every struct {
	bytes int64
	look  func()
}

func (e every) writer() io.Writer {
	var n int64
	return writes(func(p []byte) (int, error) {
		if n += int64(len(p)); n > e.bytes {
			n = 0
			e.look()
		}
		return len(p), nil
	})
}

type writes func([]byte) (int, error)

func (w writes) Write(p []byte) (int, error) { return w(p) }

const (
	benchFiles = 4
	benchSize  = 75 << 20
)

func BenchmarkCreate(b *testing.B) {
	b.SetBytes(benchFiles * benchSize)
	p := newPeak()
	for b.Loop() {
		m := large(b, filepath.Join(b.TempDir(), "b"), benchFiles, benchSize, p.look)
		var stored int64
		for _, x := range m.Blobs {
			stored += x.StoredSize
		}
		b.ReportMetric(float64(stored)/(benchFiles*benchSize), "ratio")
	}
	b.ReportMetric(p.mebibytes(), "peakMiB")
}

func BenchmarkVerify(b *testing.B) {
	path := filepath.Join(b.TempDir(), "b")
	large(b, path, benchFiles, benchSize, func() {})
	o := opened(b, path)
	b.SetBytes(benchFiles * benchSize)
	p := newPeak()
	for b.Loop() {
		require.NoError(b, o.Verify(b.Context(), nil))
		p.look()
	}
	b.ReportMetric(p.mebibytes(), "peakMiB")
}
