package build

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"
)

// Image is a container image under upstream's name, in the cache.
type Image struct {
	Ref string
	v1.Image
}

// recipe says what an image is put together from.
type recipe struct {
	ref string
	// under are shared layers, lowest first. They are equal byte by byte in all images, so they are stored and sent once.
	under []string
	// programs by the path where the image has them; the value is a program's name.
	programs   map[string]string
	entrypoint []string
	command    []string
	user       string
}

// Shared layers.
const (
	shellLayer = "shell" // a static busybox with its links, and the skeleton of a root
	netLayer   = "net"   // iptables, nft, conntrack and their libraries
	// not shared, but made beforehand in the same way: it is what a program writes
	trivyDBLayer = "trivy-db"
)

func (r release) recipes() []recipe {
	const k8s = "registry.k8s.io/"
	out := []recipe{
		{ref: k8s + "pause:3.10.2", programs: map[string]string{"pause": "pause"}, entrypoint: []string{"/pause"}, user: "65535:65535"},
		{ref: k8s + "etcd:" + r.etcd + "-0", programs: map[string]string{"usr/local/bin/etcd": "etcd", "usr/local/bin/etcdctl": "etcdctl"}},
		{ref: k8s + "coredns/coredns:v" + r.coredns, programs: map[string]string{"coredns": "coredns"}, entrypoint: []string{"/coredns"}},
		{
			ref: "ghcr.io/flannel-io/flannel:v" + flannelVersion, under: []string{shellLayer, netLayer},
			programs: map[string]string{"opt/bin/flanneld": "flanneld"}, entrypoint: []string{"/opt/bin/flanneld"},
		},
		{
			ref:      "ghcr.io/kube-vip/kube-vip:v" + kubeVIPVersion,
			programs: map[string]string{"kube-vip": "kube-vip"}, entrypoint: []string{"/kube-vip"},
		},
		{
			ref:      k8s + "metrics-server/metrics-server:v" + metricsServerVersion,
			programs: map[string]string{"metrics-server": "metrics-server"}, entrypoint: []string{"/metrics-server"}, user: "65534",
		},
		{
			ref:      "docker.io/rancher/local-path-provisioner:v" + localPathVersion,
			programs: map[string]string{"usr/bin/local-path-provisioner": "local-path-provisioner"},
			command:  []string{"local-path-provisioner"},
		},
		{
			ref: k8s + "e2e-test-images/agnhost:" + agnhostVersion, under: []string{shellLayer},
			programs: map[string]string{"agnhost": "agnhost"}, entrypoint: []string{"/agnhost"}, command: []string{"pause"},
		},
		{ref: "docker.io/library/busybox:" + busyboxVersion, under: []string{shellLayer}, command: []string{"sh"}},
	}
	for _, n := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"} {
		i := recipe{ref: k8s + n + ":v" + r.kubernetes, programs: map[string]string{"usr/local/bin/" + n: n}, entrypoint: []string{"/usr/local/bin/" + n}}
		if n == "kube-proxy" {
			i.under = []string{shellLayer, netLayer}
		}
		out = append(out, i)
	}
	return out
}

// ImageRefs are the references of the images that the lab makes for a Kubernetes version (without "v"), with or without
// those of the platform.
func ImageRefs(kubernetes string, platform bool) ([]string, error) {
	r, err := releaseOf(kubernetes)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, i := range (&builder{release: r, platform: platform}).recipes() {
		out = append(out, i.ref)
	}
	slices.Sort(out)
	return out, nil
}

// recipes lists what this call puts together.
func (b *builder) recipes() []recipe {
	all := b.release.recipes()
	if b.platform {
		all = append(all, platformRecipes()...)
	}
	if b.openStack {
		all = append(all, openStackRecipes()...)
	}
	return all
}

// Images makes every image of a Kubernetes version, and of the platform if it is asked for, sorted by reference.
func Images(ctx context.Context, o Options) ([]Image, error) {
	b, err := newBuilder(ctx, o)
	if err != nil {
		return nil, err
	}
	c, err := b.all(ctx)
	if err != nil {
		return nil, err
	}
	return b.images(ctx, c)
}

