package bundle

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDefaultSpecification(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"1.35.4", "1.36.3", "1.37.2"} {
		for _, arch := range []string{"amd64", "arm64"} {
			s, err := Default(version, arch, nil)
			require.NoError(t, err)
			at := map[string]string{}
			for _, f := range s.Files {
				at[f.Name] = f.URL
				assert.Equal(t, Upstream, f.SHA256)
				assert.True(t, strings.HasPrefix(f.URL, "https://"))
				assert.Contains(t, f.URL, arch, f.Name)
			}
			assert.Equal(t, "https://dl.k8s.io/release/v"+version+"/bin/linux/"+arch+"/kubelet", at["kubelet"])
			assert.Len(t, s.Images, 8)
		}
	}
	s, err := Default("1.37.2", "amd64", nil)
	require.NoError(t, err)
	for _, f := range s.Files {
		if f.Name == "etcdctl" {
			assert.Equal(t, "3.7.0", f.Version, "that of the image kubeadm pins")
		}
	}
	_, err = Default("1.20.0", "amd64", nil)
	require.ErrorContains(t, err, "1.20.0 is not supported")
	_, err = Default("1.37.2", "riscv64", nil)
	require.ErrorContains(t, err, "neither amd64 nor arm64")
}

func TestSpecificationIsStrict(t *testing.T) {
	t.Parallel()
	const head = "apiVersion: catamaran/v1alpha1\nkind: BundleSpecification\nkubernetes: 1.37.2\narch: amd64\n"
	sum := strings.Repeat("a", 64)
	for want, text := range map[string]string{
		`unknown field "imagess"`:           head + "imagess: []\n",
		`"arch" already set`:                head + "arch: arm64\n",
		`it is "v1" "Pod"`:                  "apiVersion: v1\nkind: Pod\n",
		`kubernetes: "v1.37.2" is not`:      strings.Replace(head, "1.37.2", "v1.37.2", 1),
		`arch: "386" is neither`:            strings.Replace(head, "amd64", "386", 1),
		"sha256 is missing":                 head + "files: [{name: a, version: '1', url: 'https://example.org/a'}]\n",
		`sha256 "latest": expected`:         head + "files: [{name: a, version: '1', url: 'https://example.org/a', sha256: latest}]\n",
		"file a is there twice":             head + "files: [{name: a, version: '1', url: a}, {name: a, version: '1', url: a}]\n",
		`version "v1": expected one`:        head + "files: [{name: a, version: v1, url: a}]\n",
		"expected https, http, file":        head + "files: [{name: a, version: '1', url: 'ftp://example.org/a', sha256: " + sum + "}]\n",
		"url holds a login":                 head + "files: [{name: a, version: '1', url: 'https://u:p@example.org/a', sha256: " + sum + "}]\n",
		"sums is read only with":            head + "files: [{name: a, version: '1', url: 'https://example.org/a', sums: x, sha256: " + sum + "}]\n",
		"needs a url that is https":         head + "files: [{name: a, version: '1', url: a, sha256: upstream}]\n",
		"file ../a: the name is not":        head + "files: [{name: ../a, version: '1', url: a}]\n",
		"image kube: expected registry":     head + "images: [{ref: kube}]\n",
		`digest "sha256:1": expected`:       head + "images: [{ref: 'registry.k8s.io/a:v1', digest: 'sha256:1'}]\n",
		"image registry.k8s.io/a:v1 is the": head + "images: [{ref: 'registry.k8s.io/a:v1'}, {ref: 'registry.k8s.io/a:v1'}]\n",
		"mirrors.files":                     head + "mirrors: {files: {'https://dl.k8s.io': mirror}}\n",
		"mirrors.registries":                head + "mirrors: {registries: {quay.io: 'https://mirror/x'}}\n",
	} {
		path := filepath.Join(t.TempDir(), "spec.yaml")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := ReadSpecification(path)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, path)
	}
}

func TestMirrors(t *testing.T) {
	t.Parallel()
	m := Mirrors{
		Files: map[string]string{
			"https://": "https://mirror.example.org/all/", "https://dl.k8s.io/": "https://kubernetes.example.org/",
			"https://dl.k8s.io/release/": "file:///srv/",
		},
		Registries: map[string]string{"registry.k8s.io": "mirror.example.org:5000/k8s", "*": "mirror.example.org"},
	}
	for upstream, want := range map[string]string{
		"https://dl.k8s.io/release/v1": "file:///srv/v1",
		"https://dl.k8s.io/x":          "https://kubernetes.example.org/x",
		"https://github.com/a/b":       "https://mirror.example.org/all/github.com/a/b",
		"http://example.org/a":         "http://example.org/a",
	} {
		for range 20 { // maps have no order
			assert.Equal(t, want, m.file(upstream))
		}
	}
	for upstream, want := range map[string]string{
		"registry.k8s.io/coredns/coredns": "mirror.example.org:5000/k8s/coredns/coredns",
		"ghcr.io/kube-vip/kube-vip":       "mirror.example.org/ghcr.io/kube-vip/kube-vip",
		"docker.io/library/busybox":       "mirror.example.org/docker.io/library/busybox",
		"registry.example.org:5000/a":     "mirror.example.org/registry.example.org-5000/a",
	} {
		r, err := name.NewRepository(upstream)
		require.NoError(t, err)
		got, err := m.repository(r)
		require.NoError(t, err)
		assert.Equal(t, want, got.Name())
	}
	none, err := name.NewRepository("quay.io/a/b")
	require.NoError(t, err)
	got, err := Mirrors{}.repository(none)
	require.NoError(t, err)
	assert.Equal(t, "quay.io/a/b", got.Name())
	assert.Equal(t, "https://dl.k8s.io/x", Mirrors{}.file("https://dl.k8s.io/x"))
}

func TestLockIsStrict(t *testing.T) {
	t.Parallel()
	const head = "apiVersion: catamaran/v1alpha1\nkind: BundleLock\narch: amd64\n"
	for want, text := range map[string]string{
		"unknown field":             head + "file: []\n",
		"expected apiVersion":       "apiVersion: v1\nkind: Pod\n",
		"is for arm64":              strings.Replace(head, "amd64", "arm64", 1),
		"is not 64 hexadecimal":     head + "files: [{url: a, sha256: abc}]\n",
		"is not sha256: and 64 hex": head + "images: [{ref: a, digest: abc}]\n",
	} {
		path := filepath.Join(t.TempDir(), "lock")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := ReadLock(path, "amd64")
		require.ErrorContains(t, err, want)
	}
	l, err := ReadLock(filepath.Join(t.TempDir(), "none"), "amd64")
	require.NoError(t, err)
	assert.Empty(t, l.Files)
}
