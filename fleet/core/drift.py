"""How the cloud's list has moved away from a run's since it was opened. Shown, never acted upon."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from fleet.core.model import Server
from fleet.core.select import resolve
from fleet.core.state import Run, ServerState

_SHOWN = 5

_BUILT = "BUILD"
"""The status of a server that is being made."""


def drift(run: Run, servers: Sequence[Server], waiting: Sequence[ServerState], now: datetime) -> list[str]:
    """Return in words what a selection of today would have otherwise than the run; empty: nothing.

    Args:
        run: Whose plan and servers.
        servers: Everything that the cloud shows now.
        waiting: Servers of the run that were not started when the cloud was asked.
        now: By which the age of servers is told.
    """
    found = resolve(run.settings, servers, limit=run.opened.limit, now=now)
    chosen = {server.id: server for target in found.chosen.values() for server in target}
    shown = {server.id for server in servers}
    words = []
    new = (server for server in chosen.values() if server.id not in run.servers)
    # The cloud's own server for a reinstall looks like the one in flight; it is built, and gone in minutes.
    if joined := [server.label for server in new if server.status != _BUILT]:
        words.append(f"{_names(joined)} would be selected now, and {_be(joined)} not in this run")
    if gone := [each.label for each in waiting if each.id not in shown]:
        words.append(f"{_names(gone)} {_be(gone)} not there any more")
    left = [each for each in waiting if each.id in shown and each.id not in chosen]
    words += [
        f"{each.label} would not be selected now: {found.left_out.get(each.id, '')}" for each in left[:_SHOWN]
    ]
    if len(left) > _SHOWN:
        words.append(f"{len(left) - _SHOWN} more would not be selected now")
    return words


def _names(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _be(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
