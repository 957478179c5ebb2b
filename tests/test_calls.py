"""What a big run costs on virtual time: calls, and makespan against the ideal. Limits slow it.

Real processes over HTTP are `tests/benchmarks`' business. Here nothing but the run itself decides the
figures, so they can be held to narrow bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median
from typing import Any

import msgspec
import pytest
from benchmarks.schedule import limited_schedule, list_schedule
from story_support import KEY

from fleet import secrets
from fleet.cloud.simulator.face import Face
from fleet.cloud.simulator.faults import Fault, fault
from fleet.cloud.simulator.settings import Behaviour, Durations, Spread
from fleet.cloud.simulator.things import ServerSpec
from fleet.cloud.simulator.world import World
from fleet.core.settings import Reinstall, Rollout
from fleet.errors import Exit
from fleet.rehearsal.life import Life, Scene
from fleet.rehearsal.tales import plan, target

SHORT = Durations(
    stop_soft=Spread(2.0),
    queue=Spread(0.0),
    reinstall=Spread(8.0),
    job_lag=Spread(0.0),
    latency=Spread(0.008),
)
REAL = Durations(latency=Spread(0.02))


@dataclass
class Cost:
    """What a run came to."""

    servers: int
    ideal_s: float
    makespan_s: float = 0.0
    calls: Mapping[str, int] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return self.makespan_s / self.ideal_s

    def per_server(self, *kinds: str) -> float:
        return sum(n for kind, n in self.calls.items() if not kinds or kind in kinds) / self.servers

    def count(self, event: str) -> int:
        return sum(each["event"] == event for each in self.events)

    def between(self, first: str, last: str, server: str) -> float:
        at = {
            each["event"]: datetime.fromisoformat(each["at"])
            for each in self.events
            if each.get("server") == server
        }
        return (at[last] - at[first]).total_seconds()


def cost(
    servers: int, *, concurrency: int = 50, durations: Durations = SHORT, rate: float = 1000.0,
    limit: float | None = None, faults: tuple[Fault, ...] = (), expect: Exit = Exit.OK, **behaviour: Any,
) -> Cost:  # fmt: skip
    """Reinstall a fleet of one wave; return what it came to."""
    web = target(
        rollout=Rollout(waves=(servers,), concurrency=concurrency, hold_after=servers),
        reinstall=Reinstall(key_pair=KEY, attempts=1),
    )
    specs = tuple(ServerSpec(name=f"web-{number:03d}") for number in range(1, servers + 1))

    def built() -> World:
        how = Behaviour(rate_limit=limit, **behaviour)
        return World(specs, durations=durations, behaviour=how, seed=1)

    twin = built()  # a world's draws are used up: the run has the same ones in its own
    ways = [
        (twin.draw("stop_soft", server), twin.draw("queue", server) + twin.draw("reinstall", server))
        for server in twin.servers.values()
    ]
    ideal_s = list_schedule([sum(way) for way in ways], concurrency)
    if limit is not None:
        ideal_s = max(ideal_s, limited_schedule(ways, concurrency, limit))
    found = Cost(servers, ideal_s)
    world = built()
    face = Face(world, faults=faults, base_url="http://127.0.0.1")
    with secrets.set_aside():
        scene = Scene(face=face, settings=plan(web, rate=rate), user_data={}, seed=1)
        life = Life(scene, bound_s=1e6)
        ending = life.play()
    assert (ending.code, ending.defect) == (expect, None)
    assert set(world.reinstalls().values()) == {1}
    found.events = [msgspec.json.decode(line) for line in bytes(scene.disk.data).splitlines()]
    at = [datetime.fromisoformat(e["at"]) for e in found.events if e["event"] in {"Admitted", "Verified"}]
    found.makespan_s = (max(at) - min(at)).total_seconds()
    found.calls = world.ledger.requests
    return found


def test_a_big_run_is_near_the_ideal_schedule_with_few_calls() -> None:
    """Three calls a server are promises; the rest is what being on time costs with fifty in flight."""
    found = cost(200)

    assert found.ratio <= 1.03
    assert found.per_server("show") <= 1.1
    assert (found.per_server("reinstall"), found.per_server("job")) == (1, 1)
    assert found.per_server("list", "stop") <= 2.6


def test_more_in_flight_share_the_same_lists() -> None:
    found = cost(400, concurrency=200)

    assert found.per_server("list", "stop") <= 1.4


def test_those_admitted_together_are_stopped_and_started_together() -> None:
    """One call each, as long as the cloud takes equally long for everybody."""
    alike = Durations(
        stop_soft=Spread(20.0, 0.0),
        start=Spread(20.0, 0.0),
        queue=Spread(0.0, 0.0),
        reinstall=Spread(90.0, 0.0),
        job_lag=Spread(0.0, 0.0),
        latency=Spread(0.01, 0.0),
    )
    found = cost(20, concurrency=20, durations=alike, ends_shutoff=1.0)

    assert found.calls["stop"] == 1
    assert found.calls["start"] <= 2


def test_where_a_reinstall_takes_minutes_a_job_is_asked_for_seldom_before_its_end() -> None:
    found = cost(150, concurrency=25, durations=REAL, rate=20.0)

    assert found.ratio <= 1.05
    assert found.per_server("job") <= 3.5
    assert found.per_server("list") <= 5


def test_a_failure_shows_at_the_server_long_before_its_job_would_be_asked_for() -> None:
    """Only the server's own look tells that something has ended sooner than usual."""
    twenty_first = fault("job-fails", server="web-021", leaves="SHUTOFF")
    found = cost(
        21, concurrency=7, durations=REAL, rate=20.0, faults=(twenty_first,), expect=Exit.FAILED,
        profile="A", sparse=0.0,
    )  # fmt: skip

    failed = next(each for each in found.events if each["event"] == "ReinstallFailed")
    usual = [
        found.between("ReinstallAccepted", "Reinstalled", each["server"])
        for each in found.events
        if each["event"] == "Reinstalled"
    ]
    assert found.between("ReinstallAccepted", "ReinstallFailed", failed["server"]) < median(usual)


