package host

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// Where the firewall lies. The unit's name does not begin with "catamaran-": such units are steps that run.
const (
	firewallFile = "/etc/catamaran/firewall.nft"
	firewallUnit = "nftables-catamaran.service"
	// FirewallTable is the table that is ours alone.
	FirewallTable = "inet catamaran"
)

// firewallService loads the rules at boot before anything of Kubernetes runs. Debian's nftables.service flushes all
// tables when it is restarted or reloaded, ours too, which is why it takes ours with it.
const firewallService = `# written by catamaran
[Unit]
Description=firewall around the inside of the cluster
After=nftables.service
Before=kubelet.service containerd.service
PartOf=nftables.service
ReloadPropagatedFrom=nftables.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'exec nft -f ` + firewallFile + `'
ExecReload=/bin/sh -c 'exec nft -f ` + firewallFile + `'

[Install]
WantedBy=multi-user.target
`

// Firewall is the ruleset of a cluster's nodes, and the stamp by which a loaded one is known: a chain's name in it.
//
// It guards what is inside of the cluster without the help of a network policy engine:
//
//   - Packets to pods and to Services' addresses are dropped unless they come from a node or a pod of the cluster. It happens
//     before kube-proxy rewrites destinations: whoever is on the nodes' network could else name a node as his gateway and
//     reach any Service by its cluster address. A connection through a node port is addressed to the node then, and passes.
//   - Packets that say that they are from a pod and come in where no pod is are dropped (with flannel, whose routes say it).
//   - etcd, kubelet and flannel's tunnel, which knows no authentication, are for nodes and pods only.
//
// The API endpoint, node ports, SSH and all else stay as they are. Accepting here decides nothing for other tables, and
// no other table is touched. Nodes that are leaving still count, as long as the inventory lists them: they must be able
// to say goodbye to etcd.
func Firewall(inv *inventory.Inventory, c inventory.ClusterName) (rules, stamp string) {
	spec := inv.Cluster(c)
	f := firewall{family: "ip", kind: "ipv4_addr"}
	if a, err := netip.ParsePrefix(spec.Network.PodCIDR); err == nil && a.Addr().Is6() {
		f.family, f.kind = "ip6", "ipv6_addr"
	}
	for _, n := range spec.Nodes {
		// rules that still name a machine which is deleted in the same apply would have to change again in the next
		if n.Address != "" && !n.Leaving {
			f.nodes = append(f.nodes, n.Address)
		}
	}
	if spec.Endpoint.Mode == inventory.EndpointVIP {
		f.nodes = append(f.nodes, spec.Endpoint.Address)
	}
	f.pods, f.services = spec.Network.PodCIDR, spec.Network.ServiceCIDR
	f.flannel = spec.Network.CNI == inventory.CNIFlannel
	f.vxlan = vxlanPort(inv)
	// the stamp is of the rules without it
	stamp = "stamp_" + SHA256(f.text(""))[:16]
	return f.text(stamp), stamp
}

type firewall struct {
	family, kind   string
	nodes          []string
	pods, services string
	flannel        bool
	vxlan          int
}

// vxlanPort is what components.flannel.values say, or else the kernel's.
func vxlanPort(inv *inventory.Inventory) int {
	const kernels = 8472
	backend, _ := inv.Components["flannel"].Values["backend"].(map[string]any)
	if port, ok := backend["port"].(int); ok {
		return port
	}
	return kernels
}

func (f firewall) text(stamp string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# written by catamaran; host.firewall in the inventory switches it")
	// so that there is one to delete; the whole file is one transaction
	line("table %s", FirewallTable)
	line("delete table %s", FirewallTable)
	line("table %s {", FirewallTable)
	line("\tset nodes {\n\t\ttype %s\n\t\telements = { %s }\n\t}", f.kind, strings.Join(f.nodes, ", "))
	line("\tset pods {\n\t\ttype %s\n\t\tflags interval\n\t\telements = { %s }\n\t}", f.kind, f.pods)
	line("\tset inside {\n\t\ttype %s\n\t\tflags interval\n\t\telements = { %s, %s }\n\t}", f.kind, f.pods, f.services)
	line("\t# after conntrack (-200), so that replies are known; before destinations are rewritten (-100)")
	line("\tchain prerouting {\n\t\ttype filter hook prerouting priority -150; policy accept;")
	if f.flannel {
		line("\t\t%s saddr @pods fib saddr . iif oif missing drop", f.family)
	}
	line("\t\tct state established,related accept")
	line("\t\t%[1]s daddr @inside %[1]s saddr != @nodes %[1]s saddr != @pods drop", f.family)
	line("\t}")
	line("\tchain input {\n\t\ttype filter hook input priority -10; policy accept;")
	line("\t\tiif \"lo\" accept")
	line("\t\t%s saddr @nodes accept", f.family)
	if f.flannel {
		line("\t\tudp dport %d drop", f.vxlan)
	}
	line("\t\tct state established,related accept")
	line("\t\t%s saddr @pods accept", f.family)
	line("\t\ttcp dport { 2379, 2380, 10250 } drop")
	line("\t}")
	if stamp != "" {
		line("\tchain %s {\n\t}", stamp)
	}
	line("}")
	return b.String()
}
