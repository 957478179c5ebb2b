"""Beside a run at work: a heartbeat, a rate, a forecast against the window; none of it may end the run."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest
import structlog
from support import AT, event_for, make_run

from fleet import logs
from fleet.clock import VirtualLoop
from fleet.core import events as ev
from fleet.core.fold import apply
from fleet.core.model import ServerId
from fleet.core.settings import Freeze, Window
from fleet.core.state import Phase, Run
from fleet.report import meter
from fleet.report.ahead import Horizon
from fleet.report.beside import Beside
from fleet.report.glance import Eye
from fleet.report.meter import Meter, Rate
from fleet.report.pulse import Pulse

BERLIN = ZoneInfo("Europe/Berlin")


class Counting:
    """As much of a cloud's client as is counted."""

    def __init__(self) -> None:
        self.sent = 0
        self.lanes: dict[str, float] = {}

    def calls(self) -> dict[str, int]:
        return {"list": self.sent, "reinstall": 0}

    def slowed(self) -> dict[str, float]:
        return self.lanes


@pytest.fixture(autouse=True)
def _as_before():
    yield
    structlog.reset_defaults()


# -- the rate -------------------------------------------------------------------------------------------


def test_a_rate_is_of_the_last_minute() -> None:
    cloud, now = Counting(), 0.0
    counted = Meter(cloud, 50.0, clock=lambda: now)
    for second in range(1, 31):
        now, cloud.sent = float(second), second * 10
        counted.rate(AT)
    assert counted.rate(AT).per_s == pytest.approx(10)
    for second in range(31, 100):
        now = float(second)
        counted.rate(AT)
    assert counted.rate(AT).per_s == 0, "nothing was sent for more than a minute"
    assert counted.rate(AT).total == 300


def test_a_rate_says_what_the_cloud_lets_through() -> None:
    cloud = Counting()
    counted = Meter(cloud, 50.0)
    assert counted.rate(AT).words() == "0.0 of 50 requests/s"
    cloud.lanes = {"reinstall": 0.833}
    assert counted.rate(AT).words() == "0.0 of 50 requests/s; throttled: reinstall to 0.83/s"


