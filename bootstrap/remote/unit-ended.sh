# ExecStopPost of the unit: runs however it ended, after everything that belonged to it is gone.
rm -rf "$UNIT_STATE/in"
[ ! -e "$UNIT_STATE/rc" ] || exit 0
case "${SERVICE_RESULT:-}" in
timeout) echo "124 it took too long" ;;
oom-kill) echo "137 the machine ran out of memory" ;;
*) echo "137 it was killed" ;;
esac > "$UNIT_STATE/rc.new"
mv "$UNIT_STATE/rc.new" "$UNIT_STATE/rc"
