// Package vsphere is the lab's vCenter: govmomi's simulator (a stand-in for VMware's own) as a process beside the hosts, over TLS with
// a user and a password, in which a virtual machine that is powered on becomes a host of the lab. A proxy stands in front of it.
//
// A program that uses this package calls hosts.Reexec and Reexec first in main.
package vsphere

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/catamaran-k8s/catamaran/test/lab/hosts"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts/process"
	"github.com/catamaran-k8s/catamaran/test/lab/proxy"
)

// Defaults of a lab with a vCenter.
const (
	DefaultDir    = "/var/lib/catamaran-vsphere"
	DefaultName   = "catv0"
	DefaultSubnet = "10.83.0.0/23"
)

// User is who signs in; the password is made for each lab.
const User = "catamaran@vsphere.local"

// Options say which lab is wanted.
type Options struct {
	Dir    string
	Name   string       // the lab's, see hosts.Options
	Subnet netip.Prefix // at least a /23: its second half is what DHCP gives out
	// Bundle is the bundle in the inventory; empty: none.
	Bundle string
	// Kubernetes is the version in the inventory. Default hosts.DefaultKubernetes.
	Kubernetes string
	// Log gets a line for each thing that was done.
	Log func(string)
}

// State is what others need to use the vCenter, in vsphere/state.json.
type State struct {
	Process process.ID `json:"process"`
	// URL is the SDK's, through the proxy; Direct is the one past it.
	URL    string `json:"url"`
	Direct string `json:"direct"`
	User   string `json:"user"`
	// PasswordFile and CAFile belong to both.
	PasswordFile string `json:"passwordFile"`
	CAFile       string `json:"caFile"`
	// Thumbprint is the SHA-256 of the certificate.
	Thumbprint string `json:"thumbprint"`
	// Control is the socket of the proxy, see proxy.Client. It also answers GET /guests.
	Control string `json:"control"`
	// Inventory is an inventory of two clusters on the vCenter.
	Inventory string `json:"inventory"`

	Datacenter       string `json:"datacenter"`
	Cluster          string `json:"cluster"`
	Datastore        string `json:"datastore"`
	DatastoreCluster string `json:"datastoreCluster"`
	Network          string `json:"network"`
	Template         string `json:"template"`
}

// Status is the state and what is going on.
type Status struct {
	State
	Runs   bool         `json:"runs"`
	Proxy  proxy.Status `json:"proxy"`
	Guests []Guest      `json:"guests"`
}

// ErrDown says that no vCenter runs there.
var ErrDown = errors.New("no vCenter runs here (`lab vsphere up` starts one)")

func path(dir string, parts ...string) string {
	return filepath.Join(append([]string{dir, "vsphere"}, parts...)...)
}

// Up makes the lab and starts the vCenter, with nothing in it but what newModel says: it remembers nothing over restarts. One that
// runs is left alone.
func Up(ctx context.Context, o Options) (Status, error) {
	if s, err := Open(ctx, o.Dir); err == nil {
		return s, nil
	} else if !errors.Is(err, ErrDown) {
		return Status{}, err
	}
	l, err := hosts.Up(ctx, hosts.Options{
		Dir: o.Dir, Name: o.Name, Subnet: o.Subnet, Guests: room, Bundle: o.Bundle, Kubernetes: o.Kubernetes, Platform: hosts.PlatformOff, Log: o.Log,
	})
	if err != nil {
		return Status{}, err
	}
	dir := l.Dir()
	if err := os.MkdirAll(path(dir), 0o700); err != nil {
		return Status{}, err
	}
	if err := os.Remove(path(dir, "state.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Status{}, err
	}
	var secret [16]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return Status{}, err
	}
	if err := os.WriteFile(path(dir, "password"), []byte(hex.EncodeToString(secret[:])), 0o600); err != nil {
		return Status{}, err
	}
	ended, err := spawn(dir, o)
	if err != nil {
		return Status{}, err
	}
	const patience = 60 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		s, err := Open(ctx, dir)
		if err == nil {
			o.Log("the vCenter answers at " + s.URL)
			return s, nil
		}
		select {
		case <-ended:
			return Status{}, fmt.Errorf("the vCenter ended; %s says why", path(dir, "log"))
		case <-ctx.Done():
			return Status{}, fmt.Errorf("the vCenter does not answer after %s: %w; see %s", patience, err, path(dir, "log"))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// spawn starts the vCenter's process, detached from this one and its terminal. It is a copy of this program that lies in the lab's
// folder, so that whatever takes the lab down finds it.
func spawn(dir string, o Options) (ended <-chan struct{}, err error) {
	out, err := os.OpenFile(path(dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()
	cmd := &exec.Cmd{
		Path: filepath.Join(dir, "bin", "lab"), Args: []string{processName, dir, o.Name, o.Subnet.String()}, Dir: "/",
		Env: append(os.Environ(), "TMPDIR="+path(dir)), // the simulator's datastores are folders there
		// a pipe would end with this process
		Stdout: out, Stderr: out,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the vCenter: %w", err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its log says how it ended
		close(done)
	}()
	return done, nil
}

// Open reads the state of a lab's vCenter and asks it. It returns ErrDown when none runs.
func Open(ctx context.Context, dir string) (Status, error) {
	var s Status
	dir, err := filepath.Abs(dir)
	if err != nil {
		return s, err
	}
	data, err := os.ReadFile(path(dir, "state.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("%s: %w", dir, ErrDown)
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(data, &s.State); err != nil {
		return s, fmt.Errorf("%s: %w", path(dir, "state.json"), err)
	}
	if !s.Process.Alive() {
		return s, fmt.Errorf("%s: %w", dir, ErrDown)
	}
	s.Runs = true
	c := proxy.Client{Socket: s.Control}
	if s.Proxy, err = c.Status(ctx); err != nil {
		return s, err
	}
	return s, c.Get(ctx, "/guests", &s.Guests)
}

// Down ends the vCenter, then the lab with all that it has, disks too: without the vCenter nobody knows what they were for.
func Down(ctx context.Context, dir, name string, log func(string)) error {
	s, err := Open(ctx, dir)
	if err != nil && !errors.Is(err, ErrDown) {
		log(err.Error())
	}
	if s.Process.Alive() {
		if err := s.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, process.ErrGone) {
			return err
		}
		patience, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if err := s.Process.Wait(patience); err != nil {
			log("the vCenter does not end by itself")
			if err := s.Process.End(10 * time.Second); err != nil {
				return err
			}
		}
	}
	if err := hosts.Down(ctx, dir, name, true, log); err != nil {
		return err
	}
	if err := os.RemoveAll(path(dir)); err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		return err
	}
	return nil
}
