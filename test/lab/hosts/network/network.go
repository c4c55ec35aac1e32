// Package network is the lab's wire: one bridge on the machine and, for each host, a network namespace whose eth0 is
// plugged into it. Namespaces have no name and no mount: they end with the last process that holds them.
package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Bridge is the lab's switch. The machine has the first address of the subnet on it; nothing is routed further.
type Bridge struct {
	Name   string
	Subnet netip.Prefix
}

// Gateway is the machine's address on the bridge.
func (b Bridge) Gateway() netip.Addr { return b.Subnet.Masked().Addr().Next() }

// Up makes the bridge, or completes one that is there.
func (b Bridge) Up() error {
	link, err := netlink.LinkByName(b.Name)
	if missing(err) {
		snooping := false // hosts come and go faster than a querier would notice
		attrs := netlink.NewLinkAttrs()
		attrs.Name = b.Name
		// a bridge without an address of its own takes that of a port, and changes it when the port goes
		attrs.HardwareAddr = mac(b.Gateway())
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}); err != nil {
			return fmt.Errorf("ip link add %s type bridge: %w", b.Name, err)
		}
		link, err = netlink.LinkByName(b.Name)
	}
	if err != nil {
		return fmt.Errorf("ip link show %s: %w", b.Name, err)
	}
	if link.Type() != "bridge" {
		return fmt.Errorf("the interface %s exists and is a %s, not a bridge: give the lab another --name", b.Name, link.Type())
	}
	if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: ipNet(b.Gateway(), b.Subnet)}); err != nil {
		return fmt.Errorf("ip addr replace %s/%d dev %s: %w", b.Gateway(), b.Subnet.Bits(), b.Name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("ip link set %s up: %w", b.Name, err)
	}
	return nil
}

// Clash returns the name of another interface whose network overlaps the bridge's, if there is one.
func (b Bridge) Clash() (string, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return "", err
	}
	for _, l := range links {
		if l.Attrs().Name == b.Name {
			continue
		}
		addrs, err := netlink.AddrList(l, netlink.FAMILY_V4)
		if err != nil {
			return "", err
		}
		for _, a := range addrs {
			ones, _ := a.Mask.Size()
			if ip, ok := netip.AddrFromSlice(a.IP); ok && netip.PrefixFrom(ip.Unmap(), ones).Overlaps(b.Subnet) {
				return l.Attrs().Name, nil
			}
		}
	}
	return "", nil
}

// Plug makes a host's cable: link is its end at the bridge, eth0 with the address the one in the host's namespace. An
// older cable of that name is thrown away.
func (b Bridge) Plug(link string, ns *os.File, address netip.Addr, up bool) error {
	if err := Delete(link); err != nil {
		return err
	}
	bridge, err := netlink.LinkByName(b.Name)
	if err != nil {
		return fmt.Errorf("ip link show %s: %w", b.Name, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex = link, bridge.Attrs().Index
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerHardwareAddr: mac(address), PeerNamespace: netlink.NsFd(ns.Fd())}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("ip link add %s type veth: %w", link, err)
	}
	if up {
		if err := SetUp(link, true); err != nil {
			return err
		}
	}
	h, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()))
	if err != nil {
		return fmt.Errorf("netlink in the namespace of %s: %w", link, err)
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	eth, err := h.LinkByName("eth0")
	if err != nil {
		return err
	}
	gateway := b.Gateway()
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"ip link set lo up", func() error { return h.LinkSetUp(lo) }},
		{"ip addr add " + address.String(), func() error { return h.AddrAdd(eth, &netlink.Addr{IPNet: ipNet(address, b.Subnet)}) }},
		{"ip link set eth0 up", func() error { return h.LinkSetUp(eth) }},
		{"ip route add default via " + gateway.String(), func() error {
			return h.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: gateway.AsSlice()})
		}},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("in the namespace of %s: %s: %w", link, step.what, err)
		}
	}
	return nil
}

// SetUp plugs a host's cable in or pulls it; the host's side keeps its address and loses the carrier.
func SetUp(link string, up bool) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return fmt.Errorf("ip link show %s: %w", link, err)
	}
	if up {
		err = netlink.LinkSetUp(l)
	} else {
		err = netlink.LinkSetDown(l)
	}
	if err != nil {
		return fmt.Errorf("ip link set %s: %w", link, err)
	}
	return nil
}

// Delete removes an interface; one that is not there is fine.
func Delete(link string) error {
	l, err := netlink.LinkByName(link)
	if missing(err) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(l)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("ip link del %s: %w", link, err)
	}
	return nil
}

// Links are the names of the machine's interfaces that begin with prefix.
func Links(prefix string) ([]string, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, prefix) {
			out = append(out, l.Attrs().Name)
		}
	}
	return out, nil
}

// NewNamespace makes a network namespace that lasts as long as the returned file is open or a process is in it. visit,
// which may be nil, runs inside.
//
// The main goroutine must hold its thread (runtime.LockOSThread): else this may run on the main thread, which can not
// end and would keep the namespace.
func NewNamespace(visit func() error) (*os.File, error) {
	type result struct {
		f   *os.File
		err error
	}
	done := make(chan result)
	go func() {
		// never unlocked: the thread is in the namespace and ends with this goroutine
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- result{err: fmt.Errorf("unshare --net: %w", err)}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		if err == nil && visit != nil {
			if err = visit(); err != nil {
				_ = f.Close()
			}
		}
		done <- result{f, err}
	}()
	r := <-done
	return r.f, r.err
}

func missing(err error) bool {
	var notFound netlink.LinkNotFoundError
	return errors.As(err, &notFound)
}

func ipNet(a netip.Addr, p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(p.Bits(), a.BitLen())}
}

// mac is a locally administered hardware address that a host keeps over reboots, as real network cards do.
func mac(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{0x02, 0xca, b[0], b[1], b[2], b[3]}
}
