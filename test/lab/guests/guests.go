// Package guests turns the machines of a cloud that runs none into hosts of the lab: a cloud says what there is (a name, an address,
// user data, on or off), and each such machine becomes a system container that is what cloud-init would have made of it.
//
// A program that uses this package calls hosts.Reexec first in main (or TestMain).
package guests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/catamaran-k8s/catamaran/test/lab/hosts"
)

// Machine is a machine as its cloud describes it.
type Machine struct {
	// ID is the cloud's and never comes again. Name is for people, and need not be unique.
	ID   string
	Name string
	// Hostname is what it calls itself where the user data does not say it. Default: Name.
	Hostname string
	// Address is its own. It must be one of the lab's network: the lab routes nothing, netmask and gateway are the lab's. Further are
	// addresses that it answers to as well, of the same network; a floating address is given to the host itself.
	Address netip.Addr
	Further []netip.Addr
	// UserData is a #cloud-config, or a script. AuthorizedKeys are those of the cloud's key pairs, for the default user.
	UserData       []byte
	AuthorizedKeys []string
	// Memory bounds what it can use, in bytes; 0: no bound.
	Memory int64
	On     bool
	// Disk changes when the machine gets a fresh disk, Boot when its power is cut and given again.
	Disk, Boot string
}

// Status is what became of a machine.
type Status struct {
	ID       string     `json:"id"`
	Name     string     `json:"name"` // the lab's host
	Address  netip.Addr `json:"address"`
	Runs     bool       `json:"runs"`
	HostKey  string     `json:"hostKey,omitempty"` // SHA256:...
	Settled  bool       `json:"settled"`           // nothing is being done about it
	Error    string     `json:"error,omitempty"`
	Warnings []string   `json:"warnings,omitempty"` // what of its user data was not done
}

// Options say where guests live.
type Options struct {
	// Dir is a lab's folder, of its own; Name and Subnet are the lab's, see hosts.Options.
	Dir    string
	Name   string
	Subnet netip.Prefix
	// Room is for how many guests at a time. Default 10.
	Room int
	// Log gets a line for each thing that was done; nil: nobody listens.
	Log func(string)
}

// Guests are the machines of one cloud.
type Guests struct {
	dir     string
	log     func(string)
	release func()
	stop    context.CancelFunc
	ctx     context.Context //nolint:containedctx // the workers' life is the value's
	work    sync.WaitGroup

	// mu guards the lab's list of hosts, too, which has one writer.
	mu      sync.Mutex
	records map[string]record // by ID; kept in guests.json
	workers map[string]*worker
}

// record is what a guest was made as.
type record struct {
	Host     string   `json:"host"`
	Disk     string   `json:"disk"`
	Boot     string   `json:"boot"`
	Warnings []string `json:"warnings,omitempty"`
}

// Open makes the lab, or opens the one that is there; no guest runs before Want says so.
func Open(ctx context.Context, o Options) (*Guests, error) {
	if o.Log == nil {
		o.Log = func(string) {}
	}
	if o.Room == 0 {
		o.Room = 10
	}
	l, err := hosts.Up(ctx, hosts.Options{Dir: o.Dir, Name: o.Name, Subnet: o.Subnet, Guests: o.Room, Platform: hosts.PlatformOff, Log: o.Log})
	if err != nil {
		return nil, err
	}
	g := &Guests{dir: l.Dir(), log: o.Log, records: map[string]record{}, workers: map[string]*worker{}}
	data, err := os.ReadFile(g.file())
	if err == nil {
		err = json.Unmarshal(data, &g.records)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", g.file(), err)
	}
	if g.release, err = l.Hold(); err != nil {
		return nil, err
	}
	g.ctx, g.stop = context.WithCancel(context.WithoutCancel(ctx))
	return g, nil
}

func (g *Guests) file() string { return filepath.Join(g.dir, "hosts", "guests.json") }

// Close stops following; the hosts stay as they are. hosts.Down takes them down.
func (g *Guests) Close() {
	g.stop()
	g.work.Wait()
	g.release()
}

