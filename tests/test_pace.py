"""Pace is lowered when more at once only makes each slower, and for nothing else."""

from __future__ import annotations

from datetime import timedelta

import pytest
from support import AT, event_for, make_run

from fleet.core import events as ev
from fleet.core.fold import apply
from fleet.core.pace import ENOUGH, concurrency
from fleet.core.rollout import decide, why_waiting
from fleet.core.state import Run

WAY = (ev.Stopped, ev.ReinstallRequested, ev.ReinstallAccepted, ev.Reinstalled, ev.Started, ev.ChecksPassed)


def play(run: Run, rounds: int, *, few_s: float, many_s: float) -> None:
    """Reinstall servers in rounds: by ones at first, then as many as may be."""
    now = AT
    for number in range(rounds):
        start = decide(run).start[: 1 if number < ENOUGH else None]
        for server in start:
            apply(run, ev.Admitted(server=server), now)
        now += timedelta(seconds=few_s if len(start) == 1 else many_s)
        for server in start:
            for kind in WAY:
                apply(run, event_for(kind, server), now)
            apply(run, ev.Verified(server=server), now)


@pytest.mark.parametrize(
    ("many_s", "lowered_to"), [(100.0, None), (180.0, None), (195.0, 4), (400.0, 4), (50.0, None)]
)
def test_half_the_servers_are_in_flight_when_all_take_twice_as_long(
    many_s: float, lowered_to: int | None
) -> None:
    run = make_run(60, waves=(60,), concurrency=8)
    play(run, ENOUGH + 3, few_s=100.0, many_s=many_s)
    decision = decide(run)
    if lowered_to is None:
        assert decision.slower is None
        return
    assert decision.slower is not None
    target, most, why = decision.slower
    assert (target, most) == ("web", lowered_to)
    assert f"{many_s:.0f} s each with 8 in flight, 100 s with 4 or fewer" in why
    apply(run, ev.PaceLowered(target=target, concurrency=most, reason=why), AT)
    assert concurrency(run, run.targets["web"]) == 4
    start = decide(run).start
    assert len(start) == 4
    for server in start:
        apply(run, ev.Admitted(server=server), AT)
    waiting = next(server for server in run.servers.values() if server.phase == "waiting")
    assert why_waiting(run, waiting) == "concurrency 4 is reached, lowered since more at once are slower"


def test_a_release_gives_the_pace_of_the_plan_back() -> None:
    run = make_run(60, waves=(60,), concurrency=8)
    apply(run, ev.PaceLowered(target="web", concurrency=4, reason="slow"), AT)
    apply(run, ev.RunReleased(reason="the mirror is bigger now"), AT)
    assert len(decide(run).start) == 8


def test_too_few_are_not_compared() -> None:
    run = make_run(60, waves=(60,), concurrency=8)
    play(run, ENOUGH + 1, few_s=100.0, many_s=900.0)
    assert decide(run).slower is None
