package inventory

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestStarterLoads(t *testing.T) {
	schema := compiled(t)
	for _, o := range []StarterOptions{{"umea", 1, 1}, {"umea", 3, 2}, {"umea", 9, 99}, {"u", 1, 0}} {
		home := t.TempDir()
		t.Setenv("HOME", home)
		text, err := Starter(o)
		require.NoError(t, err)
		path := filepath.Join(home, "inventory.yaml")
		require.NoError(t, WriteNew(path, text))
		_, err = Load(path)
		require.EqualError(t, err, path+":20:12: ssh.keyFile: stat "+home+"/.ssh/id_ed25519: no such file or directory",
			"only the key file is missing")
		require.NoError(t, os.Mkdir(filepath.Join(home, ".ssh"), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(home, ".ssh/id_ed25519"), []byte("x"), 0o600))
		inv, warnings, err := LoadWithWarnings(path)
		require.NoError(t, err)
		require.Len(t, warnings, 1)
		assert.Equal(t, "nobody is told of alerts", warnings[0].Message)
		assert.Len(t, inv.Clusters.Workload.ControlPlanes(), o.ControlPlanes)
		assert.Len(t, inv.Clusters.Service.Workers(), o.Workers)
		require.NoError(t, schema.Validate(instance(t, text)))
	}
	text, err := Starter(StarterOptions{"umea", 3, 1})
	require.NoError(t, err)
	golden(t, "testdata/starter.yaml", text)
}

// TestStarterCommentsAreTrue: what stands in comments as an example is a field, and parses when it is taken in.
func TestStarterCommentsAreTrue(t *testing.T) {
	t.Parallel()
	text, err := Starter(StarterOptions{"umea", 1, 0})
	require.NoError(t, err)
	field := regexp.MustCompile(`(?m)^( *)# ((  )*(- )?(\{?[a-zA-Z-]+: .*|[a-zA-Z-]+:))$`)
	s := string(text)
	s = strings.Replace(s, "components: {}", "components:", 1)
	s = strings.Replace(s, "releases: []", "releases:", 1)
	s = strings.ReplaceAll(s, `"SHA256:..."`, `"SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"`)
	head, tail, ok := strings.Cut(s, "kubernetes:")
	require.True(t, ok)
	taken := len(field.FindAllString(tail, -1))
	assert.Equal(t, 35, taken, "examples in comments")
	inv, err := Parse([]byte(head+"kubernetes:"+field.ReplaceAllString(tail, "$1$2")), "inventory.yaml")
	require.NoError(t, err)
	assert.Len(t, inv.Releases, 1)
	assert.Equal(t, CNINone, inv.Clusters.Service.Network.CNI)
	assert.Equal(t, "192.0.2.10", inv.Clusters.Service.Endpoint.Address)
	assert.Len(t, inv.SSH.Jump, 1)
	assert.False(t, inv.Platform.On())
	assert.Equal(t, Retention{LogsDays: 90, MetricsDays: 30, LockDays: 365}, inv.Platform.Retention, "the defaults of size standard")
	assert.Equal(t, "umea-evidence", inv.Platform.ObjectStorage.Buckets.Evidence)
}

// TestStarterMachinesAreTrue: the examples of providers that make machines parse in place of a cluster's provider and nodes.
func TestStarterMachinesAreTrue(t *testing.T) {
	t.Parallel()
	text, err := Starter(StarterOptions{"umea", 1, 0})
	require.NoError(t, err)
	listed := regexp.MustCompile(`(?ms)^    provider:\n.*?(^  # The workload)`)
	for marks, check := range map[string]func(*Cluster){
		"##": func(c *Cluster) {
			assert.Equal(t, "umea", c.Provider.OpenStack.Cloud)
			assert.Equal(t, "m1.xlarge", c.Nodes[2].OpenStack.Flavor)
		},
		"###": func(c *Cluster) { assert.Equal(t, 8192, c.Provider.VSphere.Machine.MemoryMiB) },
	} {
		var example string
		for _, m := range regexp.MustCompile(`(?m)^  `+marks+`(  .*)$`).FindAllStringSubmatch(string(text), -1) {
			example += "  " + m[1] + "\n"
		}
		require.NotEmpty(t, example)
		require.True(t, listed.Match(text))
		changed := listed.ReplaceAllString(string(text), example+"$1")
		inv, warnings, err := read([]byte(changed), "inventory.yaml", false)
		require.NoError(t, err, "%s", changed)
		c := inv.Clusters.Service
		require.Len(t, c.Nodes, 3)
		assert.Equal(t, "sc-worker-2", c.Nodes[2].Name)
		assert.Equal(t, EndpointNode, c.Endpoint.Mode, "its address is known when the machine is there")
		for _, w := range warnings {
			assert.NotContains(t, w.Field, "provider")
		}
		check(c)
	}
}

func TestStarterRefuses(t *testing.T) {
	t.Parallel()
	for _, o := range []StarterOptions{{"Umea", 1, 1}, {"", 1, 1}, {"umea", 0, 1}, {"umea", 10, 1}, {"umea", 1, -1}, {"umea", 1, 100}} {
		_, err := Starter(o)
		assert.Error(t, err, "%v", o)
	}
	assert.True(t, Supported(NewestTested))
	assert.False(t, Supported("1.30.0"))
}

func TestWriteNewNeverReplaces(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "inventory.yaml")
	require.NoError(t, WriteNew(path, []byte("first")))
	err := WriteNew(path, []byte("second"))
	assert.EqualError(t, err, path+" is there already and is left as it is: move it away, or name another file")
	assert.Equal(t, "first", string(read1(t, path)))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 1, "nothing is left beside it")
	assert.Error(t, WriteNew(filepath.Join(dir, "none", "x"), nil))
}
