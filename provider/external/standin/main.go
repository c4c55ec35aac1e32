// Standin is a stand-in for a platform and for the program that a site writes to reach it: machines and their disks are files in
// a folder. It is made for tests, and written as such a program would be: of Catamaran it knows the README of
// provider/external, and nothing of its code.
//
// Its configuration: {"world": FOLDER, "notify": SOCKET, "killAt": N}. It asks SOCKET before and after each operation that
// changes something, and goes on when it is answered; at operation N it kills itself, before it or after it by turns.
package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"
)

func main() {
	var r request
	if err := json.NewDecoder(os.Stdin).Decode(&r); err != nil {
		fail("the request can not be read: "+err.Error(), true)
	}
	if r.APIVersion != "catamaran/provider/v1alpha1" {
		fail("this program does not know the version "+r.APIVersion, true)
	}
	p := platform{request: r}
	result, err := p.do()
	if err != nil {
		var f final
		fail(err.Error(), errors.As(err, &f))
	}
	say(map[string]any{"result": result})
}

type request struct {
	APIVersion, Call, Site, Cluster string
	Config                          struct {
		World, Notify string
		KillAt        int
	}
	SSH     struct{ User string }
	Nodes   []node
	Machine string
	Lines   int
	// Machines are to be deleted.
	Machines []string
}

type node struct {
	Name, Role, State, Address, HostKey string
	External                            struct{ Flavor string }
}

// final is an error that trying again does not mend.
type final string

func (f final) Error() string { return string(f) }

func say(line map[string]any) {
	if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
		os.Exit(3) // nobody listens any more
	}
}

func fail(message string, permanent bool) {
	say(map[string]any{"error": map[string]any{"message": message, "permanent": permanent}})
	os.Exit(1)
}

func tell(verb, kind, name string) {
	say(map[string]any{"change": change{verb, kind, name, "the inventory says so"}})
}

