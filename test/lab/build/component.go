package build

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// component is one Go module, and the programs that the lab builds from it with one call of go build.
type component struct {
	name string
	// dir is the module's folder under test/lab: a wrapper that only pins an upstream module, or a stand-in of our own.
	dir string
	// module and version are what the wrapper pins (a test compares them with its go.mod). A stand-in has no module.
	module  string
	version string // without "v"
	// moduleVersion is set where upstream numbers the module in another way than its releases.
	moduleVersion string
	// repository: a program of this repository itself, which is built in its root instead of dir.
	repository bool
	// added are files that the module lacks, by their path in it: it is built from a copy that has them.
	added map[string]string
	// cgo components are linked statically with C libraries of this machine, which are part of their cache key.
	cgo       bool
	libraries []string // libc.a ...
	tags      []string
	ldflags   []string // added to -s -w
	// experiment is the GOEXPERIMENT that upstream builds with.
	experiment string
	programs   []program
}

// program is a command of the module. Its name is that in bundles and images.
type program struct{ name, pkg string }

// output is the file name that go build gives the program: the last element of its path that is not a major version.
func (p program) output() string {
	base := path.Base(p.pkg)
	if len(base) > 1 && base[0] == 'v' && strings.Trim(base[1:], "0123456789") == "" {
		return path.Base(path.Dir(p.pkg))
	}
	return base
}

// source names where a program came from, for the bundle.
func (c component) source() string {
	switch {
	case c.repository:
		return strings.TrimPrefix(c.programs[0].pkg, repositoryModule+"/")
	case c.module == "":
		return "test/lab/" + c.dir
	}
	return c.module + "@v" + c.pinned()
}

// pinned is the version of the module, without "v".
func (c component) pinned() string {
	if c.moduleVersion != "" {
		return c.moduleVersion
	}
	return c.version
}

// release is a Kubernetes version that the lab can build, with the versions that its kubeadm asks for.
type release struct {
	kubernetes, etcd, coredns string
}

func releases() []release {
	return []release{
		{kubernetes: "1.37.2", etcd: "3.7.0", coredns: "1.14.6"},
		{kubernetes: "1.36.3", etcd: "3.6.8", coredns: "1.14.2"},
	}
}

// Versions are the Kubernetes versions (without "v") that the lab can build, newest first.
func Versions() []string {
	var out []string
	for _, r := range releases() {
		out = append(out, r.kubernetes)
	}
	return out
}

func releaseOf(kubernetes string) (release, error) {
	i := slices.IndexFunc(releases(), func(r release) bool { return r.kubernetes == kubernetes })
	if i < 0 {
		return release{}, fmt.Errorf("the lab can not build Kubernetes %q: choose %s, or add a wrapper module in test/lab/modules",
			kubernetes, strings.Join(Versions(), " or "))
	}
	return releases()[i], nil
}

// Versions that do not follow Kubernetes.
const (
	agnhostVersion       = "2.66.1" // of the image; it is built from the module of agnhostModule
	agnhostModule        = "1.37.2"
	flannelVersion       = "0.28.10"
	kubeVIPVersion       = "1.0.0" // of the kube-vip whose name the stand-in carries
	metricsServerVersion = "0.9.0"
	localPathVersion     = "0.0.30"
	busyboxVersion       = "1.37.0" // of the image whose name our tools carry
)

