# Runs as root: start the shim, or start it again with what is installed now.
set -eu
export LC_ALL=C PATH="$PATH:/usr/local/bin:/usr/sbin:/sbin:/usr/bin:/bin"
if [ "$SYSTEMD" = yes ]; then
	systemctl daemon-reload
	systemctl enable "$(basename "$UNIT")" >/dev/null 2>&1 || systemctl enable "$(basename "$UNIT")"
	systemctl reset-failed "$(basename "$UNIT")" >/dev/null 2>&1 || true
	systemctl restart "$(basename "$UNIT")"
	exit 0
fi
# Without systemd: `supervise` keeps the shim alive. TERM ends it and the shim, never a task.
if [ -s "$HOME_DIR/$PID_NAME" ]; then
	pid=$(cat "$HOME_DIR/$PID_NAME")
	if [ "$(cut -d ' ' -f 2 "/proc/$pid/stat" 2>/dev/null)" = '(dstack-shim)' ]; then
		kill "$pid" || true
		n=0
		while kill -0 "$pid" 2>/dev/null && [ "$n" -lt 50 ]; do sleep 0.1; n=$((n + 1)); done
	fi
fi
cd "$HOME_DIR"
new=
command -v setsid >/dev/null 2>&1 && new=setsid
nohup $new sh -c "exec $SUPERVISE" </dev/null >>"$HOME_DIR/$LOG_NAME" 2>&1 &
