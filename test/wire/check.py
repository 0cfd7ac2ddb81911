"""Decodes every answer of the server with the models of dstack 0.22.5.

Arguments: the server's URL and a JSON file with the fixture: tokens, project,
ids of runs, fleets, instances, job submissions.
For each answer it also demands that the model's own rendering is found in the
raw answer, field by field: so a field that is left out, or one that only
decodes because the model is lax, is an error.
"""

import base64
import copy
import hashlib
import io
import json
import sys
import uuid
from datetime import datetime, timezone
from typing import Any, List

import requests
from dstack._internal.core.errors import (
    BackendNotAvailable,
    ClientError,
    ResourceExistsError,
    ResourceNotExistsError,
    ServerClientError,
    URLNotFoundError,
)
from dstack._internal.core.models.common import validate_extra_ignore
from dstack._internal.core.models.configurations import TaskConfiguration
from dstack._internal.core.models.files import FileArchive
from dstack._internal.core.models.fleets import (
    ApplyFleetPlanInput,
    Fleet,
    FleetConfiguration,
    FleetPlan,
    FleetSpec,
)
from dstack._internal.core.models.instances import Instance
from dstack._internal.core.models.events import Event
from dstack._internal.core.models.exports import Export, ListExportsResponse
from dstack._internal.core.models.imports import ListImportsResponse
from dstack._internal.core.models.keys import PublicKeyInfo
from dstack._internal.core.models.logs import JobSubmissionLogs
from dstack._internal.core.models.metrics import JobMetrics
from dstack._internal.core.models.profiles import Profile
from dstack._internal.core.models.projects import Project, ProjectsInfoList
from dstack._internal.core.models.repos import RepoHead, RepoHeadWithCreds
from dstack._internal.core.models.repos.virtual import VirtualRepoInfo
from dstack._internal.core.models.runs import Run, RunPlan, RunSpec
from dstack._internal.core.models.secrets import Secret
from dstack._internal.core.models.server import ServerInfo
from dstack._internal.core.backends.models import AnyBackendConfigWithCreds, BackendInfoYAML
from dstack._internal.core.models.backends.base import BackendType
from dstack._internal.core.models.gateways import ApplyGatewayPlanInput, Gateway, GatewayConfiguration, GatewayPlan, GatewaySpec
from dstack._internal.core.models.resources import Memory
from dstack._internal.core.models.volumes import (
    AWSVolumeConfiguration,
    DaytonaVolumeConfiguration,
    KubernetesVolumeConfiguration,
    RunpodVolumeConfiguration,
    Volume,
)
from dstack._internal.core.models.users import GlobalRole, ProjectRole, User, UsersInfoList, UserWithCreds
from dstack._internal.server.schemas.gpus import ListGpusResponse
from dstack._internal.server.schemas.instances import GetInstanceHealthChecksResponse
from dstack._internal.server.schemas.logs import PollLogsRequest
from dstack._internal.server.schemas.projects import MemberSetting
from dstack._internal.server.schemas.sshproxy import GetUpstreamResponse
from dstack._internal.core.models.templates import UITemplate
from dstack.api.server import APIClient
from pydantic import TypeAdapter

base, fixture_path = sys.argv[1], sys.argv[2]
fixture = json.load(open(fixture_path))
project = fixture["project"]
failures: List[str] = []
checked = 0


def differences(want: Any, got: Any, at: str) -> List[str]:
    """Where the model's rendering is not found in the raw answer."""
    if isinstance(want, dict) and isinstance(got, dict):
        out = []
        for key, value in want.items():
            if key not in got:
                out.append(f"{at}.{key}: missing")
            else:
                out += differences(value, got[key], f"{at}.{key}")
        return out
    if isinstance(want, list) and isinstance(got, list) and len(want) == len(got):
        return [d for i, (w, g) in enumerate(zip(want, got)) for d in differences(w, g, f"{at}[{i}]")]
    if want == got and type(want) is type(got):
        return []
    if isinstance(want, (int, float)) and isinstance(got, (int, float)) and want == got:
        return []
    return [f"{at}: the model says {want!r}, the server {got!r}"]


