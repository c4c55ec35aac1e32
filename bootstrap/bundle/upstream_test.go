package bundle

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"
)

// testFolder holds the registry's program while the tests run.
var testFolder string

func TestMain(m *testing.M) {
	var err error
	if testFolder, err = os.MkdirTemp("", "bundle-test-"); err != nil {
		panic(err)
	}
	code := m.Run()
	if err := os.RemoveAll(testFolder); err != nil {
		panic(err)
	}
	os.Exit(code)
}

// registryProgram builds the distribution registry, a module of its own, once.
var registryProgram = sync.OnceValues(func() (string, error) {
	program := filepath.Join(testFolder, "registry")
	c := exec.Command("go", "build", "-o", program, ".")
	c.Dir = filepath.Join("testdata", "registry")
	c.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=readonly")
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the registry: %w\n%s", err, out)
	}
	return program, nil
})

// registry starts a distribution registry and returns its host:port. With a password it lets only user "robot" in.
func registry(t testing.TB, password string) string {
	t.Helper()
	program, err := registryProgram()
	require.NoError(t, err)
	c := exec.Command(program, t.TempDir())
	if password != "" {
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		require.NoError(t, err)
		c.Env = append(os.Environ(), "REGISTRY_USER=robot", "REGISTRY_HASH="+string(hash))
	}
	in, err := c.StdinPipe()
	require.NoError(t, err)
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	t.Cleanup(func() {
		require.NoError(t, in.Close())
		require.NoError(t, c.Wait())
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(line)
}

func push(t testing.TB, ref string, what remote.Taggable, opts ...remote.Option) {
	t.Helper()
	r, err := name.ParseReference(ref)
	require.NoError(t, err)
	switch w := what.(type) {
	case v1.ImageIndex:
		require.NoError(t, remote.WriteIndex(r, w, opts...))
	case v1.Image:
		require.NoError(t, remote.Write(r, w, opts...))
	}
}

func robot(password string) remote.Option {
	return remote.WithAuth(&authn.Basic{Username: "robot", Password: password})
}

// index holds an image for each architecture.
func index(t testing.TB, images map[string]v1.Image) v1.ImageIndex {
	t.Helper()
	var idx v1.ImageIndex = empty.Index
	for _, arch := range []string{"amd64", "arm64"} {
		if img, ok := images[arch]; ok {
			idx = mutate.AppendManifests(idx, mutate.IndexAddendum{
				Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
			})
		}
	}
	return idx
}

// files is a server of downloads that can misbehave.
type files struct {
	*httptest.Server
	mu      sync.Mutex
	content map[string][]byte
	// faults are taken one a request, in order.
	faults   map[string][]fault
	requests map[string][]string // path: the Range of each request
	sent     map[string]int64
}

// fault is how one answer goes wrong.
type fault struct {
	status     int
	retryAfter string
	cut        int  // after so many bytes
	stall      bool // after cut, say nothing until the client goes
	noRanges   bool
	redirect   string
}

func serve(t testing.TB) *files {
	t.Helper()
	f := &files{content: map[string][]byte{}, faults: map[string][]fault{}, requests: map[string][]string{}, sent: map[string]int64{}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *files) put(p string, data []byte) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.content[p] = data
	return f.URL + p
}

func (f *files) fail(p string, faults ...fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults[p] = faults
}

func (f *files) asked(p string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string{}, f.requests[p]...)
}

func (f *files) bytes(p string) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sent[p]
}

func (f *files) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p := r.URL.Path
	f.mu.Lock()
	data, ok := f.content[p]
	f.requests[p] = append(f.requests[p], r.Header.Get("Range"))
	bad := fault{cut: -1}
	if q := f.faults[p]; len(q) > 0 {
		bad, f.faults[p] = q[0], q[1:]
	}
	f.mu.Unlock()
	switch {
	case bad.redirect != "":
		http.Redirect(w, r, bad.redirect, http.StatusFound)
		return
	case bad.status != 0:
		w.Header().Set("Retry-After", bad.retryAfter)
		http.Error(w, "no", bad.status)
		return
	case !ok:
		http.NotFound(w, r)
		return
	}
	w.Header().Set("ETag", `"`+digestOf(data)+`"`)
	out := &cutting{ResponseWriter: w, left: bad.cut, request: r, bad: bad, count: func(n int) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.sent[p] += int64(n)
	}}
	if bad.noRanges {
		r.Header.Del("Range")
	}
	http.ServeContent(out, r, "", time.Time{}, bytes.NewReader(data))
}

