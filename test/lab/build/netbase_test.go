package build

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// realLayers are the shared layers out of the real packages. The first run of a machine downloads 6 MB.
func realLayers(t *testing.T) map[string]v1.Layer {
	t.Helper()
	b, err := newBuilder(context.Background(), Options{Log: func(s string) { t.Log(s) }})
	require.NoError(t, err)
	var netprobe component
	for _, c := range b.release.components() {
		if c.name == "netprobe" {
			netprobe = c
		}
	}
	e, err := b.component(context.Background(), netprobe)
	require.NoError(t, err)
	probe := e.program(netprobe, netprobe.programs[0])
	layers, err := b.sharedLayers(context.Background(), Components{Programs: map[string]Program{"netprobe": probe}})
	require.NoError(t, err)
	return layers
}

// In the layers as containers see them, every library that any program or plugin needs is there, and every link leads
// somewhere.
func TestSharedLayersAreClosed(t *testing.T) {
	t.Parallel()
	layers := realLayers(t)
	links := map[string]string{}
	files := map[string]bool{}
	needs := map[string][]string{} // by who needs it: libraries and the loader
	for _, name := range []string{shellLayer, netLayer} {
		each(t, layers[name], func(h *tar.Header, content io.Reader) {
			files[strings.TrimSuffix(h.Name, "/")] = true
			assert.Zero(t, h.Uid+h.Gid, h.Name)
			if h.Typeflag == tar.TypeSymlink {
				links[h.Name] = h.Linkname
			}
			if h.Typeflag != tar.TypeReg || h.Mode&0o111 == 0 && !strings.Contains(h.Name, ".so") {
				return
			}
			data, err := io.ReadAll(content)
			require.NoError(t, err)
			f, err := elf.NewFile(bytes.NewReader(data))
			require.NoError(t, err, h.Name)
			needs[h.Name], err = f.ImportedLibraries()
			require.NoError(t, err, h.Name)
			for _, p := range f.Progs {
				if p.Type == elf.PT_INTERP {
					loader, err := io.ReadAll(p.Open())
					require.NoError(t, err)
					needs[h.Name] = append(needs[h.Name], string(bytes.TrimRight(loader, "\x00")))
				}
			}
		})
	}
	require.Greater(t, len(needs), 60, "programs and plugins")

	// follow goes through the links in every element of a path, as a kernel does.
	var follow func(name string, depth int) (string, bool)
	follow = func(name string, depth int) (string, bool) {
		at := ""
		for _, e := range strings.Split(strings.Trim(name, "/"), "/") {
			at = path.Join(at, e)
			if target, ok := links[at]; ok && depth < 16 {
				if !path.IsAbs(target) {
					target = path.Join("/", path.Dir(at), target)
				}
				at, _ = follow(target, depth+1)
			}
		}
		return at, files[at]
	}
	for l := range links {
		to, ok := follow(l, 0)
		assert.True(t, ok, "link %s leads to %s, which is not there", l, to)
	}
	libs, err := indexLibraries(t.TempDir())
	require.NoError(t, err)
	for who, names := range needs {
		for _, n := range names {
			if !path.IsAbs(n) {
				n = path.Join("/", libs.dir("usr/lib"), n)
			}
			_, ok := follow(n, 0)
			assert.True(t, ok, "%s needs %s, which is not there", who, n)
		}
	}
	for _, p := range []string{"/bin/sh", "/usr/sbin/iptables", "/sbin/ip6tables-restore", "/usr/sbin/nft", "/usr/sbin/conntrack", "/usr/bin/wget", "/tmp", "/etc/protocols"} {
		_, ok := follow(p, 0)
		assert.True(t, ok, "no %s", p)
	}
}

func TestMissingLibraryIsNamed(t *testing.T) {
	t.Parallel()
	b, err := newBuilder(context.Background(), Options{})
	require.NoError(t, err)
	dir, err := b.netbase(context.Background())
	require.NoError(t, err)
	root := t.TempDir()
	require.NoError(t, os.CopyFS(root, os.DirFS(filepath.Join(dir, "net"))))

	libs, err := indexLibraries(root)
	require.NoError(t, err)
	needed, loaders, err := libs.closure([]string{"usr/sbin/conntrack"})
	require.NoError(t, err)
	assert.Contains(t, needed, "libmnl.so.0")
	assert.Contains(t, needed, "libnfnetlink.so.0", "what a library needs is needed too")
	assert.Len(t, loaders, 1)

	require.NoError(t, os.Remove(filepath.Join(root, libs.dir("usr/lib"), "libmnl.so.0")))
	libs, err = indexLibraries(root)
	require.NoError(t, err)
	_, _, err = libs.closure([]string{"usr/sbin/conntrack"})
	assert.ErrorContains(t, err, "libmnl.so.0 (for ")
}
