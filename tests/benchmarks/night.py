"""One life of a run on virtual time, the cloud apart: what scale.py measures. Prints its figures as JSON.

    python tests/benchmarks/night.py SOCKET JOURNAL SERVERS [--until 0.5] [--since SECONDS] [--kind limits]

Survey, journal, engine and client are real, in the order of `fleet run` and `fleet resume`. Not real are
time, and the wire, which is a socket to `apart.py`; and no sync is waited for, since virtual time cannot.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from apart import BASE_URL, CloudApart, Record

from fleet.clock import LoopClock, run_virtual
from fleet.cloud.ecs.auth import TokenLogin
from fleet.cloud.ecs.client import EcsCloud
from fleet.cloud.ecs.credentials import Password
from fleet.cloud.ecs.endpoints import Endpoints
from fleet.cloud.ecs.pacer import Pacer
from fleet.cloud.http import Request, Response
from fleet.cloud.simulator import defaults
from fleet.cloud.simulator.calendar import EPOCH
from fleet.cloud.simulator.transport import SimulatedTransport
from fleet.core.events import Event, RunResumed, Verified
from fleet.core.forecast import Forecast
from fleet.core.settings import CloudSettings, Reinstall, Rollout, Select, Settings, Share, Target, Window
from fleet.core.state import Phase, Run
from fleet.engine import Engine
from fleet.errors import Exit
from fleet.journal import FileSink, Journal, Recorder, load
from fleet.orders import Orders
from fleet.outlook import Outlook
from fleet.rehearsal.life import PassingChecker
from fleet.survey import opening, survey

PLAIN, LIMITS = "plain", "limits"
WAVES = 200


def settings_of(servers: int, kind: str) -> Settings:
    """Return a plan for *servers*, a twentieth of them in flight at once.

    *plain* is one big wave. *limits* has all that a decision may have to think of: hundreds of waves, a bake
    after each, a limit per zone and on the unavailable, failures in a row, and a window.
    """
    at_once = max(1, servers // 20)
    rollout = Rollout(waves=(servers,), concurrency=at_once)
    if kind == LIMITS:
        rollout = Rollout(
            waves=(max(1, servers // WAVES),),
            concurrency=at_once,
            spread={"availability_zone": at_once},
            max_unavailable=Share(percent=25),
            in_a_row=5,
            bake_s=30.0,
        )
    web = Target(
        name="web",
        select=Select(tags={"role": ("web",)}),
        reinstall=Reinstall(key_pair="demo-key"),
        rollout=rollout,
    )
    forever = Window(start="2026-12-01T00:00+00:00", end="2027-12-01T00:00+00:00")
    return Settings(
        plan="scale",
        digest="",
        folder="/",
        cloud=CloudSettings(provider="simulator", requests_per_second=1000),
        windows=(forever,) if kind == LIMITS else (),
        targets=(web,),
    )


class UnsyncedSink(FileSink):
    """A journal's file for which no disk is waited."""

    def sync(self) -> None:
        """Do nothing."""


class Wire:
    """A transport that notes when it was used first."""

    def __init__(self, inner: SimulatedTransport) -> None:
        self.first_at: float | None = None
        self._inner = inner

    async def send(self, request: Request) -> Response:
        """Send *request*."""
        if self.first_at is None:
            self.first_at = time.monotonic()
        return await self._inner.send(request)

    async def close(self) -> None:
        """Close."""
        await self._inner.close()


@dataclass(frozen=True, kw_only=True)
class Night:
    """What is to be played.

    Attributes:
        until: End like a process that dies once this share of the servers is verified; 1 is never.
        since_s: The cloud's time at which it begins.
        began: Reading of the monotonic clock when this process was started.
    """

    path: Path
    journal: Path
    servers: int
    kind: str
    until: float
    since_s: float
    began: float


def play(night: Night) -> dict[str, Any]:
    """Live one life of a run, the first one or a later one; return its figures."""
    cloud = CloudApart(night.path)
    before = cloud.record(night.since_s)
    figures: dict[str, Any] = {"imports_mib": _peak_mib()}
    cpu, wall = time.process_time(), time.perf_counter()
    code, run, took_s = run_virtual(_life(night, cloud, figures))
    figures |= {
        "work_s": round(time.process_time() - cpu, 3),
        "wall_s": round(time.perf_counter() - wall, 3),
        "virtual_s": round(took_s, 1),
        "rss_mib": _peak_mib(),
    }
    record = cloud.record(night.since_s + took_s)
    if night.until == 1.0 and (code is not Exit.OK or record.reinstalls != {1: night.servers}):
        sys.exit(f"it did not end well: {code!r}, held: {run.held}, reinstalls {record.reinstalls}")
    return figures | _calls(before, record, night.servers)


