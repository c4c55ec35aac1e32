// Package host knows what is true on a machine (facts, gathered in one round trip) and what must be (packages,
// sysctls, runtime, kubelet), as data. It writes nothing itself.
package host

import "time"

// PinnedLabel is the label by which containerd's CRI plugin tells the kubelet never to delete an image.
const PinnedLabel = "io.cri-containerd.pinned=pinned"

// Facts is what one run of the facts script found. Zero values mean "not there".
type Facts struct {
	// Identity and hardware.
	Hostname   string `json:"hostname"`
	MachineID  string `json:"machineID"`
	BootID     string `json:"bootID"`
	OSID       string `json:"osID"` // os-release ID, such as debian
	OSVersion  string `json:"osVersion"`
	OSName     string `json:"osName"` // PRETTY_NAME
	Kernel     string `json:"kernel"`
	Arch       string `json:"arch"` // uname -m
	CPUs       int    `json:"cpus"`
	MemoryMiB  int    `json:"memoryMiB"`
	DiskGiB    int    `json:"diskGiB"`    // size of the file system that holds /var/lib
	DiskFree   int    `json:"diskFree"`   // GiB, volatile
	Init       string `json:"init"`       // comm of PID 1
	CgroupV2   bool   `json:"cgroupV2"`   // unified hierarchy at /sys/fs/cgroup
	SwapActive bool   `json:"swapActive"` // any line in /proc/swaps
	// Clock is the machine's time when the script ran, volatile; Received is the observer's time at the same moment
	// (middle of the round trip).
	Clock    time.Time `json:"clock"`
	Received time.Time `json:"received"`
	// ClockError is how far Received may be off either way: half of what the command took. Volatile.
	ClockError time.Duration `json:"clockError,omitzero"`

	Interfaces []Interface       `json:"interfaces"`
	Sysctls    map[string]string `json:"sysctls"` // those asked for
	// Modules says of each module asked for: loaded, builtin, available or missing.
	Modules map[string]string `json:"modules"`
	// Features are kernel interfaces that exist, such as /proc/sys/net/bridge.
	Features  []string        `json:"features"`
	Listening []Listener      `json:"listening"`
	Units     map[string]Unit `json:"units"` // systemd units asked for
	// Firewall is the stamp of our ruleset that is loaded; empty: none.
	Firewall string `json:"firewall,omitempty"`
	// Files holds every path asked for that exists.
	Files map[string]File `json:"files"`
	// Written says when those of them that the API server reads at its start were written last, by the machine's clock.
	Written map[string]time.Time `json:"written,omitempty"`
	// APIServerStarted is when the running API server began, by the machine's clock; zero: none runs.
	APIServerStarted time.Time `json:"apiServerStarted,omitzero"`
	// Peers says of each address:port asked for whether a TCP connection got an answer (open or refused both count): "open", "refused", "timeout".
	Peers map[string]string `json:"peers,omitempty"`

	// Versions of installed programs, without "v": kubeadm, kubelet, kubectl, containerd, runc.
	Versions map[string]string `json:"versions"`
	// Images in containerd's k8s.io namespace that are pinned: reference to manifest digest.
	Images map[string]string `json:"images"`
	// Content are the digests in containerd's content store (k8s.io namespace).
	Content []string `json:"content"`
	// Blobs are the digests already in Catamaran's blob store on the host.
	Blobs []string `json:"blobs"`
	// Certificates found under /etc/kubernetes and kubelet's pki folder: path to the PEM of the leaf (public part only).
	Certificates map[string]string `json:"certificates"`
	// Running are transient units of Catamaran that have not ended, by step.
	Running []string `json:"running"`
	// Leftovers are signs of a cluster that is not ours: paths such as /etc/kubernetes/manifests, /var/lib/etcd/member, running k3s.
	Leftovers []string `json:"leftovers"`
	// Missing are programs that preparation or kubeadm needs and the machine lacks (such as conntrack, iptables, mount, socat).
	Missing []string `json:"missing"`

	// Cluster is what a control plane knows of its cluster; nil elsewhere or while its API does not answer.
	Cluster *ClusterFacts `json:"cluster,omitempty"`
	// ClusterError says why Cluster is nil on a control plane: one list that failed is enough.
	ClusterError string `json:"clusterError,omitempty"`
}

// Interface is a network interface with its addresses in CIDR notation.
type Interface struct {
	Name      string   `json:"name"`
	MTU       int      `json:"mtu"`
	Addresses []string `json:"addresses"`
}

// Listener is a listening TCP socket.
type Listener struct {
	Port int `json:"port"`
}

// Unit is a systemd unit's state.
type Unit struct {
	Active  string `json:"active"`  // active, inactive, failed ...
	Enabled string `json:"enabled"` // enabled, disabled, masked, static or empty
}

// File is a file that exists.
type File struct {
	Mode   string `json:"mode"` // octal, such as 0644
	Owner  string `json:"owner"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	// Content is there only for paths asked for with content, up to 64 KiB; never for secrets.
	Content string `json:"content,omitempty"`
}

// ClusterFacts come from the API server of a control plane.
type ClusterFacts struct {
	Nodes    []NodeFacts    `json:"nodes"`
	Releases []ReleaseFacts `json:"releases"`
	// Secrets are those that we made.
	Secrets []SecretFacts `json:"secrets,omitempty"`
	Etcd    []EtcdMember  `json:"etcd"`
}

// NodeFacts is one Node object, reduced.
type NodeFacts struct {
	Name          string            `json:"name"`
	Ready         bool              `json:"ready"`
	Unschedulable bool              `json:"unschedulable"`
	Version       string            `json:"version"` // kubelet's, without "v"
	ControlPlane  bool              `json:"controlPlane"`
	Address       string            `json:"address"` // InternalIP
	Labels        map[string]string `json:"labels"`
	Taints        []string          `json:"taints"` // key=value:Effect, without node.kubernetes.io/* ones
}

// ReleaseFacts is the newest revision of one Helm release.
type ReleaseFacts struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	Revision  int    `json:"revision"`
	Status    string `json:"status"`  // deployed, failed, pending-install ...
	Version   string `json:"version"` // chart version, from our label
	Digest    string `json:"digest"`  // our label: digest of chart and values
}

// SecretFacts is what one Secret that we made says about itself; its content is never asked for.
type SecretFacts struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	Digest    string `json:"digest"` // our annotation; empty while it is being put
	// NotAfter is when its certificate ends; zero: it has none.
	NotAfter time.Time `json:"notAfter,omitzero"`
}

// EtcdMember is one member of the etcd cluster.
type EtcdMember struct {
	Name    string `json:"name"`
	ID      string `json:"id"`
	Healthy bool   `json:"healthy"`
	Learner bool   `json:"learner"`
	URL     string `json:"url"` // client URL
}
