// Package cgroup keeps each host in control groups of its own, on cgroup v1 (a group in every hierarchy), on v2, and
// on both at once.
package cgroup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/catamaran-k8s/catamaran/test/lab/hosts/process"
)

// Hierarchy is one mounted tree of control groups.
type Hierarchy struct {
	Path string
	// Controllers of a v1 hierarchy; a named one has "name=...".
	Controllers []string
	V2          bool
}

// Hierarchies are those of this machine.
func Hierarchies() ([]Hierarchy, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var out []Hierarchy
	seen := map[string]bool{}
	for s := bufio.NewScanner(f); s.Scan(); {
		before, after, ok := strings.Cut(s.Text(), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 || right[0] != "cgroup" && right[0] != "cgroup2" || seen[left[2]] {
			continue
		}
		seen[left[2]] = true // a hierarchy can be mounted twice
		h := Hierarchy{Path: left[4], V2: right[0] == "cgroup2"}
		if !h.V2 {
			for _, o := range strings.Split(right[2], ",") {
				if o != "rw" && o != "ro" && o != "xattr" && o != "clone_children" && !strings.HasPrefix(o, "release_agent") {
					h.Controllers = append(h.Controllers, o)
				}
			}
		}
		out = append(out, h)
	}
	if len(out) == 0 {
		return nil, errors.New("no cgroup file system is mounted; hosts need one at /sys/fs/cgroup")
	}
	return out, nil
}

// IsV1 says whether controllers are on v1 hierarchies, as kubelet sees it.
func IsV1(hs []Hierarchy) bool {
	return slices.ContainsFunc(hs, func(h Hierarchy) bool { return slices.Contains(h.Controllers, "memory") })
}

// Group is a path below every hierarchy's root, such as catamaran-lab-cat0/sc-cp-1.
type Group struct {
	Path        string
	Hierarchies []Hierarchy
}

// Open names a group; nothing is made.
func Open(path string) (Group, error) {
	hs, err := Hierarchies()
	return Group{Path: path, Hierarchies: hs}, err
}

func (g Group) dir(h Hierarchy) string { return filepath.Join(h.Path, g.Path) }

// with returns the group's folder in the hierarchy that has a v1 controller, or else in v2's.
func (g Group) with(controller string) (dir string, v2, ok bool) {
	for _, h := range g.Hierarchies {
		if slices.Contains(h.Controllers, controller) {
			return g.dir(h), false, true
		}
	}
	for _, h := range g.Hierarchies {
		if h.V2 {
			return g.dir(h), true, true
		}
	}
	return "", false, false
}

// Create makes the group everywhere, parents included.
func (g Group) Create() error {
	v1 := IsV1(g.Hierarchies)
	for _, h := range g.Hierarchies {
		at := h.Path
		for _, part := range strings.Split(g.Path, "/") {
			if h.V2 && !v1 {
				// children get the controllers that their parent hands down
				if err := write(at, "cgroup.subtree_control", "+cpuset +cpu +io +memory +pids"); err != nil {
					return err
				}
			}
			parent := at
			at = filepath.Join(at, part)
			if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			if !slices.Contains(h.Controllers, "cpuset") {
				continue
			}
			// a v1 cpuset starts empty and takes no process before it has CPUs and memory nodes
			for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
				data, err := os.ReadFile(filepath.Join(parent, file))
				if err == nil {
					err = write(at, file, strings.TrimSpace(string(data)))
				}
				if err != nil {
					return err
				}
			}
			if err := write(at, "cgroup.clone_children", "1"); err != nil {
				return err
			}
		}
	}
	return nil
}

// Enter moves this process into the group, everywhere.
func (g Group) Enter() error {
	for _, h := range g.Hierarchies {
		if err := write(g.dir(h), "cgroup.procs", "0"); err != nil {
			return err
		}
	}
	return nil
}

// LimitMemory bounds the group's memory, in bytes; 0 is no bound.
func (g Group) LimitMemory(bytes int64) error {
	dir, v2, ok := g.with("memory")
	if !ok {
		return errors.New("this machine has no memory controller: no memory limit can be set")
	}
	file, value := "memory.limit_in_bytes", "-1"
	if v2 {
		file, value = "memory.max", "max"
	}
	if bytes > 0 {
		value = strconv.FormatInt(bytes, 10)
	}
	return write(dir, file, value)
}

// Memory is what the group uses now, in bytes, page cache included; 0 when it can not be told.
func (g Group) Memory() int64 {
	dir, v2, _ := g.with("memory")
	file := "memory.usage_in_bytes"
	if v2 {
		file = "memory.current"
	}
	data, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	return n
}

