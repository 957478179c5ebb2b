"""Make stories up: small fleets, all settings, everything that goes wrong, from one number."""

from __future__ import annotations

import random
from dataclasses import replace

import msgspec

from fleet.cloud.simulator import defaults
from fleet.cloud.simulator.faults import Fault, FaultKind, fault, random_faults
from fleet.cloud.simulator.settings import Behaviour, Durations, Spread
from fleet.cloud.simulator.things import ServerSpec
from fleet.core.settings import (
    Around,
    Budget,
    CloudSettings,
    Hooks,
    Limits,
    NeverMoreThan,
    Reinstall,
    Rollout,
    Select,
    Settings,
    Share,
    Stop,
    Target,
    Verify,
)
from fleet.rehearsal.hooks import Outcome
from fleet.rehearsal.incidents import Incident, Kind
from fleet.rehearsal.stories import Person, Story

NIGHTS_S = (0.0, 60.0, 7200.0, 259200.0)
DURATIONS = Durations(latency=Spread(0.05, 0.0))
QUICK = Durations(
    latency=Spread(0.05, 0.0),
    stop_soft=Spread(3.0),
    stop_hard=Spread(2.0),
    start=Spread(3.0),
    queue=Spread(0.5),
    reinstall=Spread(5.0),
    job_lag=Spread(1.0),
)
"""So quick that a request which arrives late finds another one's work done. A guard that only holds while a
job runs is no guard then (a real Nova on fast disks: 1 to 5 s a rebuild)."""


def plan(*targets: Target, rate: float = 5.0, name: str = "story") -> Settings:
    """Make a plan out of *targets*."""
    return Settings(
        plan=name,
        digest="0" * 64,
        folder="/",
        cloud=CloudSettings(provider="simulator", requests_per_second=rate),
        targets=targets,
    )


def target(
    name: str = "web",
    *,
    rollout: Rollout | None = None,
    stop: Stop | None = None,
    reinstall: Reinstall | None = None,
    verify: Verify | None = None,
) -> Target:
    """Make a target of all servers whose names begin with *name* and a dash."""
    return Target(
        name=name,
        select=Select(name=(f"{name}-*",)),
        rollout=rollout or Rollout(waves=(1, 3), concurrency=3, hold_after=1),
        stop=stop or Stop(),
        reinstall=reinstall or Reinstall(key_pair=defaults.KEY_PAIR),
        verify=verify or Verify(timeout_s=300.0),
    )


def reference(servers: int = 8, *, concurrency: int = 3) -> Story:
    """Return the story that crashes are enumerated on: eight servers, three at a time, nothing wrong."""
    return Story(
        seed=8,
        settings=plan(
            target(rollout=Rollout(waves=(1, 3, 4), concurrency=concurrency, hold_after=0)), rate=1.0
        ),
        servers=tuple(ServerSpec(name=f"web-{n}") for n in range(1, servers + 1)),
        durations=DURATIONS,
    )


def tale(seed: int) -> Story:
    """Make up a story: the same number, the same story."""
    # The guard rails are drawn apart: what was drawn before there were any stays as it was.
    return _with_rails(random.Random(f"rails {seed}"), _tale(seed))


def _tale(seed: int) -> Story:
    rng = random.Random(seed)
    names = ["web"] if rng.random() < 0.7 else ["db", "web"]
    servers: list[ServerSpec] = []
    targets: list[Target] = []
    for name in names:
        count = rng.randint(2, 5) if len(names) == 1 else rng.randint(1, 3)
        targets.append(_target(rng, name, count))
        servers += [_server(rng, f"{name}-{number}") for number in range(1, count + 1)]
    bystanders = [ServerSpec(name=f"other-{number}") for number in range(rng.randint(0, 2))]
    everybody = [server.name for server in servers]
    return Story(
        seed=seed,
        settings=plan(*targets, rate=rng.choice((0.3, 0.5, 0.5, 0.5, 1.0, 4.0))),
        servers=(*servers, *bystanders),
        faults=tuple(_faults(rng, everybody)),
        incidents=tuple(_incidents(rng, len(servers)) for _ in range(rng.choice((0, 1, 1, 2, 3)))),
        nights_s=tuple(rng.choice(NIGHTS_S) for _ in range(4)),
        person=Person(releases=rng.randint(0, 2), retries=rng.choice((0, 0, 1))),
        behaviour=_behaviour(rng),
        durations=rng.choice((DURATIONS, DURATIONS, QUICK)),
    )