def decode(name: str, model: Any, raw: Any) -> Any:
    """Decodes one answer and compares it with what the model makes of it."""
    global checked
    checked += 1
    try:
        value = validate_extra_ignore(model, copy.deepcopy(raw))  # some validators change their input
    except Exception as e:
        failures.append(f"{name}: {e}")
        return None
    rendered = json.loads(TypeAdapter(model).dump_json(value))
    failures.extend(f"{name}{d}" for d in differences(rendered, raw, ""))
    return value


def expect(name: str, got: Any, want: Any) -> None:
    global checked
    checked += 1
    if got != want:
        failures.append(f"{name}: got {got!r}, want {want!r}")


def post(path: str, body: Any = None, token: str = fixture["admin_token"], **headers: str) -> requests.Response:
    if token:
        headers["Authorization"] = f"Bearer {token}"
    headers.setdefault("X-API-VERSION", "0.22.5")
    if body is not None:
        headers["Content-Type"] = "application/json"
        return requests.post(base + path, data=json.dumps(body), headers=headers)
    return requests.post(base + path, headers=headers)


def answer(path: str, model: Any, body: Any = None, **kwargs: Any) -> Any:
    r = post(path, body, **kwargs)
    if r.status_code != 200:
        failures.append(f"{path}: status {r.status_code}: {r.text}")
        return None
    return decode(path, model, r.json())


def raises(name: str, kind: Any, call: Any) -> str:
    try:
        call()
    except kind as e:
        expect(f"{name}: type", type(e), kind)
        return str(e.msg if hasattr(e, "msg") else e)
    except Exception as e:
        failures.append(f"{name}: raised {e!r}, want {kind.__name__}")
        return ""
    failures.append(f"{name}: raised nothing, want {kind.__name__}")
    return ""


P = f"/api/project/{project}"
client = APIClient(base, fixture["admin_token"])


def server_and_account() -> None:
    info = answer("/api/server/get_info", ServerInfo, token="")
    expect("server_version", info and info.server_version, "0.22.5")
    expect("metrics are off", requests.get(base + "/metrics").json(), {"detail": {"msg": "Not found", "code": None}})
    r = requests.get(base + "/healthcheck")
    expect("healthcheck", (r.status_code, r.json()), (200, {"status": "running"}))
    me = answer("/api/users/get_my_user", UserWithCreds)
    expect("public key ends its line", me and me.ssh_public_key.endswith("\n"), True)
    answer("/api/users/get_my_user", UserWithCreds, token=fixture["user_token"])
    answer("/api/projects/list", List[Project], {})
    answer("/api/projects/list", List[Project])
    answer("/api/projects/list", ProjectsInfoList, {"return_total_count": True, "limit": 1})
    answer("/api/projects/list", List[Project], {"include_not_joined": False, "ascending": True},
           token=fixture["user_token"])
    got = answer(f"/api/projects/{project}/get", Project)
    expect("members", got and len(got.members) >= 2, True)
    answer(f"/api/projects/{project.upper()}/get", Project)


