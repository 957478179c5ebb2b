"""The line of a wave: as a list would have it, and as a decision goes through it."""

from __future__ import annotations

import random

import pytest
from rollout_support import TO_INSTALLED, open_run, target
from support import AT, event_for

from fleet.core import events as ev
from fleet.core.fold import apply
from fleet.core.line import Line
from fleet.core.model import ServerId
from fleet.core.rollout import decide
from fleet.core.state import Run


@pytest.mark.parametrize("seed", range(60))
def test_it_is_what_a_list_is(seed: int) -> None:
    """Whoever joins, leaves and changes: the order is that of a list, also as a decision goes through it."""
    rng = random.Random(seed)
    line, plain = Line(), []
    kind_of: dict[ServerId, tuple[object, ...]] = {}
    kinds = [(number,) for number in range(rng.choice((1, 2, 5)))]
    for number in range(rng.randint(1, 80)):
        what = rng.random()
        if what < 0.6 or not plain:
            server = ServerId(f"s-{number}")
            kind_of[server] = rng.choice(kinds)
            line.join(server, kind_of[server])
            plain.append(server)
        elif what < 0.8:
            server = plain.pop(rng.choice((0, rng.randrange(len(plain)))))
            line.leave(server, kind_of[server])
        else:
            server, kind = rng.choice(plain), rng.choice(kinds)
            line.change(server, kind_of[server], kind)
            kind_of[server] = kind
        assert list(line) == plain
        assert bool(line) == bool(plain)
        if plain:
            assert line.first == plain[0]
        room = {kind: rng.choice((0, 1, 3, 100)) for kind in kinds}
        assert taken_of(line, kind_of, dict(room)) == taken_of_list(plain, kind_of, dict(room))


def taken_of(
    line: Line, kind_of: dict[ServerId, tuple[object, ...]], room: dict[tuple[object, ...], int]
) -> list[ServerId]:
    found, queue, refused = [], line.queue(), []
    while (server := queue.next()) is not None:
        if room[kind_of[server]]:
            room[kind_of[server]] -= 1
            found.append(server)
            queue.take()
        else:
            refused.append(kind_of[server])
    assert len(refused) == len(set(refused)), "each kind is asked about once"
    return found


def taken_of_list(
    plain: list[ServerId], kind_of: dict[ServerId, tuple[object, ...]], room: dict[tuple[object, ...], int]
) -> list[ServerId]:
    found = []
    for server in plain:
        if room[kind_of[server]]:
            room[kind_of[server]] -= 1
            found.append(server)
    return found


def zones(servers: int) -> list[dict[str, object]]:
    """Return so many servers of three zones, in the order of the zones."""
    return [{"zone": f"z{3 * number // servers}"} for number in range(servers)]


def looked_at(run: Run) -> int:
    """Return how many servers a decision looks at."""

    class Counting(dict[ServerId, object]):
        looked = 0

        def __getitem__(self, server: ServerId) -> object:
            Counting.looked += 1
            return super().__getitem__(server)

    run.servers = Counting(run.servers)  # type: ignore[assignment]
    decide(run)
    return Counting.looked


def test_a_limit_that_is_used_up_is_not_asked_for_everybody_who_waits() -> None:
    looked = []
    for servers in (90, 9000):
        run = open_run((target(waves=(9000,), spread={"availability_zone": 2}), zones(servers)))
        start = decide(run).start
        assert [run.servers[each].member.zone for each in start] == ["z0", "z0", "z1", "z1", "z2", "z2"]
        for each in start:
            apply(run, ev.Admitted(server=each), AT)
        assert decide(run).start == ()
        looked.append(looked_at(run))
    assert looked[0] == looked[1]


def test_who_is_out_already_needs_no_room_of_a_zone() -> None:
    """Failed and left down, then given another try: it is passed over no more than its limit says."""
    run = open_run((target(spread={"availability_zone": 1}, hold_after=9), zones(9)))
    apply(run, ev.Admitted(server=ServerId("web-1")), AT)
    for kind in (*TO_INSTALLED, ev.Failed):
        apply(run, event_for(kind, ServerId("web-1")), AT)
    assert decide(run).start == ("web-4", "web-7")
    apply(run, ev.Retried(server=ServerId("web-1"), reason="again"), AT)
    assert decide(run).start == ("web-4", "web-7", "web-1")


def test_an_edited_plan_sorts_the_line_anew() -> None:
    """The zones were nothing to the plan that the run was opened with."""
    run = open_run((target(), zones(9)))
    [web] = run.settings.targets
    edited = open_run((target(spread={"availability_zone": 1}), zones(9))).settings
    assert web.rollout.spread == {}
    apply(run, ev.RunResumed(host="h", pid=2, settings=edited), AT)
    assert list(run.targets["web"].waves[0].waiting) == list(run.servers)
    assert decide(run).start == ("web-1", "web-4", "web-7")
