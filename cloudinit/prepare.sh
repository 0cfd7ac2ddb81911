#!/bin/sh
# Makes a machine fit for dstack: Docker that keeps containers over its own
# restarts, NVIDIA's runtime where there are GPUs. Runs once, at first boot;
# may be run again. Every step says what it does and fails alone: the server
# looks at the result and tells the user what is missing.
set -u
nvidia= shim= sum= pull=
while [ $# -gt 0 ]; do
	case $1 in
	--nvidia) nvidia=yes ;;
	--shim) shim=$2 sum=$3; shift 2 ;;
	--pull) pull="$pull $2"; shift ;;
	esac
	shift
done
say() { echo "dstack-prepare: $*"; }
export DEBIAN_FRONTEND=noninteractive

install() {
	if command -v apt-get >/dev/null; then
		apt-get -o DPkg::Lock::Timeout=300 -qq update && apt-get -o DPkg::Lock::Timeout=300 -qq -y install "$@"
	elif command -v dnf >/dev/null; then
		dnf -q -y install "$@"
	else
		say "no package manager that is known here"; return 1
	fi
}

if [ -n "$shim" ]; then
	say "fetching the shim"
	if curl -fsSL --connect-timeout 20 --max-time 240 -o /usr/local/bin/.dstack-shim "$shim" &&
		echo "$sum  /usr/local/bin/.dstack-shim" | sha256sum -c - >/dev/null; then
		chmod 755 /usr/local/bin/.dstack-shim && mv /usr/local/bin/.dstack-shim /usr/local/bin/dstack-shim
	else
		rm -f /usr/local/bin/.dstack-shim
		say "the shim could not be fetched, or is another one: the server brings it over SSH"
	fi
fi

if ! command -v dockerd >/dev/null; then
	say "installing Docker"
	install docker.io || install docker || say "Docker could not be installed"
fi
if [ -n "$nvidia" ] && ! command -v nvidia-ctk >/dev/null; then
	say "installing the NVIDIA container toolkit"
	install nvidia-container-toolkit || say "the NVIDIA container toolkit could not be installed: use an image that has it"
fi

# Docker started with our settings, so that jobs that run by now survive this.
before=$(sha256sum /etc/docker/daemon.json 2>/dev/null)
/usr/local/sbin/dstack-docker-settings ${nvidia:+--nvidia} || say "the settings of Docker could not be written"
if [ "$before" != "$(sha256sum /etc/docker/daemon.json 2>/dev/null)" ] || ! docker info >/dev/null 2>&1; then
	systemctl enable -q docker 2>/dev/null
	systemctl restart docker || say "Docker does not start"
fi
# From here on Docker stays as it is: the shim waits for this.
touch /var/lib/dstack-prepared

# The job's own start joins a pull that runs already.
for image in $pull; do
	say "pulling $image"
	docker pull -q "$image" >/dev/null || say "$image could not be pulled: the job tries again"
done
say "done"
