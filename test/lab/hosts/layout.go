package hosts

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts/rootfs"
)

// Counts are the hosts of one cluster.
type Counts struct{ ControlPlanes, Workers int }

// Layout says which hosts there are.
type Layout struct {
	Service, Workload Counts
	Spares            int
}

// distributions of a number of hosts over both clusters: first one machine each, then workers, then three control
// planes for the workload cluster. More than eight do not run Kubernetes on 2 cores and 24 GiB.
var distributions = []Layout{
	{Service: Counts{1, 0}},
	{Service: Counts{1, 0}, Workload: Counts{1, 0}},
	{Service: Counts{1, 0}, Workload: Counts{1, 1}},
	{Service: Counts{1, 1}, Workload: Counts{1, 1}},
	{Service: Counts{1, 1}, Workload: Counts{1, 2}},
	{Service: Counts{1, 1}, Workload: Counts{3, 1}},
	{Service: Counts{1, 1}, Workload: Counts{3, 2}},
	{Service: Counts{1, 2}, Workload: Counts{3, 2}},
}

// Distribute chooses a layout for a number of hosts.
func Distribute(n int) (Layout, error) {
	if n < 1 || n > len(distributions) {
		return Layout{}, fmt.Errorf("%d hosts: expected 1 to %d; --service, --workload and --spare say it in detail", n, len(distributions))
	}
	return distributions[n-1], nil
}

// ParseCounts reads "3+1": three control planes and one worker. "3" is the same as "3+0".
func ParseCounts(s string) (Counts, error) {
	a, b, found := strings.Cut(s, "+")
	if !found {
		b = "0"
	}
	planes, err := strconv.Atoi(a)
	workers, werr := strconv.Atoi(b)
	if err != nil || werr != nil || planes < 0 || workers < 0 || planes == 0 && workers > 0 {
		return Counts{}, fmt.Errorf("%q: expected CONTROL-PLANES+WORKERS such as 3+1", s)
	}
	return Counts{planes, workers}, nil
}

// Host is one machine of the lab.
type Host struct {
	Name string `json:"name"`
	// Cluster is empty for a spare.
	Cluster inventory.ClusterName `json:"cluster,omitempty"`
	Role    inventory.Role        `json:"role,omitempty"`
	Address netip.Addr            `json:"address"`
	// Memory bounds what the host can use, in bytes; 0: no bound.
	Memory int64 `json:"memory,omitempty"`
	// Hostname is what a guest calls itself; empty for hosts of the layout, which are called by their name.
	Hostname string `json:"hostname,omitempty"`
}

// Guest says that the host came by Add: somebody else decides that it exists and who may log in.
func (h Host) Guest() bool { return h.Hostname != "" }

// hostname is the host's own name for itself.
func (h Host) hostname() string {
	if h.Guest() {
		return h.Hostname
	}
	return h.Name
}

// login is the user by which the lab finds out whether the host answers; a guest has the users of its user data.
func (h Host) login() string {
	if h.Guest() {
		return "root"
	}
	return rootfs.User
}

// Addresses are the subnet's plus these offsets, so that a host's address says what it is and stays when others come:
// 10.77.0.11 is sc-cp-1, 10.77.0.31 is wc-cp-1.
const (
	serviceVIP  = 100
	workloadVIP = 101
	perKind     = 9 // hosts of one kind, at most
)

var kinds = []struct {
	prefix  string
	cluster inventory.ClusterName
	role    inventory.Role
	offset  int
	count   func(Layout) int
}{
	{"sc-cp-", inventory.Service, inventory.ControlPlane, 10, func(l Layout) int { return l.Service.ControlPlanes }},
	{"sc-w-", inventory.Service, inventory.Worker, 20, func(l Layout) int { return l.Service.Workers }},
	{"wc-cp-", inventory.Workload, inventory.ControlPlane, 30, func(l Layout) int { return l.Workload.ControlPlanes }},
	{"wc-w-", inventory.Workload, inventory.Worker, 40, func(l Layout) int { return l.Workload.Workers }},
	{"spare-", "", "", 50, func(l Layout) int { return l.Spares }},
}

// Hosts are the layout's hosts, named and addressed.
func (l Layout) Hosts(subnet netip.Prefix) ([]Host, error) {
	var out []Host
	for _, k := range kinds {
		n := k.count(l)
		if n > perKind {
			return nil, fmt.Errorf("%d hosts %s*: at most %d", n, k.prefix, perKind)
		}
		for i := 1; i <= n; i++ {
			out = append(out, Host{Name: k.prefix + strconv.Itoa(i), Cluster: k.cluster, Role: k.role, Address: offset(subnet, k.offset+i)})
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("the layout has no host")
	}
	return out, nil
}

// offset is the n-th address of the subnet, n below 256.
func offset(subnet netip.Prefix, n int) netip.Addr {
	b := subnet.Masked().Addr().As4()
	b[3] += byte(n)
	return netip.AddrFrom4(b)
}

// labName also names the bridge and begins the names of interfaces, which have 15 bytes.
var labName = regexp.MustCompile(`^[a-z][a-z0-9]{0,5}$`)

// checkNames refuses a name or a subnet that hosts can not be made from.
func checkNames(name string, subnet netip.Prefix) error {
	if !labName.MatchString(name) {
		return fmt.Errorf("--name %q: expected a letter and at most five letters or digits, lower case", name)
	}
	if !subnet.Addr().Is4() || subnet.Bits() > 24 || subnet.Bits() < 8 || subnet.Masked() != subnet {
		return fmt.Errorf("--subnet %s: expected an IPv4 network of at least 256 addresses such as 10.77.0.0/24", subnet)
	}
	return nil
}
