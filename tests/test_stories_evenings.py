"""Evenings as operators live them, on virtual time: the window's end, both replicas, the clocks that change.

Those that need real processes are in `test_evenings`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from msgspec.structs import replace as with_fields
from story_support import at, calm, effect_of, told

from fleet.cloud.simulator.faults import fault
from fleet.cloud.simulator.settings import Durations, Spread
from fleet.cloud.simulator.things import ServerSpec
from fleet.core.events import Event
from fleet.core.fold import apply
from fleet.core.rollout import why_waiting
from fleet.core.settings import Rollout, Stop, Verify, Window
from fleet.core.state import Phase, Run
from fleet.errors import Exit
from fleet.rehearsal.stories import Person, Story, Told
from fleet.report.closing import closing_lines
from fleet.report.status import as_text

BEGUN = {"Admitted", "ReinstallRequested"}
ENDED = {"Verified", "Failed"}


def moments(found: Told, names: set[str]) -> list[datetime]:
    return [datetime.fromisoformat(event["at"]) for event in found.events() if event["event"] in names]


def as_it_was(found: Told, last: str, nth: int = 1) -> tuple[Run, datetime]:
    """Return the run as the journal told it after the *nth* event of that name, and when that was."""
    run, seen = None, 0
    for line in found.journal.splitlines():
        data = msgspec.json.decode(line)
        when = datetime.fromisoformat(data["at"])
        event = msgspec.convert({key: data[key] for key in data if key not in {"seq", "at", "crc"}}, Event)
        if run is None:
            run = Run(event, when)  # type: ignore[arg-type]
            continue
        apply(run, event, when)
        seen += data["event"] == last
        if seen == nth:
            return run, when
    raise AssertionError(f"no {last}")


NIGHT = Window(start="02:00", end="04:00", timezone="Europe/Berlin")
SLOW = Durations(latency=Spread(0.05, 0.0), reinstall=Spread(600.0, 0.25))
"""Ten minutes a reinstall usually, and a tail of twenty."""


def near_the_end(*stuck: str, servers: int = 110) -> Story:
    names = tuple(f"web-{number:03}" for number in range(1, servers + 1))
    story = calm(
        *names,
        rollout=Rollout(waves=(12, servers), concurrency=12, hold_after=servers),
        stop=Stop(soft_timeout_s=60.0),
        verify=Verify(timeout_s=120.0),
        timeout_s=1500.0,
        attempts=1,
        faults=tuple(fault("job-stuck", server=name) for name in stuck),
    )
    # Cron calls at one minute past two in Berlin, 01:01 UTC.
    return replace(
        story,
        settings=with_fields(story.settings, windows=(NIGHT,)),
        durations=SLOW,
        nights_s=(5 * 3600 + 60.0, 22.25 * 3600),
    )


def test_the_window_ends_at_four() -> None:
    """Nothing starts that its tail would carry past the end; all are settled by then; a forecast is told."""
    found = told(near_the_end())
    assert [ending.code for ending in found.endings][1] is Exit.UNFINISHED
    assert found.phases() == dict.fromkeys(found.phases(), "verified")
    first = [when for when in moments(found, BEGUN | ENDED) if when.day == 6]
    closes = datetime(2026, 12, 6, 3, tzinfo=UTC)
    assert max(first) < closes, "in flight is settled by the end"
    last_start = max(when for when in moments(found, {"Admitted"}) if when < closes)
    assert closes - last_start > timedelta(minutes=11), "by the tail, not by the median"
    # The life before was outside the window, and drained as well.
    run, when = as_it_was(found, "RunDrained", 2)
    phases = {phase for phase, count in run.counts().items() if count}
    assert phases == {Phase.VERIFIED, Phase.WAITING}
    left = run.counts()[Phase.WAITING]
    (line,) = closing_lines(run, when + timedelta(minutes=61))
    assert line.startswith(f"{left} left; window opens Mon 2026-12-07 02:00 CET; done about Mon 07 Dec ")
    assert max(moments(found, ENDED)).day == 7, line


def test_a_server_that_overruns_is_named() -> None:
    """The last one started hangs: it is told by name and how long, and later starts reckon with it."""
    calm_run, _ = as_it_was(told(near_the_end()), "RunDrained", 2)
    started = [s for s in calm_run.servers.values() if s.phase is Phase.VERIFIED]
    last = max(started, key=lambda server: server.started_at or calm_run.opened_at).label
    found = told(near_the_end(last))
    run, when = as_it_was(found, "RunDrained", 2)
    lines = list(closing_lines(run, when))
    assert lines[0] == "1 not done when the window closed:"
    assert lines[1].startswith(f"  {last}: by ")
    assert "so far" not in lines[1]
    assert found.phases()[last] == "failed"


SHARDS = 8


def test_both_replicas() -> None:
    """Never two of a shard out of service, the dead of earlier nights counted, and their twins say why."""
    names = [f"web-{shard}{replica}" for shard in range(SHARDS) for replica in "ab"]
    dead = tuple(f"web-{shard}a" for shard in range(4))
    story = calm(
        *names,
        rollout=Rollout(waves=(100,), concurrency=5, hold_after=10, spread={"tag:shard": 1}),
        attempts=1,
        faults=tuple(fault("job-fails", server=name, leaves="ERROR", count=1) for name in dead),
    )
    story = replace(
        story,
        servers=tuple(
            ServerSpec(name=name, tags=(f"shard={name[4:-1]}",), status="ACTIVE") for name in names
        ),
        person=Person(releases=1, retries=0),
    )
    found = told(story)
    out: dict[str, set[str]] = {}
    label = {server.id: server.label for server in found.run.servers.values()} if found.run else {}
    for event in found.events():
        if event["event"] not in {"Admitted", "Verified"}:
            continue
        name = label[event["server"]]
        shard = out.setdefault(name[4:-1], set())
        (shard.add if event["event"] == "Admitted" else shard.discard)(name)
        assert len(shard) <= 1, f"both of shard {name[4:-1]} are out of service"
    assert found.phases() == {
        name: "failed" if name in dead else "waiting" if name[4:-1] in "0123" else "verified"
        for name in names
    }
    assert found.run is not None
    run, when = as_it_was(found, "RunHeld")
    for shard in range(4):
        twin = next(s for s in run.servers.values() if s.label == f"web-{shard}b")
        run.held = None
        assert why_waiting(run, twin) == f"tag:shard {shard} is at its limit: 1 out of service"
    lines = list(as_text(run, worked_on=None, now=when, name="r"))
    assert sum("is at its limit: 1 out of service" in line for line in lines) == 4


SATURDAY = Window(days=("sat",), start="22:00", end="04:00", timezone="Europe/Berlin")


@pytest.mark.parametrize(
    ("opens", "hours"),
    [(datetime(2027, 10, 30, 20, tzinfo=UTC), 7), (datetime(2027, 3, 27, 21, tzinfo=UTC), 5)],
)
def test_the_night_the_clocks_change(opens: datetime, hours: int) -> None:
    """As long as it really is: busy to the last hour and nothing after four, also when killed at midnight."""
    names = tuple(f"web-{number:02}" for number in range(1, 41))
    story = calm(
        *names,
        rollout=Rollout(waves=(40,), concurrency=1, hold_after=0),
        stop=Stop(soft_timeout_s=60.0),
        verify=Verify(timeout_s=60.0),
        timeout_s=1500.0,
        attempts=1,
    )
    closes, week_s = opens + timedelta(hours=hours), 7 * 86400.0
    first_s = (opens - datetime(2026, 12, 5, 20, tzinfo=UTC)).total_seconds() + 60.0
    # A life ends up to 70 minutes before its window does; cron calls again after ten the week after.
    until_next_s = week_s - hours * 3600.0 + 75 * 60.0
    story = replace(
        story,
        settings=with_fields(story.settings, windows=(SATURDAY,)),
        durations=SLOW,
        nights_s=(first_s, until_next_s),
    )
    found = told(story)
    _in_the_night(found, opens, closes)
    assert found.phases() == dict.fromkeys(names, "verified")
    assert all(event["at"].endswith("Z") for event in found.events())

    number = effect_of(story, "ReinstallRequested", nth=8)
    cut = told(replace(story, nights_s=(first_s, 3600.0, until_next_s)), later=((at(number, "killed"),),))
    assert cut.crashes == 1
    assert cut.reinstalls() == dict.fromkeys(names, 1)
    _in_the_night(cut, opens, closes)


def _in_the_night(found: Told, opens: datetime, closes: datetime) -> None:
    night = [when for when in moments(found, BEGUN | ENDED) if when < closes + timedelta(days=1)]
    assert opens <= min(night)
    assert closes - timedelta(minutes=70) < max(night) < closes, "the window was used, to its very end"
