package inventory

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func fullMachines(t *testing.T) *Inventory {
	t.Helper()
	inv, err := Parse(read1(t, "testdata/full_machines.yaml"), "/site/inventory.yaml")
	require.NoError(t, err)
	return inv
}

func TestPoolsBecomeNodes(t *testing.T) {
	t.Parallel()
	inv := fullMachines(t)
	c := inv.Clusters.Service
	var names []string
	for _, n := range c.Nodes {
		names = append(names, n.Name+" "+n.Pool)
	}
	assert.Equal(t, []string{"sc-1 ", "sc-old ", "sc-w-1 sc-w", "sc-w-2 sc-w"}, names)
	n := inv.Node("sc-w-2")
	assert.Equal(t, Worker, n.Role)
	assert.Equal(t, Present, n.State)
	assert.Equal(t, map[string]string{"rack": "12"}, n.Labels)
	assert.Equal(t, []Taint{{Key: "only", Value: "logs", Effect: "NoSchedule"}}, *n.Taints)
	assert.Equal(t, 200, n.OpenStack.Volume.SizeGiB)
	assert.Equal(t, "/site/keys/pool", inv.SSHFor(Service, n).KeyFile, "resolved like any")
	assert.Equal(t, "/site/keys/sudo", n.SSH.SudoPassword.File)
	assert.Equal(t, "ops", inv.SSHFor(Service, inv.Node("sc-1")).User)
	assert.Len(t, inv.SSHFor(Service, n).AuthorizedKeys, 1, "the site's")
}

func TestPoolNodesShareNothing(t *testing.T) {
	t.Parallel()
	inv := fullMachines(t)
	one, two, p := inv.Node("sc-w-1"), inv.Node("sc-w-2"), &inv.Clusters.Service.Pools[0]
	one.Labels["rack"], (*one.Taints)[0].Value, one.OpenStack.Volume.SizeGiB, one.OpenStack.AvailabilityZones[0] = "x", "x", 1, "x"
	one.SSH.User, one.SSH.SudoPassword.File, one.OpenStack.Metadata["x"], *one.OpenStack.FloatingIP = "x", "x", "x", true
	for _, n := range []Node{*two, p.node(2)} {
		assert.Equal(t, "12", n.Labels["rack"])
		assert.Equal(t, "logs", (*n.Taints)[0].Value)
		assert.Equal(t, 200, n.OpenStack.Volume.SizeGiB)
		assert.Equal(t, "az1", n.OpenStack.AvailabilityZones[0])
		assert.Equal(t, "admin", n.SSH.User)
		assert.Equal(t, "/site/keys/sudo", n.SSH.SudoPassword.File)
		assert.Empty(t, n.OpenStack.Metadata)
		assert.False(t, *n.OpenStack.FloatingIP)
	}
	m := inv.OpenStackFor(Service, inv.Node("sc-1"))
	m.Metadata["x"], m.Volume.SizeGiB = "x", 1
	assert.Equal(t, map[string]string{"owner": "ops", "cost": "17"}, inv.Clusters.Service.Provider.OpenStack.Machine.Metadata)
	assert.Equal(t, 60, inv.Clusters.Service.Provider.OpenStack.Machine.Volume.SizeGiB)
}

func TestClone(t *testing.T) {
	t.Parallel()
	var none map[string]any
	assert.Nil(t, clone(none))
	assert.NotNil(t, clone(map[string]any{}))
	deep := map[string]any{"a": []any{1, nil, map[string]any{"b": "c"}}, "n": nil}
	got := clone(deep)
	assert.Equal(t, deep, got)
	deep["a"].([]any)[2].(map[string]any)["b"] = "x"
	assert.Equal(t, "c", got["a"].([]any)[2].(map[string]any)["b"])
}

// TestPoolsAreWrittenAsPools: what is shown lists no node of a pool, so that reading it does not make them twice.
func TestPoolsAreWrittenAsPools(t *testing.T) {
	t.Parallel()
	inv := fullMachines(t)
	for _, shown := range [][]byte{must(inv.YAML()), must(inv.JSON())} {
		assert.NotContains(t, string(shown), "sc-w-1")
		assert.Contains(t, string(shown), "sc-old")
		second, err := Parse(shown, "/site/inventory.yaml")
		require.NoError(t, err)
		assert.Len(t, second.Clusters.Service.Nodes, 4)
	}
	assert.Len(t, inv.Clusters.Service.Nodes, 4, "the inventory itself is left alone")
	only := strings.Replace(string(read1(t, "testdata/machines.yaml")), "      - {name: sc-1, role: control-plane, address: 10.20.0.11}\n"+
		"      - {name: sc-old, role: worker, openstack: {server: by-hand}}\n", "      []\n", 1)
	only = strings.Replace(only, "{name: sc-w, role: worker, count: 2}", "{name: sc-w, role: control-plane, count: 3}", 1)
	again(t, []byte(only), compiled(t))
}

