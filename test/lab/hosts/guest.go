package hosts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/catamaran-k8s/catamaran/test/lab/hosts/rootfs"
)

// Guests are hosts that come and go while the lab is up, because somebody else says so: a cloud whose servers they are. Such a host
// has no user of the lab's but root, and on its disk is what its seed says.

// Seed is what a guest finds on its fresh disk.
type Seed struct {
	// HostKey is the ed25519 private key of its SSH server, in OpenSSH's form; empty: it gets one of its own.
	HostKey string     `json:"hostKey,omitempty"`
	Users   []SeedUser `json:"users,omitempty"`
	Files   []SeedFile `json:"files,omitempty"`
	// Commands is a shell script that runs once, at the end of the first boot.
	Commands string `json:"commands,omitempty"`
}

// SeedUser is a login user. Nobody has a password.
type SeedUser struct {
	Name  string `json:"name"`
	Shell string `json:"shell,omitempty"` // default /bin/bash
	// Groups that the user is in besides the own one.
	Groups []string `json:"groups,omitempty"`
	// Sudo are rules of sudoers without the name, such as ALL=(ALL) NOPASSWD:ALL.
	Sudo []string `json:"sudo,omitempty"`
	// AuthorizedKeys are public keys that may log in.
	AuthorizedKeys []string `json:"authorizedKeys,omitempty"`
}

// SeedFile is a file.
type SeedFile struct {
	Path    string      `json:"path"` // absolute
	Mode    os.FileMode `json:"mode"`
	Owner   string      `json:"owner,omitempty"` // USER or USER:GROUP; default root:root
	Content []byte      `json:"content"`
}

