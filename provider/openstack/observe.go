package openstack

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servergroups"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/external"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/routers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// network is one with what tells whether it leads outside, and whether ports on it are filtered.
type network struct {
	networks.Network
	external.NetworkExternalExt
	Filter struct { // a cloud without the extension says nothing, and filters
		On *bool `json:"port_security_enabled"`
	}
}

// world is what a project holds, as one look at it shows. Each kind is one request (or one a page), so that a look costs the same for
// any number of servers.
type world struct {
	servers      []servers.Server // of the whole project: one that is adopted may be any of them
	ports        []ports.Port     // the cluster's
	networks     []network
	subnets      []subnets.Subnet
	routers      []routers.Router
	interfaces   []ports.Port // of routers, in the project
	attached     []ports.Port // whatever is on the site's networks; only for deleting
	security     []groups.SecGroup
	floating     []floatingips.FloatingIP
	serverGroups []servergroups.ServerGroup
	volumes      []volumes.Volume
	balancers    []balancer
	hidden       bool // the credentials may not look at load balancers, and the inventory asks for none
	flavors      []flavors.Flavor
	images       []images.Image
}

// list reads all pages of a kind.
func list[T any](ctx context.Context, kind string, p pagination.Pager, extract func(pagination.Page) ([]T, error), into *[]T) error {
	page, err := p.AllPages(ctx)
	if err != nil {
		return explain(ctx, "list "+kind, err)
	}
	out, err := extract(page)
	if err != nil {
		return explain(ctx, "list "+kind, err)
	}
	*into = out
	return nil
}

// observe looks at the project. choices are flavors and images, which only somebody needs who makes servers.
func (j *job) observe(ctx context.Context, choices bool) error {
	w := &world{}
	c := j.cloud
	fs := []func(context.Context) error{
		func(ctx context.Context) error { return j.listServers(ctx, w) },
		func(ctx context.Context) error { return j.listPorts(ctx, w) },
		func(ctx context.Context) error {
			return list(ctx, "networks", networks.List(c.network, networks.ListOpts{}), func(p pagination.Page) ([]network, error) {
				var out []network
				err := networks.ExtractNetworksInto(p, &out)
				return out, err
			}, &w.networks)
		},
		func(ctx context.Context) error {
			return list(ctx, "subnets", subnets.List(c.network, subnets.ListOpts{}), subnets.ExtractSubnets, &w.subnets)
		},
		func(ctx context.Context) error {
			return list(ctx, "routers", routers.List(c.network, routers.ListOpts{}), routers.ExtractRouters, &w.routers)
		},
		func(ctx context.Context) error { return j.listInterfaces(ctx, w) },
		func(ctx context.Context) error {
			return list(ctx, "security groups", groups.List(c.network, groups.ListOpts{ProjectID: c.project}), groups.ExtractGroups, &w.security)
		},
		func(ctx context.Context) error {
			return list(ctx, "floating IPs", floatingips.List(c.network, floatingips.ListOpts{ProjectID: c.project}), floatingips.ExtractFloatingIPs, &w.floating)
		},
		func(ctx context.Context) error {
			return list(ctx, "server groups", servergroups.List(c.compute, servergroups.ListOpts{}), servergroups.ExtractServerGroups, &w.serverGroups)
		},
		func(ctx context.Context) error { return j.listVolumes(ctx, w) },
		func(ctx context.Context) error { return j.observeBalancers(ctx, w, choices) },
	}
	if choices {
		fs = append(fs,
			func(ctx context.Context) error {
				return list(ctx, "flavors", flavors.ListDetail(c.compute, flavors.ListOpts{AccessType: flavors.AllAccess}), flavors.ExtractFlavors, &w.flavors)
			},
			func(ctx context.Context) error { return j.listImages(ctx, w) })
	}
	if err := c.together(ctx, fs...); err != nil {
		return err
	}
	j.world = w
	j.index()
	if choices {
		return nil
	}
	return j.listAttached(ctx)
}

func (j *job) listServers(ctx context.Context, w *world) error {
	return list(ctx, "servers", servers.List(j.cloud.compute, servers.ListOpts{}), servers.ExtractServers, &w.servers)
}

func (j *job) listPorts(ctx context.Context, w *world) error {
	o := ports.ListOpts{ProjectID: j.cloud.project, Description: j.names.mark()}
	return list(ctx, "ports", ports.List(j.cloud.network, o), ports.ExtractPorts, &w.ports)
}

// routerPorts asks for what routers are joined to. The owner's name has variants for distributed and redundant routers.
type routerPorts struct{}

func (routerPorts) ToPortListQuery() (string, error) {
	return "?device_owner=network:router_interface&device_owner=network:router_interface_distributed&device_owner=network:ha_router_replicated_interface", nil
}

func (j *job) listInterfaces(ctx context.Context, w *world) error {
	return list(ctx, "router interfaces", ports.List(j.cloud.network, routerPorts{}), ports.ExtractPorts, &w.interfaces)
}

// listAttached looks who is on the site's networks: who deletes must know. A site has one network, or one a cluster.
func (j *job) listAttached(ctx context.Context) error {
	for _, n := range j.networks {
		var out []ports.Port
		if err := list(ctx, "ports of the network "+n.Name, ports.List(j.cloud.network, ports.ListOpts{NetworkID: n.ID}), ports.ExtractPorts, &out); err != nil {
			return err
		}
		j.world.attached = append(j.world.attached, out...)
	}
	return nil
}

