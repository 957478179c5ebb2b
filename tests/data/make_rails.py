"""Write the second kept journal of format 1: ``.venv/bin/python tests/data/make_rails.py > FILE``.

It has the events and the settings that came after the first one was written: guard rails, debts, claims.
Every field of the settings is away from its default, filled in by its type.
"""

from __future__ import annotations

import sys
import types
import typing
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

import msgspec

from fleet.core import events as ev
from fleet.core.model import Call, JobId, ServerId
from fleet.core.settings import Select, Settings, Share
from fleet.journal import encode_line


def filled(kind: Any, default: Any = None) -> Any:
    """Return a value of a type that is not *default*."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = typing.get_type_hints(kind)
        return kind(
            **{each.name: filled(hints[each.name], each.default) for each in msgspec.structs.fields(kind)}
        )
    if origin is typing.Literal:
        return next(each for each in inner if each != default)
    if origin in {typing.Union, types.UnionType}:
        return filled(next(each for each in inner if each is not type(None)), default)
    if origin is tuple and inner[-1] is Ellipsis:
        union = typing.get_origin(inner[0]) in {typing.Union, types.UnionType}
        return tuple(filled(each) for each in (typing.get_args(inner[0]) if union else inner[:1]))
    if origin is tuple:
        return tuple(filled(each) for each in inner)
    if origin is dict:
        return {"key": filled(inner[1])}
    if isinstance(kind, typing.NewType):
        return filled(kind.__supertype__, default)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return next(each for each in kind if each != default)
    return {bool: not default, int: 7, float: 7.5, str: "text"}[kind]


def _ask(server: ServerId) -> ev.ReinstallRequested:
    return ev.ReinstallRequested(
        server=server, attempt=1, call=Call.REINSTALL_CLOUD_INIT, system_disk="disk", data_disks=(),
        state="SHUTOFF", updated="2026-12-05T19:00:00Z", settle_s=300.0,
    )  # fmt: skip


def story() -> list[ev.Event]:
    """Return the events."""
    one, two, three = (ServerId(name) for name in ("r1", "r2", "r3"))
    settings: Settings = filled(Settings)
    (target,) = settings.targets
    target = msgspec.structs.replace(
        target, name="web", needs=(), select=Select(name=("web-*",)),
        rollout=msgspec.structs.replace(
            target.rollout, waves=(1, Share(percent=25.0)), hold_after=9, in_a_row=9, approve_after=(1,),
            spread={"flavor": 7},
        ),
    )  # fmt: skip
    members = tuple(
        msgspec.structs.replace(filled(ev.Member), id=name, target="web", wave=wave)
        for name, wave in ((one, 1), (two, 2), (three, 2))
    )
    way = (
        _ask(one), ev.ReinstallAccepted(server=one, job=JobId("job-1")),
        ev.Reinstalled(server=one, evidence="job job-1 SUCCESS"), ev.Started(server=one),
        ev.ChecksPassed(server=one, system_disk="new"),
    )  # fmt: skip
    debt: dict[str, Any] = {"server": one, "debt": "1"}
    return [
        ev.RunOpened(
            format=1, run="rails-20261205T200000Z-0000", fleet="0.3.0",
            settings=msgspec.structs.replace(settings, targets=(target,)), members=members, cloud="c",
            project="p", user="u", plan_path="/plans/web.yaml", host="bastion", pid=1, limit=("web-*",),
            **{each.name: filled(typing.get_type_hints(ev.RunOpened)[each.name], each.default)
               for each in msgspec.structs.fields(ev.RunOpened) if each.name in {"seed", "manifest"}},
        ),
        ev.FreezeOverridden(reason="INC-1", by="alice"),
        ev.WaveStarted(target="web", wave=1, of=2, servers=1),
        ev.Admitted(server=one),
        ev.Claimed(server=one, key="fleet-run-1"),
        ev.DrainStarted(server=one),
        msgspec.convert({**msgspec.to_builtins(filled(ev.DebtOwed)), **debt}, ev.DebtOwed),
        ev.DebtMade(**debt),
        ev.Drained(server=one),
        ev.StopRequested(server=one),
        ev.StopUnanswered(server=one, reason="no answer"),
        ev.Stopped(server=one, state="SHUTOFF"),
        ev.GivingUp(server=one, reason="held: INC-2 (bob)", back=True),
        ev.StartRequested(server=one),
        msgspec.convert({**msgspec.to_builtins(filled(ev.UndoFailed)), **debt}, ev.UndoFailed),
        ev.DebtPaid(server=one, debt="start"),
        ev.DebtPaid(**debt),
        ev.PutBack(server=one, reason="held: INC-2 (bob)"),
        ev.Unclaimed(server=one),
        ev.RunHeld(reason="INC-2 (bob)", by="bob"),
        ev.HookFailed(hook="on_hold", why="command page: ended with 1"),
        ev.RunReleased(reason="over", by="bob"),
        ev.Admitted(server=one),
        ev.Stopped(server=one, state="SHUTOFF"),
        *way,
        ev.Verified(server=one),
        ev.WentBad(server=one, reason="went bad after it was verified: it does not stay up"),
        ev.WaveBaked(target="web", wave=1),
        ev.Approved(target="web", wave=1, reason="CHG-1", by="carol"),
        ev.GroupHeld(group={"flavor": "s3"}, reason="2 failed alike"),
        ev.PaceLowered(target="web", concurrency=3, reason="slower"),
        ev.Paused(reason="gate is red: http status.example.net: status 503"),
        ev.Unpaused(),
        ev.RunResumed(host="bastion", pid=2),
        ev.Skipped(server=one, reason="known (alice)"),
        ev.Skipped(server=two, reason="known (alice)"),
        ev.Skipped(server=three, reason="known (alice)"),
        ev.RunFinished(verified=0, failed=0, skipped=3),
    ]  # fmt: skip


def main() -> None:
    """Write it to standard output."""
    at, crc = datetime(2026, 12, 5, 20, tzinfo=UTC), 0
    for seq, event in enumerate(story(), start=1):
        line, crc = encode_line(seq, at, event, crc)
        sys.stdout.buffer.write(line)
        at += timedelta(seconds=7)


if __name__ == "__main__":
    main()
