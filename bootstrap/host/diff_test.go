package host

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// prepared are facts of a machine on which nothing is lacking.
func prepared(want Node) *Facts {
	f := &Facts{Firewall: want.Firewall, Files: map[string]File{}, Sysctls: map[string]string{}, Modules: map[string]string{}, Units: map[string]Unit{}}
	for _, w := range want.Files {
		f.Files[w.Path] = File{Mode: "0" + strings.TrimPrefix(map[uint32]string{0o644: "644", 0o600: "600"}[w.Mode], "0"), SHA256: SHA256(w.Content), Content: w.Content}
	}
	for k, v := range want.Sysctls {
		f.Sysctls[k] = v
	}
	for _, m := range want.Modules {
		f.Modules[m] = "loaded"
	}
	for _, u := range want.Units {
		f.Units[u] = Unit{Active: "active", Enabled: "enabled"}
	}
	return f
}

func desired(t *testing.T, role inventory.Role) Node {
	t.Helper()
	inv := &inventory.Inventory{Kubernetes: inventory.Kubernetes{Version: "1.37.2"}, Clusters: inventory.Clusters{Service: &inventory.Cluster{
		Endpoint: inventory.Endpoint{Address: "10.77.0.10", Mode: inventory.EndpointVIP},
		Network:  inventory.Network{PodCIDR: "10.100.0.0/16", ServiceCIDR: "10.101.0.0/16", CNI: inventory.CNIFlannel},
		Nodes:    []inventory.Node{{Name: "sc-1", Address: "10.77.0.11"}, {Name: "sc-2", Address: "10.77.0.12", State: inventory.Absent}},
	}}}
	inv.Host.Sysctls = map[string]string{"net.ipv4.tcp_rmem": "4096  131072\t6291456"}
	inv.Host.KernelModules = []string{"nf_conntrack"}
	n, err := Desired(DesiredInput{Inventory: inv, Cluster: inventory.Service, Node: &inventory.Node{Name: "sc-1", Role: role}, AuditPolicy: "policy"})
	require.NoError(t, err)
	return n
}

