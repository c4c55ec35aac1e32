// Package kubeadm holds our own types of kubeadm's v1beta4 API and of the component configurations that travel with
// it, only the fields we use, and renders them from the inventory. Field names are those of
// k8s.io/kubernetes/cmd/kubeadm/app/apis/kubeadm/v1beta4, k8s.io/kubelet/config/v1beta1 and k8s.io/kube-proxy/config/v1alpha1.
package kubeadm

// CRISocket is containerd's.
const CRISocket = "unix:///run/containerd/containerd.sock"

const apiVersion = "kubeadm.k8s.io/v1beta4"

// TypeMeta names a document.
type TypeMeta struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
}

// InitConfiguration is what `kubeadm init` needs of one node.
type InitConfiguration struct {
	TypeMeta         `json:",inline"`
	BootstrapTokens  []BootstrapToken `json:"bootstrapTokens,omitempty"`
	NodeRegistration NodeRegistration `json:"nodeRegistration"`
	LocalAPIEndpoint APIEndpoint      `json:"localAPIEndpoint"`
	SkipPhases       []string         `json:"skipPhases,omitempty"`
}

// BootstrapToken lets nodes join for a while.
type BootstrapToken struct {
	Token       string   `json:"token"`
	Description string   `json:"description,omitempty"`
	TTL         string   `json:"ttl"`
	Usages      []string `json:"usages,omitempty"`
	Groups      []string `json:"groups,omitempty"`
}

// NodeRegistration is how a node enters the cluster.
type NodeRegistration struct {
	Name                  string   `json:"name"`
	CRISocket             string   `json:"criSocket"`
	Taints                *[]Taint `json:"taints,omitempty"`
	KubeletExtraArgs      []Arg    `json:"kubeletExtraArgs,omitempty"`
	IgnorePreflightErrors []string `json:"ignorePreflightErrors,omitempty"`
	ImagePullPolicy       string   `json:"imagePullPolicy"`
}

// Taint is a node taint.
type Taint struct {
	Key    string `json:"key"`
	Value  string `json:"value,omitempty"`
	Effect string `json:"effect"`
}

// Arg is one command-line argument of a component; the same name may come more than once.
type Arg struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// APIEndpoint is where this node's API server listens.
type APIEndpoint struct {
	AdvertiseAddress string `json:"advertiseAddress"`
	BindPort         int    `json:"bindPort"`
}

// ClusterConfiguration is what all control planes share.
type ClusterConfiguration struct {
	TypeMeta             `json:",inline"`
	ClusterName          string     `json:"clusterName"`
	KubernetesVersion    string     `json:"kubernetesVersion"`
	ControlPlaneEndpoint string     `json:"controlPlaneEndpoint"`
	Networking           Networking `json:"networking"`
	APIServer            APIServer  `json:"apiServer"`
	ControllerManager    Component  `json:"controllerManager"`
	Scheduler            Component  `json:"scheduler"`
	Etcd                 Etcd       `json:"etcd"`
	EncryptionAlgorithm  string     `json:"encryptionAlgorithm,omitempty"`
}

// Networking is the cluster's inside.
type Networking struct {
	ServiceSubnet string `json:"serviceSubnet"`
	PodSubnet     string `json:"podSubnet"`
	DNSDomain     string `json:"dnsDomain"`
}

// Component is a control plane component.
type Component struct {
	ExtraArgs    []Arg    `json:"extraArgs,omitempty"`
	ExtraVolumes []Volume `json:"extraVolumes,omitempty"`
	ExtraEnvs    []Env    `json:"extraEnvs,omitempty"`
}

// APIServer is the API server's part.
type APIServer struct {
	Component `json:",inline"`
	CertSANs  []string `json:"certSANs,omitempty"`
}

// Env is an environment variable.
type Env struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Volume is a host path in a component's pod.
type Volume struct {
	Name      string `json:"name"`
	HostPath  string `json:"hostPath"`
	MountPath string `json:"mountPath"`
	ReadOnly  bool   `json:"readOnly,omitempty"`
	PathType  string `json:"pathType,omitempty"`
}

// Etcd is stacked on the control planes.
type Etcd struct {
	Local LocalEtcd `json:"local"`
}

// LocalEtcd is a member on the node itself.
type LocalEtcd struct {
	DataDir   string `json:"dataDir"`
	ExtraArgs []Arg  `json:"extraArgs,omitempty"`
}

