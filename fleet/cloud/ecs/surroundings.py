"""What surrounds a server and is no part of it: auto-scaling groups, disk quota, backups.

Sources: Auto Scaling API reference (scaling groups, their instances), EVS API reference (quotas), CBR API
reference ("Querying All Backups").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from fleet.cloud.ecs.parse import BadAnswer
from fleet.core.model import BackupPoint, Room, ScalingGroup, ServerId

T = TypeVar("T")

GROUPS_PATH = "/autoscaling-api/v1/{project}/scaling_group"
ROOM_PATH = "/v3/{project}/os-quota-sets/{project}?usage=True"
BACKUPS_PATH = "/v3/{project}/backups"

BACKUPS = 1000
"""Backups of a page; the documented maximum."""

PAGE = 100
"""Entries of a page; the documented maximum of the auto-scaling service."""

WATCHING = frozenset({"INSERVICE", ""})
"""States of a group in which its health checks remove members. A paused group leaves them alone."""


class _Page(msgspec.Struct, frozen=True):
    total_number: int = 0


class _Group(msgspec.Struct, frozen=True):
    scaling_group_id: str
    scaling_group_name: str = ""
    scaling_group_status: str = ""


class _Groups(_Page, frozen=True):
    scaling_groups: list[_Group] = msgspec.field(default_factory=list)


class _Instance(msgspec.Struct, frozen=True):
    instance_id: str | None = None
    scaling_configuration_id: str | None = None
    life_cycle_state: str | None = None


class _Instances(_Page, frozen=True):
    scaling_group_instances: list[_Instance] = msgspec.field(default_factory=list)


class _Usage(msgspec.Struct, frozen=True):
    limit: int
    in_use: int = 0
    reserved: int = 0


class _QuotaSet(msgspec.Struct, frozen=True):
    volumes: _Usage


class _Quota(msgspec.Struct, frozen=True):
    quota_set: _QuotaSet


class _Backup(msgspec.Struct, frozen=True):
    id: str
    status: str = ""
    resource_id: str = ""
    protected_at: str | None = None
    created_at: str | None = None


class _Backups(msgspec.Struct, frozen=True):
    backups: list[_Backup]


def instances_path(group: str, start: int) -> str:
    """Return the path of a page of a group's members; *group* is a segment already."""
    path = f"/autoscaling-api/v1/{{project}}/scaling_group_instance/{group}/list"
    return f"{path}?limit={PAGE}&start_number={start}"


def groups(body: bytes) -> list[ScalingGroup]:
    """Return the groups of a page."""
    return [
        ScalingGroup(
            id=each.scaling_group_id,
            name=each.scaling_group_name,
            watches=each.scaling_group_status.upper() in WATCHING,
        )
        for each in _decode(body, _Groups).scaling_groups
    ]


def members(body: bytes, group: ScalingGroup) -> Mapping[ServerId, ScalingGroup]:
    """Return the members on a page of a group."""
    return {
        ServerId(each.instance_id): msgspec.structs.replace(
            group,
            # A member in standby is left alone by the health checks.
            watches=group.watches and (each.life_cycle_state or "").upper() != "STANDBY",
            made_it=bool(each.scaling_configuration_id),
        )
        for each in _decode(body, _Instances).scaling_group_instances
        if each.instance_id
    }


def room(body: bytes) -> Room:
    """Return how many disks there may be; -1 stands for any number."""
    found = _decode(body, _Quota).quota_set.volumes
    return Room(limit=None if found.limit < 0 else found.limit, used=found.in_use + found.reserved)


def backups(body: bytes) -> list[tuple[ServerId, BackupPoint]]:
    """Return the usable backups of a page, each with its server."""
    found = []
    for each in _decode(body, _Backups).backups:
        taken = _moment(each.protected_at or each.created_at or "")
        if each.status == "available" and taken is not None:
            found.append((ServerId(each.resource_id), BackupPoint(id=each.id, taken=taken)))
    return found


def latest(found: Iterable[tuple[ServerId, BackupPoint]]) -> dict[ServerId, BackupPoint]:
    """Return the latest of each server."""
    best: dict[ServerId, BackupPoint] = {}
    for server, point in found:
        if server not in best or point.taken > best[server].taken:
            best[server] = point
    return best


def _moment(text: str) -> datetime | None:
    """Read ``2020-02-05T10:38:34.209782``: UTC, as everywhere in this API, though it does not say so."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadAnswer(f"not what was asked for: {error}") from None
