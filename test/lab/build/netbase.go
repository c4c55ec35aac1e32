package build

import (
	"context"
	"debug/elf"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// The userland of kube-proxy, flannel and the tools image comes from Debian, whatever this machine runs: the packages'
// newest versions in the suite at the time of the first call, checked by apt against the archive's key.
const (
	debianArchive = "http://deb.debian.org/debian"
	debianSuite   = "bookworm"
	debianKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
)

// debianPackages lists every package by name; there is no resolver at work. A library that is missing here fails the build by name.
func debianPackages() []string {
	return []string{
		"busybox-static",
		"conntrack", "iptables", "nftables",
		"netbase", // /etc/protocols, /etc/services
		"libc6",
		// libraries of iptables, of the plugins that it loads at run time, and of conntrack
		"libmnl0", "libnetfilter-conntrack3", "libnfnetlink0", "libnftnl11", "libxtables12",
		// libraries of nft
		"libedit2", "libbsd0", "libgmp10", "libjansson4", "libmd0", "libnftables1", "libtinfo6",
	}
}

//go:embed netbase.go
var netbaseSource string

// netbase is the folder of two small roots out of Debian packages: shell/ (busybox alone) and net/ (iptables, nft,
// conntrack with every library that they need or load, and no more).
func (b *builder) netbase(ctx context.Context) (string, error) {
	k := newKey("netbase", netbaseSource, b.mirror, runtime.GOARCH)
	dir, _, err := b.store.entry(ctx, "netbase/"+debianSuite, k, func(dir string) error {
		b.log("fetching %d packages of Debian %s", len(debianPackages()), debianSuite)
		work, err := os.MkdirTemp(filepath.Dir(dir), "apt-*")
		if err != nil {
			return err
		}
		return errors.Join(b.makeNetbase(ctx, work, dir), os.RemoveAll(work))
	})
	if err != nil {
		return "", fmt.Errorf("netbase: %w", err)
	}
	return dir, nil
}

func (b *builder) makeNetbase(ctx context.Context, work, dir string) error {
	root := filepath.Join(work, "root")
	if err := b.unpackDebs(ctx, work, root); err != nil {
		return err
	}
	busybox := filepath.Join(dir, "shell", "usr", "bin", "busybox")
	if err := copyFile(filepath.Join(root, "bin", "busybox"), busybox); err != nil {
		return err
	}
	return netRoot(root, filepath.Join(dir, "net"))
}

// unpackDebs downloads with apt, on lists of its own, so that it neither depends on this machine's nor changes them.
func (b *builder) unpackDebs(ctx context.Context, work, root string) error {
	for _, d := range []string{"lists/partial", "cache/archives/partial", "debs"} {
		if err := os.MkdirAll(filepath.Join(work, d), 0o755); err != nil {
			return err
		}
	}
	sources := fmt.Sprintf("deb [arch=%s signed-by=%s] %s %s main\n", runtime.GOARCH, debianKeyring, b.mirror, debianSuite)
	if err := os.WriteFile(filepath.Join(work, "sources.list"), []byte(sources), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(work, "status"), nil, 0o644); err != nil {
		return err
	}
	apt := func(args ...string) error {
		options := []string{
			"Dir::State=" + work, "Dir::State::lists=" + work + "/lists", "Dir::State::status=" + work + "/status",
			"Dir::Cache=" + work + "/cache", "Dir::Etc::sourcelist=" + work + "/sources.list", "Dir::Etc::sourceparts=-",
			"APT::Architecture=" + runtime.GOARCH, "APT::Sandbox::User=", "Acquire::Languages=none", "APT::Update::Error-Mode=any",
		}
		for _, o := range options {
			args = append(args, "-o", o)
		}
		cmd := group(exec.CommandContext(ctx, "apt-get", args...))
		cmd.Dir = filepath.Join(work, "debs")
		return run(ctx, cmd)
	}
	if err := apt("update"); err != nil {
		return err
	}
	if err := apt(append([]string{"download"}, debianPackages()...)...); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(work, "debs", "*.deb"))
	if err != nil || len(debs) != len(debianPackages()) {
		return errors.Join(fmt.Errorf("apt-get brought %d of %d packages", len(debs), len(debianPackages())), err)
	}
	for _, d := range debs {
		cmd := group(exec.CommandContext(ctx, "dpkg-deb", "--extract", d, root))
		if err := run(ctx, cmd); err != nil {
			return err
		}
	}
	return nil
}

