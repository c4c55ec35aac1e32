package openstack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/catamaran-k8s/catamaran/test/lab/hosts/rootfs"
)

// packages are installed: libraries, and servers that other packages start.
var packages = []string{
	"python3-keystone", "python3-glance", "python3-placement", "python3-neutron", "python3-nova", "python3-cinder", "python3-pymysql",
	"uwsgi-core", "uwsgi-plugin-python3", "rabbitmq-server", "mariadb-server-core", "mariadb-client-core",
}

// unpacked are the daemons' packages, of which only programs and configurations are wanted: no users, no questions, no units.
var unpacked = []string{
	"nova-common", "nova-api", "nova-compute", "nova-conductor", "nova-scheduler", "neutron-common", "glance-common", "glance-api",
	"cinder-common", "cinder-api", "cinder-volume", "cinder-scheduler",
}

// Install brings what the machine lacks, from Debian's packages.
func Install(ctx context.Context, log func(string), out io.Writer) error {
	missing := lacking()
	if len(missing) > 0 {
		log("installing OpenStack's libraries, about 340 packages, 130 MB to fetch")
		if err := aptInstall(ctx, missing, out); err != nil {
			return err
		}
	}
	dir, err := extracted()
	if err != nil {
		return err
	}
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	log("unpacking the daemons' packages to " + dir)
	fresh := dir + ".new"
	if err := errors.Join(os.RemoveAll(fresh), os.MkdirAll(filepath.Join(fresh, "debs"), 0o755)); err != nil {
		return err
	}
	if err := command(ctx, filepath.Join(fresh, "debs"), out, "apt-get", append([]string{"download"}, unpacked...)...); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(fresh, "debs", "*.deb"))
	if err != nil {
		return err
	}
	if len(debs) != len(unpacked) {
		return fmt.Errorf("apt-get download brought %d packages of %d", len(debs), len(unpacked))
	}
	for _, deb := range debs {
		if err := command(ctx, fresh, out, "dpkg-deb", "--extract", deb, fresh); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(filepath.Join(fresh, "debs")); err != nil {
		return err
	}
	return os.Rename(fresh, dir)
}

// Installed says whether Install has nothing to do.
func Installed() error {
	if missing := lacking(); len(missing) > 0 {
		return fmt.Errorf("the machine lacks %s: `lab openstack install` brings them", strings.Join(missing, ", "))
	}
	dir, err := extracted()
	if err == nil {
		if _, serr := os.Stat(dir); serr != nil {
			err = errors.New("the daemons' packages are not unpacked: run `lab openstack install`")
		}
	}
	return err
}

// lacking are the packages that are not installed.
func lacking() []string {
	var out []string
	have := versions(packages)
	for _, p := range packages {
		if have[p] == "" {
			out = append(out, p)
		}
	}
	return out
}

// versions are those of the packages that are installed.
func versions(names []string) map[string]string {
	// it fails when one is not known, and still tells about the others
	data, _ := exec.Command("dpkg-query", append([]string{"-W", "-f", "${Package} ${db:Status-Status} ${Version}\n"}, names...)...).Output()
	out := map[string]string{}
	for _, l := range strings.Split(string(data), "\n") {
		if f := strings.Fields(l); len(f) == 3 && f[1] == "installed" {
			out[f[0]] = f[2]
		}
	}
	return out
}

// extracted is where the daemons' packages lie unpacked, named by what they are and what they must fit.
func extracted() (string, error) {
	cache, err := rootfs.Cache()
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "openstack", "daemons-"+digest(strings.Join(unpacked, " "), fmt.Sprint(versions(packages)))), nil
}

func digest(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		_, _ = fmt.Fprintf(h, "%q\n", p) // a hash takes everything
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// aptInstall installs packages and sees to it that none of them starts a service.
func aptInstall(ctx context.Context, names []string, out io.Writer) (err error) {
	const policy = "/usr/sbin/policy-rc.d"
	if _, serr := os.Stat(policy); errors.Is(serr, fs.ErrNotExist) {
		if err := os.WriteFile(policy, []byte("#!/bin/sh\nexit 101\n"), 0o755); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.Remove(policy)) }()
	}
	// an installation that was cut off is ended first: apt-get refuses to go on otherwise
	if err := command(ctx, "/", out, "dpkg", "--force-unsafe-io", "--configure", "-a"); err != nil {
		return err
	}
	if err := command(ctx, "/", out, "apt-get", "-q", "update"); err != nil {
		return err
	}
	// nothing is lost that can not be installed again: no sync after each file
	args := []string{"-q", "-y", "-o", "DPkg::Lock::Timeout=600", "-o", "Dpkg::Options::=--force-unsafe-io", "install", "--no-install-recommends"}
	return command(ctx, "/", out, "apt-get", slices.Concat(args, names)...)
}

// command runs a program of Debian's; an error has the end of what it said.
func command(ctx context.Context, dir string, out io.Writer, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&said, out), io.MultiWriter(&said, out)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, tail(said.Bytes()))
	}
	return nil
}

// tail is the end of what a program said, for messages.
func tail(data []byte) string {
	const enough = 3000
	return string(bytes.TrimSpace(data[max(0, len(data)-enough):]))
}
