"""The Python SDK of dstack 0.22.5 against our server: sdk.py URL TOKEN IMAGE."""

import sys
import time

from dstack.api import Client, Resources, Task

url, token, image = sys.argv[1:]
client = Client.from_config(project_name="main", server_url=url, user_token=token)


def task(*commands, **more):
    return Task(
        image=image, commands=list(commands),
        resources=Resources(cpu="1..", memory="0.1..", disk="1GB.."), **more,
    )


def wait(run, what, ok):
    deadline = time.monotonic() + 90
    while not ok(run):
        assert time.monotonic() < deadline, f"{run.name} is {run.status.value}, not {what}"
        time.sleep(0.3)
        run.refresh()


plan = client.runs.get_run_plan(task("echo planned", name="sdk-plan"), ssh_key_pub="ssh-ed25519 AAAA")
assert plan.action == "create" and plan.job_plans[0].total_offers == 1, plan
assert plan.job_plans[0].offers[0].backend.value == "remote"

run = client.runs.apply_plan(plan, reserve_ports=False)
assert run.name == "sdk-plan", run.name
wait(run, "done", lambda r: r.status.is_finished())
assert run.status.value == "done", run.status
# The interactive shell of busybox greets first.
logs = b"".join(run.logs())
assert logs.endswith(b"\r\nplanned\r\n"), logs

run = client.runs.apply_configuration(
    configuration=task("echo $WORD", "sleep 600", env={"WORD": "from the SDK"}), reserve_ports=False, ssh_key_pub="ssh-ed25519 AAAA",
)
assert run.name
wait(run, "running", lambda r: r.status.value == "running")
assert run.hostname and run.backend.value == "remote"
for _ in range(100):
    if b"".join(run.logs()):
        break
    time.sleep(0.1)
assert b"from the SDK" in b"".join(run.logs())
assert run.name in [r.name for r in client.runs.list(all=True)]
assert client.runs.get(run.name).status.value == "running"
run.stop()
wait(run, "terminated", lambda r: r.status.is_finished())
assert run.status.value == "terminated", run.status
assert client.runs.get("no-such-run") is None
assert [b.name for b in client.backends.list()] == []
print("ok")
