package plan

import (
	"context"
	"fmt"

	"github.com/catamaran-k8s/catamaran/bootstrap/host"
	"github.com/catamaran-k8s/catamaran/bootstrap/kubeadm"
)

// ResetNode takes Kubernetes off a machine: kubeadm's reset, then what it leaves (CNI state, rules, our markers). The
// programs and images stay: the next install needs them.
type ResetNode struct {
	Node string
	// VIP is the cluster's virtual address, which must not linger on the machine; empty: there is none.
	VIP string
}

// Do implements Task.
func (t ResetNode) Do(ctx context.Context, env Env, log func(string)) error {
	var dropVIP string
	if t.VIP != "" {
		dropVIP = fmt.Sprintf(`ip -o addr show | awk '$4 == "%[1]s" { print $2 }' | while read -r dev; do ip addr del %[1]s dev "$dev"; done
`, hostPrefix(t.VIP))
	}
	script := fmt.Sprintf(`set -eu
if command -v kubeadm >/dev/null; then kubeadm reset --force --cri-socket %[1]s; fi
systemctl disable --now kubelet 2>/dev/null || true
rm -rf /etc/cni/net.d /var/lib/cni /run/flannel /etc/kubernetes/encryption /etc/kubernetes/audit /etc/kubernetes/admission
for link in flannel.1 cni0 kube-ipvs0; do ip link delete "$link" 2>/dev/null || true; done
for table in "ip kube-proxy" "ip6 kube-proxy" "ip flannel-ipv4" "ip6 flannel-ipv6"; do nft delete table $table 2>/dev/null || true; done
# rules of kube-proxy, flannel and portmap all carry one of these chain names
for cmd in iptables ip6tables; do
  command -v "$cmd-save" >/dev/null || continue
  "$cmd-save" | grep -vE 'KUBE-|FLANNEL-|CNI-' | "$cmd-restore" || true
done
%[2]s%[3]srm -f %[4]s %[5]s %[6]s
[ ! -e /etc/kubernetes/kubelet.conf ]
`, kubeadm.CRISocket, dropVIP, host.FirewallOff, memberFile, attemptFile, kubeadmFile)
	return runUnit(ctx, env, t.Node, "reset", script, nil, log)
}

// RemoveEtcdMember removes a dead control plane from etcd through a living one.
type RemoveEtcdMember struct {
	Via      string // node
	Name, ID string
}

// Do implements Task.
func (t RemoveEtcdMember) Do(ctx context.Context, env Env, log func(string)) error {
	script := fmt.Sprintf(`set -eu
e() { etcdctl --endpoints https://127.0.0.1:2379 --cacert /etc/kubernetes/pki/etcd/ca.crt \
  --cert /etc/kubernetes/pki/etcd/healthcheck-client.crt --key /etc/kubernetes/pki/etcd/healthcheck-client.key "$@"; }
if e member list | grep -q '^%[1]s'; then e member remove %[1]s; fi
! e member list | grep -q '^%[1]s'
`, t.ID)
	return runUnit(ctx, env, t.Via, "etcd-remove-"+t.Name, script, nil, log)
}
