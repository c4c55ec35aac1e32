# Starts the unit $name, or finds it running, or finds that this very call started it before. The caller sets name, dir,
# nonce and timeout (seconds). stdin is a tar of the unit's folder: nonce, script, run, ended and in/.
set -eu
umask 077
units="${dir%/*}"
mkdir -p "$units"
# The input is read before the lock is taken: a shell that a dead link left waiting for input must hold nobody up.
fresh="$(mktemp -d "$units/.new.XXXXXX")"
trap 'rm -rf "$fresh"' EXIT
trap 'exit 1' HUP INT TERM PIPE
tar -x -f - -C "$fresh"
mkdir -p "$fresh/in"
: > "$fresh/output"
exec 9> "$units/.lock.$name"
flock 9
while :; do
  state="$(systemctl show -p ActiveState --value "$name.service")"
  case "$state" in
  activating | deactivating) sleep 0.05 ;;
  *) break ;;
  esac
done
case "$state" in
active | reloading) [ -e "$dir/nonce" ] && [ "$(cat "$dir/nonce")" = "$nonce" ] || echo unit-attached >&2 ;;
*)
  # ended, but started by this call: the link was lost before the caller heard of it
  if ! { [ -e "$dir/begun" ] && [ "$(cat "$dir/nonce")" = "$nonce" ]; }; then
    systemctl reset-failed "$name.service" 2>/dev/null || true
    rm -rf "$dir"
    mv "$fresh" "$dir"
    systemd-run --quiet --collect --unit="$name.service" --working-directory=/ \
      --setenv=UNIT_STATE="$dir" --setenv=UNIT_DIR="$dir/in" --setenv=PATH="$PATH" --setenv=LC_ALL=C --setenv=HOME=/root \
      --property=RuntimeMaxSec="$timeout" --property=TimeoutStopSec=10 --property=KillMode=control-group --property=ExecStopPost="/bin/sh $dir/ended" \
      /bin/sh "$dir/run" 9>&-
  fi
  ;;
esac
rm -rf "$fresh"
trap - EXIT HUP INT TERM PIPE
exec 9>&-
