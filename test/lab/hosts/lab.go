// Package hosts runs real hosts on one machine: system containers with systemd as process 1, sshd, and a network
// namespace of their own on a bridge. They boot, shut down, reboot, lose power, freeze and are unplugged as machines are.
//
// A program that uses this package calls Reexec first in main (or TestMain): each host is kept by a supervisor, which is
// a copy of that very program. The supervisor has a mount namespace of its own that holds the host's disk, so mounts and
// network namespaces can not outlive their processes.
package hosts

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts/cgroup"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts/network"
)

// Defaults of a lab.
const (
	DefaultDir        = "/var/lib/catamaran-lab"
	DefaultName       = "cat0"
	DefaultSubnet     = "10.77.0.0/24"
	DefaultKubernetes = "1.37.2"
)

// state is what a lab remembers, in lab.json.
type state struct {
	// Name is the bridge's, and the prefix of all interfaces, groups and containers.
	Name       string       `json:"name"`
	Subnet     netip.Prefix `json:"subnet"`
	Kubernetes string       `json:"kubernetes"`
	Bundle     string       `json:"bundle,omitempty"`
	// Platform is Options.Platform.
	Platform string `json:"platform,omitempty"`
	// Rootfs are the layers below every host's disk, the upper one first.
	Rootfs []string `json:"rootfs"`
	// Inotify is what the machine's limit of inotify instances was before the lab raised it; 0: it did not.
	Inotify int `json:"inotify,omitempty"`
	// Inventory is the digest of inventory.yaml as the lab wrote it last.
	Inventory string `json:"inventory,omitempty"`
	Hosts     []Host `json:"hosts"`
}

// Lab is the hosts below one folder.
type Lab struct {
	dir   string
	state state
}

// ErrNoLab says that the folder holds no lab.
var ErrNoLab = errors.New("there is no lab here (`lab up` makes one)")

// Open reads the lab in a folder. It returns ErrNoLab when there is none.
func Open(dir string) (*Lab, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	l := &Lab{dir: dir}
	data, err := os.ReadFile(l.path("lab.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", dir, ErrNoLab)
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &l.state); err != nil {
		return nil, fmt.Errorf("%s: %w; `lab down --purge` clears it away", l.path("lab.json"), err)
	}
	return l, nil
}

func (l *Lab) save() error { return writeJSON(l.path("lab.json"), l.state) }

func (l *Lab) path(parts ...string) string {
	return filepath.Join(append([]string{l.dir}, parts...)...)
}

// Dir is the lab's folder.
func (l *Lab) Dir() string { return l.dir }

// Hosts are the lab's hosts, whether they run or not.
func (l *Lab) Hosts() []Host { return slices.Clone(l.state.Hosts) }

// KeyFile is the private key of all login users.
func (l *Lab) KeyFile() string { return l.path("id_ed25519") }

// KnownHosts has the host keys by name and by address.
func (l *Lab) KnownHosts() string { return l.path("known_hosts") }

// Inventory is the inventory file, in a folder of its own with whatever the product puts beside it.
func (l *Lab) Inventory() string { return l.path("site", "inventory.yaml") }

// VIP is the address that is kept free for a cluster's API endpoint.
func (l *Lab) VIP(c inventory.ClusterName) netip.Addr {
	if c == inventory.Service {
		return offset(l.state.Subnet, serviceVIP)
	}
	return offset(l.state.Subnet, workloadVIP)
}

// program is the copy of this program that supervisors run.
func (l *Lab) program() string { return l.path("bin", "lab") }

func (l *Lab) bridge() network.Bridge {
	return network.Bridge{Name: l.state.Name, Subnet: l.state.Subnet}
}

func groupPath(lab string) string { return "catamaran-lab-" + lab }

// group holds all hosts' processes; a host's own is one below it.
func (l *Lab) group(host string) (cgroup.Group, error) {
	return cgroup.Open(filepath.Join(groupPath(l.state.Name), host))
}

// Host finds a host by name.
func (l *Lab) Host(name string) (Host, error) {
	var names []string
	for _, h := range l.state.Hosts {
		if h.Name == name {
			return h, nil
		}
		names = append(names, h.Name)
	}
	return Host{}, fmt.Errorf("there is no host %q; there are %s", name, strings.Join(names, ", "))
}

// link is the machine's end of a host's cable; the host's end is its eth0. A name that is too long for an interface, as guests' are,
// is replaced by a digest.
func (l *Lab) link(host string) string {
	if name := l.state.Name + "-" + host; len(name) < unix.IFNAMSIZ {
		return name
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(host)) // a hash takes everything
	return fmt.Sprintf("%s-%08x", l.state.Name, h.Sum32())
}

// The folder of a host.
func (l *Lab) hostDir(host string, parts ...string) string {
	return l.path(append([]string{"hosts", host}, parts...)...)
}

// writeJSON writes a file that is either the old one or the new one, whenever it is read.
func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, append(data, '\n'), 0o644)
}

func writeFile(path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
