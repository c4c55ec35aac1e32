package build

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/catamaran-k8s/catamaran/bootstrap/bundle"
	"github.com/catamaran-k8s/catamaran/bootstrap/host"
	"github.com/catamaran-k8s/catamaran/bootstrap/kubeadm"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// platformBuilder is a testBuilder that is asked for the platform.
func platformBuilder(t *testing.T) *builder {
	t.Helper()
	b := testBuilder(t)
	b.platform = true
	return b
}

// fakes stand for all programs of a builder: what is packed does not matter to the packing.
func fakes(t *testing.T, b *builder) Components {
	t.Helper()
	dir := t.TempDir()
	out := Components{Kubernetes: b.release.kubernetes, Programs: map[string]Program{}}
	for _, c := range b.components() {
		for _, p := range c.programs {
			path := filepath.Join(dir, p.name)
			write(t, path, "program "+p.name)
			digest, size, err := digestFile(path)
			require.NoError(t, err)
			out.Programs[p.name] = Program{Name: p.name, Version: c.version, Source: c.source(), Path: path, Digest: digest, Size: size}
		}
	}
	return out
}

func fakeShared(t *testing.T, b *builder) map[string]v1.Layer {
	t.Helper()
	out := map[string]v1.Layer{}
	for _, n := range []string{shellLayer, netLayer, trivyDBLayer} {
		l, err := b.layer(context.Background(), n, append(skeleton(), item{path: "usr/bin/" + n, mode: 0o755, text: n}))
		require.NoError(t, err)
		out[n] = l
	}
	return out
}

func fakeImages(t *testing.T, b *builder, c Components) []Image {
	t.Helper()
	shared := fakeShared(t, b)
	var out []Image
	for _, r := range b.recipes() {
		img, err := b.image(context.Background(), r, shared, c)
		require.NoError(t, err, r.ref)
		require.NoError(t, validate.Image(img), r.ref)
		out = append(out, Image{r.ref, img})
	}
	return out
}

func TestImagesAreEqualInTwoBuilds(t *testing.T) {
	t.Parallel()
	one, two := platformBuilder(t), platformBuilder(t)
	// other folders and other file times
	first, second := fakeImages(t, one, fakes(t, one)), fakeImages(t, two, fakes(t, two))
	for n := range first {
		a, err := first[n].Digest()
		require.NoError(t, err)
		b, err := second[n].Digest()
		require.NoError(t, err)
		assert.Equal(t, a, b, first[n].Ref)
	}

	changed := fakes(t, two)
	p := changed.Programs["etcd"]
	p.Path = filepath.Join(t.TempDir(), "etcd")
	write(t, p.Path, "another etcd")
	var err error
	p.Digest, p.Size, err = digestFile(p.Path)
	require.NoError(t, err)
	changed.Programs["etcd"] = p
	for n, i := range fakeImages(t, two, changed) {
		a, err := first[n].Digest()
		require.NoError(t, err)
		b, err := i.Digest()
		require.NoError(t, err)
		assert.Equal(t, i.Ref != "registry.k8s.io/etcd:3.7.0-0", a == b, i.Ref)
	}
}

func TestImagesOfAReleaseAreThoseThatKubeadmWants(t *testing.T) {
	t.Parallel()
	for _, v := range Versions() {
		want, err := kubeadm.Images(v)
		require.NoError(t, err)
		for _, platform := range []bool{false, true} {
			have, err := ImageRefs(v, platform)
			require.NoError(t, err)
			assert.Subset(t, have, want, v)
			assert.True(t, slices.IsSorted(have))
			assert.Equal(t, slices.Compact(slices.Clone(have)), have)
		}
	}
	_, err := ImageRefs("1.2.3", false)
	assert.ErrorContains(t, err, "choose 1.37.2 or 1.36.3")
}

