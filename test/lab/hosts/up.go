package hosts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts/machine"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts/rootfs"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts/site"
)

// Options say which lab is wanted.
type Options struct {
	Dir    string
	Name   string       // of the bridge; prefix of everything in the kernel. Default cat0
	Subnet netip.Prefix // default 10.77.0.0/24
	Layout Layout
	// Guests is how many hosts may come by Add at the same time; a lab for guests needs no layout. Those that it has are not booted.
	Guests int
	// Kubernetes is the version in the inventory. Default 1.37.2.
	Kubernetes string
	// Bundle is the bundle in the inventory; empty keeps what the lab has.
	Bundle string
	// Platform is the size of the compliance platform in the inventory, or PlatformOff. Default small.
	Platform string
	// Memory bounds hosts, by name, in bytes; "" is for all others. Default: no bound.
	Memory map[string]int64
	// Log gets a line for each thing that was done; nil: nobody listens.
	Log func(string)
}

// PlatformOff is Options.Platform of a lab without the compliance platform.
const PlatformOff = "off"

// Up makes the lab, or adds to the one in the folder what it lacks: hosts of the layout, and power for all of them. It
// returns when all hosts answer on SSH. When it fails or ctx ends, what this call made is taken down again.
func Up(ctx context.Context, o Options) (*Lab, error) {
	if o.Log == nil {
		o.Log = func(string) {}
	}
	if o.Name == "" {
		o.Name = DefaultName
	}
	if !o.Subnet.IsValid() {
		o.Subnet = netip.MustParsePrefix(DefaultSubnet)
	}
	if o.Kubernetes == "" {
		o.Kubernetes = DefaultKubernetes
	}
	if o.Platform == "" {
		o.Platform = string(inventory.Small)
	}
	if err := checkNames(o.Name, o.Subnet); err != nil {
		return nil, err
	}
	if err := machine.Check(); err != nil {
		return nil, err
	}
	l, _, err := openOrMake(o)
	if err != nil {
		return nil, err
	}
	release, err := l.lockLab(true)
	if err != nil {
		return nil, err
	}
	defer release()
	l, fresh, err := openOrMake(o) // as it is now that nobody else changes it
	if err != nil {
		return nil, err
	}
	u := &upping{lab: l, o: o, fresh: fresh}
	if err := u.run(ctx); err != nil {
		o.Log("failed; taking down what was made")
		return nil, errors.Join(err, u.undo())
	}
	return l, nil
}

