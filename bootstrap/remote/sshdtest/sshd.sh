# Runs a real sshd in mount and process namespaces of its own: users, sudoers, /run and /home are private, the machine
# is left as it is. Arguments: a folder prepared by the test (sshd_config, host keys, authorized_keys, standin/).
set -eu
dir="$1"
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=700 tmpfs /root
mount -t tmpfs -o mode=755 tmpfs /home
mount -t tmpfs -o mode=1777 tmpfs /var/tmp
mount -t tmpfs -o mode=755 tmpfs /usr/local/sbin
mkdir -p /run/sshd /run/keys /run/private
cp "$dir"/host_* "$dir/sshd_config" /run/private/
chmod 600 /run/private/*
cp "$dir/authorized_keys" /run/keys/
chmod 644 /run/keys/authorized_keys
cp "$dir"/standin/* /usr/local/sbin/
chmod 755 /usr/local/sbin/*

cp /etc/passwd /etc/shadow /etc/sudoers /run/private/
uid=61000
for user in plain free asks noisy shut deaf; do
  uid=$((uid + 1))
  shell=/bin/bash
  case "$user" in shut) shell=/usr/sbin/nologin ;; esac
  echo "$user:x:$uid:$uid::/home/$user:$shell" >> /run/private/passwd
  mkdir "/home/$user"
  chown "$uid:$uid" "/home/$user"
  # the password is in sshd.go
  echo "$user:\$6\$rounds=1000\$.SJwcGfyQvPXRreC\$1iFF2118cC569EMCTRJNdAkoL77OXRAriUGmH/nbXNXNQB1JZEf0pf29hVQ7tOXlhQbP1RQ0moH3grVu7rQx6/:19000:0:99999:7:::" >> /run/private/shadow
done
cat > /run/private/sudoers <<'SUDOERS'
Defaults env_reset, use_pty, lecture=always
root ALL=(ALL:ALL) ALL
free ALL=(ALL) NOPASSWD: ALL
noisy ALL=(ALL) NOPASSWD: ALL
deaf ALL=(ALL) NOPASSWD: ALL
asks ALL=(ALL) ALL
SUDOERS
chmod 440 /run/private/sudoers
printf 'auth required pam_unix.so nodelay\naccount required pam_unix.so\nsession required pam_permit.so\n' > /run/private/pam
printf 'echo "welcome, noise on stdout"\nprintf "half a line without an end"\necho "noise on stderr" >&2\n' > /home/noisy/.bashrc
chmod 644 /run/private/passwd /run/private/pam
chmod 640 /run/private/shadow
for file in passwd shadow sudoers; do mount --bind "/run/private/$file" "/etc/$file"; done
mount --bind /run/private/pam /etc/pam.d/sudo
"$(command -v sshd || echo /usr/sbin/sshd)" -D -e -f /run/private/sshd_config &
sshd=$!
# when the test is gone, however it went, so is this: the first process of a namespace takes all others along
exec 3<&0
(cat <&3 > /dev/null; kill "$sshd") &
wait "$sshd"
