#!/usr/bin/env python3
# Gives Docker the settings that dstack needs; those that others made stay. At
# boot this runs before Docker starts, so that nothing has to start anew when
# jobs run already. With --nvidia it also makes NVIDIA's runtime known, as soon
# as the toolkit is there.
import json, os, shutil, subprocess, sys

path = "/etc/docker/daemon.json"


def read():
    try:
        with open(path) as f:
            return json.load(f)
    except FileNotFoundError:
        return {}


os.makedirs("/etc/docker", exist_ok=True)
settings = read()
if "--nvidia" in sys.argv and shutil.which("nvidia-ctk") and "nvidia" not in settings.get("runtimes", {}):
    subprocess.call(["nvidia-ctk", "runtime", "configure", "--runtime=docker"], stdout=subprocess.DEVNULL)
    settings = read()
wanted = dict(settings)
wanted.setdefault("live-restore", True)
# With systemd's driver a daemon-reload takes the GPUs out of containers.
if "nvidia" in json.dumps(settings):
    options = wanted.setdefault("exec-opts", [])
    if not any("native.cgroupdriver" in o for o in options):
        options.append("native.cgroupdriver=cgroupfs")
if wanted != settings:
    with open(path + ".new", "w") as f:
        json.dump(wanted, f, indent=2)
    os.replace(path + ".new", path)
# If nothing is left to install, Docker stays as it is from here on: the shim
# waits for this file.
if shutil.which("dockerd") and ("--nvidia" not in sys.argv or "nvidia" in wanted.get("runtimes", {})):
    open("/var/lib/dstack-prepared", "w").close()