// JoinConfiguration is what `kubeadm join` needs.
type JoinConfiguration struct {
	TypeMeta         `json:",inline"`
	NodeRegistration NodeRegistration  `json:"nodeRegistration"`
	Discovery        Discovery         `json:"discovery"`
	ControlPlane     *JoinControlPlane `json:"controlPlane,omitempty"`
}

// Discovery finds the cluster by token and checks it by its authority's hash.
type Discovery struct {
	BootstrapToken TokenDiscovery `json:"bootstrapToken"`
}

// TokenDiscovery is token, address and hash.
type TokenDiscovery struct {
	Token             string   `json:"token"`
	APIServerEndpoint string   `json:"apiServerEndpoint"`
	CACertHashes      []string `json:"caCertHashes"`
}

// JoinControlPlane makes the joining node a control plane.
type JoinControlPlane struct {
	LocalAPIEndpoint APIEndpoint `json:"localAPIEndpoint"`
}

// KubeletConfiguration is kubelet.config.k8s.io/v1beta1.
type KubeletConfiguration struct {
	TypeMeta                       `json:",inline"`
	CgroupDriver                   string                `json:"cgroupDriver"`
	FailCgroupV1                   bool                  `json:"failCgroupV1"`
	FailSwapOn                     bool                  `json:"failSwapOn"`
	Authentication                 KubeletAuthentication `json:"authentication"`
	Authorization                  KubeletAuthorization  `json:"authorization"`
	ReadOnlyPort                   int                   `json:"readOnlyPort"`
	ProtectKernelDefaults          bool                  `json:"protectKernelDefaults"`
	MakeIPTablesUtilChains         bool                  `json:"makeIPTablesUtilChains"`
	RotateCertificates             bool                  `json:"rotateCertificates"`
	TLSCertFile                    string                `json:"tlsCertFile"`
	TLSPrivateKeyFile              string                `json:"tlsPrivateKeyFile"`
	TLSMinVersion                  string                `json:"tlsMinVersion"`
	TLSCipherSuites                []string              `json:"tlsCipherSuites"`
	SeccompDefault                 bool                  `json:"seccompDefault"`
	StreamingConnectionIdleTimeout string                `json:"streamingConnectionIdleTimeout"`
	EventRecordQPS                 int                   `json:"eventRecordQPS"`
	MaxPods                        int                   `json:"maxPods"`
	EvictionHard                   map[string]string     `json:"evictionHard,omitempty"`
	SystemReserved                 map[string]string     `json:"systemReserved,omitempty"`
	KubeReserved                   map[string]string     `json:"kubeReserved,omitempty"`
	ContainerLogMaxSize            string                `json:"containerLogMaxSize"`
	ContainerLogMaxFiles           int                   `json:"containerLogMaxFiles"`
	ShutdownGracePeriod            string                `json:"shutdownGracePeriod,omitempty"`
	ResolvConf                     string                `json:"resolvConf,omitempty"`
}

// KubeletAuthentication says who may speak to kubelet.
type KubeletAuthentication struct {
	Anonymous Enabled `json:"anonymous"`
	Webhook   Enabled `json:"webhook"`
	X509      X509    `json:"x509"`
}

// Enabled is a switch.
type Enabled struct {
	Enabled bool `json:"enabled"`
}

// X509 names the authority of clients.
type X509 struct {
	ClientCAFile string `json:"clientCAFile"`
}

// KubeletAuthorization says how kubelet decides.
type KubeletAuthorization struct {
	Mode string `json:"mode"`
}

// KubeProxyConfiguration is kubeproxy.config.k8s.io/v1alpha1.
type KubeProxyConfiguration struct {
	TypeMeta           `json:",inline"`
	Mode               string    `json:"mode"`
	ClusterCIDR        string    `json:"clusterCIDR"`
	MetricsBindAddress string    `json:"metricsBindAddress"`
	NodePortAddresses  []string  `json:"nodePortAddresses,omitempty"`
	Conntrack          Conntrack `json:"conntrack"`
}

// Conntrack with zeros leaves the machine's limits alone: the site sets them by host.sysctls if it wants to.
type Conntrack struct {
	MaxPerCore            int    `json:"maxPerCore"`
	Min                   int    `json:"min"`
	TCPEstablishedTimeout string `json:"tcpEstablishedTimeout"`
	TCPCloseWaitTimeout   string `json:"tcpCloseWaitTimeout"`
}
