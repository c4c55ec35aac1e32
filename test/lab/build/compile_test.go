package build

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// testBuilder builds out of a folder of the test into a cache of the test.
func testBuilder(t *testing.T) *builder {
	t.Helper()
	b, err := newBuilder(context.Background(), Options{Cache: t.TempDir(), Source: t.TempDir(), Log: func(s string) { t.Log(s) }})
	require.NoError(t, err)
	return b
}

func hello(t *testing.T, b *builder, says string) component {
	t.Helper()
	dir := filepath.Join(b.source, "modules", "hello")
	write(t, filepath.Join(dir, "go.mod"), "module example.test/hello\n\ngo 1.26.0\n")
	write(t, filepath.Join(dir, "main.go"), "package main\n\nvar greeting = \"unset\"\n\nfunc main() { println(greeting, \""+says+"\") }\n")
	return component{
		name: "hello", dir: "modules/hello", version: "1.0.0", ldflags: []string{"-X main.greeting=hello"},
		programs: []program{{"bin/hi", "example.test/hello"}},
	}
}

func TestComponentIsBuiltOnce(t *testing.T) {
	t.Parallel()
	b := testBuilder(t)
	c := hello(t, b, "world")
	e, err := b.component(context.Background(), c)
	require.NoError(t, err)
	assert.True(t, e.made)
	assert.Positive(t, e.CPU)

	p := e.program(c, c.programs[0])
	digest, size, err := digestFile(p.Path)
	require.NoError(t, err)
	assert.Equal(t, digest, p.Digest)
	assert.Equal(t, size, p.Size)
	out, err := exec.Command(p.Path).CombinedOutput()
	require.NoError(t, err)
	assert.Equal(t, "hello world\n", string(out))

	again, err := b.component(context.Background(), c)
	require.NoError(t, err)
	assert.False(t, again.made)
	assert.Equal(t, p, again.program(c, c.programs[0]))

	other := *b
	other.store = store{t.TempDir()}
	e2, err := other.component(context.Background(), c)
	require.NoError(t, err)
	assert.True(t, e2.made)
	assert.Equal(t, e.Files, e2.Files, "two builds of one source differ")

	hello(t, b, "there")
	changed, err := b.component(context.Background(), c)
	require.NoError(t, err)
	assert.True(t, changed.made, "a changed source is built anew")
}

func TestComponentThatDoesNotCompile(t *testing.T) {
	t.Parallel()
	b := testBuilder(t)
	c := hello(t, b, "world")
	write(t, filepath.Join(b.source, c.dir, "main.go"), "package main\n\nfunc main() { undefined() }\n")
	_, err := b.component(context.Background(), c)
	require.Error(t, err)
	for _, part := range []string{"build hello 1.0.0", filepath.Join(b.source, c.dir), "undefined: undefined"} {
		assert.ErrorContains(t, err, part)
	}
}

// Everything that changes a program must change its key.
func TestKeyOfComponent(t *testing.T) {
	t.Parallel()
	b := testBuilder(t)
	c := hello(t, b, "world")
	sum := func(b *builder, c component) string {
		k, err := b.key(context.Background(), c)
		require.NoError(t, err)
		return k.sum()
	}
	before := sum(b, c)
	assert.Equal(t, before, sum(b, hello(t, b, "world")))
	keys := map[string]string{before: "nothing"}
	check := func(what, k string) {
		was, dup := keys[k]
		assert.False(t, dup, "%s does not change the key (%s had it)", what, was)
		keys[k] = what
	}

	for what, change := range map[string]func(*component){
		"version":  func(c *component) { c.version = "1.0.1" },
		"tags":     func(c *component) { c.tags = []string{"netgo"} },
		"ldflags":  func(c *component) { c.ldflags = nil },
		"programs": func(c *component) { c.programs = []program{{"bin/ho", "example.test/hello"}} },
		"added":    func(c *component) { c.added = map[string]string{"a": "b"} },
		"addition": func(c *component) { c.added = map[string]string{"a": "c"} },
		"jsonv2":   func(c *component) { c.experiment = "jsonv2" },
		"cgo":      func(c *component) { c.cgo = true },
		"library":  func(c *component) { c.cgo, c.libraries = true, []string{"libc.a"} },
	} {
		changed := c
		change(&changed)
		check(what, sum(b, changed))
	}
	newer := *b
	newer.tool.goVersion = "go9.9.9"
	check("go version", sum(&newer, c))
	check("source", sum(b, hello(t, b, "there")))
}

func TestMissingLibraryNamesItsPackage(t *testing.T) {
	t.Parallel()
	b := testBuilder(t)
	c := hello(t, b, "world")
	c.cgo, c.libraries = true, []string{"libabsent.a"}
	_, err := b.component(context.Background(), c)
	assert.ErrorContains(t, err, "apt-get install libabsent-dev")
}

func TestCancelEndsTheWholeGroup(t *testing.T) {
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, group(exec.CommandContext(ctx, "sh", "-c", "sleep 600 & echo $! > "+fifo+"; wait")))
	}()
	said, err := os.ReadFile(fifo) // blocks until the grandchild runs
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(said)))
	require.NoError(t, err)
	grandchild, err := unix.PidfdOpen(pid, 0)
	require.NoError(t, err)
	defer unix.Close(grandchild) //nolint:errcheck // nothing is buffered
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(grandchild), Events: unix.POLLIN}}, 10_000)
	require.NoError(t, err)
	assert.Equal(t, 1, n, "the grandchild still runs")
}

func TestOutputOfProgram(t *testing.T) {
	t.Parallel()
	for pkg, want := range map[string]string{
		"k8s.io/kubernetes/cmd/kubelet": "kubelet", "go.etcd.io/etcd/server/v3": "server", "example.test/vip": "vip", "example.test/v": "v",
	} {
		assert.Equal(t, want, program{pkg: pkg}.output(), pkg)
	}
}

// The versions of the table are those that the wrappers pin, and the wrappers name every program as a tool, which keeps
// all that they import in go.sum.
func TestWrappersPinWhatTheTableSays(t *testing.T) {
	t.Parallel()
	source, err := findSource()
	require.NoError(t, err)
	for _, r := range releases() {
		b := builder{release: r, platform: true, openStack: true, source: source}
		for _, c := range b.components() {
			out, err := exec.Command("go", "mod", "edit", "-json", filepath.Join(b.directory(c), "go.mod")).Output()
			require.NoError(t, err, c.dir)
			var mod struct {
				Module  struct{ Path string }
				Require []struct{ Path, Version string }
				Tool    []struct{ Path string }
			}
			require.NoError(t, json.Unmarshal(out, &mod), c.dir)
			if c.repository {
				assert.Equal(t, repositoryModule, mod.Module.Path)
				continue
			}
			if c.module == "" {
				require.Len(t, c.programs, 1)
				assert.Equal(t, mod.Module.Path, c.programs[0].pkg)
				continue
			}
			pinned := map[string]string{}
			for _, q := range mod.Require {
				pinned[q.Path] = q.Version
			}
			assert.Equal(t, "v"+c.pinned(), pinned[c.module], c.dir)
			assert.FileExists(t, filepath.Join(source, c.dir, "go.sum"))
			tools := map[string]bool{}
			for _, p := range mod.Tool {
				tools[p.Path] = true
			}
			for _, p := range c.programs {
				assert.True(t, tools[p.pkg], "%s: %s is no tool of it", c.dir, p.pkg)
			}
		}
	}
}
