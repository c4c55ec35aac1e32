// Package inventory is the ground floor: the inventory file's types, its strict parser, defaults, validation,
// JSON schema and importers. It imports nothing of the project and never touches a host.
//
// The field tag "check" says what is asked of a single value: "required", the name of a rule in rules.go, "each=" a
// rule for every element, "key=" a rule for every key. The parser and the JSON schema both follow it.
package inventory

import (
	"time"

	"go.yaml.in/yaml/v3"
)

// APIVersion and Kind stand at the head of every inventory file.
const (
	APIVersion = "catamaran/v1alpha1"
	Kind       = "Inventory"
)

// Inventory describes a whole site: both clusters, how their machines are reached and what is installed on them.
type Inventory struct {
	APIVersion string     `json:"apiVersion" check:"required,apiVersion"`
	Kind       string     `json:"kind" check:"required,kind"`
	Metadata   Metadata   `json:"metadata" check:"required"`
	Kubernetes Kubernetes `json:"kubernetes" check:"required"`
	// Bundle is the offline bundle (file or folder) that nodes are installed from; relative to the inventory file.
	Bundle string `json:"bundle,omitempty" check:"path"`
	// SSH holds the site-wide defaults; a cluster and a node may override single fields.
	SSH   SSH   `json:"ssh,omitzero"`
	Vault Vault `json:"vault,omitzero"`
	// Host says what is changed on every node beyond Kubernetes itself.
	Host     Host     `json:"host,omitzero"`
	Clusters Clusters `json:"clusters" check:"required"`
	// Platform is what collects evidence in the workload cluster and keeps it in the service cluster.
	Platform Platform `json:"platform,omitzero"`
	// Components switches the embedded charts on and off and sets their values, by component name.
	Components map[string]Component `json:"components,omitzero" check:"key=label"`
	// Releases are Helm charts of the site's own, planned and installed like the embedded ones.
	Releases []Release `json:"releases,omitzero"`

	// Dir is the folder of the inventory file; relative paths in it start there. Not part of the file.
	Dir string `json:"-"`
	// Path is the inventory file itself, for messages. Not part of the file.
	Path string `json:"-"`

	root *yaml.Node // the file as it was read, for Where
}

// Metadata names the site.
type Metadata struct {
	// Name is an RFC 1123 label; it names the site folder and the vault.
	Name string `json:"name" check:"required,label"`
}

// Kubernetes is the version and the settings both clusters share.
type Kubernetes struct {
	// Version is a full version without "v", such as 1.37.2. Supported minors: 1.35 to 1.37.
	Version string `json:"version" check:"required,version"`
	// FailOnCgroupV1 keeps kubelet's refusal of cgroup v1 hosts (its default since 1.35). Default true.
	FailOnCgroupV1 *bool `json:"failOnCgroupV1,omitempty"`
	// IgnorePreflightErrors are kubeadm preflight checks turned into warnings, by kubeadm's names.
	IgnorePreflightErrors []string `json:"ignorePreflightErrors,omitzero" check:"each=preflight"`
}

// SSH says how machines are reached. Host keys are always verified.
type SSH struct {
	User string `json:"user,omitempty" check:"user"` // default root
	Port int    `json:"port,omitempty" check:"port"` // default 22
	// KeyFile is a private key; "~/" and paths relative to the inventory are resolved.
	KeyFile string `json:"keyFile,omitempty" check:"path"`
	// KeyPassphrase opens an encrypted key file.
	KeyPassphrase *Secret `json:"keyPassphrase,omitempty"`
	// Agent uses the agent at SSH_AUTH_SOCK. Default: where no key file is named for the node.
	Agent *bool `json:"agent,omitempty"`
	// KnownHosts is an OpenSSH known_hosts file asked where a node pins no hostKey. Default: the site folder's known_hosts,
	// which `catamaran trust` writes.
	KnownHosts string `json:"knownHosts,omitempty" check:"path"`
	// Jump hosts are passed in order, the first is dialled directly.
	Jump []JumpHost `json:"jump,omitzero"`
	// AuthorizedKeys are public keys that a machine lets in which a provider makes, beside that of KeyFile or, without a key file,
	// those that the agent holds then.
	AuthorizedKeys []string `json:"authorizedKeys,omitzero" check:"each=publicKey"`
	// SudoPassword is given to sudo where the login user is not root and sudo asks for one.
	SudoPassword *Secret `json:"sudoPassword,omitempty"`
	// ConnectTimeout bounds dialling and the handshake. Default 10s.
	ConnectTimeout Duration `json:"connectTimeout,omitempty"`
	// KeepAlive is the interval of keep-alive requests; three unanswered ones end the connection. Default 5s.
	KeepAlive Duration `json:"keepAlive,omitempty"`
}

