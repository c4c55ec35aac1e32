package openstack

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/rules"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// The two security groups of a cluster. A control plane is in both.
const (
	partNodes  = "nodes"
	partPlanes = "control-planes"
	// otherNodes are the nodes of the workload cluster, in a rule of the service cluster.
	otherNodes = "workload:nodes"
)

// rule lets something in. Answers need none, and what goes out is free.
type rule struct {
	family   string // IPv4 or IPv6
	protocol string // tcp, udp, icmp; empty: all
	from, to int    // ports; 0: all
	cidr     string
	group    string // a part, instead of a network
}

func (r rule) String() string {
	who := cmp.Or(r.cidr, r.group)
	switch {
	case r.protocol == "":
		return "everything from " + who
	case r.from == 0:
		return r.protocol + " from " + who
	case r.from == r.to:
		return fmt.Sprintf("%s %d from %s", r.protocol, r.from, who)
	}
	return fmt.Sprintf("%s %d-%d from %s", r.protocol, r.from, r.to, who)
}

const (
	apiPort                  = 6443 // where API servers listen, whatever the port of the endpoint in front of them
	kubeletPort              = 10250
	etcdFirst, etcdLast      = 2379, 2380
	nodePortFirst, nodePorts = 30000, 32767
)

// wanted are the rules of a cluster: the least that Kubernetes needs.
//
//   - nodes: SSH from sshFrom; from the cluster's nodes SSH (one may be the others' jump host), kubelet, the network plugin's tunnel, node
//     ports and ping. A network plugin of the site's own is not known here: with it the nodes let each other in altogether.
//   - nodes whose Services have load balancers of the cloud: node ports from the subnet.
//   - control planes: the API from apiFrom and the nodes, etcd from each other.
//   - nodes of the service cluster: the doors of the platform, and nothing else, from the nodes of the workload cluster.
func wanted(inv *inventory.Inventory, name inventory.ClusterName, subnet netip.Prefix, workload bool) map[string][]rule {
	c := inv.Cluster(name)
	spec := c.Provider.OpenStack
	family := familyOf(subnet.Addr())
	inside := func(protocol string, from, to int, group string) rule {
		return rule{family: family, protocol: protocol, from: from, to: to, group: group}
	}
	icmp := "icmp"
	if family == "IPv6" {
		icmp = "ipv6-icmp"
	}
	var nodes, planes []rule
	for _, cidr := range masked(spec.SSHFrom) {
		nodes = append(nodes, rule{family: familyOf(cidr.Addr()), protocol: "tcp", from: sshPort(inv, name), to: sshPort(inv, name), cidr: cidr.String()})
	}
	if c.Network.CNI == inventory.CNIFlannel {
		nodes = append(nodes,
			inside("udp", tunnelPort(inv), tunnelPort(inv), partNodes),
			inside("tcp", kubeletPort, kubeletPort, partNodes),
			inside("tcp", nodePortFirst, nodePorts, partNodes), inside("udp", nodePortFirst, nodePorts, partNodes),
			inside(icmp, 0, 0, partNodes),
			inside("tcp", sshPort(inv, name), sshPort(inv, name), partNodes))
	} else {
		nodes = append(nodes, inside("", 0, 0, partNodes))
	}
	if serviceBalancers(inv) { // what they hand on comes from their own addresses in the subnet
		for _, protocol := range []string{"tcp", "udp"} {
			nodes = append(nodes, rule{family: family, protocol: protocol, from: nodePortFirst, to: nodePorts, cidr: subnet.Masked().String()})
		}
	}
	if name == inventory.Service && workload {
		for _, port := range doors(inv) {
			nodes = append(nodes, inside("tcp", port, port, otherNodes))
		}
	}
	for _, cidr := range masked(spec.APIFrom) {
		planes = append(planes, rule{family: familyOf(cidr.Addr()), protocol: "tcp", from: apiPort, to: apiPort, cidr: cidr.String()})
	}
	planes = append(planes, inside("tcp", apiPort, apiPort, partNodes), inside("tcp", etcdFirst, etcdLast, partPlanes))
	if spec.LoadBalancer != nil {
		planes = append(planes, rule{family: family, protocol: "tcp", from: apiPort, to: apiPort, cidr: subnet.Masked().String()})
	}
	return map[string][]rule{partNodes: unique(nodes), partPlanes: unique(planes)}
}

