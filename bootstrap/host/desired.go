package host

import (
	"fmt"
	"sort"
	"strings"

	"github.com/catamaran-k8s/catamaran/bootstrap/kubeadm"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// Node is what must be true on one machine before kubeadm runs, as data.
type Node struct {
	Files   []WantedFile
	Sysctls map[string]string
	Modules []string
	NoSwap  bool
	// Units must be enabled; those in Running must also run.
	Units, Running []string
	// Firewall is the stamp of the ruleset that must be loaded; empty: none of ours must be.
	Firewall string
}

// WantedFile is a file that is managed as a whole.
type WantedFile struct {
	Path    string
	Mode    uint32
	Content string
	// Restart names the unit that must restart when the file changed.
	Restart string
	// AtStart says that the API server reads the file only when it starts.
	AtStart bool
}

// Placement is where a program of the bundle is installed. Program names are those of the bundle.
type Placement struct {
	Name string
	Path string
	// Restart names the unit that must restart when the program changed.
	Restart string
}

// Programs are the programs of a node, from the bundle.
func Programs(cni inventory.CNI) []Placement {
	p := []Placement{
		{Name: "kubeadm", Path: "/usr/bin/kubeadm"},
		{Name: "kubelet", Path: "/usr/bin/kubelet", Restart: "kubelet.service"},
		{Name: "kubectl", Path: "/usr/bin/kubectl"},
		{Name: "containerd", Path: "/usr/local/bin/containerd", Restart: "containerd.service"},
		{Name: "containerd-shim-runc-v2", Path: "/usr/local/bin/containerd-shim-runc-v2"},
		{Name: "ctr", Path: "/usr/local/bin/ctr"},
		{Name: "runc", Path: "/usr/local/bin/runc"},
		{Name: "etcdctl", Path: "/usr/local/bin/etcdctl"},
	}
	plugins := []string{"bridge", "host-local", "loopback", "portmap"}
	if cni == inventory.CNIFlannel {
		plugins = append(plugins, "flannel")
	}
	for _, n := range plugins {
		p = append(p, Placement{Name: "cni/" + n, Path: "/opt/cni/bin/" + n})
	}
	return p
}

// DesiredInput is what Desired is made from.
type DesiredInput struct {
	Inventory *inventory.Inventory
	Cluster   inventory.ClusterName
	Node      *inventory.Node
	// AuditPolicy is written on control planes.
	AuditPolicy string
	// Authentication is written on control planes; empty: kubeadm.Authentication.
	Authentication string
}

const (
	sysctlFile  = "/etc/sysctl.d/99-catamaran.conf"
	modulesFile = "/etc/modules-load.d/catamaran.conf"

	// journaldFile keeps the journal over a restart: some distributions have it in memory only, and what was not delivered
	// when the power went would be lost.
	journaldFile = "/etc/systemd/journald.conf.d/catamaran.conf"
	journaldConf = "# written by catamaran\n[Journal]\nStorage=persistent\n"
)

// Desired returns what a node must look like. The sysctls are those kubelet checks with protectKernelDefaults and
// those the network needs. The error says that the Kubernetes version is not supported.
func Desired(in DesiredInput) (Node, error) {
	pause, err := kubeadm.Pause(in.Inventory.Cluster(in.Cluster).VersionOr(in.Inventory))
	if err != nil {
		return Node{}, err
	}
	n := Node{
		Sysctls: map[string]string{
			"net.ipv4.ip_forward":                "1",
			"net.bridge.bridge-nf-call-iptables": "1",
			"vm.overcommit_memory":               "1",
			"vm.panic_on_oom":                    "0",
			"kernel.panic":                       "10",
			"kernel.panic_on_oops":               "1",
		},
		Modules: []string{"overlay", "br_netfilter"},
		NoSwap:  in.Inventory.Host.DisableSwap == nil || *in.Inventory.Host.DisableSwap,
		Units:   []string{"containerd.service", "kubelet.service"},
		Running: []string{"containerd.service"},
	}
	for k, v := range in.Inventory.Host.Sysctls {
		n.Sysctls[k] = v
	}
	n.Modules = append(n.Modules, in.Inventory.Host.KernelModules...)
	n.Files = []WantedFile{
		{Path: sysctlFile, Mode: 0o644, Content: sysctlConf(n.Sysctls)},
		{Path: modulesFile, Mode: 0o644, Content: "# written by catamaran\n" + strings.Join(n.Modules, "\n") + "\n"},
		{Path: "/etc/containerd/config.toml", Mode: 0o644, Content: containerdConfig(pause, in.Inventory.Host.RestrictOOMScoreAdj), Restart: "containerd.service"},
		{Path: "/etc/systemd/system/containerd.service", Mode: 0o644, Content: containerdUnit, Restart: "containerd.service"},
		{Path: "/etc/systemd/system/kubelet.service", Mode: 0o644, Content: kubeletUnit, Restart: "kubelet.service"},
		{Path: journaldFile, Mode: 0o644, Content: journaldConf, Restart: "systemd-journald.service"},
		{Path: "/etc/crictl.yaml", Mode: 0o644, Content: "# written by catamaran\nruntime-endpoint: unix:///run/containerd/containerd.sock\n"},
	}
	// the workload cluster is its owner's: who may reach its pods is not ours to say
	if fw := in.Inventory.Host.Firewall; in.Cluster == inventory.Service && (fw == nil || *fw) {
		rules, stamp := Firewall(in.Inventory, in.Cluster)
		n.Firewall, n.Units = stamp, append(n.Units, firewallUnit)
		n.Files = append(n.Files,
			WantedFile{Path: firewallFile, Mode: 0o644, Content: rules},
			WantedFile{Path: "/etc/systemd/system/" + firewallUnit, Mode: 0o644, Content: firewallService},
		)
	}
	if in.Node.Role == inventory.ControlPlane {
		if in.Authentication == "" {
			in.Authentication = kubeadm.Authentication()
		}
		n.Files = append(n.Files,
			WantedFile{Path: kubeadm.AuditPolicyFile, Mode: 0o600, Content: in.AuditPolicy, AtStart: true},
			WantedFile{Path: kubeadm.AuthenticationFile, Mode: 0o600, Content: in.Authentication},
		)
		if kubeadm.Guarded(in.Inventory, in.Inventory.Cluster(in.Cluster)) {
			n.Files = append(n.Files,
				WantedFile{Path: kubeadm.AdmissionFile, Mode: 0o600, Content: kubeadm.AdmissionConfiguration(), AtStart: true},
				WantedFile{Path: kubeadm.AdmissionGuardFile, Mode: 0o600, Content: kubeadm.AdmissionGuard(in.Inventory)},
			)
		}
	}
	return n, nil
}

func sysctlConf(s map[string]string) string {
	keys := make([]string, 0, len(s))
	for k := range s {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	var b strings.Builder
	b.WriteString("# written by catamaran\n")
	for _, k := range keys {
		fmt.Fprintf(&b, "%s = %s\n", k, s[k])
	}
	return b.String()
}

func containerdConfig(pause string, restrictOOM bool) string {
	return fmt.Sprintf(`# written by catamaran
version = 3

[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '%s'
[plugins.'io.containerd.cri.v1.images'.registry]
  config_path = '/etc/containerd/certs.d'

[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = %t
  # only crictl shows these; the default of a second took a fifth of a busy machine
  stats_collect_period = '60s'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  BinaryName = '/usr/local/bin/runc'
  SystemdCgroup = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ['/opt/cni/bin']
  conf_dir = '/etc/cni/net.d'
`, pause, restrictOOM)
}

// containerdUnit: Delegate leaves the cgroups of containers alone, KillMode=process lets them outlive a restart.
const containerdUnit = `# written by catamaran
[Unit]
Description=container runtime
After=network.target local-fs.target

[Service]
ExecStart=/usr/local/bin/containerd
Type=notify
Delegate=yes
KillMode=process
Restart=always
RestartSec=2
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
OOMScoreAdjust=-999

[Install]
WantedBy=multi-user.target
`

// kubeletUnit holds the arguments that kubeadm expects; kubelet waits for its configuration instead of failing.
const kubeletUnit = `# written by catamaran
[Unit]
Description=Kubernetes node agent
After=containerd.service network-online.target
Wants=containerd.service network-online.target
ConditionPathExists=/var/lib/kubelet/config.yaml
StartLimitIntervalSec=0

[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
Restart=always
RestartSec=2

[Install]
WantedBy=multi-user.target
`