// Processes are the pids in the group and below it.
func (g Group) Processes() ([]int, error) {
	seen := map[int]bool{}
	for _, h := range g.Hierarchies {
		err := filepath.WalkDir(g.dir(h), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
				return nil // removed meanwhile
			}
			if err != nil || d.Name() != "cgroup.procs" {
				return err
			}
			data, _ := os.ReadFile(path) // removed meanwhile; a threaded v2 group can not be read and has its processes above
			for _, f := range strings.Fields(string(data)) {
				if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
					seen[pid] = true
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	out := make([]int, 0, len(seen))
	for pid := range seen {
		out = append(out, pid)
	}
	slices.Sort(out)
	return out, nil
}

// Kill ends every process in the group at once and waits until none is left.
func (g Group) Kill(ctx context.Context) error {
	for {
		pids, err := g.Processes()
		if err != nil {
			return err
		}
		alive := 0
		for _, pid := range pids {
			id, err := process.Of(pid)
			if err != nil || !g.contains(pid) {
				continue
			}
			alive++
			if err := id.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, process.ErrGone) {
				return fmt.Errorf("kill %d in %s: %w", pid, g.Path, err)
			}
		}
		if alive == 0 {
			return nil
		}
		if err := g.thawAll(); err != nil { // a frozen process does not even die
			return err
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("%s still has processes %v: %w", g.Path, pids, err)
		}
	}
}

// contains looks again whether a pid read earlier is (still) that of a member.
func (g Group) contains(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return false
	}
	for _, l := range strings.Split(string(data), "\n") {
		if f := strings.SplitN(l, ":", 3); len(f) == 3 {
			p := strings.TrimPrefix(f[2], "/")
			if p == g.Path || strings.HasPrefix(p, g.Path+"/") {
				return true
			}
		}
	}
	return false
}

// Freeze stops all processes of the group where they are.
func (g Group) Freeze(ctx context.Context) error { return g.freeze(ctx, true) }

// Thaw lets them go on. A group that is not there is thawed.
func (g Group) Thaw(ctx context.Context) error {
	err := g.freeze(ctx, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// thawAll thaws the group and all groups below it, which can be frozen each by itself.
func (g Group) thawAll() error {
	dir, v2, ok := g.with("freezer")
	if !ok {
		return nil // nobody could freeze
	}
	file, value := "freezer.state", "THAWED"
	if v2 {
		file, value = "cgroup.freeze", "0"
	}
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = write(path, file, value)
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
			return nil // removed meanwhile
		}
		return err
	})
}

func (g Group) freeze(ctx context.Context, frozen bool) error {
	dir, v2, ok := g.with("freezer")
	if !ok {
		return errors.New("this machine has no freezer: hosts can not be paused")
	}
	file, value := "freezer.state", "THAWED"
	if frozen {
		value = "FROZEN"
	}
	if v2 {
		file, value = "cgroup.freeze", "0"
		if frozen {
			value = "1"
		}
	}
	for {
		if err := write(dir, file, value); err != nil {
			return err
		}
		now, err := g.Frozen()
		if err != nil || now == frozen {
			return err
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("%s did not become %s: %w", dir, value, err)
		}
	}
}

// Frozen says whether all processes of the group stand still.
func (g Group) Frozen() (bool, error) {
	dir, v2, _ := g.with("freezer")
	file, word := "freezer.state", "FROZEN"
	if v2 {
		file, word = "cgroup.events", "frozen 1"
	}
	data, err := os.ReadFile(filepath.Join(dir, file))
	return strings.Contains(string(data), word), err
}

// Clear removes all groups below the group, and Remove the group itself too. Both wait for processes that are just
// ending, and neither minds what is not there.
func (g Group) Clear(ctx context.Context) error { return g.remove(ctx, false) }

// Remove is Clear and the group itself.
func (g Group) Remove(ctx context.Context) error { return g.remove(ctx, true) }

func (g Group) remove(ctx context.Context, self bool) error {
	for _, h := range g.Hierarchies {
		top := g.dir(h)
		for {
			var dirs []string
			err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.IsDir() && (self || path != top) {
					dirs = append(dirs, path)
				}
				return nil // removed meanwhile
			})
			if err != nil {
				return err
			}
			slices.Reverse(dirs) // children first
			var busy error
			for _, d := range dirs {
				if err := os.Remove(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
					busy = err
				}
			}
			if busy == nil {
				break
			}
			if err := pause(ctx); err != nil {
				return fmt.Errorf("%w: %w", busy, err)
			}
		}
	}
	return nil
}

// Existing are the folders of the group that are there.
func (g Group) Existing() []string {
	var out []string
	for _, h := range g.Hierarchies {
		if _, err := os.Stat(g.dir(h)); err == nil {
			out = append(out, g.dir(h))
		}
	}
	return out
}

// pause is the step of the polls here; control groups have no event for an emptied v1 group.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(5 * time.Millisecond):
		return nil
	}
}

// write is one write(2) into a control file, which must exist.
func write(dir, file, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	if err != nil {
		err = fmt.Errorf("write %q: %w", value, err)
	}
	return errors.Join(err, f.Close())
}

// Existing lists the groups of any hierarchy whose path begins with prefix.
func Existing(prefix string) ([]string, error) {
	hs, err := Hierarchies()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, h := range hs {
		found, err := filepath.Glob(filepath.Join(h.Path, prefix) + "*")
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}