def accounts() -> None:
    answer("/api/users/list", List[User])
    answer("/api/users/list", UsersInfoList, {"return_total_count": True, "limit": 1})
    made = client.users.create("wire-user", GlobalRole.USER)
    expect("created user", (made.username, made.active), ("wire-user", True))
    answer("/api/users/get_user", UserWithCreds, {"username": "wire-user"})
    answer("/api/users/update", User, {"username": "wire-user", "global_role": "user", "email": "w@example.com"})
    answer("/api/users/refresh_token", UserWithCreds, {"username": "wire-user"})
    creds = answer("/api/users/refresh_ssh_key", UserWithCreds, {"username": "wire-user"})
    token = creds.creds.token
    line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGtra2tra2tra2tra2tra2tra2tra2tra2tra2tra2tr me@host"
    key = answer("/api/users/public_keys/add", PublicKeyInfo, {"key": line}, token=token)
    expect("public key", (key.name, key.fingerprint), ("me@host", "SHA256:sArVyTbDlP2ByuRNM59Xf/iwOUmdy69sxylyNl3iUQQ"))
    answer("/api/users/public_keys/list", List[PublicKeyInfo], token=token)
    expect("public_keys/delete", post("/api/users/public_keys/delete", {"ids": [str(key.id)]}, token=token).text, "null")
    expect("providers", post("/api/auth/list_providers", token="").json(), [])
    state = base64.b64encode(json.dumps({"value": "a" * 32, "local_port": 8080}).encode()).decode()
    went = post("/api/auth/get_next_redirect", {"code": "c", "state": state}, token="").json()
    expect("redirect", went["redirect_url"].startswith("http://localhost:8080/auth/callback?code=c&state="), True)
    project = client.projects.create("wire-project")
    expect("owner", project.owner.username, "admin")
    answer("/api/projects/list_only_no_fleets", List[Project])
    client.projects.set_members("wire-project", [
        MemberSetting(username="admin", project_role=ProjectRole.ADMIN),
        MemberSetting(username="wire-user", project_role=ProjectRole.MANAGER),
    ])
    answer("/api/projects/wire-project/get", Project)
    client.projects.add_member("wire-project", "member", ProjectRole.USER)
    client.projects.remove_member("wire-project", "wire-user")
    answer("/api/projects/wire-project/update", Project, {"is_public": True})
    client.projects.delete(["wire-project"])
    expect("users/delete", post("/api/users/delete", {"users": ["wire-user"]}).text, "null")


def lending() -> None:
    client.projects.create("wire-borrower")
    made = client.exports.create(project, "wire-export", importer_projects=["wire-borrower"], exported_fleets=["lab"])
    expect("exported", [f.name for f in made.exported_fleets], ["lab"])
    answer(f"{P}/exports/list", ListExportsResponse)
    expect("exports of old clients", isinstance(post(f"{P}/exports/list", **{"X-API-VERSION": "0.21.9"}).json(), list), True)
    answer(f"{P}/exports/update", Export, {"name": "wire-export", "remove_exported_fleets": ["lab"]})
    client.exports.update(project, "wire-export", add_exported_fleets=["lab"])
    got = answer("/api/project/wire-borrower/imports/list", ListImportsResponse)
    expect("imported", [f.name for i in got.imports for f in i.export.exported_fleets], ["lab"])
    answer("/api/project/wire-borrower/fleets/list", List[Fleet], {"include_imported": True})
    client.imports.delete(project_name="wire-borrower", export_project_name=project, export_name="wire-export")
    client.exports.delete(project, "wire-export")
    raises("missing export", ResourceNotExistsError, lambda: client.exports.delete(project, "wire-export"))
    client.projects.delete(["wire-borrower"])


