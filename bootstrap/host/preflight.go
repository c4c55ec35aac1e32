package host

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// Severity says whether a finding stops an apply.
type Severity string

// Severities.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Finding is one thing that preflight found.
type Finding struct {
	Node     string
	Check    string
	Severity Severity
	Message  string // what was found and what is expected
	Hint     string // what to do
}

func (f Finding) String() string {
	s := fmt.Sprintf("preflight: %s: %s: %s", f.Node, f.Check, f.Message)
	if f.Hint != "" {
		s += "; " + f.Hint
	}
	return s
}

// PreflightInput is what preflight judges.
type PreflightInput struct {
	Inventory *inventory.Inventory
	Facts     map[string]*Facts
	// Arch is the bundle's GOARCH; empty: no bundle.
	Arch string
	// Ours says whether a node was made by us (member or cut-off attempt), so that its ports and files are no leftovers.
	Ours func(node string) bool
}

// Preflight judges all machines that were seen. It is pure.
func Preflight(in PreflightInput) []Finding {
	p := &preflight{in: in}
	for _, c := range in.Inventory.ClusterNames() {
		for i := range in.Inventory.Cluster(c).Nodes {
			n := &in.Inventory.Cluster(c).Nodes[i]
			if f := in.Facts[n.Name]; f != nil && n.State != inventory.Absent {
				p.node(c, n, f)
			}
		}
	}
	p.twins()
	p.clocks()
	return p.out
}

type preflight struct {
	in  PreflightInput
	out []Finding
}

func (p *preflight) say(sev Severity, node, check, hint, format string, args ...any) {
	p.out = append(p.out, Finding{Node: node, Check: check, Severity: sev, Message: fmt.Sprintf(format, args...), Hint: hint})
}

// portsOf are the ports of the components that kubeadm starts. Source: Kubernetes, "Ports and Protocols".
func portsOf(r inventory.Role) []int {
	node := []int{10250, 10256}
	if r == inventory.ControlPlane {
		return append(node, 6443, 2379, 2380, 10257, 10259)
	}
	return node
}

func (p *preflight) node(c inventory.ClusterName, n *inventory.Node, f *Facts) {
	fail := func(check, hint, format string, args ...any) {
		p.say(SeverityError, n.Name, check, hint, format, args...)
	}
	warn := func(check, hint, format string, args ...any) {
		p.say(SeverityWarning, n.Name, check, hint, format, args...)
	}
	m := p.in.Inventory.Host.Minimum
	cpus, memory := m.WorkerCPUs, m.WorkerMemoryMiB
	if n.Role == inventory.ControlPlane {
		cpus, memory = m.ControlPlaneCPUs, m.ControlPlaneMemoryMiB
	}
	if f.CPUs < cpus {
		fail("cpu", "give it more, or lower host.minimum", "it has %d CPUs, a %s needs %d", f.CPUs, n.Role, cpus)
	}
	if f.MemoryMiB < memory {
		fail("memory", "give it more, or lower host.minimum", "it has %d MiB, a %s needs %d MiB", f.MemoryMiB, n.Role, memory)
	}
	if f.DiskFree < m.DiskGiB && !p.in.Ours(n.Name) {
		fail("disk", "free some, or lower host.minimum.diskGiB", "%d GiB are free under /var/lib, %d GiB are needed", f.DiskFree, m.DiskGiB)
	}
	if p.in.Arch != "" && goarch(f.Arch) != p.in.Arch {
		fail("architecture", "build a bundle for it", "it is %s, the bundle is for %s", f.Arch, p.in.Arch)
	}
	if f.Init != "systemd" {
		fail("init", "use a distribution with systemd", "process 1 is %q, systemd is needed", f.Init)
	}
	if !f.CgroupV2 && (p.in.Inventory.Kubernetes.FailOnCgroupV1 == nil || *p.in.Inventory.Kubernetes.FailOnCgroupV1) {
		fail("cgroup", "boot with cgroup v2, or set kubernetes.failOnCgroupV1: false", "it uses cgroup v1, which kubelet refuses since 1.35")
	}
	if f.SwapActive && p.in.Inventory.Host.DisableSwap != nil && !*p.in.Inventory.Host.DisableSwap {
		warn("swap", "", "swap is on and host.disableSwap is false: pods may be slowed by swapping")
	}
	for _, mod := range []string{"overlay", "br_netfilter"} {
		if f.Modules[mod] == "missing" && !(mod == "br_netfilter" && slices.Contains(f.Features, "/proc/sys/net/bridge")) {
			fail("kernel", "install the distribution's full kernel", "the kernel has no %s, neither built in nor as a module", mod)
		}
	}
	if len(f.Missing) > 0 {
		// modprobe is only asked for where a module must be loaded
		for _, prog := range f.Missing {
			switch prog {
			case "conntrack", "ethtool", "modprobe":
				warn("programs", "install its package", "%s is missing; kubeadm may warn", prog)
			default:
				fail("programs", "install its package", "%s is missing", prog)
			}
		}
	}
	for _, key := range sortedKeys(p.in.Inventory.Host.Sysctls) {
		if _, ok := f.Sysctls[key]; !ok && !loads(f) {
			fail("sysctl", "take it out of host.sysctls, or name its module in host.kernelModules", "the kernel has no sysctl %s", key)
		}
	}
	p.network(c, n, f)
	if !p.in.Ours(n.Name) {
		p.untouched(n, f)
	}
}

