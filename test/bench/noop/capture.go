package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/catamaran-k8s/catamaran/bootstrap/host"
)

// controlPlaneCertificates are the files under /etc/kubernetes that kubeadm makes on a control plane.
var controlPlaneCertificates = []string{
	"/etc/kubernetes/pki/apiserver.crt", "/etc/kubernetes/pki/apiserver-etcd-client.crt",
	"/etc/kubernetes/pki/apiserver-kubelet-client.crt", "/etc/kubernetes/pki/front-proxy-ca.crt",
	"/etc/kubernetes/pki/front-proxy-client.crt", "/etc/kubernetes/pki/etcd/ca.crt", "/etc/kubernetes/pki/etcd/server.crt",
	"/etc/kubernetes/pki/etcd/peer.crt", "/etc/kubernetes/pki/etcd/healthcheck-client.crt",
	"/etc/kubernetes/admin.conf", "/etc/kubernetes/super-admin.conf", "/etc/kubernetes/controller-manager.conf", "/etc/kubernetes/scheduler.conf",
}

// capture writes facts as the facts script prints them, in its order, and with what a real machine prints beside: it is
// the inverse of host.Parse. The clock is left to be filled in.
func capture(f *host.Facts) ([]byte, error) {
	var b writer
	b.say("clock", "@CLOCK@")
	b.say("hostname", f.Hostname)
	b.say("machineID", f.MachineID)
	b.say("bootID", f.BootID)
	b.say("kernel", f.Kernel)
	b.say("init", f.Init)
	b.say("arch", f.Arch)
	b.block("osRelease", fmt.Sprintf("PRETTY_NAME=%q\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=%q\nID=%s", f.OSName, f.OSVersion, f.OSID))
	b.say("cpus", strconv.Itoa(f.CPUs))
	b.say("memoryKiB", strconv.Itoa(f.MemoryMiB<<10))
	b.say("disk", fmt.Sprintf("%d %d", f.DiskGiB<<20, f.DiskFree<<20))
	if f.CgroupV2 {
		b.say("cgroupV2", "yes")
	}
	b.say("firewall", f.Firewall)
	b.block("swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority")
	b.network(f)
	for _, k := range sorted(f.Sysctls) {
		b.say("sysctl", k+"\t"+f.Sysctls[k])
	}
	for _, k := range sorted(f.Modules) {
		b.say("module", k+"\t"+f.Modules[k])
	}
	for _, x := range f.Features {
		b.say("feature", x)
	}
	var units []string
	for _, k := range sorted(f.Units) {
		units = append(units, fmt.Sprintf("Id=%s\nActiveState=%s\nUnitFileState=%s\n", k, f.Units[k].Active, f.Units[k].Enabled))
	}
	b.block("units", strings.Join(units, "\n"))
	b.block("running", "")
	b.files(f)
	for _, l := range f.Leftovers {
		b.say("leftover", l)
	}
	b.block("blobs", "")
	b.images(f)
	for _, k := range sorted(f.Peers) {
		b.say("peer", k+"\t"+f.Peers[k])
	}
	if f.Cluster != nil {
		if err := b.cluster(f); err != nil {
			return nil, err
		}
	}
	b.say("end", "ok")
	return b.Bytes(), nil
}

// writer writes the script's two forms.
type writer struct{ bytes.Buffer }

func (b *writer) say(k, v string)         { b.WriteString(k + "\t" + v + "\n") }
func (b *writer) block(name, text string) { b.body(name, name, text) }

