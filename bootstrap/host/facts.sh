# Prints what is true on this machine, and changes nothing. Plain POSIX shell; each answer is a line of
# KEY<TAB>VALUE or a block "<KEY" ... ">KEY" whose lines are text of their own.
# The caller puts these variables before it: Q_FILES Q_CONTENT Q_ATSTART Q_SYSCTLS Q_MODULES Q_UNITS Q_PEERS (newline separated).
T="$(printf '\t')"
NL='
'
say() { printf '%s\t%s\n' "$1" "$2"; }
block() { printf '<%s\n' "$1"; cat; printf '\n>%s\n' "$1"; }
first() { { read -r REPLY < "$1"; } 2>/dev/null || REPLY=; } # a process may be gone meanwhile

say clock "$(date -u +%s.%N)"
first /proc/sys/kernel/hostname; say hostname "$REPLY"
first /etc/machine-id; say machineID "$REPLY"
first /proc/sys/kernel/random/boot_id; say bootID "$REPLY"
first /proc/sys/kernel/osrelease; say kernel "$REPLY"
first /proc/1/comm; say init "$REPLY"
say arch "$(uname -m)"
[ -r /etc/os-release ] && block osRelease < /etc/os-release
say cpus "$(grep -c '^processor' /proc/cpuinfo)"
while read -r k v _; do [ "$k" = MemTotal: ] && { say memoryKiB "$v"; break; }; done < /proc/meminfo
df -Pk /var/lib 2>/dev/null | { read -r _; read -r _ size _ free _ && say disk "$size $free"; }
[ -e /sys/fs/cgroup/cgroup.controllers ] && say cgroupV2 yes
block swaps < /proc/swaps 2>/dev/null
ip -o addr show 2>/dev/null | block addresses
ip -o link show 2>/dev/null | block links
cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | block listeners
if [ -n "$Q_ATSTART" ]; then
  for p in /proc/[0-9]*; do
    first "$p/comm"
    [ "$REPLY" = kube-apiserver ] || continue
    first "$p/stat"
    # the 22nd word: when it began, in hundredths of a second since the machine's start
    # shellcheck disable=SC2086
    set -- $REPLY
    [ $# -gt 22 ] || continue
    shift 21
    # this before the clock: on a busy machine the server then seems younger than it is, never older than a file that it has read
    first /proc/uptime
    say apiServer "$(date -u +%s.%N)$T${REPLY%% *}$T$1"
  done
fi

IFS="$NL"
for s in $Q_SYSCTLS; do
  p="/proc/sys/$(printf %s "$s" | tr . /)"
  [ -r "$p" ] && say sysctl "$s$T$(tr '\n' ' ' < "$p")"
done
for m in $Q_MODULES; do
  state=missing
  if [ -d "/sys/module/$m" ]; then state=loaded
  elif grep -qw "$m" /proc/filesystems; then state=builtin
  elif [ -r "/lib/modules/$(uname -r)/modules.builtin" ] && grep -q "/$m\.ko" "/lib/modules/$(uname -r)/modules.builtin"; then state=builtin
  elif command -v modinfo >/dev/null && modinfo "$m" >/dev/null 2>&1; then state=available
  fi
  say module "$m$T$state"
done
for d in /proc/sys/net/bridge /proc/sys/net/netfilter; do [ -d "$d" ] && say feature "$d"; done
# shellcheck disable=SC2086 # one word a line
[ -n "$Q_UNITS" ] && command -v systemctl >/dev/null && systemctl show -p Id,ActiveState,UnitFileState $Q_UNITS 2>/dev/null | block units
command -v systemctl >/dev/null && systemctl list-units --plain --no-legend --state=active,activating,deactivating 'catamaran-*.service' 2>/dev/null | block running

command -v nft >/dev/null && say firewall "$(nft list table inet catamaran 2>/dev/null | sed -n 's/.*chain \(stamp_[0-9a-f]*\) .*/\1/p')"

present=
for f in $Q_FILES; do [ -f "$f" ] && present="$present$f$NL"; done
if [ -n "$present" ]; then
  # shellcheck disable=SC2086
  stat -L -c '%a %U %s %n' $present | block stat
  # shellcheck disable=SC2086
  sha256sum $present | block sums
fi
for f in $Q_ATSTART; do [ -f "$f" ] && say written "$f$T$(date -u -r "$f" +%s.%N)"; done
for f in $Q_CONTENT; do
  [ -f "$f" ] && [ "$(stat -L -c %s "$f")" -le 65536 ] && { printf '<content %s\n' "$f"; base64 "$f"; printf '>content\n'; }
done
for f in /etc/kubernetes/pki/*.crt /etc/kubernetes/pki/etcd/*.crt /var/lib/kubelet/pki/kubelet-client-current.pem /var/lib/kubelet/pki/*.crt; do
  # a file may hold a private key beside the certificate: only the certificate leaves the machine
  [ -r "$f" ] && { printf '<cert %s\n' "$f"; sed -n '/-BEGIN CERTIFICATE-/,/-END CERTIFICATE-/p' "$f"; printf '>cert\n'; }
done
for f in /etc/kubernetes/*.conf; do
  [ -r "$f" ] && { printf '<conf %s\n' "$f"; sed -n 's/^ *client-certificate-data: *//p' "$f" | head -n 1; printf '>conf\n'; }
done

# What was installed from a bundle is known by size and time: hashing 400 MB at each look would take a second.
if [ -r /var/lib/catamaran/programs ]; then
  block programs < /var/lib/catamaran/programs
  # shellcheck disable=SC2046
  stat -L -c '%s %Y %n' $(cut -f 1 /var/lib/catamaran/programs) 2>/dev/null | block programStat
else
  for p in kubelet containerd; do
    command -v "$p" >/dev/null && say version "$p$T$("$p" --version 2>/dev/null | head -n 1)"
  done
fi
for p in conntrack iptables nft mount tar gzip sha256sum install flock systemd-run ip modprobe ethtool; do
  command -v "$p" >/dev/null || say missing "$p"
done
for d in /var/lib/rancher /var/lib/k0s /etc/kubernetes/manifests/*.yaml /etc/kubernetes/kubelet.conf /var/lib/etcd/member; do
  [ -e "$d" ] && say leftover "$d"
done
# shellcheck disable=SC2012 # names are digests
ls /var/lib/catamaran/blobs/sha256 2>/dev/null | block blobs
if [ -S /run/containerd/containerd.sock ] && command -v ctr >/dev/null; then
  ctr -n k8s.io images ls 2>/dev/null | block images
  ctr -n k8s.io content ls -q 2>/dev/null | block contentStore
fi
for peer in $Q_PEERS; do
  (
    h="${peer%:*}" p="${peer##*:}"
    if ! command -v bash >/dev/null; then r=unknown
    else
      out="$(timeout 2 bash -c "exec 3<>/dev/tcp/$h/$p" 2>&1)"; rc=$?
      case "$rc:$out" in
      0:*) r=open ;;
      124:*) r=timeout ;;
      *refused*) r=refused ;;
      *) r=unreachable ;;
      esac
    fi
    say peer "$peer$T$r"
  ) &
done
wait
unset IFS

if [ -r /etc/kubernetes/admin.conf ] && [ -e /etc/kubernetes/manifests/kube-apiserver.yaml ] && command -v kubectl >/dev/null; then
  D="$(mktemp -d /run/catamaran-facts.XXXXXX)"
  # its cache would be written below the home folder otherwise
  K="kubectl --kubeconfig /etc/kubernetes/admin.conf --server https://127.0.0.1:6443 --request-timeout=15s --cache-dir $D/cache"
  # a list that failed is not an empty one: what is there would be installed and made anew
  list() {
    out="$1"; shift
    $K get "$@" > "$D/$out" 2> "$D/$out.said" || { printf 'list of %s: ' "$out"; tail -n 1 "$D/$out.said"; } > "$D/$out.failed"
  }
  list nodes nodes -o json &
  # metadata only: the data of a release stays in the cluster
  list releases secrets -A -l owner=helm -o 'jsonpath={range .items[*]}{.metadata.namespace}{"\t"}{.metadata.labels.name}{"\t"}{.metadata.labels.version}{"\t"}{.metadata.labels.status}{"\t"}{.metadata.labels.catamaran\.dev/version}{"\t"}{.metadata.labels.catamaran\.dev/digest}{"\n"}{end}' &
  list secrets secrets -A -l app.kubernetes.io/managed-by=catamaran -o 'jsonpath={range .items[*]}{.metadata.namespace}{"\t"}{.metadata.name}{"\t"}{.metadata.annotations.catamaran\.dev/digest}{"\t"}{.metadata.annotations.catamaran\.dev/not-after}{"\n"}{end}' &
  if command -v etcdctl >/dev/null; then
    E="etcdctl --command-timeout=6s --endpoints https://127.0.0.1:2379 --cacert /etc/kubernetes/pki/etcd/ca.crt --cert /etc/kubernetes/pki/etcd/healthcheck-client.crt --key /etc/kubernetes/pki/etcd/healthcheck-client.key"
    { $E member list -w json > "$D/members"; $E endpoint health --cluster -w json > "$D/health"; } 2>/dev/null &
  fi
  wait
  cat "$D"/*.failed 2>/dev/null | block apiError
  for out in nodes releases secrets; do block "$out" < "$D/$out"; done
  [ -e "$D/members" ] && block members < "$D/members"
  [ -e "$D/health" ] && block health < "$D/health"
  rm -rf "$D"
fi
say end ok
