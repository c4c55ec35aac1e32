package inventory

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
)

// What providers, pools and machines must keep, whichever provider it is. What only one of them asks stands in its own file.

// machine is a listed node, or a pool by a node that stands for all of its.
type machine struct {
	field string
	what  string // for messages
	node  Node
	pool  bool
}

// machines are the listed nodes and then the pools, those of no node too.
func (c *Cluster) machines(name ClusterName) []machine {
	var out []machine
	for i := range c.Nodes {
		if n := c.Nodes[i]; n.Pool == "" {
			out = append(out, machine{field: fmt.Sprintf("clusters.%s.nodes[%d]", name, i), what: "the node " + n.Name, node: n})
		}
	}
	for i := range c.Pools {
		p := &c.Pools[i]
		out = append(out, machine{field: fmt.Sprintf("clusters.%s.pools[%d]", name, i), what: "the pool " + p.Name, node: p.node(1), pool: true})
	}
	return out
}

// machines checks the machines of both clusters.
func (v *validator) machines() {
	adopted := map[string]string{}
	for _, name := range v.inv.ClusterNames() {
		c := v.inv.Cluster(name)
		v.addresses(name, c)
		v.foreign(name, c)
		v.openstack(name, c, adopted)
		v.vsphere(name, c, adopted)
		v.external(name, c)
		v.cloud(name, c)
	}
	v.cloudsApart()
	v.openstackReach()
}

// pools checks the names and sizes of the pools, before their nodes are looked at.
func (v *validator) pools(seen *seen) {
	pools := map[string]string{}
	for _, name := range v.inv.ClusterNames() {
		c := v.inv.Cluster(name)
		total := len(c.asListed())
		for i := range c.Pools {
			p, f := &c.Pools[i], fmt.Sprintf("clusters.%s.pools[%d]", name, i)
			v.ssh(f+".ssh", p.SSH)
			v.taints(f, p.Taints)
			v.once(pools, p.Name, f, f+".name", "the pool %s is also %s")
			if last := p.nodeName(p.Count); len(last) > rules["node"].most {
				v.fail(f+".name", "choose a shorter name", "its node %s would have more than %d characters", last, rules["node"].most)
			}
			if total += p.Count; pools[p.Name] == f && total <= maxNodes {
				v.poolNodes(p, f, seen)
			}
		}
		if total > maxNodes {
			v.fail("clusters."+string(name)+".pools", "", "the cluster has %d nodes, Kubernetes bears %d", total, maxNodes)
		}
	}
}

// poolNodes refuses a pool whose nodes have the names of others, and says which of them is the first.
func (v *validator) poolNodes(p *Pool, f string, seen *seen) {
	said := false
	for number := 1; number <= p.Count; number++ {
		n := p.nodeName(number)
		if first, twice := seen.names[n]; twice && !said {
			v.fail(f+".name", "rename the pool, or that node", "its node %s has the name of %s", n, first)
			said = true
		}
		seen.names[n] = f
	}
}

func (v *validator) taints(f string, all *[]Taint) {
	if all == nil {
		return
	}
	taints := map[string]string{}
	for j, t := range *all {
		tf := fmt.Sprintf("%s.taints[%d]", f, j)
		if t.Key != "" {
			v.once(taints, t.Key+":"+t.Effect, tf, tf, "the taint %s is also %s")
		}
	}
}

// addresses refuses what a provider that makes nothing can not do.
func (v *validator) addresses(name ClusterName, c *Cluster) {
	if c.Provider.Makes() {
		return
	}
	for _, m := range c.machines(name) {
		switch {
		case m.pool:
			v.fail(m.field, "list the machines under nodes, or name a provider that makes some", "the provider onprem makes no machines, so it has no pools")
		case m.node.Address == "":
			v.fail(m.field+".address", "", "missing; expected an IP address")
		}
	}
}

// foreign refuses settings of a provider that the cluster does not have.
func (v *validator) foreign(name ClusterName, c *Cluster) {
	f, p := "clusters."+string(name), c.Provider
	if v.broken(f + ".provider") {
		return
	}
	refuse := func(field, of string) {
		v.fail(field, fmt.Sprintf("leave it out, or name %s under %s.provider", of, f), "the cluster's provider is %s", p.Name())
	}
	for _, m := range c.machines(name) {
		if m.node.OpenStack != nil && p.OpenStack == nil {
			refuse(m.field+".openstack", "openstack")
		}
		if m.node.VSphere != nil && p.VSphere == nil {
			refuse(m.field+".vsphere", "vsphere")
		}
		if m.node.External != nil && p.External == nil {
			refuse(m.field+".external", "external")
		}
	}
	if c.Cloud != nil && c.Cloud.OpenStack != nil && p.OpenStack == nil {
		refuse(f+".cloud.openstack", "openstack")
	}
	if c.Cloud != nil && c.Cloud.VSphere != nil && p.VSphere == nil {
		refuse(f+".cloud.vsphere", "vsphere")
	}
}

