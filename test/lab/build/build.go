// Package build makes what the lab's hosts run, from pinned Go modules and a handful of Debian packages: the programs of a
// node, the container images, and out of both a bundle in the product's own format.
//
// The programs and images of the compliance platform are made only where they are asked for (Options.Platform).
//
// Everything is kept in a cache, by the content that it was made from (store.go): a second call builds nothing. Nothing
// is ever removed from it; it is safe to delete the folder.
//
// What is real and what is not: all programs are upstream's own code at the pinned version, except kube-vip, pause, fluentd,
// falco and the wget and nslookup of the busybox image, which are stand-ins (test/lab/standin says what each of them
// proves), and the ingest gateway, which is this repository's. Images carry upstream's names and are put together here, so
// their digests are not upstream's.
//
// The machine needs: go (newer toolchains are fetched by it where a module asks), gcc, libseccomp-dev, apt-get, dpkg-deb and
// debian-archive-keyring; the Go module proxy and the Debian archive for the first call.
package build

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Options say what to build and where.
type Options struct {
	// Kubernetes is the version without "v". Default: the newest of Versions.
	Kubernetes string
	// Platform adds the compliance platform's programs and images, which take longer to build than Kubernetes. One needs no
	// such leave.
	Platform bool
	// OpenStack adds the controllers of a cluster on OpenStack.
	OpenStack bool
	// Cache is the cache's folder. Default: $CATAMARAN_LAB_CACHE, or catamaran-lab in the user's cache folder.
	Cache string
	// Source is the repository's test/lab. Default: looked for from the working directory upwards.
	Source string
	// Mirror is the Debian archive. Default: http://deb.debian.org/debian.
	Mirror string
	// Log is told about work that begins and ends, from several goroutines at once but one call at a time. Nothing is said
	// about what is in the cache already. Default: silence.
	Log func(string)
}

// Components are the programs of one Kubernetes version.
type Components struct {
	Kubernetes string
	// Programs by the name that bundles and plans use: kubeadm, containerd, cni/bridge ... and those of images: etcd, coredns,
	// flanneld, kube-apiserver ...
	Programs map[string]Program
	// Built lists the components that this call had to build; the others were in the cache.
	Built []Built
}

// Program is a built, statically linked program.
type Program struct {
	Name    string
	Version string // without "v"
	Source  string // module@version, or the folder of a stand-in
	Path    string
	Digest  string // sha256:...
	Size    int64  // bytes
}

// Built is what building one component took.
type Built struct {
	Component string
	Wall, CPU time.Duration
}

// All builds every program of a Kubernetes version, and of the platform if it is asked for, or finds it in the cache. On failure the components that could be built
// are in the cache.
func All(ctx context.Context, o Options) (Components, error) {
	b, err := newBuilder(ctx, o)
	if err != nil {
		return Components{}, err
	}
	return b.all(ctx)
}

// One builds no more than the component that holds the named program.
func One(ctx context.Context, o Options, name string) (Program, error) {
	b, err := newBuilder(ctx, o)
	if err != nil {
		return Program{}, err
	}
	for _, c := range slices.Concat(b.release.components(), platformComponents(), openStackComponents()) {
		for _, p := range c.programs {
			if p.name != name {
				continue
			}
			e, err := b.component(ctx, c)
			if err != nil {
				return Program{}, err
			}
			return e.program(c, p), nil
		}
	}
	return Program{}, fmt.Errorf("the lab builds no program %q", name)
}

// builder holds what one call needs to know.
type builder struct {
	release   release
	platform  bool
	openStack bool
	source    string
	mirror    string
	store     store
	tool      toolchain
	log       func(format string, args ...any)
	// compilers bounds how many calls of go build run at once: each one uses every core itself.
	compilers chan struct{}
}

func newBuilder(ctx context.Context, o Options) (*builder, error) {
	if o.Kubernetes == "" {
		o.Kubernetes = Versions()[0]
	}
	r, err := releaseOf(o.Kubernetes)
	if err != nil {
		return nil, err
	}
	b := &builder{
		release: r, platform: o.Platform, openStack: o.OpenStack, source: o.Source, mirror: o.Mirror, log: logger(o.Log),
		compilers: make(chan struct{}, max(1, runtime.NumCPU()/2)),
	}
	if b.mirror == "" {
		b.mirror = debianArchive
	}
	if b.source == "" {
		if b.source, err = findSource(); err != nil {
			return nil, err
		}
	}
	root, err := cacheRoot(o.Cache)
	if err != nil {
		return nil, err
	}
	b.store = store{root}
	b.tool, err = localToolchain(ctx)
	return b, err
}

func logger(log func(string)) func(string, ...any) {
	if log == nil {
		return func(string, ...any) {}
	}
	var mu sync.Mutex
	return func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		log(fmt.Sprintf(format, args...))
	}
}

// CacheVariable names the environment variable that moves the cache.
const CacheVariable = "CATAMARAN_LAB_CACHE"

func cacheRoot(explicit string) (string, error) {
	for _, dir := range []string{explicit, os.Getenv(CacheVariable)} {
		if dir != "" {
			return filepath.Abs(dir)
		}
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache folder (set %s): %w", CacheVariable, err)
	}
	return filepath.Join(dir, "catamaran-lab"), nil
}

// findSource walks up to the folder whose test/lab holds the wrapper modules.
func findSource() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		lab := filepath.Join(dir, "test", "lab")
		if st, err := os.Stat(filepath.Join(lab, "modules")); err == nil && st.IsDir() {
			return lab, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no test/lab/modules in %s or above: run this in a clone of the repository", start)
		}
	}
}

// components lists what this call builds.
func (b *builder) components() []component {
	all := b.release.components()
	if b.platform {
		all = append(all, platformComponents()...)
	}
	if b.openStack {
		all = append(all, openStackComponents()...)
	}
	return all
}

func (b *builder) all(ctx context.Context) (Components, error) {
	out := Components{Kubernetes: b.release.kubernetes, Programs: map[string]Program{}}
	var mu sync.Mutex
	var g errgroup.Group // without its context: one component that fails does not stop the others
	for _, c := range b.components() {
		g.Go(func() error {
			e, err := b.component(ctx, c)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			for _, p := range c.programs {
				out.Programs[p.name] = e.program(c, p)
			}
			if e.made {
				out.Built = append(out.Built, Built{c.name, e.Wall, e.CPU})
			}
			return nil
		})
	}
	err := g.Wait()
	return out, err
}
