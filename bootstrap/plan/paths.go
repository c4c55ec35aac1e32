package plan

// Files on nodes that planning and tasks agree on.
const (
	// memberFile marks a node that kubeadm has finished; it names site, cluster, node, role and version.
	memberFile = "/var/lib/catamaran/member.json"
	// attemptFile marks a node on which kubeadm was started by us; without memberFile the next attempt resets first.
	attemptFile = "/var/lib/catamaran/attempt"
	// kubeadmFile is the kubeadm configuration without secrets, as last applied; its drift plans a reconfiguration.
	kubeadmFile = "/var/lib/catamaran/kubeadm.yaml"

	// kubeletFlags are the flags that kubeadm gave kubelet when the node joined.
	kubeletFlags = "/var/lib/kubelet/kubeadm-flags.env"

	kubeVIPFile    = "/etc/kubernetes/manifests/kube-vip.yaml"
	auditPolicy    = "/etc/kubernetes/audit/policy.yaml"
	encryptionFile = "/etc/kubernetes/encryption/config.yaml"

	caFile      = "/etc/kubernetes/pki/ca.crt"
	servingCert = "/var/lib/kubelet/pki/catamaran-serving.crt"
	servingKey  = "/var/lib/kubelet/pki/catamaran-serving.key"
	adminConf   = "/etc/kubernetes/admin.conf"
)
