"""Foreign clients read the answers that ours has read, byte for byte; both must see the same.

    python tests/judges/judge_values.py RECORD

RECORD is of `record_ours.py`. The vendor's SDK reads what an ECS cloud answers, openstacksdk what an
OpenStack one does.
"""

from __future__ import annotations

import base64
import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from huaweicloudsdkcore.exceptions.exception_handler import DefaultExceptionHandler
from huaweicloudsdkcore.exceptions.exceptions import ServiceResponseException
from judgement import Mismatch
from openstack import exceptions
from openstack.compute.v2.keypair import Keypair
from openstack.compute.v2.server import Server
from openstack.compute.v2.server_action import ServerAction
from openstack.image.v2.image import Image
from requests import Response
from vendor import V3_QUOTA, answer, candidates

OURS_ALONE = frozenset({"fleet_reinstall"})
"""Metadata of ours, which is no tag to us."""

EXPECTED = {
    "ecs": {
        "backup": 1,
        "backups": 1,
        "error": 6,
        "groups": 1,
        "identity": 2,
        "image": 2,
        "job": 11,
        "key pair": 1,
        "room": 1,
        "server": 7,
        "servers": 2,
    },
    "openstack": {"error": 4, "identity": 1, "image": 1, "job": 2, "key pair": 1, "server": 5, "servers": 1},
}
"""How many values there must be at least: an empty record is no agreement."""


def differing(what: str, read: dict[str, Any], made: dict[str, Any]) -> None:
    """Compare the fields that the foreign client has read with ours, and theirs in turn."""
    for field, wanted in read.items():
        if isinstance(wanted, dict) and isinstance(made.get(field), dict) and "id" in wanted:
            differing(f"{what}: {field}", wanted, made[field])
        elif field not in made or made[field] != wanted:
            raise Mismatch(
                f"{what}: {field} is {made.get(field)!r} to us, and {wanted!r} to the foreign client"
            )


def response_of(exchange: dict[str, Any]) -> Response:
    """Return an answer as both clients' HTTP library has it."""
    response = Response()
    response.status_code, response._content = exchange["status"], base64.b64decode(exchange["answer"])
    response.url, response.headers["Content-Type"] = exchange["url"], "application/json"
    return response


# -- the vendor's -------------------------------------------------------------------------------------


def vendor_server(server: Any) -> dict[str, Any]:
    """Return the fields of our model, by the SDK's object."""
    nics = [nic for network in server.addresses.values() for nic in network]
    tags = dict(tag.partition("=")[::2] for tag in server.tags)
    volumes = server.os_extended_volumesvolumes_attached
    return {
        "id": server.id,
        "name": server.name,
        "status": server.status,
        "task": server.os_ext_st_stask_state,
        "vm_state": server.os_ext_st_svm_state,
        "power": server.os_ext_st_spower_state,
        "locked": server.locked,
        "image": server.metadata["metering.image_id"],
        "flavor": server.flavor.id,
        "zone": server.os_ext_a_zavailability_zone,
        "key_pair": server.key_name or "",
        "enterprise_project": server.enterprise_project_id,
        "disks": [
            {"id": each.id, "system": each.boot_index == "0", "device": each.device} for each in volumes
        ],
        "addresses": [nic.addr for nic in nics if nic.os_ext_ip_stype == "fixed"],
        "public_addresses": [nic.addr for nic in nics if nic.os_ext_ip_stype == "floating"],
        "vpcs": list(dict.fromkeys([server.metadata["vpc_id"], *server.addresses])),
        "tags": tags,
        "security_groups": [group.name for group in server.security_groups],
        "created": server.created,
        "updated": server.updated,
        "launched_at": server.os_srv_us_glaunched_at,
        "fault": (server.fault or {}).get("message", ""),
        "spot": server.metadata["charging_mode"] == "2",
    }


def all_tags_of(made: dict[str, Any]) -> dict[str, Any]:
    """Return our server with all tags in one place: ours keeps those apart by which runs claim it."""
    return {**made, "tags": {**made["tags"], **made["claims"]}}


def vendor_job(job: Any) -> dict[str, Any]:
    """Return the fields of our model: INIT and RUNNING are the same to us."""

    def status(each: Any) -> str:
        return each.status if each.status in {"SUCCESS", "FAIL"} else "RUNNING"

    parts = job.entities.sub_jobs or [job]
    failed = next((part for part in parts if part.status == "FAIL"), job)
    over = status(job) == "FAIL"
    return {
        "id": job.job_id,
        "status": status(job),
        "servers": {part.entities.server_id: status(part) for part in parts if part.entities.server_id},
        "code": failed.error_code if over else "",
        "reason": failed.fail_reason if over else "",
    }


