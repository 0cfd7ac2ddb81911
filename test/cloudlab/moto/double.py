"""EC2 for tests: moto, with what it lacks and with faults by request.

Usage: double.py  (prints the address on which it listens)

Added to moto: client tokens (RunInstances, CreateVolume) and the filter
client-token, placement groups, capacity reservations, public images, a route
to the internet in the default VPC, the refusal to delete a volume that is
attached, and the end of a machine that has ended already.

POST /_double/reset   {}  everything anew
POST /_double/fault   {"action": "RunInstances", "code": "...", "message": "...",
                       "status": 400, "lost": false, "spends": false, "skip": 0, "times": 1}
    The fault strikes the call after `skip` others; all attempts that an SDK
    makes for one call meet the same fate. A lost answer comes after the act:
    the connection is closed.
POST /_double/calm    {}  no more faults
POST /_double/hide    {"on": true}  new machines are not shown until it is off
GET  /_double/actions                  which actions were called
POST /_double/reservation  {"id", "zone", "type", "free", "block"}
POST /_double/quota  {"code": "L-1216C47A", "value": 8}
"""

import fnmatch
import json
import os
import re
import socket
import tempfile
import threading
import urllib.parse
from io import BytesIO
from xml.sax.saxutils import escape

UBUNTU, NVIDIA = "099720109477", "898082745236"
REGIONS = ("us-east-1", "eu-west-1")


def image(ami, owner, name, arch):
    return {
        "ami_id": ami, "owner_id": owner, "name": name, "architecture": arch, "state": "available", "public": True,
        "image_location": f"{owner}/{name}", "sriov": "simple", "root_device_type": "ebs", "root_device_name": "/dev/sda1",
        "description": name, "image_type": "machine", "virtualization_type": "hvm", "hypervisor": "xen",
        "creation_date": f"20{ami[-6:-4]}-{ami[-4:-2]}-{ami[-2:]}T00:00:00.000Z",
    }


NOBLE = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04"
IMAGES = [
    image("ami-00000000000250101", UBUNTU, f"{NOBLE}-amd64-server-20250101", "x86_64"),
    image("ami-00000000000260101", UBUNTU, f"{NOBLE}-amd64-server-20260101", "x86_64"),
    image("ami-00000000010260101", UBUNTU, f"{NOBLE}-arm64-server-20260101", "arm64"),
    image("ami-00000000020260101", NVIDIA, "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) 20260101", "x86_64"),
]

with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as images:
    json.dump(IMAGES, images)
os.environ["MOTO_AMIS_PATH"] = images.name

from moto.core import DEFAULT_ACCOUNT_ID  # noqa: E402  (the images come first)
from moto.ec2 import utils as ec2_utils  # noqa: E402
from moto.ec2.models import ec2_backends  # noqa: E402
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app  # noqa: E402
from werkzeug.serving import make_server  # noqa: E402

os.unlink(images.name)
ec2_utils.filter_dict_attribute_mapping["client-token"] = "client_token"
plain_match = ec2_utils.instance_value_in_filter_values
ec2_utils.instance_value_in_filter_values = lambda value, wanted: plain_match(value, wanted) or (
    isinstance(value, str) and any(fnmatch.fnmatchcase(value, w) for w in wanted)
)


class Refused(Exception):
    def __init__(self, code, message, status=400):
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


