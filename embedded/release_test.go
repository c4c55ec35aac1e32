package embedded

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/catamaran-k8s/catamaran/inventory"
)

func TestWhichReleases(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		cluster inventory.ClusterName
		more    string
		change  func(*inventory.Inventory)
		want    []string
	}{
		"by default":                      {cluster: inventory.Service, want: []string{"flannel", "network-policies", "local-path", "metrics-server"}},
		"NetworkPolicy is of the cluster": {cluster: inventory.Workload, want: []string{"flannel", "local-path", "metrics-server"}},
		"switched off and on": {
			cluster: inventory.Workload, more: "components: {local-path: {enabled: false}, smoke: {enabled: true}}",
			want: []string{"flannel", "metrics-server", "smoke"},
		},
		"with a CNI of the site's own": {
			cluster: inventory.Workload, change: func(inv *inventory.Inventory) { inv.Clusters.Workload.Network.CNI = inventory.CNINone },
			want: []string{"local-path", "metrics-server"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inv := site(t, c.more)
			if c.change != nil {
				c.change(inv)
			}
			assert.Equal(t, c.want, names(releases(t, inv, c.cluster)))
		})
	}
	// plan waits for the release of this name before it calls a node ready
	assert.Equal(t, string(inventory.CNIFlannel), releases(t, site(t, ""), inventory.Service)[0].Name)
	inv := site(t, "")
	inv.Clusters.Service = nil
	_, err := Releases(t.Context(), inv, inventory.Service)
	assert.ErrorContains(t, err, "has no service cluster")
}

func TestValuesFollowTheInventory(t *testing.T) {
	t.Parallel()
	inv := site(t, "components: {smoke: {enabled: true}, flannel: {values: {healthPort: 7000}}}")
	assert.Equal(t, map[string]any{
		"podCIDR": "10.100.0.0/16", "nftables": true, "apiServer": map[string]any{"host": "10.77.0.11", "port": 6443}, "healthPort": 7000,
	}, named(t, releases(t, inv, inventory.Service), "flannel").Values)
	assert.Equal(t, map[string]any{
		"podCIDR": "10.102.0.0/16", "nftables": false, "apiServer": map[string]any{"host": "api.example.org", "port": 443}, "healthPort": 7000,
	}, named(t, releases(t, inv, inventory.Workload), "flannel").Values)
	assert.Equal(t, map[string]any{"nodes": 2, "dnsDomain": "cluster.local", "storageClass": "local-path"},
		named(t, releases(t, inv, inventory.Service), "smoke").Values, "an absent node does not count")
}

// writeChart makes a chart of the site's own: one pod, whose arguments are values.
func writeChart(t *testing.T, dir string) string {
	t.Helper()
	for name, content := range map[string]string{
		"Chart.yaml":         "apiVersion: v2\nname: own\nversion: 1.2.3+build.5\n",
		"values.yaml":        "args: []\nimage: registry.example.org/own:1\n",
		"values.schema.json": `{"type": "object", "additionalProperties": false, "properties": {"args": {"type": "array"}, "image": {"type": "string"}}}`,
		"templates/pod.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: own}\nspec: {containers: [{name: own, image: {{ .Values.image }}, args: {{ .Values.args | toJson }}}]}\n",
	} {
		file := filepath.Join(dir, "own", name)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(content), 0o644))
	}
	return filepath.Join(dir, "own")
}

func ownSite(t *testing.T, chart, more string) *inventory.Inventory {
	t.Helper()
	return site(t, `releases:
  - {name: own, namespace: own, cluster: workload, chart: "`+chart+`"`+more+`}
`)
}

func TestOwnRelease(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	chart := writeChart(t, dir)
	for file, content := range map[string]string{"a.yaml": "args: [a]\nimage: registry.example.org/own:2\n", "b.yaml": "args: [b]\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600))
	}
	inv := ownSite(t, chart, `, order: 50, timeout: 90s, valuesFiles: [`+dir+`/a.yaml, `+dir+`/b.yaml], values: {args: [c]}`)
	r := named(t, releases(t, inv, inventory.Workload), "own")
	assert.Equal(t, map[string]any{"args": []any{"c"}, "image": "registry.example.org/own:2"}, r.Values)
	assert.Equal(t, []string{"registry.example.org/own:2"}, r.Images)
	assert.Equal(t, "1.2.3+build.5", r.Version)
	assert.Equal(t, ChartSource{Path: chart}, r.Chart)
	assert.Equal(t, 50, r.Order)
	assert.Equal(t, "1m30s", r.Timeout.String())
	assert.Empty(t, r.PodSecurity)
	assert.NotContains(t, names(releases(t, inv, inventory.Service)), "own")
	images, err := Images(t.Context(), inv, inventory.Workload)
	require.NoError(t, err)
	assert.Contains(t, images, "registry.example.org/own:2")
	assert.Contains(t, images, "docker.io/library/busybox:1.37.0")

	last := releases(t, ownSite(t, chart, ""), inventory.Workload)
	assert.Equal(t, "own", last[len(last)-1].Name, "order 100 comes after ours")
	first := releases(t, ownSite(t, chart, ", order: 1"), inventory.Workload)
	assert.Equal(t, []string{"flannel", "own"}, names(first)[:2], "a site's own CNI, in flannel's place, would come first")
}