def vendor_image(image: Any) -> dict[str, Any]:
    """Return the fields of our model."""
    return {
        "id": image.id,
        "name": image.name,
        "cloud_init": image.support_fc_inject != "true",
        "fit": "" if image.status == "active" and image.virtual_env_type == "FusionCompute" else "no",
        "os_type": image.os_type,
    }


def vendor_backups(found: Any) -> dict[str, dict[str, str]]:
    """Return the latest of each server; the SDK keeps no more than the day."""
    latest = {each.resource_id: each for each in sorted(found.backups, key=lambda each: each.created_at)}
    return {server: {"id": each.id, "day": str(each.protected_at)} for server, each in latest.items()}


def days_of(made: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Return our backups with the day only."""
    return {server: {"id": each["id"], "day": each["taken"][:10]} for server, each in made.items()}


def vendor_error(exchange: dict[str, Any]) -> dict[str, Any]:
    """Return what the SDK's own handler makes of a refusal."""
    try:
        DefaultExceptionHandler().handle_exception(None, response_of(exchange))
    except ServiceResponseException as error:
        # Nova's form has the status in the place of a code.
        code = None if str(error.error_code) == str(error.status_code) else error.error_code
        return {"code": code, "status": error.status_code, "message": error.error_msg}
    raise Mismatch(f"{exchange['url']}: no error to the SDK")


def vendor_servers(found: Any) -> dict[str, Any]:
    """Return a page of servers, in its order."""
    return {f"{place} {each.id}": vendor_server(each) for place, each in enumerate(found.servers)}


def vendor_key_pair(found: Any) -> dict[str, Any]:
    """Return the fields of our model."""
    return {name: getattr(found.keypair, name) for name in ("name", "user_id", "fingerprint")}


def vendor_room(found: Any) -> dict[str, Any]:
    """Return the fields of our model."""
    quota = found.quota_set.volumes
    return {"limit": None if quota.limit == -1 else quota.limit, "used": quota.in_use + quota.reserved}


def vendor_groups(found: Any) -> dict[str, Any]:
    """Return the group of each member."""
    return {
        each.instance_id: (each.scaling_group_id, each.scaling_group_name)
        for each in found.scaling_group_instances
    }


def as_it_is(made: Any) -> Any:
    """Return our value."""
    return made


READERS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "servers": (
        vendor_servers,
        lambda made: {f"{place} {each['id']}": all_tags_of(each) for place, each in enumerate(made)},
    ),
    "server": (lambda found: vendor_server(found.server), all_tags_of),
    "job": (vendor_job, as_it_is),
    "image": (vendor_image, as_it_is),
    "key pair": (vendor_key_pair, as_it_is),
    "room": (vendor_room, as_it_is),
    "groups": (
        vendor_groups,
        lambda made: {server: (group["id"], group["name"]) for server, group in made.items()},
    ),
    "backup": (
        lambda found: next(iter(vendor_backups(found).values())),
        lambda made: days_of({"": made})[""],
    ),
    "backups": (vendor_backups, days_of),
}
"""By kind: what of the SDK's object is compared, and what of our value."""


def judge_ecs(value: dict[str, Any], exchange: dict[str, Any]) -> None:
    """Read one answer with the SDK, and compare."""
    kind, made = value["kind"], value["value"]
    path = urlsplit(exchange["url"]).path
    what = f"{kind} of {path}"
    if kind == "error":
        read = vendor_error(exchange)
        if read.pop("message") not in made["message"]:
            raise Mismatch(f"{what}: {made['message']!r} does not have the cloud's words")
        differing(what, read, made)
    elif kind != "identity":  # which is looked up in several calls
        operation = candidates(exchange["method"], path.replace(*V3_QUOTA))[0]
        found = answer(operation, json.loads(base64.b64decode(exchange["answer"])))
        of_theirs, of_ours = READERS[kind]
        read, mine = of_theirs(found), of_ours(made)
        if kind in {"servers", "groups", "backups"} and list(read) != list(mine):
            raise Mismatch(f"{what}: other servers, or in another order")
        differing(what, read, mine)


# -- OpenStack's --------------------------------------------------------------------------------------


