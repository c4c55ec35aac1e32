package hosts

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/catamaran-k8s/catamaran/test/lab/hosts/cgroup"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts/machine"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts/network"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts/process"
)

// Down powers all hosts off and removes everything of the lab that the kernel knows, whatever state it is in: after a
// kill -9 of everything, after a reboot of the machine, or with its folder gone. The hosts' disks stay, so that `up` boots
// the same machines again, unless purge says that they go too. name is the lab's where the folder does not say it.
//
// At the end it looks whether anything is left, and returns an error that lists it.
func Down(ctx context.Context, dir, name string, purge bool, logLine func(string)) error {
	l, err := Open(dir)
	known := err == nil || !errors.Is(err, ErrNoLab) // a lab.json that can not be read is a lab's
	if err != nil {
		if !labName.MatchString(name) {
			return fmt.Errorf("%q is not the name of a lab", name)
		}
		logLine(fmt.Sprintf("%v; looking for what one named %s left", err, name))
		if dir, err = filepath.Abs(dir); err != nil {
			return err
		}
		l = &Lab{dir: dir, state: state{Name: name}}
	}
	if _, err := os.Stat(l.dir); err == nil {
		release, err := l.lockLab(true)
		if err != nil {
			return err
		}
		defer release()
	}
	return l.down(ctx, purge, purge && known, logLine)
}

// down: cut says that hosts need not shut down in order, purge that the folder goes. The lab's lock must be held.
func (l *Lab) down(ctx context.Context, cut, purge bool, logLine func(string)) error {
	err := together(l.state.Hosts, func(h Host) error {
		if !cut {
			if err := l.stop(ctx, h, powerOffTimeout); err == nil {
				return nil
			} else if ctx.Err() == nil {
				logLine(err.Error())
			}
			logLine(h.Name + ": cutting its power")
		}
		// not ctx: an interrupted `down` still goes to its end, only faster
		return l.kill(context.WithoutCancel(ctx), h)
	})
	if err != nil {
		logLine(err.Error()) // the sweep below is harder; what it leaves is the error that counts
	}
	if err := l.sweep(); err != nil {
		logLine(err.Error())
	}
	if err := l.lower(logLine); err != nil {
		return err
	}
	left, err := Leftovers(l.dir, l.state.Name)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("left behind:\n  %s", strings.Join(left, "\n  "))
	}
	if !purge {
		return nil
	}
	return l.purge()
}

// lower puts the machine's limit back that `up` raised, unless another lab still runs and may need it.
func (l *Lab) lower(logLine func(string)) error {
	if l.state.Inotify == 0 {
		return nil
	}
	others, err := cgroup.Existing(groupPath(""))
	if err != nil {
		return err
	}
	if len(others) > 0 {
		logLine(fmt.Sprintf("another lab runs: %s stays raised; it was %d", machine.Inotify, l.state.Inotify))
		return nil
	}
	if err := machine.SetInotify(machine.Inotify, l.state.Inotify); err != nil {
		return err
	}
	l.state.Inotify = 0
	return l.save()
}

// sweep removes what belongs to the lab by its name, whoever made it and whatever became of them.
func (l *Lab) sweep() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var errs []error
	supervisors, err := process.ByProgram(l.program())
	errs = append(errs, err)
	for _, id := range supervisors {
		errs = append(errs, id.End(10*time.Second))
	}
	group, err := cgroup.Open(groupPath(l.state.Name))
	if err == nil {
		if err = group.Kill(ctx); err == nil {
			err = group.Remove(ctx)
		}
	}
	errs = append(errs, err)
	links, err := network.Links(l.link(""))
	errs = append(errs, err)
	for _, link := range append(links, l.state.Name) {
		errs = append(errs, network.Delete(link))
	}
	folders, err := filepath.Glob("/run/systemd/nspawn/propagate/" + l.link("") + "*")
	errs = append(errs, err)
	for _, f := range folders {
		errs = append(errs, os.Remove(f))
	}
	mounts, err := mountsBelow(l.dir)
	errs = append(errs, err)
	for i := len(mounts) - 1; i >= 0; i-- { // the newest first
		if err := unix.Unmount(mounts[i], unix.MNT_DETACH); err != nil {
			errs = append(errs, fmt.Errorf("umount %s: %w", mounts[i], err))
		}
	}
	return errors.Join(errs...)
}

// Leftovers lists what the kernel knows of a lab: nothing, after Down.
func Leftovers(dir, name string) ([]string, error) {
	var out []string
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	l := &Lab{dir: dir, state: state{Name: name}}
	supervisors, err := process.ByProgram(l.program())
	if err != nil {
		return nil, err
	}
	for _, id := range supervisors {
		out = append(out, fmt.Sprintf("process %d (%s)", id.PID, commandLine(id.PID)))
	}
	group, err := cgroup.Open(groupPath(name))
	if err != nil {
		return nil, err
	}
	pids, err := group.Processes()
	if err != nil {
		return nil, err
	}
	for _, pid := range pids {
		out = append(out, fmt.Sprintf("process %d (%s) in %s", pid, commandLine(pid), group.Path))
	}
	for _, g := range group.Existing() {
		out = append(out, "control group "+g)
	}
	links, err := network.Links(name)
	if err != nil {
		return nil, err
	}
	for _, link := range links {
		if link == name || strings.HasPrefix(link, l.link("")) {
			out = append(out, "interface "+link)
		}
	}
	mounts, err := mountsBelow(dir)
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		out = append(out, "mount "+m)
	}
	return out, nil
}

func commandLine(pid int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return "ending"
	}
	return strings.TrimSpace(strings.ReplaceAll(string(data), "\x00", " "))
}

// mountsBelow lists mount points in a folder, oldest first. Hosts have theirs in mount namespaces of their own: there is
// none here unless somebody else made it.
func mountsBelow(dir string) ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var out []string
	s := bufio.NewScanner(f)
	for s.Scan() {
		if fields := strings.Fields(s.Text()); len(fields) > 4 {
			if at := unescape.Replace(fields[4]); strings.HasPrefix(at, dir+"/") {
				out = append(out, at)
			}
		}
	}
	return out, s.Err()
}

// purge removes the lab's files, and its folder if nothing else is in it. lab.json goes last: until then the folder is a
// lab's, and purge can be called again.
func (l *Lab) purge() error {
	for _, name := range []string{"hosts", "site", "bin", "known_hosts", "id_ed25519", "id_ed25519.pub", "lab.json", "lock"} {
		if err := os.RemoveAll(l.path(name)); err != nil {
			return err
		}
	}
	err := os.Remove(l.dir)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
