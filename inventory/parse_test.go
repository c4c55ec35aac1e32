package inventory

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestParseOddFiles: what is wrong with a file before its fields are looked at, and files that only look wrong.
func TestParseOddFiles(t *testing.T) {
	t.Parallel()
	base := string(read1(t, "testdata/base.yaml"))
	values := func(s string) string {
		return strings.Replace(base, "components: {}", "components: {x: {values: "+s+"}}", 1)
	}
	deep := `a: &a0 [x,x,x,x,x,x,x,x]`
	for i := range 12 {
		deep += fmt.Sprintf("\nb%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]", i, i+1, i, i, i, i, i, i, i, i)
	}
	bomb := strings.Replace(base, "components: {}", "components:\n  x:\n    values:\n      "+strings.ReplaceAll(deep, "\n", "\n      "), 1)
	for name, c := range map[string]struct{ text, want string }{
		"empty":                   {"", "f.yaml: the file is empty (`catamaran inventory init` writes a starter)"},
		"only comments":           {"# nothing\n", "f.yaml: the file is empty (`catamaran inventory init` writes a starter)"},
		"only null":               {"~\n", "f.yaml: the file is empty (`catamaran inventory init` writes a starter)"},
		"a list":                  {"- a\n", `f.yaml:1:1: expected a mapping, found a list`},
		"text":                    {"hello\n", `f.yaml:1:1: expected a mapping, found "hello"`},
		"second document":         {base + "---\na: 1\n", "f.yaml:29:1: the file holds a second document (one inventory is one document)"},
		"second document broken":  {base + "---\na: [\n", "f.yaml:29: did not find expected node content"},
		"a tab as indentation":    {"a:\n\tb: 1\n", "f.yaml:2: found character that cannot start any token"},
		"an open bracket":         {"apiVersion: [a,\n", "f.yaml:1: did not find expected node content"},
		"unknown alias":           {"a: *b\n", "f.yaml: unknown anchor 'b' referenced"},
		"not UTF-8":               {"a: \xff\n", "f.yaml: invalid leading UTF-8 octet"},
		"a control character":     {"a: \x01\n", "f.yaml: control characters are not allowed"},
		"an alias of itself":      {values("&a {b: *a}"), "f.yaml:25:26: the file nests deeper than 64 levels: does an alias hold itself?"},
		"a merge of itself":       {values("&a {<<: *a}"), "f.yaml:25:26: the file nests deeper than 64 levels: does an alias hold itself?"},
		"itself in a list":        {values("{a: &a [*a, *a, *a]}"), "f.yaml:25:30: the file nests deeper than 64 levels: does an alias hold itself?"},
		"aliases without bound":   {bomb, "f.yaml:28:29: the file expands to more than 200000 values: are aliases nested?"},
		"too large":               {strings.Repeat("#", maxSize+1), "f.yaml: the file is larger than 4 MiB"},
		"an end marker":           {base + "...\n", ""},
		"a byte order mark":       {"\uFEFF" + base, ""},
		"Windows line ends":       {strings.ReplaceAll(base, "\n", "\r\n"), ""},
		"a start marker":          {"---\n" + base, ""},
		"a quoted << is a key":    {values(`{"<<": 1}`), ""},
		"an alias as key":         {values(`{a: &k name, *k : 1}`), ""},
		"whole numbers in values": {values(`{a: 9223372036854775807, b: 18446744073709551615, c: 1e400}`), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			_, err := Parse([]byte(c.text), "f.yaml")
			if c.want == "" {
				assert.NoError(t, err)
			} else {
				assert.EqualError(t, err, c.want)
			}
			assert.Less(t, time.Since(start), time.Minute)
		})
	}
}

// TestParseManyErrors: a file that is wrong everywhere gets a report that can be read.
func TestParseManyErrors(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&b, "k%d: 1\n", i)
	}
	_, err := Parse([]byte(b.String()), "f.yaml")
	var errs Errors
	require.ErrorAs(t, err, &errs)
	require.Len(t, errs, maxErrors+1)
	assert.Equal(t, "f.yaml:201:1: there are more than 200 errors; the rest is not shown", errs[maxErrors].Error())
}

// TestParseLarge: the largest site that is meant, in a time that nobody notices.
func TestParseLarge(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	base := string(read1(t, "testdata/base.yaml"))
	b.WriteString(strings.Replace(base, "releases: []\n", "", 1))
	nodes := new(strings.Builder)
	for i := range 1000 {
		fmt.Fprintf(nodes, "      - {name: w-%d, role: worker, address: 10.50.%d.%d, labels: {a: b, c: d}}\n", i, i/250, i%250)
	}
	text := strings.Replace(b.String(), "components:", nodes.String()+"components:", 1)
	text = strings.Replace(text, "10.102.0.0/16", "11.0.0.0/8", 1)
	start := time.Now()
	inv, err := Parse([]byte(text), "f.yaml")
	require.NoError(t, err)
	assert.Len(t, inv.Clusters.Workload.Nodes, 1003)
	assert.Less(t, time.Since(start), 30*time.Second, "what grows with the square takes minutes")
	t.Logf("1003 nodes in %s", time.Since(start))
}

