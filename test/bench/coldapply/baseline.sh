# What somebody who knows kubeadm would type, in one script: every machine of both clusters at once, nothing waits that
# need not. It is what `catamaran apply` is compared with, so it has all the advantages: programs, configurations, keys
# and certificates lie ready in one archive a machine, images in one archive a kind of node, and it checks nothing.
#
#   bash baseline.sh FOLDER       FOLDER/machines has a line for each: name address cluster role (init, join, worker)
#
# Set by the caller: KEY, KNOWN_HOSTS.
set -euo pipefail
cd "$1"
rm -f ./*.founded ./*.failed ./*.sock

# $1: address; $2: command; the standard input is the command's
on() {
  ssh -F none -i "$KEY" -o IdentitiesOnly=yes -o BatchMode=yes -o LogLevel=ERROR -o StrictHostKeyChecking=yes \
    -o "UserKnownHostsFile=$KNOWN_HOSTS" -o GlobalKnownHostsFile=none \
    -o ControlMaster=auto -o "ControlPath=$PWD/%h.sock" -o ControlPersist=30 "root@$1" "$2"
}

machine() {
  local name=$1 address=$2 cluster=$3 role=$4 kind=control-plane
  [ "$role" != worker ] || kind=worker
  on "$address" 'tar -xf - -C /' < "$name.tar"
  on "$address" 'sh -s' < "$name.prepare"
  on "$address" 'ctr -n k8s.io images import --local --no-unpack=false - >/dev/null' < "images-$cluster-$kind.tar"
  if [ "$role" = init ]; then
    on "$address" 'set -e
      [ ! -e /root/vip ] || ip addr replace $(cat /root/vip)
      kubeadm init --config /root/kubeadm.yaml --skip-phases show-join-command
      [ ! -e /root/kube-vip.yaml ] || install -m 0600 /root/kube-vip.yaml /etc/kubernetes/manifests/kube-vip.yaml' < /dev/null
    : > "$cluster.founded"
    on "$address" 'kubectl --kubeconfig /etc/kubernetes/admin.conf apply --server-side -f -' < "$cluster.yaml"
  else
    until [ -e "$cluster.founded" ]; do
      [ ! -e "$cluster.failed" ] || return 1
      sleep 0.1
    done
    on "$address" 'set -e
      kubeadm join --config /root/kubeadm.yaml
      [ ! -e /root/kube-vip.yaml ] || install -m 0600 /root/kube-vip.yaml /etc/kubernetes/manifests/kube-vip.yaml' < /dev/null
  fi
}

# $1: address of a control plane; $2: cluster
await() {
  on "$1" "set -e
    k='kubectl --kubeconfig /etc/kubernetes/admin.conf'
    until [ \$(\$k get nodes -o name | wc -l) = $(grep -c " $2 " machines) ]; do sleep 0.2; done
    \$k wait --for=condition=Ready nodes --all --timeout=300s
    for d in \$(\$k get daemonsets,deployments -A -o 'jsonpath={range .items[*]}{.metadata.namespace}/{.kind}/{.metadata.name} {end}'); do
      ns=\${d%%/*} rest=\${d#*/}
      \$k -n \$ns rollout status \$rest --timeout=300s
    done" < /dev/null
}

pids=()
while read -r name address cluster role; do
  { machine "$name" "$address" "$cluster" "$role" > "$name.log" 2>&1 || { : > "$cluster.failed"; exit 1; }; } &
  pids+=($!)
done < machines
for p in "${pids[@]}"; do wait "$p"; done
pids=()
while read -r name address cluster role; do
  [ "$role" = init ] || continue
  await "$address" "$cluster" >> "$name.log" 2>&1 &
  pids+=($!)
done < machines
for p in "${pids[@]}"; do wait "$p"; done
