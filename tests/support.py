"""What several tests need: runs made from values, and events with whatever they need."""

from __future__ import annotations

from datetime import UTC, datetime

from fleet.core import events as ev
from fleet.core.model import Call, JobId, ServerId
from fleet.core.rollout import cut_waves
from fleet.core.settings import CloudSettings, Rollout, Select, Settings, Target
from fleet.core.state import Run
from fleet.report.ahead import Horizon
from fleet.report.glance import Eye, Glance
from fleet.report.meter import Rate
from fleet.report.pulse import Pulse

AT = datetime(2026, 12, 5, 20, tzinfo=UTC)


def make_run(
    servers: int = 6,
    *,
    waves: tuple[int, ...] = (1, 2),
    concurrency: int = 2,
    hold_after: int = 0,
    targets: tuple[str, ...] = ("web",),
) -> Run:
    rollout = Rollout(waves=waves, concurrency=concurrency, hold_after=hold_after)
    members = [
        ev.Member(
            id=ServerId(f"{name}-{n}"),
            name=f"{name}-{n}",
            target=name,
            wave=wave,
            call=Call.REINSTALL_CLOUD_INIT,
        )
        for name in targets
        for n, wave in enumerate(
            [number for number, size in enumerate(cut_waves(servers, waves), 1) for _ in range(size)], start=1
        )
    ]
    opened = ev.RunOpened(
        format=ev.FORMAT,
        run="r",
        fleet="0",
        settings=Settings(
            plan="p",
            digest="d",
            folder="/",
            cloud=CloudSettings(provider="simulator"),
            targets=tuple(Target(name=name, select=Select(), rollout=rollout) for name in targets),
        ),
        members=tuple(members),
        cloud="c",
        project="p",
        user="u",
        plan_path="/p.yaml",
        host="h",
        pid=1,
    )
    return Run(opened, AT)


def event_for(kind: type, server: ServerId) -> ev.ServerEvent:
    """Make an event of a kind, with whatever it needs."""
    needs = {
        ev.Stopped: {"state": "SHUTOFF"},
        ev.ReinstallRequested: {
            "attempt": 1,
            "call": Call.REINSTALL_CLOUD_INIT,
            "system_disk": "old",
            "data_disks": (),
            "state": "SHUTOFF",
            "updated": "",
            "settle_s": 300.0,
        },
        ev.ReinstallRefused: {"reason": "no"},
        ev.ReinstallUnanswered: {"reason": "lost"},
        ev.ReinstallNotTaken: {"evidence": "stood"},
        ev.JobVanished: {"job": JobId("j")},
        ev.Reinstalled: {"evidence": "job"},
        ev.ReinstallFailed: {"reason": "no"},
        ev.ChecksPassed: {"system_disk": "new"},
        ev.Failed: {"reason": "broken"},
        ev.StopUnanswered: {"reason": "lost"},
        ev.WentBad: {"reason": "poisoned"},
        ev.DebtOwed: {"debt": "1"},
        ev.DebtMade: {"debt": "1"},
        ev.DebtPaid: {"debt": "1"},
        ev.UndoFailed: {"debt": "1", "why": "busy"},
        ev.GivingUp: {"reason": "not now"},
        ev.PutBack: {"reason": "not now"},
        ev.Claimed: {"key": "fleet-run"},
        ev.Skipped: {"reason": "gone"},
        ev.Retried: {"reason": "again"},
    }
    return kind(server=server, **needs.get(kind, {}))


def glance_at(
    run: Run, now: datetime = AT, *, worked_on: str | None = "this process", rate: Rate | None = None
) -> Glance:
    """Look at a run as a display does."""
    pulse = Pulse(run)
    return Eye(pulse, Horizon(pulse), run.id).look(now, worked_on=worked_on, rate=rate)