// netRoot picks the programs and what they need out of an unpacked root. Everything goes below usr, where the shell layer's
// links point.
func netRoot(from, to string) error {
	libs, err := indexLibraries(from)
	if err != nil {
		return err
	}
	start := []string{"usr/sbin/xtables-nft-multi", "usr/sbin/nft", "usr/sbin/conntrack"}
	plugins, err := filepath.Glob(filepath.Join(from, libs.dir("usr/lib"), "xtables", "*.so"))
	if err != nil || len(plugins) == 0 {
		return errors.Join(errors.New("the iptables package has no plugins"), err)
	}
	for _, p := range plugins {
		name, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		start = append(start, name)
	}
	needed, loaders, err := libs.closure(start)
	if err != nil {
		return err
	}
	for _, name := range start {
		if err := copyFile(filepath.Join(from, resolve(from, name)), filepath.Join(to, name)); err != nil {
			return err
		}
	}
	for soname, file := range needed {
		if err := copyFile(filepath.Join(from, file), filepath.Join(to, libs.dir("usr/lib"), soname)); err != nil {
			return err
		}
	}
	links := map[string]string{}
	for _, l := range loaders {
		links[path.Join("usr", l)] = "/" + path.Join(libs.dir("usr/lib"), path.Base(l))
	}
	for _, n := range []string{"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"} {
		links["usr/sbin/"+n] = "xtables-nft-multi"
	}
	for name, target := range links {
		if err := os.MkdirAll(filepath.Join(to, path.Dir(name)), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(target, filepath.Join(to, name)); err != nil {
			return err
		}
	}
	for _, name := range []string{"etc/protocols", "etc/services"} {
		if err := copyFile(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
			return err
		}
	}
	return nil
}

// libraries are the shared libraries of a root, by the name that programs ask for.
type libraries struct {
	root    string
	triplet string // x86_64-linux-gnu
	files   map[string]string
}

func (l libraries) dir(lib string) string { return path.Join(lib, l.triplet) }

func indexLibraries(root string) (libraries, error) {
	triplet, ok := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[runtime.GOARCH]
	if !ok {
		return libraries{}, fmt.Errorf("the lab does not know Debian's library folder for %s", runtime.GOARCH)
	}
	l := libraries{root: root, triplet: triplet, files: map[string]string{}}
	for _, dir := range []string{l.dir("usr/lib"), l.dir("lib")} {
		entries, err := os.ReadDir(filepath.Join(root, dir))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return libraries{}, err
		}
		for _, e := range entries {
			if strings.Contains(e.Name(), ".so") {
				l.files[e.Name()] = resolve(root, path.Join(dir, e.Name()))
			}
		}
	}
	return l, nil
}

// closure follows what programs and libraries need to the end. loaders are the paths of the dynamic loaders that programs name.
func (l libraries) closure(start []string) (needed map[string]string, loaders []string, err error) {
	needed = map[string]string{}
	var missing []string
	queue := slices.Clone(start)
	for len(queue) > 0 {
		file := queue[0]
		queue = queue[1:]
		names, loader, err := dynamic(filepath.Join(l.root, resolve(l.root, file)))
		if err != nil {
			return nil, nil, err
		}
		if loader != "" && !slices.Contains(loaders, loader) {
			loaders = append(loaders, loader)
			names = append(names, path.Base(loader))
		}
		for _, n := range names {
			if _, have := needed[n]; have {
				continue
			}
			if l.files[n] == "" {
				missing = append(missing, n+" (for "+file+")")
				continue
			}
			needed[n] = l.files[n]
			queue = append(queue, l.files[n])
		}
	}
	if len(missing) > 0 {
		return nil, nil, fmt.Errorf("no package of the list has %s", strings.Join(missing, ", "))
	}
	return needed, loaders, nil
}

// dynamic reads which libraries an ELF file needs, and which loader starts it.
func dynamic(file string) (names []string, loader string, err error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", file, err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	if names, err = f.ImportedLibraries(); err != nil {
		return nil, "", fmt.Errorf("%s: %w", file, err)
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		data, err := io.ReadAll(p.Open())
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", file, err)
		}
		loader = strings.TrimRight(string(data), "\x00")
	}
	return names, loader, nil
}

// resolve follows links inside a root, where an absolute one starts at the root.
func resolve(root, name string) string {
	for range 16 {
		target, err := os.Readlink(filepath.Join(root, name))
		if err != nil {
			return name
		}
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(name), target)
		}
		name = path.Clean("/" + target)[1:]
	}
	return name
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // it was only read
	st, err := in.Stat()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, st.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