// Want says which machines there are: all of them. Others are removed with their disks. It returns at once; each machine is seen to
// beside the others. Whoever switches a host off from inside finds it off until the cloud says otherwise, as with a real cloud.
func (g *Guests) Want(machines []Machine) {
	g.mu.Lock()
	defer g.mu.Unlock()
	gone := map[string]bool{}
	for id := range g.records {
		gone[id] = true
	}
	for id := range g.workers {
		gone[id] = true
	}
	for _, m := range machines {
		delete(gone, m.ID)
		g.tell(m.ID, &m)
	}
	for id := range gone {
		g.tell(id, nil)
	}
}

// tell hands a wish to the machine's worker. mu must be held.
func (g *Guests) tell(id string, want *Machine) {
	w, ok := g.workers[id]
	if !ok {
		w = &worker{id: id, changed: make(chan struct{}, 1)}
		g.workers[id] = w
		g.work.Go(func() { g.run(w) })
	}
	if w.told && same(w.want, want) {
		return
	}
	w.want, w.told, w.settled = want, true, false
	select {
	case w.changed <- struct{}{}:
	default: // it has not looked yet
	}
}

func same(a, b *Machine) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Name == b.Name && a.Address == b.Address && slices.Equal(a.Further, b.Further) && a.On == b.On && a.Disk == b.Disk && a.Boot == b.Boot
}

// worker sees to one machine.
type worker struct {
	id      string
	changed chan struct{}

	// guarded by Guests.mu
	want    *Machine // nil: it is to go
	told    bool
	settled bool
	err     error

	// the worker's own
	on      *bool // what was made of the wish so far; nil: nothing
	further []netip.Addr
}

// run does what is wanted until there is nothing left of the machine.
func (g *Guests) run(w *worker) {
	for {
		select {
		case <-g.ctx.Done():
			return
		case <-w.changed:
		}
		for {
			g.mu.Lock()
			want := w.want
			g.mu.Unlock()
			err := g.converge(w, want)
			g.mu.Lock()
			if w.want != want {
				g.mu.Unlock()
				continue
			}
			w.err, w.settled = err, true
			if want == nil && err == nil {
				delete(g.workers, w.id)
				g.mu.Unlock()
				return
			}
			g.mu.Unlock()
			if err == nil || g.ctx.Err() != nil {
				break
			}
			g.log(fmt.Sprintf("guest %s: %v", w.id, err))
			select { // and try again, or do what is wanted now
			case <-g.ctx.Done():
				return
			case <-w.changed:
			case <-time.After(retryAfter):
			}
		}
	}
}

// retryAfter is the pause before something that failed is tried again.
const retryAfter = 5 * time.Second

// converge makes the host what is wanted.
func (g *Guests) converge(w *worker, want *Machine) error {
	g.mu.Lock()
	have, exists := g.records[w.id]
	g.mu.Unlock()
	if exists && (want == nil || have.Disk != want.Disk) {
		if err := g.remove(w, have); err != nil {
			return err
		}
		g.log(have.Host + " is gone, with its disk")
		exists = false
	}
	if want == nil {
		return nil
	}
	if !exists {
		var err error
		if have, err = g.add(w, want); err != nil {
			return err
		}
	}
	l, err := hosts.Open(g.dir)
	if err != nil {
		return err
	}
	if have.Boot != want.Boot {
		if err := l.Kill(g.ctx, have.Host); err != nil {
			return err
		}
		have.Boot, w.on, w.further = want.Boot, nil, nil
		if err := g.note(w.id, &have); err != nil {
			return err
		}
	}
	if w.on == nil || *w.on != want.On {
		if err := g.power(l, have.Host, want.On); err != nil {
			return err
		}
		w.on, w.further = new(bool), nil
		*w.on = want.On
	}
	if want.On && !slices.Equal(w.further, want.Further) {
		return g.readdress(l, w, have.Host, want.Further)
	}
	return nil
}

// power gives the host power or takes it, in order.
func (g *Guests) power(l *hosts.Lab, host string, on bool) error {
	began := time.Now()
	if on {
		if err := l.Start(g.ctx, host); err != nil {
			return err
		}
		g.log(fmt.Sprintf("%s answers, %.1f s after power on", host, time.Since(began).Seconds()))
		return nil
	}
	if err := l.Stop(g.ctx, host); err != nil {
		if g.ctx.Err() != nil {
			return err
		}
		g.log(err.Error())
		if err := l.Kill(g.ctx, host); err != nil {
			return err
		}
	}
	g.log(host + " is off")
	return nil
}