def fleets() -> None:
    answer("/api/fleets/list", List[Fleet], {})
    answer("/api/fleets/list", List[Fleet], {"only_active": True, "project_name": project})
    listed = answer(f"{P}/fleets/list", List[Fleet]) or []
    expect("fleets are there", len(listed) >= 1, True)
    for fleet in listed:
        answer(f"{P}/fleets/get", Fleet, {"name": fleet.name})
        answer(f"{P}/fleets/get", Fleet, {"name": None, "id": str(fleet.id)})
        expect("no key leaks", "PRIVATE KEY" in post(f"{P}/fleets/get", {"name": fleet.name}).text, False)
    instances = answer("/api/instances/list", List[Instance], {}) or []
    statuses = {i.status.value for i in instances}
    expect("instances in all states", statuses >= set(fixture["instance_statuses"]), True)
    page = answer("/api/instances/list", List[Instance], {"limit": 1}) or []
    if page:
        answer("/api/instances/list", List[Instance],
               {"prev_created_at": page[0].created.isoformat(), "prev_id": str(page[0].id)})
        answer(f"{P}/instances/get", Instance, {"id": str(page[0].id)})
        of = {"fleet_name": page[0].fleet_name, "instance_num": page[0].instance_num}
        answer(f"{P}/instances/get_instance_health_checks", GetInstanceHealthChecksResponse, of)
    spec = FleetSpec(
        configuration=FleetConfiguration.model_validate(fixture["fleet_configuration"]),
        configuration_path="fleet.dstack.yml",
        profile=Profile(name="default"),
    )
    body = {"spec": json.loads(spec.model_dump_json(exclude={"autocreated": True}))}
    answer(f"{P}/fleets/get_plan", FleetPlan, body)
    plan = client.fleets.get_plan(project, spec)
    expect("fleet action", plan.action.value, "create")
    expect("the plan's spec keeps the keys", plan.spec.configuration.ssh_config.ssh_key is not None, True)
    expect("the effective spec has none", plan.effective_spec.configuration.ssh_config.ssh_key, None)
    applied = client.fleets.apply_plan(project, plan)
    expect("fleet name", applied.name, fixture["fleet_configuration"]["name"])
    again = client.fleets.get_plan(project, spec)
    expect("fleet action when it exists", again.action.value, "update")
    expect("nothing changed", again.current_resource.spec == again.effective_spec, True)
    client.fleets.apply_plan(project, again)
    client.fleets.delete_instances(project, applied.name, [99])
    client.fleets.delete(project, [applied.name])
    raises("missing fleet", ResourceNotExistsError, lambda: client.fleets.get(project, "no-such-fleet"))


def runs() -> None:
    listed = answer("/api/runs/list", List[Run], {}) or []
    statuses = {r.status.value for r in listed}
    expect("runs in all states", statuses >= set(fixture["run_statuses"]), True)
    answer("/api/runs/list", List[Run], {"only_active": True, "job_submissions_limit": 1, "limit": 2})
    answer("/api/runs/list", List[Run], {"include_jobs": False, "project_name": project, "username": "admin"})
    if listed:
        answer("/api/runs/list", List[Run], {
            "prev_submitted_at": listed[0].submitted_at.isoformat(), "prev_run_id": str(listed[0].id)})
    for run in listed:
        answer(f"{P}/runs/get", Run, {"run_name": None, "id": str(run.id)})
    spec = RunSpec(
        run_name="wire-task", repo_id=None, repo_data=None,
        configuration_path=".dstack.yml",
        configuration=TaskConfiguration.model_validate(fixture["task_configuration"]),
        profile=Profile(name="default"),
        ssh_key_pub=None,
    )
    plan = client.runs.get_plan(project, spec, max_offers=3)
    raw = post(f"{P}/runs/get_plan", {"run_spec": json.loads(spec.model_dump_json(exclude={"configuration": {"groups", "nodes"}}))})
    if raw.status_code == 200:
        decode("runs/get_plan", RunPlan, raw.json())
    else:
        failures.append(f"runs/get_plan: {raw.text}")
    expect("run action", plan.action.value, "create")
    run_spec = json.loads(spec.model_dump_json(exclude={"configuration": {"groups", "nodes"}}))
    for by in ([], ["count"], ["backend"], ["backend", "region", "count"]):
        raw = post(f"{P}/gpus/list", {"run_spec": run_spec, "group_by": by}).json()
        found = validate_extra_ignore(ListGpusResponse, copy.deepcopy(raw))
        expect(f"gpus/list by {by}", json.loads(found.model_dump_json(exclude_none=True)), raw)
        expect("there are GPUs", len(found.gpus) > 0, True)
    other = {
        "service": {"type": "service", "port": 80, "model": "m", "probes": [{"type": "http"}],
                    "groups": [{"commands": ["a"], "replicas": 1}, {"commands": ["b"], "replicas": 2}]},
        "dev-environment": {"type": "dev-environment", "ide": "cursor", "inactivity_duration": "1h"},
    }
    for kind, configuration in other.items():
        other_spec = {"run_name": f"wire-{kind}", "configuration": configuration, "profile": {"name": "default"}}
        made = answer(f"{P}/runs/get_plan", RunPlan, {"run_spec": other_spec})
        expect(f"jobs of {kind}", made and len(made.job_plans), 2 if kind == "service" else 1)
        made = answer(f"{P}/runs/apply", Run, {"plan": {"run_spec": other_spec}, "force": True})
        expect(f"url of {kind}", made and made.service and made.service.url, "/proxy/services/main/wire-service/" if kind == "service" else None)
    expect("sweep", post("/api/server/sweep", {"confirm": []}).json(), {"machines": [], "missing": []})
    expect("why", post(f"{P}/runs/why", {"run_name": "wire-service"}).json()["status"], "submitted")
    run = client.runs.apply_plan(project, plan)
    expect("run status", run.status.value, "submitted")
    answer(f"{P}/runs/get", Run, {"run_name": "wire-task"})
    again = client.runs.get_plan(project, spec)
    expect("run action when nothing changed", again.action.value, "update")
    client.runs.apply_plan(project, again)
    raises("delete an active run", ServerClientError, lambda: client.runs.delete(project, ["wire-task"]))
    client.runs.stop(project, ["wire-task", "no-such-run"], False)
    client.runs.stop(project, ["wire-task"], True)
    raises("missing run", ResourceNotExistsError, lambda: client.runs.get(project, "no-such-run"))
    expect("null answers", post(f"{P}/runs/stop", {"runs_names": [], "abort": False}).text, "null")


