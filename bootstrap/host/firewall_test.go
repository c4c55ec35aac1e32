package host

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/catamaran-k8s/catamaran/inventory"
)

func firewallSite(t *testing.T, edits ...string) *inventory.Inventory {
	t.Helper()
	inv, err := inventory.Parse([]byte(strings.NewReplacer(edits...).Replace(`
apiVersion: catamaran/v1alpha1
kind: Inventory
metadata: {name: umea}
kubernetes: {version: 1.37.2}
clusters:
  service:
    network: {podCIDR: 10.100.0.0/16, serviceCIDR: 10.101.0.0/16}
    endpoint: {address: 10.77.0.10}
    nodes:
      - {name: sc-1, role: control-plane, address: 10.77.0.11}
      - {name: sc-2, role: worker, address: 10.77.0.12}
  workload:
    network: {podCIDR: 10.102.0.0/16, serviceCIDR: 10.103.0.0/16}
    nodes:
      - {name: wc-1, role: control-plane, address: 10.77.0.21}
`)), "inventory.yaml")
	require.NoError(t, err)
	return inv
}

func TestFirewallFollowsTheInventory(t *testing.T) {
	t.Parallel()
	rules, stamp := Firewall(firewallSite(t), inventory.Service)
	assert.Regexp(t, `^stamp_[0-9a-f]{16}$`, stamp)
	assert.Contains(t, rules, "chain "+stamp+" {")
	assert.Contains(t, rules, "elements = { 10.77.0.11, 10.77.0.12, 10.77.0.10 }")
	assert.NotContains(t, rules, "flush", "no other table is touched")
	for name, edit := range map[string][2]string{
		"another node":    {"10.77.0.12", "10.77.0.13"},
		"another network": {"10.100.0.0/16", "10.104.0.0/16"},
		"another port":    {"metadata: {name: umea}", "metadata: {name: umea}\ncomponents: {flannel: {values: {backend: {port: 4789}}}}"},
		"another plugin":  {"10.101.0.0/16}", "10.101.0.0/16, cni: none}"},
	} {
		_, other := Firewall(firewallSite(t, edit[0], edit[1]), inventory.Service)
		assert.NotEqual(t, stamp, other, name)
	}
	leaving, same := Firewall(firewallSite(t, "address: 10.77.0.12}", "address: 10.77.0.12, state: absent}"), inventory.Service)
	assert.Equal(t, stamp, same, "a node that leaves must still reach etcd")
	assert.Equal(t, rules, leaving)
	ports, _ := Firewall(firewallSite(t, "metadata: {name: umea}", "metadata: {name: umea}\ncomponents: {flannel: {values: {backend: {port: 4789}}}}"), inventory.Service)
	assert.Contains(t, ports, "udp dport 4789 drop")

	for name, c := range map[string]struct {
		inv     *inventory.Inventory
		cluster inventory.ClusterName
		node    string
		want    bool
	}{
		"service":    {firewallSite(t), inventory.Service, "sc-2", true},
		"workload":   {firewallSite(t), inventory.Workload, "wc-1", false},
		"turned off": {firewallSite(t, "metadata: {name: umea}", "metadata: {name: umea}\nhost: {firewall: false}"), inventory.Service, "sc-1", false},
	} {
		n, err := Desired(DesiredInput{Inventory: c.inv, Cluster: c.cluster, Node: c.inv.Node(c.node)})
		require.NoError(t, err)
		files := 0
		for _, f := range n.Files {
			if f.Path == firewallFile || strings.HasSuffix(f.Path, firewallUnit) {
				files++
			}
		}
		assert.Equal(t, c.want, n.Firewall != "", name)
		assert.Equal(t, map[bool]int{true: 2}[c.want], files, name)
	}
}

// What the rules let through is tried with real packets: four machines on one network, each a network namespace. The
// test runs itself again as root of a user namespace, so that it needs no rights and leaves nothing behind.
func TestFirewallOnPackets(t *testing.T) {
	const inside = "CATAMARAN_TEST_FIREWALL"
	if os.Getenv(inside) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestFirewallOnPackets$", "-test.v")
		cmd.Env = append(os.Environ(), inside+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return
	}
	for _, family := range []string{"IPv4", "IPv6"} {
		t.Run(family, func(t *testing.T) { packets(t, family == "IPv6") })
	}
}

