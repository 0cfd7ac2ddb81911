"""The double of double.py with real machines and volumes behind it.

Usage: lab.py HOOK  (prints the address on which it listens)

Whoever listens at HOOK makes them and tells what becomes of them (package
cloudlab). Each of these is answered with JSON:
    /address {}                  -> {"address"}: that of the machine that comes next
    /run     {"id", "user_data", "spot", "hops", ...}   a machine starts
    /end     {"id"}              it shall end
    /attach  {"volume", "machine", "device", "size"}
    /detach  {"volume", "force"} -> {"busy"}: the machine still uses it
    /delete  {"volume"}

POST /_double/state  {"id", "state", "code", "address", "why", "message"}
    What became of a machine.
"""

import json
import sys
import urllib.request

from double import DEFAULT_ACCOUNT_ID, REGIONS, Double, Refused, answer, ec2_backends, find, serve
from moto.ec2.models.instances import Instance, InstanceState, StateReason


class Lab(Double):
    def __init__(self, hook):
        super().__init__()
        self.hook, self.address = hook, None
        self.detaching = {}  # id of a volume -> its region: to be detached as soon as the machine lets go
        prepare = Instance.prep_nics

        def pending(instance, *args, **kwargs):
            prepare(instance, *args, **kwargs)
            instance._state = InstanceState("pending", 0)
            for nic in instance.nics.values():
                nic.public_ip, nic.public_ip_auto_assign = None, False
            instance.nics[0].private_ip_address = self.address

        Instance.prep_nics = pending

    def ask(self, what, **data):
        request = urllib.request.Request(f"{self.hook}/{what}", json.dumps(data).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as out:
            return json.load(out)

    def order(self, what, data):
        if what != "state":
            return super().order(what, data)
        for region in REGIONS:
            machine = find(ec2_backends[DEFAULT_ACCOUNT_ID][region], data["id"])
            if machine is None:
                continue
            if data["state"] in ("shutting-down", "terminated") and machine.state not in ("shutting-down", "terminated"):
                machine.terminate()
            machine._state = InstanceState(data["state"], data["code"])
            if data.get("why"):
                machine.state_reason = StateReason(data["message"], data["why"])
            machine.nics[0].public_ip = data.get("address") if machine.associate_public_ip else None

    def RunInstances(self, region, form, environ):
        known = ec2_backends[DEFAULT_ACCOUNT_ID][region]
        before = {m.id for r in known.all_reservations() for m in r.instances}
        self.address = self.ask("address")["address"]
        answer = super().RunInstances(region, form, environ)
        for machine in [m for r in known.all_reservations() for m in r.instances if m.id not in before]:
            machine.associate_public_ip = form.get("NetworkInterface.1.AssociatePublicIpAddress", "true") == "true"
            self.ask(
                "run", id=machine.id, region=region, address=self.address, type=machine.instance_type, zone=machine.availability_zone,
                user_data=form.get("UserData", ""), spot=form.get("InstanceMarketOptions.MarketType") == "spot",
                hops=int(form.get("MetadataOptions.HttpPutResponseHopLimit", "1")),
            )
        return answer

    def TerminateInstances(self, region, form, environ):
        known = ec2_backends[DEFAULT_ACCOUNT_ID][region]
        asked = [find(known, v) for k, v in form.items() if k.startswith("InstanceId.")]
        living = [m for m in asked if m and m.state not in ("shutting-down", "terminated")]
        if None not in asked and not living:
            return super().TerminateInstances(region, form, environ)
        answer = self.pass_on(environ)
        for machine in living:
            if machine.state == "terminated":
                machine._state = InstanceState("shutting-down", 32)
                self.ask("end", id=machine.id)
        return answer

    def AttachVolume(self, region, form, environ):
        machine = find(ec2_backends[DEFAULT_ACCOUNT_ID][region], form["InstanceId"])
        if machine is not None and machine.state == "pending":
            raise Refused("IncorrectState", f"Instance '{machine.id}' is not 'running'.")
        answer = self.pass_on(environ)
        if answer[0].startswith("200"):
            size = ec2_backends[DEFAULT_ACCOUNT_ID][region].volumes[form["VolumeId"]].size
            self.ask("attach", volume=form["VolumeId"], machine=form["InstanceId"], device=form["Device"], size=size)
        return answer

    def DetachVolume(self, region, form, environ):
        force = form.get("Force") == "true"
        volume = ec2_backends[DEFAULT_ACCOUNT_ID][region].volumes.get(form["VolumeId"])
        if volume is not None and volume.attachment and self.ask("detach", volume=volume.id, force=force).get("busy"):
            self.detaching[volume.id] = region
            return answer("DetachVolume", f"<volumeId>{volume.id}</volumeId><status>busy</status>")
        self.detaching.pop(form["VolumeId"], None)
        return self.pass_on(environ)

    def DescribeVolumes(self, region, form, environ):
        for name in [v for v, where in self.detaching.items() if where == region]:
            volume = ec2_backends[DEFAULT_ACCOUNT_ID][region].volumes.get(name)
            if volume is None or not volume.attachment:
                del self.detaching[name]
            elif not self.ask("detach", volume=name, force=False).get("busy"):
                del self.detaching[name]
                ec2_backends[DEFAULT_ACCOUNT_ID][region].detach_volume(name, volume.attachment.instance.id, volume.attachment.device)
            else:
                volume.attachment.status = "busy"
        return self.pass_on(environ)

    def DeleteVolume(self, region, form, environ):
        answer = super().DeleteVolume(region, form, environ)
        if answer[0].startswith("200"):
            self.ask("delete", volume=form["VolumeId"])
        return answer


if __name__ == "__main__":
    serve(Lab(sys.argv[1]))
