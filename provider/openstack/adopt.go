package openstack

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

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
		if address, err := j.adoptedAddress(n, s); err != nil {
			return nil, err
		} else if address == "" {
			return nil, permanent("openstack: %s: the server %s has no address that could be the node's: it has %s, and the inventory says %s", n.Name, s.ID,
				cmp.Or(strings.Join(fixed(s), ", "), "none"), cmp.Or(n.Address, "nothing of it"))
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

// addresses are those of an adopted server. planAdopt tells what is wrong with them.
func (j *job) addresses(n *inventory.Node, s *servers.Server) (address, ssh string) {
	address, _ = j.adoptedAddress(n, s)
	return address, ""
}

// adoptedAddress is the address that the inventory names, or else the only one in the cluster's subnet, or else the only one at all (of
// IPv4, if there is any). Among several nothing here can know which network the cluster's nodes talk in.
func (j *job) adoptedAddress(n *inventory.Node, s *servers.Server) (string, error) {
	all := fixed(s)
	if n.Address != "" {
		if slices.Contains(all, n.Address) {
			return n.Address, nil
		}
		return "", nil
	}
	own := j.ownCIDR()
	var inside, family []string
	for _, text := range all {
		a := netip.MustParseAddr(text) // fixed has parsed it
		if own.Contains(a) {
			inside = append(inside, text)
		}
		if a.Is4() == netip.MustParseAddr(all[0]).Is4() {
			family = append(family, text)
		}
	}
	choice := family
	if len(inside) > 0 {
		choice = inside
	}
	switch len(choice) {
	case 0:
		return "", nil
	case 1:
		return choice[0], nil
	}
	return "", permanent("openstack: %s: the server %s has the addresses %s; say which one is the node's, as its address in the inventory", n.Name, s.ID, strings.Join(choice, ", "))
}

// ownCIDR is the subnet of the cluster's machines; nothing where the inventory names none, as a cluster may that makes none. What is
// wrong with it planNetwork tells.
func (j *job) ownCIDR() netip.Prefix {
	spec := j.spec.Network
	if p, err := netip.ParsePrefix(spec.CIDR); err == nil {
		return p
	}
	if spec.Name == "" {
		return netip.Prefix{}
	}
	n, err := j.findNetwork("tenant", spec.Name, func(*network) bool { return true })
	if err != nil {
		return netip.Prefix{}
	}
	var found []netip.Prefix
	for _, s := range j.world.subnets {
		if p, err := netip.ParsePrefix(s.CIDR); err == nil && s.NetworkID == n.ID && (spec.Subnet == "" || s.Name == spec.Subnet || s.ID == spec.Subnet) {
			found = append(found, p)
		}
	}
	if len(found) != 1 {
		return netip.Prefix{}
	}
	return found[0]
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