func TestWhereOfPoolNodes(t *testing.T) {
	t.Parallel()
	inv := fullMachines(t)
	lines := strings.Split(string(read1(t, "testdata/full_machines.yaml")), "\n")
	for field, want := range map[string][2]string{
		"clusters.service.nodes[0].address":              {"clusters.service.nodes[0].address", "10.20.0.11"},
		"clusters.service.nodes[3]":                      {"clusters.service.pools[0]", "name: sc-w"},
		"clusters.service.nodes[3].address":              {"clusters.service.pools[0]", "name: sc-w"},
		"clusters.service.nodes[2].labels.rack":          {"clusters.service.pools[0].labels.rack", `"12"`},
		"clusters.service.nodes[2].taints[0].key":        {"clusters.service.pools[0].taints[0].key", "only"},
		"clusters.service.nodes[2].openstack.volume":     {"clusters.service.pools[0].openstack.volume", "{sizeGiB: 200}"},
		"clusters.workload.nodes[2].vsphere.template":    {"clusters.workload.pools[0].vsphere.template", "worker"},
		"clusters.workload.nodes[99].vsphere.template":   {"clusters.workload.nodes[99].vsphere.template", "- {name: wc-1"},
		"clusters.workload.nodes[1].vsphere.vm":          {"clusters.workload.nodes[1].vsphere.vm", "by-hand"},
		"clusters.workload.nodes[99999999999999999].any": {"clusters.workload.nodes[99999999999999999].any", "- {name: wc-1"},
	} {
		e := inv.Errorf(field, "", "wrong")
		assert.Equal(t, want[0], e.Field)
		assert.True(t, strings.HasPrefix(lines[e.Line-1][e.Column-1:], want[1]), "%s is at %d:%d: %s", field, e.Line, e.Column, lines[e.Line-1][e.Column-1:])
	}
}

func TestOpenStackFor(t *testing.T) {
	t.Parallel()
	inv := fullMachines(t)
	yes, no := true, false
	assert.Equal(t, OpenStackMachine{
		Flavor: "m1.xlarge", Image: "ubuntu-24.04", Volume: &OpenStackVolume{SizeGiB: 60, Type: "ssd", AvailabilityZone: "volumes-1"}, KeyPair: "ops",
		AvailabilityZones: []string{"az1"}, AntiAffinity: AntiAffinityNone, FloatingIP: &yes, ConfigDrive: &yes,
		SecurityGroups: []string{"monitoring"}, Metadata: map[string]string{"owner": "ops", "cost": "17"}, Tags: []string{},
	}, inv.OpenStackFor(Service, inv.Node("sc-1")), "a single node: the provider's, then its own; kept apart from nobody")
	assert.Equal(t, OpenStackMachine{
		Flavor: "m1.large", Image: "ubuntu-24.04", Volume: &OpenStackVolume{SizeGiB: 200}, KeyPair: "ops",
		AvailabilityZones: []string{"az1"}, AntiAffinity: AntiAffinityNone, FloatingIP: &no, ConfigDrive: &no,
		SecurityGroups: []string{"monitoring"}, Metadata: map[string]string{}, Tags: []string{"production"},
	}, inv.OpenStackFor(Service, inv.Node("sc-w-2")), "a pool's node: a volume and a mapping are replaced as a whole")
	assert.Equal(t, OpenStackMachine{Server: "by-hand", AntiAffinity: AntiAffinityNone, FloatingIP: &no, ConfigDrive: &no},
		inv.OpenStackFor(Service, inv.Node("sc-old")), "an adopted server takes nothing of the provider's")

	p := &inv.Clusters.Service.Pools[0]
	p.OpenStack.AvailabilityZones, p.OpenStack.AntiAffinity = nil, ""
	for number, zone := range map[int]string{1: "az1", 2: "az2", 3: "az3", 4: "az1", 12: "az3"} {
		n := p.node(number)
		m := inv.OpenStackFor(Service, &n)
		assert.Equal(t, []string{zone}, m.AvailabilityZones, n.Name)
		assert.Equal(t, AntiAffinityHard, m.AntiAffinity, "the provider's")
	}
	bare := OpenStackMachine{}
	inv.Clusters.Service.Provider.OpenStack.Machine = bare
	n := p.node(1)
	assert.Equal(t, AntiAffinitySoft, inv.OpenStackFor(Service, &n).AntiAffinity, "the default of pools")
	second := Node{Name: "sc-old"}
	inv.Clusters.Service.Provider.OpenStack.Machine.AvailabilityZones = []string{"a", "b"}
	assert.Equal(t, []string{"b"}, inv.OpenStackFor(Service, &second).AvailabilityZones, "single nodes in turn")
}