class Double:
    def __init__(self):
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.lock = threading.RLock()  # one call at a time: tokens are looked up and kept in one step
        self.clear()

    def clear(self):
        self.faults, self.struck, self.called = [], {}, set()
        self.tokens = {}  # (action, region, token) -> (parameters, answer)
        self.groups = {}  # (region, name) -> ids of machines
        self.reservations, self.quotas = {}, {}
        self.hiding, self.hidden = False, set()  # ids of reservations, as moto calls what one request made

    def __call__(self, environ, start):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = BytesIO(body)
        path = environ["PATH_INFO"]
        if path.startswith("/_double/"):
            return self.control(path.rsplit("/", 1)[1], json.loads(body or "{}"), start)
        form = dict(urllib.parse.parse_qsl(body.decode("utf-8", "replace")))
        target = environ.get("HTTP_X_AMZ_TARGET", "").rsplit(".", 1)[-1]
        action = form.get("Action") or target
        region = re.search(r"Credential=[^/]+/\d+/([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
        region = region.group(1) if region else "us-east-1"
        with self.lock:
            self.called.add(action)
            fault = self.strike(action, environ.get("HTTP_AMZ_SDK_INVOCATION_ID", ""))
            try:
                if fault and not fault.get("lost"):
                    if fault.get("spends"):
                        self.tokens[action, region, form.get("ClientToken")] = asked(form), None
                    raise Refused(fault["code"], fault.get("message", fault["code"]), fault.get("status", 400))
                status, headers, out = self.act(action, region, form, environ)
            except Refused as e:
                status, headers, out = refusal(e, bool(target))
        if fault and fault.get("lost"):
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        if not any(name.lower() == "content-length" for name, _ in headers):
            headers = [*headers, ("Content-Length", str(len(out)))]
        start(status, headers)
        return [out]

    def control(self, what, data, start):
        with self.lock:
            if what == "reset":
                self.clear()
                ec2_backends.reset()
                for region in REGIONS:
                    route_to_internet(ec2_backends[DEFAULT_ACCOUNT_ID][region])
            elif what == "fault":
                self.faults.append({"skip": 0, "times": 1, **data})
            elif what == "calm":
                self.faults.clear()
            elif what == "hide":
                self.hiding, self.hidden = data["on"], set()
            elif what == "reservation":
                self.reservations[data["id"]] = data
            elif what == "quota":
                self.quotas[data["code"]] = data["value"]
            elif what != "actions":
                self.order(what, data)
            out = json.dumps(sorted(self.called) if what == "actions" else {}).encode()
        start("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(out)))])
        return [out]

    def order(self, what, data):
        """Is for those who add to this double."""
        raise ValueError(what)

    def strike(self, action, invocation):
        if invocation in self.struck:
            return self.struck[invocation]
        fault = next((f for f in self.faults if f["action"] in (action, "*")), None)
        if fault and fault["skip"] > 0:
            fault["skip"] -= 1
            fault = None
        elif fault:
            fault["times"] -= 1
            if fault["times"] == 0:
                self.faults.remove(fault)
        self.struck[invocation] = fault
        return fault

    def act(self, action, region, form, environ):
        own = getattr(self, action, None) if action[:1].isupper() else None
        return own(region, form, environ) if own else self.pass_on(environ)

    def pass_on(self, environ):
        kept = {}

        def start(status, headers, exc_info=None):
            kept["status"], kept["headers"] = status, headers

        out = b"".join(self.moto(environ, start))
        return kept["status"], kept["headers"], out

    def once(self, action, region, form, environ):
        """Acts once for a client token, as EC2 does. A success uses it up, and a refusal that spends it."""
        token = form.get("ClientToken")
        key, answer = (action, region, token), None
        if token and key in self.tokens:
            before, answer = self.tokens[key]
            if before != asked(form):
                raise Refused("IdempotentParameterMismatch", "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).")
        if answer:
            return answer
        answer = self.pass_on(environ)
        if token and answer[0].startswith("200"):
            self.tokens[key] = asked(form), answer
        return answer

    def RunInstances(self, region, form, environ):
        group = form.get("Placement.GroupName")
        if group and (region, group) not in self.groups:
            raise Refused("InvalidPlacementGroup.Unknown", f"The Placement Group '{group}' is unknown.")
        if "NetworkInterface.2.DeviceIndex" in form:  # such a machine gets no public address by itself
            body = urllib.parse.urlencode({**form, "NetworkInterface.1.AssociatePublicIpAddress": "false"}).encode()
            environ["wsgi.input"], environ["CONTENT_LENGTH"] = BytesIO(body), str(len(body))
        answer = self.once("RunInstances", region, form, environ)
        if self.hiding:
            self.hidden.update(re.findall(r"<reservationId>(.*?)</reservationId>", answer[2].decode()))
        if group:
            self.groups[region, group].update(re.findall(rb"<instanceId>(.*?)</instanceId>", answer[2]))
        return answer

    def DescribeInstances(self, region, form, environ):
        reservations = ec2_backends[DEFAULT_ACCOUNT_ID][region].reservations
        shown = {k: v for k, v in reservations.items() if k not in self.hidden}
        kept = dict(reservations)
        try:
            reservations.clear()
            reservations.update(shown)
            return self.pass_on(environ)
        finally:
            reservations.clear()
            reservations.update(kept)

    def CreateVolume(self, region, form, environ):
        return self.once("CreateVolume", region, form, environ)

    def DeleteVolume(self, region, form, environ):
        volume = ec2_backends[DEFAULT_ACCOUNT_ID][region].volumes.get(form["VolumeId"])
        if volume is not None and volume.attachment:
            raise Refused("VolumeInUse", f"Volume {form['VolumeId']} is currently attached to {volume.attachment.instance.id}")
        return self.pass_on(environ)

    def TerminateInstances(self, region, form, environ):
        ids = [v for k, v in form.items() if k.startswith("InstanceId.")]
        known = ec2_backends[DEFAULT_ACCOUNT_ID][region]
        if all(m and m.state in ("shutting-down", "terminated") for m in (find(known, i) for i in ids)):
            gone = "<code>48</code><name>terminated</name>"
            items = "".join(
                f"<item><instanceId>{i}</instanceId><currentState>{gone}</currentState><previousState>{gone}</previousState></item>" for i in ids
            )
            return answer("TerminateInstances", f"<instancesSet>{items}</instancesSet>")
        return self.pass_on(environ)

    def CreatePlacementGroup(self, region, form, environ):
        if (region, form["GroupName"]) in self.groups:
            raise Refused("InvalidPlacementGroup.Duplicate", f"The Placement Group '{form['GroupName']}' already exists.")
        self.groups[region, form["GroupName"]] = set()
        return answer("CreatePlacementGroup", "<return>true</return>")

    def DeletePlacementGroup(self, region, form, environ):
        name = form["GroupName"]
        if (region, name) not in self.groups:
            raise Refused("InvalidPlacementGroup.Unknown", f"The Placement Group '{name}' is unknown.")
        machines = ec2_backends[DEFAULT_ACCOUNT_ID][region]
        for machine in self.groups[region, name]:
            if machines.get_instance(machine.decode()).state != "terminated":
                raise Refused("InvalidPlacementGroup.InUse", f"The placement group {name} is in use and may not be deleted.")
        del self.groups[region, name]
        return answer("DeletePlacementGroup", "<return>true</return>")

    def GetServiceQuota(self, region, form, environ):
        asked = json.loads(environ["wsgi.input"].getvalue())
        if asked.get("QuotaCode") not in self.quotas:
            return self.pass_on(environ)
        quota = {"QuotaCode": asked["QuotaCode"], "ServiceCode": asked["ServiceCode"], "Value": self.quotas[asked["QuotaCode"]]}
        return "200 OK", [("Content-Type", "application/x-amz-json-1.1")], json.dumps({"Quota": quota}).encode()

    def DescribeCapacityReservations(self, region, form, environ):
        found = self.reservations.get(form.get("CapacityReservationId.1"))
        if not found or not found["zone"].startswith(region):
            raise Refused("InvalidCapacityReservationId.NotFound", "The capacity reservation does not exist.")
        kind = "capacity-block" if found.get("block") else "default"
        return answer(
            "DescribeCapacityReservations",
            f"<capacityReservationSet><item><capacityReservationId>{found['id']}</capacityReservationId>"
            f"<instanceType>{found['type']}</instanceType><availabilityZone>{found['zone']}</availabilityZone>"
            f"<state>active</state><tenancy>default</tenancy><reservationType>{kind}</reservationType>"
            f"<totalInstanceCount>{found['free']}</totalInstanceCount>"
            f"<availableInstanceCount>{found['free']}</availableInstanceCount></item></capacityReservationSet>",
        )


def asked(form):
    return {k: v for k, v in form.items() if k not in ("Action", "Version")}


def refusal(e, as_json):
    if as_json:
        body = json.dumps({"__type": e.code, "message": e.message})
        return f"{e.status} refused", [("Content-Type", "application/x-amz-json-1.1"), ("X-Amzn-Errortype", e.code)], body.encode()
    body = (
        f"<Response><Errors><Error><Code>{e.code}</Code><Message>{escape(e.message)}</Message></Error></Errors>"
        "<RequestID>00000000-0000-0000-0000-000000000000</RequestID></Response>"
    )
    return f"{e.status} refused", [("Content-Type", "text/xml")], body.encode()


def find(region, machine):
    return next((m for r in region.all_reservations() for m in r.instances if m.id == machine), None)


def answer(action, inner):
    return "200 OK", [("Content-Type", "text/xml")], f"<{action}Response>{inner}</{action}Response>".encode()


def route_to_internet(region):
    """moto's default VPC has none, the real one has."""
    vpc = region.get_default_vpc()
    gateway = region.create_internet_gateway()
    region.attach_internet_gateway(gateway.id, vpc.id)
    table = next(t for t in region.route_tables.values() if t.vpc_id == vpc.id)
    region.create_route(table.id, "0.0.0.0/0", gateway_id=gateway.id)


def serve(double):
    server = make_server("127.0.0.1", 0, double, threaded=True, request_handler=MotoRequestHandler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve(Double())
