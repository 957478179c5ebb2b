"""What is kept fact by fact is what a look through the whole run finds."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from support import AT, event_for, make_run

from fleet.core import events as ev
from fleet.core.fold import apply, check
from fleet.core.model import ServerId
from fleet.core.outside import Outside
from fleet.core.phases import TRANSITIONS
from fleet.core.rollout import why_waiting
from fleet.core.state import IllegalEventError, Phase, Run
from fleet.journal import Journal, load
from fleet.report.ahead import Horizon
from fleet.report.pulse import Pulse, watching

OTHERS = [
    ev.RunHeld(reason="x"),
    ev.RunReleased(reason="x"),
    ev.RunDrained(reason="x"),
    ev.GroupHeld(group={"availability_zone": "b"}, reason="x"),
    ev.Paused(reason="gate"),
    ev.Unpaused(),
]


def a_run(servers: int = 8) -> Run:
    """Two zones, three racks, two waves; a limit on what is out of a rack, if wanted."""
    run = make_run(servers, waves=(3, servers - 3), concurrency=6, hold_after=9, targets=("web", "db"))
    members = tuple(
        msgspec.structs.replace(
            each, zone="ab"[n % 2], tags={"rack": str(n % 3), "shelf": str(n % 5)}, flavor="cd"[n // 2 % 2]
        )
        for n, each in enumerate(run.opened.members)
    )
    limits = {"availability_zone": 2, "tag:rack": 1}
    return Run(msgspec.structs.replace(run.opened, members=members, settings=limited(run, limits)), AT)


def limited(run: Run, spread: dict[str, int]):
    replace = msgspec.structs.replace
    targets = tuple(
        replace(each, rollout=replace(each.rollout, spread=spread), needs=()) for each in run.settings.targets
    )
    return replace(run.settings, targets=targets)


def same(pulse: Pulse, outside: Outside) -> None:
    run = pulse.run
    fresh = Pulse(run)
    assert set(pulse.flying) == set(fresh.flying)
    assert {each: stay.phase for each, stay in pulse.flying.items()} == {
        each: run.servers[each].phase for each in pulse.flying
    }
    assert {key: set(servers) for key, servers in pulse.causes.items()} == {
        key: set(servers) for key, servers in fresh.causes.items()
    }
    assert set(pulse.owing) == set(fresh.owing)
    waiting = [each for each in run.servers.values() if each.phase is Phase.WAITING]
    assert pulse.reasons(outside) == Counter(why_waiting(run, each, outside) for each in waiting)
    for name, target in run.targets.items():
        for number in range(1, len(target.waves) + 1):
            assert pulse.waiting(name, number) == fresh.waiting(name, number)
    assert kinds_of(pulse) == kinds_of(fresh)


def kinds_of(pulse: Pulse) -> dict:
    """Return how many wait of each kind, those apart that count as out of service."""
    return {
        (wave, key): each.count
        for wave, found in pulse._waves.items()
        for key, each in found.alike.items()
        if each.count
    }


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens(seed: int) -> None:
    """Also servers put back or tried again while they count as down, and a spread that is edited."""
    rng = random.Random(seed)
    run = a_run()
    pulse = Pulse(run)
    late = Outside(
        now=AT, closes_at=AT + timedelta(hours=1), expected_s=lambda each: 5000.0 * (each.member.zone == "a")
    )
    for number in range(250):
        if rng.random() < 0.05:
            tell(pulse, rng.choice(others_of(run)))
        server = rng.choice(list(run.servers.values()))
        event = event_for(rng.choice(list(TRANSITIONS[server.phase])), server.id)
        with contextlib.suppress(IllegalEventError):
            check(run, event)
            tell(pulse, event)
        same(pulse, Outside(now=AT) if number % 2 else late)
    Horizon(pulse).ahead(AT)


def others_of(run: Run) -> list[ev.Event]:
    edited = limited(run, {"tag:shelf": 1})
    return [*OTHERS, ev.RunResumed(host="h", pid=1), ev.RunResumed(host="h", pid=1, settings=edited)]


def tell(pulse: Pulse, event: ev.Event, at: datetime = AT) -> None:
    apply(pulse.run, event, at)
    pulse.hear(event, at)


WAY = (ev.Admitted, ev.Stopped, ev.ReinstallRequested, ev.ReinstallAccepted, ev.Reinstalled)


def walk(pulse: Pulse, server: str, seconds: float, begin: float = 0.0, *, kinds: tuple = WAY) -> None:
    for number, kind in enumerate(kinds):
        tell(pulse, event_for(kind, ServerId(server)), AT + timedelta(seconds=begin + number * seconds))


def test_usual_is_the_median_of_those_that_got_on() -> None:
    """Neither a failed attempt nor the pause between two processes says how long a phase takes."""
    run = make_run(6, waves=(6,), concurrency=6)
    pulse = Pulse(run)
    assert pulse.usual_s(Phase.STOPPING) is None
    for number, seconds in enumerate((10, 20, 90), start=1):
        walk(pulse, f"web-{number}", seconds)
    assert pulse.usual_s(Phase.STOPPING) == 20
    assert pulse.usual_s(Phase.REINSTALLING) == 20
    walk(pulse, "web-4", 1000, kinds=(ev.Admitted, ev.Failed))
    assert pulse.usual_s(Phase.STOPPING) == 20
    walk(pulse, "web-5", 500, kinds=(*WAY[:4], ev.ReinstallFailed))
    assert pulse.usual_s(Phase.REINSTALLING) == 20, "it came to nothing"
    assert pulse.usual_s(Phase.STOPPING) == 55
    walk(pulse, "web-4", 3000, 5000, kinds=(ev.Retried, ev.Admitted, ev.GivingUp, ev.PutBack))
    assert pulse.usual_s(Phase.STOPPING) == 55, "it was given up"
    assert pulse.usual_s(Phase.RETURNING) is None, "it went back"
    tell(pulse, ev.Admitted(server=ServerId("web-6")), AT)
    tell(pulse, ev.RunResumed(host="h", pid=1), AT + timedelta(hours=20))
    tell(pulse, event_for(ev.Stopped, ServerId("web-6")), AT + timedelta(hours=20))
    assert pulse.usual_s(Phase.STOPPING) == 55, "nobody was watching meanwhile"


def test_servers_in_flight_stay_in_their_order_whatever_their_phase() -> None:
    pulse = Pulse(make_run(4, waves=(4,), concurrency=4))
    for seconds, server in enumerate(("web-3", "web-1", "web-2")):
        tell(pulse, ev.Admitted(server=ServerId(server)), AT + timedelta(seconds=seconds))
    walk(pulse, "web-1", 1, 10, kinds=WAY[1:])
    assert list(pulse.flying) == ["web-3", "web-1", "web-2"]
    assert list(Pulse(pulse.run).flying) == ["web-3", "web-1", "web-2"], "and in a new process too"


def test_a_defect_of_the_pulse_ends_no_run(monkeypatch) -> None:
    """Counted anew instead."""
    pulse = Pulse(make_run(3, waves=(3,)))
    pulse._waves.clear()
    apply(pulse.run, ev.Admitted(server=ServerId("web-1")), AT)

    def broken(*_: object) -> None:
        raise KeyError("defect")

    monkeypatch.setattr(pulse, "_server", broken)
    pulse.listen(ev.Admitted(server=ServerId("web-1")), AT)
    same(pulse, Outside(now=AT))


def test_what_is_owed_is_known_once_it_is_at_rest() -> None:
    run = make_run(2, waves=(2,))
    pulse = Pulse(run)
    tell(pulse, ev.Admitted(server=ServerId("web-1")))
    tell(pulse, ev.StopRequested(server=ServerId("web-1")))
    assert not pulse.owing
    tell(pulse, ev.Failed(server=ServerId("web-1"), reason="x", untouched=True))
    assert list(pulse.owing) == ["web-1"]
    tell(pulse, ev.DebtPaid(server=ServerId("web-1"), debt="start"))
    assert not pulse.owing


def test_a_debt_that_is_paid_while_a_server_waits() -> None:
    """Put back with its debt open it counts as out of service, and from the payment on no more."""
    pulse = Pulse(a_run())
    walk(pulse, "web-1", 1, kinds=(ev.Admitted, ev.DrainStarted, ev.DebtOwed, ev.GivingUp, ev.PutBack))
    assert pulse.run.servers[ServerId("web-1")].is_out
    same(pulse, Outside(now=AT))
    tell(pulse, event_for(ev.DebtPaid, ServerId("web-1")))
    assert not pulse.run.servers[ServerId("web-1")].is_out
    same(pulse, Outside(now=AT))


def test_a_later_process_knows_what_was_usual(tmp_path: Path) -> None:
    """From the journal that it has read anyway; its own pulse goes on from there."""
    run = a_run()
    book = Journal.create(tmp_path / "journal.jsonl")
    book.append(run.opened, AT)
    for number, kind in enumerate(WAY):
        book.append(event_for(kind, ServerId("web-1")), AT + timedelta(seconds=7 * number))
    book.close()
    found: list[Pulse] = []
    again, _ = load(tmp_path / "journal.jsonl", watch=watching(found))
    later = Pulse(again, found[0].took)
    assert later.usual_s(Phase.STOPPING) == 7
    assert list(later.flying) == ["web-1"]
