"""The pre-flight's questions about what is no part of a server: auto-scaling groups, disk quota, backups."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

from fleet.backups import WayBack, check_backup, judge_backup
from fleet.checks import NetworkChecker
from fleet.cloud.api import Cloud, KnowsBackups, KnowsRoom, KnowsScaling
from fleet.core.model import ScalingGroup, Server, ServerId
from fleet.core.preflight import Finding, check_room
from fleet.core.select import Resolution
from fleet.core.settings import Backup, Settings, Target
from fleet.errors import CloudError, NotFound

AT_ONCE = 20
"""Commands that look for backups at the same time."""


async def scaling(cloud: Cloud, findings: list[Finding]) -> Mapping[ServerId, ScalingGroup]:
    """Return who is in an auto-scaling group. Not being told is worth a warning, no more: few have any."""
    if not isinstance(cloud, KnowsScaling):
        return {}
    try:
        return await cloud.scaling_groups()
    except NotFound:
        return {}  # a cloud without that service
    except CloudError as error:
        findings.append(_unread("whether servers are members of auto-scaling groups", error))
        return {}


async def room(cloud: Cloud, in_flight: int) -> list[Finding]:
    """Look for room for the disks of what is in flight at worst."""
    if not isinstance(cloud, KnowsRoom) or not in_flight:
        return []
    try:
        return check_room(await cloud.disk_room(), in_flight)
    except NotFound:
        return []
    except CloudError as error:
        return [_unread("the disk quota", error)]


def _unread(what: str, error: CloudError) -> Finding:
    return Finding(
        f"{what} could not be read: {error.message}",
        error.hint or "a permission to read it would let the pre-flight look",
        stops=False,
    )


async def backups(
    cloud: Cloud, settings: Settings, resolution: Resolution, now: datetime
) -> dict[ServerId, WayBack]:
    """Look for the way back that targets require, for all of their servers."""
    found: dict[ServerId, WayBack] = {}
    gate = asyncio.Semaphore(AT_ONCE)
    checker = NetworkChecker(settings.folder)
    for target in settings.targets:
        wanted, servers = target.require_backup, resolution.chosen.get(target.name, ())
        if wanted is None or not servers:
            continue
        if wanted.command is None and isinstance(cloud, KnowsBackups):
            since = now - timedelta(seconds=wanted.younger_than_s or 0.0)
            try:
                points = await cloud.backups(since)
            except CloudError as error:
                points, failure = {}, WayBack(f"its backups cannot be read: {error.message}")
                found.update((server.id, failure) for server in servers)
                continue
            found.update((server.id, judge_backup(wanted, points.get(server.id), now)) for server in servers)
            continue

        async def one(server: Server, wanted: Backup = wanted) -> None:
            async with gate:
                found[server.id] = await check_backup(wanted, server, cloud=cloud, run=checker.run, now=now)

        await asyncio.gather(*(one(server) for server in servers))
    return found


def way_back(target: Target, server: Server, found: WayBack | None) -> list[Finding]:
    """Say that a server lacks the backup that its target requires."""
    if found is None or not found.missing:
        return []
    hint = "make one, or run with --skip-unfit; `require` in the plan asks for it"
    return [Finding(found.missing, hint, target.name, server.label, unfit=True)]
