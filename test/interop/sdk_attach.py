"""The Python SDK of dstack 0.22.5, attached to the run web: sdk_attach.py URL TOKEN."""

import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

from dstack._internal.core.models.configurations import PortMapping
from dstack.api import Client

url, token = sys.argv[1:]
client = Client.from_config(project_name="main", server_url=url, user_token=token)
run = client.runs.get("web")
assert run.ports is None, run.ports
for _ in range(2):
    with socket.socket() as free:
        free.bind(("", 0))
        local = free.getsockname()[1]
    assert run.attach(ports_overrides=[PortMapping(local_port=local, container_port=8000)])
    assert run.ports[8000] == local, run.ports
    with urllib.request.urlopen(f"http://localhost:{local}/index.html") as answer:
        assert answer.read() == b"hello from the job\n"
    text = b""
    for piece in run.logs():
        text += piece
        if b"index.html" in text:
            break
    assert f"serving at http://127.0.0.1:{local}/index.html".encode() in text, text
    config = str(Path.home() / ".ssh" / "config")
    assert subprocess.check_output(["ssh", "-F", config, "web", "echo $WHO"]) == b"the job\n"
    run.detach()
    try:
        urllib.request.urlopen(f"http://localhost:{local}/index.html")
        raise AssertionError("still forwarded")
    except OSError:
        pass
print("ok")
