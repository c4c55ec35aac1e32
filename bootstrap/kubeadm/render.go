package kubeadm

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sort"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// Files that the configuration points at; the caller places them on control planes.
const (
	AuditPolicyFile    = "/etc/kubernetes/audit/policy.yaml"
	AuditLog           = "/var/log/kubernetes/audit/audit.log"
	EncryptionFile     = "/etc/kubernetes/encryption/config.yaml"
	AuthenticationFile = "/etc/kubernetes/authentication/config.yaml"
	ServingCert        = "/var/lib/kubelet/pki/catamaran-serving.crt"
	ServingKey         = "/var/lib/kubelet/pki/catamaran-serving.key"
)

// BindPort is where every API server listens on its own node, whatever the endpoint's port.
const BindPort = 6443

// auditMaxEvent is how long an event of the audit log may be, in bytes.
const auditMaxEvent = 4 << 20

// SkipPhasesInit leaves out the phase that would print the token.
const SkipPhasesInit = "show-join-command"

// Input is what the configurations of one node are made from.
type Input struct {
	Site                  string
	Cluster               inventory.ClusterName
	Spec                  *inventory.Cluster
	Version               string // without v
	Node                  *inventory.Node
	Address               string
	FailCgroupV1          bool
	IgnorePreflightErrors []string
	// AuditPolicy is the policy that is in place; its digest makes a changed policy restart the API server.
	AuditPolicy string
	// Guarded makes the API server read admission rules from files; see Guarded.
	Guarded bool
	// ExternalCloud says that a controller in the cluster tells Kubernetes about its nodes: kubelets wait for it.
	ExternalCloud bool
}

// Shared is the configuration without secrets: what every control plane of the cluster has in common, or for a worker
// kubelet's part. It is kept on the node so that drift can be seen.
func Shared(in Input) ([]byte, error) {
	if in.Node.Role == inventory.Worker {
		return documents(in.kubelet())
	}
	return documents(in.cluster(), in.kubelet(), in.proxy())
}

// Init is the configuration that founds the cluster. It holds the token: keep it 0600 and short-lived.
func Init(in Input, token string, ttl time.Duration) ([]byte, error) {
	init := InitConfiguration{
		TypeMeta: TypeMeta{apiVersion, "InitConfiguration"},
		BootstrapTokens: []BootstrapToken{{
			Token: token, TTL: ttl.String(), Description: "one apply of catamaran",
			Usages: []string{"signing", "authentication"}, Groups: []string{"system:bootstrappers:kubeadm:default-node-token"},
		}},
		NodeRegistration: in.registration(),
		LocalAPIEndpoint: APIEndpoint{in.Address, BindPort},
	}
	return documents(init, in.cluster(), in.kubelet(), in.proxy())
}

// Join is the configuration with which a node joins, trusting only the authority given. It holds the token.
func Join(in Input, token, caPEM string) ([]byte, error) {
	hash, err := CACertHash(caPEM)
	if err != nil {
		return nil, err
	}
	j := JoinConfiguration{
		TypeMeta:         TypeMeta{apiVersion, "JoinConfiguration"},
		NodeRegistration: in.registration(),
		Discovery: Discovery{TokenDiscovery{
			Token: token, APIServerEndpoint: in.endpoint(), CACertHashes: []string{hash},
		}},
	}
	if in.Node.Role == inventory.ControlPlane {
		j.ControlPlane = &JoinControlPlane{APIEndpoint{in.Address, BindPort}}
	}
	return documents(j)
}

