"""The built-in cloud's answers: guards, lists, tokens, signatures, limits. As the API reference has them."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from fleet.cloud.http import Request
from fleet.cloud.simulator import defaults
from fleet.cloud.simulator.calendar import Calendar
from fleet.cloud.simulator.face import Face
from fleet.cloud.simulator.settings import Behaviour
from fleet.cloud.simulator.things import DEFAULT_USER, Disk, ImageRecord, KeyPairRecord, ServerSpec, User
from fleet.cloud.simulator.world import Estate, World

P = defaults.PROJECT_ID
IMAGES = (
    ImageRecord(name="good", id=defaults.IMAGE_ID),
    ImageRecord(name="old", id="queued-image", status="queued"),
    ImageRecord(name="metal", id="metal-image", kind="Ironic"),
    ImageRecord(name="plain", id=defaults.PLAIN_IMAGE_ID, cloud_init=False),
)
ESTATE = Estate(
    images=IMAGES,
    users=(DEFAULT_USER, User(name="other", id="f" * 32, password="pw")),
    key_pairs=(
        KeyPairRecord(name="demo-key", user_id=defaults.USER_ID),
        KeyPairRecord(name="theirs", user_id="f" * 32),
    ),
)


class Client:
    """Asks a face as the default user; every call a second after the one before."""

    def __init__(
        self, *specs: ServerSpec, estate: Estate = ESTATE, behaviour: Behaviour | None = None
    ) -> None:
        self.world = World(
            specs or [ServerSpec(name="web-1")], estate=estate, behaviour=behaviour or Behaviour(), seed=5
        )
        self.face = Face(self.world)
        self.now = 0.0
        self.headers: dict[str, str] = {}
        self.last: dict[str, str] = {}

    def log_in(self, name: str = "fleet", password: str = "", **scope: Any) -> tuple[int, Any]:
        body = {
            "auth": {
                "identity": {
                    "methods": ["password"],
                    "password": {
                        "user": {
                            "name": name,
                            "password": password or "simulator",
                            "domain": {"name": "simulator"},
                        }
                    },
                },
                "scope": scope or {"project": {"name": "sim-1"}},
            }
        }
        answer = self.ask("POST", "/v3/auth/tokens", body)
        if answer[0] == 201:
            self.headers = {"X-Auth-Token": self.last["x-subject-token"]}
        return answer

    def ask(self, method: str, path: str, body: Any = None, *, after: float = 1.0) -> tuple[int, Any]:
        self.now += after
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        outcome = self.face.handle(
            Request(method, f"http://simulator.invalid{path}", self.headers, data), self.now
        )
        assert outcome.fate == "answer"
        self.last = dict(outcome.response.headers)
        content = outcome.response.body
        return outcome.response.status, json.loads(content) if content else None

    def reinstall(self, name: str = "web-1", version: str = "v2", **fields: Any) -> tuple[int, Any]:
        order = fields or {"keyname": "demo-key"}
        path = f"/{version}/{P}/cloudservers/{self.world.named(name).id}/reinstallos"
        return self.ask("POST", path, {"os-reinstall": order})

    def power(self, root: str, *names: str, **fields: Any) -> tuple[int, Any]:
        servers = [{"id": self.world.named(name).id} for name in names]
        return self.ask("POST", f"/v1/{P}/cloudservers/action", {root: {"servers": servers, **fields}})

    def listed(self, query: str = "") -> tuple[int, list[str]]:
        status, body = self.ask("GET", f"/v1/{P}/cloudservers/detail{query}")
        assert status == 200, body
        return body["count"], [server["name"] for server in body["servers"]]


def code_of(body: Any) -> str:
    return str(body.get("error_code") or body.get("code") or body["error"]["code"])


def logged_in(*specs: ServerSpec, **fields: Any) -> Client:
    client = Client(*specs, **fields)
    assert client.log_in()[0] == 201
    return client


OFF = ServerSpec(name="web-1", status="SHUTOFF")
KEY = {"keyname": "demo-key"}
B64 = base64.b64encode


@pytest.mark.parametrize(
    ("spec", "fields", "status", "code"),
    [
        (ServerSpec(name="web-1"), KEY, 400, "Ecs.0100"),
        (ServerSpec(name="web-1", status="SHUTOFF", locked=True), KEY, 400, "Ecs.0605"),
        (ServerSpec(name="web-1", status="ERROR"), KEY, 400, "Ecs.0100"),
        (ServerSpec(name="web-1", status="SHUTOFF", disks=(Disk(id="d"),)), KEY, 400, "Ecs.0105"),
        (ServerSpec(name="web-1", status="SHUTOFF", image="gone"), KEY, 400, "Ecs.0031"),
        (ServerSpec(name="web-1", status="SHUTOFF", image="queued-image"), KEY, 400, "Ecs.0032"),
        (ServerSpec(name="web-1", status="SHUTOFF", image="metal-image"), KEY, 400, "Ecs.0007"),
        (
            ServerSpec(name="web-1", status="SHUTOFF", metadata={"EcmResStatus": "freeze"}),
            KEY,
            400,
            "Ecs.0030",
        ),
        (OFF, {"keyname": "no-such-key"}, 400, "Ecs.0314"),
        (OFF, {"keyname": "theirs"}, 400, "Ecs.0314"),
        (OFF, {"keyname": "theirs", "userid": "f" * 32}, 200, ""),
        (OFF, {"adminpass": "short"}, 400, "Ecs.0011"),
        (OFF, {"adminpass": "onlylowercase"}, 400, "Ecs.0011"),
        (OFF, {"adminpass": "Good-Password1"}, 200, ""),
        (OFF, {"adminpass": "Good-Password1", **KEY}, 400, "Ecs.0005"),
        (OFF, {"mode": "withStopServer"}, 400, "Ecs.0005"),
        (OFF, {**KEY, "mode": "whatever"}, 400, "Ecs.0005"),
        (OFF, {**KEY, "metadata": {"user_data": "no base64!"}}, 400, "Ecs.0005"),
        (OFF, {**KEY, "metadata": {"user_data": B64(b"x" * 32769).decode()}}, 400, "Ecs.0005"),
        (OFF, {**KEY, "metadata": {"user_data": B64(b"x" * 32768).decode()}}, 200, ""),
        (OFF, {"metadata": {"user_data": B64(b"#cloud-config").decode()}}, 200, ""),
        (OFF, {"keyname": 7}, 400, "Ecs.0005"),
        (ServerSpec(name="web-1"), {**KEY, "mode": "withStopServer"}, 200, ""),
    ],
)
def test_guards_of_a_reinstall(spec: ServerSpec, fields: dict[str, Any], status: int, code: str) -> None:
    client = logged_in(spec)
    answered, body = client.reinstall(**fields)
    assert answered == status
    accepted = status == 200
    assert ("job_id" in body) is accepted
    if not accepted:
        assert code_of(body) == code
    (entry,) = client.world.ledger.calls("reinstall")
    assert (entry.accepted, entry.status, entry.code) == (accepted, status, code)
    assert entry.request_id == client.last["x-request-id"]
    assert client.world.reinstalls() == ({client.world.named("web-1").id: 1} if accepted else {})


def test_guards_around_a_reinstall() -> None:
    """Unknown server, no body, no image, quota; and nothing else is taken while it runs."""
    client = logged_in(OFF, behaviour=Behaviour(volume_quota=2))
    server = client.world.named("web-1").id
    missing = client.ask("POST", f"/v2/{P}/cloudservers/nobody/reinstallos", {"os-reinstall": KEY})
    assert (missing[0], code_of(missing[1])) == (404, "Ecs.0114")
    for body, code in ((b"", "Common.0002"), (b"{", "Ecs.0005"), (b"[]", "Ecs.0005"), (b"{}", "Ecs.0005")):
        status, answer = client.ask("POST", f"/v2/{P}/cloudservers/{server}/reinstallos", body)
        assert (status, code_of(answer)) == (400, code)
    change = client.ask("POST", f"/v2/{P}/cloudservers/{server}/changeos", {"os-change": KEY})
    assert code_of(change[1]) == "Ecs.0005"

    assert client.reinstall()[0] == 200
    for answer in (client.reinstall(), client.power("os-start", "web-1"), client.power("os-stop", "web-1")):
        assert (answer[0], code_of(answer[1])) == (501, "Ecs.0603")
    assert client.world.reinstalls() == {server: 1}


def test_a_reinstall_needs_a_spare_disk_in_the_quota() -> None:
    client = logged_in(OFF, behaviour=Behaviour(volume_quota=1))
    assert code_of(client.reinstall()[1]) == "Ecs.0021"
    quota = client.ask("GET", f"/v3/{P}/os-quota-sets/{P}?usage=True")[1]["quota_set"]["volumes"]
    assert quota == {"limit": 1, "in_use": 1, "reserved": 0}


def test_a_second_reinstall_is_accepted_once_the_first_is_over() -> None:
    """Unkind as the real ones: where the server was left off, nothing stands between it and a second wipe."""
    client = logged_in(OFF, behaviour=Behaviour(ends_shutoff=1.0))
    assert client.reinstall()[0] == 200
    client.now += 600
    assert client.reinstall()[0] == 200
    assert list(client.world.reinstalls().values()) == [2]


def test_a_change_of_os_brings_another_image() -> None:
    client = logged_in(OFF)
    server = client.world.named("web-1")
    body = {"os-change": {**KEY, "imageid": defaults.PLAIN_IMAGE_ID}}
    status, answer = client.ask("POST", f"/v1/{P}/cloudservers/{server.id}/changeos", body)
    assert status == 200
    client.now += 600
    job = client.ask("GET", f"/v1/{P}/jobs/{answer['job_id']}")[1]
    assert (job["job_type"], job["status"]) == ("changeOs", "SUCCESS")
    shown = client.ask("GET", f"/v1/{P}/cloudservers/{server.id}")[1]["server"]
    assert shown["image"]["id"] == shown["metadata"]["metering.image_id"] == defaults.PLAIN_IMAGE_ID


@pytest.mark.parametrize(
    ("root", "fields", "spec", "status", "code"),
    [
        ("os-stop", {}, OFF, 400, "Ecs.0100"),
        ("os-start", {}, ServerSpec(name="web-1"), 400, "Ecs.0100"),
        ("os-stop", {}, ServerSpec(name="web-1", locked=True), 400, "Ecs.0605"),
        ("os-stop", {"type": "MEDIUM"}, ServerSpec(name="web-1"), 400, "Ecs.0005"),
        ("reboot", {}, ServerSpec(name="web-1"), 400, "Ecs.0005"),
        ("reboot", {"type": "SOFT"}, ServerSpec(name="web-1"), 200, ""),
        ("os-stop", {"type": "HARD"}, ServerSpec(name="web-1"), 200, ""),
        ("os-start", {}, OFF, 200, ""),
        ("os-start", {}, ServerSpec(name="web-1", status="SHUTOFF", disks=()), 400, "Ecs.0105"),
    ],
)
def test_guards_of_a_batch(
    root: str, fields: dict[str, Any], spec: ServerSpec, status: int, code: str
) -> None:
    client = logged_in(spec)
    answered, body = client.power(root, "web-1", **fields)
    assert (answered, code_of(body) if status != 200 else "") == (status, code)


def test_sizes_and_strangers_of_a_batch() -> None:
    client = logged_in()
    many = {"os-stop": {"servers": [{"id": str(number)} for number in range(1001)]}}
    assert code_of(client.ask("POST", f"/v1/{P}/cloudservers/action", many)[1]) == "Ecs.0118"
    strange = {"os-stop": {"servers": [{"id": "nobody"}]}}
    status, body = client.ask("POST", f"/v1/{P}/cloudservers/action", strange)
    assert (status, code_of(body)) == (404, "Ecs.0614")
    for body in ({}, {"os-stop": {"servers": []}}, {"os-fly": {"servers": []}}):
        assert code_of(client.ask("POST", f"/v1/{P}/cloudservers/action", body)[1]) == "Ecs.0005"


def test_an_unfit_server_fails_alone_where_the_cloud_is_so() -> None:
    client = logged_in(ServerSpec(name="on"), OFF, behaviour=Behaviour(unfit_in_batch="sub-job"))
    status, body = client.power("os-stop", "on", "web-1")
    assert status == 200
    client.now += 120
    job = client.ask("GET", f"/v1/{P}/jobs/{body['job_id']}")[1]
    assert (job["job_type"], job["status"], job["error_code"]) == ("serversAction", "FAIL", "Common.0021")
    children = job["entities"]["sub_jobs"]
    assert job["entities"]["sub_jobs_total"] == 2
    assert [(each["job_type"], each["status"], each["error_code"]) for each in children] == [
        ("serverActions", "SUCCESS", None),
        ("serverActions", "FAIL", "Ecs.0100"),
    ]


def test_what_a_running_job_says() -> None:
    """``end_time`` is empty and the error keys are missing while it runs; an unknown one is Common.0011."""
    client = logged_in()
    body = client.power("os-stop", "web-1")[1]
    job = client.ask("GET", f"/v1/{P}/jobs/{body['job_id']}")[1]
    assert job["status"] == "RUNNING"
    assert job["end_time"] == ""
    assert "error_code" not in job
    assert job["begin_time"].endswith("Z")
    child = job["entities"]["sub_jobs"][0]
    assert child["entities"] == {"server_id": client.world.named("web-1").id}
    assert client.ask("GET", f"/v1/{P}/jobs/{child['job_id']}")[1]["job_id"] == child["job_id"]
    assert client.ask("GET", f"/v1/{P}/jobs/unknown") == (
        400,
        {"code": "Common.0011", "message": "Failed to obtain the job."},
    )


# lists


def a_fleet(count: int = 60) -> list[ServerSpec]:
    return [
        ServerSpec(
            name=f"web-{number:02d}",
            tags=("role=web", f"rack={number % 3}", *(("__type_baremetal",) if number == 7 else ())),
            status="SHUTOFF" if number % 10 == 0 else "ACTIVE",
            address=f"10.1.0.{number}",
            flavor="s3.large.2" if number % 2 else "c6.xlarge.4",
            enterprise_project="0" if number < 50 else "ep-1",
        )
        for number in range(count)
    ]


def test_offset_is_the_number_of_a_page() -> None:
    client = logged_in(*a_fleet())
    names = [f"web-{number:02d}" for number in range(60)]
    assert client.listed() == (60, names[:25])
    assert client.listed("?limit=20&offset=0") == (60, names[:20])
    assert client.listed("?limit=20&offset=1") == (60, names[:20])
    assert client.listed("?limit=20&offset=3") == (60, names[40:])
    assert client.listed("?limit=20&offset=4") == (60, [])
    assert client.listed("?limit=1000") == (60, names)
    marker = client.world.named("web-49").id
    assert client.listed(f"?limit=20&marker={marker}") == (60, names[50:])
    for query in ("limit=1001", "limit=0", "limit=x", "offset=-1", "marker=nobody"):
        status, body = client.ask("GET", f"/v1/{P}/cloudservers/detail?{query}")
        assert (status, code_of(body)) == (400, "Ecs.0005")


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("name=web-1", 10),
        ("name=web.1", 10),
        ("name=b-59", 1),
        ("name=web(", 0),
        ("status=SHUTOFF", 6),
        ("status=ACTIVE", 54),
        ("flavor=s3.large.2", 30),
        ("ip=10.1.0.5", 11),
        ("ip_eq=10.1.0.5", 1),
        ("tags=role%3Dweb", 60),
        ("tags=rack%3D1", 20),
        ("tags=role=web&tags=rack=2", 20),
        ("tags=role", 60),
        ("not-tags=__type_baremetal", 59),
        ("enterprise_project_id=ep-1", 10),
        ("enterprise_project_id=all_granted_eps", 60),
        ("status=SHUTOFF&tags=rack%3D0", 2),
    ],
)
def test_filters_of_the_list(query: str, count: int) -> None:
    client = logged_in(*a_fleet())
    found, names = client.listed(f"?limit=1000&{query}")
    assert (found, len(names)) == (count, count)


def test_a_status_also_finds_those_on_their_way() -> None:
    """A server in REBUILD is found under ACTIVE, SHUTOFF and ERROR, and a tag filter sees changes."""
    client = logged_in(*a_fleet(3), ServerSpec(name="off", status="SHUTOFF", profile="A"))
    assert client.reinstall("off")[0] == 200
    client.now += 15
    for status in ("ACTIVE", "SHUTOFF", "ERROR", "REBUILD"):
        assert "off" in client.listed(f"?status={status}")[1]


def test_servers_by_id() -> None:
    client = logged_in(*a_fleet(3))
    one = client.world.named("web-01").id
    status, body = client.ask("GET", f"/v1/{P}/cloudservers/detail?server_id={one},nobody&name=zzz")
    assert (status, body["count"]) == (200, 2)
    assert body["servers"][0]["name"] == "web-01"
    assert body["servers"][1]["id"] == "nobody"
    assert body["servers"][1]["fault"]["code"] == 404
    assert body["servers"][1]["status"] is None


def test_what_a_server_says() -> None:
    """Strings where the cloud has strings; a share of servers leaves optional fields out."""
    spec = ServerSpec(
        name="web-1",
        tags=("role=web", "_sys_flag"),
        data_disks=1,
        floating="80.158.0.7",
        user_data="#!/bin/sh",
    )
    client = logged_in(spec, behaviour=Behaviour(sparse=0))
    server = client.world.named("web-1")
    shown = client.ask("GET", f"/v1/{P}/cloudservers/{server.id}")[1]["server"]
    volumes = shown["os-extended-volumes:volumes_attached"]
    assert [(each["bootIndex"], each["delete_on_termination"]) for each in volumes] == [
        ("0", "false"),
        ("-1", "false"),
    ]
    fixed, floating = shown["addresses"][defaults.VPC_ID]
    assert (fixed["version"], fixed["OS-EXT-IPS:type"], floating["addr"]) == ("4", "fixed", "80.158.0.7")
    assert (shown["flavor"]["vcpus"], shown["flavor"]["ram"]) == ("2", "4096")
    assert shown["tags"] == ["role=web", "_sys_flag"]
    assert shown["metadata"]["metering.image_id"] == defaults.IMAGE_ID
    assert base64.b64decode(shown["OS-EXT-SRV-ATTR:user_data"]) == b"#!/bin/sh"
    assert shown["OS-EXT-STS:power_state"] == 1
    tags = client.ask("GET", f"/v1/{P}/cloudservers/{server.id}/tags")[1]["tags"]
    assert tags == [{"key": "role", "value": "web"}, {"key": "_sys_flag", "value": ""}]
    devices = client.ask("GET", f"/v1/{P}/cloudservers/{server.id}/block_device")[1]["volumeAttachments"]
    assert [each["bootIndex"] for each in devices] == [0, -1]

    sparse = logged_in(spec, behaviour=Behaviour(sparse=1))
    bare = sparse.ask("GET", f"/v1/{P}/cloudservers/{sparse.world.named('web-1').id}")[1]["server"]
    assert "sys_tags" in shown
    assert "sys_tags" not in bare
    assert "status" in bare


def test_the_other_reads() -> None:
    client = logged_in(OFF)
    server = client.world.named("web-1")
    old = server.disks[0].id
    assert client.ask("GET", f"/v2/{P}/cloudvolumes/{old}")[1]["volume"]["bootable"] == "true"
    job = client.reinstall()[1]["job_id"]
    client.now += 600
    assert client.ask("GET", f"/v1/{P}/jobs/{job}")[1]["status"] == "SUCCESS"
    assert client.ask("GET", f"/v2/{P}/cloudvolumes/{old}")[0] == 404
    assert client.ask("GET", f"/v2/images/{defaults.IMAGE_ID}")[1]["__isregistered"] == "true"
    plain = client.ask("GET", f"/v2/cloudimages?id={defaults.PLAIN_IMAGE_ID}")[1]["images"]
    assert [image["__support_fc_inject"] for image in plain] == ["true"]
    assert client.ask("GET", "/v2/images/none")[0] == 404
    assert client.ask("GET", "/v2/cloudimages?id=none") == (200, {"images": []})
    assert client.ask("GET", f"/v2.1/{P}/os-keypairs/demo-key")[1]["keypair"]["user_id"] == defaults.USER_ID
    assert "itemNotFound" in client.ask("GET", f"/v2.1/{P}/os-keypairs/theirs")[1]
    pairs = client.ask("GET", f"/v2.1/{P}/os-keypairs")[1]["keypairs"]
    assert [pair["keypair"]["name"] for pair in pairs] == ["demo-key"]
    for path in ("/v3/auth/projects", "/v3/projects?name=sim-1"):
        assert [project["id"] for project in client.ask("GET", path)[1]["projects"]] == [P]
    assert client.ask("GET", "/v3/projects?name=other")[1]["projects"] == []
    access = client.ask("GET", f"/v3.0/OS-CREDENTIAL/credentials/{defaults.ACCESS_KEY}")[1]
    assert access["credential"]["user_id"] == defaults.USER_ID
    assert client.ask("GET", f"/v1/{P}/cloudservers/limits")[1]["absolute"]["totalInstancesUsed"] == 1
    for method, path in (("GET", "/v9/nothing"), ("PUT", f"/v1/{P}/cloudservers/detail"), ("HEAD", "/")):
        status, body = client.ask(method, path)
        assert (status, body["error_code"], body["request_id"]) == (
            404,
            "APIGW.0101",
            client.last["x-request-id"],
        )


def test_nova_actions_and_their_log() -> None:
    client = logged_in()
    server = client.world.named("web-1").id
    path = f"/v2.1/{P}/servers/{server}/action"
    assert client.ask("POST", path, {"lock": None}) == (202, None)
    status, body = client.ask("POST", path, {"os-stop": {}})
    assert (status, body["conflictingRequest"]["code"]) == (409, 409)
    assert client.ask("POST", path, {"unlock": None})[0] == 202
    assert client.ask("POST", path, {"os-stop": {"type": "HARD"}})[0] == 202
    client.now += 120
    assert client.ask("POST", path, {"os-start": {}})[0] == 202
    client.now += 120
    assert client.ask("POST", path, {"os-fly": {}})[0] == 400
    log = client.ask("GET", f"/v2.1/{P}/servers/{server}/os-instance-actions")[1]["instanceActions"]
    assert [line["action"] for line in log] == ["start", "stop", "create"]
    one = client.ask("GET", f"/v2.1/{P}/servers/{server}/os-instance-actions/{log[0]['request_id']}")[1]
    assert one["instanceAction"]["events"][0]["result"] == "Success"
    kinds = [(entry.kind, entry.accepted) for entry in client.world.ledger.calls()]
    assert kinds == [("lock", True), ("stop", False), ("unlock", True), ("stop", True), ("start", True)]


def test_the_audit_trail_knows_the_job_minutes_later() -> None:
    """Request and result, a refused call too; nothing of it within the first minute."""
    client = logged_in(OFF)
    server = client.world.named("web-1").id
    job = client.reinstall()[1]["job_id"]
    assert client.reinstall()[0] == 501
    path = f"/v3/{P}/traces?trace_type=system&service_type=ECS&resource_type=ecs&resource_id={server}"
    assert client.ask("GET", path, after=50)[1]["traces"] == []
    traces = client.ask("GET", path, after=900)[1]["traces"]
    assert {trace["trace_name"] for trace in traces} == {"reinstallOsV2"}
    told = sorted(
        (trace["code"], trace["trace_rating"], json.loads(trace["response"]).get("job_id"))
        for trace in traces
    )
    assert told == [("200", "normal", job), ("200", "normal", job), ("501", "warning", None)]
    first = client.ask("GET", f"{path}&limit=2")[1]
    rest = client.ask("GET", f"{path}&limit=2&next={first['meta_data']['marker']}")[1]
    assert [len(first["traces"]), len(rest["traces"])] == [2, 1]
    assert client.ask("GET", f"{path}&trace_name=stopServer")[1]["traces"] == []


# who is calling


def test_a_token_and_what_it_says() -> None:
    client = Client()
    assert client.ask("GET", f"/v1/{P}/cloudservers/detail")[1]["error_code"] == "APIGW.0301"
    status, body = client.log_in()
    assert status == 201
    token = body["token"]
    assert (token["user"]["id"], token["project"]["id"]) == (defaults.USER_ID, P)
    assert {service["type"] for service in token["catalog"]} >= {"ecs", "image", "identity"}
    assert token["expires_at"] == "2026-12-06T20:00:02.000000Z"
    assert client.last["x-subject-token"].startswith("MII")
    assert client.last["server"] == "api-gateway"
    assert client.last["date"] == "Sat, 05 Dec 2026 20:00:02 GMT"
    assert client.listed()[0] == 1
    status, body = client.ask("GET", "/v1/otherproject/cloudservers/detail")
    assert (status, code_of(body)) == (400, "Ecs.0023")


def test_a_token_expires_and_old_ones_stay_good() -> None:
    client = logged_in()
    old = dict(client.headers)
    assert client.log_in()[0] == 201
    client.headers = old
    assert client.listed()[0] == 1
    client.now += 86400
    status, body = client.ask("GET", f"/v1/{P}/cloudservers/detail")
    assert (status, body["error_code"]) == (401, "APIGW.0307")


def test_a_token_of_the_domain_is_not_good_for_servers() -> None:
    client = Client()
    assert client.log_in(domain={"name": "simulator"})[0] == 201
    assert code_of(client.ask("GET", f"/v1/{P}/cloudservers/detail")[1]) == "Ecs.0023"
    assert client.log_in(project={"name": "elsewhere"})[0] == 401


def test_wrong_passwords_lock_the_account() -> None:
    client = Client()
    for _ in range(5):
        status, body = client.log_in(password="guess")
        assert (status, body["error"]["code"], body["error"]["title"]) == (401, 401, "Unauthorized")
    status, body = client.log_in()
    assert status == 401
    assert "locked" in body["error"]["message"]
    client.now += 901
    assert client.log_in()[0] == 201


def test_permissions_are_looked_at() -> None:
    user = User(denied=("ecs:cloudServers:rebuild", "ecs:cloudServers:stop"))
    client = logged_in(OFF, ServerSpec(name="on"), estate=Estate(users=(user,)))
    assert code_of(client.reinstall()[1]) == "Pdp.0001"
    status, body = client.power("os-stop", "on")
    assert (status, code_of(body)) == (403, "Pdp.0001")


VECTOR_USER = User(access_keys={"AKEXAMPLE0000000001": "SKexampleSecretKey000000000000000000001"})
ECS = "ecs.eu-de.otc.t-systems.com"
SIGNED = "SDK-HMAC-SHA256 Access=AKEXAMPLE0000000001, SignedHeaders={}, Signature={}"
VECTORS = {
    "A": (
        Request(
            "GET",
            f"https://{ECS}/v1/{P}/cloudservers/detail?limit=100&not-tags=__type_baremetal&offset=1",
            {
                "Content-Type": "application/json",
                "X-Project-Id": P,
                "X-Sdk-Date": "20260101T120000Z",
                "Authorization": SIGNED.format(
                    "content-type;host;x-project-id;x-sdk-date",
                    "c39ebac9548cd940093d0549adac07249b8244b0f658a52632e17faf9ed02815",
                ),
            },
        ),
        200,
    ),
    "B": (
        Request(
            "POST",
            f"https://{ECS}/v2/{P}/cloudservers/616fb98f-46ca-475e-917e-2563e5a8cd19/reinstallos",
            {
                "Content-Type": "application/json",
                "X-Project-Id": P,
                "X-Sdk-Date": "20260101T120000Z",
                "Authorization": SIGNED.format(
                    "content-type;host;x-project-id;x-sdk-date",
                    "e77d9e253d72e81e2a6f8e64586d2866a7e4c277f51dca55c0ad9ec1d1f36b34",
                ),
            },
            b'{"os-reinstall":{"keyname":"KeyPair-350b","userid":"7e25b1da389f4697a79df3a0e5bd494e"}}',
        ),
        404,
    ),
    "C": (
        Request(
            "GET",
            f"https://ecs.cn-north-4.myhuaweicloud.com/v2.1/{P}/os-keypairs/my%20key%2B1"
            "?a=1&b=~x&tags=role%3Dweb%20a",
            {
                "X-Project-Id": P,
                "X-Security-Token": "stsTokenExample==",
                "X-Sdk-Date": "20260101T120000Z",
                "Authorization": SIGNED.format(
                    "host;x-project-id;x-sdk-date;x-security-token",
                    "f32f28ec3a86aa61c72dce8f34f2b574822c9ae242f8cd3cbc63de2e6813ee3f",
                ),
            },
        ),
        404,
    ),
}


def signed_face(hour: int = 12, minute: int = 0) -> Face:
    calendar = Calendar(datetime(2026, 1, 1, hour, minute, tzinfo=UTC))
    return Face(World([ServerSpec(name="web-1")], estate=Estate(users=(VECTOR_USER,)), calendar=calendar))


@pytest.mark.parametrize("name", VECTORS)
def test_published_signatures_are_accepted(name: str) -> None:
    """The vendor's vectors get past the gateway; anything changed does not."""
    request, status = VECTORS[name]
    assert signed_face().handle(request, 0.0).response.status == status

    changed = {
        "query": Request(request.method, request.url + "&x=1", request.headers, request.body),
        "body": Request(request.method, request.url, request.headers, b"{}"),
        "signature": Request(
            request.method,
            request.url,
            {**request.headers, "Authorization": request.headers["Authorization"][:-1] + "0"},
            request.body,
        ),
    }
    if "?" not in request.url:
        del changed["query"]
    for tampered in changed.values():
        response = signed_face().handle(tampered, 0.0).response
        assert response.status == 401
        assert b"verify aksk signature fail" in response.body


