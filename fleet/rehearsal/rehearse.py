"""Rehearse a user's own plan: the whole run against a copy of the fleet, and a crash at all its effects."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

import msgspec

from fleet import secrets
from fleet.cloud.simulator import defaults
from fleet.cloud.simulator.faults import Fault, random_faults
from fleet.cloud.simulator.fleetfile import FleetFile, build_world
from fleet.cloud.simulator.settings import Behaviour, Durations
from fleet.cloud.simulator.things import Disk, ImageRecord, KeyPairRecord, ServerSpec
from fleet.cloud.simulator.world import Estate
from fleet.core.hosts import age_s
from fleet.core.model import Image, Server
from fleet.core.settings import CloudSettings, Settings
from fleet.rehearsal.incidents import Incident, Kind
from fleet.rehearsal.stories import Person, Story, Told, tell

Faults = Literal["none", "mild", "nasty"]

_INTENSITY: Mapping[str, float] = {"none": 0.0, "mild": 0.05, "nasty": 0.5}


def from_fleet_file(settings: Settings, fleet: FleetFile, user_data: Mapping[str, bytes], seed: int) -> Story:
    """Return the story of a plan on a fleet file's servers, with its faults."""
    world = build_world(fleet)
    return Story(
        seed=seed,
        settings=_for_rehearsal(settings),
        servers=tuple(server.spec for server in world.servers.values()),
        faults=fleet.faults,
        behaviour=world.behaviour,
        durations=fleet.durations,
        estate=_estate(settings, world.estate.images, world.estate.key_pairs, world.estate),
        user_data=user_data,
    )


def from_cloud(
    settings: Settings,
    servers: Sequence[Server],
    images: Mapping[str, Image],
    user_data: Mapping[str, bytes],
    seed: int,
    now: datetime,
) -> Story:
    """Return the story of a plan on a copy of the servers that a cloud showed *now*."""
    wanted = {server.image for server in servers} | {
        target.reinstall.image for target in settings.targets if target.reinstall.image
    }
    records = tuple(
        ImageRecord(name=images[name].name or name, id=name, cloud_init=images[name].cloud_init)
        if name in images
        else ImageRecord(name=name, id=name)
        for name in sorted(filter(None, wanted))
    )
    return Story(
        seed=seed,
        settings=_for_rehearsal(settings),
        servers=tuple(_copy(server, now) for server in servers),
        behaviour=Behaviour(sparse=0.0),
        durations=Durations(),
        estate=_estate(settings, records, (), Estate()),
        user_data=user_data,
    )


def _copy(server: Server, now: datetime) -> ServerSpec:
    """Copy one server as far as a rehearsal cares."""
    return ServerSpec(
        name=server.name,
        id=server.id,
        status=server.status if server.status in {"ACTIVE", "SHUTOFF", "ERROR"} else "ACTIVE",
        tags=tuple(f"{key}={value}" if value else key for key, value in server.tags.items()),
        zone=server.zone,
        flavor=server.flavor,
        image=server.image,
        vpc=server.vpcs[0] if server.vpcs else defaults.VPC_ID,
        address=server.addresses[0] if server.addresses else "",
        age_s=age_s(server, now),
        locked=server.locked,
        enterprise_project=server.enterprise_project or "0",
        disks=tuple(Disk(id=disk.id, system=disk.system, device=disk.device) for disk in server.disks),
    )


def _estate(
    settings: Settings, images: tuple[ImageRecord, ...], pairs: tuple[KeyPairRecord, ...], base: Estate
) -> Estate:
    """Give the copy the plan's key pairs: that they exist is the preview's business, with the real cloud."""
    known = {(pair.user_id, pair.name) for pair in pairs}
    wanted = {(defaults.USER_ID, defaults.KEY_PAIR)}
    for target in settings.targets:
        if target.reinstall.key_pair:
            wanted.add((target.reinstall.user_id or defaults.USER_ID, target.reinstall.key_pair))
            wanted.add((defaults.USER_ID, target.reinstall.key_pair))
    more = tuple(KeyPairRecord(name=name, user_id=user) for user, name in sorted(wanted - known))
    return msgspec.structs.replace(base, images=images or base.images, key_pairs=(*pairs, *more))


def _for_rehearsal(settings: Settings) -> Settings:
    """Leave out what a rehearsal must not need: passwords, commands, backups, the cloud's address."""
    targets = tuple(
        msgspec.structs.replace(
            target,
            reinstall=msgspec.structs.replace(
                target.reinstall, admin_password=None, key_pair=target.reinstall.key_pair or defaults.KEY_PAIR
            ),
            require_backup=None,
        )
        for target in settings.targets
    )
    cloud = CloudSettings(provider="simulator", requests_per_second=settings.cloud.requests_per_second)
    return msgspec.structs.replace(settings, targets=targets, cloud=cloud)


