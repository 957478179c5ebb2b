"""Before anything is touched: who is meant, with what, and what would go wrong.

`survey` only reads. What it returns is what `preview` shows and what a run is opened with.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fleet import __version__
from fleet.cloud.api import Cloud
from fleet.core.events import FORMAT, Member, RunOpened
from fleet.core.model import Identity, Image, Server, ServerId
from fleet.core.preflight import Finding, call_for, check_key_pair, check_password, check_server, grouped
from fleet.core.rollout import cut_waves
from fleet.core.select import Resolution, resolve
from fleet.core.settings import Settings, Target
from fleet.errors import FleetError, NotFound, PlanError, Problem
from fleet.orders import render
from fleet.secrets import resolve as resolve_secret

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found.

    Attributes:
        members: The servers of a run opened now, in the order of the rollout.
        skipped: Unfit members that are skipped on request, with the reason.
        passwords: By target; secret.
    """

    settings: Settings
    identity: Identity
    resolution: Resolution
    members: tuple[Member, ...]
    findings: tuple[Finding, ...]
    skipped: dict[ServerId, str]
    passwords: dict[str, str]
    servers: dict[ServerId, Server]

    def __repr__(self) -> str:
        return f"Survey({len(self.members)} members, {len(self.findings)} findings)"

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
        if not problems and len(self.members) == len(self.skipped):
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


async def survey(
    cloud: Cloud,
    settings: Settings,
    user_data: Mapping[str, bytes],
    *,
    limit: Sequence[str] = (),
    skip_unfit: bool = False,
    own_ids: Collection[str] = (),
) -> Survey:
    """Resolve the selectors and run every pre-flight check. Reads, and nothing else.

    Args:
        cloud: Whom to ask.
        settings: The plan.
        user_data: Its sources by digest.
        limit: What narrows it.
        skip_unfit: Skip servers that cannot be reinstalled, instead of reporting them as errors.
        own_ids: Ids that the machine we run on may have as a server.

    Raises:
        CloudError: The cloud cannot be asked.
    """
    findings: list[Finding] = []
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

    identity = await cloud.whoami()
    listed = await cloud.servers()
    resolution = resolve(settings, listed, limit=limit)
    images = await _images(cloud, settings, resolution)

    members: list[Member] = []
    skipped: dict[ServerId, str] = {}
    for target in settings.targets:
        findings += await _key_pair(cloud, target)
        for server in resolution.chosen.get(target.name, ()):
            image = images.get(target.reinstall.image or server.image)
            found = [*check_server(target, server, image, own_ids), *_user_data(target, server, user_data)]
            if skip_unfit and any(each.unfit for each in found):
                skipped[server.id] = "unfit: " + "; ".join(each.message for each in found if each.unfit)
            else:
                findings += found
        members += _members(target, resolution.chosen.get(target.name, ()), images)
    return Survey(
        settings=settings,
        identity=identity,
        resolution=resolution,
        members=tuple(members),
        findings=tuple(findings),
        skipped=skipped,
        passwords=passwords,
        servers={server.id: server for server in listed},
    )


def _user_data(target: Target, server: Server, sources: Mapping[str, bytes]) -> list[Finding]:
    try:
        render(target.reinstall, server, sources)
    except ValueError as error:
        return [Finding(str(error), "", target.name, server.label)]
    return []


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


def _members(target: Target, servers: Sequence[Server], images: Mapping[str, Image]) -> list[Member]:
    """Cut a target's servers into waves."""
    members: list[Member] = []
    left = iter(servers)
    for number, size in enumerate(cut_waves(len(servers), target.rollout.waves), start=1):
        for _ in range(size):
            server = next(left)
            image = target.reinstall.image or server.image
            members.append(
                Member(
                    id=server.id,
                    name=server.name,
                    target=target.name,
                    wave=number,
                    call=call_for(target.reinstall, images.get(image)),
                    image=image,
                    status=server.status,
                    system_disk=server.system_disk,
                    data_disks=server.data_disks,
                    addresses=server.addresses,
                    security_groups=server.security_groups,
                    flavor=server.flavor,
                    zone=server.zone,
                    tags=server.tags,
                )
            )
    return members


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
    )