def _server(rng: random.Random, name: str) -> ServerSpec:
    status = rng.choices(("ACTIVE", "SHUTOFF", "ERROR"), (8, 2, 1))[0]
    return ServerSpec(name=name, status=status, data_disks=rng.choice((0, 0, 1)))


def _target(rng: random.Random, name: str, count: int) -> Target:
    hold: int | Share = rng.choice((0, 1, 2, count, Share(percent=50.0)))
    return target(
        name,
        rollout=Rollout(
            waves=rng.choice(((1,), (1, 3), (2, Share(percent=50.0)), (count,))),
            concurrency=rng.randint(1, 4),
            hold_after=hold,
        ),
        stop=Stop(
            soft_timeout_s=rng.choice((60.0, 300.0)), then=rng.choice(("hard", "hard", "hard", "fail"))
        ),
        reinstall=Reinstall(
            key_pair=defaults.KEY_PAIR,
            mode=rng.choice(("stop-first", "stop-first", "stop-first", "with-stop-server")),
            attempts=rng.choice((1, 2, 2, 3)),
            settle_s=rng.choice((60.0, 60.0, 300.0)),
            timeout_s=rng.choice((900.0, 900.0, 1800.0)),
        ),
        verify=Verify(timeout_s=rng.choice((120.0, 300.0)), stable_for_s=rng.choice((0.0, 0.0, 20.0))),
    )


def _behaviour(rng: random.Random) -> Behaviour:
    return Behaviour(
        ends_shutoff=rng.choice((0.0, 0.0, 0.3, 0.9)),
        soft_hangs=rng.choice((0.0, 0.0, 0.2)),
        unfit_in_batch=rng.choice(("refuse", "sub-job")),
        doubles_while_queued=rng.random() < 0.5,
        temporary_server=rng.choice(("B", "always", "never")),
        token_life_s=rng.choice((86400.0, 86400.0, 900.0)),
        strict=rng.random() < 0.7,
    )


def _faults(rng: random.Random, names: list[str]) -> list[Fault]:
    found = random_faults(rng, names, rng.choice((0.0, 0.4, 0.8, 1.0)))
    if rng.random() < 0.3:
        found += random_faults(rng, names, 0.5)
    if rng.random() < 0.1:
        found.append(
            fault(
                "error-burst",
                call="any",
                status=rng.choice((429, 500, 503)),
                from_s=rng.uniform(0, 300),
                for_s=rng.choice((30.0, 600.0)),
            )
        )
    if rng.random() < 0.1:
        found.append(fault("lands-late", server=rng.choice(names), seconds=rng.uniform(15, 30)))
    if rng.random() < 0.05:
        found.append(fault("server-disappears", server=rng.choice(names), from_s=rng.uniform(5, 400)))
    if rng.random() < 0.03:
        found.append(fault("key-pair-deleted", from_s=rng.uniform(5, 400)))
    if rng.random() < 0.1:  # somebody meddles at the worst moment
        kind: FaultKind = rng.choice(("started-by-other", "locked-by-other"))
        found.append(fault(kind, server=rng.choice(names), call=rng.choice(("show", "reinstall")), nth=2))
    return found


