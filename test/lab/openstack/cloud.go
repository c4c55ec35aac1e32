package openstack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/catamaran-k8s/catamaran/test/lab/guests"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts/process"
)

// Up starts the cloud and returns when everything answers; one that is up stays as it is. Servers of an earlier run are there again,
// and are booted. What a cloud that was killed left behind is ended first. When it fails or ctx ends, it is taken down again; the
// logs stay.
func Up(ctx context.Context, o Options) error {
	if err := o.complete(); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("the lab makes namespaces, mounts and control groups: run it as root")
	}
	if err := Installed(); err != nil {
		return err
	}
	release, err := lock(o)
	if err != nil {
		return err
	}
	defer release()
	var st state
	if _, err := readJSON(o.path("state.json"), &st); err != nil {
		return err
	}
	if st.Supervisor.Alive() && !st.Ready.IsZero() {
		if have := st.Options; have.Name != o.Name || have.Base != o.Base || have.Subnet != o.Subnet || have.Computes != o.Computes {
			return fmt.Errorf("a cloud with other options is up in %s: take it down first", o.Dir)
		}
		o.Log("OpenStack is up already: " + o.AuthURL())
		return nil
	}
	if err := down(ctx, o, st, false); err != nil {
		return err
	}
	ended, err := spawn(o)
	if err != nil {
		return err
	}
	if err := await(ctx, o, ended); err != nil {
		_, rerr := readJSON(o.path("state.json"), &st)
		return errors.Join(err, rerr, down(context.WithoutCancel(ctx), o, st, false))
	}
	return nil
}

