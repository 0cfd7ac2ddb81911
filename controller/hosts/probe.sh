export LC_ALL=C PATH="$PATH:/usr/local/bin:/usr/sbin:/sbin:/usr/bin:/bin"
echo
echo dstack-probe-begin
say() { printf '%s=%s\n' "$1" "$2"; }
say machine "$(uname -m)"
say system "$(uname -s)"
say user "$(id -un)"
as=
if [ "$(id -u)" = 0 ]; then
	say root yes
else
	as='sudo -n'
	if error=$(sudo -n true 2>&1); then say sudo yes; else say sudo_error "$(echo "$error" | tail -n 1)"; fi
fi
[ -d /run/systemd/system ] && say systemd yes
command -v gzip >/dev/null 2>&1 && say gzip yes
sum() { say "$1" "$($as sha256sum "$2" 2>/dev/null | cut -c 1-64)"; }
sum shim "$SHIM"
sum agent "$AGENT"
sum unit "$UNIT"
sum env "$ENV_FILE"
# The nearest folder that exists is where the space is needed.
free() {
	dir=$2
	while [ ! -d "$dir" ]; do dir=$(dirname "$dir"); done
	df -Pk "$dir" 2>/dev/null | { read -r _; read -r _ _ _ free _; say "$1" "$free"; }
}
free free_temp /tmp
free free_lib "$(dirname "$AGENT")"
echo dstack-probe-end
