# Runs as root: end the shim and its tasks, remove all of it, and look whether it is gone.
set -u
export LC_ALL=C PATH="$PATH:/usr/local/bin:/usr/sbin:/sbin:/usr/bin:/bin"
unit=$(basename "$UNIT")
# The unit goes first: it would start the shim again.
if [ "$SYSTEMD" = yes ]; then systemctl disable --now "$unit" >/dev/null 2>&1; fi
status=0
if [ -x "$SHIM" ]; then sh -c "exec $UNINSTALL" || status=$?; fi
if [ "$status" != 0 ]; then
	echo "dstack-shim uninstall ended with status $status" >&2
	exit 1
fi
rm -f "$UNIT" "$SHIM"
rm -rf "$AGENT_DIR" "$HOME_DIR" $UPLOADS
if [ "$SYSTEMD" = yes ]; then
	systemctl daemon-reload
	systemctl reset-failed "$unit" >/dev/null 2>&1
fi
for left in "$UNIT" "$SHIM" "$AGENT_DIR" "$HOME_DIR"; do
	if [ -e "$left" ]; then
		echo "$left is still there" >&2
		exit 1
	fi
done
exit 0