// adopts checks the settings of a machine that is there already. key is the field that names it.
func (v *validator) adopts(m machine, provider, key, value string, settings any, seen map[string]string) {
	f := m.field + "." + provider
	if m.pool {
		v.fail(f+"."+key, "list the machine under nodes", "a pool makes its machines; only a single node adopts one")
		return
	}
	v.once(seen, provider+" "+value, m.field, f+"."+key, "%s is adopted by %s too")
	if others := beside(settings, key); len(others) > 0 {
		v.fail(f+"."+others[0], "leave it out", "a machine that is adopted is left as it is: %s takes no %s", key, strings.Join(others, " and no "))
	}
}

// beside are the fields of a struct that are set, but for one.
func beside(settings any, except string) []string {
	var out []string
	s := reflect.Indirect(reflect.ValueOf(settings))
	for i := range s.NumField() {
		if name := fieldName(s.Type().Field(i)); name != except && !s.Field(i).IsZero() {
			out = append(out, name)
		}
	}
	return out
}

// lacks reports fields that neither the machine nor the provider names.
func (v *validator) lacks(m machine, provider string, missing []string) {
	if len(missing) > 0 {
		v.fail(m.field+"."+provider, fmt.Sprintf("name it here, or for all under provider.%s.machine", provider),
			"%s has no %s", m.what, strings.Join(missing, ", no "))
	}
}

// separates checks anti-affinity where it is set: it is between the machines of a pool.
func (v *validator) separates(m machine, provider string, a AntiAffinity) {
	if !m.pool && a != "" && a != AntiAffinityNone {
		v.fail(m.field+"."+provider+".antiAffinity", "put machines that are alike into a pool", "a single node has no machines to be kept apart from")
	}
}

// cloud checks what the cluster's own controllers are given.
func (v *validator) cloud(name ClusterName, c *Cluster) {
	f := "clusters." + string(name) + ".cloud"
	if c.Cloud == nil {
		return
	}
	for _, s := range c.Cloud.secrets(f) {
		if s.secret != nil {
			v.private(s.field+".file", s.secret.File)
		}
	}
	if o := c.Cloud.OpenStack; o != nil {
		v.exists(f+".openstack.caFile", o.CAFile)
		if strings.HasPrefix(o.AuthURL, "http://") {
			v.warn(f+".openstack.authURL", "use https://", "the credential travels in the clear")
		}
	}
	if o := c.Cloud.VSphere; o != nil {
		v.exists(f+".vsphere.caFile", o.CAFile)
	}
}

// cloudsApart refuses a credential that both clusters hold: with the workload cluster's, an attacker would reach the service cluster's
// machines and disks.
func (v *validator) cloudsApart() {
	s, w := v.inv.Clusters.Service, v.inv.Clusters.Workload
	if s == nil || w == nil {
		return
	}
	for _, mine := range w.Cloud.secrets("clusters.workload.cloud") {
		for _, other := range s.Cloud.secrets("clusters.service.cloud") {
			if mine.secret != nil && other.secret != nil && *mine.secret == *other.secret {
				v.fail(mine.field, "make a credential that reaches the workload cluster's machines alone",
					"it is also %s: whoever breaks into the workload cluster would reach the service cluster's machines", other.field)
			}
		}
	}
}

// inside checks that an address is one of a network's own, and none that every network keeps for itself.
func (v *validator) inside(field, address, cidr string) {
	a, err := netip.ParseAddr(address)
	p, perr := netip.ParsePrefix(cidr)
	switch {
	case err != nil || perr != nil:
	case !p.Contains(a):
		v.fail(field, "", "%s does not lie in the cluster's network %s", address, cidr)
	case a == p.Addr(), a == p.Addr().Next(), a.Is4() && !p.Contains(a.Next()):
		v.fail(field, "choose another one", "%s is the address of the network %s itself, of its router or of all its machines", address, cidr)
	}
}