// machine is a thread in a network namespace of its own, which carries out functions.
type machine struct {
	t    *testing.T
	name string
	work chan func()
	ns   string
	// heard are who sent UDP packets that arrived.
	heard chan string
}

func newMachine(t *testing.T, name string) *machine {
	m := &machine{t: t, name: name, work: make(chan func()), heard: make(chan string, 1000)}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the function, and the namespace with it
		err := unix.Unshare(unix.CLONE_NEWNET)
		m.ns = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
		ready <- err
		for f := range m.work {
			f()
		}
	}()
	require.NoError(t, <-ready)
	t.Cleanup(func() { close(m.work) })
	m.sh("ip link set lo up; ip -6 route flush cached 2>/dev/null; for f in all default; do echo 0 > /proc/sys/net/ipv6/conf/$f/accept_dad; done")
	return m
}

// do calls f in the machine's namespace.
func (m *machine) do(f func()) {
	done := make(chan struct{})
	m.work <- func() { defer close(done); f() }
	<-done
}

func (m *machine) sh(script string) {
	m.t.Helper()
	var out []byte
	var err error
	m.do(func() { out, err = exec.Command("sh", "-euc", script).CombinedOutput() })
	require.NoError(m.t, err, "%s: %s\n%s", m.name, script, out)
}

// answer greets whoever connects to a TCP port, or sends something to a UDP port.
func (m *machine) answer(network string, port int) {
	m.t.Helper()
	m.do(func() {
		if network == "udp" {
			pc, err := net.ListenPacket("udp", fmt.Sprintf(":%d", port))
			require.NoError(m.t, err)
			m.t.Cleanup(func() { _ = pc.Close() })
			go func() {
				b := make([]byte, 16)
				for {
					_, from, err := pc.ReadFrom(b)
					if err != nil {
						return
					}
					m.heard <- from.(*net.UDPAddr).IP.String()
					_, _ = pc.WriteTo([]byte("hello"), from)
				}
			}()
			return
		}
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		require.NoError(m.t, err)
		m.t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, "hello")
				_ = c.Close()
			}
		}()
	})
}

// reachesSoon is reaches with patience: neighbours must be found first.
func (m *machine) reachesSoon(network, address string, port int) bool {
	for begin := time.Now(); time.Since(begin) < 30*time.Second; {
		if m.reaches(network, address, port) {
			return true
		}
	}
	return false
}

// send sends a UDP packet and asks for nothing.
func (m *machine) send(address string, port int, from string) {
	m.t.Helper()
	m.do(func() {
		d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("udp", net.JoinHostPort(address, fmt.Sprint(port)))
		require.NoError(m.t, err)
		_, err = c.Write([]byte("x"))
		require.NoError(m.t, err)
		require.NoError(m.t, c.Close())
	})
}

// heardBefore are the senders of packets that arrived before the first one of last.
func (m *machine) heardBefore(last string) (from []string) {
	m.t.Helper()
	for {
		select {
		case h := <-m.heard:
			if h == last {
				return from
			}
			from = append(from, h)
		case <-time.After(30 * time.Second):
			require.Fail(m.t, "nothing of "+last+" arrived")
		}
	}
}

// reaches tells whether a greeting comes back from there. Nothing that is dropped answers, so a short wait is enough.
func (m *machine) reaches(network, address string, port int) bool {
	var got string
	m.do(func() {
		d := net.Dialer{Timeout: 400 * time.Millisecond}
		c, err := d.Dial(network, net.JoinHostPort(address, fmt.Sprint(port)))
		if err != nil {
			var dropped net.Error
			if !errors.As(err, &dropped) || !dropped.Timeout() {
				m.t.Errorf("%s to %s:%d: %v, which is no silence", m.name, address, port, err)
			}
			return
		}
		defer c.Close() //nolint:errcheck // a test's
		_ = c.SetDeadline(time.Now().Add(400 * time.Millisecond))
		if network == "udp" {
			_, _ = c.Write([]byte("x"))
		}
		b := make([]byte, 16)
		n, _ := c.Read(b)
		got = string(b[:n])
	})
	return got == "hello"
}