func TestVSphereFor(t *testing.T) {
	t.Parallel()
	inv := fullMachines(t)
	no := false
	attributes, tags := map[string]string{"owner": "ops"}, []string{"team:ops"}
	assert.Equal(t, VSphereMachine{
		Template: "ubuntu-24.04", LinkedClone: &no, Cluster: "edge", Datastore: "local", Network: "/dc/network/nodes", CPUs: 4,
		MemoryMiB: 8192, DiskGiB: 60, ExtraDisksGiB: []int{}, Gateway: "10.30.0.1", Prefix: 24, DNS: []string{"10.30.0.53"},
		AntiAffinity: AntiAffinityNone, Tags: tags, Attributes: attributes,
	}, inv.VSphereFor(Workload, inv.Node("wc-1")), "another cluster has other resource pools, and another datastore is no cluster of them")
	assert.Equal(t, VSphereMachine{
		Template: "worker", LinkedClone: &no, Cluster: "compute", ResourcePool: "clusters", DatastoreCluster: "ssd", Network: "/dc/network/nodes",
		CPUs: 8, MemoryMiB: 16384, DiskGiB: 60, ExtraDisksGiB: []int{100, 200}, AntiAffinity: AntiAffinityNone, Tags: tags, Attributes: attributes,
	}, inv.VSphereFor(Workload, inv.Node("wc-w-3")), "without an address the guest asks DHCP")
	assert.Equal(t, VSphereMachine{VM: "by-hand", LinkedClone: &no, AntiAffinity: AntiAffinityNone}, inv.VSphereFor(Workload, inv.Node("wc-old")))
	n := inv.Clusters.Workload.Pools[0].node(1)
	n.VSphere = nil
	assert.Equal(t, AntiAffinityHard, inv.VSphereFor(Workload, &n).AntiAffinity, "the provider's")
	inv.Clusters.Workload.Provider.VSphere.Machine.AntiAffinity = ""
	assert.Equal(t, AntiAffinityNone, inv.VSphereFor(Workload, &n).AntiAffinity, "the default")
}

func TestMakes(t *testing.T) {
	t.Parallel()
	assert.False(t, Provider{}.Makes())
	assert.False(t, Provider{OnPrem: &OnPrem{}}.Makes())
	for _, p := range []Provider{{OpenStack: &OpenStack{}}, {VSphere: &VSphere{}}, {External: &External{}}} {
		assert.True(t, p.Makes())
	}
}

// TestLoadFilesOfMachines: Load looks at the files that providers and clouds name.
func TestLoadFilesOfMachines(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"open": 0o644, "seen": 0o640, "closed": 0o600, "program": 0o755} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
		require.NoError(t, os.Chmod(filepath.Join(dir, name), mode))
	}
	text := string(read1(t, "testdata/machines.yaml"))
	load := func(replacements ...string) []string {
		path := filepath.Join(dir, "inventory.yaml")
		require.NoError(t, os.WriteFile(path, []byte(strings.NewReplacer(replacements...).Replace(text)), 0o600))
		if _, err := Load(path); err != nil {
			return strings.Split(strings.ReplaceAll(err.Error(), dir, "DIR"), "\n")
		}
		return nil
	}
	assert.Empty(t, load("id_ed25519", "closed", "wc-password", "closed"))
	assert.Equal(t, []string{
		"DIR/inventory.yaml:19:61: clusters.service.pools[0].ssh.keyFile: stat DIR/none: no such file or directory",
		"DIR/inventory.yaml:21:65: clusters.service.cloud.openstack.caFile: open DIR/none: no such file or directory",
		"DIR/inventory.yaml:21:103: clusters.service.cloud.openstack.applicationCredentialID.file: DIR/open can be read by others (mode 0644): chmod 600 it",
		"DIR/inventory.yaml:27:17: clusters.workload.provider.vsphere.caFile: open DIR/none: no such file or directory",
		"DIR/inventory.yaml:35:25: clusters.workload.cloud.vsphere.caFile: open DIR/none: no such file or directory",
		"DIR/inventory.yaml:35:110: clusters.workload.cloud.vsphere.password.file: DIR/seen can be read by others (mode 0640): chmod 600 it",
	}, load("id_ed25519", "closed", "wc-password", "seen", "count: 2}", "count: 2, ssh: {keyFile: none}}",
		`5000/v3", applicationCredentialID: {env: SC_ID}`, `5000/v3", caFile: none, applicationCredentialID: {file: open}`,
		"      vsphere:\n", "      vsphere:\n        caFile: none\n", "vsphere: {server", "vsphere: {caFile: none, server"))

	external := func(program string) []string {
		before, _, _ := strings.Cut(text, "    provider:\n")
		return load(text, strings.ReplaceAll(before, "id_ed25519", "closed")+"    provider: {external: {command: ["+program+"]}}\n    nodes: [{name: sc-1, role: control-plane}]\n")
	}
	assert.Empty(t, external("./program"))
	assert.Empty(t, external("program-in-path"), "looked for when it is run")
	const field = "DIR/inventory.yaml:10:37: clusters.service.provider.external.command[0]: "
	assert.Equal(t, []string{field + "stat DIR/none: no such file or directory"}, external("./none"))
	assert.Equal(t, []string{field + "DIR/closed can not be run (mode 0600) (chmod +x it)"}, external("./closed"))
	assert.Equal(t, []string{field + "DIR is a folder, expected a program"}, external("./"))
}
