package plan

import (
	"fmt"
	"path"
	"sort"

	"github.com/catamaran-k8s/catamaran/bootstrap/bundle"
	"github.com/catamaran-k8s/catamaran/bootstrap/host"
	"github.com/catamaran-k8s/catamaran/bootstrap/kubeadm"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// programs plans installing what the bundle has and the machine lacks.
func (m *maker) programs(v *view, n *inventory.Node, f *host.Facts) string {
	step := id(v, n.Name, "programs")
	if m.in.Bundle == nil {
		return step // said once by needBundle
	}
	task := InstallPrograms{Node: n.Name}
	restart := map[string]bool{}
	for _, p := range host.Programs(v.spec.Network.CNI) {
		want, ok := m.in.Bundle.File(p.Name)
		if !ok {
			continue // said once by needBundle
		}
		have := f.Files[p.Path]
		if "sha256:"+have.SHA256 == want.Digest && have.Mode == "0755" {
			continue
		}
		task.Programs = append(task.Programs, Program{Name: p.Name, Version: want.Version, Path: p.Path, Digest: want.Digest, Size: want.Size})
		if p.Restart != "" && f.Units[p.Restart].Active == "active" {
			restart[p.Restart] = true
		}
	}
	if len(task.Programs) == 0 {
		return step
	}
	for u := range restart {
		task.Restart = append(task.Restart, u)
	}
	sort.Strings(task.Restart)
	digests := make([]string, len(task.Programs))
	for i, p := range task.Programs {
		digests[i] = p.Digest
	}
	task.Push = m.lacking(digests, f)
	return m.add(Step{
		ID: step, Cluster: v.name, Node: n.Name, Title: "install programs",
		Reason: fmt.Sprintf("%d of %d are missing or differ (%s to send)",
			len(task.Programs), len(host.Programs(v.spec.Network.CNI)), bytesWord(task.size())),
		Task: task,
	})
}

// images plans importing the images that the node's containerd lacks.
func (m *maker) images(v *view, n *inventory.Node, f *host.Facts, needs ...string) string {
	step := id(v, n.Name, "images")
	if m.in.Bundle == nil {
		return step
	}
	task := ImportImages{Node: n.Name}
	wanted := m.nodeImages(v, n)
	var blobs []string
	for _, ref := range wanted {
		img, ok := m.in.Bundle.Image(ref)
		if !ok || f.Images[ref] == img.Digest {
			continue
		}
		task.Images = append(task.Images, img)
		blobs = append(blobs, img.Blobs...)
	}
	if len(task.Images) == 0 {
		return step
	}
	task.Push = m.lacking(without(blobs, f.Content), f)
	return m.add(Step{
		ID: step, Cluster: v.name, Node: n.Name, Title: "import images",
		Reason: fmt.Sprintf("%d of %d are missing or differ (%s to send)", len(task.Images), len(wanted), bytesWord(task.size())),
		Needs:  needs, Task: task,
	})
}

// lacking are the blobs, each once, that the machine's blob store does not hold yet.
func (m *maker) lacking(digests []string, f *host.Facts) []Blob {
	var out []Blob
	for _, d := range without(digests, f.Blobs) {
		if b, ok := m.in.Bundle.Blob(d); ok {
			out = append(out, Blob{Digest: d, Size: b.Size})
		}
	}
	return out
}

// without returns each element of list once, in order, that is not in have.
func without(list, have []string) []string {
	seen := make(map[string]bool, len(have))
	for _, h := range have {
		seen[h] = true
	}
	var out []string
	for _, l := range list {
		if !seen[l] {
			seen[l] = true
			out = append(out, l)
		}
	}
	return out
}

// nodeImages are the images that must be on a node: those of its static pods, and those of everything that may be
// scheduled there.
func (m *maker) nodeImages(v *view, n *inventory.Node) []string {
	system, err := kubeadm.Images(v.spec.VersionOr(m.in.Inventory))
	if err != nil {
		m.fail("%s: %w", v.name, err)
		return nil
	}
	var out []string
	for _, ref := range system {
		if n.Role == inventory.ControlPlane || !controlPlaneImage[imageName(ref)] {
			out = append(out, ref)
		}
	}
	if n.Role == inventory.ControlPlane && v.spec.Endpoint.Mode == inventory.EndpointVIP {
		out = append(out, kubeadm.KubeVIPImage)
	}
	for _, r := range m.in.Releases[v.name] {
		out = append(out, r.Images...)
	}
	sort.Strings(out)
	return without(out, nil)
}

// controlPlaneImage are images of static pods, which no worker runs.
var controlPlaneImage = map[string]bool{ //nolint:gochecknoglobals // a constant table
	"kube-apiserver": true, "kube-controller-manager": true, "kube-scheduler": true, "etcd": true,
}

func imageName(ref string) string {
	base := path.Base(ref)
	for i, c := range base {
		if c == ':' || c == '@' {
			return base[:i]
		}
	}
	return base
}

// needBundle refuses to plan without the bundle, or with one that lacks what this inventory needs. An image of the
// site's own releases may come from a registry: that is only a warning.
func (m *maker) needBundle() {
	if m.in.Bundle == nil {
		m.fail("there is no bundle to install from: name one with `bundle:` in the inventory or with --bundle; `catamaran bundle build` makes one")
		return
	}
	for _, name := range m.in.Inventory.ClusterNames() {
		needs, err := clusterNeeds(m.in.Inventory, name)
		if err != nil {
			m.fail("%s: %w", name, err)
			continue
		}
		var own []string
		for _, r := range m.in.Releases[name] {
			if r.Chart.Embedded != "" {
				needs.Images = append(needs.Images, r.Images...)
			} else {
				own = append(own, r.Images...)
			}
		}
		needs.Images = without(needs.Images, nil)
		for _, missing := range m.in.Bundle.Manifest.Missing(needs) {
			m.fail("%s: the bundle lacks %s: build it anew with `catamaran bundle build`", name, missing)
		}
		for _, ref := range without(own, nil) {
			if _, ok := m.in.Bundle.Image(ref); !ok {
				m.warn("%s: image %s is not in the bundle: the nodes must be able to pull it", name, ref)
			}
		}
	}
}

// Needs is what a bundle must hold for the inventory, without the images of releases.
func Needs(inv *inventory.Inventory) (bundle.Needs, error) {
	var all bundle.Needs
	for _, c := range inv.ClusterNames() {
		n, err := clusterNeeds(inv, c)
		if err != nil {
			return all, fmt.Errorf("clusters.%s: %w", c, err)
		}
		all.Kubernetes = n.Kubernetes
		all.Files = without(append(all.Files, n.Files...), nil)
		all.Images = without(append(all.Images, n.Images...), nil)
	}
	return all, nil
}

func clusterNeeds(inv *inventory.Inventory, c inventory.ClusterName) (bundle.Needs, error) {
	spec := inv.Cluster(c)
	n := bundle.Needs{Kubernetes: spec.VersionOr(inv)}
	for _, p := range host.Programs(spec.Network.CNI) {
		n.Files = append(n.Files, p.Name)
	}
	images, err := kubeadm.Images(n.Kubernetes)
	n.Images = images
	if spec.Endpoint.Mode == inventory.EndpointVIP {
		n.Images = append(n.Images, kubeadm.KubeVIPImage)
	}
	return n, err
}

// bytesWord writes a size as people read it.
func bytesWord(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n > 0:
		return fmt.Sprintf("%d KiB", max(n>>10, 1))
	}
	return "nothing"
}