func TestDiff(t *testing.T) {
	t.Parallel()
	want := desired(t, inventory.ControlPlane)
	for name, c := range map[string]struct {
		spoil  func(f *Facts)
		expect func(c *Changes)
		reason string
	}{
		"nothing": {func(*Facts) {}, func(*Changes) {}, ""},
		"a file differs": {func(f *Facts) { f.Files[sysctlFile] = File{Mode: "0644", SHA256: "x", Content: "old"} }, func(c *Changes) {
			c.Files = []FileChange{{Path: sysctlFile, Mode: 0o644, Content: want.Files[0].Content, Before: "old", Exists: true}}
		}, "1 file differs"},
		"a mode differs": {func(f *Facts) { h := f.Files[sysctlFile]; h.Mode = "0666"; f.Files[sysctlFile] = h }, func(c *Changes) {
			c.Files = []FileChange{{Path: sysctlFile, Mode: 0o644, Content: want.Files[0].Content, Before: want.Files[0].Content, Exists: true}}
		}, "1 file differs"},
		"a file is missing whose unit runs": {func(f *Facts) { delete(f.Files, "/etc/containerd/config.toml") }, func(c *Changes) {
			c.Files = []FileChange{{Path: "/etc/containerd/config.toml", Mode: 0o644, Content: want.Files[2].Content}}
			c.Restart = []string{"containerd.service"}
		}, "1 file differs"},
		"a file is missing whose unit does not run": {func(f *Facts) {
			delete(f.Files, "/etc/systemd/system/kubelet.service")
			f.Units["kubelet.service"] = Unit{Active: "inactive", Enabled: "enabled"}
		}, func(c *Changes) {
			c.Files = []FileChange{{Path: "/etc/systemd/system/kubelet.service", Mode: 0o644, Content: kubeletUnit}}
		}, "1 file differs"},
		"sysctls": {func(f *Facts) { f.Sysctls["kernel.panic"], f.Sysctls["vm.panic_on_oom"] = "0", "1" }, func(c *Changes) {
			c.Sysctls = map[string]string{"kernel.panic": "10", "vm.panic_on_oom": "0"}
		}, "2 sysctls differ"},
		"a sysctl in the kernel's own spacing": {func(f *Facts) { f.Sysctls["net.ipv4.tcp_rmem"] = "4096 131072 6291456" }, func(*Changes) {}, ""},
		"a sysctl that the kernel lacks":       {func(f *Facts) { delete(f.Sysctls, "net.bridge.bridge-nf-call-iptables") }, func(*Changes) {}, ""},
		"a module, and the sysctl that comes with it": {func(f *Facts) {
			f.Modules["br_netfilter"] = "available"
			delete(f.Sysctls, "net.bridge.bridge-nf-call-iptables")
		}, func(c *Changes) {
			c.Modules = []string{"br_netfilter"}
			c.Sysctls = map[string]string{"net.bridge.bridge-nf-call-iptables": "1"}
		}, "1 sysctl differs, 1 module is not loaded"},
		"modules that are built in or missing": {func(f *Facts) { f.Modules["overlay"], f.Modules["br_netfilter"] = "builtin", "missing" }, func(*Changes) {}, ""},
		"swap":                                 {func(f *Facts) { f.SwapActive = true }, func(c *Changes) { c.SwapOff = true }, "swap is on"},
		"units": {func(f *Facts) {
			f.Units = map[string]Unit{"kubelet.service": {Active: "inactive", Enabled: "disabled"}, "containerd.service": {Active: "failed", Enabled: "enabled"}}
		}, func(c *Changes) {
			c.Enable, c.Start = []string{"kubelet.service", firewallUnit}, []string{"containerd.service"}
		}, "2 units are not enabled, 1 unit does not run"},
		"another firewall is loaded": {func(f *Facts) { f.Firewall = "stamp_0" }, func(c *Changes) { c.Firewall = want.Firewall }, "the firewall differs"},
		"no firewall is loaded":      {func(f *Facts) { f.Firewall = "" }, func(c *Changes) { c.Firewall = want.Firewall }, "the firewall differs"},
	} {
		t.Run(name, func(t *testing.T) {
			f := prepared(want)
			for k, v := range f.Sysctls {
				f.Sysctls[k] = sysctlValue(v) // as Parse reads it
			}
			c.spoil(f)
			expect := Changes{Sysctls: map[string]string{}}
			c.expect(&expect)
			got := Diff(want, f)
			require.Equal(t, expect, got)
			require.Equal(t, c.reason == "", got.Empty())
			require.Equal(t, c.reason, got.Reason())
		})
	}
	t.Run("a firewall that must go", func(t *testing.T) {
		want := want
		want.Firewall = ""
		f := prepared(want)
		f.Firewall = "stamp_0"
		for k, v := range f.Sysctls {
			f.Sysctls[k] = sysctlValue(v)
		}
		got := Diff(want, f)
		require.True(t, got.FirewallOff)
		require.False(t, got.Empty())
		require.Equal(t, "the firewall is on", got.Reason())
		require.Contains(t, got.Script(), FirewallOff)
		f.Firewall = ""
		require.True(t, Diff(want, f).Empty())
	})
	t.Run("swap that may stay", func(t *testing.T) {
		want := want
		want.NoSwap = false
		f := prepared(want)
		f.SwapActive = true
		for k, v := range f.Sysctls {
			f.Sysctls[k] = sysctlValue(v)
		}
		require.True(t, Diff(want, f).Empty())
	})
}

func TestDesired(t *testing.T) {
	t.Parallel()
	for _, role := range []inventory.Role{inventory.ControlPlane, inventory.Worker} {
		n := desired(t, role)
		var b strings.Builder
		for _, f := range n.Files {
			b.WriteString("--- " + f.Path + " restart: " + f.Restart + "\n" + f.Content)
		}
		golden(t, "desired-"+string(role)+".txt", b.String())
	}
	_, err := Desired(DesiredInput{
		Inventory: &inventory.Inventory{Kubernetes: inventory.Kubernetes{Version: "1.30.0"}, Clusters: inventory.Clusters{Service: &inventory.Cluster{}}},
		Cluster:   inventory.Service, Node: &inventory.Node{},
	})
	require.ErrorContains(t, err, "1.30.0 is not supported")
}

// Where the platform is guarded, control planes have the rules; they are their own files, which the API server reads anew.
func TestGuardedControlPlane(t *testing.T) {
	t.Parallel()
	paths := func(role inventory.Role, gatekeeper bool) []string {
		inv := &inventory.Inventory{
			Kubernetes: inventory.Kubernetes{Version: "1.37.2"}, Clusters: inventory.Clusters{Workload: &inventory.Cluster{}},
			Components: map[string]inventory.Component{"gatekeeper": {Enabled: &gatekeeper}},
		}
		n, err := Desired(DesiredInput{Inventory: inv, Cluster: inventory.Workload, Node: &inventory.Node{Role: role}})
		require.NoError(t, err)
		var out []string
		for _, f := range n.Files {
			if strings.HasPrefix(f.Path, "/etc/kubernetes/admission/") {
				require.Equal(t, uint32(0o600), f.Mode)
				require.Empty(t, f.Restart)
				out = append(out, f.Path)
			}
		}
		return out
	}
	require.Equal(t, []string{"/etc/kubernetes/admission/config.yaml", "/etc/kubernetes/admission/manifests/platform.yaml"}, paths(inventory.ControlPlane, true))
	require.Empty(t, paths(inventory.ControlPlane, false))
	require.Empty(t, paths(inventory.Worker, true))
}