// TestLoadFiles: Load looks at the files that an inventory names, all of them in one report.
func TestLoadFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name string, mode os.FileMode) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
		require.NoError(t, os.Chmod(filepath.Join(dir, name), mode))
	}
	write("open", 0o644)
	write("closed", 0o600)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder"), 0o755))
	text := string(read1(t, "testdata/base.yaml"))
	load := func(replacements ...string) error {
		path := filepath.Join(dir, "inventory.yaml")
		require.NoError(t, os.WriteFile(path, []byte(strings.NewReplacer(replacements...).Replace(text)), 0o600))
		_, err := Load(path)
		return err
	}
	lines := func(err error) []string {
		if err == nil {
			return nil
		}
		return strings.Split(strings.ReplaceAll(err.Error(), dir, "DIR"), "\n")
	}
	assert.Empty(t, lines(load("id_ed25519", "closed")))
	assert.Equal(t, []string{
		"DIR/inventory.yaml:5:27: ssh.keyFile: stat DIR/id_ed25519: no such file or directory",
	}, lines(load()))
	assert.Equal(t, []string{
		"DIR/inventory.yaml:5:27: ssh.keyFile: DIR/open can be read by others (mode 0644): chmod 600 it",
		"DIR/inventory.yaml:5:45: ssh.knownHosts: open DIR/none: no such file or directory",
		"DIR/inventory.yaml:5:72: ssh.sudoPassword.file: DIR/open can be read by others (mode 0644): chmod 600 it",
		"DIR/inventory.yaml:5:101: ssh.keyPassphrase.file: DIR/folder is a folder, expected a file",
		"DIR/inventory.yaml:5:139: ssh.jump[0].keyFile: stat DIR/none: no such file or directory",
		"DIR/inventory.yaml:11:34: clusters.service.apiServer.auditPolicyFile: open DIR/none: no such file or directory",
		"DIR/inventory.yaml:27:9: bundle: open DIR/none: no such file or directory",
		"DIR/inventory.yaml:29:54: releases[0].chart: open DIR/none: no such file or directory",
		"DIR/inventory.yaml:29:74: releases[0].valuesFiles[0]: open DIR/none: no such file or directory",
		"DIR/inventory.yaml:30:111: releases[1].password.file: stat DIR/none: no such file or directory",
	}, lines(load("id_ed25519", "open, knownHosts: none, sudoPassword: {file: open}, keyPassphrase: {file: folder}, jump: [{address: b, keyFile: none}]",
		"provider: {onprem: {}}", "provider: {onprem: {}}\n    apiServer: {auditPolicyFile: none}",
		"releases: []", "bundle: none\nreleases:\n  - {name: a, namespace: a, cluster: service, chart: none, valuesFiles: [none]}\n"+
			"  - {name: b, namespace: b, cluster: service, chart: oci://r/b, version: 1.0.0, username: u, password: {file: none}}")))

	_, err := Load(filepath.Join(dir, "missing.yaml"))
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.ErrorContains(t, err, "catamaran inventory init")
	_, err = Load(dir)
	assert.ErrorContains(t, err, "is a directory")
}

func TestWhere(t *testing.T) {
	t.Parallel()
	inv, err := Parse(read1(t, "testdata/full.yaml"), "inventory.yaml")
	require.NoError(t, err)
	lines := strings.Split(string(read1(t, "testdata/full.yaml")), "\n")
	for field, want := range map[string]string{
		"metadata.name":                                "umea}",
		"components.falco":                             "{enabled: true",
		"components.falco.values.driver":               "modern_ebpf",
		"components.falco.values.list[2]":              "null",
		"components.falco.values.list[99]":             "[1, 2.5",
		"components.falco.values.nested.a.b/c":         "{}",
		"components.falco.values.nothing.at.all":       "{driver",
		"releases[0].chart":                            "oci://",
		"releases[0].nothing":                          "name: shop",
		"host.sysctls.net.ipv4.conf.all.rp_filter":     `"0"`,
		"clusters.service.nodes[0].address":            "10.77.0.11",
		"clusters.service.nodes[1].role":               "{<<: *plane, name: sc-2", // from the merge key: where it is used
		"clusters.service.ssh.keyFile":                 "{<<: *ssh",
		"clusters.service.kubelet.evictionHard.memory": "{memory.available",
		"": "apiVersion",
	} {
		line, column := inv.Where(field)
		assert.True(t, strings.HasPrefix(lines[line-1][column-1:], want), "%s is at %d:%d: %s", field, line, column, lines[line-1][column-1:])
	}
	assert.Equal(t, "inventory.yaml:86:12: releases[0].chart: no such chart (look again)",
		inv.Errorf("releases[0].chart", "look again", "no such %s", "chart").Error())

	nested, err := Parse(bytes.Replace(read1(t, "testdata/base.yaml"), []byte("components: {}"), []byte("components: {x: {values: {a.b: 1, a: {b: 2}, a.b.c: 3}}}"), 1), "inventory.yaml")
	require.NoError(t, err)
	for field, want := range map[string]int{"a.b": 32, "a.b.c": 53, "a": 38} {
		_, column := nested.Where("components.x.values." + field)
		assert.Equal(t, want, column, "the longest key that fits is meant: %s", field)
	}
	line, column := (&Inventory{}).Where("metadata.name")
	assert.Equal(t, [2]int{0, 0}, [2]int{line, column})
}

