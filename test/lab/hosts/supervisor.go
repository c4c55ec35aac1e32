package hosts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/catamaran-k8s/catamaran/test/lab/hosts/cgroup"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts/network"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts/process"
)

// Names by which a copy of this program knows what it is to do; they show in ps.
const (
	supervisorName = "catamaran-lab-host"
	containName    = "catamaran-lab-contain"
)

// What a supervisor does on signals; it is told nothing else.
const (
	signalPowerOff = syscall.SIGTERM // an orderly shutdown
	signalPowerCut = syscall.SIGUSR1
)

const (
	// rebootExit is how nspawn ends when the guest asked for a reboot.
	rebootExit = 133
	// guestPowerOff is SIGRTMIN+3, which systemd as process 1 takes for `systemctl poweroff`.
	guestPowerOff = syscall.Signal(34 + 3)
)

// supervision is what a supervisor tells the world, in supervisor.json.
type supervision struct {
	Supervisor process.ID `json:"supervisor"`
	// Boots since the supervisor was started: more than one means that the guest rebooted itself.
	Boots int `json:"boots"`
	// Booted is when the newest boot began.
	Booted time.Time `json:"booted,omitzero"`
	// Ended says how the host went down; empty while it runs.
	Ended string `json:"ended,omitempty"`
}

// Reexec turns a copy of this program into what the lab started it for, and does not return then. Call it first in main.
func Reexec() {
	var err error
	switch os.Args[0] {
	case supervisorName:
		err = runSupervisor(os.Args[1:])
	case containName:
		err = runContained(os.Args[1:])
	default:
		return
	}
	if err != nil {
		log.Printf("%s: %v", strings.Join(os.Args, " "), err)
		os.Exit(1)
	}
	os.Exit(0)
}

// spawn starts a host's supervisor, detached from this process and its terminal.
func (l *Lab) spawn(h Host) (*exec.Cmd, error) {
	// the console of the run before is kept once
	console := l.hostDir(h.Name, "console.log")
	if err := os.Rename(console, console+".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	out, err := os.OpenFile(console, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()
	cmd := &exec.Cmd{
		Path: l.program(), Args: []string{supervisorName, l.dir, h.Name}, Dir: "/",
		Env:    []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"},
		Stdout: out, Stderr: out,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Unshareflags: syscall.CLONE_NEWNS},
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the supervisor of %s: %w", h.Name, err)
	}
	return cmd, nil
}

// runSupervisor keeps one host running until it is powered off.
func runSupervisor(args []string) error {
	runtime.LockOSThread() // see network.NewNamespace
	syscall.Umask(0o022)
	if len(args) != 2 {
		return errors.New("expected DIR NAME")
	}
	l, err := Open(args[0])
	if err != nil {
		return err
	}
	h, err := l.Host(args[1])
	if err != nil {
		return err
	}
	self, err := process.Of(os.Getpid())
	if err != nil {
		return err
	}
	group, err := l.group(h.Name)
	if err != nil {
		return err
	}
	s := &supervisor{lab: l, host: h, group: group, say: supervision{Supervisor: self}, signals: make(chan os.Signal, 8)}
	signal.Notify(s.signals, signalPowerOff, signalPowerCut)
	if err := s.tell(); err != nil {
		return err
	}
	err = s.run()
	if cerr := s.clear(true); cerr != nil {
		err = errors.Join(err, cerr)
	}
	if err != nil {
		s.say.Ended = "failed: " + err.Error()
	}
	return errors.Join(err, s.tell())
}

type supervisor struct {
	lab     *Lab
	host    Host
	group   cgroup.Group
	say     supervision
	signals chan os.Signal
	power   *os.Process // nspawn
}

func (s *supervisor) tell() error {
	return writeJSON(s.lab.hostDir(s.host.Name, "supervisor.json"), s.say)
}

// run boots the host again and again, until it ends otherwise than by asking for a reboot.
func (s *supervisor) run() error {
	root, err := s.lab.mountDisk(s.host)
	if err != nil {
		return err
	}
	if err := s.lab.install(s.host, root); err != nil {
		return err
	}
	for {
		// what a reboot ends on a machine and not here: interfaces and packet filters live in the namespace, and groups
		// of dead pods make the next kubelet stall for a minute
		if err := s.clear(false); err != nil {
			return err
		}
		again, err := s.boot(root)
		if err != nil || !again {
			return err
		}
	}
}