func TestOwnReleaseIsRefused(t *testing.T) {
	t.Parallel()
	chart := writeChart(t, t.TempDir())
	broken := writeChart(t, t.TempDir())
	require.NoError(t, os.WriteFile(filepath.Join(broken, "templates", "pod.yaml"), []byte(`{{ fail (printf "no %s" .Values.image) }}`), 0o600))
	twice := filepath.Join(t.TempDir(), "twice.yaml")
	require.NoError(t, os.WriteFile(twice, []byte("args: [Canary_Secret_7351]\nargs: []\n"), 0o600))
	cases := map[string]struct{ chart, more, want string }{
		"values that its schema refuses": {chart, ", values: {arg: [x]}", `^releases\[0\]\.values\.arg: there is no such value; did you mean args\?$`},
		"a values file that is missing":  {chart, ", valuesFiles: [/nonexistent/a.yaml]", `^releases\[0\]: valuesFiles\[0\]: open /nonexistent/a.yaml: no such file`},
		"a key twice":                    {chart, ", valuesFiles: [" + twice + "]", `^releases\[0\]: valuesFiles\[0\]: .*twice.yaml is not a mapping in YAML, or has a key twice$`},
		"no chart there":                 {"/nonexistent", "", `^releases\[0\]: chart: stat /nonexistent`},
		"a file that is no chart":        {twice, "", `^releases\[0\]: chart .*twice.yaml: `},
		"a template that fails":          {broken, ", values: {image: Canary_Secret_7351}", `^releases\[0\]: .*no <value of image>`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Releases(t.Context(), ownSite(t, c.chart, c.more), inventory.Workload)
			found := refusals(t, err)
			require.Len(t, found, 1)
			assert.Regexp(t, c.want, found[0])
			assert.NotContains(t, err.Error(), "Canary_Secret_7351")
		})
	}
	t.Run("the name of ours", func(t *testing.T) {
		t.Parallel()
		inv := site(t, `releases: [{name: flannel, namespace: kube-flannel, cluster: service, chart: "`+chart+`"}]`)
		_, err := Releases(t.Context(), inv, inventory.Service)
		assert.Equal(t, []string{"releases[0].name: flannel in kube-flannel is a release of catamaran's own"}, refusals(t, err))
	})
}

// The digest decides whether plan installs: equal for equal wishes, different for anything that would install
// something else.
func TestDigest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	chart := writeChart(t, dir)
	digest := func(more string) string {
		return named(t, releases(t, ownSite(t, chart, more), inventory.Workload), "own").Digest
	}
	base := digest("")
	seen := map[string]string{base: "nothing"}
	differs := func(what, d string) {
		assert.NotContains(t, seen, d, "%s makes no other digest than %s", what, seen[d])
		seen[d] = what
	}
	for range 5 {
		assert.Equal(t, base, digest(""))
	}
	assert.Equal(t, base, digest(", order: 7, timeout: 1m"), "when and how long is not what")
	differs("a value", digest(", values: {args: [x]}"))
	differs("another type", digest(`, values: {args: ["1"]}`))
	differs("a number", digest(`, values: {args: [1]}`))
	assert.Equal(t, digest(`, values: {args: [a], image: b}`), digest(`, values: {image: b, args: [a]}`))
	seen[digest(`, values: {image: b, args: [a]}`)] = "two values"
	other := site(t, `releases: [{name: own, namespace: elsewhere, cluster: workload, chart: "`+chart+`"}]`)
	differs("another namespace", named(t, releases(t, other, inventory.Workload), "own").Digest)
	require.NoError(t, os.WriteFile(filepath.Join(chart, "templates", "NOTES.txt"), []byte("hello"), 0o600))
	differs("a file of the chart", digest(""))

	a, b := releases(t, site(t, ""), inventory.Service), releases(t, site(t, ""), inventory.Service)
	for i := range a {
		assert.Equal(t, a[i].Digest, b[i].Digest, a[i].Name)
	}
	upgraded := site(t, "")
	upgraded.Clusters.Service.Version = "1.36.3"
	for i, r := range releases(t, upgraded, inventory.Service) {
		assert.Equal(t, a[i].Digest, r.Digest, "%s: another Kubernetes version reinstalls nothing", r.Name)
	}
}

func TestLabels(t *testing.T) {
	t.Parallel()
	for _, r := range releases(t, site(t, ""), inventory.Service) {
		require.Regexp(t, `^[0-9a-f]{64}$`, r.Digest)
		assert.Empty(t, validation.IsValidLabelValue(LabelDigest(r.Digest)))
		assert.Equal(t, LabelDigest(r.Digest), LabelDigest("sha256:"+r.Digest))
	}
	assert.Empty(t, LabelDigest(""))
	for version, want := range map[string]string{"1.2.3": "1.2.3", "1.2.3+build.5": "1.2.3_build.5", "1.0.0+": "1.0.0"} {
		assert.Equal(t, want, labelVersion(version))
	}
	long := labelVersion("1.2.3-" + strings.Repeat("a", 56) + ".b")
	assert.Len(t, long, 62, "a label may not end in a dot")
	assert.Empty(t, validation.IsValidLabelValue(long), long)
}

// A release that was put together by hand has no chart; it must not be taken for one that installs nothing.
func TestReleaseWithoutChart(t *testing.T) {
	t.Parallel()
	_, err := Release{Name: "x"}.Manifest()
	require.ErrorContains(t, err, "release x was not made from an inventory")
	require.ErrorContains(t, NewInstaller(nil, nil).Apply(t.Context(), Release{Name: "x"}), "release x was not made from an inventory")
}

func BenchmarkReleases(b *testing.B) {
	inv := site(b, "platform: {size: standard}\ncomponents: {smoke: {enabled: true}}")
	for b.Loop() {
		_, err := Releases(b.Context(), inv, inventory.Service)
		require.NoError(b, err)
	}
}
