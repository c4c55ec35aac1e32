# Finds a unit that was started before. nonce says which, if it is not empty.
set -eu
if [ ! -e "$dir/nonce" ] || { [ -n "$nonce" ] && [ "$(cat "$dir/nonce")" != "$nonce" ]; }; then
  echo unit-gone >&2
  exit 0
fi
[ -n "$nonce" ] || echo unit-attached >&2
