package bundle

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/bootstrap/host"
	"github.com/catamaran-k8s/catamaran/bootstrap/kubeadm"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// The built-in specification, from mirrors in the form that --mirror-files and --mirror-registry expect, gives a bundle
// with all that plans install; the lock makes a second build the same byte by byte, without a single download.
func TestDefaultFromMirrors(t *testing.T) {
	t.Parallel()
	const own = "quay.io/site/own:v7"
	f, r := serve(t), registry(t, "")
	s, err := Default("1.37.2", "amd64", []ImageSource{{Ref: own}, {Ref: kubeadm.KubeVIPImage}})
	require.NoError(t, err)
	upstream(t, s, f, r)
	s.Mirrors = MirrorAll(f.URL+"/", r)
	o := quick(t.TempDir())
	var items []string
	var last BuildProgress
	o.Progress = func(p BuildProgress) {
		if p.Item != "" {
			items = append(items, p.Item)
		}
		assert.NoError(t, p.Err)
		last = p
	}
	b := built(t, s, o)

	needs := Needs{Arch: "amd64", Kubernetes: "1.37.2", Images: []string{own, kubeadm.KubeVIPImage}}
	for _, p := range host.Programs(inventory.CNIFlannel) {
		needs.Files = append(needs.Files, p.Name)
	}
	system, err := kubeadm.Images("1.37.2")
	require.NoError(t, err)
	needs.Images = append(needs.Images, system...)
	assert.Empty(t, s.Missing(needs))
	assert.Empty(t, b.Manifest.Missing(needs))
	for i, src := range s.Files {
		got, ok := b.File(src.Name)
		require.True(t, ok)
		assert.Equal(t, digestOf(prose(uint64(i), 30_000)), got.Digest, "%s is the right member of the right archive", src.Name)
		assert.EqualValues(t, 0o755, got.Mode)
		assert.Equal(t, src.URL, got.Source, "the source is upstream, not the mirror")
	}
	assert.Len(t, items, len(s.Files)+len(s.Images))
	assert.Equal(t, len(items), last.Done)
	assert.Positive(t, last.Received)
	base := 0
	for _, i := range b.Manifest.Images {
		assert.Equal(t, b.Manifest.Images[0].Blobs[2], i.Blobs[2])
		base++
	}
	assert.Equal(t, len(s.Images), base, "the base layer is shared")
	alone(t, filepath.Dir(o.Out), "site.bundle", "site.lock", "cache")

	// every tag moves, every download changes: the lock holds on to what was taken
	first, err := os.ReadFile(o.Out)
	require.NoError(t, err)
	for p := range f.content {
		f.put(p, []byte("something else"))
		f.requests[p] = nil
	}
	for i, img := range s.Images {
		push(t, r+"/"+img.Ref, image(t, "amd64", zipped(t, prose(900+uint64(i), 100))))
	}
	o.Progress = nil
	built(t, s, o)
	second, err := os.ReadFile(o.Out)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(first, second), "a locked build gave something else")
	for p := range f.content {
		assert.Empty(t, f.asked(p), "%s was downloaded again", p)
	}
	// and without the cache the changed download is refused, not taken
	o.Cache += "-empty"
	_, err = Build(context.Background(), s, o)
	require.ErrorIs(t, err, errDigest)
	// without the lock, images are whatever the tag says now
	o.Cache, o.Lock = strings.TrimSuffix(o.Cache, "-empty"), ""
	s.Files = nil
	assert.NotEqual(t, digestOf(first), built(t, s, o).Digest)
}