// guestName is also a folder's name, a part of mount options and a container's name.
var guestName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`)

// Add makes a guest known to the lab in dir; Start boots it. Its name must be free and its address in the lab's network and free. Only
// one process may add and remove guests, one at a time.
func Add(dir string, h Host, seed Seed) error {
	l, err := Open(dir)
	if err != nil {
		return err
	}
	switch {
	case !guestName.MatchString(h.Name):
		return fmt.Errorf("guest %q: a name has letters, digits, dots and hyphens, at most 63", h.Name)
	case !guestName.MatchString(h.Hostname):
		return fmt.Errorf("guest %s: %q is no host name", h.Name, h.Hostname)
	case !l.state.Subnet.Contains(h.Address) || h.Address == l.bridge().Gateway() || h.Address == l.state.Subnet.Masked().Addr():
		return fmt.Errorf("guest %s: the address %s is not one of the lab's network %s: a host is plugged into that network alone", h.Name, h.Address, l.state.Subnet)
	}
	for _, other := range l.state.Hosts {
		if other.Name == h.Name {
			return fmt.Errorf("guest %s: there is a host of that name", h.Name)
		}
		if other.Address == h.Address {
			return fmt.Errorf("guest %s: %s has the address %s already", h.Name, other.Name, h.Address)
		}
		if l.link(other.Name) == l.link(h.Name) {
			return fmt.Errorf("guest %s: its interface would have the name of %s's", h.Name, other.Name)
		}
	}
	if err := os.RemoveAll(l.hostDir(h.Name)); err != nil { // of an Add that was cut off
		return err
	}
	identity := l.hostDir(h.Name, "identity")
	if err := os.MkdirAll(identity, 0o700); err != nil {
		return err
	}
	if seed.HostKey != "" {
		signer, err := ssh.ParsePrivateKey([]byte(seed.HostKey))
		if err != nil {
			return fmt.Errorf("guest %s: its SSH host key: %w", h.Name, err)
		}
		path := filepath.Join(identity, "ssh_host_ed25519_key")
		if err := writeFile(path, []byte(seed.HostKey), 0o600); err != nil {
			return err
		}
		if err := writeFile(path+".pub", ssh.MarshalAuthorizedKey(signer.PublicKey()), 0o644); err != nil {
			return err
		}
	}
	if err := l.ensureIdentity(h.Name); err != nil {
		return err
	}
	data, err := json.Marshal(seed)
	if err != nil {
		return err
	}
	if err := writeFile(l.hostDir(h.Name, "seed.json"), data, 0o600); err != nil {
		return err
	}
	l.state.Hosts = append(l.state.Hosts, h)
	if err := l.save(); err != nil {
		return err
	}
	return l.writeKnownHosts()
}

// Remove cuts a guest's power and removes its disk; one that is not there is fine.
func Remove(ctx context.Context, dir, name string) error {
	l, err := Open(dir)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(l.state.Hosts, func(h Host) bool { return h.Name == name })
	if i < 0 {
		return nil
	}
	if !l.state.Hosts[i].Guest() {
		return fmt.Errorf("%s is no guest", name)
	}
	if err := l.Kill(ctx, name); err != nil {
		return err
	}
	l.state.Hosts = slices.Delete(l.state.Hosts, i, i+1)
	// first the list: a folder that is in no list is removed by the next Add of the name, and by purge
	if err := errors.Join(l.save(), l.writeKnownHosts()); err != nil {
		return err
	}
	return os.RemoveAll(l.hostDir(name))
}

// Hold keeps `up` and `down` from changing the lab as a whole until release is called or the process ends.
func (l *Lab) Hold() (release func(), err error) { return l.lockLab(false) }

// Runs says whether the host is on.
func (l *Lab) Runs(host string) (bool, error) {
	s, err := l.supervision(host)
	return s.Supervisor.Alive(), err
}

// Console is the file that has what the host's console showed since it was started.
func (l *Lab) Console(host string) string { return l.hostDir(host, "console.log") }

// installSeed puts a guest's seed on its disk, which is mounted at root.
func (l *Lab) installSeed(h Host, root string) error {
	data, err := os.ReadFile(l.hostDir(h.Name, "seed.json"))
	if err != nil {
		return err
	}
	var seed Seed
	if err := json.Unmarshal(data, &seed); err != nil {
		return fmt.Errorf("%s: seed.json: %w", h.Name, err)
	}
	// the lab's own user is not one of a cloud image
	if err := inDisk(root, "userdel", "--remove", rootfs.User); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(root, "etc/sudoers.d", rootfs.User)); err != nil {
		return err
	}
	for _, u := range seed.Users {
		if err := u.install(root); err != nil {
			return fmt.Errorf("%s: user %s: %w", h.Name, u.Name, err)
		}
	}
	for _, f := range seed.Files {
		if err := f.install(root); err != nil {
			return fmt.Errorf("%s: file %s: %w", h.Name, f.Path, err)
		}
	}
	if seed.Commands == "" {
		return nil
	}
	const unit = "[Unit]\nDescription=Commands of the first boot\nAfter=network.target ssh.service\n" +
		"ConditionPathExists=!/var/lib/lab/commands.done\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/var/lib/lab/commands\n" +
		"ExecStartPost=/bin/touch /var/lib/lab/commands.done\n\n[Install]\nWantedBy=multi-user.target\n"
	for _, f := range []diskFile{
		{"var/lib/lab/commands", 0o700, 0, 0, []byte(seed.Commands)},
		{"etc/systemd/system/lab-commands.service", 0o644, 0, 0, []byte(unit)},
	} {
		if err := f.write(root); err != nil {
			return err
		}
	}
	wants := filepath.Join(root, "etc/systemd/system/multi-user.target.wants")
	if err := os.MkdirAll(wants, 0o755); err != nil {
		return err
	}
	return os.Symlink("../lab-commands.service", filepath.Join(wants, "lab-commands.service"))
}

func (u SeedUser) install(root string) error {
	home, uid, gid := "root", 0, 0
	if u.Name != "root" {
		shell := u.Shell
		if shell == "" {
			shell = "/bin/bash"
		}
		args := []string{"--create-home", "--shell", shell}
		if len(u.Groups) > 0 {
			for _, g := range u.Groups {
				if err := inDisk(root, "groupadd", "--force", g); err != nil {
					return err
				}
			}
			args = append(args, "--groups", strings.Join(u.Groups, ","))
		}
		if err := inDisk(root, "useradd", append(args, "--", u.Name)...); err != nil {
			return err
		}
		var err error
		if uid, gid, err = lookup(filepath.Join(root, "etc/passwd"), u.Name); err != nil {
			return err
		}
		home = "home/" + u.Name
	}
	if len(u.AuthorizedKeys) > 0 {
		keys := strings.Join(u.AuthorizedKeys, "\n") + "\n"
		path := home + "/.ssh/authorized_keys"
		if u.Name == "root" { // the lab's own key stays
			have, err := os.ReadFile(filepath.Join(root, path))
			if err != nil {
				return err
			}
			keys = string(have) + keys
		}
		if err := (diskFile{path, 0o600, uid, gid, []byte(keys)}).write(root); err != nil {
			return err
		}
	}
	if len(u.Sudo) == 0 {
		return nil
	}
	var rules strings.Builder
	for _, rule := range u.Sudo {
		fmt.Fprintf(&rules, "%s %s\n", u.Name, rule)
	}
	// sudo reads no file with a dot in its name
	return diskFile{"etc/sudoers.d/user-" + strings.ReplaceAll(u.Name, ".", "_"), 0o440, 0, 0, []byte(rules.String())}.write(root)
}

func (f SeedFile) install(root string) error {
	uid, gid := 0, 0
	if owner, _, _ := strings.Cut(f.Owner, ":"); owner != "" && owner != "root" {
		var err error
		if uid, gid, err = lookup(filepath.Join(root, "etc/passwd"), owner); err != nil {
			return err
		}
	}
	return diskFile{strings.TrimPrefix(filepath.Clean(f.Path), "/"), f.Mode, uid, gid, f.Content}.write(root)
}

// inDisk runs a program of the disk's own on it.
func inDisk(root, program string, args ...string) error {
	cmd := exec.Command("chroot", append([]string{root, program}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, bytes.TrimSpace(out))
	}
	return nil
}
