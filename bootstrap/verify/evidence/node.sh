# Prints what an auditor asks of one machine, and changes nothing but a control plane's audit log, by one line. Each answer
# is a line KIND<TAB>FIELD<TAB>...; nothing of it is a secret: of keys their public parts, of configurations the flags and the
# names of what they choose.
T="$(printf '\t')"
say() { printf '%s' "$1"; shift; for a; do printf '\t%s' "$a"; done; printf '\n'; }
clean() { tr -d '\r' | tr '\t' ' '; }

say clock "$(date -u +%s.%N)"
[ -r /etc/os-release ] && say os "$(. /etc/os-release; printf %s "${PRETTY_NAME:-$ID}")"
say kernel "$(uname -r)"
say arch "$(uname -m)"
for p in kubelet containerd runc; do
  command -v "$p" >/dev/null && say version "$p" "$("$p" --version 2>/dev/null | head -n 1 | clean)"
done

for f in /etc/ssh/ssh_host_*_key.pub; do
  [ -r "$f" ] && say hostKey "$(clean < "$f")"
done
# every account's list, wherever sshd looks for it; a line may begin with options
lists="$(sshd -T 2>/dev/null | sed -n 's/^authorizedkeysfile //p')"
[ -n "$lists" ] || { lists='.ssh/authorized_keys .ssh/authorized_keys2'; say unsure authorizedKeys "sshd does not tell where it looks; its defaults were read"; }
say authorizedKeysFile "$lists"
getent passwd | while IFS=: read -r user _ uid _ _ home _; do
  for l in $lists; do
    case "$l" in none) continue ;; esac
    f="$(printf %s "$l" | sed "s|%h|$home|g; s|%u|$user|g; s|%U|$uid|g; s|%%|%|g")"
    case "$f" in /*) ;; *) f="$home/$f" ;; esac
    [ -f "$f" ] || continue
    clean < "$f" | while IFS= read -r k || [ -n "$k" ]; do
      case "$k" in ''|'#'*) ;; *) say authorizedKey "$user" "$f" "$k" ;; esac
    done
  done
done
sshd -T 2>/dev/null | sed -n 's/^\(passwordauthentication\|permitrootlogin\|authorizedkeyscommand\|trustedusercakeys\) /sshd\t\1\t/p'

f=/etc/kubernetes/manifests/kube-apiserver.yaml
if [ -r "$f" ]; then
  say controlPlane yes
  sed -n 's/^ *- --\(audit-[a-z-]*\|encryption-provider-config\|tls-min-version\|tls-cipher-suites\|anonymous-auth\|authorization-mode\|profiling\|authentication-config\|client-ca-file\|service-account-lookup\|enable-admission-plugins\)=\(.*\)$/flag\t\1\t\2/p' "$f"
  p="$(sed -n 's/^ *- --audit-policy-file=//p' "$f")"
  [ -r "$p" ] && say auditPolicy "$(sha256sum < "$p" | cut -d ' ' -f 1)" "$p"
  # of three control planes the one without the virtual address may be asked nothing for an hour that is audited: its silence
  # tells something only when it was asked. A read of a Secret is audited by the policy, also of one that is not there.
  command -v kubectl >/dev/null && kubectl --kubeconfig /etc/kubernetes/admin.conf --server https://127.0.0.1:6443 --request-timeout=5s \
    get --raw /api/v1/namespaces/kube-system/secrets/catamaran-report-asks-if-this-is-audited >/dev/null 2>&1
  l="$(sed -n 's/^ *- --audit-log-path=//p' "$f")"
  [ -f "$l" ] && say auditLog "$(stat -c '%Y %s' "$l")" "$l"
  # the first provider is the one that writes: its name only, never a key
  e="$(sed -n 's/^ *- --encryption-provider-config=//p' "$f")"
  [ -r "$e" ] && say encryption "$(sed -n 's/^ *- *\(aesgcm\|aescbc\|secretbox\|kms\|identity\):.*/\1/p' "$e" | head -n 1)" "$(sed -n 's/^ *-* *resources: *\[\(.*\)\]/\1/p' "$e" | head -n 1)"
fi

# only certificates leave the machine, though a file may hold a key beside
for f in /etc/kubernetes/pki/*.crt /etc/kubernetes/pki/etcd/*.crt /var/lib/kubelet/pki/kubelet-client-current.pem /var/lib/kubelet/pki/*.crt; do
  [ -r "$f" ] && say certificate "$f" "$(sed -n '/-BEGIN CERTIFICATE-/,/-END CERTIFICATE-/p' "$f" | base64 | tr -d '\n')"
done
for f in /etc/kubernetes/*.conf; do
  [ -r "$f" ] && say certificate "$f" "$(sed -n 's/^ *client-certificate-data: *//p' "$f" | head -n 1)"
done

if command -v lsblk >/dev/null; then
  lsblk -rnpo NAME,TYPE,PKNAME 2>/dev/null | while read -r n t p; do say block "$n" "$t" "$p"; done
else
  say unsure disks "there is no lsblk"
fi
# the file systems that hold what must be protected
for d in / /var/lib/etcd /var/lib/kubelet /var/lib/containerd /var/log; do
  [ -d "$d" ] && df -P "$d" 2>/dev/null | { read -r _; read -r dev _ && say mount "$d" "$dev"; }
done
if [ -n "$(sed 1d /proc/swaps)" ]; then say swap on; else say swap off; fi

# who tells the time
if command -v chronyc >/dev/null && out="$(chronyc -n -c sources 2>/dev/null)"; then
  say timeService chrony
  printf '%s\n' "$out" | while IFS=, read -r mode state name _ _ reach _; do
    [ -n "$name" ] && say timeSource "$name" "$([ "${reach:-0}" != 0 ] && echo reached || echo silent)" "$mode$state"
  done
  say synchronised "$(chronyc -c tracking 2>/dev/null | cut -d , -f 14 | sed 's/^Normal$/yes/; t; s/.*/no/')"
elif command -v ntpq >/dev/null && out="$(ntpq -pn 2>/dev/null | sed 1,2d)" && [ -n "$out" ]; then
  say timeService ntp
  printf '%s\n' "$out" | while read -r name _ _ _ _ _ reach _; do
    say timeSource "$(printf %s "$name" | tr -d '*+#ox.-')" "$([ "$reach" != 0 ] && echo reached || echo silent)" "$(printf %s "$name" | cut -c 1)"
  done
  say synchronised "$(printf '%s\n' "$out" | grep -q '^[*o]' && echo yes || echo no)"
elif command -v timedatectl >/dev/null && out="$(timedatectl show-timesync 2>/dev/null)" && [ -n "$out" ]; then
  say timeService systemd-timesyncd
  name="$(printf '%s\n' "$out" | sed -n 's/^ServerName=//p')"
  # it follows one server at a time
  [ -n "$name" ] && say timeSource "$name" reached "*"
  say synchronised "$(timedatectl show -p NTPSynchronized --value 2>/dev/null)"
else
  say timeService none
fi
say end ok