func packets(t *testing.T, six bool) {
	inv := firewallSite(t)
	at := func(s string) string { return s }
	bits, podBits := "24", "24"
	if six {
		at = func(s string) string {
			p := strings.Split(s, ".")
			return net.ParseIP(fmt.Sprintf("fd00:%s:%s:%s::%s", p[0], p[1], p[2], p[3])).String()
		}
		bits, podBits = "64", "64"
		c := inv.Clusters.Service
		c.Network.PodCIDR, c.Network.ServiceCIDR = "fd00:10:100::/48", "fd00:10:101::/112"
		c.Endpoint.Address = at("10.77.0.10")
		for i := range c.Nodes {
			c.Nodes[i].Address = at(c.Nodes[i].Address)
		}
	}
	node, peer, pod, outside := newMachine(t, "node"), newMachine(t, "peer"), newMachine(t, "pod"), newMachine(t, "outside")
	lan := newMachine(t, "lan")
	lan.sh("ip link add lan0 type bridge; ip link set lan0 up")
	join := func(m *machine, address string) {
		lan.sh(fmt.Sprintf("ip link add %[1]s type veth peer name eth0 netns %[2]s; ip link set %[1]s master lan0 up", m.name, m.ns))
		m.sh(fmt.Sprintf("ip address add %s/%s dev eth0; ip link set eth0 up", address, bits))
	}
	join(node, at("10.77.0.11"))
	join(peer, at("10.77.0.12"))
	join(outside, at("10.77.0.66"))
	vip := at("10.77.0.10")
	host := map[bool]string{false: "32", true: "128"}[six]
	node.sh(fmt.Sprintf("ip address add %s/%s dev eth0 preferred_lft 0; ip link add cni0 type veth peer name eth0 netns %s; ip address add %s/%s dev cni0; ip link set cni0 up; for f in all default eth0 cni0; do echo 0 > /proc/sys/net/ipv4/conf/$f/rp_filter; done; echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
		vip, host, pod.ns, at("10.100.0.1"), podBits))
	pod.sh(fmt.Sprintf("ip address add %s/%s dev eth0; ip link set eth0 up; ip route add default via %s", at("10.100.0.5"), podBits, at("10.100.0.1")))
	// who is outside knows the way to pods and Services, and says that he is a pod too
	for _, route := range []string{inv.Clusters.Service.Network.PodCIDR, inv.Clusters.Service.Network.ServiceCIDR} {
		outside.sh(fmt.Sprintf("ip route add %s via %s", route, at("10.77.0.11")))
		peer.sh(fmt.Sprintf("ip route add %s via %s", route, at("10.77.0.11")))
	}
	outside.sh(fmt.Sprintf("ip address add %s/%s dev lo", at("10.100.9.9"), host))

	ip := map[bool]string{false: "ip", true: "ip6"}[six]
	// what kube-proxy does for a Service with a node port
	proxy := fmt.Sprintf(`table %[1]s kube-proxy {
	chain nat { type nat hook prerouting priority -100; policy accept;
		%[1]s daddr %[2]s tcp dport 443 dnat to %[3]s
		fib daddr type local tcp dport 30224 dnat to %[3]s
	}
	chain out { type nat hook postrouting priority 100; policy accept; ct status dnat masquerade; }
}`, ip, at("10.101.0.9"), net.JoinHostPort(at("10.100.0.5"), "8080"))
	load(node, proxy)
	pod.answer("tcp", 8080)
	pod.answer("udp", 9999)
	outside.answer("tcp", 8080)
	for _, port := range []int{22, 2379, 6443, 10250} {
		node.answer("tcp", port)
	}
	node.answer("udp", 8472)

	type try struct {
		from    *machine
		network string
		to      string
		port    int
	}
	tries := []struct {
		what string
		try
		want bool
	}{
		{"outside to a pod", try{outside, "tcp", at("10.100.0.5"), 8080}, false},
		{"outside to a Service by its cluster address", try{outside, "tcp", at("10.101.0.9"), 443}, false},
		{"outside to a node port", try{outside, "tcp", at("10.77.0.11"), 30224}, true},
		{"outside to a node port on the VIP", try{outside, "tcp", vip, 30224}, true},
		{"outside to the API", try{outside, "tcp", vip, 6443}, true},
		{"outside to SSH", try{outside, "tcp", at("10.77.0.11"), 22}, true},
		{"outside to etcd", try{outside, "tcp", at("10.77.0.11"), 2379}, false},
		{"outside to kubelet", try{outside, "tcp", at("10.77.0.11"), 10250}, false},
		{"outside to the tunnel", try{outside, "udp", at("10.77.0.11"), 8472}, false},
		{"another node to a pod", try{peer, "tcp", at("10.100.0.5"), 8080}, true},
		{"another node to a Service", try{peer, "tcp", at("10.101.0.9"), 443}, true},
		{"another node to etcd", try{peer, "tcp", at("10.77.0.11"), 2379}, true},
		{"another node to the tunnel", try{peer, "udp", at("10.77.0.11"), 8472}, true},
		{"the node to a pod", try{node, "tcp", at("10.100.0.5"), 8080}, true},
		{"the node to its own etcd", try{node, "tcp", at("10.77.0.11"), 2379}, true},
		{"a pod to kubelet", try{pod, "tcp", at("10.77.0.11"), 10250}, true},
		{"a pod to the outside, which answers", try{pod, "tcp", at("10.77.0.66"), 8080}, true},
	}
	// pods reach the outside by their own address here: the answers must come through
	outside.sh(fmt.Sprintf("ip route replace %s via %s", at("10.100.0.5"), at("10.77.0.11")))
	peer.sh(fmt.Sprintf("ip route replace %s via %s", at("10.100.0.5"), at("10.77.0.11")))
	// without the rules everything passes: what does not pass later is the rules' doing
	for _, c := range tries {
		require.True(t, c.from.reachesSoon(c.network, c.to, c.port), "before: %s", c.what)
	}
	forge := func() []string {
		outside.send(at("10.100.0.5"), 9999, at("10.100.9.9"))
		require.True(t, peer.reachesSoon("udp", at("10.100.0.5"), 9999)) // it arrives after the forged one
		return pod.heardBefore(at("10.77.0.12"))
	}
	require.Equal(t, []string{at("10.100.9.9")}, forge())
	rules, stamp := Firewall(inv, inventory.Service)
	load(node, rules)
	load(node, rules) // again, as a reload does
	for _, c := range tries {
		if c.want {
			assert.True(t, c.from.reachesSoon(c.network, c.to, c.port), c.what)
		} else {
			assert.False(t, c.from.reaches(c.network, c.to, c.port), c.what)
		}
	}
	assert.Empty(t, forge(), "who says that he is a pod must be where pods are")
	// the facts script finds it by its stamp, and taking it away leaves kube-proxy's table
	var listed []byte
	node.do(func() { listed, _ = exec.Command("nft", "list", "ruleset").CombinedOutput() })
	assert.Contains(t, string(listed), "table "+ip+" kube-proxy")
	assert.Contains(t, string(listed), "chain "+stamp+" {")
	node.do(func() { listed, _ = exec.Command("sh", "-c", factsLine(t, "say firewall")).CombinedOutput() })
	assert.Equal(t, "firewall\t"+stamp+"\n", string(listed))
	node.sh("nft delete table " + FirewallTable)
	assert.True(t, outside.reachesSoon("tcp", at("10.100.0.5"), 8080))
}

func load(m *machine, rules string) {
	m.t.Helper()
	file := filepath.Join(m.t.TempDir(), "rules.nft")
	require.NoError(m.t, os.WriteFile(file, []byte(rules), 0o600))
	m.sh("nft -f " + file)
}

// factsLine is the line of the facts script that has a word, with the function that it uses.
func factsLine(t *testing.T, word string) string {
	t.Helper()
	say := ""
	for _, l := range bytes.Split([]byte(factsScript), []byte("\n")) {
		if bytes.HasPrefix(l, []byte("say()")) {
			say = string(l)
		}
		if bytes.Contains(l, []byte(word)) {
			return say + "\n" + string(l)
		}
	}
	require.Fail(t, "the facts script has no line with "+word)
	return ""
}
