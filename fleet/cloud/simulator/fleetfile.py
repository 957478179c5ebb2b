"""The fleet file: which servers the built-in cloud has, and how it behaves, in YAML.

Every part has a default, so an empty file is a usable fleet: the one of the demo. What is written is
checked strictly, and an error names file and field.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import yaml

from fleet.cloud.simulator import defaults
from fleet.cloud.simulator.calendar import Calendar
from fleet.cloud.simulator.faults import Fault
from fleet.cloud.simulator.settings import Behaviour, Durations, Positive
from fleet.cloud.simulator.things import (
    DEFAULT_USER,
    BackupRecord,
    ImageRecord,
    KeyPairRecord,
    Project,
    ScalingGroupRecord,
    ServerSpec,
    User,
)
from fleet.cloud.simulator.world import Estate, World
from fleet.errors import PlanError, Problem

Count = Annotated[int, msgspec.Meta(ge=1, le=200_000)]
NotNegativeCount = Annotated[int, msgspec.Meta(ge=0)]
Text = Annotated[str, msgspec.Meta(min_length=1)]


class KeyPairEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key pair and the name of the user who owns it."""

    name: Text
    owner: str = defaults.USER_NAME


class Group(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Servers that are alike.

    Attributes:
        name: Of each; ``{}`` or ``{:03d}`` stands for its number, counted from 1. Needed from two on.
        zones: Servers are spread over them in turn.
        image, key_pair: By name.
        subnet: CIDR from which addresses are taken, from the fourth on.
        locked: How many of them, from the first, are locked.
        data_disks: Of each, besides the system disk.
        user_data: As text.
        profile: What they show during a reinstall, A or B; the cloud's setting when not given.
    """

    name: Text
    count: Count = 1
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    zones: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1)] = defaults.ZONES
    flavor: Text = defaults.FLAVOR
    image: Text = defaults.IMAGE_NAME
    status: Literal["ACTIVE", "SHUTOFF", "ERROR"] = "ACTIVE"
    vpc: Text = defaults.VPC_ID
    subnet: str = ""
    key_pair: str = defaults.KEY_PAIR
    locked: NotNegativeCount = 0
    data_disks: NotNegativeCount = 0
    enterprise_project: str = "0"
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    user_data: str = ""
    profile: Literal["A", "B"] | None = None


_WEB_USER_DATA: Final = "#cloud-config\npackages: [nginx]\n"
_DEMO: Final = (
    Group(
        name="web-{:03d}",
        count=60,
        tags={"role": "web", "env": "prod"},
        subnet="10.20.1.0/24",
        user_data=_WEB_USER_DATA,
    ),
    Group(name="db-{:02d}", count=6, tags={"role": "db", "env": "prod"}, subnet="10.20.2.0/24", data_disks=2),
    Group(
        name="control-{}", count=4, tags={"role": "control", "env": "prod"}, subnet="10.20.3.0/24", locked=2
    ),
    Group(name="bastion", tags={"role": "web", "env": "prod", "reinstall": "never"}, subnet="10.20.4.0/24"),
)


class FleetFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fleet file, read and checked.

    Attributes:
        seed: Of everything that is made up: the same seed and calls give the same bytes.
        speed: Seconds of the cloud's time in a second of wall time, when served over HTTP.
        throttle: Per-minute limits; also ``behaviour.throttle``.
        rate_limit: Calls a second of wall time; also ``behaviour.rate_limit``.
    """

    project: Project = Project()
    seed: int = 1
    speed: Positive = 1.0
    throttle: bool = False
    rate_limit: Positive | None = None
    durations: Durations = Durations()
    behaviour: Behaviour = Behaviour()
    users: Annotated[tuple[User, ...], msgspec.Meta(min_length=1)] = (DEFAULT_USER,)
    key_pairs: tuple[KeyPairEntry, ...] = (KeyPairEntry(name=defaults.KEY_PAIR),)
    images: tuple[ImageRecord, ...] = (
        ImageRecord(name=defaults.IMAGE_NAME, id=defaults.IMAGE_ID),
        ImageRecord(name=defaults.PLAIN_IMAGE_NAME, id=defaults.PLAIN_IMAGE_ID, cloud_init=False),
    )
    servers: tuple[Group, ...] = _DEMO
    scaling_groups: tuple[ScalingGroupRecord, ...] = ()
    backups: tuple[BackupRecord, ...] = ()
    faults: tuple[Fault, ...] = ()


def default_fleet(count: int | None = None, *, seed: int = 1, speed: float = 1.0) -> FleetFile:
    """Return the demo's fleet; with *count*, that many web servers and nothing else."""
    if count is None:
        return FleetFile(seed=seed, speed=speed)
    width = max(3, len(str(count)))
    web = Group(
        name=f"web-{{:0{width}d}}",
        count=count,
        tags={"role": "web", "env": "prod"},
        subnet="10.0.0.0/8",
        user_data=_WEB_USER_DATA,
    )
    return FleetFile(seed=seed, speed=speed, servers=(web,))


def read_fleet(path: Path) -> FleetFile:
    """Read a fleet file.

    Raises:
        PlanError: It cannot be read, or something in it is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(Problem(f"cannot be read: {error}", file=str(path))) from error
    return parse_fleet(text, name=str(path))


def parse_fleet(text: str, *, name: str = "fleet file") -> FleetFile:
    """Read the text of a fleet file; *name* is for messages."""
    try:
        data: Any = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
        raise PlanError(
            Problem(f"is no YAML: {error.problem}", file=name, line=line, column=column)
        ) from error
    except yaml.YAMLError as error:
        raise PlanError(Problem(f"is no YAML: {error}", file=name)) from error
    try:
        fleet = msgspec.convert({} if data is None else data, FleetFile)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        raise PlanError(Problem(message, file=name, path=where.rstrip("`").lstrip("."))) from error
    problems = list(_problems(fleet, name))
    if problems:
        raise PlanError(*problems)
    return fleet


def _problems(fleet: FleetFile, file: str) -> Iterator[Problem]:
    """Find what the types cannot say."""
    users = {user.name for user in fleet.users}
    images = {image.name for image in fleet.images}
    for number, pair in enumerate(fleet.key_pairs):
        if pair.owner not in users:
            yield _unknown(file, f"key_pairs[{number}].owner", pair.owner, users)
    for number, group in enumerate(fleet.servers):
        where = f"servers[{number}]"
        if group.image not in images:
            yield _unknown(file, f"{where}.image", group.image, images)
        if group.locked > group.count:
            yield Problem(f"{group.locked} of {group.count} servers", file=file, path=f"{where}.locked")
        yield from _naming_problems(group, where, file)
        yield from _subnet_problems(group, where, file)
    unique = {
        "users[].name": [user.name for user in fleet.users],
        "users[].id": [user.id for user in fleet.users],
        "users[].access_keys": [key for user in fleet.users for key in user.access_keys],
        "images[].id": [image.id for image in fleet.images],
        "images[].name": [image.name for image in fleet.images],
    }
    for part, names in unique.items():
        for twice in (name for name, count in Counter(names).items() if count > 1):
            yield Problem(f"{twice!r} is there twice", file=file, path=part)


def _naming_problems(group: Group, where: str, file: str) -> Iterator[Problem]:
    try:
        first, second = group.name.format(1), group.name.format(2)
    except (ValueError, IndexError, KeyError) as error:
        yield Problem(
            f"{group.name!r} is no pattern: {error}",
            hint="one {} or {:03d} stands for the server's number",
            file=file,
            path=f"{where}.name",
        )
        return
    if group.count > 1 and first == second:
        yield Problem(
            f"{group.count} servers would all be named {first!r}",
            hint=f"write {group.name + '-{:03d}'!r}",
            file=file,
            path=f"{where}.name",
        )


def _subnet_problems(group: Group, where: str, file: str) -> Iterator[Problem]:
    if not group.subnet:
        return
    try:
        size = ipaddress.IPv4Network(group.subnet).num_addresses
    except ValueError as error:
        yield Problem(str(error), hint="such as 10.20.1.0/24", file=file, path=f"{where}.subnet")
        return
    if size < group.count + 5:
        yield Problem(
            f"{group.subnet} has no room for {group.count} servers", file=file, path=f"{where}.subnet"
        )


def _unknown(file: str, path: str, name: str, known: set[str]) -> Problem:
    return Problem(
        f"there is no {name!r}", hint=f"there are: {', '.join(sorted(known)) or 'none'}", file=file, path=path
    )


def server_specs(fleet: FleetFile) -> Iterator[ServerSpec]:
    """Return the servers of a fleet, one by one."""
    images = {image.name: image.id for image in fleet.images}
    for group in fleet.servers:
        base = int(ipaddress.IPv4Network(group.subnet).network_address) if group.subnet else None
        tags = tuple(f"{key}={value}" if value else key for key, value in group.tags.items())
        for number in range(group.count):
            yield ServerSpec(
                name=group.name.format(number + 1),
                status=group.status,
                tags=tags,
                zone=group.zones[number % len(group.zones)],
                flavor=group.flavor,
                image=images[group.image],
                vpc=group.vpc,
                address="" if base is None else str(ipaddress.IPv4Address(base + 4 + number)),
                key_name=group.key_pair,
                locked=number < group.locked,
                enterprise_project=group.enterprise_project,
                data_disks=group.data_disks,
                metadata=group.metadata,
                user_data=group.user_data,
                profile=group.profile,
            )


def build_world(fleet: FleetFile, *, calendar: Calendar | None = None) -> World:
    """Build the world of a fleet. Its faults are for the `Face`."""
    owners = {user.name: user.id for user in fleet.users}
    behaviour = msgspec.structs.replace(
        fleet.behaviour,
        throttle=fleet.throttle or fleet.behaviour.throttle,
        rate_limit=fleet.rate_limit or fleet.behaviour.rate_limit,
    )
    pairs = tuple(KeyPairRecord(name=pair.name, user_id=owners[pair.owner]) for pair in fleet.key_pairs)
    estate = Estate(
        project=fleet.project,
        users=fleet.users,
        images=fleet.images,
        key_pairs=pairs,
        scaling_groups=fleet.scaling_groups,
        backups=fleet.backups,
    )
    return World(
        server_specs(fleet),
        estate=estate,
        behaviour=behaviour,
        durations=fleet.durations,
        seed=fleet.seed,
        calendar=calendar,
    )
