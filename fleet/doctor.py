"""What works and what to mend, step by step: the machine, the way to the cloud, the login, the services.

Nothing is changed: in the state folder a file is written and taken away again, and of the cloud everything is
only read. What cannot be seen without doing it (may we stop, start, reinstall?) is said to be unseen.
"""

from __future__ import annotations

import asyncio
import os
import platform
import stat
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from fleet import __version__
from fleet.clock import Clock
from fleet.cloud.api import Cloud, KnowsAddresses, KnowsBackups, KnowsRoom, KnowsScaling
from fleet.cloud.ecs.auth import MAX_SKEW_S
from fleet.cloud.ecs.login_build import Found
from fleet.cloud.registry import connect, login_of
from fleet.core.model import Identity, Server
from fleet.core.settings import CloudSettings, Settings
from fleet.errors import Exit, FleetError, NotFound, Rejected
from fleet.journal import sync_folder
from fleet.reach import reach

T = TypeVar("T")

PATIENCE_S = 120.0
"""For one step. Longer than the client goes on repeating what is unavailable, since then it says why."""

LIST_PATIENCE_S = 1200.0
"""For the list: of an OpenStack each server's log is read, at the plan's pace."""

ODD_SKEW_S = 60.0
"""A clock that is further off opens windows at the wrong time, though every login may still work."""

NO_SUCH_NAME = "fleet-doctor-asks"
NO_SUCH_IMAGE = "00000000-0000-4000-8000-000000000000"
"""Asked for where no plan names one: "there is none" is an answer of an API that works."""


_BEHIND_THE_LOGIN = ("addresses", "servers", "images", "key pairs", "surroundings")


