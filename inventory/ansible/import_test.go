package ansible

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/inventory"
)

var update = flag.Bool("update", false, "rewrite the golden files; read the diff")

// TestImportGolden: whole files, with the result and every warning.
func TestImportGolden(t *testing.T) {
	t.Parallel()
	for file, o := range map[string]Options{
		"kubespray.ini": {
			Name: "umea", Groups: map[inventory.ClusterName]string{inventory.Workload: "k8s_cluster"},
			Endpoints: map[inventory.ClusterName]string{inventory.Workload: "10.3.0.10"},
		},
		"two.yaml":   {Groups: map[inventory.ClusterName]string{inventory.Service: "management", inventory.Workload: "production"}},
		"legacy.ini": {Groups: map[inventory.ClusterName]string{inventory.Service: "all"}},
	} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile("testdata/" + file)
			require.NoError(t, err)
			out, warnings, err := Import(data, file, o)
			require.NoError(t, err)
			text := string(out)
			assert.NotContains(t, text, "CANARY")
			for _, w := range warnings {
				text += "# " + w.String() + "\n"
			}
			name := "testdata/" + file + ".golden.yaml"
			if *update {
				require.NoError(t, os.WriteFile(name, []byte(text), 0o644))
			}
			want, err := os.ReadFile(name)
			require.NoError(t, err)
			assert.Equal(t, string(want), text)
			_, err = inventory.Parse(out, "inventory.yaml")
			assert.NoError(t, err)
		})
	}
}

