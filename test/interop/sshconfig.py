"""The Python client's own functions that write the files of the user's ssh."""

from pathlib import Path

from dstack._internal.utils.ssh import get_ssh_config, include_ssh_config, update_ssh_config

config = Path.home() / ".dstack" / "ssh" / "config"
for port in range(30):
    include_ssh_config(config)
    update_ssh_config(config, "python", {"HostName": "1.1.1.1", "Port": port})
    found = get_ssh_config(config, "python")
    assert found and str(found["Port"]) == str(port), found
    update_ssh_config(config, "python-host", {"HostName": "2.2.2.2"})
    update_ssh_config(config, "python-host", {})