func (b *writer) body(head, tail, text string) {
	b.WriteString("<" + head + "\n" + text + "\n>" + tail + "\n")
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// network writes interfaces, and the table of TCP sockets with the connections of a busy machine.
func (b *writer) network(f *host.Facts) {
	var addresses, links []string
	for i, n := range f.Interfaces {
		links = append(links, fmt.Sprintf("%d: %s: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu %d qdisc noqueue state UP mode DEFAULT group default qlen 1000\\    link/ether 02:00:00:00:00:%02x brd ff:ff:ff:ff:ff:ff", i+1, n.Name, n.MTU, i))
		for _, a := range n.Addresses {
			family := "inet"
			if strings.Contains(a, ":") {
				family = "inet6"
			}
			addresses = append(addresses, fmt.Sprintf("%d: %s    %s %s scope global %s\\       valid_lft forever preferred_lft forever", i+1, n.Name, family, a, n.Name))
		}
	}
	b.block("addresses", strings.Join(addresses, "\n"))
	b.block("links", strings.Join(links, "\n"))
	sockets := []string{"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"}
	const line = "%4d: 00000000:%04X 00000000:0000 %s 00000000:00000000 00:00000000 00000000     0        0 %d 1 0000000000000000 100 0 0 10 0"
	for i, l := range f.Listening {
		sockets = append(sockets, fmt.Sprintf(line, i, l.Port, "0A", 10000+i))
	}
	const established = 60
	for i := range established {
		sockets = append(sockets, fmt.Sprintf(line, i, 32768+i, "01", 20000+i))
	}
	b.block("listeners", strings.Join(sockets, "\n"))
}

// files writes files, programs and certificates.
func (b *writer) files(f *host.Facts) {
	var stat, sums, programs, now []string
	for _, p := range sorted(f.Files) {
		file := f.Files[p]
		if name, ok := program(p, f.Versions); ok {
			programs = append(programs, fmt.Sprintf("%s\t%s\t%d\t%d\t%s\t%s", p, file.SHA256, 1<<20, 1700000000, name, f.Versions[name]))
			now = append(now, fmt.Sprintf("%d %d %s", 1<<20, 1700000000, p))
			continue
		}
		stat = append(stat, fmt.Sprintf("%s %s %d %s", strings.TrimPrefix(file.Mode, "0"), file.Owner, file.Size, p))
		sums = append(sums, file.SHA256+"  "+p)
	}
	b.block("stat", strings.Join(stat, "\n"))
	b.block("sums", strings.Join(sums, "\n"))
	for _, p := range sorted(f.Files) {
		if c := f.Files[p].Content; c != "" {
			b.body("content "+p, "content", wrapped([]byte(c)))
		}
	}
	for _, p := range sorted(f.Certificates) {
		if strings.HasSuffix(p, ".conf") {
			b.body("conf "+p, "conf", base64.StdEncoding.EncodeToString([]byte(f.Certificates[p])))
		} else {
			b.body("cert "+p, "cert", f.Certificates[p])
		}
	}
	b.block("programs", strings.Join(programs, "\n"))
	b.block("programStat", strings.Join(now, "\n"))
}

// program says which program of the bundle a path is.
func program(p string, versions map[string]string) (string, bool) {
	for name := range versions {
		if strings.HasSuffix(p, "/"+name) || p == "/opt/cni/bin/"+strings.TrimPrefix(name, "cni/") {
			return name, true
		}
	}
	return "", false
}

// wrapped is what base64 prints.
func wrapped(data []byte) string {
	s, out := base64.StdEncoding.EncodeToString(data), []string{}
	for len(s) > 76 {
		out, s = append(out, s[:76]), s[76:]
	}
	return strings.Join(append(out, s), "\n")
}

// images writes `ctr images ls`, where containerd lists each image by its name, by name and digest, and by its
// configuration's digest; and the content store.
func (b *writer) images(f *host.Facts) {
	lines := []string{"REF TYPE DIGEST SIZE PLATFORMS LABELS"}
	for _, ref := range sorted(f.Images) {
		repository := ref[:strings.LastIndex(ref, ":")]
		for _, name := range []string{ref, repository + "@" + f.Images[ref], f.Images[ref]} {
			lines = append(lines, name+" application/vnd.docker.distribution.manifest.v2+json "+f.Images[ref]+" 28.1 MiB linux/amd64 io.cri-containerd.image=managed,"+host.PinnedLabel)
		}
	}
	b.block("images", strings.Join(lines, "\n"))
	b.block("contentStore", strings.Join(f.Content, "\n"))
}

// cluster writes what kubectl and etcdctl print on a control plane.
func (b *writer) cluster(f *host.Facts) error {
	c := f.Cluster
	list := corev1.NodeList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "List"}}
	for _, n := range c.Nodes {
		list.Items = append(list.Items, object(n, f))
	}
	nodes, err := json.MarshalIndent(list, "", "    ")
	if err != nil {
		return err
	}
	b.block("nodes", string(nodes))
	b.block("apiError", "")
	var releases []string
	for _, r := range c.Releases {
		releases = append(releases, strings.Join([]string{r.Namespace, r.Name, strconv.Itoa(r.Revision), r.Status, r.Version, r.Digest}, "\t"))
	}
	b.block("releases", strings.Join(releases, "\n"))
	var members, health []map[string]any
	for _, e := range c.Etcd {
		id, err := strconv.ParseUint(e.ID, 16, 64)
		if err != nil {
			return err
		}
		members = append(members, map[string]any{"ID": id, "name": e.Name, "clientURLs": []string{e.URL}})
		health = append(health, map[string]any{"endpoint": e.URL, "health": e.Healthy, "took": "2ms"})
	}
	for _, x := range []struct {
		name  string
		value any
	}{{"members", map[string]any{"members": members}}, {"health", health}} {
		data, err := json.Marshal(x.value)
		if err != nil {
			return err
		}
		b.block(x.name, string(data))
	}
	return nil
}