type change struct {
	Verb   string `json:"verb"`
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// resource is one file of the world. Owner marks what is ours: who made it, and for which cluster.
type resource struct {
	ID      string `json:"id"`
	Kind    string `json:"kind"`
	Name    string `json:"name"`
	Owner   string `json:"owner"`
	Role    string `json:"role"`
	Address string `json:"address"`
}

type machine struct {
	Name    string `json:"name"`
	Role    string `json:"role,omitempty"`
	Address string `json:"address,omitempty"`
	HostKey string `json:"hostKey,omitempty"`
	Adopted bool   `json:"adopted,omitempty"`
}

type platform struct {
	request    request
	operations int
}

func (p *platform) owner() string { return p.request.Site + "/" + p.request.Cluster }

func (p *platform) do() (map[string]any, error) {
	if _, err := os.Stat(filepath.Join(p.request.Config.World, "broken")); err == nil {
		return nil, final("the platform says: access denied")
	}
	switch p.request.Call {
	case "plan":
		return p.plan()
	case "ensure":
		return p.ensure()
	case "retire":
		return nothing(p.remove(func(r resource) bool { return contains(p.request.Machines, r.Name) }, tell))
	case "planDestroy":
		changes := []change{}
		err := p.removals(everything, func(r resource) error {
			changes = append(changes, change{"delete", r.Kind, r.Name, "it was made for this cluster"})
			return nil
		})
		return map[string]any{"changes": changes}, err
	case "destroy":
		return nothing(p.remove(everything, tell))
	case "console":
		return map[string]any{"text": strings.Repeat("a line of "+p.request.Machine+"\n", 100)}, nil
	}
	return nil, final("this program does not know the call " + p.request.Call)
}

func everything(resource) bool { return true }

func nothing(err error) (map[string]any, error) { return map[string]any{}, err }

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// kinds in the order in which they are made.
func kinds() []string { return []string{"disk", "machine"} }

// missing are what ensure makes, in order.
func (p *platform) missing() (out []resource, err error) {
	there, err := p.all()
	if err != nil {
		return nil, err
	}
	for _, n := range p.request.Nodes {
		if n.External.Flavor == "none" {
			return nil, final(n.Name + ": there is no flavor named none")
		}
		if _, adopted := there["machine/"+n.Name]; n.State == "absent" || adopted && there["machine/"+n.Name].Owner == "" {
			continue
		}
		for _, k := range kinds() {
			if _, ok := there[k+"/"+n.Name]; !ok {
				out = append(out, resource{Kind: k, Name: n.Name, Owner: p.owner(), Role: n.Role})
			}
		}
	}
	return out, nil
}

func (p *platform) plan() (map[string]any, error) {
	missing, err := p.missing()
	if err != nil {
		return nil, err
	}
	changes := []change{}
	for _, r := range missing {
		changes = append(changes, change{"create", r.Kind, r.Name, "the inventory says so"})
	}
	machines, surplus, err := p.machines()
	return map[string]any{"changes": changes, "machines": machines, "surplus": surplus}, err
}

func (p *platform) ensure() (map[string]any, error) {
	missing, err := p.missing()
	if err != nil {
		return nil, err
	}
	say(map[string]any{"log": fmt.Sprintf("%d resources are missing", len(missing))})
	for _, r := range missing {
		made, err := p.create(r)
		if err != nil {
			return nil, err
		}
		if made {
			tell("create", r.Kind, r.Name)
		}
	}
	machines, _, err := p.machines()
	return map[string]any{"machines": machines}, err
}

// machines are those of the inventory's nodes, and those of ours that are too many; of one that was cut off while it was made
// there may be the disk alone.
func (p *platform) machines() (listed, surplus []machine, err error) {
	there, err := p.all()
	if err != nil {
		return nil, nil, err
	}
	listed, surplus = []machine{}, []machine{}
	known := map[string]bool{}
	for _, n := range p.request.Nodes {
		known[n.Name] = true
		if r, ok := there["machine/"+n.Name]; ok {
			listed = append(listed, machine{Name: n.Name, Address: r.Address, HostKey: n.HostKey, Adopted: r.Owner == ""})
		}
	}
	for _, r := range there {
		_, whole := there["machine/"+r.Name]
		if !known[r.Name] && r.Owner == p.owner() && (r.Kind == "machine" || !whole) {
			surplus = append(surplus, machine{Name: r.Name, Role: r.Role, Address: r.Address})
		}
	}
	return listed, surplus, nil
}

// removals calls f for what is ours and wanted, the last made first.
func (p *platform) removals(want func(resource) bool, f func(resource) error) error {
	there, err := p.all()
	if err != nil {
		return err
	}
	var keys []string
	for k := range there {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, kind := range []string{"machine", "disk"} {
		for _, k := range keys {
			if r := there[k]; r.Kind == kind && r.Owner == p.owner() && want(r) {
				if err := f(r); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (p *platform) remove(want func(resource) bool, done func(verb, kind, name string)) error {
	return p.removals(want, func(r resource) error {
		gone := false
		err := p.operation(func() error {
			err := os.Remove(p.path(r.Kind, r.Name))
			if gone = err == nil; errors.Is(err, fs.ErrNotExist) {
				return nil // somebody was faster
			}
			return err
		})
		if err == nil && gone {
			done("delete", r.Kind, r.Name)
		}
		return err
	})
}

func (p *platform) path(kind, name string) string {
	return filepath.Join(p.request.Config.World, kind+"."+name)
}

// all are the world's resources by kind/name.
func (p *platform) all() (map[string]resource, error) {
	paths, err := filepath.Glob(filepath.Join(p.request.Config.World, "[dm]*.*"))
	if err != nil {
		return nil, err
	}
	out := map[string]resource{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var r resource
		if err := json.Unmarshal(data, &r); err != nil {
			return nil, err
		}
		out[r.Kind+"/"+r.Name] = r
	}
	return out, nil
}

// create makes and marks a resource in one operation; false: it is there already.
func (p *platform) create(r resource) (made bool, err error) {
	err = p.operation(func() error {
		if _, err := os.Stat(p.path(r.Kind, r.Name)); err == nil {
			return nil
		}
		id := make([]byte, 8)
		if _, err := rand.Read(id); err != nil {
			return err
		}
		r.ID = hex.EncodeToString(id)
		if r.Kind == "machine" {
			if r.Address, err = p.address(); err != nil {
				return err
			}
		}
		data, err := json.Marshal(r)
		if err != nil {
			return err
		}
		beside := filepath.Join(p.request.Config.World, ".new")
		if err := os.WriteFile(beside, data, 0o600); err != nil {
			return err
		}
		made = true
		return os.Rename(beside, p.path(r.Kind, r.Name))
	})
	return made, err
}

// address is the next one that nobody ever had.
func (p *platform) address() (string, error) {
	path := filepath.Join(p.request.Config.World, "addresses")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // one byte was written or not
	if _, err := f.Write([]byte{'x'}); err != nil {
		return "", err
	}
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("10.99.%d.%d", info.Size()/250, 1+info.Size()%250), nil
}

// operation does one thing that changes the world, alone.
func (p *platform) operation(f func() error) error {
	p.operations++
	p.ask()
	if p.operations == p.request.Config.KillAt && p.operations%2 == 1 {
		die()
	}
	err := p.locked(f)
	if p.operations == p.request.Config.KillAt {
		die()
	}
	p.ask()
	return err
}

func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	time.Sleep(time.Hour)
}

func (p *platform) locked(f func() error) error {
	lock, err := os.OpenFile(filepath.Join(p.request.Config.World, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close() //nolint:errcheck // it unlocks, too
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	return f()
}

// ask tells whoever watches, and waits for the answer.
func (p *platform) ask() {
	if p.request.Config.Notify == "" {
		return
	}
	c, err := net.Dial("unix", p.request.Config.Notify)
	if err != nil {
		fail("the test does not listen: "+err.Error(), false)
	}
	defer c.Close() //nolint:errcheck // all was said
	_, _ = c.Read(make([]byte, 1))
}
