#!/usr/bin/env bash
# Installs what the tests need on Debian, as root. Prints nothing when all is there.
set -euo pipefail
packages=(docker.io docker-compose debootstrap docker-registry busybox-static openssh-server openssh-client iproute2 iptables sudo zstd python3-venv procps rsync curl wrk gcc libc6-dev)
missing=()
for package in "${packages[@]}"; do
	dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if ((${#missing[@]})); then
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
exec "$(dirname "$0")/python.sh"