def data() -> None:
    client.repos.init(project, "none", VirtualRepoInfo())
    answer(f"{P}/repos/list", List[RepoHead])
    answer(f"{P}/repos/get", RepoHeadWithCreds, {"repo_id": "none", "include_creds": True})
    remote = {"repo_type": "remote", "repo_name": "repo"}
    creds = {"clone_url": "https://example.com/repo.git", "private_key": None, "oauth_token": "secret"}
    expect("repos/init", post(f"{P}/repos/init", {"repo_id": "r1", "repo_info": remote, "repo_creds": creds}).text, "null")
    got = answer(f"{P}/repos/get", RepoHeadWithCreds, {"repo_id": "r1", "include_creds": True})
    expect("own credentials", got and got.repo_creds.oauth_token, "secret")
    client.repos.upload_code(project, "r1", hashlib.sha256(b"diff").hexdigest(), io.BytesIO(b"diff"))
    client.repos.delete(project, ["r1"])
    archive = client.files.upload_archive(hashlib.sha256(b"tar").hexdigest(), io.BytesIO(b"tar"))
    expect("archive by hash", client.files.get_archive_by_hash(archive.hash), archive)
    answer("/api/files/get_archive_by_hash", FileArchive, {"hash": archive.hash})
    raises("missing repo", ResourceNotExistsError, lambda: client.repos.get_with_creds(project, "r1"))
    for submission in fixture["submissions"]:
        body = PollLogsRequest(run_name=submission["run_name"], job_submission_id=uuid.UUID(submission["id"]), limit=1000)
        answer(f"{P}/logs/poll", JobSubmissionLogs, json.loads(body.model_dump_json()))
        client.logs.poll(project, body)
    events = client.events.list(limit=100)
    expect("events are there", len(events) > 0, True)
    answer("/api/events/list", List[Event], {"limit": 100, "ascending": True})
    client.events.list(within_projects=[uuid.UUID(fixture["project_id"])], actors=[None], limit=5)
    client.events.list(prev_recorded_at=datetime.now(timezone.utc), include_target_types=["run", "fleet"])