// TestScript runs the script with real files in the places of the machine's, in a mount namespace; the programs that would
// reach the kernel or process 1 are stand-ins that write down how they were called.
func TestScript(t *testing.T) {
	t.Parallel()
	require.Zero(t, os.Getuid(), "this test mounts files in a namespace of its own: run it as root")
	dir := t.TempDir()
	for name, content := range map[string]string{
		"etc/fstab": "UUID=1 / ext4 defaults 0 1\n/dev/sda2 none swap sw 0 0\n# /dev/sda3 none swap sw 0 0\n/swap.img\tnone\tswap\tsw\t0\t0\n/dev/sdb1 /swap ext4 defaults 0 2\n",
		"swaps":     "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n", "ip_forward": "0\n", "panic": "0\n",
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "bin"), 0o755))
	for name, script := range map[string]string{
		"modprobe": "", "systemctl": `case "$1" in is-active) [ ! -e "$DIR/dead" ] ;; esac`, "swapoff": `[ -e "$DIR/stuck" ] || echo Filename > "$DIR/swaps"`,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "bin", name), []byte("#!/bin/sh\necho \""+name+" $*\" >> \"$DIR/calls\"\n"+script+"\n"), 0o755))
	}
	run := func(t *testing.T, c Changes) (calls string, err error) {
		t.Helper()
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "calls")))
		cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-ec", `
mount --bind "$DIR/swaps" /proc/swaps
mount --bind "$DIR/ip_forward" /proc/sys/net/ipv4/ip_forward
mount --bind "$DIR/panic" /proc/sys/kernel/panic
mount --bind "$DIR/etc" /etc
exec sh -c "$1"`, "sh", c.Script())
		cmd.Env = append(os.Environ(), "DIR="+dir, "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		data, _ := os.ReadFile(filepath.Join(dir, "calls")) // nothing may have been called
		return string(data), err
	}
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return string(data)
	}
	all := Changes{
		Modules: []string{"br_netfilter", "overlay"}, SwapOff: true,
		Sysctls: map[string]string{"net.ipv4.ip_forward": "1", "kernel.panic": "it's 10", "no.such": "1"},
		Enable:  []string{"containerd.service", "kubelet.service"}, Restart: []string{"kubelet.service"}, Start: []string{"containerd.service"},
	}
	calls, err := run(t, all)
	require.NoError(t, err)
	require.Equal(t, `modprobe br_netfilter
modprobe overlay
swapoff -a
systemctl daemon-reload
systemctl enable --quiet containerd.service kubelet.service
systemctl restart kubelet.service
systemctl start containerd.service
systemctl is-active --quiet containerd.service
`, calls)
	require.Equal(t, "1\n", read("ip_forward"))
	require.Equal(t, "it's 10\n", read("panic"))
	fstab := "UUID=1 / ext4 defaults 0 1\n# off for Kubernetes: /dev/sda2 none swap sw 0 0\n# /dev/sda3 none swap sw 0 0\n# off for Kubernetes: /swap.img\tnone\tswap\tsw\t0\t0\n/dev/sdb1 /swap ext4 defaults 0 2\n"
	require.Equal(t, fstab, read("etc/fstab"))
	_, err = run(t, all)
	require.NoError(t, err, "again")
	require.Equal(t, fstab, read("etc/fstab"))

	calls, err = run(t, Changes{})
	require.NoError(t, err)
	require.Equal(t, "systemctl daemon-reload\n", calls)

	require.NoError(t, os.WriteFile(filepath.Join(dir, "dead"), nil, 0o600))
	_, err = run(t, Changes{Start: []string{"containerd.service"}})
	require.Error(t, err, "a unit that does not run is a failure")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "stuck"), nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "swaps"), []byte("Filename\n/dev/sda2\n"), 0o600))
	_, err = run(t, Changes{SwapOff: true})
	require.Error(t, err, "swap that stays on is a failure")
}