// untouched finds what stands in the way on a machine that is no member yet.
func (p *preflight) untouched(n *inventory.Node, f *Facts) {
	fail := func(check, hint, format string, args ...any) {
		p.say(SeverityError, n.Name, check, hint, format, args...)
	}
	if len(f.Leftovers) > 0 {
		fail("leftovers", "run `catamaran reset` with the inventory that made it, or reinstall the machine",
			"it holds a Kubernetes that is not ours: %s", strings.Join(f.Leftovers, ", "))
	}
	want := portsOf(n.Role)
	for _, l := range f.Listening {
		if slices.Contains(want, l.Port) {
			fail("ports", "stop what listens there: `ss -ltnp`", "port %d is in use", l.Port)
		}
	}
	for _, peer := range sortedKeys(f.Peers) {
		if state := f.Peers[peer]; state == "timeout" || state == "unreachable" {
			fail("peers", "check routes and firewalls between the nodes", "it can not reach %s (%s)", peer, state)
		}
	}
}

// network finds clashes between the machine's networks and those of the cluster.
func (p *preflight) network(c inventory.ClusterName, n *inventory.Node, f *Facts) {
	cl := p.in.Inventory.Cluster(c)
	found := false
	for _, i := range f.Interfaces {
		if ours(i.Name) {
			continue
		}
		for _, a := range i.Addresses {
			prefix, err := netip.ParsePrefix(a)
			if err != nil {
				continue
			}
			if prefix.Addr().String() == n.Address {
				found = true
			}
			for _, net := range []struct{ what, cidr string }{{"podCIDR", cl.Network.PodCIDR}, {"serviceCIDR", cl.Network.ServiceCIDR}} {
				other, err := netip.ParsePrefix(net.cidr)
				if err == nil && other.Overlaps(prefix.Masked()) && !p.in.Ours(n.Name) {
					p.say(SeverityError, n.Name, "network", "choose another "+net.what, "%s has %s, which overlaps the cluster's %s %s", i.Name, a, net.what, net.cidr)
				}
			}
		}
	}
	if !found && len(f.Interfaces) > 0 {
		p.say(SeverityWarning, n.Name, "network", "kubelet and etcd listen on the inventory's address: is it behind NAT?",
			"no interface has the address %s", n.Address)
	}
	if dev := cl.Endpoint.Interface; cl.Endpoint.Mode == inventory.EndpointVIP && n.Role == inventory.ControlPlane && dev != "" {
		for _, i := range f.Interfaces {
			if i.Name == dev {
				return
			}
		}
		p.say(SeverityError, n.Name, "vip", "name an interface that every control plane has", "endpoint.interface %s does not exist", dev)
	}
}

// ours are interfaces that the cluster itself makes.
func ours(name string) bool {
	for _, prefix := range []string{"cni", "flannel", "veth", "kube-", "cali", "cilium", "lo"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// twins finds machines that were cloned without being made different.
func (p *preflight) twins() {
	byID := map[string]string{}
	for _, name := range sortedKeys(p.in.Facts) {
		f := p.in.Facts[name]
		if f.MachineID == "" {
			continue
		}
		if other, ok := byID[f.MachineID]; ok {
			p.say(SeverityError, name, "machine-id", "run `systemd-machine-id-setup` on one of them after removing /etc/machine-id",
				"it has the same machine-id as %s: cloned machines, or one machine listed twice", other)
			continue
		}
		byID[f.MachineID] = name
	}
	byHost := map[string]string{}
	for _, name := range sortedKeys(p.in.Facts) {
		h := p.in.Facts[name].Hostname
		if other, ok := byHost[h]; ok && h != "" {
			p.say(SeverityWarning, name, "hostname", "give each machine its own", "its hostname %s is also that of %s", h, other)
			continue
		}
		byHost[h] = name
	}
}

// clocks compares the extremes of what is known of every node's clock: on a busy machine the script takes long, and what
// may be its slowness is not held against the clock.
func (p *preflight) clocks() {
	limit := time.Duration(p.in.Inventory.Host.Minimum.ClockSkew)
	var behind, ahead string
	var most, least time.Duration // the most that behind's clock, the least that ahead's clock can show beyond the observer's
	for _, name := range sortedKeys(p.in.Facts) {
		f := p.in.Facts[name]
		if f.Clock.IsZero() || f.Received.IsZero() {
			continue
		}
		d := f.Clock.Sub(f.Received)
		if behind == "" || d+f.ClockError < most {
			behind, most = name, d+f.ClockError
		}
		if ahead == "" || d-f.ClockError > least {
			ahead, least = name, d-f.ClockError
		}
	}
	if limit > 0 && least-most > limit {
		p.say(SeverityError, ahead, "clock", "make both follow the same time servers (chrony, systemd-timesyncd)",
			"its clock is at least %s ahead of that of %s, %s are allowed: certificates and etcd need one time", (least - most).Round(time.Millisecond), behind, limit)
	}
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

// loads says that preparation will load a module, which may bring sysctls with it.
func loads(f *Facts) bool {
	for _, state := range f.Modules {
		if state == moduleAvailable {
			return true
		}
	}
	return false
}

// goarch translates uname -m.
func goarch(machine string) string {
	switch machine {
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	}
	return machine
}
