"""``check --cloud``: ask the cloud what it has on record, and let the independent judge compare."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from fleet.cli.common import now
from fleet.clock import SystemClock
from fleet.cloud.api import Cloud, KeepsTrail, Trail
from fleet.cloud.registry import connect
from fleet.core.model import ServerId
from fleet.core.state import Run
from fleet.errors import CloudUnusable, FleetError, NotFound
from fleet.journal import load
from fleet.life import check_identity
from fleet.referee_cloud import Comparison, Evidence, Record, compare

SKEW = timedelta(minutes=5)
"""How far the cloud's clock may be from ours."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What the cloud said, and what came of the comparison."""

    evidence: Evidence
    found: Comparison

    def as_text(self) -> Iterator[str]:
        """Yield lines for people; what is odd comes last."""
        found, evidence = self.found, self.evidence
        if evidence.source is None:
            yield f"not compared with a record of the cloud's own: {evidence.missing}"
            yield f"{found.servers} servers were compared as they are now"
        else:
            unexplained = found.unexplained or "none"
            yield (
                f"{found.servers} servers, {found.wipes} wipes by the cloud's own count ({evidence.source}), "
                f"{unexplained} unexplained"
            )
        yield from found.notes
        yield from found.odd
        yield (
            f"{len(found.odd)} {'oddity' if len(found.odd) == 1 else 'oddities'}"
            if found.odd
            else "the cloud shows nothing that the run does not explain"
        )

    def as_data(self) -> dict[str, Any]:
        """Return it for JSON, the record of the run's servers included."""
        found, evidence = self.found, self.evidence
        return {
            "source": evidence.source,
            "missing": evidence.missing or None,
            "servers": found.servers,
            "wipes": found.wipes,
            "unexplained": found.unexplained,
            "odd": found.odd,
            "notes": found.notes,
            "record": [
                {"server": each.server, "name": each.name, "at": each.at, "by": each.by, "call": each.call,
                 "accepted": each.accepted, "job": each.job}
                for each in sorted(evidence.records, key=lambda each: each.at)
            ],
        }  # fmt: skip


def ask_cloud(journal: Path, data: bytes) -> Compared:
    """Ask the cloud that a run was opened on, and compare. Reads, and nothing else.

    Raises:
        JournalError: The journal does not say which cloud and which servers.
        CloudError: The cloud cannot be asked for its servers.
        PlanError: This login is for another cloud.
    """
    run, _ = load(journal)
    evidence = asyncio.run(_evidence(run))
    return Compared(evidence, compare(data, evidence))


async def _evidence(run: Run) -> Evidence:
    cloud = connect(run.settings.cloud, SystemClock())
    try:
        check_identity(run, await cloud.whoami())
        trail, missing = await _trail(cloud, run)
        return Evidence(
            source=trail.source if trail else None,
            missing=missing,
            records=[
                Record(each.server, each.at, each.by, each.call, each.accepted, each.job, each.name)
                for each in (trail.wipes if trail else ())
            ],
            back_to=trail.back_to if trail else None,
            late=now() - timedelta(seconds=trail.late_s if trail else 0.0),
            disks=await _disks(cloud, run),
        )
    finally:
        await cloud.close()


async def _trail(cloud: Cloud, run: Run) -> tuple[Trail | None, str]:
    if not isinstance(cloud, KeepsTrail):
        return None, "this cloud has none that fleet can read"
    try:
        trail = await cloud.trail(list(run.servers), run.opened_at - SKEW)
    except CloudUnusable as error:
        return None, error.message
    except FleetError as error:  # not allowed, not switched on, or not there just now
        return None, f"{error.message}{f' ({error.hint})' if error.hint else ''}"
    asked = any(server.wiped for server in run.servers.values())
    if (
        asked
        and not trail.wipes
        and trail.back_to is None
        and run.last_at < now() - timedelta(seconds=trail.late_s)
    ):
        return None, f"{trail.source} is empty: it may not be switched on in this project"
    return trail, ""


async def _disks(cloud: Cloud, run: Run) -> dict[str, str | None]:
    """Return the system disks now. Who a list does not show is asked for directly: lists lag."""
    found = {
        str(server.id): server.system_disk for server in await cloud.servers(only=frozenset(run.servers))
    }
    for missing in set(run.servers) - {ServerId(name) for name in found}:
        try:
            found[missing] = (await cloud.server(missing)).system_disk
        except NotFound:
            continue
    return found
