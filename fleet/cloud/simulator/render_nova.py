"""Descriptions of servers and their logs as a Nova writes them (Compute API reference, versions 2.1 to 2.96).

The one world has ECS servers in it; what Nova would not show (disk of the system, jobs) is left out, and what
an ECS server has as tags is metadata here, as is usual with Nova.
"""

from __future__ import annotations

from typing import Any, Final

from fleet.cloud.simulator import defaults
from fleet.cloud.simulator.calendar import Calendar
from fleet.cloud.simulator.render import action_events, actions_body, flavor_of, mac_of
from fleet.cloud.simulator.things import Project, Server

_SINCE: Final = {
    "locked": (2, 9), "description": (2, 19), "tags": (2, 26), "trusted_image_certificates": (2, 63),
    "server_groups": (2, 71), "locked_reason": (2, 73), "OS-EXT-SRV-ATTR:hostname": (2, 90),
    "pinned_availability_zone": (2, 96),
}  # fmt: skip
"""From which microversion on a field is shown (Compute API microversion history)."""


def server_body(
    server: Server, project: Project, calendar: Calendar, spoken: tuple[int, int]
) -> dict[str, Any]:
    """Describe a server, in a microversion; its local system disk has no id, so it is not shown."""
    status, vm_state, task, power = server.show.value
    flavor = flavor_of(server.spec.flavor)
    mac = {"version": 4, "OS-EXT-IPS-MAC:mac_addr": mac_of(server.number)}
    addresses: list[dict[str, Any]] = [{"addr": server.address, "OS-EXT-IPS:type": "fixed", **mac}]
    if server.spec.floating:
        addresses.append({"addr": server.spec.floating, "OS-EXT-IPS:type": "floating", **mac})
    body: dict[str, Any] = {
        "id": server.id,
        "name": server.name,
        "description": None,
        "status": status,
        "OS-EXT-STS:vm_state": vm_state,
        "OS-EXT-STS:task_state": task,
        "OS-EXT-STS:power_state": power,
        "locked": server.locked,
        "locked_reason": None,
        "created": calendar.seconds(server.created),
        "updated": calendar.seconds(server.updated),
        "OS-SRV-USG:launched_at": calendar.micros(server.launched),
        "OS-SRV-USG:terminated_at": None,
        "tenant_id": project.id,
        "user_id": defaults.USER_ID,
        "hostId": f"c714{server.number % 97:052x}",
        "key_name": server.key_name or None,
        "image": {"id": server.image, "links": []},
        "flavor": {
            "original_name": flavor["name"],
            "vcpus": int(flavor["vcpus"]),
            "ram": int(flavor["ram"]),
            "disk": 40,
            "ephemeral": 0,
            "swap": 0,
            "extra_specs": {},
        },
        "addresses": {"private": addresses},
        "security_groups": [{"name": "default"}],
        "os-extended-volumes:volumes_attached": [
            {"id": disk.id, "delete_on_termination": False} for disk in server.disks if not disk.system
        ],
        "OS-EXT-AZ:availability_zone": server.spec.zone,
        "metadata": {key: value for key, _, value in (tag.partition("=") for tag in server.tags)},
        "tags": [],
        "config_drive": "",
        "accessIPv4": "",
        "accessIPv6": "",
        "OS-DCF:diskConfig": "MANUAL",
        "trusted_image_certificates": None,
        "server_groups": [],
        "OS-EXT-SRV-ATTR:hostname": server.name,
        "pinned_availability_zone": None,
        "links": [],
    }
    if spoken < (2, 47):
        body["flavor"] = {"id": flavor["id"], "links": []}
    for name, since in _SINCE.items():
        if spoken < since:
            del body[name]
    if server.fault is not None:
        body["fault"] = server.fault
    if status in {"ACTIVE", "BUILD", "REBUILD"}:
        body["progress"] = 0
    return body


def log_body(server: Server, project: Project, calendar: Calendar) -> list[dict[str, Any]]:
    """Describe a server's log, newest first; the oldest line is its creation."""
    created = {
        "action": "create",
        "instance_uuid": server.id,
        "message": None,
        "project_id": project.id,
        "request_id": f"req-{server.port}",
        "start_time": calendar.micros(server.created),
        "user_id": defaults.USER_ID,
    }
    lines = [*actions_body(server, project, calendar), created]
    return [{**line, "updated_at": line["start_time"]} for line in lines]


def line_body(server: Server, request: str, project: Project, calendar: Calendar) -> dict[str, Any] | None:
    """Describe one line of the log with its events, or None when there is none.

    The conductor's part of a rebuild ends at once. The part that is the work appears a little later, so for a
    moment every event has ended and nothing is over.
    """
    for line in log_body(server, project, calendar):
        if line["request_id"] != request:
            continue
        own = next((action for action in server.actions if action["request_id"] == request), None)
        if own is None:
            return {**line, "events": []}
        events = action_events(own, calendar)
        if own["action"] == "rebuild":
            conductor = {
                "event": "rebuild_server",
                "start_time": line["start_time"],
                "finish_time": line["start_time"],
                "result": "Success",
            }
            operation = server.operation
            waits = operation is not None and operation.kind == "reinstall" and not operation.begun
            events = [conductor] if waits and own["end"] is None else [*events, conductor]
        return {**line, "events": events}
    return None
