package plan

import (
	"context"

	"github.com/catamaran-k8s/catamaran/bootstrap/host"
	"github.com/catamaran-k8s/catamaran/bootstrap/kubeadm"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// RestartAPIServer puts back the files that an API server reads only when it starts, and restarts it, in one unit.
type RestartAPIServer struct {
	Node  string
	Files []host.FileChange
}

// Do implements Task.
func (t RestartAPIServer) Do(ctx context.Context, env Env, log func(string)) error {
	s := newStaging()
	for _, f := range t.Files {
		s.put(f.Path, f.Mode, f.Content)
	}
	return runUnit(ctx, env, t.Node, "api-server", "set -eu\numask 077\n"+apiServer+s.install()+"another\nback\n", s.files, log)
}

// Reconfigure brings a member to a changed kubeadm configuration, phase by phase, and waits until its API server runs
// with it.
type Reconfigure struct {
	Cluster inventory.ClusterName
	Node    string
	Role    inventory.Role
	Config  string
	// Unread are files that its API server must be restarted with.
	Unread  []host.FileChange
	Kubeadm kubeadm.Input `json:"-"`
}

// Do implements Task.
func (t Reconfigure) Do(ctx context.Context, env Env, log func(string)) error {
	s := newStaging()
	s.keep("config.yaml", t.Config)
	if t.Role == inventory.Worker {
		return runUnit(ctx, env, t.Node, "reconfigure", reconfigureKubelet+replaceFile("config.yaml", kubeadmFile, "0600"), s.files, log)
	}
	config, err := kubeadm.Reconfiguration(t.Kubeadm)
	if err != nil {
		return err
	}
	s.keep("kubeadm.yaml", string(config))
	secrets, err := env.Secrets(t.Cluster)
	if err != nil {
		return err
	}
	s.put(encryptionFile, 0o600, kubeadm.EncryptionConfiguration(secrets.EncryptionKey))
	restart := "restart=\n"
	for _, f := range t.Unread {
		s.put(f.Path, f.Mode, f.Content)
		restart = "restart=yes\n"
	}
	script := "set -eu\numask 077\n" + apiServer + restart + s.install() + reconfigureControlPlane + reconfigureKubelet + replaceFile("config.yaml", kubeadmFile, "0600")
	return runUnit(ctx, env, t.Node, "reconfigure", script, s.files, log)
}

// The API server's certificate is always made anew: its names may have changed. Whether it was restarted is asked of the
// machine: a static pod's UID is the hash of its manifest, and names the control group of its processes. (The mirror pod
// says it too, but a kubelet that found no API server writes it a minute later, or later still.) etcd's manifest is left
// alone: the phase that writes it knows only the founder as a member, and nothing of ours is in it.
//
// A restart is another manifest, too: a process that is only killed comes back when the kubelet's patience with it says so,
// and one that fails at once waits for minutes. kubeadm takes the annotation away when it writes the manifest the next time.
const (
	apiServer = `k() { kubectl --kubeconfig ` + adminConf + ` --server https://127.0.0.1:6443 --request-timeout=5s "$@"; }
running() {
  for p in /proc/[0-9]*; do
    if [ "$(cat "$p/comm" 2>/dev/null)" = kube-apiserver ]; then
      sed -n 's/.*pod\([0-9a-f]\{32\}\)[./].*/\1/p' "$p/cgroup" 2>/dev/null | head -n 1
    fi
  done
}
manifest=/etc/kubernetes/manifests/kube-apiserver.yaml
before="$(running)" file="$(sha256sum < "$manifest")"
another() {
  beside="$(dirname "$manifest")/.kube-apiserver.yaml.new"
  sed -e '/^    catamaran\.dev\/restarted:/d' -e 's|^  annotations:$|&\n    catamaran.dev/restarted: "'"$(date -u +%s.%N)"'"|' "$manifest" > "$beside"
  if ! grep -q '^    catamaran\.dev/restarted:' "$beside"; then
    rm -f "$beside"
    echo "$manifest has no annotations as kubeadm writes them: it was written by somebody else"
    exit 1
  fi
  mv -f "$beside" "$manifest"
}
back() {
  echo "waiting for the API server to run with the new manifest"
  i=0
  until now="$(running)"; [ -n "$now" ] && ! echo "$now" | grep -qxF "$before" && ready="$(k get --raw /readyz 2>&1)"; do
    i=$((i + 1))
    if [ "$i" = 240 ]; then
      journalctl -u kubelet -n 40 --no-pager -o cat 2>&1 | grep -i apiserver | tail -n 6 || true
      echo "the API server did not come back within 4 minutes: pod ${now:-none} runs, before it was ${before:-none}; /readyz: ${ready:-not asked}"
      exit 1
    fi
    sleep 1
  done
}
`
	reconfigureControlPlane = `config="$UNIT_DIR/kubeadm.yaml"
mkdir -p "$UNIT_DIR/pki"
mv /etc/kubernetes/pki/apiserver.crt /etc/kubernetes/pki/apiserver.key "$UNIT_DIR/pki/"
kubeadm init phase certs apiserver --config "$config" || { mv "$UNIT_DIR"/pki/* /etc/kubernetes/pki/; exit 1; }
kubeadm init phase control-plane all --config "$config"
if [ -n "$restart" ] && [ "$file" = "$(sha256sum < "$manifest")" ]; then another; fi
if [ "$file" != "$(sha256sum < "$manifest")" ]; then back; fi
kubeadm init phase upload-config all --config "$config"
kubeadm init phase addon kube-proxy --config "$config"
k -n kube-system rollout restart daemonset kube-proxy
`
	reconfigureKubelet = `set -eu
kubeadm upgrade node phase kubelet-config
systemctl restart kubelet
systemctl is-active --quiet kubelet
`
)
