package openstack

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

// foreign is the server that a node adopts, by ID or else by name.
func (j *job) foreign(n *inventory.Node, want string) (*servers.Server, error) {
	var found []*servers.Server
	var all []string
	for i := range j.world.servers {
		s := &j.world.servers[i]
		if s.ID == want {
			return s, nil
		}
		if s.Name == want {
			found = append(found, s)
		}
		all = append(all, s.Name)
	}
	switch len(found) {
	case 0:
		return nil, permanent("openstack: %s: there is no server %s to adopt; %s", n.Name, want, nearest(want, all))
	case 1:
		return found[0], nil
	}
	return nil, permanent("openstack: %s: there are %d servers called %s; name the ID (%s or %s)", n.Name, len(found), want, found[0].ID, found[1].ID)
}

// planAdopt marks servers that somebody else made. Nothing else of them is changed.
func (j *job) planAdopt() ([]step, error) {
	var out []step
	taken := map[string]string{}
	for _, n := range j.adopted() {
		s, err := j.foreign(n, j.machine(n).Server)
		if err != nil {
			return nil, err
		}
		if other := taken[s.ID]; other != "" {
			return nil, permanent("openstack: %s and %s adopt the same server %s", other, n.Name, s.ID)
		}
		taken[s.ID] = n.Name
		if s.Metadata[markSite] != "" {
			return nil, permanent("openstack: %s: the server %s was made by catamaran for %s/%s (%s); it can not be adopted", n.Name, s.ID,
				s.Metadata[markSite], s.Metadata[markCluster], s.Metadata[markNode])
		}
		mark := j.names.scope() + "." + n.Name
		switch s.Metadata[markAdopted] {
		case mark:
			continue
		case "":
		default:
			return nil, permanent("openstack: %s: the server %s is adopted as %s already; take the metadata %s off it if that is over", n.Name, s.ID,
				s.Metadata[markAdopted], markAdopted)
		}
		if address, _ := j.addresses(n, s); address == "" {
			return nil, permanent("openstack: %s: the server %s has no address that could be the node's (it has %v)", n.Name, s.ID, fixed(s))
		}
		id := s.ID
		out = append(out, step{
			at: stageMarks, node: n.Name,
			change: provider.Change{Verb: provider.Adopt, Kind: "server", Name: n.Name, Reason: fmt.Sprintf("the inventory names the server %s; it is marked, and nothing else of it changes", s.Name)},
			do: func(ctx context.Context) error {
				_, err := servers.UpdateMetadata(ctx, j.cloud.compute, id, servers.MetadataOpts{markAdopted: mark}).Extract()
				return explain(ctx, "mark the server "+id, err)
			},
		})
	}
	return out, nil
}

// addresses are those of an adopted server: the one that the inventory names, or else the first.
func (j *job) addresses(n *inventory.Node, s *servers.Server) (address, ssh string) {
	all := fixed(s)
	switch {
	case n.Address == "" && len(all) > 0:
		address = all[0]
	case slices.Contains(all, n.Address):
		address = n.Address
	}
	return address, ""
}

// fixed are the fixed addresses of a server, IPv4 before IPv6.
func fixed(s *servers.Server) []string {
	var out []netip.Addr
	for _, network := range s.Addresses {
		entries, _ := network.([]any)
		for _, e := range entries {
			entry, _ := e.(map[string]any)
			text, _ := entry["addr"].(string)
			if a, err := netip.ParseAddr(text); err == nil && entry["OS-EXT-IPS:type"] != "floating" {
				out = append(out, a)
			}
		}
	}
	slices.SortFunc(out, func(a, b netip.Addr) int {
		if a.Is4() != b.Is4() {
			return after(b.Is4())
		}
		return a.Compare(b)
	})
	var text []string
	for _, a := range out {
		text = append(text, a.String())
	}
	return text
}
