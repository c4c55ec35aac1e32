// Package rootfs builds the root file system that all hosts share as their lower layer: a small Debian with systemd and
// sshd, changed where a system container differs from a machine.
package rootfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// suite is the Debian release of the hosts.
const suite = "bookworm"

// packages are what a minimal server has, and what Kubernetes asks of a node. No udev: it would act on the machine's
// devices. No curl: nothing that runs on a host may need it.
var packages = []string{
	"systemd", "systemd-sysv", "dbus", "openssh-server", "sudo",
	"iproute2", "iptables", "nftables", "conntrack", "ethtool", "socat", "iputils-ping", "netbase",
	"kmod", "util-linux", "mount", "procps", "less", "ca-certificates", "libseccomp2",
}

// masked are units that make no sense in a system container, or would start work at a time of their own.
var masked = []string{
	"console-getty.service", "getty@.service", "systemd-udevd.service", "systemd-modules-load.service",
	"systemd-ask-password-console.path", "systemd-ask-password-wall.path",
	"sys-kernel-debug.mount", "sys-kernel-tracing.mount", // the machine's, and writable
	"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer",
}

// links below /etc/systemd/system.
var links = map[string]string{
	"sysinit.target.wants/lab-host.service": "../lab-host.service",
	"default.target":                        "/lib/systemd/system/multi-user.target",
}

// modes of embedded files that are not 0644.
var modes = map[string]os.FileMode{
	"usr/local/sbin/lab-host": 0o755,
	"etc/sudoers.d/ops":       0o440,
}

// User is the login user beside root; sudo asks it for no password.
const User = "ops"

// addUser runs while the system is made.
const addUser = `chroot "$1" useradd --create-home --shell /bin/bash ` + User

//go:embed all:files
var files embed.FS

// digest names a layer by what it is made from.
func digest(parts ...any) string {
	h := sha256.New()
	for _, p := range parts {
		_, _ = fmt.Fprintf(h, "%q\n", p) // a hash takes everything; a map prints in the order of its keys
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// Cache is where root file systems are kept: $CATAMARAN_LAB_CACHE, or else catamaran-lab in the user's cache folder.
func Cache() (string, error) {
	if dir := os.Getenv("CATAMARAN_LAB_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no folder for the cache: %w; set CATAMARAN_LAB_CACHE", err)
	}
	return filepath.Join(dir, "catamaran-lab"), nil
}

// Ensure returns the root file system as the lower layers of an overlay, the upper one first, and builds in cache what is
// not there. Layers must not be changed while hosts run on them.
func Ensure(ctx context.Context, cache string, log func(string)) ([]string, error) {
	// the packages' versions are not in the name: a layer stays in use until the cache is emptied
	debian := filepath.Join(cache, "rootfs", "debian-"+digest(suite, packages, addUser))
	err := ensure(ctx, debian, func(dir string) error {
		log("building the hosts' root file system (Debian " + suite + "), once; about a minute")
		return build(ctx, dir)
	})
	if err != nil {
		return nil, err
	}
	content, err := embedded()
	if err != nil {
		return nil, err
	}
	changes := filepath.Join(cache, "rootfs", "changes-"+digest(content, modes, masked, links))
	err = ensure(ctx, changes, func(dir string) error { return adjust(dir, content) })
	return []string{changes, debian}, err
}

// ensure makes a folder of the cache, or finds it made. It appears under its name when it is complete.
func ensure(ctx context.Context, dir string, fill func(dir string) error) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	unlock, err := lock(ctx, dir+".lock")
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return nil // somebody else made it meanwhile
	}
	fresh := dir + ".new"
	if err := os.RemoveAll(fresh); err != nil { // of a build that was cut off
		return err
	}
	if err := fill(fresh); err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	return os.Rename(fresh, dir)
}

// embedded are the embedded files by their path on a host.
func embedded() (map[string]string, error) {
	out := map[string]string{}
	err := fs.WalkDir(files, "files", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := files.ReadFile(path)
		out[strings.TrimPrefix(path, "files/")] = string(data)
		return err
	})
	return out, err
}

func build(ctx context.Context, dir string) error {
	cmd := exec.CommandContext(ctx, "mmdebstrap", "--quiet", "--variant=minbase", "--include="+strings.Join(packages, ","),
		"--aptopt=Acquire::Languages \"none\"",
		"--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
		"--customize-hook="+addUser, suite, dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	// it undoes its mounts when it is asked to end
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%s: %w\n%s\nis the Debian mirror reachable?", strings.Join(cmd.Args, " "), err, tail(out.Bytes(), 4096))
	}
	return anonymize(dir)
}

// anonymize removes what makes a machine that machine: it is given to each host.
func anonymize(dir string) error {
	keys, err := filepath.Glob(filepath.Join(dir, "etc/ssh/ssh_host_*"))
	if err != nil {
		return err
	}
	for _, f := range append(keys, filepath.Join(dir, "etc/machine-id"), filepath.Join(dir, "var/lib/dbus/machine-id"), filepath.Join(dir, "etc/hostname")) {
		if err := os.RemoveAll(f); err != nil {
			return err
		}
	}
	return nil
}

// adjust makes the layer that turns the distribution into a host's.
func adjust(dir string, content map[string]string) error {
	for rel, text := range content {
		mode, ok := modes[rel]
		if !ok {
			mode = 0o644
		}
		path := filepath.Join(dir, rel)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := errors.Join(os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil { // whatever the umask is
			return err
		}
	}
	units := filepath.Join(dir, "etc/systemd/system")
	for _, u := range masked {
		if err := os.Symlink("/dev/null", filepath.Join(units, u)); err != nil {
			return err
		}
	}
	for path, target := range links {
		path = filepath.Join(units, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(target, path); err != nil {
			return err
		}
	}
	return nil
}

// lock waits for the build lock, so that two labs build one root file system once.
func lock(ctx context.Context, path string) (func(), error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil // whoever waits for it tries again
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func tail(b []byte, n int) string {
	if len(b) > n {
		b = b[len(b)-n:]
	}
	return string(b)
}