// JumpHost is a machine that connections pass through. An empty user and key are inherited from the node's SSH.
type JumpHost struct {
	Address string `json:"address" check:"required,jump"`
	Port    int    `json:"port,omitempty" check:"port"`
	User    string `json:"user,omitempty" check:"user"`
	KeyFile string `json:"keyFile,omitempty" check:"path"`
	HostKey string `json:"hostKey,omitempty" check:"hostKey"`
}

// Secret points at a secret; the secret itself never stands in an inventory. Exactly one field is set.
type Secret struct {
	// File holds the secret; one trailing newline is dropped. Its mode must not allow others to read it.
	File string `json:"file,omitempty" check:"path"`
	// Env names an environment variable of the catamaran process.
	Env string `json:"env,omitempty" check:"env"`
}

// Vault says who can open the site's age-encrypted vault (<name>.vault.age beside the inventory).
type Vault struct {
	// IdentityFile is the age identity that opens the vault. Default ~/.config/catamaran/<site>.agekey; made on the
	// first apply, mode 0600.
	IdentityFile string `json:"identityFile,omitempty" check:"path"`
	// Recipients are further age public keys that can open it (a second operator, an offline escrow key).
	Recipients []string `json:"recipients,omitzero" check:"each=recipient"`
}

// Host says what preparation may change on nodes.
type Host struct {
	// Sysctls are set beside those Kubernetes needs.
	Sysctls map[string]string `json:"sysctls,omitzero" check:"key=sysctl,each=sysctlValue"`
	// KernelModules are loaded beside those Kubernetes needs; one that is built in counts as loaded.
	KernelModules []string `json:"kernelModules,omitzero" check:"each=module"`
	// DisableSwap turns swap off now and at boot. Default true.
	DisableSwap *bool `json:"disableSwap,omitempty"`
	// RestrictOOMScoreAdj is containerd's restrict_oom_score_adj, for hosts without CAP_SYS_RESOURCE. Default false.
	RestrictOOMScoreAdj bool `json:"restrictOOMScoreAdj,omitempty"`
	// Firewall keeps etcd, kubelet, pods and Services of the service cluster from everybody who is not its node or pod, with an
	// nftables table of its own on each node. The API endpoint, node ports, SSH and all else stay as they are. Default true.
	Firewall *bool `json:"firewall,omitempty"`
	// Minimum is what preflight asks of each machine.
	Minimum Minimum `json:"minimum,omitzero"`
}

// Minimum is the least that preflight accepts. Defaults are kubeadm's own: 2 CPUs and 1700 MiB on control planes.
type Minimum struct {
	ControlPlaneCPUs      int `json:"controlPlaneCPUs,omitempty" check:"positive"`      // default 2
	ControlPlaneMemoryMiB int `json:"controlPlaneMemoryMiB,omitempty" check:"positive"` // default 1700
	WorkerCPUs            int `json:"workerCPUs,omitempty" check:"positive"`            // default 1
	WorkerMemoryMiB       int `json:"workerMemoryMiB,omitempty" check:"positive"`       // default 1024
	DiskGiB               int `json:"diskGiB,omitempty" check:"positive"`               // default 10, free under /var/lib
	// ClockSkew is the largest difference between any two nodes' clocks. Default 2s.
	ClockSkew Duration `json:"clockSkew,omitempty"`
}

// ClusterName tells the two clusters apart.
type ClusterName string

// The two clusters of a site.
const (
	Service  ClusterName = "service"
	Workload ClusterName = "workload"
)

// Clusters holds both clusters. Either may be missing while a site is built up, not both.
type Clusters struct {
	Service  *Cluster `json:"service,omitempty"`
	Workload *Cluster `json:"workload,omitempty"`
}