func TestSSHFor(t *testing.T) {
	t.Parallel()
	text := strings.NewReplacer(
		"ssh: {user: ops, keyFile: id_ed25519}", "ssh: {user: ops, jump: [{address: site}], sudoPassword: {env: SITE}}",
		"provider: {onprem: {}}", "ssh: {user: admin, keyFile: /k, jump: [{address: cluster, user: j, port: 7}]}",
		"        address: 10.77.0.12", "        address: 10.77.0.12\n        ssh: {port: 2222, jump: [], agent: true}",
	).Replace(string(read1(t, "testdata/base.yaml")))
	inv, err := Parse([]byte(text), "/site/inventory.yaml")
	require.NoError(t, err)

	first := inv.SSHFor(Service, inv.Node("sc-1"))
	assert.Equal(t, "admin", first.User)
	assert.Equal(t, 22, first.Port)
	assert.False(t, *first.Agent, "a key file is named")
	assert.Equal(t, []JumpHost{{Address: "cluster", User: "j", Port: 7, KeyFile: "/k"}}, first.Jump)
	assert.Equal(t, "SITE", first.SudoPassword.Env)

	second := inv.SSHFor(Service, inv.Node("sc-2"))
	assert.Equal(t, 2222, second.Port)
	assert.Empty(t, second.Jump, "an empty list takes the jump hosts away")
	assert.True(t, *second.Agent)

	third := inv.SSHFor(Workload, inv.Node("wc-1"))
	assert.True(t, *third.Agent, "no key file is named")
	assert.Equal(t, []JumpHost{{Address: "site", User: "ops", Port: 22}}, third.Jump)
	assert.Equal(t, []JumpHost{{Address: "site", Port: 22}}, inv.SSH.Jump, "the inventory itself is left alone")
}

func TestSecretRead(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CATAMARAN_TEST_SECRET", "of the environment\n")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "f"), []byte("two\nlines\n"), 0o600))
	got, err := (&Secret{File: "f"}).Read(dir)
	require.NoError(t, err)
	assert.Equal(t, "two\nlines", string(got))
	got, err = (&Secret{Env: "CATAMARAN_TEST_SECRET"}).Read(dir)
	require.NoError(t, err)
	assert.Equal(t, "of the environment\n", string(got))
	_, err = (&Secret{Env: "CATAMARAN_TEST_NONE"}).Read(dir)
	assert.EqualError(t, err, "the environment variable CATAMARAN_TEST_NONE is not set")
	require.NoError(t, os.Chmod(filepath.Join(dir, "f"), 0o640))
	_, err = (&Secret{File: "f"}).Read(dir)
	assert.ErrorContains(t, err, "can be read by others (mode 0640)")
}

// FuzzParse: no panic, bounded time, and whatever parses is shown as a file that parses to the same. The input is tried
// as a whole file and as the values of a component, where anything goes.
func FuzzParse(f *testing.F) {
	for _, file := range []string{"testdata/base.yaml", "testdata/full.yaml", "testdata/machines.yaml", "testdata/full_machines.yaml"} {
		f.Add(read1(f, file))
	}
	for _, values := range []string{
		"a: &a [*a]\n<<: *a", "a: &a {<<: *a}\nb: 1e3", `c: "\u0085 \x7f \ufeff\t"`, "a: |\n  two\n  lines\nb: >-\n  folded\n  lines\n\n",
		"a: [1, -0.0, 0x1F, 1_000, 0b11, 0o17, .5, 1e400, 18446744073709551616, ~, TRUE, yes, 2024-01-01]", "? a b\n: - - x\n  - {}\n",
		"a: &x {b: c}\nd: {<<: [*x, {e: f}], b: g}", "'quoted': 'it''s'\n\"<<\": 1\n1: 2\n1.10: true\n",
	} {
		f.Add([]byte(values))
	}
	base := string(read1(f, "testdata/base.yaml"))
	schema := compiled(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		values := "components:\n  x:\n    values:\n      " + strings.ReplaceAll(string(data), "\n", "\n      ") + "\n"
		for _, text := range []string{string(data), strings.Replace(base, "components: {}\n", values, 1)} {
			start := time.Now()
			_, err := Parse([]byte(text), "/site/inventory.yaml")
			if took := time.Since(start); took > 30*time.Second {
				t.Fatalf("took %s", took)
			}
			if err == nil {
				again(t, []byte(text), schema)
			}
		}
	})
}
