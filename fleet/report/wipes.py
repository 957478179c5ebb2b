"""Every request to wipe a server that a run has announced: a row each, for auditors, from a journal alone."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fleet.core import events as ev
from fleet.core.state import Run
from fleet.errors import JournalError
from fleet.journal import Entry, Reading, replay
from fleet.report.tables import cell

_COLUMNS = (
    "night", "server", "name", "target", "wave", "attempt", "announced_at", "call", "image", "key_pair",
    "user_data_sha256", "system_disk_before", "backup", "outcome", "answered_at", "job", "request_id",
    "system_disk_after", "opened_by", "approved_by", "approved_at", "approval", "manifest",
)  # fmt: skip

Row = dict[str, Any]


def read_wipes(path: Path) -> list[Row]:
    """Return what a journal has announced, in order. Raises as `fleet.journal.load`."""
    rows: list[Row] = []
    try:
        with path.open("rb") as file:
            replay(path, Reading(file, path), watch=lambda run: _Reader(run, rows).entry)
    except OSError as error:
        raise JournalError(f"cannot read the journal {path}: {error.strerror or error}") from error
    return rows


class _Reader:
    """Follows a run while it is folded."""

    def __init__(self, run: Run, rows: list[Row]) -> None:
        self._run = run
        self._rows = rows
        self._open: dict[str, Row] = {}
        self._approvals: dict[str, list[tuple[int, Entry]]] = {}
        self._takes: dict[type, Callable[[Entry], None]] = {
            ev.ReinstallRequested: self._announced,
            ev.ReinstallAccepted: self._answered,
            ev.ReinstallRefused: self._answered,
            ev.ReinstallNotTaken: self._answered,
            ev.ChecksPassed: self._checked,
            ev.Approved: self._approved,
        }

    def entry(self, entry: Entry) -> None:
        """Take in one entry, folded already."""
        if (take := self._takes.get(type(entry.event))) is not None:
            take(entry)

    def _approved(self, entry: Entry) -> None:
        event = entry.event
        assert isinstance(event, ev.Approved)  # noqa: S101 - by the table above
        self._approvals.setdefault(event.target, []).append((event.wave, entry))

    def _announced(self, entry: Entry) -> None:
        event, run = entry.event, self._run
        assert isinstance(event, ev.ReinstallRequested)  # noqa: S101 - by the table above
        member = run.servers[event.server].member
        plan = run.plan_of(member.target).reinstall
        row: Row = {
            "night": run.lives,
            "server": event.server,
            "name": member.name,
            "target": member.target,
            "wave": member.wave,
            "attempt": event.attempt,
            "announced_at": entry.at,
            "call": str(event.call),
            "image": member.image,
            "key_pair": plan.key_pair,
            "user_data_sha256": plan.user_data.sha256 if plan.user_data else None,
            "system_disk_before": event.system_disk,
            "backup": event.backup or None,
            "outcome": "unknown",
            "answered_at": None,
            "job": None,
            "request_id": None,
            "system_disk_after": None,
            "opened_by": f"{run.opened.user} on {run.opened.host}",
            "approved_by": None,
            "approved_at": None,
            "approval": None,
            "manifest": run.opened.manifest or None,
        }
        # Of several approvals that its wave has behind it, the one that let it begin.
        before = [each for each in self._approvals.get(member.target, ()) if each[0] < member.wave]
        if before:
            _, approval = max(before, key=lambda each: each[0])
            said = approval.event
            assert isinstance(said, ev.Approved)  # noqa: S101 - as above
            row |= {"approved_by": said.by, "approved_at": approval.at, "approval": said.reason}
        self._rows.append(row)
        self._open[event.server] = row

    def _answered(self, entry: Entry) -> None:
        event = entry.event
        row = self._open.get(getattr(event, "server", ""))
        if row is None:
            return
        row["answered_at"] = entry.at
        row["request_id"] = getattr(event, "request_id", None)
        if isinstance(event, ev.ReinstallAccepted):
            row |= {"outcome": "accepted", "job": event.job}
        else:
            row["outcome"] = "refused" if isinstance(event, ev.ReinstallRefused) else "not taken"

    def _checked(self, entry: Entry) -> None:
        event = entry.event
        assert isinstance(event, ev.ChecksPassed)  # noqa: S101 - by the table above
        if (row := self._open.get(event.server)) is not None:
            row["system_disk_after"] = event.system_disk


def as_csv(rows: list[Row]) -> str:
    """Return one line a request, with a heading; times in UTC."""
    file = io.StringIO()
    writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: cell(row[name]) for name in _COLUMNS})
    return file.getvalue()