func (b *builder) images(ctx context.Context, c Components) ([]Image, error) {
	shared, err := b.sharedLayers(ctx, c)
	if err != nil {
		return nil, err
	}
	recipes := b.recipes()
	out := make([]Image, len(recipes))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	for n, r := range recipes {
		g.Go(func() error {
			img, err := b.image(ctx, r, shared, c)
			if err != nil {
				return fmt.Errorf("image %s: %w", r.ref, err)
			}
			out[n] = Image{r.ref, img}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(a, b Image) int { return strings.Compare(a.Ref, b.Ref) })
	return out, nil
}

func (b *builder) sharedLayers(ctx context.Context, c Components) (map[string]v1.Layer, error) {
	dir, err := b.netbase(ctx)
	if err != nil {
		return nil, err
	}
	shell, err := shellItems(dir, c.Programs["netprobe"])
	if err != nil {
		return nil, err
	}
	network, err := tree(filepath.Join(dir, "net"))
	if err != nil {
		return nil, err
	}
	layers := map[string][]item{shellLayer: shell, netLayer: network}
	if b.platform {
		if layers[trivyDBLayer], err = b.trivyDB(ctx, c.Programs["trivy-db"]); err != nil {
			return nil, err
		}
	}
	out := map[string]v1.Layer{}
	for name, items := range layers {
		if out[name], err = b.layer(ctx, name, items); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// skeleton is in every image: some programs want a place for temporary files, and a name for user 0.
func skeleton() []item {
	return []item{
		{path: "tmp/", mode: 0o1777},
		{path: "etc/passwd", mode: 0o644, text: "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"},
		{path: "etc/group", mode: 0o644, text: "root:x:0:\nnogroup:x:65534:\n"},
	}
}

// shellItems is busybox as upstream's image has it: one program and a link for each of its names. wget and nslookup are
// ours (test/lab/standin/netprobe says why).
func shellItems(netbase string, probe Program) ([]item, error) {
	out, err := tree(filepath.Join(netbase, "shell"))
	if err != nil {
		return nil, err
	}
	out = append(out, skeleton()...)
	for _, d := range []string{"bin", "sbin", "lib", "lib64"} {
		out = append(out, item{path: d, link: "usr/" + d})
	}
	for _, d := range []string{"run/", "var/", "root/", "usr/sbin/", "usr/lib/", "usr/lib64/", "opt/"} {
		out = append(out, item{path: d, mode: 0o755})
	}
	for _, n := range applets() {
		out = append(out, item{path: "usr/bin/" + n, link: "busybox"})
	}
	out = append(out, item{path: "usr/bin/netprobe", mode: 0o755, file: probe.Path, digest: probe.Digest})
	for _, n := range []string{"wget", "nslookup"} {
		out = append(out, item{path: "usr/bin/" + n, link: "netprobe"})
	}
	return out, nil
}

// applets are the names under which busybox is called: those that scripts and probes use.
func applets() []string {
	return []string{
		"[", "ash", "awk", "base64", "basename", "cat", "chgrp", "chmod", "chown", "cmp", "cp", "cut", "date", "dd", "df", "diff",
		"dirname", "du", "echo", "env", "expr", "false", "find", "free", "grep", "gunzip", "gzip", "head", "hostname", "httpd", "id",
		"ifconfig", "ip", "kill", "killall", "less", "ln", "ls", "md5sum", "mkdir", "mkfifo", "mktemp", "mount", "mv", "nc", "netstat",
		"nohup", "od", "pgrep", "pidof", "ping", "ping6", "pkill", "printf", "ps", "pwd", "readlink", "realpath", "rm", "rmdir", "route",
		"sed", "seq", "sh", "sha256sum", "sleep", "sort", "stat", "stty", "sync", "tail", "tar", "tee", "telnet", "test", "timeout",
		"top", "touch", "tr", "traceroute", "true", "tty", "umount", "uname", "uniq", "uptime", "vi", "watch", "wc", "which", "whoami",
		"xargs", "yes",
	}
}

func (b *builder) image(ctx context.Context, r recipe, shared map[string]v1.Layer, c Components) (v1.Image, error) {
	var layers []v1.Layer
	for _, name := range r.under {
		layers = append(layers, shared[name])
	}
	if len(r.programs) > 0 {
		var items []item
		if len(r.under) == 0 {
			items = skeleton()
		}
		for at, program := range r.programs {
			p, ok := c.Programs[program]
			if !ok {
				return nil, fmt.Errorf("no program %s", program)
			}
			items = append(items, item{path: at, mode: 0o755, file: p.Path, digest: p.Digest})
		}
		l, err := b.layer(ctx, strings.ReplaceAll(path.Base(r.ref), ":", "-"), items)
		if err != nil {
			return nil, err
		}
		layers = append(layers, l)
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.AppendLayers(base, layers...)
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Architecture, config.OS, config.Created = runtime.GOARCH, "linux", v1.Time{Time: builtAt()}
	config.Config = v1.Config{
		Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		Entrypoint: r.entrypoint, Cmd: r.command, User: r.user, WorkingDir: "/",
	}
	return mutate.ConfigFile(img, config)
}