// openOrMake reads the lab of the folder, or prepares a new one.
func openOrMake(o Options) (l *Lab, fresh bool, err error) {
	l, err = Open(o.Dir)
	if err == nil {
		if l.state.Name != o.Name || l.state.Subnet != o.Subnet {
			return nil, false, fmt.Errorf("the lab in %s has the name %s and the subnet %s, not %s and %s: say so, or choose another --dir",
				l.dir, l.state.Name, l.state.Subnet, o.Name, o.Subnet)
		}
		return l, false, nil
	}
	if !errors.Is(err, ErrNoLab) {
		return nil, false, err
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, false, err
	}
	if strings.ContainsAny(dir, ":,\\ \n") {
		return nil, false, fmt.Errorf("--dir %q: its name can not stand in mount options", dir)
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 && !(len(entries) == 1 && entries[0].Name() == "lock") {
		return nil, false, fmt.Errorf("%s is not empty and holds no lab: choose another --dir", dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, false, err
	}
	return &Lab{dir: dir, state: state{Name: o.Name, Subnet: o.Subnet}}, true, nil
}

// upping is one call of Up, and what it made so far.
type upping struct {
	lab   *Lab
	o     Options
	fresh bool // the lab was not there before

	before []Host // the hosts that were there
	mu     sync.Mutex
	booted []Host

	features machine.Features
}

func (u *upping) run(ctx context.Context) error {
	l, o := u.lab, u.o
	u.before = slices.Clone(l.state.Hosts)
	if link, err := l.bridge().Clash(); err != nil {
		return err
	} else if link != "" {
		return fmt.Errorf("the network %s is that of the interface %s: choose another --subnet", o.Subnet, link)
	}
	if err := u.plan(); err != nil {
		return err
	}
	cache, err := rootfs.Cache()
	if err != nil {
		return err
	}
	root, err := rootfs.Ensure(ctx, cache, o.Log)
	if err != nil {
		return err
	}
	if len(l.state.Rootfs) == 0 {
		l.state.Rootfs = root
	} else if !slices.Equal(l.state.Rootfs, root) {
		o.Log("the hosts keep the root file system they were made with; `down --purge` and `up` give them the newer one")
	}
	if u.features, err = machine.Detect(ctx, l.debian()); err != nil {
		return err
	}
	if err := l.save(); err != nil {
		return err
	}
	if err := l.installProgram(); err != nil {
		return err
	}
	if err := ensureKey(l.KeyFile(), "lab"); err != nil {
		return err
	}
	for _, h := range l.state.Hosts {
		if err := l.ensureIdentity(h.Name); err != nil { // a guest has its own since it was added
			return err
		}
	}
	if err := l.writeKnownHosts(); err != nil {
		return err
	}
	if err := l.bridge().Up(); err != nil {
		return err
	}
	if err := u.raise(); err != nil {
		return err
	}
	if err := u.boot(ctx); err != nil {
		return err
	}
	return u.writeInventory()
}

// debian is the layer that has the distribution's programs.
func (l *Lab) debian() string { return l.state.Rootfs[len(l.state.Rootfs)-1] }

// plan adds the wanted hosts that the lab does not have.
func (u *upping) plan() error {
	l := u.lab
	var want []Host
	var err error
	if u.o.Guests == 0 || u.o.Layout != (Layout{}) {
		if want, err = u.o.Layout.Hosts(l.state.Subnet); err != nil {
			return err
		}
	}
	for _, h := range want {
		i := slices.IndexFunc(l.state.Hosts, func(have Host) bool { return have.Name == h.Name })
		if i < 0 {
			i = len(l.state.Hosts)
			l.state.Hosts = append(l.state.Hosts, h)
		}
		if m, ok := u.o.Memory[h.Name]; ok {
			l.state.Hosts[i].Memory = m
		} else if m, ok := u.o.Memory[""]; ok {
			l.state.Hosts[i].Memory = m
		}
	}
	for name := range u.o.Memory {
		if name != "" {
			if _, err := l.Host(name); err != nil {
				return fmt.Errorf("--memory: %w", err)
			}
		}
	}
	l.state.Kubernetes, l.state.Platform = u.o.Kubernetes, u.o.Platform
	if u.o.Bundle != "" {
		if l.state.Bundle, err = filepath.Abs(u.o.Bundle); err != nil {
			return err
		}
		if _, err := os.Stat(l.state.Bundle); err != nil {
			return fmt.Errorf("the bundle: %w", err)
		}
	}
	return nil
}

// raise makes room in the machine's limits before anything is booted, and says what the kernel lacks.
func (u *upping) raise() error {
	l := u.lab
	planes := 0
	for _, h := range l.state.Hosts {
		if h.Role == inventory.ControlPlane {
			planes++
		}
	}
	if !u.features.BridgeNetfilter {
		u.o.Log("WARNING: net.bridge.bridge-nf-call-iptables does not exist in a host's network namespace: Services will not work between pods of one node")
	}
	// each second guest may become a control plane
	was, err := machine.RaiseInotify(machine.Inotify, planes+(u.o.Guests+1)/2, len(l.state.Hosts)-planes+u.o.Guests/2)
	if err != nil || was == 0 {
		return err
	}
	u.o.Log(fmt.Sprintf("raised %s from %d; `down` puts it back", machine.Inotify, was))
	if l.state.Inotify == 0 {
		l.state.Inotify = was
	}
	return l.save()
}

// boot starts all hosts at once.
func (u *upping) boot(ctx context.Context) error {
	all, cancel := context.WithCancel(ctx)
	defer cancel()
	own := slices.DeleteFunc(slices.Clone(u.lab.state.Hosts), Host.Guest) // whoever added a guest decides when it runs
	err := together(own, func(h Host) error {
		release, err := u.lab.lockHost(h.Name)
		if err != nil {
			return err
		}
		defer release()
		began := time.Now()
		started, err := u.lab.start(all, h)
		if started {
			u.mu.Lock()
			u.booted = append(u.booted, h)
			u.mu.Unlock()
		}
		if errors.Is(err, context.Canceled) {
			return nil // said once, below or by the host that failed
		}
		if err != nil {
			cancel() // all of them, or none
			return err
		}
		if started {
			u.o.Log(fmt.Sprintf("%s (%s) answers, %.1f s after power on", h.Name, h.Address, time.Since(began).Seconds()))
		}
		return nil
	})
	if ctx.Err() != nil {
		return errors.Join(err, fmt.Errorf("interrupted: %w", ctx.Err()))
	}
	return err
}

// undo takes down what this call made, and only that.
func (u *upping) undo() error {
	l := u.lab
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if u.fresh {
		return l.down(ctx, true, true, u.o.Log)
	}
	err := together(u.booted, func(h Host) error { return l.kill(ctx, h) })
	for _, h := range l.state.Hosts {
		if !slices.ContainsFunc(u.before, func(b Host) bool { return b.Name == h.Name }) {
			err = errors.Join(err, os.RemoveAll(l.hostDir(h.Name)))
		}
	}
	l.state.Hosts = u.before
	err = errors.Join(err, l.writeKnownHosts(), l.save())
	if !slices.ContainsFunc(u.before, func(h Host) bool {
		s, err := l.supervision(h.Name)
		return err != nil || s.Supervisor.Alive()
	}) {
		err = errors.Join(err, l.sweep()) // the lab was down before
	}
	return err
}

// installProgram copies this program to where supervisors run it: the original may be gone before they are, as with
// `go run`. Supervisors that run keep the copy they have.
func (l *Lab) installProgram() error {
	if err := os.MkdirAll(filepath.Dir(l.program()), 0o755); err != nil {
		return err
	}
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	fresh := l.program() + ".new"
	to, err := os.OpenFile(fresh, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	if err := errors.Join(err, to.Close()); err != nil {
		return err
	}
	return os.Rename(fresh, l.program())
}

// Render returns the inventory of the lab as it is now; nil when it has no cluster.
func (l *Lab) Render(ctx context.Context) ([]byte, error) {
	features, err := machine.Detect(ctx, l.debian())
	if err != nil {
		return nil, err
	}
	return l.renderHere(features)
}

func (l *Lab) renderHere(features machine.Features) ([]byte, error) {
	free, err := l.freeGiB()
	if err != nil {
		return nil, err
	}
	return l.render(features, free)
}

// Skeleton returns the inventory of a site of both clusters without a node, for a lab whose machines somebody else makes.
func (l *Lab) Skeleton(ctx context.Context) ([]byte, error) {
	features, err := machine.Detect(ctx, l.debian())
	if err != nil {
		return nil, err
	}
	free, err := l.freeGiB()
	if err != nil {
		return nil, err
	}
	s := l.site(features, free)
	for _, name := range []inventory.ClusterName{inventory.Service, inventory.Workload} {
		c := networks[name]
		c.VIP = l.VIP(name).String()
		s.Clusters = append(s.Clusters, c)
	}
	return s.Render()
}

func (l *Lab) freeGiB() (int, error) {
	var disk unix.Statfs_t
	if err := unix.Statfs(l.dir, &disk); err != nil {
		return 0, fmt.Errorf("statfs %s: %w", l.dir, err)
	}
	return int(disk.Bavail * uint64(disk.Bsize) >> 30), nil
}

// networks of the clusters' insides; they must be apart from each other and from the lab's own.
var networks = map[inventory.ClusterName]site.Cluster{
	inventory.Service:  {Name: inventory.Service, PodCIDR: "10.100.0.0/16", ServiceCIDR: "10.101.0.0/16"},
	inventory.Workload: {Name: inventory.Workload, PodCIDR: "10.102.0.0/16", ServiceCIDR: "10.103.0.0/16"},
}

func (l *Lab) site(features machine.Features, diskFreeGiB int) site.Site {
	return site.Site{
		Name: l.state.Name, Kubernetes: l.state.Kubernetes, Bundle: l.state.Bundle, PlatformOff: l.state.Platform == PlatformOff, PlatformSize: l.state.Platform,
		User: rootfs.User, KeyFile: l.KeyFile(), Machine: features, DiskFreeGiB: diskFreeGiB,
	}
}

func (l *Lab) render(features machine.Features, diskFreeGiB int) ([]byte, error) {
	s := l.site(features, diskFreeGiB)
	for _, name := range []inventory.ClusterName{inventory.Service, inventory.Workload, ""} {
		var nodes []site.Node
		for _, h := range l.state.Hosts {
			if h.Cluster != name {
				continue
			}
			key, err := l.HostKey(h.Name)
			if err != nil {
				return nil, err
			}
			role := h.Role
			if role == "" {
				role = inventory.Worker // what a spare is most likely to become
			}
			nodes = append(nodes, site.Node{Name: h.Name, Role: role, Address: h.Address.String(), HostKey: ssh.FingerprintSHA256(key)})
		}
		switch {
		case name == "":
			s.Spares = nodes
		case len(nodes) > 0:
			c := networks[name]
			c.VIP, c.Nodes = l.VIP(name).String(), nodes
			s.Clusters = append(s.Clusters, c)
		}
	}
	if len(s.Clusters) == 0 {
		return nil, nil
	}
	return s.Render()
}

// writeInventory writes inventory.yaml, unless somebody else changed it since.
func (u *upping) writeInventory() error {
	l := u.lab
	data, err := l.renderHere(u.features)
	if err != nil || data == nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(l.Inventory()), 0o755); err != nil {
		return err
	}
	have, err := os.ReadFile(l.Inventory())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	switch {
	case err == nil && string(have) == string(data):
	case err == nil && sum(have) != l.state.Inventory:
		u.o.Log(l.Inventory() + " was changed by hand and is left as it is; `lab inventory` prints a fresh one")
		return nil
	default:
		if err := writeFile(l.Inventory(), data, 0o644); err != nil {
			return err
		}
		u.o.Log("wrote " + l.Inventory())
	}
	l.state.Inventory = sum(data)
	return l.save()
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}