func unique(rules []rule) []rule {
	var out []rule
	for _, r := range rules {
		if !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	return out
}

// doors are the node ports of the service cluster that the workload cluster's nodes may reach.
func doors(inv *inventory.Inventory) []int {
	var out []int
	if inv.Platform.On() {
		out = append(out, inv.Platform.Ingest.ForwardPort, inv.Platform.Ingest.MetricsPort)
	}
	if inv.Platform.OIDC != nil {
		out = append(out, inv.Platform.OIDC.Port)
	}
	slices.Sort(out)
	return slices.Compact(slices.DeleteFunc(out, func(port int) bool { return port == 0 }))
}

func sshPort(inv *inventory.Inventory, name inventory.ClusterName) int {
	return cmp.Or(inv.SSHFor(name, nil).Port, 22)
}

// tunnelPort is what components.flannel.values say, or else the kernel's.
func tunnelPort(inv *inventory.Inventory) int {
	const kernels = 8472
	backend, _ := inv.Components["flannel"].Values["backend"].(map[string]any)
	if port, ok := backend["port"].(int); ok {
		return port
	}
	return kernels
}

// serviceBalancers tells whether the cloud controller manager makes load balancers for Services. Those of the driver ovn are in no
// subnet: what they hand on comes from the clients' own addresses, which only the site knows.
func serviceBalancers(inv *inventory.Inventory) bool {
	c := inv.Components["openstack-cloud-controller-manager"]
	values, _ := c.Values["loadBalancers"].(map[string]any)
	on, _ := values["enabled"].(bool)
	return on && values["provider"] != "ovn" && (c.Enabled == nil || *c.Enabled)
}

func familyOf(a netip.Addr) string {
	if a.Is6() {
		return "IPv6"
	}
	return "IPv4"
}

func masked(cidrs []string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range cidrs {
		if p, err := netip.ParsePrefix(text); err == nil { // the inventory has checked it
			out = append(out, p.Masked())
		}
	}
	return out
}

// difference tells which rules are missing and which ones (by ID) are too many. Rules that let out are left alone.
func difference(want []rule, have []rules.SecGroupRule, groupOf func(id string) string) (missing []rule, surplus []rules.SecGroupRule) {
	seen := map[rule]bool{}
	for _, h := range have {
		if h.Direction != string(rules.DirIngress) {
			continue
		}
		r := rule{family: h.EtherType, protocol: h.Protocol, from: h.PortRangeMin, to: h.PortRangeMax, cidr: h.RemoteIPPrefix}
		if h.RemoteGroupID != "" {
			r.group = groupOf(h.RemoteGroupID)
		}
		if r.protocol == "icmpv6" {
			r.protocol = "ipv6-icmp"
		}
		if !slices.Contains(want, r) || seen[r] {
			surplus = append(surplus, h)
		}
		seen[r] = true
	}
	for _, r := range want {
		if !seen[r] {
			missing = append(missing, r)
		}
	}
	return missing, surplus
}

// otherCluster are the names of the site's other cluster.
func (j *job) otherCluster() names {
	other := inventory.Workload
	if j.request.Cluster == inventory.Workload {
		other = inventory.Service
	}
	return names{site: j.names.site, cluster: other}
}

// otherGroup is the other cluster's group of nodes, if it is in the same project.
func (j *job) otherGroup() *groups.SecGroup {
	other := j.otherCluster()
	for i := range j.world.security {
		if g := &j.world.security[i]; g.Description == other.mark() && g.Name == other.part(partNodes) {
			return g
		}
	}
	return nil
}

func (j *job) planSecurity([]*inventory.Node) ([]step, error) {
	other := j.otherGroup()
	if other != nil && j.request.Cluster == inventory.Service {
		j.securityBy[otherNodes] = other.ID
	}
	want := wanted(j.request.Inventory, j.request.Cluster, j.cidr, j.securityBy[otherNodes] != "")
	var out []step
	for _, part := range []string{partNodes, partPlanes} {
		if g := j.security[j.names.part(part)]; g != nil {
			j.securityBy[part] = g.ID
		} else {
			out = append(out, j.newSecurity(part, want[part]))
		}
	}
	for _, part := range []string{partNodes, partPlanes} {
		g := j.security[j.names.part(part)]
		if g == nil {
			out = append(out, step{at: stageRules, do: func(ctx context.Context) error { return j.fillSecurity(ctx, part, want[part], nil) }})
			continue
		}
		missing, surplus := difference(want[part], g.Rules, j.partOf)
		if len(missing)+len(surplus) == 0 {
			continue
		}
		out = append(out, step{at: stageRules, change: mend("security-group", g.Name, "%s", said(missing, surplus)), do: func(ctx context.Context) error {
			return j.fillSecurity(ctx, part, missing, surplus)
		}})
	}
	if other != nil && j.request.Cluster == inventory.Workload && j.security[j.names.part(partNodes)] == nil {
		out = append(out, step{at: stageRules, do: func(ctx context.Context) error { return j.openDoors(ctx, other.ID) }})
	}
	return out, nil
}

func said(missing []rule, surplus []rules.SecGroupRule) string {
	var words []string
	for _, r := range missing {
		words = append(words, "it does not let in "+r.String())
	}
	for _, r := range surplus {
		words = append(words, fmt.Sprintf("its rule %s is none of the inventory's", r.ID))
	}
	return strings.Join(words, "; ")
}

// partOf is the part whose group has an ID.
func (j *job) partOf(id string) string {
	for part, own := range j.securityBy {
		if own == id {
			return part
		}
	}
	return id
}

func (j *job) newSecurity(part string, want []rule) step {
	name := j.names.part(part)
	return step{at: stageSecurity, needs: need{rules: len(want) + 2}, change: add("security-group", name, "the cluster has no such group; it gets %d rules", len(want)), do: func(ctx context.Context) error {
		o := groups.CreateOpts{Name: name, Description: j.names.mark()}
		g, err := create(ctx, "make the security group "+name, func(ctx context.Context) (*groups.SecGroup, error) {
			return groups.Create(ctx, j.cloud.network, o).Extract()
		}, func(ctx context.Context) (*groups.SecGroup, error) {
			l := groups.ListOpts{Name: name, Description: j.names.mark(), ProjectID: j.cloud.project}
			return first(ctx, "security groups", groups.List(j.cloud.network, l), groups.ExtractGroups)
		})
		if err == nil {
			j.keep(j.securityBy, part, g.ID)
		}
		return err
	}}
}

func (j *job) fillSecurity(ctx context.Context, part string, missing []rule, surplus []rules.SecGroupRule) error {
	id := j.kept(j.securityBy, part)
	for _, r := range missing {
		if err := j.addRule(ctx, id, r, j.kept(j.securityBy, r.group)); err != nil {
			return err
		}
	}
	for _, r := range surplus {
		if err := gone(ctx, "delete the rule "+r.ID, rules.Delete(ctx, j.cloud.network, r.ID).ExtractErr()); err != nil {
			return err
		}
	}
	return nil
}

// openDoors lets the nodes of a new workload cluster into the service cluster, which could not do so before.
func (j *job) openDoors(ctx context.Context, service string) error {
	for _, port := range doors(j.request.Inventory) {
		r := rule{family: familyOf(j.cidr.Addr()), protocol: "tcp", from: port, to: port, group: otherNodes}
		if err := j.addRule(ctx, service, r, j.kept(j.securityBy, partNodes)); err != nil {
			return err
		}
	}
	return nil
}

// addRule makes a rule. One that is there already is refused, and that is as good.
func (j *job) addRule(ctx context.Context, group string, r rule, remote string) error {
	o := rules.CreateOpts{
		Direction: rules.DirIngress, EtherType: rules.RuleEtherType(r.family), SecGroupID: group, Protocol: rules.RuleProtocol(r.protocol),
		PortRangeMin: r.from, PortRangeMax: r.to, RemoteIPPrefix: r.cidr, RemoteGroupID: remote,
	}
	_, err := create(ctx, "let in "+r.String(), func(ctx context.Context) (*rules.SecGroupRule, error) {
		made, err := rules.Create(ctx, j.cloud.network, o).Extract()
		if code(err) == http.StatusConflict {
			if _, _, _, said := answer(err); !said.quota() {
				return &rules.SecGroupRule{}, nil
			}
		}
		return made, err
	}, func(context.Context) (*rules.SecGroupRule, error) { return nil, nil }) //nolint:nilnil // it is made again: a second one is refused
	return err
}