def secrets() -> None:
    made = client.secrets.create_or_update(project, "TOKEN", "v1")
    expect("secret", (made.name, made.value), ("TOKEN", "v1"))
    answer(f"{P}/secrets/create_or_update", Secret, {"name": "TOKEN", "value": "v2"})
    answer(f"{P}/secrets/list", List[Secret])
    expect("secrets are listed without values", [(s.name, s.value) for s in client.secrets.list(project)], [("TOKEN", None)])
    expect("secret's value", answer(f"{P}/secrets/get", Secret, {"name": "TOKEN"}).value, "v2")
    client.secrets.delete(project, ["TOKEN"])
    raises("missing secret", ResourceNotExistsError, lambda: client.secrets.get(project, "TOKEN"))
    raises("missing secrets", ResourceNotExistsError, lambda: client.secrets.delete(project, ["TOKEN"]))
    events = answer("/api/events/list", List[Event], {"include_target_types": ["secret"]})
    expect("events of secrets", [e.message for e in events], ["Secret deleted", "Secret updated", "Secret created"])


def backends() -> None:
    types = post("/api/backends/list_types", token="").json()
    hosted = {"cudo", "dstack", "remote", "tensordock"}
    expect("types of backends", set(types), {t.value for t in BackendType} - hosted)
    bodies = [
        {"type": "gcp", "project_id": "p", "creds": {"type": "service_account", "filename": "", "data": "{}"}},
        {"type": "kubernetes", "kubeconfig": {"filename": "", "data": "a: b"}, "contexts": ["x"]},
        {"type": "runpod", "creds": {"type": "api_key", "api_key": "k"}},
    ]
    for body in bodies:
        answer(f"{P}/backends/create", AnyBackendConfigWithCreds, body)
        answer(f"{P}/backends/update", AnyBackendConfigWithCreds, body)
        answer(f"{P}/backends/{body['type']}/config_info", AnyBackendConfigWithCreds)
        text = answer(f"{P}/backends/{body['type']}/get_yaml", BackendInfoYAML)
        expect("update_yaml", post(f"{P}/backends/update_yaml", {"config_yaml": text.config_yaml}).text, "null")
    got = answer(f"/api/projects/{project}/get", Project)
    expect("backends", [b.name for b in got.backends], ["gcp", "kubernetes", "runpod"])
    expect("backends/delete", post(f"{P}/backends/delete", {"backends_names": ["runpod"]}).text, "null")
    expect("create_yaml", post(f"{P}/backends/create_yaml", {"config_yaml": text.config_yaml}).text, "null")


def gateways() -> None:
    conf = GatewayConfiguration(name="wire-gateway", backend=BackendType.GCP, region="eu-west-1", domain="*.example.com")
    spec = GatewaySpec(configuration=conf, configuration_path="gateway.dstack.yml")
    answer(f"{P}/gateways/get_plan", GatewayPlan, {"spec": json.loads(spec.model_dump_json())})
    plan = client.gateways.get_plan(project, spec)
    expect("gateway action", plan.action.value, "create")
    made = client.gateways.apply_plan(project, ApplyGatewayPlanInput(spec=plan.spec, current_resource=None))
    expect("gateway", (made.name, made.default, made.wildcard_domain), ("wire-gateway", True, "*.example.com"))
    answer(f"{P}/gateways/list", List[Gateway], {"include_imported": True})
    answer(f"{P}/gateways/get", Gateway, {"name": "wire-gateway"})
    other = GatewayConfiguration(backend=BackendType.GCP, region="x", certificate=None, replicas=2)
    answer(f"{P}/gateways/create", Gateway, {"configuration": json.loads(other.model_dump_json())})
    answer(f"{P}/gateways/set_wildcard_domain", Gateway, {"name": "wire-gateway", "wildcard_domain": "x.com"})
    client.gateways.set_default(project, "wire-gateway")
    client.gateways.delete(project, ["wire-gateway", "none"])
    raises("missing gateway", ResourceNotExistsError, lambda: client.gateways.get(project, "none"))
    missing = GatewayConfiguration(name="no-backend", backend=BackendType.AZURE, region="x")
    raises("gateway on a missing backend", BackendNotAvailable, lambda: client.gateways.create(project, missing))