// cutting breaks the connection after some bytes.
type cutting struct {
	http.ResponseWriter
	request *http.Request
	bad     fault
	left    int
	count   func(n int)
}

func (c *cutting) Write(p []byte) (int, error) {
	if c.bad.cut <= 0 {
		c.count(len(p))
		return c.ResponseWriter.Write(p)
	}
	n, err := c.ResponseWriter.Write(p[:min(len(p), c.left)])
	c.count(n)
	if c.left -= n; err == nil && c.left == 0 {
		c.ResponseWriter.(http.Flusher).Flush()
		if c.bad.stall {
			<-c.request.Context().Done()
		}
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// archived is a tar.gz of members, with a folder and a link among them.
func archived(t testing.TB, members map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	require.NoError(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "bin/", Mode: 0o755}))
	require.NoError(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/link", Linkname: "../../etc/passwd"}))
	for name, data := range members {
		require.NoError(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: 0o755}))
		_, err := w.Write(data)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.NoError(t, z.Close())
	return b.Bytes()
}

func hexOf(data []byte) string { return strings.TrimPrefix(digestOf(data), "sha256:") }

// upstream fills a mirror with everything that a specification names, in the forms that publishers use.
func upstream(t testing.TB, s Specification, f *files, registry string) {
	t.Helper()
	archives := map[string]map[string][]byte{}
	sums := map[string]string{}
	publish := func(at, sumsAt string, data []byte) {
		p := "/" + strings.TrimPrefix(at, "https://")
		f.put(p, data)
		if sumsAt == "" {
			f.put(p+".sha256", []byte(hexOf(data)))
			return
		}
		sums[sumsAt] += hexOf(data) + "  " + path.Base(at) + "\n" + hexOf([]byte("other")) + " *" + path.Base(at) + ".asc\n"
	}
	from := map[string]string{}
	for i, src := range s.Files {
		at, member := src.location()
		from[at] = src.Sums
		if member == "" {
			publish(at, src.Sums, prose(uint64(i), 30_000))
			continue
		}
		if archives[at] == nil {
			archives[at] = map[string][]byte{}
		}
		archives[at]["./"+member] = prose(uint64(i), 30_000)
	}
	for at, members := range archives {
		publish(at, from[at], archived(t, members))
	}
	for at, list := range sums {
		f.put("/"+strings.TrimPrefix(at, "https://"), []byte(list))
	}
	base := zipped(t, prose(100, 50_000))
	for i, img := range s.Images {
		push(t, registry+"/"+img.Ref, index(t, map[string]v1.Image{
			"amd64": image(t, "amd64", base, zipped(t, prose(200+uint64(i), 10_000))),
			"arm64": image(t, "arm64", zipped(t, prose(300+uint64(i), 10_000))),
		}))
	}
}

// quick are options for tests: everything in one folder, no long waits.
func quick(dir string) BuildOptions {
	return BuildOptions{
		Out: filepath.Join(dir, "site.bundle"), Lock: filepath.Join(dir, "site.lock"), Cache: filepath.Join(dir, "cache"),
		Attempts: 3, Pause: time.Millisecond, Stall: 3 * time.Second,
	}
}

func spec(files []Source, images ...string) Specification {
	s := Specification{APIVersion: APIVersion, Kind: SpecificationKind, Kubernetes: "1.37.2", Arch: "amd64", Files: files}
	for _, ref := range images {
		s.Images = append(s.Images, ImageSource{Ref: ref})
	}
	return s
}

func built(t testing.TB, s Specification, o BuildOptions) *Bundle {
	t.Helper()
	m, err := Build(context.Background(), s, o)
	require.NoError(t, err)
	b := opened(t, o.Out)
	require.Equal(t, m, b.Manifest)
	require.NoError(t, verify(b))
	return b
}