def nova_server(server: Server) -> dict[str, Any]:
    """Return the fields of our model, by the SDK's object."""
    nics = [nic for network in server.addresses.values() for nic in network]
    return {
        "id": server.id,
        "name": server.name,
        "status": server.status,
        "task": server.task_state,
        "vm_state": server.vm_state,
        "power": server.power_state,
        "locked": server.is_locked,
        "image": server.image.id,
        "flavor": server.flavor.original_name,
        "zone": server.availability_zone,
        "key_pair": server.key_name or "",
        "addresses": [nic["addr"] for nic in nics if nic["OS-EXT-IPS:type"] == "fixed"],
        "public_addresses": [nic["addr"] for nic in nics if nic["OS-EXT-IPS:type"] == "floating"],
        "vpcs": list(server.addresses),
        "tags": {key: value for key, value in server.metadata.items() if key not in OURS_ALONE},
        "security_groups": [group["name"] for group in server.security_groups],
        "created": server.created_at,
        "updated": server.updated_at,
        "launched_at": server.launched_at,
        "fault": (server.fault or {}).get("message", ""),
        # Ours has the installation's mark besides, which is made of the log.
        "volumes": [volume.id for volume in server.attached_volumes],
    }


def volumes_of(made: dict[str, Any]) -> dict[str, Any]:
    """Return our server with its volumes' ids."""
    return {**made, "volumes": [disk["id"] for disk in made["disks"] if not disk["system"]]}


def nova_job(action: ServerAction) -> dict[str, Any]:
    """Return the status that a line of the log means."""
    events = {event.event: event for event in action.events}
    work = events.get("compute_rebuild_instance")
    over = work is not None and work.finish_time is not None
    return {"status": {"Success": "SUCCESS", "Error": "FAIL"}[work.result] if over else "RUNNING"}


def nova_image(exchange: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of our model."""
    image = Image()
    image._translate_response(response_of(exchange))
    return {"id": image.id, "name": image.name, "fit": "" if image.status == "active" else "no"}


def nova_key_pair(body: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of our model."""
    pair = Keypair.existing(**body["keypair"])
    return {name: getattr(pair, name) for name in ("name", "user_id", "fingerprint")}


def nova_error(exchange: dict[str, Any], made: dict[str, Any]) -> dict[str, Any]:
    """Return the status, if the words are ours as well."""
    try:
        exceptions.raise_from_response(response_of(exchange))
    except exceptions.HttpException as error:
        if error.details and error.details in made["message"]:
            return {"status": error.status_code}
        raise Mismatch(f"{made['message']!r} does not have the cloud's words") from None
    raise Mismatch(f"{exchange['url']}: no error to openstacksdk")


def judge_openstack(value: dict[str, Any], exchange: dict[str, Any]) -> None:
    """Read one answer with openstacksdk, and compare."""
    kind, made = value["kind"], value["value"]
    body = json.loads(base64.b64decode(exchange["answer"]))
    if kind == "servers":
        pages = [(Server.existing(**each), mine) for each, mine in zip(body["servers"], made, strict=True)]
    else:
        pages = [(Server.existing(**body["server"]), made)] if kind == "server" else []
    for server, mine in pages:
        differing(f"server {server.name}", nova_server(server), volumes_of(mine))
    if pages:
        return
    read: dict[str, Callable[[], dict[str, Any]]] = {
        "image": lambda: nova_image(exchange),
        "key pair": lambda: nova_key_pair(body),
        "job": lambda: nova_job(ServerAction.existing(**body["instanceAction"])),
        "error": lambda: nova_error(exchange, made),
        "identity": lambda: {
            "user_id": body["token"]["user"]["id"],
            "user_name": body["token"]["user"]["name"],
        },
    }
    differing(f"{kind} of {urlsplit(exchange['url']).path}", read[kind](), made)


def judge(sessions: list[dict[str, Any]]) -> None:
    """Compare everything; raises Mismatch at the first difference."""
    judges = {"ecs": judge_ecs, "openstack": judge_openstack}
    seen: dict[str, Counter[str]] = {name: Counter() for name in judges}
    for session in sessions:
        for value in session["values"]:
            judges[session["client"]](value, session["exchanges"][value["exchange"]])
            seen[session["client"]][value["kind"]] += 1
    for client, wanted in EXPECTED.items():
        if missing := Counter(wanted) - seen[client]:
            raise Mismatch(f"{client}: not read: {dict(missing)}")
        print(f"ok: {sum(seen[client].values())} answers of {client}, read alike by both")


def main() -> int:
    """Run the judge; return the exit code."""
    try:
        judge(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    except Mismatch as mismatch:
        print(f"MISMATCH: {mismatch}", file=sys.stderr)
        return 1
    print("both clients read the same")
    return 0


if __name__ == "__main__":
    sys.exit(main())