def cloud_fleets() -> None:
    conf = {"type": "fleet", "name": "wire-cloud", "nodes": {"min": 0, "target": 1, "max": 2}, "resources": {"gpu": "H100:8"}}
    spec = FleetSpec(configuration=FleetConfiguration.model_validate(conf), profile=Profile(name="default"))
    plan = client.fleets.get_plan(project, spec)
    expect("plan of a cloud fleet", (plan.action.value, plan.total_offers, plan.max_offer_price), ("create", 0, None))
    fleet = client.fleets.apply_plan(project, plan)
    expect("nodes", [i.name for i in fleet.instances], ["wire-cloud-0"])
    answer(f"{P}/fleets/get", Fleet, {"name": "wire-cloud"})
    again = client.fleets.get_plan(project, spec)
    expect("nothing changed", again.current_resource.spec == again.effective_spec, True)
    client.fleets.apply_plan(project, again)


def volumes() -> None:
    conf = AWSVolumeConfiguration(name="wire-volume", region="us-east-1", size=Memory(10))
    made = client.volumes.create(project, conf)
    expect("volume", (made.name, made.status.value, made.attachments), ("wire-volume", "submitted", []))
    raises("taken volume", ResourceExistsError, lambda: client.volumes.create(project, conf))
    for extra in (KubernetesVolumeConfiguration(claim_name="c"), RunpodVolumeConfiguration(region="x", size=Memory(1)), DaytonaVolumeConfiguration()):
        body = {"configuration": json.loads(extra.model_dump_json())}
        answer(f"{P}/volumes/create", Volume, body)
    answer(f"{P}/volumes/list", List[Volume])
    answer("/api/volumes/list", List[Volume], {"project_name": project})
    answer(f"{P}/volumes/get", Volume, {"name": "wire-volume"})
    client.volumes.delete(project, ["wire-volume", "none"])
    raises("missing volume", ResourceNotExistsError, lambda: client.volumes.get(project, "none"))


def metrics() -> None:
    running = next(s for s in fixture["submissions"] if s["status"] == "running")
    path = f"{P}/metrics/job/{running['run_name']}"
    raw = requests.get(f"{base}{path}?limit=1000", headers={"Authorization": f"Bearer {fixture['admin_token']}"}).json()
    got = decode("metrics/job", JobMetrics, raw)
    expect("series", [(m.name, m.values) for m in got.metrics][:3], [
        ("cpu_usage_percent", [50]), ("memory_usage_bytes", [300]), ("memory_working_set_bytes", [200])])
    expect("series of GPUs", [(m.name, m.values) for m in got.metrics][-2:], [
        ("gpu_memory_usage_bytes_gpu0", [7]), ("gpu_util_percent_gpu0", [99])])
    expect("by the client", len(client.metrics.get_job_metrics(project, running["run_name"], limit=5).metrics), len(got.metrics))
    usage = next(j for j in post(f"{P}/metrics/usage", {}).json()["jobs"] if j["run_name"] == running["run_name"])
    expect("usage", (usage["cpu_percent"], usage["memory_bytes"], usage["gpus"][0]["util_percent"]), (50, 200, 99))
    raises("metrics of no run", ResourceNotExistsError, lambda: client.metrics.get_job_metrics(project, "nope"))


