# Prints the unit's output from byte $offset (the first is 1) on until the unit has ended.
echo "unit-nonce $(cat "$dir/nonce")" >&2
# $dir/rc appears when all output is written: by the unit's own shell, or by ExecStopPost when that was killed.
(
  exec > /dev/null 2>&1
  quiet=0
  until [ -e "$dir/rc" ]; do
    sleep 0.1
    quiet=$((quiet + 1))
    [ "$quiet" -ge 20 ] || continue
    quiet=0
    case "$(systemctl show -p ActiveState --value "$name.service")" in
    active | reloading | activating | deactivating) ;;
    *) # no unit and no rc: /run was full, or somebody removed the folder
      [ -e "$dir/rc" ] || echo "137 it left no status" > "$dir/rc.lost" || exit 0
      [ -e "$dir/rc" ] || mv "$dir/rc.lost" "$dir/rc"
      ;;
    esac
  done
) &
waiter=$!
trap 'kill "$waiter" 2>/dev/null || true' EXIT
trap 'exit 1' HUP INT TERM PIPE
# tail reads once more after the waiter is gone
tail -s 0.1 --pid="$waiter" -c "+$offset" -f "$dir/output"
if [ -e "$dir/rc" ]; then echo "unit-ended $(cat "$dir/rc")" >&2; else echo unit-gone >&2; fi