def test_others_see_a_rate_as_long_as_it_is_fresh(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    rate = Rate(at=AT, per_s=1.5, total=3, ceiling=20, slowed={"job": 2.0})
    assert meter.read(journal, AT) is None
    meter.keep(journal, rate)
    assert meter.read(journal, AT + timedelta(seconds=20)) == rate
    assert meter.read(journal, AT + timedelta(minutes=1)) is None
    [kept] = tmp_path.iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    kept.write_text("{")
    assert meter.read(journal, AT) is None
    meter.forget(journal)
    meter.keep(tmp_path / "gone" / "journal.jsonl", rate)
    assert list(tmp_path.iterdir()) == []


# -- the forecast ---------------------------------------------------------------------------------------


def verified(run: Run, pulse: Pulse, server: str, seconds: float, begin: float = 0.0) -> None:
    way = (ev.Admitted, ev.Stopped, ev.ReinstallRequested, ev.ReinstallAccepted, ev.Reinstalled, ev.Started)
    for kind in (*way, ev.ChecksPassed, ev.Verified):
        at = AT + timedelta(seconds=begin + (0 if kind is ev.Admitted else seconds))
        event = event_for(kind, ServerId(server))
        apply(run, event, at)
        pulse.hear(event, at)


def in_window(run: Run, to: str) -> Run:
    window = Window(start="20:00", end=to, timezone="Europe/Berlin")
    settings = msgspec.structs.replace(run.settings, windows=(window,))
    return Run(msgspec.structs.replace(run.opened, settings=settings), AT)


def test_it_ends_when_the_rounds_are_over() -> None:
    """20 servers, four at a time, ten minutes each: one round is done, the next is half-way."""
    run = make_run(20, waves=(20,), concurrency=4)
    pulse = Pulse(run)
    for n in range(1, 5):
        verified(run, pulse, f"web-{n}", 600)
    for n in range(5, 9):
        apply(run, ev.Admitted(server=ServerId(f"web-{n}")), AT + timedelta(seconds=600))
        pulse.hear(ev.Admitted(server=ServerId(f"web-{n}")), AT + timedelta(seconds=600))
    found = Horizon(pulse).ahead(AT + timedelta(seconds=900))
    assert found.at == AT + timedelta(minutes=50)
    assert found.words(AT.replace(tzinfo=UTC)).startswith("ends about ")


def test_a_bake_and_a_later_wave_are_counted_and_approvals_are_told() -> None:
    run = make_run(8, waves=(4, 4), concurrency=4)
    plan = msgspec.structs.replace
    rollout = plan(run.settings.targets[0].rollout, bake_s=600.0, approve_after=(1,))
    target = plan(run.settings.targets[0], rollout=rollout)
    run = Run(plan(run.opened, settings=plan(run.settings, targets=(target,))), AT)
    found = Horizon(Pulse(run), [(("", "", ""), 300.0)]).ahead(AT)
    assert found.at == AT + timedelta(minutes=5 + 10 + 5)
    assert found.words(AT).endswith(", approvals not counted")


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("23:30", "ends about 22:00, window closes 23:30"),
        ("21:40", "would end 22:00, window closes 21:40; done about Sun 06 Dec 20:20"),
    ],
)
def test_an_end_is_held_against_the_window(to: str, words: str) -> None:
    """In the window's own time; what does not fit goes on in the next one."""
    run = in_window(make_run(12, waves=(12,), concurrency=4), to)
    found = Horizon(Pulse(run), [(("", "", ""), 1200.0)] * 20).ahead(AT)
    assert found.words(AT) == words


def test_outside_a_window_it_says_when_it_opens() -> None:
    run = in_window(make_run(4, waves=(4,), concurrency=4), "23:00")
    morning = datetime(2026, 12, 6, 8, tzinfo=UTC)
    pulse = Pulse(run)
    found = Horizon(pulse, [(("", "", ""), 1200.0)] * 20)
    assert found.ahead(morning).words(morning) == "window opens Sun 2026-12-06 20:00 CET; done about 20:20"
    assert list(pulse.reasons(found.outside(morning))) == ["window opens Sun 2026-12-06 20:00 CET"]


def test_who_would_end_too_late_waits_for_that_reason() -> None:
    """The words of the engine, by the durations that it reckons with."""
    run = in_window(make_run(4, waves=(4,), concurrency=4), "21:30")
    pulse = Pulse(run)
    late = Horizon(pulse, [(("", "", ""), 3600.0)] * 20).outside(AT)
    assert pulse.reasons(late) == {"would end 22:00, the window closes 21:30": 4}


def test_frozen_days_that_are_overridden_stop_nobody() -> None:
    run = make_run(2, waves=(2,), concurrency=2)
    frozen = msgspec.structs.replace(run.settings, freeze=(Freeze(dates=("2026-12-01", "2026-12-31")),))
    run = Run(msgspec.structs.replace(run.opened, settings=frozen), AT)
    pulse = Pulse(run)
    horizon = Horizon(pulse)
    assert "frozen" in next(iter(pulse.reasons(horizon.outside(AT))))
    pulse.hear(ev.FreezeOverridden(reason="x"), AT)
    assert list(pulse.reasons(horizon.outside(AT))) == ["about to be started"]
    pulse.hear(ev.RunResumed(host="h", pid=1), AT)
    assert "frozen" in next(iter(pulse.reasons(horizon.outside(AT))))


def test_nothing_is_forecast_of_what_is_held_or_over() -> None:
    run = make_run(2, waves=(2,))
    apply(run, ev.RunHeld(reason="x"), AT)
    assert Horizon(Pulse(run)).ahead(AT).words(AT) == ""