// spawn starts the supervisor, detached from this process and its terminal.
func spawn(o Options) (ended <-chan struct{}, err error) {
	if err := os.MkdirAll(o.path("log"), 0o700); err != nil {
		return nil, err
	}
	if err := writeJSON(o.path("options.json"), o); err != nil {
		return nil, err
	}
	if err := os.Remove(o.path("state.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	if err := writeFile(supervisorProgram(o), program); err != nil {
		return nil, err
	}
	if err := os.Chmod(supervisorProgram(o), 0o700); err != nil {
		return nil, err
	}
	out, err := os.OpenFile(logFile(o), os.O_CREATE|os.O_WRONLY|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()
	cmd := &exec.Cmd{
		Path: supervisorProgram(o), Args: []string{supervisorName, o.Dir}, Dir: "/", Stdout: out, Stderr: out,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, mark+"=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the supervisor: %w", err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended stands in its state and its log
		close(done)
	}()
	return done, nil
}

func supervisorProgram(o Options) string { return o.path("bin", "openstack") }

func logFile(o Options) string { return o.path("log", "supervisor.log") }

// await passes on what the supervisor says, until the cloud is ready or the supervisor has ended.
func await(ctx context.Context, o Options, ended <-chan struct{}) error {
	said := 0
	pass := func() {
		data, err := os.ReadFile(logFile(o))
		if err != nil || len(data) <= said {
			return
		}
		fresh := data[said:]
		n := bytes.LastIndexByte(fresh, '\n') + 1
		for _, l := range strings.Split(strings.TrimSpace(string(fresh[:n])), "\n") {
			if l != "" {
				o.Log(strings.TrimSpace(l))
			}
		}
		said += n
	}
	for {
		pass()
		var st state
		if _, err := readJSON(o.path("state.json"), &st); err != nil {
			return err
		}
		if !st.Ready.IsZero() {
			pass()
			return nil
		}
		select {
		case <-ended:
			pass()
			if _, err := readJSON(o.path("state.json"), &st); err != nil {
				return err
			}
			return fmt.Errorf("OpenStack did not come up: %s; more in %s", st.Failed, o.path("log"))
		case <-ctx.Done():
			return fmt.Errorf("interrupted: %w", ctx.Err())
		case <-time.After(poll):
		}
	}
}

// Down takes the cloud down, its servers' hosts too, whatever state it is in: after a kill -9 of everything, after a reboot of the
// machine. Database, disks and logs stay for the next Up, unless purge says that they go. At the end it looks whether anything is
// left, and returns an error that lists it.
func Down(ctx context.Context, o Options, purge bool) error {
	if err := o.complete(); err != nil {
		return err
	}
	if _, err := os.Stat(o.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	release, err := lock(o)
	if err != nil {
		return err
	}
	defer release()
	var st state
	if _, err := readJSON(o.path("state.json"), &st); err != nil && !purge {
		return err
	}
	if st.Options.Name != "" {
		o.Name, o.Subnet = st.Options.Name, st.Options.Subnet
	}
	if err := down(ctx, o, st, purge); err != nil || !purge {
		return err
	}
	for _, name := range []string{"bin", "clouds", "db", "etc", "lab", "log", "run", "standin", "tmp", "var", "identity.json", "secrets.json", "options.json", "state.json", "lock"} {
		if err := os.RemoveAll(o.path(name)); err != nil {
			return err
		}
	}
	if err := os.Remove(o.Dir); err != nil && !errors.Is(err, syscall.ENOTEMPTY) {
		return err
	}
	return nil
}

// down ends everything that runs. The lock must be held.
func down(ctx context.Context, o Options, st state, purge bool) error {
	const orderly = 2 * time.Minute
	supervisors, err := process.ByProgram(supervisorProgram(o))
	if err != nil {
		return err
	}
	supervisors = slices.DeleteFunc(supervisors, func(id process.ID) bool { return id.PID == os.Getpid() })
	for _, id := range supervisors {
		if err := id.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, process.ErrGone) {
			return err
		}
		wait, cancel := context.WithTimeout(ctx, orderly)
		err := id.Wait(wait)
		cancel()
		if err != nil {
			o.Log(fmt.Sprintf("the supervisor (process %d) does not end in order (%v): it is killed", id.PID, err))
			if err := id.End(10 * time.Second); err != nil {
				return err
			}
		}
	}
	if len(supervisors) == 0 {
		if left, err := leftovers(o.Dir, st.Processes); err == nil && len(left) > 0 {
			o.Log(fmt.Sprintf("ending %d processes that a killed cloud left", len(left)))
		}
	}
	if err := end(o.Dir, st.Processes, 20*time.Second); err != nil {
		return err
	}
	if _, err := os.Stat(o.Hosts()); err == nil {
		if err := hosts.Down(ctx, o.Hosts(), o.Name, purge, o.Log); err != nil {
			return err
		}
	}
	left, err := Leftovers(o)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("left behind:\n  %s", strings.Join(left, "\n  "))
	}
	return nil
}

// Leftovers lists what the kernel knows of a cloud: nothing, after Down.
func Leftovers(o Options) ([]string, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	var st state
	if _, err := readJSON(o.path("state.json"), &st); err != nil {
		return nil, err
	}
	out, err := hosts.Leftovers(o.Hosts(), o.Name)
	if err != nil {
		return nil, err
	}
	ids, err := leftovers(o.Dir, st.Processes)
	if err != nil {
		return nil, err
	}
	supervisors, err := process.ByProgram(supervisorProgram(o))
	if err != nil {
		return nil, err
	}
	for _, id := range append(ids, supervisors...) {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", id.PID)) // only for people
		out = append(out, fmt.Sprintf("process %d (%s)", id.PID, strings.ReplaceAll(string(line), "\x00", " ")))
	}
	return out, nil
}

// lock keeps others from taking the cloud up or down until release is called.
func lock(o Options) (release func(), err error) {
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(o.path("lock"), os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another command takes the cloud in %s up or down: %w", o.Dir, err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// Status is what a cloud does.
type Status struct {
	Options Options `json:"options"`
	Running bool    `json:"running"`
	// Ready is when everything answered; Seconds how long that took.
	Ready   time.Time `json:"ready,omitzero"`
	Seconds float64   `json:"seconds,omitempty"`
	Failed  string    `json:"failed,omitempty"`
	AuthURL string    `json:"authURL"`
	Clouds  string    `json:"clouds"` // clouds.yaml
	Proxy   string    `json:"proxy"`  // the proxy's control socket
	Daemons []Daemon  `json:"daemons"`
	// Guests are the servers' hosts.
	Guests []guests.Status `json:"guests"`
}

// Daemon is one with its children.
type Daemon struct {
	Name  string `json:"name"`
	PID   int    `json:"pid"`
	Runs  bool   `json:"runs"`
	Bytes int64  `json:"bytes"` // of memory, what is shared with others counted in part (PSS)
}

// Look says what the cloud in o.Dir does.
func Look(o Options) (Status, error) {
	if err := o.complete(); err != nil {
		return Status{}, err
	}
	var st state
	missing, err := readJSON(o.path("state.json"), &st)
	if err != nil {
		return Status{}, err
	}
	if missing {
		return Status{Options: o, Daemons: []Daemon{}, Guests: []guests.Status{}}, nil
	}
	st.Options.Log = o.Log
	st.Options.Dir = o.Dir
	out := Status{
		Options: st.Options, Running: st.Supervisor.Alive(), Ready: st.Ready, Failed: st.Failed, AuthURL: st.Options.AuthURL(),
		Clouds: o.CloudsFile(), Proxy: o.ProxySocket(), Daemons: []Daemon{}, Guests: st.Guests,
	}
	if out.Guests == nil {
		out.Guests = []guests.Status{}
	}
	if !st.Ready.IsZero() {
		out.Seconds = st.Ready.Sub(st.Began).Seconds()
	}
	all, err := leftovers(o.Dir, st.Processes)
	if err != nil {
		return out, err
	}
	for _, p := range st.Processes {
		d := Daemon{Name: p.Name, PID: p.ID.PID, Runs: p.ID.Alive()}
		for _, id := range all {
			if session, ok := sessionOf(id.PID); ok && session == p.ID.PID {
				d.Bytes += memory(id.PID)
			}
		}
		out.Daemons = append(out.Daemons, d)
	}
	return out, nil
}

// memory is a process's share, 0 for one that has ended.
func memory(pid int) int64 {
	f, err := os.Open(filepath.Join("/proc", fmt.Sprint(pid), "smaps_rollup"))
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }()
	data, _ := io.ReadAll(f) // it may end meanwhile
	for _, l := range strings.Split(string(data), "\n") {
		var kib int64
		if n, _ := fmt.Sscanf(l, "Pss: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	return 0
}