func TestImagesByPlatformAndDigest(t *testing.T) {
	t.Parallel()
	r := registry(t, "")
	amd, arm := image(t, "amd64", zipped(t, prose(1, 1000))), image(t, "arm64", zipped(t, prose(2, 1000)))
	both := index(t, map[string]v1.Image{"amd64": amd, "arm64": arm})
	push(t, r+"/a:v1", both)
	push(t, r+"/lonely:v1", index(t, map[string]v1.Image{"arm64": arm}))
	push(t, r+"/plain-arm:v1", arm)
	digest := func(h v1.Hash, err error) string { require.NoError(t, err); return h.String() }
	indexDigest, amdDigest := digest(both.Digest()), digest(amd.Digest())

	for name, img := range map[string]ImageSource{
		"tag of an index":          {Ref: r + "/a:v1"},
		"digest of the index":      {Ref: r + "/a:v1", Digest: indexDigest},
		"digest of the image":      {Ref: r + "/a:v1", Digest: amdDigest},
		"reference with digest":    {Ref: r + "/a@" + indexDigest},
		"tag and digest, together": {Ref: r + "/a:v1@" + indexDigest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := spec(nil)
			s.Images = []ImageSource{img}
			o := quick(t.TempDir())
			got, ok := built(t, s, o).Image(img.Ref)
			require.True(t, ok)
			assert.Equal(t, amdDigest, got.Digest)
			lock, err := ReadLock(o.Lock, "amd64")
			require.NoError(t, err)
			assert.Equal(t, []LockedImage{{Ref: img.Ref, Digest: amdDigest, Of: img.Digest}}, lock.Images)
			_, err = ReadLock(o.Lock, "arm64")
			require.ErrorContains(t, err, "is for amd64, the bundle is for arm64")
		})
	}
	for name, c := range map[string]struct {
		img  ImageSource
		want string
	}{
		"index without the platform": {ImageSource{Ref: r + "/lonely:v1"}, "no child with platform linux/amd64"},
		"image of another platform":  {ImageSource{Ref: r + "/plain-arm:v1"}, "it is for arm64, the bundle is for amd64"},
		"unknown tag":                {ImageSource{Ref: r + "/a:v2"}, "MANIFEST_UNKNOWN"},
		"unknown digest":             {ImageSource{Ref: r + "/a:v1", Digest: "sha256:" + strings.Repeat("0", 64)}, "MANIFEST_UNKNOWN"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := spec(nil)
			s.Images = []ImageSource{c.img}
			o := quick(t.TempDir())
			_, err := Build(context.Background(), s, o)
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, "image "+c.img.Ref)
			alone(t, filepath.Dir(o.Out))
		})
	}
}

// A changed digest in the specification wins over the lock.
func TestLockFollowsSpecification(t *testing.T) {
	t.Parallel()
	r := registry(t, "")
	one, two := image(t, "amd64", zipped(t, []byte("1"))), image(t, "amd64", zipped(t, []byte("2")))
	push(t, r+"/a:v1", one)
	push(t, r+"/a:v2", two)
	o := quick(t.TempDir())
	s := spec(nil, r+"/a:v1")
	first := built(t, s, o)
	h, err := two.Digest()
	require.NoError(t, err)
	s.Images[0].Digest = h.String()
	got, ok := built(t, s, o).Image(r + "/a:v1")
	require.True(t, ok)
	assert.Equal(t, h.String(), got.Digest)
	assert.NotEqual(t, first.Manifest.Images[0].Digest, got.Digest)

	f := serve(t)
	data := []byte("x")
	s = spec([]Source{{Name: "x", Version: "1", URL: f.put("/x", data), SHA256: hexOf(data)}})
	built(t, s, o)
	s.Files[0].SHA256 = hexOf([]byte("y"))
	_, err = Build(context.Background(), s, o)
	require.ErrorContains(t, err, "the lock file has "+hexOf(data)+": remove it there")
}

