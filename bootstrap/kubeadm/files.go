package kubeadm

import (
	_ "embed" // the audit policy
	"fmt"

	"github.com/catamaran-k8s/catamaran/inventory"
)

//go:embed audit-policy.yaml
var auditPolicy string

// AuditPolicy is the built-in audit policy.
func AuditPolicy() string { return auditPolicy }

// EncryptionConfiguration encrypts Secrets with the key (32 bytes, base64). It reads what was written in plain before.
func EncryptionConfiguration(key string) string {
	return fmt.Sprintf(`apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - secretbox:
      keys:
      - name: key1
        secret: %s
  - identity: {}
`, key)
}

// Authentication lets the anonymous ask for health, and for the signed cluster information that joining nodes begin
// with; nothing else.
func Authentication() string {
	return `# written by catamaran
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
anonymous:
  enabled: true
  conditions:
  - path: /livez
  - path: /readyz
  - path: /healthz
  - path: /api/v1/namespaces/kube-public/configmaps/cluster-info
`
}

// KubeVIPImage carries the VIP.
const KubeVIPImage = "ghcr.io/kube-vip/kube-vip:v1.0.0"

// KubeVIP is kube-vip's static pod: ARP announcements by the holder of a lease. It is written when the node is a member:
// admin.conf has no rights before. hostAliases make it speak to the API server of its own node, not through the VIP that
// it is to carry.
func KubeVIP(spec *inventory.Cluster, iface string) string {
	return fmt.Sprintf(`# written by catamaran
apiVersion: v1
kind: Pod
metadata:
  name: kube-vip
  namespace: kube-system
  labels: {app.kubernetes.io/name: kube-vip}
spec:
  hostNetwork: true
  # both, as in kubeadm's own static pods: the class alone means nothing to a kubelet without an API server
  priority: 2000001000
  priorityClassName: system-node-critical
  hostAliases:
  - ip: 127.0.0.1
    hostnames: [kubernetes]
  containers:
  - name: kube-vip
    image: %[1]s
    imagePullPolicy: IfNotPresent
    args: [manager]
    env:
    - {name: vip_arp, value: "true"}
    - {name: port, value: "%[4]d"}
    - {name: vip_interface, value: %[2]q}
    - {name: vip_subnet, value: "32"}
    - {name: cp_enable, value: "true"}
    - {name: cp_namespace, value: kube-system}
    - {name: vip_leaderelection, value: "true"}
    - {name: vip_leasename, value: plndr-cp-lock}
    - {name: vip_leaseduration, value: "5"}
    - {name: vip_renewdeadline, value: "3"}
    - {name: vip_retryperiod, value: "1"}
    - {name: address, value: %[3]q}
    - name: vip_nodename
      valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
    resources:
      requests: {cpu: 10m, memory: 32Mi}
      limits: {memory: 128Mi}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities:
        drop: [ALL]
        add: [NET_ADMIN, NET_RAW]
    volumeMounts:
    - {name: kubeconfig, mountPath: /etc/kubernetes/admin.conf, readOnly: true}
  volumes:
  - name: kubeconfig
    hostPath: {path: /etc/kubernetes/admin.conf, type: File}
`, KubeVIPImage, iface, spec.Endpoint.Address, BindPort)
}