# -- what goes on ---------------------------------------------------------------------------------------


def beside(run: Run, folder: Path, cloud: Counting, **options) -> Beside:
    pulse = Pulse(run)
    return Beside(
        Eye(pulse, Horizon(pulse), run.id),
        Meter(cloud, 20.0),
        folder / "journal.jsonl",
        lambda: AT + timedelta(seconds=asyncio.get_running_loop().time()),
        **options,
    )


def play(main) -> None:
    loop = VirtualLoop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def busy_run() -> Run:
    run = make_run(6, waves=(2, 4), concurrency=2)
    apply(run, ev.Admitted(server=ServerId("web-1")), AT)
    return run


def test_a_silent_log_is_broken_every_five_minutes(tmp_path: Path) -> None:
    """With the figures, who is in flight and why the others wait; in the log alone."""
    stream = io.StringIO()
    logs.configure(as_json=True, stream=stream)
    run = busy_run()

    async def main() -> None:
        async with beside(run, tmp_path, Counting()).going_on():
            await asyncio.sleep(16 * 60)

    play(main)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["StillWorking"] * 3
    first = lines[0]
    assert {key: first[key] for key in ("run", "selected", "in_flight", "never_touched", "verified")} == {
        "run": "r", "selected": 6, "in_flight": 1, "never_touched": 5, "verified": 0,
    }  # fmt: skip
    assert first["oldest"] == ["web-1: stopping for 5m00s"]
    assert first["waiting"] == ["1 x about to be started", "4 x waits for wave 1"]
    assert first["ends"].startswith("ends about ")
    assert "held" not in first
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_a_heartbeat_says_what_does_not_add_up(tmp_path: Path) -> None:
    stream = io.StringIO()
    logs.configure(as_json=True, stream=stream)
    run = busy_run()
    run.targets["web"].phases[Phase.VERIFIED] += 1

    async def main() -> None:
        async with beside(run, tmp_path, Counting(), heartbeat_s=60.0).going_on():
            await asyncio.sleep(61)

    play(main)
    assert "do not add up" in json.loads(stream.getvalue())["defect"]


@pytest.mark.parametrize(("heartbeat_s", "level"), [(0.0, logging.INFO), (300.0, logging.WARNING)])
def test_no_heartbeat_where_none_is_wanted(tmp_path: Path, heartbeat_s: float, level: int) -> None:
    """Turned off, or with --quiet, which is for warnings alone."""
    stream = io.StringIO()
    logs.configure(as_json=True, stream=stream, level=level)

    async def main() -> None:
        async with beside(busy_run(), tmp_path, Counting(), heartbeat_s=heartbeat_s).going_on():
            await asyncio.sleep(3600)

    play(main)
    assert stream.getvalue() == ""


def test_a_display_that_fails_says_so_once_and_ends_nothing(tmp_path: Path) -> None:
    stream = io.StringIO()
    logs.configure(as_json=True, stream=stream)
    shown = []

    def show(see) -> None:
        shown.append(see)
        if len(shown) > 2:
            raise RuntimeError("no terminal")

    async def main() -> None:
        async with beside(busy_run(), tmp_path, Counting(), show=show, heartbeat_s=0.0).going_on():
            await asyncio.sleep(60)

    play(main)
    [line] = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (line["event"], line["why"]) == ("DisplayFailed", "RuntimeError: no terminal")


def test_the_rate_is_kept_for_others_while_it_goes_on(tmp_path: Path) -> None:
    seen = []

    async def main() -> None:
        async with beside(busy_run(), tmp_path, Counting()).going_on():
            await asyncio.sleep(6)
            seen.append(meter.read(tmp_path / "journal.jsonl", AT + timedelta(seconds=6)))

    play(main)
    assert seen[0] is not None
    assert seen[0].ceiling == 20
    assert meter.read(tmp_path / "journal.jsonl", AT) is None