// Cluster is one kubeadm cluster.
type Cluster struct {
	// Version overrides kubernetes.version.
	Version  string   `json:"version,omitempty" check:"version"`
	Endpoint Endpoint `json:"endpoint,omitzero"`
	Network  Network  `json:"network" check:"required"`
	Provider Provider `json:"provider,omitzero"`
	// SSH overrides single fields of the site's.
	SSH *SSH `json:"ssh,omitempty"`
	// Nodes are single machines. Once read, those of the pools follow them; a file that is written holds the pools only.
	Nodes []Node `json:"nodes,omitzero"`
	// Pools are nodes that are alike: each stands for count nodes, NAME-1 to NAME-count. Only where the provider makes machines.
	Pools []Pool `json:"pools,omitzero"`
	// Cloud is how the cluster's own controllers reach its provider's API; only where the provider has one.
	Cloud *Cloud `json:"cloud,omitempty"`

	APIServer  APIServer  `json:"apiServer,omitzero"`
	Encryption Encryption `json:"encryption,omitzero"`
	Kubelet    Kubelet    `json:"kubelet,omitzero"`
	// Backup is where the component velero copies the cluster's objects to.
	Backup *Backup `json:"backup,omitempty"`
}

// EndpointMode says who answers on the API endpoint.
type EndpointMode string

// Endpoint modes.
const (
	// EndpointVIP is an address that kube-vip moves between the control planes.
	EndpointVIP EndpointMode = "vip"
	// EndpointExternal is a load balancer of the site's own.
	EndpointExternal EndpointMode = "external"
	// EndpointNode is the address of the only control plane.
	EndpointNode EndpointMode = "node"
)

// Endpoint is where the cluster's API is reached.
type Endpoint struct {
	// Address is an IP address or, for external, a DNS name. Default: the only control plane's address.
	Address string `json:"address,omitempty" check:"endpoint"`
	Port    int    `json:"port,omitempty" check:"port"` // default 6443
	// Mode defaults to node where the address is that of the only control plane, else to vip.
	Mode EndpointMode `json:"mode,omitempty" check:"mode"`
	// Interface is the network interface that carries the VIP. Default: the one with the node's address.
	Interface string `json:"interface,omitempty" check:"interface"`
}

// CNI names a network plugin.
type CNI string

// Network plugins.
const (
	CNIFlannel CNI = "flannel"
	CNINone    CNI = "none" // the site brings its own as a release
)

// Network is the cluster's inside. Both CIDRs must be free in the whole site.
type Network struct {
	PodCIDR     string `json:"podCIDR" check:"required,cidr"`
	ServiceCIDR string `json:"serviceCIDR" check:"required,cidr"`
	DNSDomain   string `json:"dnsDomain,omitempty" check:"domain"` // default cluster.local
	CNI         CNI    `json:"cni,omitempty" check:"cni"`          // default flannel
	// ProxyMode is kube-proxy's: nftables (default) or iptables.
	ProxyMode string `json:"proxyMode,omitempty" check:"proxyMode"`
	// NetworkPolicy installs kube-network-policies, which needs the kernel's nftables queue verdict. Default true with flannel.
	NetworkPolicy *bool `json:"networkPolicy,omitempty"`
}

// Provider says where machines come from: one of these. Default: onprem.
type Provider struct {
	OnPrem    *OnPrem    `json:"onprem,omitempty"`
	OpenStack *OpenStack `json:"openstack,omitempty"`
	VSphere   *VSphere   `json:"vsphere,omitempty"`
	External  *External  `json:"external,omitempty"`
}

// OnPrem adopts machines that are listed with their addresses.
type OnPrem struct{}

// Role is what a node does.
type Role string

// Roles.
const (
	ControlPlane Role = "control-plane"
	Worker       Role = "worker"
)

// NodeState says whether a node belongs to the cluster.
type NodeState string

// Node states.
const (
	Present NodeState = "present"
	// Absent drains the node, removes it from the cluster and resets the machine.
	Absent NodeState = "absent"
)