@pytest.mark.parametrize(
    ("servers", "concurrency", "limit", "rate", "ratio", "calls"),
    [
        (150, 50, 50.0, 50.0, 1.05, 5.8),
        (150, 50, 50.0, 100.0, 1.05, 5.8),
        (400, 200, 10.0, 10.0, 1.05, 3.15),
        # With fifty in flight ten calls a second leave no time to wait for the next list: docs/benchmarks.md.
        (150, 50, 10.0, 10.0, 1.15, 3.8),
        (150, 50, 10.0, 100.0, 1.18, 3.9),
    ],
)
def test_a_limit_slows_the_run_and_fails_nobody(
    servers: int, concurrency: int, limit: float, rate: float, ratio: float, calls: float
) -> None:
    """Whether the plan's ceiling says so, or refusals have to."""
    found = cost(servers, concurrency=concurrency, limit=limit, rate=rate)

    assert found.count("Verified") == servers
    assert found.count("Failed") == 0
    assert found.ratio <= ratio
    assert found.per_server() <= calls


@pytest.mark.parametrize(
    ("ways", "slots", "rate", "ends"),
    [
        ([(2.0, 8.0)], 1, 10.0, 10.1),  # the wipe waits for the next turn after the look
        ([(2.0, 8.0)] * 2, 1, 10.0, 20.2),
        ([(2.0, 8.0)] * 2, 2, 10.0, 10.3),  # look, wipe, look, wipe
        ([(0.0, 0.0)] * 100, 100, 10.0, 29.9),  # nothing but three hundred calls
        ([(2.0, 8.0), (1.0, 1.0)], 2, 1e9, 10.0),
    ],
)
def test_the_ideal_under_a_limit(
    ways: list[tuple[float, float]], slots: int, rate: float, ends: float
) -> None:
    assert limited_schedule(ways, slots, rate) == pytest.approx(ends, abs=1e-6)
