"""Before anything is touched: who is meant, with what, and what would go wrong.

`survey` only reads. What it returns is what `preview` shows and what a run is opened with.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from fleet import __version__
from fleet.cloud.api import CanTag, Cloud
from fleet.core.events import FORMAT, Member, RunOpened
from fleet.core.lint import lint
from fleet.core.model import Identity, Image, Server, ServerId
from fleet.core.preflight import (
    Finding,
    Objection,
    call_for,
    check_key_pair,
    check_password,
    check_scaling,
    check_server,
    check_windows,
    grouped,
)
from fleet.core.select import Resolution, resolve
from fleet.core.settings import Settings, Target
from fleet.core.waves import ServerKind, waves_of
from fleet.core.worst import WorstCase, worst_case
from fleet.errors import FleetError, NotFound, PlanError, Problem
from fleet.orders import render, rendered_kind
from fleet.prechecks import backups, room, scaling, way_back
from fleet.secrets import resolve as resolve_secret

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found.

    Attributes:
        members: The servers of a run opened now, in the order of the rollout.
        skipped: Members that are not started, with the reason: unfit and skipped on request, or done already.
        done: Those of them that an earlier run of the plan has tried.
        passwords: By target; secret.
        seed: What a shuffled order was drawn from.
        kinds: Of every member: what makes its reinstall turn out differently.
        sent: Digest of the user data that every member would be sent; only where there is any.
        manifest: Digest of the manifest that this is pinned to, or empty.
        differences: What is not as in that manifest: shown, not done.
    """

    settings: Settings
    identity: Identity
    resolution: Resolution
    members: tuple[Member, ...]
    findings: tuple[Finding, ...]
    skipped: dict[ServerId, str]
    passwords: dict[str, str]
    servers: dict[ServerId, Server]
    seed: int = 0
    kinds: dict[ServerId, ServerKind] = field(default_factory=dict)
    sent: dict[ServerId, str] = field(default_factory=dict)
    manifest: str = ""
    differences: tuple[str, ...] = ()
    done: dict[ServerId, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Survey({len(self.members)} members, {len(self.findings)} findings)"

    @property
    def started(self) -> tuple[Member, ...]:
        """The members that are not skipped."""
        return tuple(member for member in self.members if member.id not in self.skipped)

    @property
    def worst(self) -> WorstCase:
        """The worst that the plan allows, for these servers."""
        return worst_case(self.settings, self.members, self.skipped)

    @property
    def oddities(self) -> tuple[Finding, ...]:
        """What the plan says without meaning it, with the consequence."""
        return tuple(lint(self.settings, self.started, self.worst, self.servers))

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Findings that do not stop the run."""
        return tuple(finding for finding in grouped(self.findings) if not finding.stops)

    def refuse(self, locate: Callable[[Problem], Problem] = lambda problem: problem) -> None:
        """Raise PlanError with everything that stops the run, if anything does.

        Args:
            locate: Adds the place in the plan's file to a problem that only knows its path.
        """
        problems = [locate(problem) for problem in self.resolution.problems]
        problems += [
            Problem(f"{_who(finding)}{finding.message}", hint=finding.hint or None)
            for finding in grouped(self.findings)
            if finding.stops
        ]
        if not problems and not self.done and len(self.members) == len(self.skipped):
            problems.append(Problem("no server is left to reinstall", hint="`fleet preview` says why"))
        if problems:
            raise PlanError(*problems)


def _who(finding: Finding) -> str:
    who = ": ".join(part for part in (finding.target, finding.server) if part)
    return f"{who}: " if who else ""


def resolve_passwords(settings: Settings) -> dict[str, str]:
    """Return the admin password of each target that has one.

    Raises:
        FleetError: One cannot be had.
    """
    return {
        target.name: resolve_secret(target.reinstall.admin_password)
        for target in settings.targets
        if target.reinstall.admin_password is not None
    }


@dataclass(frozen=True, slots=True)
class Pin:
    """What is settled before the cloud is asked.

    Attributes:
        seed: What a shuffled order is drawn from.
        only: Ids of a manifest: others are left out; None: there is none.
    """

    seed: int = 0
    only: Collection[ServerId] | None = None


NO_PIN = Pin()


async def survey(
    cloud: Cloud,
    settings: Settings,
    user_data: Mapping[str, bytes],
    *,
    limit: Sequence[str] = (),
    skip_unfit: bool = False,
    own_ids: Collection[str] = (),
    object_to: Callable[[Sequence[Server]], Mapping[ServerId, Sequence[Objection]]] = lambda _: {},
    pin: Pin = NO_PIN,
    now: datetime | None = None,
) -> Survey:
    """Resolve the selectors and run every pre-flight check. Reads, and nothing else.

    Args:
        cloud: Whom to ask.
        settings: The plan.
        user_data: Its sources by digest.
        limit: What narrows it.
        skip_unfit: Skip servers that cannot be reinstalled, instead of reporting them as errors.
        own_ids: Ids that the machine we run on may have as a server.
        object_to: Says what else speaks against servers: other runs, what this machine stands on.
        pin: What is settled before.
        now: By which the age of servers and backups is told; the wall's time if None.

    Raises:
        CloudError: The cloud cannot be asked.
    """
    findings: list[Finding] = []
    now = now or datetime.now(UTC)
    passwords: dict[str, str] = {}
    for target in settings.targets:
        if target.reinstall.admin_password is None:
            continue
        try:
            passwords[target.name] = await asyncio.to_thread(resolve_secret, target.reinstall.admin_password)
        except FleetError as error:
            findings.append(Finding(error.message, error.hint or "", target.name))
        else:
            findings += check_password(target, passwords[target.name])

    if settings.claim and not isinstance(cloud, CanTag):
        findings.append(
            Finding("this cloud's servers cannot be tagged by fleet", "take `claim` out of the plan")
        )
    identity = await cloud.whoami()
    listed = await cloud.servers()
    resolution = resolve(settings, listed, limit=limit, seed=pin.seed, only=pin.only, now=now)
    images = await _images(cloud, settings, resolution)
    chosen = [server for servers in resolution.chosen.values() for server in servers]
    objections = await asyncio.to_thread(object_to, chosen)
    groups = await scaling(cloud, findings) if chosen else {}
    points = await backups(cloud, settings, resolution, now)

    members: list[Member] = []
    skipped: dict[ServerId, str] = {}
    kinds: dict[ServerId, ServerKind] = {}
    sent: dict[ServerId, str] = {}
    for target in settings.targets:
        findings += await _key_pair(cloud, target)
        servers = resolution.chosen.get(target.name, ())
        for server in servers:
            image = images.get(target.reinstall.image or server.image)
            found = check_server(target, server, image, own_ids)
            found += check_windows(target, server, image, passwords.get(target.name))
            found += check_scaling(target, server, groups.get(server.id))
            try:
                content = render(target.reinstall, server, user_data)
                kind = rendered_kind(target.reinstall, server, user_data)
            except ValueError as error:
                found.append(Finding(str(error), "", target.name, server.label))
                content = kind = None
            if content is not None:
                sent[server.id] = hashlib.sha256(content).hexdigest()
            kinds[server.id] = ServerKind(
                image=target.reinstall.image or server.image,
                flavor=server.flavor,
                zone=server.zone,
                user_data=hashlib.sha256(kind).hexdigest() if kind is not None else "",
            )
            found += way_back(target, server, points.get(server.id))
            found += [each.about(target, server) for each in objections.get(server.id, ())]
            if skip_unfit and any(each.unfit for each in found):
                skipped[server.id] = "unfit: " + "; ".join(each.message for each in found if each.unfit)
            else:
                findings += found
        members += _members(target, servers, images, kinds)
    surveyed = Survey(
        settings=settings,
        identity=identity,
        resolution=resolution,
        members=tuple(members),
        findings=tuple(findings),
        skipped=skipped,
        passwords=passwords,
        servers={server.id: server for server in listed},
        seed=pin.seed,
        kinds=kinds,
        sent=sent,
    )
    return replace(surveyed, findings=(*findings, *await room(cloud, surveyed.worst.in_flight)))


async def _key_pair(cloud: Cloud, target: Target) -> list[Finding]:
    name = target.reinstall.key_pair
    return check_key_pair(target, await _or_none(lambda: cloud.key_pair(name))) if name else []


async def _images(cloud: Cloud, settings: Settings, resolution: Resolution) -> dict[str, Image]:
    wanted = {
        target.reinstall.image or server.image
        for target in settings.targets
        for server in resolution.chosen.get(target.name, ())
    }
    names = sorted(name for name in wanted if name)
    found = await asyncio.gather(*(_or_none(lambda name=name: cloud.image(name)) for name in names))  # type: ignore[misc]  # a lambda that binds its loop variable
    return {name: image for name, image in zip(names, found, strict=True) if image is not None}


async def _or_none(read: Callable[[], Awaitable[T]]) -> T | None:
    try:
        return await read()
    except NotFound:
        return None


def _members(
    target: Target,
    servers: Sequence[Server],
    images: Mapping[str, Image],
    kinds: Mapping[ServerId, ServerKind],
) -> list[Member]:
    """Cut a target's servers into waves."""
    waves = waves_of([kinds[server.id] for server in servers], target.rollout.waves)
    return [
        member_of(target, servers[place], number, images.get(target.reinstall.image or servers[place].image))
        for number, wave in enumerate(waves, start=1)
        for place in wave
    ]


def member_of(target: Target, server: Server, wave: int, image: Image | None) -> Member:
    """Note who is meant, beyond doubt."""
    return Member(
        id=server.id,
        name=server.name,
        target=target.name,
        wave=wave,
        call=call_for(target.reinstall, image),
        image=target.reinstall.image or server.image,
        status=server.status,
        system_disk=server.system_disk,
        data_disks=server.data_disks,
        addresses=server.addresses,
        security_groups=server.security_groups,
        flavor=server.flavor,
        zone=server.zone,
        tags=server.tags,
        key_pair=server.key_pair,
    )


def opening(found: Survey, *, run: str, plan_path: Path, limit: Sequence[str]) -> RunOpened:
    """Return the first event of a run of what was surveyed."""
    return RunOpened(
        format=FORMAT,
        run=run,
        fleet=__version__,
        settings=found.settings,
        members=found.members,
        cloud=found.identity.cloud,
        project=found.identity.project_id,
        user=found.identity.user_name,
        plan_path=str(plan_path.absolute()),
        host=socket.gethostname(),
        pid=os.getpid(),
        limit=tuple(limit),
        seed=found.seed,
        manifest=found.manifest,
    )
