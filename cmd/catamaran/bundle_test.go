package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/catamaran-k8s/catamaran/bootstrap/bundle"
)

// runBundle runs `catamaran bundle ...` and returns its standard output.
func runBundle(t *testing.T, args ...string) (string, error) {
	t.Helper()
	c := newRoot()
	var out bytes.Buffer
	c.SetOut(&out)
	c.SetArgs(append([]string{"bundle", "--progress", "none"}, args...))
	err := c.ExecuteContext(t.Context())
	return out.String(), err
}

const bundleInventory = `apiVersion: catamaran/v1alpha1
kind: Inventory
metadata: {name: umea}
bundle: site.bundle
kubernetes: {version: 1.37.2}
ssh: {user: ops, keyFile: not-on-this-machine}
clusters:
  service:
    endpoint: {address: 10.77.0.10}
    network: {podCIDR: 10.100.0.0/16, serviceCIDR: 10.101.0.0/16}
    provider: {onprem: {}}
    nodes: [{name: sc-1, role: control-plane, address: 10.77.0.11}]
  workload:
    endpoint: {address: 10.77.0.20}
    network: {podCIDR: 10.102.0.0/16, serviceCIDR: 10.103.0.0/16}
    nodes: [{name: wc-1, role: control-plane, address: 10.77.0.21}]
platform: {enabled: false}
`

// Build, list, verify; the inventory names a bundle and a key that are not there.
func TestBundleCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := func(name string, content string) string {
		p := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(p, []byte(content), 0o600))
		return p
	}
	path("tool", "#!/bin/sh\n")
	own := path("spec.yaml", `apiVersion: catamaran/v1alpha1
kind: BundleSpecification
kubernetes: 1.37.2
arch: amd64
files: [{name: kubelet, version: 1.37.2, url: tool}]
images: []
`)
	inv, out := path("inventory.yaml", bundleInventory), filepath.Join(dir, "site.bundle")

	_, err := runBundle(t, "build", "--spec", own, "-f", inv)
	require.ErrorContains(t, err, "the specification lacks what the inventory needs:\n  file kubeadm\n")
	require.NoFileExists(t, out, "nothing was begun")

	_, err = runBundle(t, "build", "--spec", own, "--out", out)
	require.NoError(t, err)
	require.FileExists(t, out+".lock")
	text, err := runBundle(t, "list", out)
	require.NoError(t, err)
	assert.Regexp(t, `file +kubelet +1\.37\.2 +0\.0 KiB +sha256:`, text)
	text, err = runBundle(t, "list", out, "-o", "json")
	require.NoError(t, err)
	var listed struct {
		Digest string
		bundle.Manifest
	}
	require.NoError(t, json.Unmarshal([]byte(text), &listed))
	assert.Equal(t, "kubelet", listed.Files[0].Name)
	text, err = runBundle(t, "verify", out)
	require.NoError(t, err)
	assert.Contains(t, text, "is whole")
	assert.Contains(t, text, listed.Digest)
	_, err = runBundle(t, "verify", out, "-f", inv)
	require.ErrorContains(t, err, "image registry.k8s.io/kube-apiserver:v1.37.2\n")
	_, err = runBundle(t, "verify", own)
	require.ErrorContains(t, err, "it is not a bundle")
}

// The built-in specification holds what the inventory needs, with its versions, and says no to contradictions.
func TestBundleSpecification(t *testing.T) {
	t.Parallel()
	inv := filepath.Join(t.TempDir(), "inventory.yaml")
	require.NoError(t, os.WriteFile(inv, []byte(bundleInventory), 0o600))
	text, err := runBundle(t, "build", "-f", inv, "--show", "--arch", "arm64", "--image", "quay.io/site/own:v1",
		"--mirror-registry", "mirror.example.org", "--mirror-files", "https://mirror.example.org/files")
	require.NoError(t, err)
	var s bundle.Specification
	require.NoError(t, yaml.UnmarshalStrict([]byte(text), &s))
	require.NoError(t, s.Check())
	assert.Equal(t, "1.37.2", s.Kubernetes)
	assert.Equal(t, "arm64", s.Arch)
	assert.Equal(t, bundle.MirrorAll("https://mirror.example.org/files", "mirror.example.org"), s.Mirrors)
	assert.Empty(t, s.Missing(bundle.Needs{Images: []string{"quay.io/site/own:v1"}}))

	_, err = runBundle(t, "build", "-f", inv, "--kubernetes", "1.36.3")
	require.ErrorContains(t, err, "--kubernetes says 1.36.3, the inventory 1.37.2")
	_, err = runBundle(t, "build", "--out", "x")
	require.ErrorContains(t, err, "say which Kubernetes with --kubernetes")
	_, err = runBundle(t, "build", "--kubernetes", "1.37.2")
	require.ErrorContains(t, err, "--out")
}

func TestSplitRef(t *testing.T) {
	t.Parallel()
	for ref, want := range map[string][2]string{
		"registry.k8s.io/pause:3.10":  {"registry.k8s.io/pause", "3.10"},
		"localhost:5000/a/b:v1":       {"localhost:5000/a/b", "v1"},
		"localhost:5000/a/b":          {"localhost:5000/a/b", ""},
		"quay.io/a@sha256:0123456789": {"quay.io/a", "sha256:0123456789"},
	} {
		name, version := splitRef(ref)
		assert.Equal(t, want, [2]string{name, version})
	}
}
