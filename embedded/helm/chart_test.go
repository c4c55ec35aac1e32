package helm

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// files is the smallest chart with more files; a later file of the same name replaces an earlier one.
func files(more ...File) []File {
	out := []File{{"Chart.yaml", []byte("apiVersion: v2\nname: app\nversion: 1.0.0\ndescription: what it is\n")}}
	for _, f := range more {
		if f.Name == "Chart.yaml" {
			out = out[1:]
		}
		out = append(out, f)
	}
	return out
}

func text(name, content string) File { return File{name, []byte(content)} }

func load(t *testing.T, more ...File) *Chart {
	t.Helper()
	c, err := LoadFiles(files(more...))
	require.NoError(t, err)
	return c
}

func archive(t *testing.T, list []File) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, f := range list {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: "app/" + f.Name, Mode: 0o644, Size: int64(len(f.Data))}))
		_, err := w.Write(f.Data)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.NoError(t, z.Close())
	return b.Bytes()
}

// A chart is the same whether it comes as files, a folder or an archive, and in whatever order.
func TestLoad(t *testing.T) {
	t.Parallel()
	list := files(text("values.yaml", "a: 1\n"), text("templates/a.yaml", "kind: A\n"), text("templates/_helpers.tpl", "x"))
	dir := t.TempDir()
	for _, f := range append(list, text("junk.swp", "x"), text(".helmignore", "*.swp\n")) {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, f.Name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o600))
	}
	list = append(list, text(".helmignore", "*.swp\n"))
	inMemory, err := LoadFiles(list)
	require.NoError(t, err)
	list[0], list[3] = list[3], list[0]
	packed, err := LoadArchive(archive(t, list))
	require.NoError(t, err)
	folder, err := LoadDir(dir)
	require.NoError(t, err)
	for _, c := range []*Chart{inMemory, packed, folder} {
		assert.Equal(t, []string{"app", "1.0.0", "what it is"}, []string{c.Name(), c.Version(), c.Description()})
		assert.Equal(t, inMemory.Digest(), c.Digest())
		data, ok := c.File("values.yaml")
		assert.True(t, ok)
		assert.Equal(t, "a: 1\n", string(data))
	}
	_, ok := inMemory.File("nothing")
	assert.False(t, ok)
	assert.NotEqual(t, load(t).Digest(), load(t, text("x", "")).Digest())
	assert.NotEqual(t, load(t, text("x", "")).Digest(), load(t, text("y", "")).Digest())
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	whole := archive(t, files())
	cases := map[string]struct {
		load func() (*Chart, error)
		want string
	}{
		"a library": {func() (*Chart, error) {
			return LoadFiles(files(text("Chart.yaml", "apiVersion: v2\nname: l\nversion: 1.0.0\ntype: library\n")))
		}, "library chart"},
		"a missing subchart": {func() (*Chart, error) {
			return LoadFiles(files(text("Chart.yaml", "apiVersion: v2\nname: l\nversion: 1.0.0\ndependencies: [{name: sub, version: 1.0.0, repository: https://example.org}]\n")))
		}, "helm dependency update"},
		"no version":      {func() (*Chart, error) { return LoadFiles(files(text("Chart.yaml", "apiVersion: v2\nname: l\n"))) }, "version"},
		"nothing":         {func() (*Chart, error) { return LoadFiles(nil) }, "Chart.yaml"},
		"half an archive": {func() (*Chart, error) { return LoadArchive(whole[:len(whole)/2]) }, "EOF"},
		"no archive":      {func() (*Chart, error) { return LoadArchive([]byte("hello, this is no archive")) }, "gzip"},
		"no folder":       {func() (*Chart, error) { return LoadDir("/nonexistent") }, "Chart.yaml file is missing"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := c.load()
			assert.ErrorContains(t, err, c.want)
		})
	}
}

func TestNormal(t *testing.T) {
	t.Parallel()
	given := map[string]any{"int": 5, "float": 1.5, "whole": 3.0, "big": uint64(1) << 60, "list": []string{"a"}, "map": map[string]int{"x": 1}, "null": nil}
	v, err := Normal(given)
	require.NoError(t, err)
	assert.Equal(t, map[string]any{
		"int": int64(5), "float": 1.5, "whole": int64(3), "big": int64(1) << 60, "list": []any{"a"}, "map": map[string]any{"x": int64(1)}, "null": nil,
	}, v)
	v["list"].([]any)[0] = "changed"
	assert.Equal(t, []string{"a"}, given["list"], "it is a copy")
	empty, err := Normal(nil)
	require.NoError(t, err)
	assert.Equal(t, map[string]any{}, empty)
	_, err = Normal(map[string]any{"password": func() {}})
	assert.ErrorContains(t, err, "does not know")
}

func TestMerge(t *testing.T) {
	t.Parallel()
	base := map[string]any{"a": 1, "m": map[string]any{"x": 1, "y": 1}, "l": []any{1, 2}, "gone": "x"}
	over := map[string]any{"m": map[string]any{"y": 2}, "l": []any{3}, "gone": nil, "a": map[string]any{"now": "a map"}}
	assert.Equal(t, map[string]any{
		"a": map[string]any{"now": "a map"}, "m": map[string]any{"x": 1, "y": 2}, "l": []any{3}, "gone": nil,
	}, Merge(base, over))
	assert.Equal(t, map[string]any{"x": 1, "y": 1}, base["m"], "the arguments stay as they are")
	assert.Equal(t, map[string]any{}, Merge(nil, nil))
}

func TestAllValues(t *testing.T) {
	t.Parallel()
	c := load(t, text("values.yaml", "a: 1\nb: {c: 2, d: 3}\ngone: x\n"))
	all, err := c.AllValues(map[string]any{"b": map[string]any{"d": 4}, "gone": nil})
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"a": int64(1), "b": map[string]any{"c": int64(2), "d": int64(4)}}, all)
	again, err := c.AllValues(nil)
	require.NoError(t, err)
	assert.Equal(t, "x", again["gone"], "the chart is not changed by use")
}