// readdress gives the host its further addresses and takes those that it has no longer.
func (g *Guests) readdress(l *hosts.Lab, w *worker, host string, further []netip.Addr) error {
	var commands []string
	for _, a := range w.further {
		if !slices.Contains(further, a) {
			commands = append(commands, fmt.Sprintf("ip addr del %s/32 dev eth0", a))
		}
	}
	for _, a := range further {
		if !slices.Contains(w.further, a) {
			commands = append(commands, fmt.Sprintf("ip addr replace %s/32 dev eth0", a))
		}
	}
	if _, err := l.Run(g.ctx, host, "root", strings.Join(commands, " && ")); err != nil {
		return err
	}
	w.further = slices.Clone(further)
	g.log(fmt.Sprintf("%s answers to %v too", host, further))
	return nil
}

func (g *Guests) add(w *worker, m *Machine) (record, error) {
	seed, warnings, err := parse(m)
	if err != nil {
		return record{}, err
	}
	r := record{Host: hostName(m), Disk: m.Disk, Boot: m.Boot, Warnings: warnings}
	for _, warning := range warnings {
		g.log(r.Host + ": " + warning)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	h := hosts.Host{Name: r.Host, Hostname: seed.hostname, Address: m.Address, Memory: m.Memory}
	if err := hosts.Remove(g.ctx, g.dir, r.Host); err != nil { // of an add that was cut off
		return r, err
	}
	if err := hosts.Add(g.dir, h, seed.Seed); err != nil {
		return r, err
	}
	w.on, w.further = nil, nil
	g.records[m.ID] = r
	return r, g.save()
}

func (g *Guests) remove(w *worker, r record) error {
	// the power is cut without the lock: others need not wait for it
	l, err := hosts.Open(g.dir)
	if err != nil {
		return err
	}
	if _, err := l.Host(r.Host); err == nil {
		if err := l.Kill(g.ctx, r.Host); err != nil {
			return err
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := hosts.Remove(g.ctx, g.dir, r.Host); err != nil {
		return err
	}
	w.on, w.further = nil, nil
	delete(g.records, w.id)
	return g.save()
}

func (g *Guests) note(id string, r *record) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.records[id] = *r
	return g.save()
}

// save writes the records. mu must be held.
func (g *Guests) save() error {
	data, err := json.MarshalIndent(g.records, "", "  ")
	if err != nil {
		return err
	}
	fresh := g.file() + ".new"
	if err := os.WriteFile(fresh, data, 0o644); err != nil {
		return err
	}
	return os.Rename(fresh, g.file())
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// hostName is the lab's name of the machine: readable, and no other machine's.
func hostName(m *Machine) string {
	const idLength, limit = 8, 50
	id := notInNames.ReplaceAllString(strings.ToLower(m.ID), "")
	name := strings.Trim(notInNames.ReplaceAllString(strings.ToLower(m.Name), "-"), "-")
	return strings.Trim(name[:min(len(name), limit)], "-") + "-" + id[max(0, len(id)-idLength):]
}

// Status tells what became of the machines, sorted by the names of their hosts.
func (g *Guests) Status() ([]Status, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	l, err := hosts.Open(g.dir)
	if err != nil {
		return nil, err
	}
	ids := slices.Collect(maps.Keys(g.records))
	for id := range g.workers {
		if _, ok := g.records[id]; !ok {
			ids = append(ids, id)
		}
	}
	out := make([]Status, 0, len(ids))
	for _, id := range ids {
		r := g.records[id]
		s := Status{ID: id, Name: r.Host, Warnings: r.Warnings}
		if w, ok := g.workers[id]; ok {
			s.Settled = w.settled
			if w.err != nil {
				s.Error = w.err.Error()
			}
		}
		if h, err := l.Host(r.Host); err == nil {
			s.Address = h.Address
			if s.Runs, err = l.Runs(h.Name); err != nil {
				return nil, err
			}
			if key, err := l.HostKey(h.Name); err == nil {
				s.HostKey = ssh.FingerprintSHA256(key)
			}
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Status) int { return strings.Compare(a.Name+a.ID, b.Name+b.ID) })
	return out, nil
}

// Console is the file with what a machine's console shows; false where it has no host.
func (g *Guests) Console(id string) (string, bool) {
	g.mu.Lock()
	r, ok := g.records[id]
	g.mu.Unlock()
	return filepath.Join(g.dir, "hosts", r.Host, "console.log"), ok
}