class Verdict(StrEnum):
    """How a step ended."""

    WELL = "well"
    ODD = "odd"
    WRONG = "wrong"
    UNTRIED = "untried"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was looked at.

    Attributes:
        said: What was found.
        remedy: What to do about it, or None.
        exit_code: What a wrong one ends the command with.
    """

    name: str
    verdict: Verdict
    said: str
    remedy: str | None = None
    exit_code: Exit = Exit.OK


@dataclass(frozen=True, slots=True)
class _Login:
    """A login that was found; None inside: a foreign provider keeps it to itself."""

    found: Found | None


class Doctor:
    """Looks at everything.

    Args:
        clock: Ours, which is compared with the cloud's.
        report: Is told each step as it ends.
    """

    def __init__(self, clock: Clock, report: Callable[[Step], None]) -> None:
        self._clock = clock
        self._report = report
        self.steps: list[Step] = []

    @property
    def exit_code(self) -> Exit:
        """The first wrong step's."""
        return next((step.exit_code for step in self.steps if step.verdict is Verdict.WRONG), Exit.OK)

    async def examine(self, cloud: CloudSettings, plan: Settings | None, state: Path) -> None:
        """Look at this machine, and at the cloud that *cloud* names; with *plan*, at what it needs."""
        self.well("fleet", f"{__version__}, Python {platform.python_version()} on {sys.platform}")
        self._state(state)
        if (found := await self._login(cloud)) is None or not await self._reach(found):
            self._untried("login", *_BEHIND_THE_LOGIN)
            return
        client = await self._try("login", lambda: _made(connect, cloud, self._clock))
        if client is None:
            self._untried(*_BEHIND_THE_LOGIN)
            return
        try:
            await self._services(client, cloud, plan, found)
        finally:
            await client.close()

    # this machine

    def _state(self, folder: Path) -> None:
        name = "state folder"
        if not folder.exists():
            parent = next(each for each in folder.parents if each.exists())
            if os.access(parent, os.W_OK | os.X_OK):
                self.well(name, f"{folder} is not there yet; a run will make it")
            else:
                self.wrong(
                    name, f"{parent} is not writable", "choose a place with FLEET_STATE_DIR", Exit.JOURNAL
                )
            return
        try:
            # Removed when it is closed. Journals are written and synced in the same way.
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
                file.write(b"x")
                file.flush()
                os.fsync(file.fileno())
                sync_folder(folder)
        except OSError as error:
            why = error.strerror or str(error)
            remedy = "free some room, or choose another place with FLEET_STATE_DIR"
            self.wrong(name, f"{folder} cannot be written to: {why}", remedy, Exit.JOURNAL)
            return
        mode = stat.S_IMODE(folder.stat().st_mode)
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            self.odd(name, f"{folder} is open to others (mode {mode:04o})", f"chmod 700 {folder}")
        else:
            self.well(name, f"{folder}, mode {mode:04o}, written and synced")

    # the way to the cloud

    async def _login(self, cloud: CloudSettings) -> _Login | None:
        name = "login found"
        try:
            found = login_of(cloud)
        except FleetError as error:
            self.wrong(name, error.message, error.hint, error.exit_code)
            self._untried("identity service", "clock")
            return None
        if found is None:
            self.well(name, f"provider {cloud.provider} finds its own")
            return _Login(None)
        self.well(name, f"{found.kind}, from {found.source}")
        for warning in found.warnings:
            self.odd(name, warning)
        return _Login(found)

    async def _reach(self, login: _Login) -> bool:
        found = login.found
        if found is None:
            return True
        way = await self._try("identity service", lambda: reach(found.url, self._clock, found.cafile))
        if way is None:
            self._untried("clock")
            return False
        self.well("identity service", f"{found.url}: {way.said}")
        skew = way.skew_s
        if skew is None:
            self.odd("clock", "the cloud does not say what time it is")
        elif abs(skew) > ODD_SKEW_S:
            where = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the cloud's"
            remedy = "set this machine's clock (timedatectl set-ntp true): windows open by it"
            if found.kind == "access key" and abs(skew) > MAX_SKEW_S:
                self.wrong("clock", f"{where}: no signature is accepted", remedy, Exit.CLOUD)
                return False
            self.odd("clock", where, remedy)
        else:
            self.well("clock", f"within {max(abs(skew), 1):.0f} s of the cloud's")
        return True

    # the cloud

    async def _services(
        self, client: Cloud, cloud: CloudSettings, plan: Settings | None, login: _Login
    ) -> None:
        identity = await self._try("login", client.whoami)
        if identity is None:
            self._untried(*_BEHIND_THE_LOGIN)
            return
        self._identity(identity)
        servers = None
        if await self._addresses(client, login):
            servers = await self._try("servers", client.servers, LIST_PATIENCE_S)
        else:
            self._untried("servers")
        if servers is None:
            self._untried("images", "key pairs", "surroundings")
            return
        self.well("servers", f"{len(servers)} in the project are shown")
        await self._images(client, plan, servers)
        await self._key_pairs(client, plan)
        await self._surroundings(client)
        self.well("pace", f"at most {cloud.requests_per_second:g} calls a second, by the plan or the default")
        self._report_unseen()

    def _identity(self, identity: Identity) -> None:
        said = f"as {identity.user_name}, project {identity.project_name or identity.project_id}"
        self.well("login", f"{said} ({identity.project_id})")
        if identity.user_id:
            self.well("user id", identity.user_id)
        else:
            self.odd(
                "user id",
                "the cloud does not say whose key this is, as with temporary ones",
                "key pairs of the plan are asked for their owner; reinstall.user_id or OS_USER_ID says it",
            )

    async def _addresses(self, client: Cloud, login: _Login) -> bool:
        """Look where the services are, and whether they can be reached; tell whether the first one can."""
        if not isinstance(client, KnowsAddresses):
            return True
        addresses = await self._try("addresses", client.addresses)
        if addresses is None:
            return False
        cafile = login.found.cafile if login.found else None
        hosts: dict[str, str | None] = {}
        needed = next(iter(addresses))
        for service, (url, source) in addresses.items():
            base = "/".join(url.split("/")[:3])
            if base not in hosts:
                try:
                    await reach(base, self._clock, cafile)
                    hosts[base] = None
                except FleetError as error:
                    hosts[base] = f"{error.message}; {error.hint}"
            said = f"{url} ({source})"
            if (why := hosts[base]) is None:
                self.well(f"address of {service}", said)
            elif service == needed:
                remedy = f"check the region; cloud.endpoints.{service} in the plan names another address"
                self.wrong(f"address of {service}", f"{said}: {why}", remedy, Exit.CLOUD)
                return False
            else:
                self.odd(f"address of {service}", f"{said}: {why}")
        return True

    async def _images(self, client: Cloud, plan: Settings | None, servers: list[Server]) -> None:
        named = {target.reinstall.image for target in plan.targets} - {None} if plan else set()
        used = sorted({server.image for server in servers if server.image})
        for image in sorted(str(each) for each in named) or used[:1] or [NO_SUCH_IMAGE]:
            asked = await self._ask("images", client.image, image, named=image in named)
            if asked is not None:
                self.well("images", asked)

    async def _key_pairs(self, client: Cloud, plan: Settings | None) -> None:
        # Only its owner sees a key pair: one whose owner the plan names is rightly not shown.
        ours = {t.reinstall.key_pair for t in plan.targets if t.reinstall.user_id is None} if plan else set()
        for name in sorted(str(each) for each in ours - {None}) or [NO_SUCH_NAME]:
            asked = await self._ask("key pairs", client.key_pair, name, named=name != NO_SUCH_NAME)
            if asked is not None:
                self.well("key pairs", asked)

    async def _ask(
        self, step: str, call: Callable[[str], Awaitable[object]], name: str, *, named: bool
    ) -> str | None:
        """Ask for one thing by name; return what to say, or None when it has been said."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await call(name)
        except NotFound as error:
            if named:
                remedy = error.hint or "check the name, and that it is this user's and this project's"
                self.wrong(step, error.message, remedy, Exit.USAGE)
                return None
            return "can be read"
        except (FleetError, TimeoutError) as error:
            self._failed(step, error)
            return None
        return f"{name} can be read"

    async def _surroundings(self, client: Cloud) -> None:
        """Look at what a preview reads besides, where the cloud has it."""
        name = "surroundings"
        if isinstance(client, KnowsRoom):
            room = await self._optional("disk quota", client.disk_room, "a quota too small is met on the way")
            if room is not None:
                left = "any number" if room.left is None else str(room.left)
                self.well(name, f"disks: {room.used} in use, {left} more allowed; each in flight takes one")
        if isinstance(client, KnowsScaling):
            without = "a member of an auto-scaling group that is stopped is removed by the group"
            groups = await self._optional("auto-scaling groups", client.scaling_groups, without)
            if groups is not None:
                self.well(name, f"auto-scaling groups: {len(groups)} servers are members")
        if isinstance(client, KnowsBackups):
            since = self._clock.now()
            points = await self._optional(
                "backups", lambda: client.backups(since), "`require: {backup: …}` fails"
            )
            if points is not None:
                self.well(name, "backups: can be read")

    async def _optional(self, what: str, call: Callable[[], Awaitable[T]], without: str) -> T | None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await call()
        except (Rejected, TimeoutError, FleetError) as error:
            text = error.message if isinstance(error, FleetError) else "no answer"
            self.odd("surroundings", f"{what} cannot be read: {text}", f"without it, {without}")
        return None

    def _report_unseen(self) -> None:
        unseen = "may servers be stopped, started and reinstalled? No cloud tells before it is asked to"
        self.untried("permissions", unseen, "begin with one server: fleet run PLAN --limit SERVER")

    # how a step ends

    async def _try(
        self, name: str, call: Callable[[], Awaitable[T]], patience_s: float = PATIENCE_S
    ) -> T | None:
        """Return what *call* does, or None and say why not."""
        try:
            async with asyncio.timeout(patience_s):
                return await call()
        except (FleetError, TimeoutError) as error:
            self._failed(name, error)
        return None

    def _failed(self, name: str, error: FleetError | TimeoutError) -> None:
        if isinstance(error, FleetError):
            self.wrong(name, error.message, error.hint, error.exit_code)
        else:
            self.wrong(name, "no answer in time", "try again; or the cloud is down", Exit.CLOUD)

    def well(self, name: str, said: str) -> None:
        """Note what works."""
        self._add(Step(name, Verdict.WELL, said))

    def odd(self, name: str, said: str, remedy: str | None = None) -> None:
        """Note what works, and may surprise."""
        self._add(Step(name, Verdict.ODD, said, remedy))

    def wrong(self, name: str, said: str, remedy: str | None, exit_code: Exit) -> None:
        """Note what does not work."""
        self._add(Step(name, Verdict.WRONG, said, remedy, exit_code))

    def untried(self, name: str, said: str, remedy: str | None = None) -> None:
        """Note what cannot be seen from here."""
        self._add(Step(name, Verdict.UNTRIED, said, remedy))

    def _untried(self, *names: str) -> None:
        for name in names:
            self.untried(name, "not tried, for the reason above")

    def _add(self, step: Step) -> None:
        self.steps.append(step)
        self._report(step)


async def _made(make: Callable[[CloudSettings, Clock], Cloud], cloud: CloudSettings, clock: Clock) -> Cloud:
    return make(cloud, clock)
