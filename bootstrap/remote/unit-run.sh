# The unit itself: runs the script and leaves its status.
echo begun > "$UNIT_STATE/begun"
/bin/sh "$UNIT_STATE/script" >> "$UNIT_STATE/output" 2>&1 < /dev/null
rc=$?
rm -rf "$UNIT_STATE/in"
echo "$rc" > "$UNIT_STATE/rc.new"
mv "$UNIT_STATE/rc.new" "$UNIT_STATE/rc"
