package hosts

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/catamaran-k8s/catamaran/test/lab/hosts/rootfs"
)

// direct are folders of a host that lie on the machine's file system itself, not on the overlay: containerd makes
// overlays of its own there, which the kernel refuses on top of an overlay, and etcd wants a real fsync.
var direct = map[string]string{
	"containerd": "/var/lib/containerd",
	"kubelet":    "/var/lib/kubelet",
	"etcd":       "/var/lib/etcd",
	"log":        "/var/log",
}

// A host's disk is disk/upper (over the shared root file system), disk/work (the kernel's) and disk/data/NAME (direct).
// disk/installed exists once the host's own files are on it.

// mountDisk mounts a host's disk in this process's mount namespace and returns the mount point.
func (l *Lab) mountDisk(h Host) (string, error) {
	disk := l.hostDir(h.Name, "disk")
	root := l.hostDir(h.Name, "root")
	for _, d := range []string{disk + "/upper", disk + "/work", disk + "/data", root} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return "", err
		}
	}
	for name := range direct {
		if err := os.MkdirAll(filepath.Join(disk, "data", name), 0o755); err != nil {
			return "", err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", strings.Join(l.state.Rootfs, ":"), disk, disk)
	if err := unix.Mount("lab-"+h.Name, root, "overlay", 0, options); err != nil {
		return "", fmt.Errorf("mount -t overlay -o %s %s: %w; a lab can not lie on an overlay itself: choose another --dir", options, root, err)
	}
	return root, nil
}

// diskFile is a file of a host's own.
type diskFile struct {
	path     string // without the leading slash
	mode     os.FileMode
	uid, gid int
	content  []byte
}

// install puts the host's own files on a fresh disk: name, addresses, keys, and what a guest's user data asks for.
func (l *Lab) install(h Host, root string) error {
	done := l.hostDir(h.Name, "disk", "installed")
	if _, err := os.Stat(done); err == nil {
		return nil
	}
	login, err := os.ReadFile(l.KeyFile() + ".pub")
	if err != nil {
		return err
	}
	files := []diskFile{
		{"etc/hostname", 0o644, 0, 0, []byte(h.hostname() + "\n")},
		{"etc/hosts", 0o644, 0, 0, []byte(fmt.Sprintf("127.0.0.1 localhost\n::1 localhost ip6-localhost\n%s %s\n", h.Address, h.hostname()))},
		// nobody answers there: the lab has no name server and no way out
		{"etc/resolv.conf", 0o644, 0, 0, []byte(fmt.Sprintf("nameserver %s\n", l.bridge().Gateway()))},
		{"root/.ssh/authorized_keys", 0o600, 0, 0, login},
	}
	if !h.Guest() {
		uid, gid, err := lookup(filepath.Join(root, "etc/passwd"), rootfs.User)
		if err != nil {
			return err
		}
		files = append(files, diskFile{"home/" + rootfs.User + "/.ssh/authorized_keys", 0o600, uid, gid, login})
	}
	for path, mode := range map[string]os.FileMode{
		"etc/machine-id": 0o444, "etc/ssh/ssh_host_ed25519_key": 0o600, "etc/ssh/ssh_host_ed25519_key.pub": 0o644,
	} {
		data, err := os.ReadFile(l.hostDir(h.Name, "identity", filepath.Base(path)))
		if err != nil {
			return err
		}
		files = append(files, diskFile{path, mode, 0, 0, data})
	}
	for _, f := range files {
		if err := f.write(root); err != nil {
			return err
		}
	}
	if h.Guest() {
		if err := l.installSeed(h, root); err != nil {
			return err
		}
	}
	return writeFile(done, nil, 0o644)
}

// write puts the file on a disk that is mounted at root, with the folders that it lacks.
func (f diskFile) write(root string) error {
	path := filepath.Join(root, f.path)
	dir := filepath.Dir(path)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	mode := os.FileMode(0o755)
	if filepath.Base(dir) == ".ssh" {
		mode = 0o700
	}
	if err := os.Mkdir(dir, mode); err == nil {
		if err := os.Chown(dir, f.uid, f.gid); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.RemoveAll(path); err != nil { // a link of the distribution's
		return err
	}
	return errors.Join(os.WriteFile(path, f.content, f.mode), os.Chmod(path, f.mode), os.Chown(path, f.uid, f.gid))
}

// lookup finds a user in a passwd file that is not the machine's.
func lookup(passwd, user string) (uid, gid int, err error) {
	data, err := os.ReadFile(passwd)
	if err != nil {
		return 0, 0, err
	}
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		f := strings.Split(s.Text(), ":")
		if len(f) < 4 || f[0] != user {
			continue
		}
		uid, err := strconv.Atoi(f[2])
		gid, gerr := strconv.Atoi(f[3])
		return uid, gid, errors.Join(err, gerr)
	}
	return 0, 0, fmt.Errorf("%s: no user %s", passwd, user)
}