// object is a Node with about as much in it as kubelet reports: conditions, capacities, and each image under its names.
func object(n host.NodeFacts, f *host.Facts) corev1.Node {
	capacity := corev1.ResourceList{
		"cpu": resource.MustParse("8"), "memory": resource.MustParse("32768Mi"), "ephemeral-storage": resource.MustParse("200Gi"),
		"hugepages-1Gi": resource.MustParse("0"), "hugepages-2Mi": resource.MustParse("0"), "pods": resource.MustParse("110"),
	}
	o := corev1.Node{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{
			Name: n.Name, Labels: n.Labels, UID: "00000000-0000-4000-8000-000000000000", ResourceVersion: "123456",
			Annotations: map[string]string{
				"flannel.alpha.coreos.com/backend-data": `{"VNI":1,"VtepMAC":"02:00:00:00:00:00"}`, "flannel.alpha.coreos.com/backend-type": "vxlan",
				"flannel.alpha.coreos.com/kube-subnet-manager": "true", "flannel.alpha.coreos.com/public-ip": n.Address,
				"node.alpha.kubernetes.io/ttl": "0", "volumes.kubernetes.io/controller-managed-attach-detach": "true",
			},
		},
		Spec: corev1.NodeSpec{PodCIDR: "10.100.7.0/24", PodCIDRs: []string{"10.100.7.0/24"}, Unschedulable: n.Unschedulable},
		Status: corev1.NodeStatus{
			Capacity: capacity, Allocatable: capacity,
			Addresses: []corev1.NodeAddress{{Type: "InternalIP", Address: n.Address}, {Type: "Hostname", Address: n.Name}},
			NodeInfo: corev1.NodeSystemInfo{
				KubeletVersion: "v" + n.Version, OSImage: f.OSName, KernelVersion: f.Kernel, Architecture: "amd64", OperatingSystem: "linux",
				ContainerRuntimeVersion: "containerd://2.4.2", MachineID: f.MachineID, SystemUUID: f.MachineID, BootID: f.BootID,
			},
		},
	}
	for _, t := range n.Taints {
		key, rest, _ := strings.Cut(t, "=")
		value, effect, _ := strings.Cut(rest, ":")
		o.Spec.Taints = append(o.Spec.Taints, corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(effect)})
	}
	for _, c := range []struct{ kind, status, reason, message string }{
		{"NetworkUnavailable", "False", "FlannelIsUp", "Flannel is running on this node"},
		{"MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"},
		{"DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"},
		{"PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"},
		{"Ready", map[bool]string{true: "True", false: "False"}[n.Ready], "KubeletReady", "kubelet is posting ready status"},
	} {
		o.Status.Conditions = append(o.Status.Conditions, corev1.NodeCondition{
			Type: corev1.NodeConditionType(c.kind), Status: corev1.ConditionStatus(c.status), Reason: c.reason, Message: c.message,
		})
	}
	for _, ref := range sorted(f.Images) {
		o.Status.Images = append(o.Status.Images, corev1.ContainerImage{Names: []string{ref + "@" + f.Images[ref], ref}, SizeBytes: 28 << 20})
	}
	return o
}