def _incidents(rng: random.Random, servers: int) -> tuple[Incident, ...]:
    last = 25 + 45 * servers
    found: list[Incident] = []
    roll = rng.random()
    if roll < 0.75:
        found.append(Incident(rng.randint(1, last), rng.choice(("killed", "power-cut"))))
    elif roll < 0.9:
        kinds: tuple[Kind, ...] = ("write-fails", "sync-fails", "disk-full")
        found.append(Incident(rng.randint(1, last), rng.choice(kinds)))
    else:
        found.append(Incident(rng.randint(1, last), rng.choice(("drain", "stop-now"))))
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        kinds = ("pause", "suspend", "wall-jump")
        kind = rng.choice(kinds)
        seconds = rng.choice((10.0, 45.0, 3600.0)) * (rng.choice((1, -1)) if kind == "wall-jump" else 1)
        found.append(Incident(rng.randint(1, last), kind, seconds))
    return tuple(found)


# -- guard rails ----------------------------------------------------------------------------------------


def _with_rails(rng: random.Random, story: Story) -> Story:
    """Give six stories in ten what a rollout can be held to, several things at once."""
    if rng.random() < 0.4:
        return story
    settings = story.settings
    targets = tuple(_railed(rng, each, place) for place, each in enumerate(settings.targets))
    settings = msgspec.structs.replace(
        settings,
        targets=targets,
        concurrency=rng.choice((None, None, 1, 2)),
        limits=Limits(draining=rng.choice((None, None, 1)), booting=rng.choice((None, None, 1, 2))),
        budget=Budget(
            hold_after=rng.choice((None, None, 1, 2)),
            in_a_row=rng.choice((None, None, 2)),
            never_more_than=_cap(rng) if rng.random() < 0.1 else None,
        ),
    )
    servers = tuple(
        msgspec.structs.replace(
            server, zone=rng.choice(defaults.ZONES), tags=rng.choice(((), ("rack=r1",), ("rack=r2",)))
        )
        for server in story.servers
    )
    hooked = [each.name for each in targets if each.hooks.around_server]
    outcomes: dict[str, tuple[Outcome, ...]] = {}
    for server in servers:
        if server.name.partition("-")[0] in hooked and rng.random() < 0.3:
            what: tuple[Outcome, ...] = ("fails", "half-done", "hangs", "nothing-done", "missing")
            times = rng.choice((1, 1, 3))  # three times in a row an undo is given up
            hook = rng.choice(("do-1", "undo-1", "undo-1"))
            outcomes[f"{server.name}/{hook}"] = (rng.choice(what),) * times
    return replace(story, settings=settings, servers=servers, hooks=outcomes)


def _railed(rng: random.Random, target: Target, place: int) -> Target:
    limits: dict[str, object] = {}
    if rng.random() < 0.4:
        limits["max_unavailable"] = rng.choice((1, 2, 3, Share(percent=100.0)))
    if rng.random() < 0.4:
        limits["spread"] = rng.choice(({"availability_zone": 1}, {"tag:rack": 1}, {"availability_zone": 2}))
    if rng.random() < 0.3:
        limits["never_more_than"] = _cap(rng)
    if rng.random() < 0.2:
        limits["in_a_row"] = rng.choice((1, 2))
    if rng.random() < 0.3:
        limits["bake_s"] = rng.choice((30.0, 300.0))
    if rng.random() < 0.3:
        limits["approve_after"] = rng.choice(((1,), (1, 2), (2,)))
    pair = Around(do=("do",), undo=("undo",), timeout_s=30.0)
    return msgspec.structs.replace(
        target,
        rollout=msgspec.structs.replace(target.rollout, **limits),
        needs=() if place and rng.random() < 0.5 else target.needs,
        hooks=Hooks(around_server=(pair,)) if rng.random() < 0.3 else target.hooks,
    )


def _cap(rng: random.Random) -> NeverMoreThan:
    return NeverMoreThan(at_least=rng.choice((1, 2)), of_verified=rng.choice((30.0, 100.0)))
