"""The worst that a plan allows: no outcome whatever goes beyond the numbers, and they are reached."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta

import pytest
from support import AT, event_for

from fleet.core import events as ev
from fleet.core.fold import apply
from fleet.core.model import Call, ServerId
from fleet.core.rollout import decide
from fleet.core.settings import (
    Budget,
    CloudSettings,
    NeverMoreThan,
    Rollout,
    Select,
    Settings,
    Share,
    Target,
)
from fleet.core.state import IN_FLIGHT, Run, ServerState, attribute_of
from fleet.core.waves import waves_of
from fleet.core.worst import WorstCase, under_cap, worst_case

FIFTH = NeverMoreThan(at_least=4, of_verified=20)
ZONES = ("z1", "z2", "z3")
TO_VERIFIED = (
    ev.Stopped,
    ev.ReinstallRequested,
    ev.ReinstallAccepted,
    ev.Reinstalled,
    ev.Started,
    ev.ChecksPassed,
    ev.Verified,
)


def run_of(*targets: tuple[Target, int], rng: random.Random | None = None, **settings) -> Run:
    """Open a run with so many servers of each target, in zones and racks of *rng*'s choice."""
    rng = rng or random.Random(0)
    members = []
    for target, count in targets:
        waves = waves_of([0] * count, target.rollout.waves)
        for number, wave in enumerate(waves, 1):
            members += [
                ev.Member(
                    id=ServerId(f"{target.name}-{place}"),
                    name=f"{target.name}-{place}",
                    target=target.name,
                    wave=number,
                    call=Call.REINSTALL_CLOUD_INIT,
                    zone=rng.choice(ZONES),
                    tags={"rack": str(rng.randrange(6))},
                )
                for place in wave
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
            targets=tuple(target for target, _ in targets),
            **settings,
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


def target(name: str = "web", needs: tuple[str, ...] | None = None, **rollout) -> Target:
    return Target(name=name, select=Select(), needs=needs, rollout=Rollout(**rollout))


class Night:
    """A run played on by `decide`, with outcomes by chance; keeps the most that was ever out or lost."""

    def __init__(self, run: Run, rng: random.Random, *, fails: float, untouched: float = 0.2) -> None:
        self.run = run
        self.rng = rng
        self.fails, self.untouched = fails, untouched
        self.flying = self.out = 0
        self.out_of: Counter[str] = Counter()
        self.lost_by: dict[tuple[str, int], int] = {}
        self.flying_in: Counter[tuple[str, int]] = Counter()
        self.by_value: Counter[tuple[str, str]] = Counter()

    def play(self) -> Night:
        for _ in range(100_000):
            decision = decide(self.run)
            if decision.hold is not None:
                self._record(ev.RunHeld(reason=decision.hold))
                continue
            if decision.group is not None:
                self._record(ev.GroupHeld(group=decision.group[0], reason=decision.group[1]))
                continue
            for name, wave in decision.bake:
                self._record(ev.WaveBaked(target=name, wave=wave))
            for server in decision.start:
                self._record(ev.Admitted(server=server))
            if not decision.start and not decision.bake and not self._settle_one():
                return self
        raise AssertionError("it never ends")

    def _settle_one(self) -> bool:
        flying = [server for server in self.run.servers.values() if server.phase in IN_FLIGHT]
        if not flying:
            return False
        server = self.rng.choice(flying)
        if self.rng.random() < self.fails:
            # Reasons differ, so that no group and no "everybody" is concluded from them.
            untouched = self.rng.random() < self.untouched
            self._record(ev.Failed(server=server.id, reason=f"broken {server.id}", untouched=untouched))
        else:
            for kind in TO_VERIFIED:
                self._record(event_for(kind, server.id))
        return True

    def _record(self, event: ev.Event) -> None:
        apply(self.run, event, AT + timedelta(seconds=1))
        servers = self.run.servers.values()
        out = [server for server in servers if server.is_out]
        self.flying = max(self.flying, self.run.in_flight)
        self.out = max(self.out, len(out))
        for name, count in Counter(server.member.target for server in out).items():
            self.out_of[name] = max(self.out_of[name], count)
        for server in out:
            self._count_wave(server)
        for attribute in ("availability_zone", "tag:rack"):
            for value, count in Counter(attribute_of(server.member, attribute) for server in out).items():
                self.by_value[attribute, value] = max(self.by_value[attribute, value], count)
        flying = Counter(
            (server.member.target, server.member.wave) for server in servers if server.phase in IN_FLIGHT
        )
        for wave, count in flying.items():
            self.flying_in[wave] = max(self.flying_in[wave], count)

    def _count_wave(self, server: ServerState) -> None:
        wave = (server.member.target, server.member.wave)
        lost = sum(
            other.down and other.member.target == wave[0] and other.member.wave <= wave[1]
            for other in self.run.servers.values()
        )
        self.lost_by[wave] = max(self.lost_by.get(wave, 0), lost)


def check(night: Night, worst: WorstCase) -> None:
    assert night.flying <= worst.in_flight
    assert night.out <= worst.out
    for bound in worst.targets:
        assert night.out_of[bound.name] <= bound.out
        for wave in bound.waves:
            assert night.flying_in[bound.name, wave.number] <= wave.at_once, wave
            assert night.lost_by.get((bound.name, wave.number), 0) <= wave.lost, wave
    for group in worst.groups:
        most = max(count for (name, _), count in night.by_value.items() if name == group.attribute)
        assert most <= group.out, group


def _some_rollout(rng: random.Random) -> dict[str, object]:
    found: dict[str, object] = {
        "waves": rng.choice(((1,), (1, 3), (2, Share(percent=40)), (5,), ("cover", 4))),
        "concurrency": rng.choice((1, 2, 4, 8)),
        "hold_after": rng.choice((0, 1, 2, 5, Share(percent=50))),
    }
    if rng.random() < 0.4:
        found["max_unavailable"] = rng.choice((1, 3, Share(percent=50)))
    if rng.random() < 0.5:
        found["spread"] = rng.choice(({"availability_zone": 2}, {"tag:rack": 1, "availability_zone": 3}))
    if rng.random() < 0.4:
        found["never_more_than"] = NeverMoreThan(
            at_least=rng.choice((1, 3)), of_verified=rng.choice((20, 100))
        )
    if rng.random() < 0.2:
        found["in_a_row"] = rng.choice((1, 2, 3))
    if rng.random() < 0.3:
        found["bake_s"] = 60.0
    return found


@pytest.mark.parametrize("block", range(12))
def test_no_schedule_exceeds_the_worst_case(block: int) -> None:
    """Random plans, fleets and outcomes, played by the real `decide`: 50 a block."""
    for seed in range(block * 50, block * 50 + 50):
        rng = random.Random(seed)
        names = ["a", "b", "c"][: rng.choice((1, 1, 2, 3))]
        targets = [
            (target(name, rng.choice((None, None, ())), **_some_rollout(rng)), rng.randint(4, 14))
            for name in names
        ]
        budget = Budget(
            hold_after=rng.choice((None, None, 1, 3)),
            never_more_than=rng.choice((None, None, NeverMoreThan(at_least=3, of_verified=30))),
        )
        run = run_of(*targets, rng=rng, budget=budget, concurrency=rng.choice((None, None, 3)))
        worst = worst_case(run.settings, run.opened.members)
        night = Night(run, rng, fails=rng.choice((0.0, 0.1, 0.4, 0.9, 1.0)))
        try:
            check(night.play(), worst)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {worst}") from error


@pytest.mark.parametrize(
    ("rollout", "servers", "out"),
    [
        ({"waves": (1, 5, 20), "concurrency": 10, "hold_after": 2}, 60, 12),
        ({"waves": (60,), "concurrency": 10, "hold_after": 2, "max_unavailable": 7}, 60, 7),
        ({"waves": (60,), "concurrency": 20, "never_more_than": FIFTH}, 60, 10),
        ({"waves": (1,), "concurrency": 20, "hold_after": 0}, 60, 1),
        ({"waves": (60,), "concurrency": 20, "hold_after": 60}, 60, 60),
    ],
)  # fmt: skip
def test_the_figures_are_the_ones_that_a_person_would_compute(
    rollout: dict[str, object], servers: int, out: int
) -> None:
    run = run_of((target(**rollout), servers))
    worst = worst_case(run.settings, run.opened.members)
    assert worst.out == worst.lost == out


def test_the_worst_case_is_reached_by_some_outcome() -> None:
    """A bound that nothing reaches would be a scare: two fail, then ten at once."""
    run = run_of((target(waves=(60,), concurrency=10, hold_after=2), 60))
    worst = worst_case(run.settings, run.opened.members)
    night = Night(run, random.Random(1), fails=1.0, untouched=0.0).play()
    assert night.out == worst.out == 12
    assert sum(server.down for server in run.servers.values()) == worst.lost


def test_each_wave_says_what_keeps_it_small() -> None:
    run = run_of(
        (
            target(
                waves=(1, 20, 40),
                concurrency=30,
                hold_after=1,
                never_more_than=NeverMoreThan(at_least=4, of_verified=50),
            ),
            61,
        )
    )
    [bound] = worst_case(run.settings, run.opened.members).targets
    assert [(wave.at_once, wave.limited_by) for wave in bound.waves] == [
        (1, "the wave"),
        (7, "never_more_than"),
        (20, "never_more_than"),
    ]
    assert [wave.lost for wave in bound.waves] == [1, 7, 20]


def test_skipped_servers_are_not_counted_and_shares_are_of_all() -> None:
    run = run_of((target(waves=(10,), concurrency=10, hold_after=Share(percent=20)), 10))
    skipped = {member.id: "unfit" for member in run.opened.members[:4]}
    worst = worst_case(run.settings, run.opened.members, skipped)
    assert (worst.servers, worst.targets[0].may_fail, worst.in_flight) == (6, 2, 6)


def test_targets_one_after_another_are_not_down_together() -> None:
    one, other = target("a", waves=(9,), concurrency=5, hold_after=1), target("b", waves=(9,), concurrency=4)
    run = run_of((one, 9), (other, 9))
    assert worst_case(run.settings, run.opened.members).out == 6  # five and one, or four and that one
    at_once = target("b", (), waves=(9,), concurrency=4)
    run = run_of((one, 9), (at_once, 9))
    assert worst_case(run.settings, run.opened.members).out == 10


def test_a_cap_on_all_of_them() -> None:
    for servers in range(1, 200):
        most = under_cap(NeverMoreThan(at_least=3, of_verified=25), servers)
        assert most <= max(3, (servers - most) // 4)
        assert most + 1 > min(servers, max(3, (servers - most - 1) // 4))