// boot runs the host once and says whether it wants to be booted again.
func (s *supervisor) boot(root string) (again bool, err error) {
	ns, err := network.NewNamespace(nil)
	if err != nil {
		return false, err
	}
	defer func() { _ = ns.Close() }()
	_, unplugged := os.Stat(s.lab.hostDir(s.host.Name, "partitioned"))
	if err := s.lab.bridge().Plug(s.lab.link(s.host.Name), ns, s.host.Address, unplugged != nil); err != nil {
		return false, err
	}
	if err := s.group.Create(); err != nil {
		return false, err
	}
	if s.host.Memory > 0 {
		if err := s.group.LimitMemory(s.host.Memory); err != nil {
			return false, err
		}
	}
	cmd := s.nspawn(root, ns)
	s.say.Boots, s.say.Booted = s.say.Boots+1, time.Now()
	if err := cmd.Start(); err != nil {
		return false, err
	}
	s.power = cmd.Process
	if err := s.tell(); err != nil {
		return false, errors.Join(err, s.cut(), cmd.Wait())
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return s.watch(ended)
}

// watch passes on what it is told, until the host has ended.
func (s *supervisor) watch(ended <-chan error) (again bool, err error) {
	// systemd takes no signal before it is up: the wish is repeated until it is heard
	repeat := time.NewTicker(time.Second)
	defer repeat.Stop()
	off, cut := false, false
	for {
		select {
		case sig := <-s.signals:
			if sig == signalPowerCut {
				cut = true
				if err := s.cut(); err != nil {
					return false, err
				}
				continue
			}
			if !off {
				off = true
				s.askPowerOff()
			}
		case <-repeat.C:
			if off {
				s.askPowerOff()
			}
		case err := <-ended:
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				return false, err
			}
			log.Printf("%s: systemd-nspawn ended: %v", s.host.Name, orFine(err))
			switch {
			case cut:
				s.say.Ended = "power cut"
			case exit != nil && exit.ExitCode() == rebootExit:
				return !off, nil
			case err != nil:
				s.say.Ended = err.Error()
			default:
				s.say.Ended = "powered off"
			}
			return false, nil
		}
	}
}

func (s *supervisor) askPowerOff() {
	if id, err := guestInit(s.group); err == nil {
		_ = id.Signal(guestPowerOff) // it may have ended just now
	}
}

// cut ends all of the host's processes, process 1 first: the kernel then ends all others in its namespace at once. Then
// nspawn, which may not even be in the group yet; ended alone it would leave the others running.
func (s *supervisor) cut() error {
	if id, err := guestInit(s.group); err == nil {
		_ = id.Signal(syscall.SIGKILL) // it may have ended just now
	}
	_ = s.power.Kill() // and so may this
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return s.group.Kill(ctx)
}

// clear removes what a boot made in the kernel; with self also the host's own group.
func (s *supervisor) clear(self bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return clearHost(ctx, s.group, s.lab.link(s.host.Name), s.machine(), self)
}

// machine is the container's name, which no other lab has.
func (s *supervisor) machine() string { return s.lab.link(s.host.Name) }

// clearHost removes everything of a host that the kernel knows, whoever left it.
func clearHost(ctx context.Context, group cgroup.Group, link, machine string, self bool) error {
	remove := group.Clear
	if self {
		remove = group.Remove
	}
	err := group.Kill(ctx)
	if err == nil {
		err = remove(ctx)
	}
	err = errors.Join(err, network.Delete(link))
	// nspawn leaves the empty folder behind
	if rerr := os.Remove(filepath.Join("/run/systemd/nspawn/propagate", machine)); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
		err = errors.Join(err, rerr)
	}
	return err
}

// nspawn is the command that is the host's power supply: it lasts as long as the host is on.
func (s *supervisor) nspawn(root string, ns *os.File) *exec.Cmd {
	args := []string{
		containName, s.group.Path, "systemd-nspawn",
		"--quiet", "--boot", "--settings=no", "--machine=" + s.machine(), "--hostname=" + s.host.hostname(), "--directory=" + root,
		// process 1 of the machine need not be systemd: stay in the group that was made, and register nowhere
		"--register=no", "--keep-unit",
		"--network-namespace-path=" + fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd()),
		// a node runs privileged pods; but clock and modules are the machine's
		"--capability=all", "--drop-capability=CAP_SYS_TIME,CAP_SYS_MODULE",
		// a terminal that takes no input: process 1 says nothing into a pipe
		"--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=read-only",
		"--bind=/dev/kmsg", // kubelet insists on reading it
	}
	for _, name := range sortedKeys(direct) {
		args = append(args, "--bind="+s.lab.hostDir(s.host.Name, "disk", "data", name)+":"+direct[name])
	}
	unified := "1"
	if cgroup.IsV1(s.group.Hierarchies) {
		unified = "0"
	}
	return &exec.Cmd{
		Path: "/proc/self/exe", Args: args, Dir: "/", Stdout: os.Stdout, Stderr: os.Stderr,
		Env: append(os.Environ(),
			"SYSTEMD_SECCOMP=0", // the filter forbids what containers need (keyctl, bpf, ...)
			"SYSTEMD_NSPAWN_LOCK=0",
			"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY="+unified,
			// the rest of /proc/sys and all of /sys belong to the machine and stay read-only: even systemd writes there
			// when it starts (fs.nr_open, fs.file-max, kernel.pid_max)
			"SYSTEMD_NSPAWN_API_VFS_WRITABLE=network"),
	}
}

// runContained moves itself into a control group and becomes another program.
func runContained(args []string) error {
	if len(args) < 2 {
		return errors.New("expected GROUP PROGRAM [ARGUMENT]...")
	}
	g, err := cgroup.Open(args[0])
	if err != nil {
		return err
	}
	if err := g.Enter(); err != nil {
		return err
	}
	path, err := exec.LookPath(args[1])
	if err != nil {
		return err
	}
	return unix.Exec(path, args[1:], os.Environ())
}

// guestInit finds a host's process 1: in the group, and first in a pid namespace of its own just below the machine's.
func guestInit(g cgroup.Group) (process.ID, error) {
	pids, err := g.Processes()
	if err != nil {
		return process.ID{}, err
	}
	for _, pid := range pids {
		if ns := process.Namespaced(pid); len(ns) == 2 && ns[1] == 1 {
			return process.Of(pid)
		}
	}
	return process.ID{}, process.ErrGone
}

func orFine(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

func sortedKeys(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
