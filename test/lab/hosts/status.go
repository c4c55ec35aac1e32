package hosts

import (
	"context"
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts/rootfs"
)

// Status is everything about a lab that other programs need to use it.
type Status struct {
	Name       string                               `json:"name"`
	Dir        string                               `json:"dir"`
	Subnet     netip.Prefix                         `json:"subnet"`
	Gateway    netip.Addr                           `json:"gateway"`
	VIPs       map[inventory.ClusterName]netip.Addr `json:"vips"`
	Kubernetes string                               `json:"kubernetes"`
	Bundle     string                               `json:"bundle,omitempty"`
	Inventory  string                               `json:"inventory"`
	User       string                               `json:"user"`
	KeyFile    string                               `json:"keyFile"`
	KnownHosts string                               `json:"knownHosts"`
	Hosts      []HostStatus                         `json:"hosts"`
}

// Power says what a host does.
type Power string

// Power states.
const (
	Off     Power = "off"
	Running Power = "running"
	Paused  Power = "paused"
	// Orphaned: the host runs, but its supervisor was killed. `stop` and `start` clear it away.
	Orphaned Power = "orphaned"
)

// HostStatus is one host.
type HostStatus struct {
	Host
	HostKey     string `json:"hostKey"` // SHA256:...
	Power       Power  `json:"power"`
	Partitioned bool   `json:"partitioned"`
	// Answers: a login over SSH worked just now.
	Answers bool `json:"answers"`
	// Boots since it was started; Booted is when the newest began.
	Boots  int       `json:"boots"`
	Booted time.Time `json:"booted,omitzero"`
	// Ended says how it went down.
	Ended string `json:"ended,omitempty"`
	// Supervisor and Init are pids on the machine; Init is the host's process 1.
	Supervisor int `json:"supervisor,omitempty"`
	Init       int `json:"init,omitempty"`
	// UsedBytes of memory, page cache included.
	UsedBytes int64  `json:"usedBytes"`
	Console   string `json:"console"`
}

// Status looks at all hosts at once.
func (l *Lab) Status(ctx context.Context) (Status, error) {
	out := Status{
		Name: l.state.Name, Dir: l.dir, Subnet: l.state.Subnet, Gateway: l.bridge().Gateway(),
		VIPs:       map[inventory.ClusterName]netip.Addr{inventory.Service: l.VIP(inventory.Service), inventory.Workload: l.VIP(inventory.Workload)},
		Kubernetes: l.state.Kubernetes, Bundle: l.state.Bundle, Inventory: l.Inventory(),
		User: rootfs.User, KeyFile: l.KeyFile(), KnownHosts: l.KnownHosts(),
		Hosts: make([]HostStatus, len(l.state.Hosts)),
	}
	index := map[string]int{}
	for i, h := range l.state.Hosts {
		index[h.Name] = i
	}
	err := together(l.state.Hosts, func(h Host) error {
		s, err := l.hostStatus(ctx, h)
		out.Hosts[index[h.Name]] = s
		return err
	})
	return out, err
}

func (l *Lab) hostStatus(ctx context.Context, h Host) (HostStatus, error) {
	out := HostStatus{Host: h, Power: Off, Partitioned: l.partitioned(h.Name), Console: l.hostDir(h.Name, "console.log")}
	key, err := l.HostKey(h.Name)
	if err != nil {
		return out, err
	}
	out.HostKey = ssh.FingerprintSHA256(key)
	s, err := l.supervision(h.Name)
	if err != nil {
		return out, err
	}
	out.Boots, out.Booted, out.Ended = s.Boots, s.Booted, s.Ended
	group, err := l.group(h.Name)
	if err != nil {
		return out, err
	}
	init, initErr := guestInit(group)
	if initErr == nil {
		out.Init = init.PID
	}
	switch {
	case s.Supervisor.Alive():
		out.Power, out.Supervisor = Running, s.Supervisor.PID
		if frozen, err := group.Frozen(); err == nil && frozen {
			out.Power = Paused
		}
	case initErr == nil:
		out.Power = Orphaned
	default:
		return out, nil
	}
	out.UsedBytes = group.Memory()
	if out.Power != Paused && !out.Partitioned {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		_, err := l.Run(ctx, h.Name, h.login(), "true")
		out.Answers = err == nil
	}
	return out, nil
}
