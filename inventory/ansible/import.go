package ansible

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// Options say what an Ansible inventory can not.
type Options struct {
	// Name is the site's. Default: the name of the file without its end.
	Name string
	// Groups are the group whose hosts make each cluster; all is a group too.
	Groups map[inventory.ClusterName]string
	// Endpoints are the API endpoints; a cluster with several control planes needs one, here or in the file
	// (kube_vip_address, loadbalancer_apiserver).
	Endpoints map[inventory.ClusterName]string
	// Version is asked for where the file names none that is supported. Default: inventory.NewestTested.
	Version string
}

// Import turns an Ansible inventory, INI or YAML, into a Catamaran inventory. The warnings are all that was not carried
// over. The result parses; what keeps it from that is an error.
func Import(data []byte, path string, o Options) ([]byte, []inventory.Warning, error) {
	if len(data) > maxSize {
		return nil, nil, inventory.Error{File: path, Message: fmt.Sprintf("the file is larger than %d MiB", maxSize>>20)}
	}
	text := strings.ReplaceAll(strings.TrimPrefix(string(data), "\uFEFF"), "\r\n", "\n")
	read := func() (*file, error) { return parseINI(text, path) }
	if isYAML(text, path) {
		read = func() (*file, error) { return parseYAML([]byte(text), path) }
	}
	f, err := read()
	if err != nil {
		return nil, nil, err
	}
	if o.Version == "" {
		o.Version = inventory.NewestTested
	}
	defer func() {
		sort.SliceStable(f.warnings, func(i, j int) bool { return f.warnings[i].Line < f.warnings[j].Line })
	}()
	c := importer{file: f, o: o, scopes: f.scopes(), used: map[string]bool{}}
	inv, err := c.inventory()
	if err != nil {
		return nil, f.warnings, err
	}
	out, err := inv.YAML()
	if err != nil {
		return nil, f.warnings, err
	}
	out = append([]byte(fmt.Sprintf("# Imported from the Ansible inventory %q. Read it through, then: catamaran inventory validate\n", filepath.Base(path))), out...)
	if err := valid(out, path); err != nil {
		return nil, f.warnings, err
	}
	return out, f.warnings, nil
}

// valid parses a result. Its positions mean nothing to who has only the Ansible file, so fields alone are named.
func valid(out []byte, path string) error {
	_, err := inventory.Parse(out, path)
	var errs inventory.Errors
	if !errors.As(err, &errs) {
		return err
	}
	for i := range errs {
		errs[i].Line, errs[i].Column = 0, 0
		errs[i].Message = "the inventory would not be valid: " + errs[i].Message
	}
	return errs
}

// importer makes one inventory.
type importer struct {
	*file
	o      Options
	scopes map[string]scope
	used   map[string]bool // variables that were looked at
	taken  []netip.Prefix
	nodes  []netip.Addr
}

// Names of kubespray's groups, today's and those before 2021.
var (
	planeGroups  = []string{"kube_control_plane", "kube-master", "kube_master"} //nolint:gochecknoglobals // a constant table
	workerGroups = []string{"kube_node", "kube-node"}                           //nolint:gochecknoglobals // a constant table
)

