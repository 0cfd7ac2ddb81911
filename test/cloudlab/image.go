//go:build e2e

package cloudlab

// imageScript makes a lab machine into what clouds boot: cloud-init, which
// makes the users and the host keys, and Docker without settings of ours. As on
// Ubuntu's images the login is ubuntu.
const imageScript = `set -eu
root=$1
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod +x "$root/usr/sbin/policy-rc.d"
cp /etc/resolv.conf "$root/etc/resolv.conf"
chroot "$root" sh -c 'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends cloud-init curl e2fsprogs >/dev/null && apt-get clean'
rm -f "$root/usr/sbin/policy-rc.d" "$root"/etc/ssh/ssh_host_* "$root/etc/sudoers.d/ubuntu"
chroot "$root" userdel -r ubuntu 2>/dev/null
chroot "$root" userdel -r plain 2>/dev/null
mkdir -p "$root/var/lib/cloud/seed/nocloud"
cat >"$root/etc/cloud/cloud.cfg.d/99-lab.cfg" <<'CFG'
datasource_list: [NoCloud, None]
network: {config: disabled}
apt: {preserve_sources_list: true}
growpart: {mode: "off"}
resize_rootfs: false
locale: false
system_info:
  default_user: {name: ubuntu, lock_passwd: true, gecos: Ubuntu, groups: [sudo], sudo: ["ALL=(ALL) NOPASSWD:ALL"], shell: /bin/bash}
CFG
`