// CACertHash is the public key pin that kubeadm's discovery checks: sha256 of the certificate's SubjectPublicKeyInfo.
func CACertHash(caPEM string) (string, error) {
	block, _ := pem.Decode([]byte(caPEM))
	if block == nil {
		return "", errors.New("the authority is not a PEM certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

func documents(docs ...any) ([]byte, error) {
	var b bytes.Buffer
	for i, d := range docs {
		if i > 0 {
			b.WriteString("---\n")
		}
		data, err := yaml.Marshal(d)
		if err != nil {
			return nil, err
		}
		b.Write(data)
	}
	return b.Bytes(), nil
}

func (in Input) endpoint() string {
	return net.JoinHostPort(in.Spec.Endpoint.Address, strconv.Itoa(in.Spec.Endpoint.Port))
}

func (in Input) registration() NodeRegistration {
	r := NodeRegistration{
		Name: in.Node.Name, CRISocket: CRISocket, ImagePullPolicy: "IfNotPresent",
		KubeletExtraArgs:      []Arg{{"node-ip", in.Address}},
		IgnorePreflightErrors: in.IgnorePreflightErrors,
	}
	if in.ExternalCloud {
		r.KubeletExtraArgs = append(r.KubeletExtraArgs, Arg{"cloud-provider", "external"})
	}
	if in.Node.Taints != nil {
		taints := []Taint{}
		for _, t := range *in.Node.Taints {
			taints = append(taints, Taint(t))
		}
		r.Taints = &taints
	}
	return r
}

// ciphers are the TLS 1.2 suites with forward secrecy and authenticated encryption (Mozilla "intermediate"); TLS 1.3's are fixed.
func ciphers() []string {
	return []string{
		"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
		"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
		"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
	}
}

func (in Input) cluster() ClusterConfiguration {
	n := in.Spec.Network
	return ClusterConfiguration{
		TypeMeta:    TypeMeta{apiVersion, "ClusterConfiguration"},
		ClusterName: in.Site + "-" + string(in.Cluster), KubernetesVersion: "v" + in.Version,
		ControlPlaneEndpoint: in.endpoint(),
		Networking:           Networking{ServiceSubnet: n.ServiceCIDR, PodSubnet: n.PodCIDR, DNSDomain: n.DNSDomain},
		EncryptionAlgorithm:  "ECDSA-P256",
		APIServer:            APIServer{Component: in.apiServer(), CertSANs: in.sans()},
		ControllerManager: Component{ExtraArgs: args(map[string]string{
			"bind-address": "127.0.0.1", "profiling": "false", "terminated-pod-gc-threshold": "1000",
		})},
		Scheduler: Component{ExtraArgs: args(map[string]string{"bind-address": "127.0.0.1", "profiling": "false"})},
		Etcd:      Etcd{LocalEtcd{DataDir: "/var/lib/etcd"}},
	}
}

// sans name the API server every way it is reached, beside the node's own name and address, which kubeadm adds; 127.0.0.1
// is how a control plane asks its own.
func (in Input) sans() []string {
	set := map[string]bool{in.Spec.Endpoint.Address: true, "127.0.0.1": true, "localhost": true}
	for _, s := range in.Spec.APIServer.CertSANs {
		set[s] = true
	}
	out := make([]string, 0, len(set))
	for s := range set {
		out = append(out, s)
	}
	sort.Strings(out)
	return out
}

func (in Input) apiServer() Component {
	a := in.Spec.APIServer
	m := map[string]string{
		"profiling":                     "false",
		"tls-min-version":               "VersionTLS12",
		"tls-cipher-suites":             strings.Join(ciphers(), ","),
		"enable-admission-plugins":      "NodeRestriction",
		"kubelet-certificate-authority": "/etc/kubernetes/pki/ca.crt",
		"authentication-config":         AuthenticationFile,
		"audit-policy-file":             AuditPolicyFile,
		"audit-log-path":                AuditLog,
		"audit-log-maxage":              strconv.Itoa(a.AuditMaxAgeDays),
		"audit-log-maxbackup":           strconv.Itoa(a.AuditMaxBackups),
		"audit-log-maxsize":             strconv.Itoa(a.AuditMaxSizeMiB),
		// a longer event is logged without bodies; the log agent's chunks hold 8 MiB, and what etcd stores (1.5 MiB) fits twice
		"audit-log-truncate-enabled":        "true",
		"audit-log-truncate-max-event-size": strconv.Itoa(auditMaxEvent),
	}
	c := Component{ExtraVolumes: []Volume{
		{Name: "audit-policy", HostPath: "/etc/kubernetes/audit", MountPath: "/etc/kubernetes/audit", ReadOnly: true, PathType: "Directory"},
		{Name: "audit-log", HostPath: "/var/log/kubernetes/audit", MountPath: "/var/log/kubernetes/audit", PathType: "DirectoryOrCreate"},
		{Name: "authentication", HostPath: "/etc/kubernetes/authentication", MountPath: "/etc/kubernetes/authentication", ReadOnly: true, PathType: "Directory"},
	}}
	if e := in.Spec.Encryption.Enabled; e == nil || *e {
		m["encryption-provider-config"] = EncryptionFile
		c.ExtraVolumes = append(c.ExtraVolumes, Volume{Name: "encryption", HostPath: "/etc/kubernetes/encryption", MountPath: "/etc/kubernetes/encryption", ReadOnly: true, PathType: "Directory"})
	}
	// static pods restart when their manifest changes, not when a file they read does
	c.ExtraEnvs = []Env{{"CATAMARAN_AUDIT_POLICY", digest(in.AuditPolicy)}}
	if in.Guarded {
		m["admission-control-config-file"] = AdmissionFile
		c.ExtraVolumes = append(c.ExtraVolumes, Volume{Name: "admission", HostPath: "/etc/kubernetes/admission", MountPath: "/etc/kubernetes/admission", ReadOnly: true, PathType: "Directory"})
		c.ExtraEnvs = append(c.ExtraEnvs, Env{"CATAMARAN_ADMISSION", digest(AdmissionConfiguration())})
	}
	for k, v := range a.ExtraArgs {
		m[k] = v
	}
	c.ExtraArgs = args(m)
	return c
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

func args(m map[string]string) []Arg {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	out := make([]Arg, 0, len(m))
	for _, k := range keys {
		out = append(out, Arg{k, m[k]})
	}
	return out
}

func (in Input) kubelet() KubeletConfiguration {
	k := in.Spec.Kubelet
	return KubeletConfiguration{
		TypeMeta:     TypeMeta{"kubelet.config.k8s.io/v1beta1", "KubeletConfiguration"},
		CgroupDriver: "systemd", FailCgroupV1: in.FailCgroupV1, FailSwapOn: false,
		Authentication: KubeletAuthentication{
			Webhook: Enabled{true}, X509: X509{"/etc/kubernetes/pki/ca.crt"},
		},
		Authorization:         KubeletAuthorization{"Webhook"},
		ProtectKernelDefaults: true, MakeIPTablesUtilChains: true, RotateCertificates: true,
		TLSCertFile: ServingCert, TLSPrivateKeyFile: ServingKey,
		TLSMinVersion: "VersionTLS12", TLSCipherSuites: ciphers(),
		SeccompDefault: true, StreamingConnectionIdleTimeout: "1h0m0s", EventRecordQPS: 50,
		MaxPods: k.MaxPods, EvictionHard: k.EvictionHard, SystemReserved: k.SystemReserved, KubeReserved: k.KubeReserved,
		ContainerLogMaxSize: "10Mi", ContainerLogMaxFiles: 5,
	}
}

func (in Input) proxy() KubeProxyConfiguration {
	p := KubeProxyConfiguration{
		TypeMeta: TypeMeta{"kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration"},
		Mode:     in.Spec.Network.ProxyMode, ClusterCIDR: in.Spec.Network.PodCIDR, MetricsBindAddress: "127.0.0.1:10249",
		Conntrack: Conntrack{TCPEstablishedTimeout: "0s", TCPCloseWaitTimeout: "0s"},
	}
	// In mode nftables node ports are answered on a node's own address only, and the ingest gateway's are on the VIP.
	if in.Cluster == inventory.Service {
		p.NodePortAddresses = []string{"0.0.0.0/0"}
		if pods, err := netip.ParsePrefix(in.Spec.Network.PodCIDR); err == nil && pods.Addr().Is6() {
			p.NodePortAddresses = []string{"::/0"}
		}
	}
	return p
}

// Images are the images that kubeadm wants of a version, with those of a stacked etcd. The side versions are those of
// cmd/kubeadm/app/constants/constants.go of 1.35.4, 1.36.3 and 1.37.2.
func Images(version string) ([]string, error) {
	minor := minorOf(version)
	side, ok := map[string][3]string{
		"1.35": {"v1.13.1", "3.10.1", "3.6.6-0"},
		"1.36": {"v1.14.2", "3.10.2", "3.6.8-0"},
		"1.37": {"v1.14.6", "3.10.2", "3.7.0-0"},
	}[minor]
	if !ok {
		return nil, fmt.Errorf("Kubernetes %s is not supported: choose 1.35, 1.36 or 1.37", version)
	}
	const r = "registry.k8s.io/"
	var out []string
	for _, c := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"} {
		out = append(out, r+c+":v"+version)
	}
	return append(out, r+"coredns/coredns:"+side[0], r+"pause:"+side[1], r+"etcd:"+side[2]), nil
}

// Pause is the sandbox image of a version.
func Pause(version string) (string, error) {
	images, err := Images(version)
	if err != nil {
		return "", err
	}
	return images[5], nil
}

func minorOf(version string) string {
	dots := 0
	for i, c := range version {
		if c == '.' {
			if dots++; dots == 2 {
				return version[:i]
			}
		}
	}
	return version
}