// The login comes from the docker configuration, and appears nowhere. Not parallel: the environment is the process's.
func TestRegistryLogin(t *testing.T) {
	const password = "correct horse battery"
	r := registry(t, password)
	push(t, r+"/a:v1", image(t, "amd64", zipped(t, nil)), robot(password))
	for name, c := range map[string]struct {
		config string
		works  bool
	}{
		"none":  {`{}`, false},
		"wrong": {`{"auths":{"` + r + `":{"auth":"` + base64.StdEncoding.EncodeToString([]byte("robot:wrong horse")) + `"}}}`, false},
		"right": {`{"auths":{"` + r + `":{"auth":"` + base64.StdEncoding.EncodeToString([]byte("robot:"+password)) + `"}}}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("DOCKER_CONFIG", dir)
			require.NoError(t, os.WriteFile(dir+"/config.json", []byte(c.config), 0o600))
			o := quick(t.TempDir())
			_, err := Build(context.Background(), spec(nil, r+"/a:v1"), o)
			if c.works {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, "sign in with `docker login "+r+"`")
			assert.NotContains(t, err.Error(), "horse")
			assert.NotContains(t, err.Error(), base64.StdEncoding.EncodeToString([]byte("robot:wrong horse")))
		})
	}
}

// A registry whose connection breaks again and again in the middle of layers: each byte travels once.
func TestLayersResume(t *testing.T) {
	t.Parallel()
	backend, err := url.Parse("http://" + registry(t, ""))
	require.NoError(t, err)
	layer := noise(1, 1<<20)
	push(t, backend.Host+"/a:v1", image(t, "amd64", zipped(t, layer)))
	var sent, cuts atomic.Int64
	proxy := httputil.NewSingleHostReverseProxy(backend)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := &cutting{ResponseWriter: w, request: r, count: func(n int) { sent.Add(int64(n)) }}
		if strings.Contains(r.URL.Path, "/blobs/") {
			out.bad.cut, out.left = 300_000, 300_000
		}
		defer func() {
			if p := recover(); p != nil {
				cuts.Add(1)
				panic(p)
			}
		}()
		proxy.ServeHTTP(out, r)
	}))
	t.Cleanup(front.Close)
	b := built(t, spec(nil, strings.TrimPrefix(front.URL, "http://")+"/a:v1"), quick(t.TempDir()))
	assert.Len(t, b.Manifest.Images, 1)
	assert.GreaterOrEqual(t, cuts.Load(), int64(3))
	assert.Less(t, sent.Load(), int64(len(layer)+100_000), "bytes travelled twice")
}

func TestDownloads(t *testing.T) {
	t.Parallel()
	data := noise(1, 400_000)
	for name, c := range map[string]struct {
		faults   []fault
		requests []string
		sent     int64 // 0: each byte once
		fails    string
	}{
		"plain":                        {nil, []string{""}, 0, ""},
		"cut off twice":                {[]fault{{cut: 100_000}, {cut: 50_000}}, []string{"", "bytes=100000-", "bytes=150000-"}, 0, ""},
		"more cuts than attempts":      {cuts(9), []string{"", "bytes=40000-", "bytes=80000-", "bytes=120000-", "bytes=160000-", "bytes=200000-", "bytes=240000-", "bytes=280000-", "bytes=320000-", "bytes=360000-"}, 0, ""},
		"stalls":                       {[]fault{{cut: 100_000, stall: true}}, []string{"", "bytes=100000-"}, 0, ""},
		"resumes without ranges":       {[]fault{{cut: 100_000}, {noRanges: true}}, []string{"", "bytes=100000-"}, 500_000, ""},
		"busy, then fine":              {[]fault{{status: 503}, {status: 429, retryAfter: "0"}}, []string{"", "", ""}, 0, ""},
		"busy in the middle":           {[]fault{{cut: 100_000}, {status: 503}}, []string{"", "bytes=100000-", "bytes=100000-"}, 0, ""},
		"busy for ever":                {[]fault{{status: 503}, {status: 503}, {status: 503}}, []string{"", "", ""}, -1, "503 Service Unavailable"},
		"not there":                    {[]fault{{status: 404}}, []string{""}, -1, "404 Not Found"},
		"forbidden":                    {[]fault{{status: 403}}, []string{""}, -1, "403 Forbidden"},
		"gone in the middle":           {[]fault{{cut: 100_000}, {status: 404}, {status: 404}}, []string{"", "bytes=100000-", "bytes=100000-"}, -1, "404 Not Found"},
		"redirected to this machine":   {[]fault{{redirect: "/f?again"}}, []string{"", ""}, 0, ""},
		"redirected into plain text":   {[]fault{{redirect: "http://192.0.2.1/f"}}, []string{""}, -1, "http://192.0.2.1 is not encrypted: use https"},
		"redirected to what is no web": {[]fault{{redirect: "ftp://192.0.2.1/f"}}, []string{""}, -1, "ftp://192.0.2.1 is not encrypted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, o := serve(t), quick(t.TempDir())
			at := f.put("/f", data)
			f.fail("/f", c.faults...)
			m, err := Build(context.Background(), spec([]Source{{Name: "f", Version: "1", URL: at, SHA256: hexOf(data)}}), o)
			assert.Equal(t, c.requests, f.asked("/f"))
			if c.fails != "" {
				require.ErrorContains(t, err, c.fails)
				require.ErrorContains(t, err, "file f")
				assert.NoFileExists(t, o.Out)
				assert.NoFileExists(t, o.Lock)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, digestOf(data), m.Files[0].Digest)
			if c.sent == 0 {
				c.sent = int64(len(data))
			}
			assert.Equal(t, c.sent, f.bytes("/f"))
			alone(t, o.Cache, hexOf(data))
		})
	}
}

func cuts(n int) []fault {
	out := make([]fault, n)
	for i := range out {
		out[i].cut = 40_000
	}
	return out
}

// A build that gave up goes on where it ended the next time, in a new process too.
func TestDownloadAcrossRuns(t *testing.T) {
	t.Parallel()
	data := noise(1, 400_000)
	f, o := serve(t), quick(t.TempDir())
	s := spec([]Source{{Name: "f", Version: "1", URL: f.put("/f", data), SHA256: hexOf(data)}})
	f.fail("/f", fault{cut: 150_000}, fault{status: 404}, fault{status: 404})
	_, err := Build(context.Background(), s, o)
	require.ErrorContains(t, err, "404 Not Found")
	alone(t, o.Cache, hexOf(data)+".part")
	built(t, s, o)
	assert.Equal(t, "bytes=150000-", f.asked("/f")[3])
	assert.EqualValues(t, len(data), f.bytes("/f"))

	// what was left of another file is noticed, thrown away, and fetched anew
	for name, left := range map[string][]byte{"shorter": noise(2, 100_000), "longer": noise(3, 500_000), "whole": data} {
		o := quick(t.TempDir())
		require.NoError(t, os.MkdirAll(o.Cache, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(o.Cache, hexOf(data)+".part"), left, 0o600))
		b := built(t, s, o)
		assert.Equal(t, digestOf(data), b.Manifest.Files[0].Digest, name)
		alone(t, o.Cache, hexOf(data))
	}
	// and so is a cache that was damaged
	require.NoError(t, os.WriteFile(filepath.Join(o.Cache, hexOf(data)), data[1:], 0o600))
	assert.Equal(t, digestOf(data), built(t, s, o).Manifest.Files[0].Digest)
}

// A file that changes on the server in the middle of a download is not glued together.
func TestFileChangesMeanwhile(t *testing.T) {
	t.Parallel()
	old, now := noise(1, 300_000), noise(2, 300_000)
	f, o := serve(t), quick(t.TempDir())
	at := f.put("/f", old)
	f.fail("/f", fault{cut: 100_000, stall: true})
	go func() { // the test's own server is asked, not a clock
		for f.bytes("/f") < 100_000 {
			time.Sleep(time.Millisecond)
		}
		f.put("/f", now)
	}()
	m, err := Build(context.Background(), spec([]Source{{Name: "f", Version: "1", URL: at, SHA256: hexOf(now)}}), o)
	require.NoError(t, err)
	assert.Equal(t, digestOf(now), m.Files[0].Digest)
}

func TestWrongDigest(t *testing.T) {
	t.Parallel()
	f, o := serve(t), quick(t.TempDir())
	bad := f.put("/bad", []byte("not what was published"))
	f.put("/bad.sha256", []byte(hexOf([]byte("something else"))))
	local := filepath.Join(t.TempDir(), "l")
	require.NoError(t, os.WriteFile(local, []byte("x"), 0o600))
	good := f.put("/good", []byte("good"))
	s := spec([]Source{
		{Name: "given", Version: "1", URL: bad, SHA256: hexOf([]byte("another"))},
		{Name: "published", Version: "1", URL: bad, SHA256: Upstream},
		{Name: "local", Version: "1", URL: local, SHA256: hexOf([]byte("y"))},
		{Name: "fine", Version: "1", URL: good, SHA256: hexOf([]byte("good"))},
	})
	_, err := Build(context.Background(), s, o)
	for _, n := range []string{"given", "published", "local"} {
		require.ErrorContains(t, err, "file "+n+": ", "all failures at once")
	}
	require.ErrorIs(t, err, errDigest)
	assert.NotContains(t, err.Error(), "file fine")
	alone(t, filepath.Dir(o.Out), "cache")
}

func TestPublishedSums(t *testing.T) {
	t.Parallel()
	data := []byte("the tool")
	sum, other := hexOf(data), hexOf([]byte("other"))
	for name, c := range map[string]struct{ list, fails string }{
		"alone":               {sum, ""},
		"alone, with newline": {sum + "\n", ""},
		"upper case":          {strings.ToUpper(sum), ""},
		"as sha256sum":        {other + "  tool.asc\n" + sum + "  tool\n", ""},
		"binary mode":         {sum + " *tool\n", ""},
		"with a folder":       {sum + "  ./dist/tool\n", ""},
		"of others":           {other + "  tool.asc\n", "holds no sha256 of tool"},
		"two alone":           {sum + "\n" + other + "\n", "holds no sha256 of tool"},
		"a page":              {"<html>not found</html>", "holds no sha256 of tool"},
		"empty":               {"", "holds no sha256 of tool"},
		"endless":             {strings.Repeat("x", maxSums+1), "it is no list of digests"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, o := serve(t), quick(t.TempDir())
			s := spec([]Source{{Name: "tool", Version: "1", URL: f.put("/tool", data), SHA256: Upstream, Sums: f.put("/SUMS", []byte(c.list))}})
			_, err := Build(context.Background(), s, o)
			if c.fails != "" {
				require.ErrorContains(t, err, c.fails)
				return
			}
			require.NoError(t, err)
			lock, err := ReadLock(o.Lock, "amd64")
			require.NoError(t, err)
			assert.Equal(t, []LockedFile{{URL: f.URL + "/tool", SHA256: sum}}, lock.Files)
		})
	}
}

func TestArchiveMembers(t *testing.T) {
	t.Parallel()
	f, o := serve(t), quick(t.TempDir())
	data := archived(t, map[string][]byte{"./bin/one": []byte("1"), "bin/two": []byte("2")})
	at := f.put("/a.tar.gz", data)
	src := func(member string) Source {
		return Source{Name: "x-" + filepath.Base(member), Version: "1", URL: at + "!" + member, SHA256: hexOf(data)}
	}
	b := built(t, spec([]Source{src("bin/one"), src("bin/two")}), o)
	one, ok := b.File("x-one")
	require.True(t, ok)
	assert.Equal(t, []byte("1"), read(t, b, one.Digest))
	assert.Len(t, f.asked("/a.tar.gz"), 1, "one archive is downloaded once")

	_, err := Build(context.Background(), spec([]Source{src("bin/three"), src("bin"), src("bin/link")}), o)
	for _, m := range []string{"bin/three", "bin", "bin/link"} {
		require.ErrorContains(t, err, "the archive holds no file "+m)
	}
	text := f.put("/text", []byte("no archive"))
	_, err = Build(context.Background(), spec([]Source{{Name: "x", Version: "1", URL: text + "!a", SHA256: hexOf([]byte("no archive"))}}), o)
	require.ErrorContains(t, err, "the archive can not be read")
}

func TestLocalSourcesAndCharts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(dir+"/tool", []byte("tool"), 0o600))
	require.NoError(t, os.WriteFile(dir+"/own-1.0.0.tgz", archived(t, map[string][]byte{"own/Chart.yaml": []byte("name: own")}), 0o600))
	require.NoError(t, os.WriteFile(dir+"/spec.yaml", []byte(`
apiVersion: catamaran/v1alpha1
kind: BundleSpecification
kubernetes: 1.37.2
arch: amd64
files:
- {name: tool, version: "1", url: tool}
- {name: tool-too, version: "1", url: file://`+dir+`/tool}
- {name: member, version: "1", url: own-1.0.0.tgz!own/Chart.yaml}
images: []
charts:
- {name: own, version: 1.0.0, url: own-1.0.0.tgz}
`), 0o600))
	s, err := ReadSpecification(dir + "/spec.yaml")
	require.NoError(t, err)
	o := quick(t.TempDir())
	o.Lock = ""
	b := built(t, s, o)
	assert.Equal(t, []string{"member", "tool", "tool-too"}, names(b.Manifest.Files))
	assert.Equal(t, []string{"own"}, names(b.Manifest.Charts))
	assert.EqualValues(t, 0o644, b.Manifest.Charts[0].Mode)
	for _, x := range append(b.Manifest.Files, b.Manifest.Charts...) {
		assert.Empty(t, x.Source, "paths of this machine stay here")
	}
	alone(t, filepath.Dir(o.Out), "site.bundle")
}

// Plain text is for this machine alone, unless the operator says otherwise. No packet leaves: the address is refused
// before it is dialled.
func TestPlainHTTP(t *testing.T) {
	t.Parallel()
	s := spec([]Source{{Name: "f", Version: "1", URL: "http://192.0.2.1/f", SHA256: strings.Repeat("0", 64)}})
	_, err := Build(context.Background(), s, quick(t.TempDir()))
	require.ErrorContains(t, err, "http://192.0.2.1 is not encrypted: use https, or allow it with --plain-http")
	tr := &transport{next: answers(func(*http.Request) (*http.Response, error) { return nil, fmt.Errorf("dialled") }), attempts: 1}
	for at, allowed := range map[string]bool{
		"http://127.0.0.1:1/": true, "http://[::1]/": true, "http://localhost/": true, "https://192.0.2.1/": true,
		"http://192.0.2.1/": false, "http://10.0.0.1/": false, "http://localhost.example.org/": false, "http://127.0.0.1.example.org/": false,
	} {
		u, err := url.Parse(at)
		require.NoError(t, err)
		_, err = tr.RoundTrip(&http.Request{Method: http.MethodGet, URL: u, Header: http.Header{}}) //nolint:bodyclose // nobody answers
		if allowed {
			require.ErrorContains(t, err, "dialled", at)
		} else {
			require.ErrorContains(t, err, "not encrypted", at)
		}
	}
	tr.plainHTTP = true
	_, err = tr.RoundTrip(httptest.NewRequest(http.MethodGet, "http://192.0.2.1/", nil)) //nolint:bodyclose // nobody answers
	require.ErrorContains(t, err, "dialled")
}

type answers func(*http.Request) (*http.Response, error)

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) { return a(r) }

func TestCancelledBuildLeavesNothing(t *testing.T) {
	t.Parallel()
	f, o := serve(t), quick(t.TempDir())
	data := noise(1, 300_000)
	at := f.put("/f", data)
	f.fail("/f", fault{cut: 100_000, stall: true})
	o.Stall = time.Minute
	ctx, cancel := context.WithCancel(context.Background())
	var once sync.Once
	o.Progress = func(p BuildProgress) {
		if p.Received >= 100_000 {
			once.Do(cancel)
		}
	}
	_, err := Build(ctx, spec([]Source{{Name: "f", Version: "1", URL: at, SHA256: hexOf(data)}}), o)
	require.ErrorIs(t, err, context.Canceled)
	alone(t, filepath.Dir(o.Out), "cache")
	o.Progress = nil
	built(t, spec([]Source{{Name: "f", Version: "1", URL: at, SHA256: hexOf(data)}}), o)
	assert.Equal(t, "bytes=100000-", f.asked("/f")[1])
}

// Two builds with one cache do not write into each other's download.
func TestTwoBuildsOneCache(t *testing.T) {
	t.Parallel()
	f, o := serve(t), quick(t.TempDir())
	data := noise(1, 300_000)
	s := spec([]Source{{Name: "f", Version: "1", URL: f.put("/f", data), SHA256: hexOf(data)}})
	f.fail("/f", fault{cut: 100_000, stall: true})
	o.Stall = time.Minute
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	begun := make(chan struct{})
	var once sync.Once
	o.Progress = func(p BuildProgress) {
		if p.Received >= 100_000 {
			once.Do(func() { close(begun) })
		}
	}
	go func() {
		_, err := Build(ctx, s, o)
		ended <- err
	}()
	<-begun
	two := o
	two.Out, two.Progress = o.Out+"2", nil
	_, err := Build(context.Background(), s, two)
	require.ErrorContains(t, err, "another build is downloading")
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	built(t, s, two)
}