// Of the images that the embedded charts use, the lab lacks those that can not be built: the reason stands here.
func TestImagesOfAReleaseAreThoseThatChartsWant(t *testing.T) {
	t.Parallel()
	const optional = "off unless a site asks for it: the chart is only rendered and dry-run"
	const cloud = "on in that cloud's clusters only, and its module is refused at this version: the chart is only rendered and dry-run"
	const openStackOnly = "made where it is asked for: see openstack_test.go"
	refused := map[string]string{
		"registry.k8s.io/networking/kube-network-policies:v0.8.0":                "its module is refused by the checksum database",
		"docker.io/grafana/grafana:13.2.0":                                       "no module that can be built: tests ask the data sources' APIs",
		"docker.io/library/traefik:v3.7.13":                                      optional,
		"docker.io/velero/velero-plugin-for-aws:v1.14.3":                         optional,
		"docker.io/velero/velero:v1.18.3":                                        optional,
		"ghcr.io/dexidp/dex:v2.45.0":                                             optional,
		"quay.io/jetstack/cert-manager-acmesolver:v1.21.2":                       optional,
		"quay.io/jetstack/cert-manager-cainjector:v1.21.2":                       optional,
		"quay.io/jetstack/cert-manager-controller:v1.21.2":                       optional,
		"quay.io/jetstack/cert-manager-webhook:v1.21.2":                          optional,
		"registry.k8s.io/cloud-pv-vsphere/cloud-provider-vsphere:v1.37.0":        cloud,
		"registry.k8s.io/csi-vsphere/driver:v3.7.3":                              cloud,
		"registry.k8s.io/csi-vsphere/syncer:v3.7.3":                              cloud,
		"registry.k8s.io/provider-os/cinder-csi-plugin:v1.36.0":                  openStackOnly,
		"registry.k8s.io/provider-os/openstack-cloud-controller-manager:v1.36.0": openStackOnly,
		"registry.k8s.io/sig-storage/csi-attacher:v4.10.0":                       cloud,
		"registry.k8s.io/sig-storage/csi-attacher:v4.9.0":                        cloud,
		"registry.k8s.io/sig-storage/csi-node-driver-registrar:v2.13.0":          cloud,
		"registry.k8s.io/sig-storage/csi-node-driver-registrar:v2.15.0":          cloud,
		"registry.k8s.io/sig-storage/csi-provisioner:v4.0.1":                     cloud,
		"registry.k8s.io/sig-storage/csi-provisioner:v5.3.0":                     cloud,
		"registry.k8s.io/sig-storage/csi-resizer:v1.12.0":                        cloud,
		"registry.k8s.io/sig-storage/csi-resizer:v1.14.0":                        cloud,
		"registry.k8s.io/sig-storage/livenessprobe:v2.15.0":                      cloud,
		"registry.k8s.io/sig-storage/livenessprobe:v2.17.0":                      cloud,
	}
	// read as a file: the package embedded would bring all of Helm into this test
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "embedded", "images.lock"))
	require.NoError(t, err)
	var lock struct{ Images []struct{ Ref string } }
	require.NoError(t, yaml.Unmarshal(data, &lock))
	require.NotEmpty(t, lock.Images)
	for _, v := range Versions() {
		have, err := ImageRefs(v, true)
		require.NoError(t, err)
		for _, i := range lock.Images {
			if refused[i.Ref] == "" {
				assert.Contains(t, have, i.Ref, "a chart uses it, Kubernetes %s", v)
			}
		}
		assert.Contains(t, have, kubeadm.KubeVIPImage)
	}
}

func TestBundleHoldsWhatNodesNeed(t *testing.T) {
	t.Parallel()
	b := platformBuilder(t)
	c := fakes(t, b)
	path := filepath.Join(t.TempDir(), "bundle")
	require.NoError(t, b.writeBundle(context.Background(), path, c, fakeImages(t, b, c)))
	opened, err := bundle.Open(path)
	require.NoError(t, err)
	defer func() { assert.NoError(t, opened.Close()) }()

	for _, cni := range []inventory.CNI{inventory.CNIFlannel, inventory.CNINone} {
		for _, p := range host.Programs(cni) {
			f, ok := opened.File(p.Name)
			if assert.True(t, ok, "no %s in the bundle", p.Name) {
				assert.Equal(t, c.Programs[p.Name].Digest, f.Digest)
				assert.EqualValues(t, 0o755, f.Mode)
			}
		}
	}
	refs, err := ImageRefs(b.release.kubernetes, true)
	require.NoError(t, err)
	for _, ref := range refs {
		_, ok := opened.Image(ref)
		assert.True(t, ok, "no %s in the bundle", ref)
	}
	proxy, _ := opened.Image("registry.k8s.io/kube-proxy:v" + b.release.kubernetes)
	flannel, _ := opened.Image("ghcr.io/flannel-io/flannel:v" + flannelVersion)
	assert.Equal(t, proxy.Blobs[2:4], flannel.Blobs[2:4], "the shared layers are not shared")
}

func TestLayerRefusesTwoOfOneName(t *testing.T) {
	t.Parallel()
	b := testBuilder(t)
	_, err := b.layer(context.Background(), "x", []item{{path: "a", text: "1"}, {path: "a", text: "2"}})
	assert.ErrorContains(t, err, "a is in the layer twice")
}

func TestLayerEndsWithItsContext(t *testing.T) {
	t.Parallel()
	b := testBuilder(t)
	file := filepath.Join(t.TempDir(), "f")
	write(t, file, "x")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := b.layer(ctx, "x", []item{{path: "f", file: file}})
	assert.ErrorIs(t, err, context.Canceled)
}

// each calls fn for every member of a layer.
func each(t *testing.T, l v1.Layer, fn func(h *tar.Header, content io.Reader)) {
	t.Helper()
	rc, err := l.Uncompressed()
	require.NoError(t, err)
	defer func() { assert.NoError(t, rc.Close()) }()
	tr := tar.NewReader(rc)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
		fn(h, tr)
	}
}
