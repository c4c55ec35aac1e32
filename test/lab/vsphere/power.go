package vsphere

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/catamaran-k8s/catamaran/test/lab/guests"
)

// lookEvery is how often the power follows the vCenter.
const lookEvery = 300 * time.Millisecond

// machines makes lab hosts of what is wanted: *guests.Guests.
type machines interface {
	Want([]guests.Machine)
	Status() ([]guests.Status, error)
}

// power is what ESXi hosts and VMware's tools would do: a virtual machine that is powered on runs, and tells its address.
type power struct {
	model    *simulator.Model
	machines machines
	dhcp     leases

	mu       sync.Mutex
	began    map[string]guests.Machine // by ID: those that were ever powered on
	problems map[string]string         // by ID: why one can not run
	names    map[string]string
}

func newPower(m *simulator.Model, to machines, dhcp leases) *power {
	return &power{model: m, machines: to, dhcp: dhcp, began: map[string]guests.Machine{}, problems: map[string]string{}, names: map[string]string{}}
}

// follow looks again and again until ctx ends.
func (p *power) follow(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := p.look(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// vm is what the power needs to know of a virtual machine.
type vm struct {
	self  *simulator.VirtualMachine
	id    string
	name  string
	on    bool
	boot  string
	extra map[string]string
}

// context is what the simulator's locks are held by.
func (p *power) context() *simulator.Context {
	return &simulator.Context{Context: context.Background(), Map: p.model.Map()}
}

// vms are the virtual machines without the templates.
func (p *power) vms() []vm {
	var out []vm
	ctx := p.context()
	for _, entity := range ctx.Map.All("VirtualMachine") {
		self, ok := entity.(*simulator.VirtualMachine)
		if !ok {
			continue
		}
		ctx.WithLock(self, func() {
			if self.Config == nil || self.Config.Template {
				return
			}
			v := vm{self: self, id: self.Config.InstanceUuid, name: self.Name, extra: map[string]string{}}
			v.on = self.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn
			if boot := self.Summary.Runtime.BootTime; v.on && boot != nil {
				v.boot = boot.Format(time.RFC3339Nano)
			}
			for _, o := range self.Config.ExtraConfig {
				if option := o.GetOptionValue(); option != nil {
					if text, ok := option.Value.(string); ok {
						v.extra[option.Key] = text
					}
				}
			}
			out = append(out, v)
		})
	}
	return out
}

// look hands over what there is, and tells the vCenter what came of it.
func (p *power) look() error {
	vms := p.vms()
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := map[string]bool{}
	for _, v := range vms {
		seen[v.id], p.names[v.id] = true, v.name
		p.observe(v)
	}
	for id := range p.names {
		if !seen[id] {
			delete(p.names, id)
			delete(p.began, id)
			delete(p.problems, id)
			p.dhcp.free(id)
		}
	}
	var want []guests.Machine
	for _, m := range p.began {
		want = append(want, m)
	}
	slices.SortFunc(want, func(a, b guests.Machine) int { return strings.Compare(a.ID, b.ID) })
	p.machines.Want(want)
	statuses, err := p.machines.Status()
	if err != nil {
		return err
	}
	runs := map[string]guests.Status{}
	for _, s := range statuses {
		runs[s.ID] = s
	}
	for _, v := range vms {
		s := runs[v.id]
		p.report(v, v.on && s.Runs && s.Settled && s.Error == "", p.began[v.id])
	}
	return nil
}

// observe notes a virtual machine's power. Its guest reads guestinfo when it boots for the first time, as cloud-init does.
func (p *power) observe(v vm) {
	m, began := p.began[v.id]
	if !began {
		if !v.on {
			return
		}
		info, err := readGuestinfo(v.extra)
		if err == nil {
			m, err = p.guest(v, info)
		}
		if err == nil && len(info.Cleanup) > 0 {
			p.cleanup(v, info.Cleanup)
		}
		if err != nil {
			p.problems[v.id] = err.Error()
			return
		}
		delete(p.problems, v.id)
	}
	m.On = v.on
	if v.on {
		m.Boot = v.boot
	}
	p.began[v.id] = m
}

// cleanup overwrites what the metadata name: a host key is no longer to be read in the vCenter once the guest has it.
func (p *power) cleanup(v vm, names []string) {
	ctx := p.context()
	ctx.WithLock(v.self, func() {
		options := slices.Clone(v.self.Config.ExtraConfig)
		for i, o := range options {
			option := *o.GetOptionValue()
			for _, name := range names {
				switch option.Key {
				case "guestinfo." + name:
					option.Value = "---"
				case "guestinfo." + name + ".encoding":
					option.Value = ""
				}
			}
			options[i] = &option
		}
		ctx.Update(v.self, []types.PropertyChange{{Name: "config.extraConfig", Val: options}})
	})
}

func (p *power) guest(v vm, info guestinfo) (guests.Machine, error) {
	m := guests.Machine{ID: v.id, Name: v.name, Hostname: info.Hostname, Address: info.Address.Addr(), UserData: info.UserData}
	if info.Address.IsValid() {
		if err := p.dhcp.fits(info); err != nil {
			return m, err
		}
		return m, nil
	}
	var err error
	m.Address, err = p.dhcp.lease(v.id)
	return m, err
}

// report is what VMware's tools in the guest tell: the address and the name, once it runs.
func (p *power) report(v vm, runs bool, m guests.Machine) {
	address, hostname, tools := "", "", types.VirtualMachineToolsRunningStatusGuestToolsNotRunning
	if runs {
		address, hostname, tools = m.Address.String(), m.Hostname, types.VirtualMachineToolsRunningStatusGuestToolsRunning
		if hostname == "" {
			hostname = m.Name
		}
	}
	ctx := p.context()
	ctx.WithLock(v.self, func() {
		guest := v.self.Guest
		if guest == nil || guest.IpAddress == address && guest.HostName == hostname && guest.ToolsRunningStatus == string(tools) {
			return
		}
		net := slices.Clone(guest.Net)
		if len(net) > 0 {
			net[0].IpAddress, net[0].IpConfig = nil, nil
			if runs {
				net[0].IpAddress = []string{address}
				net[0].IpConfig = &types.NetIpConfigInfo{IpAddress: []types.NetIpConfigInfoIpAddress{{IpAddress: address, PrefixLength: int32(p.dhcp.subnet.Bits())}}}
			}
		}
		ctx.Update(v.self, []types.PropertyChange{
			{Name: "guest.net", Val: net},
			{Name: "guest.ipAddress", Val: address}, {Name: "summary.guest.ipAddress", Val: address},
			{Name: "guest.hostName", Val: hostname}, {Name: "summary.guest.hostName", Val: hostname},
			{Name: "guest.toolsRunningStatus", Val: string(tools)}, {Name: "summary.guest.toolsRunningStatus", Val: string(tools)},
		})
	})
}

// Guest is a virtual machine that was ever powered on, and what became of its host.
type Guest struct {
	// VM is the virtual machine's name.
	VM string `json:"vm"`
	guests.Status
}

// Guests lists them, sorted by the names of the virtual machines.
func (p *power) Guests() ([]Guest, error) {
	statuses, err := p.machines.Status()
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	out := []Guest{}
	for _, s := range statuses {
		out = append(out, Guest{VM: p.names[s.ID], Status: s})
	}
	for id, problem := range p.problems {
		out = append(out, Guest{VM: p.names[id], Status: guests.Status{ID: id, Error: problem}})
	}
	slices.SortFunc(out, func(a, b Guest) int { return strings.Compare(a.VM, b.VM) })
	return out, nil
}

// leases are the addresses that the lab gives to guests that ask DHCP: one for each virtual machine, as long as it exists.
type leases struct {
	subnet      netip.Prefix
	gateway     netip.Addr
	first, last netip.Addr
	given       map[string]netip.Addr // by ID
}

func (l leases) lease(id string) (netip.Addr, error) {
	if a, ok := l.given[id]; ok {
		return a, nil
	}
	taken := map[netip.Addr]bool{}
	for _, a := range l.given {
		taken[a] = true
	}
	for a := l.first; a.Compare(l.last) <= 0; a = a.Next() {
		if !taken[a] {
			l.given[id] = a
			return a, nil
		}
	}
	return netip.Addr{}, errors.New("DHCP has no address left")
}

func (l leases) free(id string) { delete(l.given, id) }

// fits refuses a static configuration that would not work on this network.
func (l leases) fits(info guestinfo) error {
	switch {
	case info.Address.Masked() != l.subnet:
		return fmt.Errorf("the address %s is not one of the network %s", info.Address, l.subnet)
	case info.Gateway.IsValid() && info.Gateway != l.gateway:
		return fmt.Errorf("the gateway %s does not exist; it is %s", info.Gateway, l.gateway)
	}
	return nil
}
