package host

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// site is one control plane and one worker on which nothing is wrong, in a form that a test can spoil.
type site struct {
	inv  *inventory.Inventory
	a, b *Facts // sc-1 (control plane) and sc-2 (worker)
	ours map[string]bool
	arch string
}

func healthy() *site {
	facts := func(name, address string) *Facts {
		return &Facts{
			Hostname: name, MachineID: "id-" + name, CPUs: 4, MemoryMiB: 4096, DiskFree: 50, Arch: "x86_64", Init: "systemd", CgroupV2: true,
			Modules:    map[string]string{"overlay": "builtin", "br_netfilter": "available"},
			Interfaces: []Interface{{Name: "lo", Addresses: []string{"127.0.0.1/8"}}, {Name: "eth0", Addresses: []string{address + "/24"}}},
			Clock:      received, Received: received, Listening: []Listener{{Port: 22}}, Sysctls: map[string]string{}, Peers: map[string]string{},
		}
	}
	s := &site{
		inv: &inventory.Inventory{Clusters: inventory.Clusters{Service: &inventory.Cluster{
			Network: inventory.Network{PodCIDR: "10.100.0.0/16", ServiceCIDR: "10.101.0.0/16"},
			Nodes: []inventory.Node{
				{Name: "sc-1", Role: inventory.ControlPlane, Address: "10.77.0.11", State: inventory.Present},
				{Name: "sc-2", Role: inventory.Worker, Address: "10.77.0.12", State: inventory.Present},
			},
		}}},
		a: facts("sc-1", "10.77.0.11"), b: facts("sc-2", "10.77.0.12"), ours: map[string]bool{}, arch: "amd64",
	}
	s.inv.Host.Minimum = inventory.Minimum{ControlPlaneCPUs: 2, ControlPlaneMemoryMiB: 1700, WorkerCPUs: 1, WorkerMemoryMiB: 1024, DiskGiB: 10, ClockSkew: inventory.Duration(2 * time.Second)}
	return s
}

func (s *site) preflight() []Finding {
	seen := map[string]*Facts{"sc-1": s.a}
	if s.b != nil {
		seen["sc-2"] = s.b
	}
	return Preflight(PreflightInput{
		Inventory: s.inv, Facts: seen, Arch: s.arch, Ours: func(n string) bool { return s.ours[n] },
	})
}