func (c *importer) inventory() (*inventory.Inventory, error) {
	if c.o.Name == "" {
		base := filepath.Base(c.path)
		c.o.Name = strings.ToLower(strings.TrimSuffix(base, filepath.Ext(base)))
	}
	inv := &inventory.Inventory{
		APIVersion: inventory.APIVersion, Kind: inventory.Kind, Metadata: inventory.Metadata{Name: c.o.Name},
		Kubernetes: inventory.Kubernetes{},
	}
	var problems []error
	for name := range c.o.Groups {
		if name != inventory.Service && name != inventory.Workload {
			return nil, c.fail(0, "the clusters of a site are service or workload, found %q", name)
		}
	}
	for name := range c.o.Endpoints {
		if _, wanted := c.o.Groups[name]; !wanted {
			return nil, c.fail(0, "an endpoint is given for %q, but no hosts", name)
		}
	}
	owner := map[string]inventory.ClusterName{}
	type listed struct {
		name  inventory.ClusterName
		hosts []string
	}
	var clusters []listed
	for _, name := range []inventory.ClusterName{inventory.Service, inventory.Workload} {
		group, wanted := c.o.Groups[name]
		if !wanted {
			continue
		}
		hosts := c.members(group)
		if len(hosts) == 0 {
			problems = append(problems, c.fail(0, "the group %q has no hosts; there are %s", group, strings.Join(c.groupNames(), ", ")))
		}
		for _, h := range hosts {
			if first, twice := owner[h]; twice {
				problems = append(problems, c.fail(c.hostLine[h], "%s is in the groups of both clusters, %s and %s", h, c.o.Groups[first], group))
			}
			owner[h] = name
		}
		clusters = append(clusters, listed{name, hosts})
	}
	if len(clusters) == 0 {
		return nil, c.fail(0, "which hosts make which cluster? Name a cluster for all of them, or a group for each")
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	for i, l := range clusters {
		cluster, err := c.cluster(l.name, l.hosts)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if i == 0 {
			inv.Kubernetes.Version, cluster.Version = cluster.Version, ""
		} else if cluster.Version == inv.Kubernetes.Version {
			cluster.Version = ""
		}
		if l.name == inventory.Service {
			inv.Clusters.Service = cluster
		} else {
			inv.Clusters.Workload = cluster
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	for _, l := range clusters { // once all addresses are known
		c.networks(l.name, inv.Cluster(l.name), c.scopes[l.hosts[0]])
	}
	lift(inv)
	for _, h := range c.hosts {
		if _, ok := owner[h]; !ok {
			c.warn(c.hostLine[h], h, "", "in neither cluster's group, left out")
		}
	}
	c.ignored()
	return inv, nil
}

func (c *importer) groupNames() []string {
	names := []string{"all"}
	for n := range c.groups {
		names = appendNew(names, n)
	}
	sort.Strings(names)
	return names
}

// any tells which hosts are in one of several groups.
func (c *importer) any(groups []string) map[string]bool {
	in := map[string]bool{}
	for _, g := range groups {
		for _, h := range c.members(g) {
			in[h] = true
		}
	}
	return in
}

func (c *importer) cluster(name inventory.ClusterName, hosts []string) (*inventory.Cluster, error) {
	planes, workers, etcd := c.any(planeGroups), c.any(workerGroups), c.any([]string{"etcd"})
	cluster := &inventory.Cluster{Provider: inventory.Provider{OnPrem: &inventory.OnPrem{}}}
	var problems []error
	var first scope
	for _, h := range hosts {
		n := inventory.Node{}
		switch {
		case planes[h]:
			n.Role = inventory.ControlPlane
			if workers[h] {
				n.Taints = &[]inventory.Taint{} // it carries workload too
			}
			if len(etcd) > 0 && !etcd[h] {
				c.warn(c.hostLine[h], h, "", "a control plane without etcd; here each control plane has a member")
			}
			if first == nil {
				first = c.scopes[h]
			}
		case workers[h]:
			n.Role = inventory.Worker
			if etcd[h] {
				c.warn(c.hostLine[h], h, "", "etcd on a worker is not carried over; here each control plane has a member")
			}
		case etcd[h]:
			c.warn(c.hostLine[h], h, "", "a machine for etcd alone is not carried over; here each control plane has a member")
			continue
		default:
			c.warn(c.hostLine[h], h, "", "neither in kube_control_plane nor in kube_node, left out")
			continue
		}
		if err := c.node(h, &n); err != nil {
			problems = append(problems, err)
			continue
		}
		cluster.Nodes = append(cluster.Nodes, n)
	}
	if first == nil && len(problems) == 0 {
		problems = append(problems, c.fail(0, "the %s cluster has no control plane: no host of the group %q is in kube_control_plane", name, c.o.Groups[name]))
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	cluster.Version = c.version(first)
	return cluster, c.endpoint(name, cluster, first)
}

var badName = regexp.MustCompile(`[^a-z0-9.-]`)

func (c *importer) node(h string, n *inventory.Node) error {
	s := c.scopes[h]
	n.Name = badName.ReplaceAllString(strings.ToLower(h), "-")
	if n.Name != h {
		c.warn(c.hostLine[h], h, "", "named %s, as Kubernetes allows", n.Name)
	}
	own, ok := c.address(h, s)
	if !ok {
		return c.fail(c.hostLine[h], "%s has no IP address: set ip or ansible_host to one", h)
	}
	n.Address = own.String()
	c.nodes = append(c.nodes, own)
	ssh := inventory.SSH{}
	ssh.User, _ = c.text(s, "ansible_user", "ansible_ssh_user")
	ssh.KeyFile, _ = c.text(s, "ansible_ssh_private_key_file", "ansible_private_key_file")
	if port, ok := c.text(s, "ansible_port", "ansible_ssh_port"); ok {
		if ssh.Port = number(port); ssh.Port < 1 || ssh.Port > 65535 {
			return c.fail(c.hostLine[h], "%s: expected a port of 1 to 65535", h)
		}
	}
	for _, name := range []string{"ansible_ssh_common_args", "ansible_ssh_extra_args"} {
		if args, ok := c.text(s, name); ok {
			ssh.Jump = append(ssh.Jump, c.jumps(args, s[name].line, name)...)
		}
	}
	n.SSH = &ssh
	return nil
}

// address is where a node is reached. Kubespray tells apart where Ansible connects to (ansible_host), where Kubernetes
// listens (ip) and where others reach it (access_ip); Catamaran has one address for all.
func (c *importer) address(h string, s scope) (netip.Addr, bool) {
	var found []string
	var address netip.Addr
	for _, name := range []string{"ip", "access_ip", "ansible_host", "ansible_ssh_host"} {
		text, ok := c.text(s, name)
		if !ok {
			continue
		}
		a, err := netip.ParseAddr(text)
		switch {
		case err != nil:
			c.warn(s[name].line, h+"."+name, "", "not an IP address, ignored")
		case !address.IsValid():
			address = a
			found = append(found, name)
		case a != address:
			c.warn(s[name].line, h+"."+name, "", "%s is ignored: SSH and Kubernetes both use %s (%s)", a, address, found[0])
		}
	}
	if !address.IsValid() {
		if a, err := netip.ParseAddr(h); err == nil {
			address = a
		}
	}
	return address, address.IsValid()
}

// text is the first of several variables that is set to a text without a template.
func (c *importer) text(s scope, names ...string) (string, bool) {
	for _, n := range names {
		c.used[n] = true
	}
	name, v, ok := s.first(names...)
	if !ok {
		return "", false
	}
	text, isText := v.value.(string)
	if !isText {
		c.once(v.line, name, "not a text, ignored")
		return "", false
	}
	if strings.Contains(text, "{{") {
		c.once(v.line, name, "a template, which only Ansible can fill in, ignored")
		return "", false
	}
	return text, text != ""
}

// once warns of a variable that holds for many hosts.
func (c *importer) once(line int, name, message string) {
	for _, w := range c.warnings {
		if w.Line == line && w.Field == name {
			return
		}
	}
	c.warn(line, name, "", "%s", message)
}

var supported = regexp.MustCompile(`^v?(1\.[0-9]+\.[0-9]+)$`)

func (c *importer) version(s scope) string {
	text, ok := c.text(s, "kube_version")
	if !ok {
		return c.o.Version
	}
	if m := supported.FindStringSubmatch(text); m != nil && inventory.Supported(m[1]) {
		return m[1]
	}
	c.once(s["kube_version"].line, "kube_version", fmt.Sprintf("not a version that is supported here; %s is written instead", c.o.Version))
	return c.o.Version
}

func (c *importer) endpoint(name inventory.ClusterName, cluster *inventory.Cluster, s scope) error {
	e := &cluster.Endpoint
	c.used["loadbalancer_apiserver"] = true
	vip, hasVIP := c.text(s, "kube_vip_address")
	if enabled, ok := c.text(s, "kube_vip_enabled"); ok && strings.EqualFold(enabled, "false") {
		hasVIP = false
	}
	balancer, hasBalancer := s["loadbalancer_apiserver"]
	switch given := c.o.Endpoints[name]; {
	case given != "":
		e.Address = given
		if _, err := netip.ParseAddr(given); err != nil {
			e.Mode = inventory.EndpointExternal
		}
	case hasVIP:
		e.Address, e.Mode = vip, inventory.EndpointVIP
	case hasBalancer:
		fields := mapping(balancer.value)
		e.Address, e.Mode = fields["address"], inventory.EndpointExternal
		if p := number(fields["port"]); p > 0 {
			e.Port = p
		}
	}
	if planes := cluster.ControlPlanes(); e.Address == "" && len(planes) > 1 {
		return c.fail(0, "the %s cluster has %d control planes and no endpoint: name a free address for the VIP, or a load balancer's: --endpoint %s=ADDRESS", name, len(planes), name)
	}
	return nil
}

// mapping is a value of a YAML file, or what an INI file holds as text: {"address": "10.0.0.1", "port": 6443}.
func mapping(v any) map[string]string {
	if m, ok := v.(map[string]string); ok {
		return m
	}
	text, _ := v.(string)
	var n yaml.Node
	if len(text) > 4096 || yaml.Unmarshal([]byte(text), &n) != nil || len(n.Content) == 0 {
		return nil
	}
	m, _ := flat(n.Content[0]).(map[string]string)
	return m
}

func (c *importer) networks(name inventory.ClusterName, cluster *inventory.Cluster, s scope) {
	n := &cluster.Network
	n.PodCIDR = c.cidr(name, s, "kube_pods_subnet", 8, 24)
	n.ServiceCIDR = c.cidr(name, s, "kube_service_addresses", 12, 28)
	if domain, ok := c.text(s, "dns_domain"); ok {
		n.DNSDomain = domain
	} else if domain, ok := c.text(s, "cluster_name"); ok {
		n.DNSDomain = domain
	}
	if mode, ok := c.text(s, "kube_proxy_mode"); ok {
		if mode == "iptables" || mode == "nftables" {
			n.ProxyMode = mode
		} else {
			c.once(s["kube_proxy_mode"].line, "kube_proxy_mode", "neither nftables nor iptables, ignored")
		}
	}
	switch plugin, ok := c.text(s, "kube_network_plugin"); {
	case plugin == "flannel":
		n.CNI = inventory.CNIFlannel
	case plugin == "cni", plugin == "none":
		n.CNI = inventory.CNINone
	case ok:
		c.once(s["kube_network_plugin"].line, "kube_network_plugin", "not flannel: for another plugin write network.cni: none and list its chart under releases")
	}
}

// cidr is a network of the file, or where there is none that fits, a free one. widest and narrowest are prefix lengths.
func (c *importer) cidr(cluster inventory.ClusterName, s scope, name string, widest, narrowest int) string {
	field := fmt.Sprintf("clusters.%s", cluster)
	text, given := c.text(s, name)
	if given {
		p, err := netip.ParsePrefix(text)
		switch {
		case err != nil || !p.Addr().Is4() || p.Bits() < widest || p.Bits() > narrowest:
			c.once(s[name].line, name, "not one IPv4 network of a size that fits, ignored")
		case c.free(p.Masked()):
			c.taken = append(c.taken, p.Masked())
			return p.Masked().String()
		default:
			c.warn(s[name].line, name, "", "%s overlaps another network or holds a node, ignored for the %s cluster", p, cluster)
		}
	}
	for second := 100; second < 256; second++ {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(second)}), 16)
		if c.free(p) {
			c.taken = append(c.taken, p)
			c.warn(0, field, "it can not be changed later", "%s is not given: %s is written, make sure that it is free", name, p)
			return p.String()
		}
	}
	return ""
}

func (c *importer) free(p netip.Prefix) bool {
	for _, t := range c.taken {
		if t.Overlaps(p) {
			return false
		}
	}
	return !slices.ContainsFunc(c.nodes, p.Contains)
}

// lift writes an SSH setting that all nodes share once, for the site; else each node has its own.
func lift(inv *inventory.Inventory) {
	var all []*inventory.Node
	for _, name := range inv.ClusterNames() {
		for i := range inv.Cluster(name).Nodes {
			all = append(all, &inv.Cluster(name).Nodes[i])
		}
	}
	shared(all, &inv.SSH.User, func(s *inventory.SSH) *string { return &s.User })
	shared(all, &inv.SSH.KeyFile, func(s *inventory.SSH) *string { return &s.KeyFile })
	shared(all, &inv.SSH.Port, func(s *inventory.SSH) *int { return &s.Port })
	same := true
	for _, n := range all {
		same = same && slices.Equal(n.SSH.Jump, all[0].SSH.Jump)
	}
	if same {
		inv.SSH.Jump = all[0].SSH.Jump
	}
	for _, n := range all {
		if same {
			n.SSH.Jump = nil
		}
		if n.SSH.User == "" && n.SSH.KeyFile == "" && n.SSH.Port == 0 && n.SSH.Jump == nil {
			n.SSH = nil
		}
	}
}

func shared[T comparable](all []*inventory.Node, site *T, of func(*inventory.SSH) *T) {
	var none T
	first := *of(all[0].SSH)
	for _, n := range all {
		if *of(n.SSH) != first {
			return
		}
	}
	*site = first
	for _, n := range all {
		*of(n.SSH) = none
	}
}

// ignored warns of each variable that was not looked at, once.
func (c *importer) ignored() {
	type place struct{ line, count int }
	seen := map[string]place{}
	note := func(vars map[string]variable) {
		for name, v := range vars {
			if c.used[name] {
				continue
			}
			p, known := seen[name]
			if !known || v.line < p.line {
				p.line = v.line
			}
			p.count++
			seen[name] = p
		}
	}
	for _, g := range c.groups {
		note(g.vars)
	}
	for _, vars := range c.hostVars {
		note(vars)
	}
	names := make([]string, 0, len(seen))
	for n := range seen {
		names = append(names, n)
	}
	sort.Slice(names, func(i, j int) bool {
		if a, b := seen[names[i]].line, seen[names[j]].line; a != b {
			return a < b
		}
		return names[i] < names[j]
	})
	for _, n := range names {
		message := "ignored"
		if p := seen[n]; p.count > 1 {
			message += ", " + strconv.Itoa(p.count) + " times"
		}
		c.warn(seen[n].line, n, "", "%s", message)
	}
}