// Node is one machine of a cluster.
type Node struct {
	// Name is the Kubernetes node name, an RFC 1123 subdomain; unique in the site.
	Name string `json:"name" check:"required,node"`
	Role Role   `json:"role" check:"required,role"`
	// Address is the IP address of the node; SSH and Kubernetes both use it. A provider that makes machines gives one where
	// the inventory names none; onprem needs it.
	Address string `json:"address,omitempty" check:"address"`
	// HostKey pins the SSH host key: "SHA256:..." or an authorized_keys style public key.
	HostKey string            `json:"hostKey,omitempty" check:"hostKey"`
	State   NodeState         `json:"state,omitempty" check:"state"` // default present
	SSH     *SSH              `json:"ssh,omitempty"`
	Labels  map[string]string `json:"labels,omitzero" check:"key=labelKey,each=labelValue"`
	// Taints replace kubeadm's own on this node; an empty list leaves a control plane schedulable.
	Taints *[]Taint `json:"taints,omitempty"`
	// OpenStack and VSphere override single fields of the provider's machine defaults, for this node.
	OpenStack *OpenStackMachine `json:"openstack,omitempty"`
	VSphere   *VSphereMachine   `json:"vsphere,omitempty"`
	// External is handed to an external provider as it is.
	External map[string]any `json:"external,omitzero"`

	// Pool is the pool that the node came from; empty for one that is listed. Not part of the file.
	Pool string `json:"-"`
	// Leaving says that its machine is deleted once it has left the cluster: nobody may count on its address any more. Not part of
	// the file.
	Leaving bool `json:"-"`
}

// Taint is a Kubernetes taint.
type Taint struct {
	Key    string `json:"key" check:"required,labelKey"`
	Value  string `json:"value,omitempty" check:"labelValue"`
	Effect string `json:"effect" check:"required,effect"` // NoSchedule, PreferNoSchedule or NoExecute
}

// APIServer holds what a site may change on the API server.
type APIServer struct {
	CertSANs []string `json:"certSANs,omitzero" check:"each=san"`
	// ExtraArgs are added to the hardened defaults; an argument of ours that is named here is replaced.
	ExtraArgs map[string]string `json:"extraArgs,omitzero" check:"key=argument,each=line"`
	// AuditPolicyFile replaces the built-in audit policy.
	AuditPolicyFile string `json:"auditPolicyFile,omitempty" check:"path"`
	// Audit log rotation; defaults 30 days, 10 files, 100 MiB each.
	AuditMaxAgeDays int `json:"auditMaxAgeDays,omitempty" check:"positive"`
	AuditMaxBackups int `json:"auditMaxBackups,omitempty" check:"positive"`
	AuditMaxSizeMiB int `json:"auditMaxSizeMiB,omitempty" check:"positive"`
}

// Encryption is encryption of Secrets at rest in etcd. The key lives in the vault.
type Encryption struct {
	Enabled *bool `json:"enabled,omitempty"` // default true
}

// Kubelet holds what a site may change on kubelets.
type Kubelet struct {
	// MaxPods is at most 253, the addresses of the /24 that each node gets. Default 110.
	MaxPods int `json:"maxPods,omitempty" check:"maxPods"`
	// SystemReserved and KubeReserved are kubelet's, such as {cpu: 100m, memory: 256Mi}.
	SystemReserved map[string]string `json:"systemReserved,omitzero" check:"key=reserved,each=quantity"`
	KubeReserved   map[string]string `json:"kubeReserved,omitzero" check:"key=reserved,each=quantity"`
	// EvictionHard is kubelet's; default memory.available 200Mi, nodefs.available 10%, imagefs.available 10%, nodefs.inodesFree 5%.
	EvictionHard map[string]string `json:"evictionHard,omitzero" check:"key=eviction,each=threshold"`
}

// Backup is a bucket for the backups of one cluster, in an S3 outside of both clusters.
type Backup struct {
	// Endpoint is https://host or https://host:port.
	Endpoint string `json:"endpoint" check:"required,httpsHost"`
	Region   string `json:"region,omitempty" check:"region"` // default us-east-1
	// CAFile is the authority (PEM) of its certificate. Default: the public ones.
	CAFile string `json:"caFile,omitempty" check:"path"`
	// Bucket is this cluster's alone. Default <site>-<cluster>-backup.
	Bucket string `json:"bucket,omitempty" check:"bucket"`
	// Credentials may put, read, list and delete in the bucket, and nothing else.
	Credentials AccessKey `json:"credentials" check:"required"`
}

// PlatformSize is what requests, limits, replicas and volumes of the platform are chosen by.
type PlatformSize string

// Platform sizes.
const (
	// Small fits a service cluster of 2 CPUs and 4 GiB; no part of it has a replica.
	Small    PlatformSize = "small"
	Standard PlatformSize = "standard"
	Large    PlatformSize = "large"
)