def _calls(before: Record, after: Record, servers: int) -> dict[str, Any]:
    calls = {kind: count - before.calls.get(kind, 0) for kind, count in after.calls.items()}
    return {
        "calls": sum(calls.values()),
        "calls_per_server": round(sum(calls.values()) / servers, 2),
        "calls_by_kind": calls,
        "cloud_s": round(after.cpu_s - before.cpu_s, 3),
        "cloud_mib": after.rss_mib,
    }


def _peak_mib() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


async def _life(night: Night, cloud: CloudApart, figures: dict[str, Any]) -> tuple[Exit, Run, float]:
    clock = LoopClock(EPOCH + timedelta(seconds=night.since_s))
    wire = Wire(SimulatedTransport(cloud, boottime=clock.boottime, offset_s=night.since_s))  # type: ignore[arg-type]  # see `CloudApart`
    password = Password(
        url=BASE_URL,
        user=defaults.USER_NAME,
        password=defaults.USER_PASSWORD,
        domain_name=defaults.DOMAIN_NAME,
        project_name=defaults.PROJECT_NAME,
    )
    client = EcsCloud(
        wire,
        TokenLogin(password, wire, clock),
        Pacer(1000),
        Endpoints(BASE_URL),
        clock=clock,
        rng=random.Random(1),
    )
    if night.journal.exists():
        began = time.perf_counter()
        run, tail = load(night.journal)
        figures["replay_s"] = round(time.perf_counter() - began, 3)
        identity = await client.whoami()
        book = Journal.reopen(night.journal, tail, sink=lambda path: UnsyncedSink(path, create=False))
        recorder = Recorder(run, book, clock.now)
        recorder.record(RunResumed(host="", pid=os.getpid()))
    else:
        began = time.perf_counter()
        found = await survey(client, settings_of(night.servers, night.kind), {}, now=clock.now())
        found.refuse()
        figures["survey_s"] = round(time.perf_counter() - began, 3)
        identity = found.identity
        opened = opening(found, run="scale", plan_path=night.journal, limit=())
        book = Journal.create(night.journal, sink=lambda path: UnsyncedSink(path, create=True))
        book.append(opened, clock.now())
        recorder = Recorder(Run(opened, clock.now()), book, clock.now)
        figures["survey_mib"] = _peak_mib()
        del found  # as `fleet run` does
    run = recorder.run
    outlook = Outlook(run.settings, clock, Forecast(()))
    engine = Engine(
        recorder,
        cloud=client,
        clock=clock,
        checker=PassingChecker(),
        order=Orders(run.settings, passwords={}, user_data={}, user_id=identity.user_id, run=run.id),
        outlook=outlook,
    )
    if night.until < 1.0:
        recorder.listeners = (_dies(engine, round(night.until * night.servers)),)
    async with outlook:
        code = await engine.work()
    book.close()
    if wire.first_at is not None:
        figures["first_call_s"] = round(wire.first_at - night.began, 3)
    return code, run, asyncio.get_running_loop().time()


def _dies(engine: Engine, verified: int) -> Callable[[Event, object], None]:
    """Return a listener that stops a life at once when so many servers are verified."""

    def heard(event: Event, _at: object) -> None:
        if isinstance(event, Verified) and engine.run.counts()[Phase.VERIFIED] >= verified:
            engine.stop_now()

    return heard


def main() -> None:
    """Play, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("path", type=Path, metavar="SOCKET")
    parser.add_argument("journal", type=Path)
    parser.add_argument("servers", type=int)
    parser.add_argument("--kind", choices=[PLAIN, LIMITS], default=PLAIN)
    parser.add_argument("--until", type=float, default=1.0)
    parser.add_argument("--since", type=float, default=0.0)
    parser.add_argument("--began", type=float, default=0.0)
    options = parser.parse_args()
    print(
        json.dumps(
            play(
                Night(
                    path=options.path,
                    journal=options.journal,
                    servers=options.servers,
                    kind=options.kind,
                    until=options.until,
                    since_s=options.since,
                    began=options.began,
                )
            )
        )
    )


if __name__ == "__main__":
    main()
