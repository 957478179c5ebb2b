"""How long servers took in earlier runs of a plan: a small file beside its lock, for the next forecast.

What it says decides only how late a server may be started before a window closes. A line that cannot be read
is left out, and a file that cannot be written is done without: the plan's time-outs are reckoned with then.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from fleet.core.forecast import Kind
from fleet.core.state import Phase, Run

KEPT = 2000
"""Durations kept: the last ones, of some runs."""


def _path(state: Path, plan: str) -> Path:
    return state / "plans" / f"{plan}.durations"


def read(state: Path, plan: str) -> list[tuple[Kind, float]]:
    """Return kinds of servers and the seconds they took, oldest first."""
    try:
        return parse(_path(state, plan).read_text(errors="replace"))
    except OSError:
        return []


def parse(text: str) -> list[tuple[Kind, float]]:
    """Return what a file's text says; a line that cannot be read is left out."""
    found: list[tuple[Kind, float]] = []
    for line in text.splitlines()[-KEPT:]:
        with contextlib.suppress(ValueError, TypeError, KeyError):
            each = json.loads(line)
            took_s = float(each["s"])
            if 0 < took_s < 1e6:
                found.append(((str(each["image"]), str(each["flavor"]), str(each["zone"])), took_s))
    return found


def keep(state: Path, run: Run, already: frozenset[str]) -> None:
    """Add the servers that were verified in this life.

    Args:
        state: The state folder.
        run: At the end of the life.
        already: Ids of those that had been verified before it began.
    """
    lines = []
    for server in run.servers.values():
        if (
            server.phase is not Phase.VERIFIED
            or server.id in already
            or not server.started_at
            or not server.since
        ):
            continue
        member = server.member
        took_s = (server.since - server.started_at).total_seconds()
        kind = {"image": member.image, "flavor": member.flavor, "zone": member.zone}
        lines.append(json.dumps({**kind, "s": round(took_s, 1)}))
    if not lines:
        return
    path = _path(state, run.settings.plan)
    with contextlib.suppress(OSError):
        old = path.read_text(errors="replace").splitlines() if path.exists() else []
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside = path.with_suffix(".durations.new")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write("\n".join([*old, *lines][-KEPT:]) + "\n")
        aside.rename(path)
