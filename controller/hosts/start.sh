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
alive() {
	read -r _ comm state _ <"/proc/$1/stat" && [ "$comm" = '(dstack-shim)' ] && [ "$state" != Z ]
}
if [ -s "$HOME_DIR/$PID_NAME" ]; then
	pid=$(cat "$HOME_DIR/$PID_NAME")
	n=0
	while alive "$pid" && [ "$n" -lt 100 ]; do
		kill "$pid" || true
		sleep 0.05
		n=$((n + 1))
	done
fi 2>/dev/null
cd "$HOME_DIR"
new=
command -v setsid >/dev/null 2>&1 && new=setsid
nohup $new sh -c "exec $SUPERVISE" </dev/null >>"$HOME_DIR/$LOG_NAME" 2>&1 &
