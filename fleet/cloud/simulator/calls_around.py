"""The other services that a pre-flight asks: auto-scaling groups and backups."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any, Final
from uuid import NAMESPACE_DNS, uuid5

from fleet.cloud.simulator.calls import Answer, Backend, Call, Route
from fleet.cloud.simulator.refusals import Refused
from fleet.cloud.simulator.things import Server


def _named(backend: Backend, patterns: tuple[str, ...]) -> Iterator[Server]:
    for server in backend.world.servers.values():
        if any(fnmatchcase(server.name, pattern) for pattern in patterns):
            yield server


def _page(call: Call, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    start = int((call.query.get("start_number") or ["0"])[0])
    limit = int((call.query.get("limit") or ["20"])[0])
    return found[start : start + min(limit, 100)]


def list_groups(backend: Backend, call: Call, now: float) -> Answer:  # noqa: ARG001 - the shape of a handler
    """``GET /autoscaling-api/v1/{project}/scaling_group``."""
    found = [
        {
            "scaling_group_id": group.id,
            "scaling_group_name": group.name,
            "scaling_group_status": group.status,
            "current_instance_number": len(list(_named(backend, group.servers))),
        }
        for group in backend.world.estate.scaling_groups
    ]
    return Answer(200, {"total_number": len(found), "scaling_groups": _page(call, found)})


def list_members(backend: Backend, call: Call, now: float) -> Answer:  # noqa: ARG001 - the shape of a handler
    """``GET …/scaling_group_instance/{group}/list``."""
    group = next(
        (each for each in backend.world.estate.scaling_groups if each.id == call.names["group"]), None
    )
    if group is None:
        raise Refused("AS.2007", "The AS group does not exist.", status=404)
    found = [
        {
            "instance_id": server.id,
            "instance_name": server.name,
            "scaling_group_id": group.id,
            "scaling_group_name": group.name,
            "life_cycle_state": "INSERVICE",
            "health_status": "NORMAL",
            "scaling_configuration_id": str(uuid5(NAMESPACE_DNS, group.id)) if group.made_them else None,
            "protect_from_scaling_down": False,
        }
        for server in _named(backend, group.servers)
    ]
    return Answer(200, {"total_number": len(found), "scaling_group_instances": _page(call, found)})


def list_backups(backend: Backend, call: Call, now: float) -> Answer:  # noqa: ARG001 - the shape of a handler
    """``GET /v3/{project}/backups``; the latest first."""
    calendar = backend.world.calendar
    wanted, status = call.query.get("resource_id"), call.query.get("status")
    found = []
    for record in sorted(backend.world.estate.backups, key=lambda each: each.age_s):
        if status and record.status not in status:
            continue
        for server in _named(backend, record.servers):
            if wanted and server.id not in wanted:
                continue
            taken = f"{calendar.epoch - timedelta(seconds=record.age_s):%Y-%m-%dT%H:%M:%S.000000}"
            found.append(
                {
                    "id": str(uuid5(NAMESPACE_DNS, f"backup/{server.id}/{record.age_s}")),
                    "resource_id": server.id,
                    "resource_type": "OS::Nova::Server",
                    "status": record.status,
                    "created_at": taken,
                    "protected_at": taken,
                }
            )
    if since := (call.query.get("start_time") or [""])[0]:
        found = [each for each in found if f"{each['created_at'][:19]}Z" >= since]
    start = int((call.query.get("offset") or ["0"])[0])
    return Answer(200, {"backups": found[start : start + 1000], "count": len(found), "offset": start})


AROUND: Final = (
    Route("GET", "/autoscaling-api/v1/{project}/scaling_group", "scaling", list_groups, "as:groups:list"),
    Route(
        "GET",
        "/autoscaling-api/v1/{project}/scaling_group_instance/{group}/list",
        "scaling",
        list_members,
        "as:instances:list",
    ),
    Route("GET", "/v3/{project}/backups", "backup", list_backups, "cbr:backups:list"),
)