func TestPreflight(t *testing.T) {
	t.Parallel()
	no := false
	for name, c := range map[string]struct {
		spoil func(s *site)
		want  []string // as text, errors with "error: " before them
	}{
		"nothing is wrong": {func(*site) {}, nil},
		"cpu":              {func(s *site) { s.a.CPUs, s.b.CPUs = 1, 1 }, []string{"error: preflight: sc-1: cpu: it has 1 CPUs, a control-plane needs 2; give it more, or lower host.minimum"}},
		"memory":           {func(s *site) { s.b.MemoryMiB = 1000 }, []string{"error: preflight: sc-2: memory: it has 1000 MiB, a worker needs 1024 MiB; give it more, or lower host.minimum"}},
		"disk":             {func(s *site) { s.a.DiskFree = 9 }, []string{"error: preflight: sc-1: disk: 9 GiB are free under /var/lib, 10 GiB are needed; free some, or lower host.minimum.diskGiB"}},
		"disk of a member": {func(s *site) { s.a.DiskFree, s.ours["sc-1"] = 9, true }, nil},
		"architecture":     {func(s *site) { s.a.Arch = "aarch64" }, []string{"error: preflight: sc-1: architecture: it is aarch64, the bundle is for amd64; build a bundle for it"}},
		"no bundle":        {func(s *site) { s.a.Arch, s.arch = "aarch64", "" }, nil},
		"init":             {func(s *site) { s.a.Init = "runit" }, []string{`error: preflight: sc-1: init: process 1 is "runit", systemd is needed; use a distribution with systemd`}},
		"cgroup v1":        {func(s *site) { s.a.CgroupV2 = false }, []string{"error: preflight: sc-1: cgroup: it uses cgroup v1, which kubelet refuses since 1.35; boot with cgroup v2, or set kubernetes.failOnCgroupV1: false"}},
		"cgroup v1 wanted": {func(s *site) { s.a.CgroupV2, s.inv.Kubernetes.FailOnCgroupV1 = false, &no }, nil},
		"swap":             {func(s *site) { s.a.SwapActive = true }, nil},
		"swap that stays":  {func(s *site) { s.a.SwapActive, s.inv.Host.DisableSwap = true, &no }, []string{"preflight: sc-1: swap: swap is on and host.disableSwap is false: pods may be slowed by swapping"}},
		"kernel":           {func(s *site) { s.a.Modules["overlay"] = "missing" }, []string{"error: preflight: sc-1: kernel: the kernel has no overlay, neither built in nor as a module; install the distribution's full kernel"}},
		"kernel, built in": {func(s *site) { s.a.Modules["br_netfilter"], s.a.Features = "missing", []string{"/proc/sys/net/bridge"} }, nil},
		"programs": {func(s *site) { s.b.Missing = []string{"conntrack", "iptables"} }, []string{
			"preflight: sc-2: programs: conntrack is missing; kubeadm may warn; install its package", "error: preflight: sc-2: programs: iptables is missing; install its package",
		}},
		"sysctl": {func(s *site) {
			s.inv.Host.Sysctls = map[string]string{"no.such": "1"}
			s.a.Modules["br_netfilter"] = "loaded" // on the other one a module to come may bring it
		}, []string{"error: preflight: sc-1: sysctl: the kernel has no sysctl no.such; take it out of host.sysctls, or name its module in host.kernelModules"}},
		"networks overlap": {func(s *site) {
			s.b.Interfaces = append(s.b.Interfaces, Interface{Name: "eth1", Addresses: []string{"10.100.3.4/24", "fe80::1/64"}})
		}, []string{"error: preflight: sc-2: network: eth1 has 10.100.3.4/24, which overlaps the cluster's podCIDR 10.100.0.0/16; choose another podCIDR"}},
		"the cluster's own interfaces": {func(s *site) {
			s.b.Interfaces = append(s.b.Interfaces, Interface{Name: "cni0", Addresses: []string{"10.100.3.1/24"}})
		}, nil},
		"behind NAT": {func(s *site) { s.a.Interfaces[1].Addresses = []string{"192.168.1.5/24"} }, []string{
			"preflight: sc-1: network: no interface has the address 10.77.0.11; kubelet and etcd listen on the inventory's address: is it behind NAT?",
		}},
		"vip interface": {func(s *site) {
			s.inv.Clusters.Service.Endpoint = inventory.Endpoint{Mode: inventory.EndpointVIP, Interface: "bond0"}
		}, []string{"error: preflight: sc-1: vip: endpoint.interface bond0 does not exist; name an interface that every control plane has"}},
		"vip interface that exists": {func(s *site) {
			s.inv.Clusters.Service.Endpoint = inventory.Endpoint{Mode: inventory.EndpointVIP, Interface: "eth0"}
		}, nil},
		"leftovers": {func(s *site) { s.b.Leftovers = []string{"/var/lib/rancher", "/var/lib/k0s"} }, []string{
			"error: preflight: sc-2: leftovers: it holds a Kubernetes that is not ours: /var/lib/rancher, /var/lib/k0s; run `catamaran reset` with the inventory that made it, or reinstall the machine",
		}},
		"leftovers of our own": {func(s *site) { s.b.Leftovers, s.ours["sc-2"] = []string{"/etc/kubernetes/kubelet.conf"}, true }, nil},
		"ports": {func(s *site) { s.a.Listening, s.b.Listening = []Listener{{6443}, {10250}}, []Listener{{6443}, {10250}} }, []string{
			"error: preflight: sc-1: ports: port 6443 is in use; stop what listens there: `ss -ltnp`", "error: preflight: sc-1: ports: port 10250 is in use; stop what listens there: `ss -ltnp`",
			"error: preflight: sc-2: ports: port 10250 is in use; stop what listens there: `ss -ltnp`",
		}},
		"peers": {func(s *site) {
			s.b.Peers = map[string]string{"10.77.0.13:6443": "unreachable", "10.77.0.11:6443": "timeout", "10.77.0.14:6443": "refused", "10.77.0.15:6443": "open"}
		}, []string{
			"error: preflight: sc-2: peers: it can not reach 10.77.0.11:6443 (timeout); check routes and firewalls between the nodes",
			"error: preflight: sc-2: peers: it can not reach 10.77.0.13:6443 (unreachable); check routes and firewalls between the nodes",
		}},
		"machine-id": {func(s *site) { s.b.MachineID = s.a.MachineID }, []string{
			"error: preflight: sc-2: machine-id: it has the same machine-id as sc-1: cloned machines, or one machine listed twice; run `systemd-machine-id-setup` on one of them after removing /etc/machine-id",
		}},
		"no machine-id": {func(s *site) { s.a.MachineID, s.b.MachineID = "", "" }, nil},
		"hostname":      {func(s *site) { s.b.Hostname = "sc-1" }, []string{"preflight: sc-2: hostname: its hostname sc-1 is also that of sc-1; give each machine its own"}},
		"clock": {func(s *site) { s.b.Clock = s.b.Clock.Add(2500 * time.Millisecond) }, []string{
			"error: preflight: sc-2: clock: its clock is at least 2.5s ahead of that of sc-1, 2s are allowed: certificates and etcd need one time; make both follow the same time servers (chrony, systemd-timesyncd)",
		}},
		"clocks that agree with each other, not with ours": {func(s *site) {
			s.a.Clock, s.b.Clock = s.a.Clock.Add(time.Hour), s.b.Clock.Add(time.Hour)
		}, nil},
		"what may be a slow command is no skew": {func(s *site) {
			s.b.Clock, s.b.ClockError = s.b.Clock.Add(2500*time.Millisecond), 600*time.Millisecond
		}, nil},
		"a slow round trip is no skew": {func(s *site) { s.b.Clock, s.b.Received = s.b.Clock.Add(time.Minute), s.b.Received.Add(time.Minute) }, nil},
		"a node that is to go":         {func(s *site) { s.b.CPUs, s.inv.Clusters.Service.Nodes[1].State = 0, inventory.Absent }, nil},
		"a node that was not seen":     {func(s *site) { s.b = nil }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := healthy()
			c.spoil(s)
			var got []string
			for _, f := range s.preflight() {
				text := f.String()
				if f.Severity == SeverityError {
					text = "error: " + text
				}
				got = append(got, text)
			}
			require.Equal(t, c.want, got)
		})
	}
}
