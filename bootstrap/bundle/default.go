package bundle

import (
	"fmt"
	"strings"

	"github.com/catamaran-k8s/catamaran/bootstrap/kubeadm"
)

// Versions of what does not follow from the Kubernetes version.
const (
	containerdVersion = "2.4.2"
	runcVersion       = "1.5.2"
	pluginsVersion    = "1.9.1"
	flannelVersion    = "1.9.1" // of the CNI plugin, which has releases of its own
	flannelRelease    = "v1.9.1-flannel1"
)

// Default is the specification for a Kubernetes version (without "v") and GOARCH: the programs that plans install, from
// their upstream locations, and the images of kubeadm, kube-vip and those given.
func Default(kubernetes, arch string, images []ImageSource) (Specification, error) {
	system, err := kubeadm.Images(kubernetes)
	if err != nil {
		return Specification{}, err
	}
	etcd, err := etcdVersion(system)
	if err != nil {
		return Specification{}, err
	}
	s := Specification{APIVersion: APIVersion, Kind: SpecificationKind, Kubernetes: kubernetes, Arch: arch}
	add := func(name, version, url, sums string) {
		s.Files = append(s.Files, Source{Name: name, Version: version, URL: url, SHA256: Upstream, Sums: sums})
	}
	for _, n := range []string{"kubeadm", "kubelet", "kubectl"} {
		add(n, kubernetes, fmt.Sprintf("https://dl.k8s.io/release/v%s/bin/linux/%s/%s", kubernetes, arch, n), "")
	}
	const github = "https://github.com/"
	containerd := fmt.Sprintf(github+"containerd/containerd/releases/download/v%s/containerd-%[1]s-linux-%s.tar.gz", containerdVersion, arch)
	for _, n := range []string{"containerd", "containerd-shim-runc-v2", "ctr"} {
		add(n, containerdVersion, containerd+"!bin/"+n, containerd+".sha256sum")
	}
	runc := github + "opencontainers/runc/releases/download/v" + runcVersion
	add("runc", runcVersion, runc+"/runc."+arch, runc+"/runc.sha256sum")
	etcdRelease := github + "etcd-io/etcd/releases/download/v" + etcd
	folder := fmt.Sprintf("etcd-v%s-linux-%s", etcd, arch)
	add("etcdctl", etcd, etcdRelease+"/"+folder+".tar.gz!"+folder+"/etcdctl", etcdRelease+"/SHA256SUMS")
	plugins := fmt.Sprintf(github+"containernetworking/plugins/releases/download/v%s/cni-plugins-linux-%s-v%[1]s.tgz", pluginsVersion, arch)
	for _, n := range []string{"bridge", "host-local", "loopback", "portmap"} {
		add("cni/"+n, pluginsVersion, plugins+"!"+n, "")
	}
	flannel := fmt.Sprintf(github+"flannel-io/cni-plugin/releases/download/%s/cni-plugin-flannel-linux-%s-v%s.tgz", flannelRelease, arch, flannelVersion)
	add("cni/flannel", flannelVersion, flannel+"!flannel-"+arch, "")

	seen := map[string]bool{}
	for _, ref := range append(system, kubeadm.KubeVIPImage) {
		s.Images = append(s.Images, ImageSource{Ref: ref})
		seen[ref] = true
	}
	for _, img := range images {
		if !seen[img.Ref] {
			s.Images = append(s.Images, img)
			seen[img.Ref] = true
		}
	}
	return s, s.Check()
}

// etcdVersion reads it off the image that kubeadm pins: registry.k8s.io/etcd:3.7.0-0 is 3.7.0.
func etcdVersion(images []string) (string, error) {
	for _, ref := range images {
		if tag, ok := strings.CutPrefix(ref, "registry.k8s.io/etcd:"); ok {
			version, _, _ := strings.Cut(tag, "-")
			return version, nil
		}
	}
	return "", fmt.Errorf("kubeadm pins no etcd among %s", strings.Join(images, ", "))
}