def streams() -> None:
    done = next(s for s in fixture["submissions"] if s["status"] == "done")
    lines = [json.loads(line) for line in post(f"{P}/logs/follow", {"job_submission_id": done["id"]}).text.splitlines() if line]
    text = b"".join(base64.b64decode(line["message"]) for line in lines)
    expect("followed log", (text, [line["end"] for line in lines]), (b"hello\nw\xc3\xb6rld \xff\n", [False, True]))
    rest = post(f"{P}/logs/follow", {"job_submission_id": done["id"], "offset": 6}).text.splitlines()
    expect("followed log from an offset", base64.b64decode(json.loads(rest[0])["message"]), b"w\xc3\xb6rld \xff\n")
    for line in post(f"{P}/runs/watch", {"run_name": done["run_name"]}).text.splitlines():
        decode("runs/watch", Run, json.loads(line))
    running = next(s for s in fixture["submissions"] if s["status"] == "running")
    relay = requests.get(f"{base}{P}/runs/{running['run_name']}/relay", headers={"Authorization": f"Bearer {fixture['admin_token']}"})
    expect("relay without a WebSocket", relay.status_code, 426)


def templates_and_proxy() -> None:
    answer(f"{P}/templates/list", List[UITemplate])
    running = next(s["id"] for s in fixture["submissions"] if s["status"] == "running")
    answer("/api/sshproxy/get_upstream", GetUpstreamResponse, {"id": running}, token="proxy-token")


def errors() -> None:
    expect("no token", (post("/api/users/get_my_user", token="").status_code,
                        post("/api/users/get_my_user", token="").json()), (401, {"detail": "Not authenticated"}))
    bad = post("/api/users/get_my_user", token="wrong")
    expect("bad token", (bad.status_code, bad.json()), (403, {"detail": {"msg": "Invalid token", "code": None}}))
    out = post(f"{P}/runs/list", {}, token=fixture["outsider_token"])
    expect("unknown route", (out.status_code, out.json()), (405, {"detail": "Method Not Allowed"}))
    out = post(f"{P}/runs/get", {"nonsense": 1}, token=fixture["outsider_token"])
    expect("outsider, before the body", (out.status_code, out.json()), (403, {"detail": {"msg": "Access denied", "code": None}}))
    out = post("/api/project/nope/runs/get", {})
    expect("unknown project", (out.status_code, out.json()), (404, {"detail": {"msg": "Not found", "code": None}}))
    new = post("/api/users/get_my_user", **{"X-API-VERSION": "0.23.0"})
    expect("too new", (new.status_code, list(new.json()["detail"][0])), (400, ["msg", "code"]))
    got = requests.get(base + f"{P}/runs/get")
    expect("wrong method", (got.status_code, got.json()), (404, {"detail": "Not Found"}))
    r = post(f"{P}/runs/stop", {"runs_names": "x"})
    expect("invalid body", (r.status_code, [(e["type"], e["loc"]) for e in r.json()["detail"]]), (422, [
        ("list_type", ["body", "runs_names"]), ("missing", ["body", "abort"])]))
    r = post(f"{P}/runs/stop", {"runs_names": [], "abort": False, "bogus": 1})
    expect("unknown field", (r.status_code, [(e["type"], e["loc"]) for e in r.json()["detail"]]), (422, [
        ("extra_forbidden", ["body", "bogus"])]))
    raises("422 in the client", ClientError, lambda: client._request(f"{P}/runs/stop", body="{}"))
    raises("404 in the client", URLNotFoundError, lambda: client.projects.get("nope"))


for part in (server_and_account, accounts, lending, fleets, runs, data, secrets, metrics, backends, gateways, cloud_fleets, volumes, streams, templates_and_proxy, errors):
    try:
        part()
    except Exception as e:  # one part must not hide the others
        failures.append(f"{part.__name__}: {type(e).__name__}: {e}")

print(f"{checked} answers checked, {len(failures)} differences")
for failure in failures:
    print("  " + failure)
sys.exit(1 if failures else 0)