// Platform is the compliance platform: what collects logs, metrics and audit events in the workload cluster, and what
// keeps them in the service cluster, where nothing of the workload cluster reaches.
type Platform struct {
	// Enabled installs it; components.NAME.enabled adds or leaves out single parts. Default true; false where the inventory has
	// neither a service cluster nor ingest.address.
	Enabled *bool `json:"enabled,omitempty"`
	// Size is small, standard (default) or large.
	Size PlatformSize `json:"size,omitempty" check:"size"`
	// Tenant is the name that all evidence of the workload cluster is stamped with, by its certificate. Default
	// <site>-workload, cut to 63 characters. Another name begins a new tenant; what the old one delivered stays under its name.
	Tenant    string    `json:"tenant,omitempty" check:"label"`
	Ingest    Ingest    `json:"ingest,omitzero"`
	Retention Retention `json:"retention,omitzero"`
	// ObjectStorage is an S3 of the site's own, with object lock. Default: versitygw on a volume of the service cluster.
	ObjectStorage *ObjectStorage `json:"objectStorage,omitempty"`
	// SilenceAlert is how long logs or metrics of the workload cluster may be missing before it is an alert, in whole minutes.
	// Default 10m.
	SilenceAlert Duration `json:"silenceAlert,omitempty"`
	// Alerts says who is told. Default: nobody; alerts are then seen in Grafana only.
	Alerts Alerts `json:"alerts,omitzero"`
	// OIDC says where the component dex answers and where it looks users up.
	OIDC *OIDC `json:"oidc,omitempty"`
}

// Ingest is the only way from the workload cluster into the service cluster.
type Ingest struct {
	// Address is where the workload cluster's nodes reach the service cluster's node ports: an IP address or a DNS name.
	// Default: the service cluster's endpoint address.
	Address string `json:"address,omitempty" check:"endpoint"`
	// ForwardPort takes logs, MetricsPort metrics. They are node ports, 30000 to 32767, and can not be the same.
	ForwardPort int `json:"forwardPort,omitempty" check:"port"` // default 30224
	MetricsPort int `json:"metricsPort,omitempty" check:"port"` // default 30443
	// Credentials are for an inventory without the service cluster: what the operator of that cluster gave out. Otherwise they
	// are made from this site's vault.
	Credentials *IngestCredentials `json:"credentials,omitempty"`
}

// IngestCredentials are a workload cluster's identity at a service cluster of another inventory.
type IngestCredentials struct {
	// CAFile is the authority (PEM) of the ingest gateway's certificate.
	CAFile string `json:"caFile" check:"required,path"`
	// CertificateFile is the tenant's client certificate (PEM).
	CertificateFile string `json:"certificateFile" check:"required,path"`
	// Key is its private key (PEM).
	Key *Secret `json:"key" check:"required"`
}

// Retention is for how many days evidence is kept. Defaults by size, small, standard and large.
type Retention struct {
	// LogsDays is how long logs can be searched. Default 30, 90, 180.
	LogsDays int `json:"logsDays,omitempty" check:"days"`
	// MetricsDays is how long metrics are kept; they are not locked. Default 15, 30, 90.
	MetricsDays int `json:"metricsDays,omitempty" check:"days"`
	// LockDays is how long nobody can delete an object of the evidence. What is stored already keeps its lock when this is
	// changed. Default 30, 365, 365.
	LockDays int `json:"lockDays,omitempty" check:"days"`
}

// ObjectStorage is an S3 of the site's own. The bucket for evidence must have been made with object lock.
type ObjectStorage struct {
	// Endpoint is https://host or https://host:port.
	Endpoint string `json:"endpoint" check:"required,httpsHost"`
	Region   string `json:"region,omitempty" check:"region"` // default us-east-1
	// CAFile is the authority (PEM) of its certificate. Default: the public ones.
	CAFile  string  `json:"caFile,omitempty" check:"path"`
	Buckets Buckets `json:"buckets,omitzero"`
	// Credentials are one key for each bucket, which should be able to do no more than the bucket's user needs.
	Credentials BucketCredentials `json:"credentials" check:"required"`
}

// Buckets are the names of the three buckets. Default <site>-evidence, <site>-loki and <site>-thanos.
type Buckets struct {
	Evidence string `json:"evidence,omitempty" check:"bucket"` // with object lock
	Loki     string `json:"loki,omitempty" check:"bucket"`
	Thanos   string `json:"thanos,omitempty" check:"bucket"`
}