// components lists what is built for a release, the slowest first.
func (r release) components() []component {
	return []component{
		kubernetesComponent("kubernetes", r.kubernetes, kubernetesPrograms()...),
		agnhost(),
		containerd(),
		{
			name: "metrics-server", dir: "modules/metrics-server", module: "sigs.k8s.io/metrics-server", version: metricsServerVersion,
			ldflags:  []string{"-X k8s.io/client-go/pkg/version.gitVersion=v" + metricsServerVersion},
			programs: []program{{"metrics-server", "sigs.k8s.io/metrics-server/cmd/metrics-server"}},
		},
		{
			name: "coredns", dir: "modules/coredns-" + r.coredns, module: "github.com/coredns/coredns", version: r.coredns,
			programs: []program{{"coredns", "github.com/coredns/coredns"}},
		},
		{
			name: "flannel", dir: "modules/flannel", module: "github.com/flannel-io/flannel", version: flannelVersion,
			cgo: true, libraries: []string{"libc.a"}, // its udp backend is C
			tags: []string{"netgo", "osusergo"},
			ldflags: []string{
				"-linkmode external -extldflags -static",
				"-X github.com/flannel-io/flannel/pkg/version.Version=v" + flannelVersion,
			},
			programs: []program{{"flanneld", "github.com/flannel-io/flannel"}},
		},
		{
			name: "etcd", dir: "modules/etcd-" + minor(r.etcd), module: "go.etcd.io/etcd/server/v3", version: r.etcd,
			programs: []program{{"etcd", "go.etcd.io/etcd/server/v3"}, {"etcdctl", "go.etcd.io/etcd/etcdctl/v3"}},
		},
		{
			name: "local-path-provisioner", dir: "modules/local-path-provisioner", module: "github.com/rancher/local-path-provisioner",
			version: localPathVersion, ldflags: []string{"-X main.VERSION=v" + localPathVersion},
			programs: []program{{"local-path-provisioner", "github.com/rancher/local-path-provisioner"}},
		},
		{
			name: "runc", dir: "modules/runc", module: "github.com/opencontainers/runc", version: "1.5.2",
			cgo: true, libraries: []string{"libc.a", "libseccomp.a"},
			tags:     []string{"seccomp", "urfave_cli_no_docs", "netgo", "osusergo"},
			ldflags:  []string{"-linkmode external -extldflags -static"},
			programs: []program{{"runc", "github.com/opencontainers/runc"}},
		},
		cniPlugins(),
		{
			name: "cni-flannel", dir: "modules/cni-flannel", module: cniModule, version: "0.9.1",
			ldflags:  []string{"-X " + cniModule + "/pkg/utils/buildversion.BuildVersion=v0.9.1"},
			programs: []program{{"cni/flannel", cniModule + "/plugins/meta/flannel"}},
		},
		{
			name: "kube-vip", dir: "standin/kube-vip", version: kubeVIPVersion,
			programs: []program{{"kube-vip", "catamaran.test/lab/kube-vip"}},
		},
		{name: "pause", dir: "standin/pause", version: "1", programs: []program{{"pause", "catamaran.test/lab/pause"}}},
		{name: "netprobe", dir: "standin/netprobe", version: "1", programs: []program{{"netprobe", "catamaran.test/lab/netprobe"}}},
	}
}

// kubernetesComponent stamps the version the way upstream's build does; kubeadm and kubelet decide by it. The date and
// the commit are fixed, so that a build is reproducible.
func kubernetesComponent(name, version string, programs ...program) component {
	c := component{
		name: name, dir: "modules/kubernetes-" + minor(version), module: "k8s.io/kubernetes", version: version, programs: programs,
	}
	majorNumber, minorNumber, _ := strings.Cut(minor(version), ".")
	for _, p := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		for _, v := range [][2]string{
			{"gitVersion", "v" + version},
			{"gitMajor", majorNumber},
			{"gitMinor", minorNumber},
			{"gitTreeState", "clean"},
			{"gitCommit", fixedCommit()},
			{"buildDate", fixedDate},
		} {
			c.ldflags = append(c.ldflags, fmt.Sprintf("-X %s.%s=%s", p, v[0], v[1]))
		}
	}
	return c
}

const fixedDate = "2026-01-01T00:00:00Z"

func fixedCommit() string { return strings.Repeat("0", 40) }

// agnhost is always the one that the charts name, whatever the release.
func agnhost() component {
	c := kubernetesComponent("agnhost", agnhostModule, program{"agnhost", "k8s.io/kubernetes/test/images/agnhost"})
	c.ldflags = append(c.ldflags, "-X main.Version="+agnhostVersion)
	return c
}

func kubernetesPrograms() []program {
	var out []program
	for _, n := range []string{"kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubeadm", "kubectl", "kubelet"} {
		out = append(out, program{n, "k8s.io/kubernetes/cmd/" + n})
	}
	return out
}

func containerd() component {
	const module, version = "github.com/containerd/containerd/v2", "2.4.2"
	c := component{
		name: "containerd", dir: "modules/containerd", module: module, version: version,
		tags:    []string{"no_btrfs", "no_devmapper", "no_zfs"},
		ldflags: []string{"-X " + module + "/version.Version=v" + version, "-X " + module + "/version.Package=" + module},
	}
	for _, n := range []string{"containerd", "containerd-shim-runc-v2", "ctr"} {
		c.programs = append(c.programs, program{n, module + "/cmd/" + n})
	}
	return c
}

const cniModule = "github.com/containernetworking/plugins"

func cniPlugins() component {
	c := component{
		name: "cni-plugins", dir: "modules/cni-plugins", module: cniModule, version: "1.9.1",
		ldflags: []string{"-X " + cniModule + "/pkg/utils/buildversion.BuildVersion=v1.9.1"},
	}
	for _, p := range []string{
		"ipam/host-local", "main/bridge", "main/loopback", "main/ptp", "meta/bandwidth", "meta/firewall", "meta/portmap", "meta/tuning",
	} {
		c.programs = append(c.programs, program{"cni/" + path.Base(p), cniModule + "/plugins/" + p})
	}
	return c
}

// minor is the part of a version before the second dot.
func minor(version string) string {
	return version[:strings.LastIndexByte(version, '.')]
}