func TestImportRefuses(t *testing.T) {
	t.Parallel()
	workload := map[inventory.ClusterName]string{inventory.Workload: "all"}
	for name, c := range map[string]struct {
		text   string
		groups map[inventory.ClusterName]string
		want   string
	}{
		"no cluster":            {"[kube_control_plane]\na ip=10.0.0.1\n", nil, "f.ini: which hosts make which cluster? Name a cluster for all of them, or a group for each"},
		"no such group":         {"[kube_node]\na ip=10.0.0.1\n", map[inventory.ClusterName]string{inventory.Service: "x"}, `f.ini: the group "x" has no hosts; there are all, kube_node`},
		"empty":                 {"", workload, `f.ini: the group "all" has no hosts; there are all`},
		"host in both":          {"[kube_control_plane]\na ip=10.0.0.1\n", map[inventory.ClusterName]string{inventory.Service: "all", inventory.Workload: "all"}, "f.ini:2: a is in the groups of both clusters, all and all"},
		"no control plane":      {"[kube_node]\na ip=10.0.0.1\n", workload, `f.ini: the workload cluster has no control plane: no host of the group "all" is in kube_control_plane`},
		"no address":            {"[kube_control_plane]\na\nb ansible_host=b.example.com\n", workload, "f.ini:2: a has no IP address: set ip or ansible_host to one\nf.ini:3: b has no IP address: set ip or ansible_host to one"},
		"no endpoint":           {"[kube_control_plane]\na ip=10.0.0.1\nb ip=10.0.0.2\nc ip=10.0.0.3\n", workload, "f.ini: the workload cluster has 3 control planes and no endpoint: name a free address for the VIP, or a load balancer's: --endpoint workload=ADDRESS"},
		"same address":          {"[kube_control_plane]\na ip=10.0.0.1\n[kube_node]\nb ip=10.0.0.1\n", workload, "f.ini: clusters.workload.nodes[1].address: the inventory would not be valid: 10.0.0.1 is also the address of clusters.workload.nodes[0]"},
		"a bad port":            {"[kube_control_plane]\na ip=10.0.0.1 ansible_port=x\n", workload, "f.ini:2: a: expected a port of 1 to 65535"},
		"a bad section":         {"[a b]\n", workload, "f.ini:1: expected a section such as [kube_node] or [k8s_cluster:children]"},
		"a bad variable":        {"[a:vars]\nx\n", workload, "f.ini:2: expected variable=value in [a:vars]"},
		"a word after a host":   {"a b\n", workload, "f.ini:1: expected variable=value after the host's name"},
		"an open quote":         {"a b='c\n", workload, "f.ini:1: a quote does not end"},
		"an open range":         {"a[1:2\n", workload, `f.ini:1: the range in "a[1:2" does not end`},
		"a range backwards":     {"a[3:1]\n", workload, "f.ini:1: expected a range such as [1:3] or [a:c] of at most 5000, found [3:1]"},
		"a range without end":   {"a[1:999999999]\n", workload, "f.ini:1: expected a range such as [1:3] or [a:c] of at most 5000, found [1:999999999]"},
		"ranges multiplied":     {"a[1:999][1:999]\n", workload, `f.ini:1: the range in "a[1:999][1:999]" is longer than 5000`},
		"too many hosts":        {"a[1:4000]\nb[1:4000]\n", workload, "f.ini:2: there are more than 5000 hosts"},
		"a step of nothing":     {"a[1:3:0]\n", workload, "f.ini:1: the range [1:3:0] has no positive step"},
		"a name that is no DNS": {"[kube_control_plane]\n_a ip=10.0.0.1\n", workload, `f.ini: clusters.workload.nodes[0].name: the inventory would not be valid: expected lower-case letters, digits, dashes and dots, 63 at most, found "-a"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, _, err := Import([]byte(c.text), "f.ini", Options{Groups: c.groups})
			assert.Nil(t, out)
			assert.EqualError(t, err, c.want)
		})
	}
	_, _, err := Import([]byte("all:\n  hosts: [a]\n"), "f.yaml", Options{Groups: workload})
	assert.EqualError(t, err, "f.yaml:2: all.hosts: expected a mapping")
	_, _, err = Import([]byte("all:\n  hosts: {a: [\n"), "f.yaml", Options{Groups: workload})
	assert.EqualError(t, err, "f.yaml:2: did not find expected node content")
	_, _, err = Import([]byte("all: &a {children: *a}\n"), "f.yaml", Options{Groups: workload})
	assert.ErrorContains(t, err, "deeper than 50")
}

func TestExpand(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]string{
		"node1":          "node1",
		"node[1:3]":      "node1 node2 node3",
		"node[01:03].a":  "node01.a node02.a node03.a",
		"node[1:9:4]":    "node1 node5 node9",
		"[a:c]":          "a b c",
		"r[1:2]-n[8:10]": "r1-n8 r1-n9 r1-n10 r2-n8 r2-n9 r2-n10",
		"n[:2]":          "n0 n1 n2",
		"n[008:010]":     "n008 n009 n010",
	} {
		got, err := expand(pattern)
		require.NoError(t, err, pattern)
		assert.Equal(t, want, strings.Join(got, " "), pattern)
	}
}

func TestHostPort(t *testing.T) {
	t.Parallel()
	for word, want := range map[string][2]string{
		"a":            {"a", ""},
		"a:22":         {"a", "22"},
		"a[1:3]":       {"a[1:3]", ""},
		"a[1:3]:22":    {"a[1:3]", "22"},
		"fd00::1":      {"fd00::1", ""},
		"[fd00::1]:22": {"[fd00::1]", "22"},
		"a:b":          {"a:b", ""},
	} {
		host, port := hostPort(word)
		assert.Equal(t, want, [2]string{host, port}, word)
	}
}

// TestVariableOrder: all, then outer groups, inner groups, the host; that is Ansible's order.
func TestVariableOrder(t *testing.T) {
	t.Parallel()
	f, err := parseINI(`
h a=host
[all:vars]
a=all
b=all
c=all
d=all
[outer:children]
inner
[outer:vars]
b=outer
c=outer
[inner]
h
[inner:vars]
a=inner
c=inner
`, "f")
	require.NoError(t, err)
	got := map[string]string{}
	for k, v := range f.scopes()["h"] {
		got[k] = v.String()
	}
	assert.Equal(t, map[string]string{"a": "host", "b": "outer", "c": "inner", "d": "all"}, got)
}

func TestGroupsInACircle(t *testing.T) {
	t.Parallel()
	f, err := parseINI("[a:children]\nb\n[b:children]\na\n[b]\nh\n", "f")
	require.NoError(t, err)
	assert.Equal(t, []string{"h"}, f.members("a"))
	assert.NotNil(t, f.scopes())
}

func TestJumps(t *testing.T) {
	t.Parallel()
	for args, c := range map[string]struct {
		want    []inventory.JumpHost
		ignored string
	}{
		`-J a`:                                  {[]inventory.JumpHost{{Address: "a"}}, ""},
		`-Ju@a:2222,b`:                          {[]inventory.JumpHost{{Address: "a", User: "u", Port: 2222}, {Address: "b"}}, ""},
		`-o ProxyJump=u@[fd00::1]:22`:           {[]inventory.JumpHost{{Address: "fd00::1", User: "u", Port: 22}}, ""},
		`-oProxyJump=none`:                      {nil, ""},
		`-o ProxyCommand="ssh -W %h:%p -q u@a"`: {[]inventory.JumpHost{{Address: "a", User: "u"}}, ""},
		`-o 'ProxyCommand=ssh -p 7 -i k -l u -W "%h:%p" a'`: {[]inventory.JumpHost{{Address: "a", User: "u", Port: 7, KeyFile: "k"}}, ""},
		`-o ProxyCommand="nc -X 5 %h %p"`:                   {nil, "ProxyCommand"},
		`-o StrictHostKeyChecking=no -v -J a`:               {[]inventory.JumpHost{{Address: "a"}}, "StrictHostKeyChecking -v"},
		`-o`:                                                {nil, "-o"},
		`-J "a`:                                             {nil, "a quote does not end"},
	} {
		i := importer{file: newFile("f")}
		assert.Equal(t, c.want, i.jumps(args, 7, "ansible_ssh_common_args"), args)
		if c.ignored == "" {
			assert.Empty(t, i.warnings, args)
			continue
		}
		require.Len(t, i.warnings, 1, args)
		assert.Contains(t, i.warnings[0].Message, c.ignored)
		assert.Equal(t, 7, i.warnings[0].Line)
	}
}

// FuzzImport: no panic, bounded time, and what is written parses.
func FuzzImport(f *testing.F) {
	for _, name := range []string{"kubespray.ini", "two.yaml", "legacy.ini"} {
		data, err := os.ReadFile("testdata/" + name)
		require.NoError(f, err)
		f.Add(data, strings.HasSuffix(name, ".yaml"), "all", "kube_node")
		f.Add(data, strings.HasSuffix(name, ".yaml"), "management", "production")
	}
	f.Fuzz(func(t *testing.T, data []byte, isYAML bool, service, workload string) {
		path := map[bool]string{true: "f.yaml", false: "f.ini"}[isYAML]
		for _, groups := range []map[inventory.ClusterName]string{
			{inventory.Service: service, inventory.Workload: workload}, {inventory.Service: "all"},
		} {
			endpoints := map[inventory.ClusterName]string{}
			for c, address := range map[inventory.ClusterName]string{inventory.Service: "192.0.2.1", inventory.Workload: "192.0.2.2"} {
				if groups[c] != "" {
					endpoints[c] = address
				}
			}
			start := time.Now()
			out, _, err := Import(data, path, Options{Name: "site", Groups: groups, Endpoints: endpoints})
			if took := time.Since(start); took > 30*time.Second {
				t.Fatalf("took %s", took)
			}
			if err != nil {
				continue
			}
			if _, err := inventory.Parse(out, "inventory.yaml"); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
	})
}