def with_faults(story: Story, how: Faults, seed: int) -> Story:
    """Add faults: *mild* for one server in twenty, *nasty* for every second one."""
    rng = random.Random(seed)
    found: list[Fault] = random_faults(rng, [server.name for server in story.servers], _INTENSITY[how])
    return replace(story, seed=seed, faults=(*story.faults, *found))


@dataclass(slots=True)
class Crashes:
    """What killing a plan everywhere came to.

    Attributes:
        effects: Instants at which it could be killed; *told* of them were tried.
        longest_extra_s: By how much a killed run took longer at most, the nights left out.
        failures: Number of the effect, how it was killed, and what it broke.
    """

    effects: int = 0
    told: int = 0
    crashes: int = 0
    resumed: int = 0
    wiped_twice: int = 0
    limits_broken: int = 0
    longest_extra_s: float = 0.0
    failures: list[tuple[int, str, list[str]]] = field(default_factory=list)


EFFECTS = frozenset({"write", "torn", "written", "synced", "send", "sent", "hook", "hooked"})
"""Where `crash_everywhere` kills: between two reads nothing changes that a later life could see."""


def crash_everywhere(
    story: Story,
    kinds: Iterable[Kind] = ("killed", "power-cut"),
    *,
    at_most: int | None = None,
    night_s: float = 60.0,
    only: frozenset[str] | None = EFFECTS,
    told_one: Callable[[int, int], None] = lambda _done, _of: None,
) -> Crashes:
    """Tell *story* again and again, killed one effect later each time, resumed, and told to its end.

    Args:
        story: Its own incidents, if any, are replaced in the first life and kept in the later ones.
        kinds: How it is killed.
        at_most: So many effects, evenly spread; None: every one.
        night_s: Between death and resume.
        only: Which effects count; None: reads as well.
        told_one: Told how far it is.
    """
    with secrets.set_aside():
        plain = tell(replace(story, incidents=((), *story.incidents[1:])), only=only)
    found = Crashes(effects=plain.endings[0].effects)
    step = 1.0 if at_most is None else max(1.0, found.effects / at_most)
    points = sorted({int(number * step) + 1 for number in range(int(found.effects / step))})
    kinds = tuple(kinds)
    for number, at in enumerate(points, start=1):
        for kind in kinds:
            killed = replace(
                story, incidents=((Incident(at, kind),), *story.incidents[1:]), nights_s=(night_s,)
            )
            with secrets.set_aside():
                _count(found, tell(killed, only=only), plain, at, kind)
        told_one(number, len(points))
    return found


def _count(found: Crashes, told: Told, plain: Told, at: int, kind: str) -> None:
    found.told += 1
    found.crashes += told.crashes
    found.resumed += told.crashes > 0 and len(told.endings) > told.crashes
    found.wiped_twice += any(line.startswith("P1 ") for line in told.violations)
    found.limits_broken += any(line.startswith("P4 ") for line in told.violations)
    found.longest_extra_s = max(found.longest_extra_s, told.took_s - plain.took_s)
    if told.violations:
        found.failures.append((at, kind, told.violations))


@dataclass(frozen=True, slots=True)
class WaveTime:
    """A wave's place in the timeline: seconds after the run was opened."""

    target: str
    wave: int
    servers: int
    start_s: float
    end_s: float


def timeline(told: Told) -> list[WaveTime]:
    """Return when each wave started and ended, by the journal."""
    from datetime import datetime  # noqa: PLC0415 - for this function alone

    waves: dict[tuple[str, int], list[Any]] = {}
    place: dict[str, tuple[str, int]] = {}
    events = told.events()
    if not events:
        return []
    opened = datetime.fromisoformat(events[0]["at"])
    for member in events[0]["members"]:
        place[member["id"]] = (member["target"], member["wave"])
        waves.setdefault(place[member["id"]], [0, None, None])[0] += 1
    for event in events[1:]:
        if (server := event.get("server")) not in place:
            continue
        wave = waves[place[server]]
        at = (datetime.fromisoformat(event["at"]) - opened).total_seconds()
        wave[1] = at if wave[1] is None else wave[1]
        wave[2] = at
    return [
        WaveTime(target, number, size, start, end)
        for (target, number), (size, start, end) in waves.items()
        if start is not None
    ]


def most_in_flight(told: Told) -> int:
    """Return the most servers between admitted and settled, by the journal."""
    flying, most = set(), 0
    for event in told.events():
        if event["event"] == "Admitted":
            flying.add(event["server"])
            most = max(most, len(flying))
        elif event["event"] in {"Verified", "Failed", "Skipped", "PutBack"}:
            flying.discard(event["server"])
    return most


def rehearse(story: Story) -> Told:
    """Tell a plan's story once; a person releases nothing and retries nothing."""
    with secrets.set_aside():
        return tell(replace(story, person=Person()))
