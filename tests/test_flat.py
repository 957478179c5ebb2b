"""What is done after every event does not grow with the servers and waves that are settled."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from rollout_support import TO_INSTALLED, open_run, target
from support import AT, event_for

from fleet.bake import SAMPLE, whom_to_look_at
from fleet.core import events as ev
from fleet.core.fold import apply
from fleet.core.rollout import Kind, decide, why_waiting
from fleet.core.state import Phase, Run


class Counting(list[Any]):
    """A list that counts how often one of its items is looked at."""

    looked: Counter[str]

    def __getitem__(self, place: Any) -> Any:
        self.looked["one"] += 1
        return super().__getitem__(place)

    def __iter__(self) -> Any:
        for each in super().__iter__():
            self.looked["one"] += 1
            yield each


def counted(run: Run, name: str = "web") -> Counter[str]:
    """Count from now on who looks at a wave of a target."""
    waves: Counting = Counting(run.targets[name].waves)
    waves.looked = Counter()
    run.targets[name].waves = waves
    return waves.looked


def finish(run: Run, *servers: str) -> None:
    """Take servers through their whole way."""
    for server in servers:
        apply(run, ev.Admitted(server=server), AT)  # type: ignore[arg-type]
        for kind in (*TO_INSTALLED, ev.ChecksPassed, ev.Verified):
            apply(run, event_for(kind, server), AT)  # type: ignore[arg-type]


def in_the_middle(waves: int, **rollout: object) -> Run:
    """Return a run with a server per wave, half of them verified and their waves baked."""
    run = open_run((target(waves=(1,), **rollout), waves))
    for number in range(1, waves // 2 + 1):
        finish(run, f"web-{number}")
        apply(run, ev.WaveBaked(target="web", wave=number), AT)
    return run


@pytest.mark.parametrize(
    "rollout", [{"bake_s": 60.0}, {"approve_after": (1,)}, {"bake_s": 60.0, "approve_after": (1,)}]
)
def test_a_decision_does_not_walk_the_waves_that_are_over(rollout: dict[str, object]) -> None:
    looked = []
    for waves in (20, 2000):
        run = in_the_middle(waves, **rollout)
        apply(run, ev.Approved(target="web", wave=1, reason="seen"), AT)
        counts = counted(run)
        assert decide(run).start == (f"web-{waves // 2 + 1}",)
        assert why_waiting(run, run.servers[f"web-{waves}"]) == f"waits for wave {waves // 2 + 1}"  # type: ignore[index]
        looked.append(counts.total())
    assert looked[0] == looked[1]


def test_an_early_wave_that_is_reopened_bakes_anew() -> None:
    """Everything before it stays as it is, and so do those behind it."""
    run = in_the_middle(8, bake_s=60.0, hold_after=8)
    finish(run, "web-5")
    apply(run, ev.WentBad(server="web-2", reason="bad"), AT)  # type: ignore[arg-type]
    apply(run, ev.Retried(server="web-2", reason="again"), AT)  # type: ignore[arg-type]
    assert decide(run).start == ("web-2",)
    finish(run, "web-2")
    assert decide(run).bake == (("web", 2), ("web", 5))
    apply(run, ev.WaveBaked(target="web", wave=5), AT)
    assert decide(run).bake == (("web", 2),)
    apply(run, ev.WaveBaked(target="web", wave=2), AT)
    assert decide(run).start == ("web-6",)


def test_approval_is_asked_for_after_the_bake() -> None:
    run = in_the_middle(8, bake_s=60.0, approve_after=(5,))
    finish(run, "web-5")
    assert decide(run).bake == (("web", 5),)
    apply(run, ev.WaveBaked(target="web", wave=5), AT)
    assert (why := decide(run).waits) is not None
    assert why.kind is Kind.APPROVAL


@pytest.mark.parametrize("size", [1, 7, 25])
def test_a_bake_looks_at_its_wave_and_at_a_sample_of_those_before(size: int) -> None:
    run = open_run((target(waves=(size,)), 40 * size))
    servers = list(run.servers.values())
    for server in servers[: 31 * size]:
        server.phase = Phase.VERIFIED
    servers[30 * size].phase = Phase.FAILED
    found = list(whom_to_look_at(servers, 31))
    mine = [each for each in found if each.member.wave == 31]
    earlier = [each.member.wave for each in found if each.member.wave < 31]
    assert mine == servers[30 * size + 1 : 31 * size]
    assert len(earlier) == min(SAMPLE, 30 * size) or (size == 1 and 10 <= len(earlier) <= SAMPLE)
    assert earlier == sorted(earlier)
    assert earlier[0] <= 2
    assert earlier[-1] >= 28


def test_most_of_those_before_may_have_failed() -> None:
    run = open_run((target(waves=(1,)), 100))
    servers = list(run.servers.values())
    servers[70].phase = servers[90].phase = Phase.VERIFIED
    assert [each.id for each in whom_to_look_at(servers, 91)] == ["web-91", "web-71"]


def test_what_most_servers_owe_takes_no_room() -> None:
    """A debt is one server's alone, though all share the same nothing."""
    run = open_run((target(), 2))
    one, other = run.servers.values()
    assert one.owed is other.owed
    apply(run, ev.Admitted(server=one.id), AT)
    apply(run, ev.DrainStarted(server=one.id), AT)
    apply(run, event_for(ev.DebtOwed, one.id), AT)
    apply(run, event_for(ev.DebtMade, one.id), AT)
    apply(run, event_for(ev.UndoFailed, one.id), AT)
    assert (one.owed, one.unpaid, other.owed) == ({"1": False}, {"1": "busy"}, {})
    apply(run, event_for(ev.DebtPaid, one.id), AT)
    assert one.owed is one.debts is one.unpaid is other.owed
