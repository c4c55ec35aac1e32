// Package openstack runs a real OpenStack on this machine for the lab: Debian's keystone, glance, placement, neutron, nova and cinder,
// without systemd and without their daemons' packages. Only what needs hardware is a stand-in (standin/): the hypervisor, the storage,
// and neutron's agents. Each server that runs, as nova sees it, becomes a host of the lab.
//
// A program that uses this package calls hosts.Reexec and then Reexec first in main (or TestMain): the cloud is kept by a supervisor,
// which is a copy of that very program.
//
// One folder has everything. The daemons listen on 127.0.0.1 only; users reach the APIs at the first address of the servers' network,
// through a proxy that counts, and breaks what it is told to (package test/lab/proxy).
package openstack

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
)

// Defaults of a cloud.
const (
	DefaultDir      = "/var/lib/catamaran-openstack"
	DefaultName     = "cato"
	DefaultBase     = 24500
	DefaultSubnet   = "10.79.0.0/23"
	DefaultComputes = 3
)

// Region is the only region's name.
const Region = "RegionOne"

// Options say which cloud is wanted.
type Options struct {
	// Dir is the cloud's folder. Two clouds stand side by side with another Dir, Name, Base and Subnet each.
	Dir string `json:"dir"`
	// Name is that of the servers' bridge, see hosts.Options.
	Name string `json:"name"`
	// Base is the first of 20 TCP ports that the cloud takes.
	Base int `json:"base"`
	// Subnet is the network that servers live in, a /23: their own addresses are of its first half, floating ones of its second. A
	// network that a project makes is to have the first half's range, or a part of it: nothing is routed anywhere else.
	Subnet netip.Prefix `json:"subnet"`
	// Computes is the number of compute hosts, one in each availability zone (az1 ...).
	Computes int `json:"computes"`
	// Log gets a line for each thing that was done; nil: nobody listens.
	Log func(string) `json:"-"`
}

// complete sets defaults and checks.
func (o *Options) complete() error {
	if o.Log == nil {
		o.Log = func(string) {}
	}
	if o.Dir == "" {
		o.Dir = DefaultDir
	}
	if o.Name == "" {
		o.Name = DefaultName
	}
	if o.Base == 0 {
		o.Base = DefaultBase
	}
	if !o.Subnet.IsValid() {
		o.Subnet = netip.MustParsePrefix(DefaultSubnet)
	}
	if o.Computes == 0 {
		o.Computes = DefaultComputes
	}
	var err error
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return err
	}
	const firstPort, lastPort = 1024, 65000
	switch {
	case o.Base < firstPort || o.Base > lastPort:
		return fmt.Errorf("port base %d: expected one from %d to %d", o.Base, firstPort, lastPort)
	case !o.Subnet.Addr().Is4() || o.Subnet.Bits() != 23 || o.Subnet.Masked() != o.Subnet:
		return fmt.Errorf("subnet %s: expected an IPv4 /23 such as %s, whose first half is for servers and whose second for floating addresses", o.Subnet, DefaultSubnet)
	case o.Computes < 1 || o.Computes > 9:
		return errors.New("expected 1 to 9 compute hosts")
	}
	return nil
}

// Servers is the range of servers' own addresses.
func (o Options) Servers() netip.Prefix { return netip.PrefixFrom(o.Subnet.Addr(), o.Subnet.Bits()+1) }

// Floating is the range of the external network.
func (o Options) Floating() netip.Prefix {
	b := o.Subnet.Addr().As4()
	b[2]++
	return netip.PrefixFrom(netip.AddrFrom4(b), o.Subnet.Bits()+1)
}

// gate is the address at which users find the APIs.
func (o Options) gate() netip.Addr { return o.Subnet.Addr().Next() }

// AuthURL is keystone's, as users have it in clouds.yaml.
func (o Options) AuthURL() string { return o.public("identity") + "/v3" }

// offsets are added to the base. Those below firstInner are APIs, which the gate has at the same port.
var offsets = map[string]int{
	"identity": 1, "image": 2, "placement": 3, "compute": 4, "network": 5, "volume": 6,
	"database": 10, "messages": 11, "epmd": 12, "distribution": 13,
}

const firstInner = 10

func (o Options) port(service string) int { return o.Base + offsets[service] }

func (o Options) local(service string) string {
	return fmt.Sprintf("http://127.0.0.1:%d", o.port(service))
}

func (o Options) public(service string) string {
	return fmt.Sprintf("http://%s:%d", o.gate(), o.port(service))
}

func (o Options) computeHosts() []string {
	out := make([]string, o.Computes)
	for i := range out {
		out[i] = fmt.Sprintf("cmp%d", i+1)
	}
	return out
}

func (o Options) path(parts ...string) string {
	return filepath.Join(append([]string{o.Dir}, parts...)...)
}

// CloudsFile is the clouds.yaml of the cloud's users; secure.yaml lies beside it.
func (o Options) CloudsFile() string { return o.path("clouds", "clouds.yaml") }

// Hosts is the folder of the lab that servers run in, for package hosts.
func (o Options) Hosts() string { return o.path("lab") }

// ProxySocket is the control socket of the proxy, for proxy.Client.
func (o Options) ProxySocket() string { return o.path("run", "proxy.sock") }
