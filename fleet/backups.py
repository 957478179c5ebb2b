"""A way back, before a server is wiped: `require: {backup: …}` in the pre-flight and at the last look."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet.cloud.api import Cloud, KnowsBackups
from fleet.core.model import BackupPoint, Server
from fleet.core.settings import Backup, Check, CommandCheck
from fleet.errors import CloudError

RunCheck = Callable[[Check, Server], Awaitable[str | None]]
"""Runs a check for a server; None when it passes, else why not."""


@dataclass(frozen=True, slots=True)
class WayBack:
    """What was found.

    Attributes:
        missing: Why there is no way back; empty: there is one.
        id: The cloud's id of the backup; empty where a command said that there is one.
    """

    missing: str = ""
    id: str = ""


async def check_backup(
    wanted: Backup, server: Server, *, cloud: Cloud, run: RunCheck, now: datetime
) -> WayBack:
    """Look whether a server has the backup that its plan requires. What cannot be read counts as missing.

    Args:
        wanted: From the plan.
        server: As seen now.
        cloud: Is asked, unless the plan has a command for it.
        run: Runs the command.
        now: UTC.
    """
    if wanted.command is not None:
        why = await run(CommandCheck(argv=wanted.command, timeout_s=wanted.timeout_s), server)
        return WayBack(missing=f"no backup, says the command: {why}" if why else "")
    if not isinstance(cloud, KnowsBackups):
        return WayBack("this cloud cannot say whether there is a backup: require it with a command")
    try:
        point = await cloud.backup(server.id)
    except CloudError as error:
        return WayBack(f"its backups cannot be read: {error.message}")
    return judge_backup(wanted, point, now)


def judge_backup(wanted: Backup, point: BackupPoint | None, now: datetime) -> WayBack:
    """Hold a server's latest backup against what the plan requires."""
    longest = wanted.younger_than_s or 0.0
    if point is None:
        return WayBack(f"no usable backup of it is younger than {_hours(longest)}, as the plan requires")
    age = now - point.taken
    if age > timedelta(seconds=longest):
        return WayBack(
            f"its latest backup is {_hours(age.total_seconds())} old; the plan requires one younger than "
            f"{_hours(longest)}"
        )
    return WayBack(id=point.id)


def _hours(seconds: float) -> str:
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    if seconds < 72 * 3600:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} days"
