package tamper

import (
	"net/netip"
	"slices"
)

// routeScript adds a route for each line "ADDRESS VIA" until a line with a dot, and takes them away when its input ends.
// Addresses that have a route of their own already keep it.
const routeScript = `added=
undo() { for r in $added; do ip route del "${r%@*}/32" via "${r#*@}" 2>/dev/null; done; }
trap undo EXIT
trap 'exit 1' HUP INT TERM
while read -r to via; do
  [ "$to" = . ] && break
  [ -n "$(ip route show exact "$to/32")" ] && continue
  ip route add "$to/32" via "$via" 2>/dev/null && added="$added $to@$via"
done
echo ready
timeout 1800 cat >/dev/null
`

// routes are the lines for routeScript: pods through their nodes, Services through the first one. Addresses that the workload
// cluster uses itself are left alone, and IPv6 ones too.
func routes(targets []Target, service, workload Cluster) []string {
	var out []string
	for _, t := range targets {
		ip, err := netip.ParseAddrPort(t.Address)
		if err != nil || !ip.Addr().Is4() || t.Via == "" || within(ip.Addr(), workload.PodCIDR) || within(ip.Addr(), workload.ServiceCIDR) {
			continue
		}
		via := t.Via
		if via == anyNode {
			via = service.Nodes[0].Address
		}
		out = append(out, ip.Addr().String()+" "+via)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func within(ip netip.Addr, cidr string) bool {
	p, err := netip.ParsePrefix(cidr)
	return err == nil && p.Contains(ip)
}