// BucketCredentials are the keys for the three buckets.
type BucketCredentials struct {
	// Evidence may put objects with a retention, read and list: not delete, nor bypass governance.
	Evidence AccessKey `json:"evidence" check:"required"`
	// Loki and Thanos may put, read, list and delete.
	Loki   AccessKey `json:"loki" check:"required"`
	Thanos AccessKey `json:"thanos" check:"required"`
}

// AccessKey is an S3 access key.
type AccessKey struct {
	Access *Secret `json:"access" check:"required"`
	Secret *Secret `json:"secret" check:"required"`
}

// Alerts says who is told of alerts.
type Alerts struct {
	// Webhook is sent every alert as JSON, in Alertmanager's format.
	Webhook *AlertWebhook `json:"webhook,omitempty"`
	// Email is sent every alert.
	Email *AlertEmail `json:"email,omitempty"`
	// Watchdog is called each minute as long as alerting works: a service outside that tells somebody when the calls stop.
	Watchdog *AlertWebhook `json:"watchdog,omitempty"`
}

// AlertWebhook is an address that is called.
type AlertWebhook struct {
	// URL is a secret: who knows it can write there.
	URL *Secret `json:"url" check:"required"`
}

// AlertEmail is how mail is sent. TLS is always asked for.
type AlertEmail struct {
	To   string `json:"to" check:"required,email"`
	From string `json:"from" check:"required,email"`
	// Smarthost is the mail server, host:port.
	Smarthost string  `json:"smarthost" check:"required,hostPort"`
	Username  string  `json:"username,omitempty" check:"user"`
	Password  *Secret `json:"password,omitempty"`
}

// OIDC is how people sign in to the workload cluster: its API server accepts tokens of Dex, which runs in the service cluster.
// The service cluster's API server accepts none of them.
type OIDC struct {
	// Address is where browsers and the workload cluster's control planes reach the service cluster's node ports: an IP address or
	// a DNS name. Default: platform.ingest.address.
	Address string `json:"address,omitempty" check:"endpoint"`
	// Port is a node port, 30000 to 32767.
	Port int `json:"port,omitempty" check:"port"` // default 30556
	// UsernameClaim is what of a token names the user. Kubernetes puts "oidc:" before names and groups. Default email.
	UsernameClaim string    `json:"usernameClaim,omitempty" check:"claim"`
	Connector     Connector `json:"connector" check:"required"`
}

// Connector is the directory of users that Dex asks.
type Connector struct {
	// Type is Dex's name of its kind, such as ldap, oidc or saml.
	Type string `json:"type" check:"required,label"`
	// Name is what users see. Default: the type.
	Name string `json:"name,omitempty" check:"line"`
	// Config are Dex's settings of this kind of directory. $NAME in a text stands for one of the secrets.
	Config map[string]any `json:"config" check:"required"`
	// Secrets are those that the settings name.
	Secrets map[string]Secret `json:"secrets,omitzero" check:"key=env"`
}

// Component configures one embedded chart.
type Component struct {
	Enabled *bool `json:"enabled,omitempty"`
	// Values are checked against the chart's strict schema before anything runs.
	Values map[string]any `json:"values,omitzero"`
}

// Release is a Helm chart of the site's own.
type Release struct {
	Name      string      `json:"name" check:"required,release"`
	Namespace string      `json:"namespace" check:"required,label"`
	Cluster   ClusterName `json:"cluster" check:"required,cluster"`
	// Chart is a folder, an archive (.tgz) or an OCI reference (oci://registry/repository).
	Chart   string `json:"chart" check:"required,chart"`
	Version string `json:"version,omitempty" check:"chartVersion"` // for OCI references
	// Values and ValuesFiles are merged, later files over earlier, Values over all.
	Values      map[string]any `json:"values,omitzero"`
	ValuesFiles []string       `json:"valuesFiles,omitzero" check:"each=path"`
	// Order places the release among ours, which have 0 to 99; lower first, 1000 at most. Default 100. A network plugin
	// (network.cni none) must come before 20, where ours begin that need one.
	Order int `json:"order" check:"order"`
	// Timeout bounds the wait for readiness. Default 5m.
	Timeout Duration `json:"timeout,omitempty"`
	// Username and Password sign in to the OCI registry.
	Username string  `json:"username,omitempty" check:"user"`
	Password *Secret `json:"password,omitempty"`
}

// Duration is a time.Duration written as in Go: 10s, 5m, 1h30m.
type Duration time.Duration