def test_clock_skew_and_unknown_keys_are_refused() -> None:
    request, _ = VECTORS["A"]
    assert signed_face(minute=14).handle(request, 0.0).response.status == 200
    late = signed_face(minute=16).handle(request, 0.0).response
    assert (late.status, json.loads(late.body)["error_code"]) == (401, "APIGW.0301")
    assert b"15 minutes" in late.body
    stranger = {**request.headers, "Authorization": request.headers["Authorization"].replace("AKEX", "AKNO")}
    answer = signed_face().handle(Request("GET", request.url, stranger), 0.0).response
    assert b"ak not exist" in answer.body


def test_bad_signatures_lock_the_key_for_five_minutes() -> None:
    request, _ = VECTORS["A"]
    face = signed_face()
    bad = Request("GET", request.url + "&x=1", request.headers)
    for _ in range(6):
        assert b"verify aksk" in face.handle(bad, 1.0).response.body
    assert b"reach the limit" in face.handle(request, 2.0).response.body
    assert face.handle(request, 302.0).response.status == 200


# limits


def test_limits_by_class_and_minute() -> None:
    client = logged_in(behaviour=Behaviour(throttle=True))
    server = client.world.named("web-1").id
    path = f"/v2/{P}/cloudservers/{server}/reinstallos"
    answers = [client.ask("POST", path, {"os-reinstall": KEY}, after=0.1) for _ in range(51)]
    assert {status for status, _ in answers[:50]} == {400}
    assert answers[50][0] == 429
    assert answers[50][1]["error_msg"].endswith("policy user over ratelimit,limit:50,time:1 minute")
    assert client.ask("GET", f"/v1/{P}/cloudservers/{server}")[0] == 200
    assert client.ask("POST", path, {"os-reinstall": KEY}, after=60)[0] == 400


def test_a_limit_a_second_over_everything() -> None:
    client = logged_in(behaviour=Behaviour(rate_limit=10))
    path = f"/v1/{P}/cloudservers/detail"
    client.now += 10
    answers = [client.ask("GET", path, after=0.0) for _ in range(12)]
    assert [status for status, _ in answers] == [200] * 10 + [429] * 2
    assert "limit:10,time:1 second" in answers[10][1]["error_msg"]
    assert client.ask("GET", path, after=0.1)[0] == 200