// listVolumes sees none where the credentials may not look and the inventory asks for none.
func (j *job) listVolumes(ctx context.Context, w *world) error {
	if j.cloud.volume == nil {
		return nil
	}
	page, err := volumes.List(j.cloud.volume, volumes.ListOpts{}).AllPages(ctx)
	if code(err) == http.StatusForbidden && !j.wantsVolumes() {
		w.volumes = nil
		return nil
	}
	if err == nil {
		w.volumes, err = volumes.ExtractVolumes(page)
	}
	return explain(ctx, "list volumes", err)
}

func (j *job) wantsVolumes() bool {
	return slices.ContainsFunc(j.cluster.Nodes, func(n inventory.Node) bool { return j.machine(&n).Volume != nil })
}

// index finds what belongs to the cluster, by name and mark.
func (j *job) index() {
	w := j.world
	j.duplicates = duplicates{}
	j.servers = only(&j.duplicates, "server", mine(w.servers, func(s *servers.Server) bool {
		return j.names.owns(s.Metadata) && s.Status != "DELETED" && s.Status != "SOFT_DELETED"
	}), func(s *servers.Server) thing {
		return thing{name: s.Metadata[markNode], id: s.ID, used: !s.LaunchedAt.IsZero(), worse: s.Status == "ERROR", age: s.Created}
	}, j.deleteServer)
	j.ports = only(&j.duplicates, "port", mine(w.ports, func(p *ports.Port) bool { return p.Description == j.names.mark() }), func(p *ports.Port) thing {
		return thing{name: p.Name, id: p.ID, used: p.DeviceID != "", age: p.CreatedAt}
	}, j.deletePort)
	j.volumes = only(&j.duplicates, "volume", mine(w.volumes, func(v *volumes.Volume) bool { return j.names.owns(v.Metadata) && v.Status != "deleting" }), func(v *volumes.Volume) thing {
		return thing{name: v.Name, id: v.ID, used: len(v.Attachments) > 0, worse: v.Status == "error", age: v.CreatedAt}
	}, j.deleteVolume)
	j.security = only(&j.duplicates, "security-group", mine(w.security, func(g *groups.SecGroup) bool { return g.Description == j.names.mark() }), func(g *groups.SecGroup) thing {
		return thing{name: g.Name, id: g.ID, used: j.usesSecurity(g.ID), age: g.CreatedAt}
	}, j.deleteSecurity)
	j.serverGroups = only(&j.duplicates, "server-group", mine(w.serverGroups, func(g *servergroups.ServerGroup) bool {
		return strings.HasPrefix(g.Name, j.names.part(""))
	}), func(g *servergroups.ServerGroup) thing {
		return thing{name: g.Name, id: g.ID, used: len(g.Members) > 0}
	}, j.deleteServerGroup)
	j.floating = only(&j.duplicates, "floating-ip", mine(w.floating, func(f *floatingips.FloatingIP) bool {
		_, ok := j.names.markedNode(f.Description)
		return ok
	}), func(f *floatingips.FloatingIP) thing {
		name, _ := j.names.markedNode(f.Description)
		return thing{name: name, id: f.ID, worse: f.PortID == "", age: f.CreatedAt}
	}, j.deleteFloating)
	j.balancers = only(&j.duplicates, "load-balancer", mine(w.balancers, func(b *balancer) bool {
		return b.Description == j.names.mark() && b.ProvisioningStatus != "DELETED"
	}), func(b *balancer) thing {
		return thing{name: b.Name, id: b.ID, worse: b.ProvisioningStatus == statusError || b.leaving(), age: b.CreatedAt}
	}, j.deleteBalancer)
	j.indexNetwork()
}

func (j *job) indexNetwork() {
	w, shared := j.world, j.names.markShared()
	j.networks = only(&j.duplicates, "network", mine(w.networks, func(n *network) bool { return n.Description == shared && n.ProjectID == j.cloud.project }), func(n *network) thing {
		return thing{name: n.Name, id: n.ID, used: len(n.Subnets) > 0, age: n.CreatedAt}
	}, j.deleteNetwork)
	j.subnets = only(&j.duplicates, "subnet", mine(w.subnets, func(s *subnets.Subnet) bool { return s.Description == shared && s.ProjectID == j.cloud.project }), func(s *subnets.Subnet) thing {
		return thing{name: s.Name, id: s.ID, used: slices.ContainsFunc(w.interfaces, func(p ports.Port) bool { return onSubnet(&p, s.ID) }), age: s.CreatedAt}
	}, j.deleteSubnet)
	j.routers = only(&j.duplicates, "router", mine(w.routers, func(r *routers.Router) bool { return r.Description == shared && r.ProjectID == j.cloud.project }), func(r *routers.Router) thing {
		return thing{name: r.Name, id: r.ID, used: slices.ContainsFunc(w.interfaces, func(p ports.Port) bool { return p.DeviceID == r.ID }), age: r.CreatedAt}
	}, j.deleteRouter)
}

func (j *job) usesSecurity(id string) bool {
	return slices.ContainsFunc(j.world.ports, func(p ports.Port) bool { return slices.Contains(p.SecurityGroups, id) })
}

func onSubnet(p *ports.Port, subnet string) bool {
	return slices.ContainsFunc(p.FixedIPs, func(ip ports.IP) bool { return ip.SubnetID == subnet })
}

func mine[T any](all []T, is func(*T) bool) []*T {
	var out []*T
	for i := range all {
		if is(&all[i]) {
			out = append(out, &all[i])
		}
	}
	return out
}
