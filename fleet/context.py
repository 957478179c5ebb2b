"""What a step may do to the world: look, wait, ask, record. A few verbs, and no others.

Steps that keep to these run the same on real sockets, on virtual time, and one day on another engine.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property, partial

import msgspec

from fleet.backups import WayBack, check_backup
from fleet.checks import Checker
from fleet.clock import Clock
from fleet.cloud.api import Accepted, CanTag, Cloud, ReinstallOrder, TakesTurns
from fleet.commands import Ran
from fleet.core.claimtag import ClaimTag, claim_tag
from fleet.core.events import Event, Failed, GivingUp, Skipped
from fleet.core.facts import nonce_of
from fleet.core.model import Job, Server, ServerId
from fleet.core.settings import Check, NonceCheck, Settings, Target
from fleet.core.state import Phase, Run, ServerState
from fleet.errors import CloudError, NotFound, Rejected
from fleet.hooks import Hooks, NoHooks, facts_of_server, filled
from fleet.observe import Observer

GATHER_S, GATHER_STARTS_S = 0.005, 0.05
"""How long a stop or start waits for others to share its call. Those whom one read woke ask to be stopped at
once; whoever is to be started has each had a look of its own before, and these come one after another."""

MAX_BATCH = 500
"""Servers in one batch call: half of what the cloud takes in a minute (ECS API reference)."""


_BOOTING = (
    Phase.REQUESTED, Phase.REINSTALLING, Phase.REINSTALLED, Phase.STARTING, Phase.VERIFYING,
)  # fmt: skip


async def _any_time() -> str | None:
    return None


class Context:
    """The verbs, for all steps of one life of a run.

    Args:
        run: Read only here; `record` changes it.
        record: Writes an event down, then folds it into the run.
        gate: Has every recorded fact on the disk. Raises when nothing may be changed any more, since the
            journal is broken or the run is over.
        order: Makes the reinstall call's parameters for a server, secrets included.
        own_ids: Ids that the machine we run on may have as a server.
        hooks: Runs the plan's hooks; none by default.
        not_now: Says why nobody may be wiped at the moment.
    """

    def __init__(  # noqa: PLR0913 - the seams of a step, each with its name
        self,
        *,
        run: Run,
        record: Callable[[Event], None],
        gate: Callable[[], None],
        order: Callable[[ServerState, Server], ReinstallOrder],
        cloud: Cloud,
        observer: Observer,
        checker: Checker,
        clock: Clock,
        own_ids: Collection[str] = (),
        hooks: Hooks | None = None,
        not_now: Callable[[], Awaitable[str | None]] | None = None,
    ) -> None:
        self._hooks: Hooks = hooks or NoHooks()
        self._not_now = not_now or _any_time
        self.own_ids = own_ids
        self.record = record
        self.order = order
        self._run = run
        self._gate = gate
        self._cloud = cloud
        self._turns = cloud if isinstance(cloud, TakesTurns) else None
        self._observer = observer
        self._checker = checker
        self._clock = clock
        self.claimed: set[ServerId] = set()  # by this life
        self._host = socket.gethostname()
        self._since: dict[ServerId, dict[str, float]] = {}
        self._stops = {force: Batch(partial(self._stop_all, force=force)) for force in (False, True)}
        self._starts = Batch(self._start_all, gather_s=GATHER_STARTS_S)

    def end(self) -> None:
        """Ask for nothing more in calls that are shared, and so belong to no step; their retries included."""
        for batch in (*self._stops.values(), self._starts):
            batch.end()

    # -- record -------------------------------------------------------------------------------------

    def fail(
        self, server: ServerState, reason: str, *, hint: str = "", cause: CloudError | None = None,
        untouched: bool = False, code: str | None = None,
    ) -> None:  # fmt: skip
        """Give the server up, with the cloud's own words when there are any.

        Args:
            server: Whom.
            reason: What happened.
            hint: What to do about it.
            cause: What the cloud said.
            untouched: Its old installation is there: it is put back as it was found.
            code: The cloud's code of an earlier answer, where no cause is at hand.
        """
        hint = hint or (cause.hint if cause and cause.hint else "")
        if not untouched and server.noted is not None and server.noted.backup:
            back = f"its old system is in backup {server.noted.backup}"
            hint = f"{hint}; {back}" if hint else back
        words = {
            "server": server.id,
            "reason": reason,
            "hint": hint,
            "code": cause.code if cause else code,
            "request_id": cause.request_id if cause else None,
            "everybody": isinstance(cause, Rejected) and cause.everybody,
        }
        owes = server.stopped_by_us or server.owed
        if untouched and owes and server.giving_up is None and not isinstance(cause, NotFound):
            return self.record(GivingUp(**words))  # type: ignore[arg-type]  # the same fields as below
        return self.record(Failed(**words, untouched=untouched))  # type: ignore[arg-type]

    def leave(self, server: ServerState, difference: str, hint: str) -> None:
        """Leave a server alone that is not the one any more that was planned for.

        It is nobody's failure, and spends no budget: somebody else has decided. What we did to it is undone.
        A server that we have wiped before cannot be left alone: it has failed.

        Args:
            server: Whom.
            difference: The two facts, side by side.
            hint: What to do about it.
        """
        reason = f"changed since planned: {difference}"
        if server.wiped is not False:
            return self.fail(server, reason, hint=hint)
        if server.stopped_by_us or server.owed:
            return self.record(GivingUp(server=server.id, reason=reason, hint=hint, skip=True))
        return self.record(Skipped(server=server.id, reason=reason, hint=hint, changed=True))

    def put_back(self, server: ServerState, reason: str) -> None:
        """Leave a server that was not wiped for another time: it is put back, and waits again."""
        self.record(GivingUp(server=server.id, reason=reason, back=True))

    @property
    def held(self) -> str | None:
        """Return why the run is held, or None."""
        return self._run.held

    async def not_now(self) -> str | None:
        """Say why nobody may be wiped at this moment, on fresh readings; None when it may be done."""
        return await self._not_now()

    async def hook(
        self, server: ServerState, hook: str, argv: Sequence[str], timeout_s: float, *, debt: str = ""
    ) -> Ran:
        """Run a hook about a server."""
        await self._certain()
        known = facts_of_server(self._run, server) | ({"number": debt} if debt else {})
        try:
            words = filled(argv, server)
        except ValueError as error:
            return Ran(why=f"{hook}: {error}", begun=False)
        name = f"{hook}-{debt}" if debt else hook
        return await self._hooks.run(name, words, known, timeout_s, self.target(server).hooks.env)

    def settle_s(self, server: ServerState) -> float:
        """Return how long a request of the server's plan can live."""
        return self._run.target(server).reinstall.settle_s

    def target(self, server: ServerState) -> Target:
        """Return the settings of the server's target."""
        return self._run.target(server)

    def has_room_to_drain(self) -> bool:
        """Tell whether one more may be drained by the plan's `limits.draining`, if it has one."""
        most = self._run.settings.limits.draining
        drained = sum(each.phases[Phase.DRAINING] for each in self._run.targets.values())
        return most is None or drained < most

    def has_room_to_boot(self) -> bool:
        """Tell whether one more may be wiped by the plan's `limits.booting`, if it has one.

        When the cloud starts a server that it has installed nobody can say, so it counts from its request on.
        """
        most = self._run.settings.limits.booting
        if most is None:
            return True
        return sum(each.phases[phase] for each in self._run.targets.values() for phase in _BOOTING) < most

    @property
    def settings(self) -> Settings:
        """Return the plan in force."""
        return self._run.settings

    @property
    def run_id(self) -> str:
        """Return the run's id."""
        return self._run.id

    @property
    def life(self) -> int:
        """Return which of the run's lives this is, from 1."""
        return self._run.lives

    @cached_property
    def _nonce(self) -> str:
        """A word that no other life has, of a copy of this run neither; on virtual time always the same."""
        clock = self._clock
        born = f"{self.run_id} {self.life} {self._host} {os.getpid()} {clock.now()} {clock.boottime()}"
        return hashlib.sha256(born.encode()).hexdigest()[:16]

    def claim_tag(self) -> ClaimTag:
        """Return the claim that this life would make now."""
        return claim_tag(self.run_id, self.life, self._host, self._nonce, self.now())

    # -- time ---------------------------------------------------------------------------------------

    def watched(self, server: ServerState, what: str = "") -> float:
        """Return the seconds for which *what* (default: the server's phase) has been watched in this life.

        Counts from the first time it is asked for, so from the later of phase entered and run resumed,
        and stands still while the cloud cannot be read.
        """
        key = what or f"{server.phase}/{server.sent}/{server.accepted}"
        now = self._observer.watched()
        return now - self._since.setdefault(server.id, {}).setdefault(key, now)

    def forget(self, server: ServerState) -> None:
        """Keep no times of a server any more: it is settled, and there may be a hundred thousand of them."""
        self._since.pop(server.id, None)

    def boottime(self) -> float:
        """Return the clock that also runs while the machine is suspended."""
        return self._clock.boottime()

    def now(self) -> datetime:
        """Return the time of day, UTC."""
        return self._clock.now().astimezone(UTC)

    @staticmethod
    async def sleep(seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    # -- look ---------------------------------------------------------------------------------------

    async def look(self, server: ServerState) -> Server:
        """Read the server now."""
        return await self._observer.look(server.id)

    async def glance(self, server: ServerState) -> Server:
        """Read the server soon, in one call with others where that is cheaper. Not for the last look."""
        return await self._observer.glance(server.id)

    async def until(
        self,
        server: ServerState,
        wanted: Callable[[Server], bool],
        within_s: float,
        *,
        teaches: str = "",
        so_far_s: float = 0.0,
        recent: bool = False,
        soon: bool = False,
    ) -> Server | None:
        """Wait until a new read shows *wanted*; None after *within_s*. The rest: see `Observer.until`."""
        return await self._observer.until(
            server.id, wanted, within_s, teaches=teaches, so_far_s=so_far_s, recent=recent, soon=soon
        )

    def nearly_all_s(self, kind: str) -> float | None:
        """Return how long all but the longest tenth of such waits took; None when too few are known."""
        return self._observer.nearly_all_s(kind)

    async def job(self, server: ServerState) -> Job | None:
        """Read the server's job now; None when the cloud does not know it."""
        return await self._observer.job(server.job) if server.job else None

    async def check(self, check: Check, seen: Server) -> str | None:
        """Run one of the plan's checks; None when it passes."""
        if isinstance(check, NonceCheck):
            check = msgspec.structs.replace(check, expected=nonce_of(self._run.id, seen.id))
        return await self._checker.run(check, seen)

    async def way_back(self, server: ServerState) -> WayBack:
        """Look for the backup that the plan requires before the server is wiped for the first time."""
        wanted = self.target(server).require_backup
        if wanted is None or server.wiped is not False:
            return WayBack(id=server.noted.backup if server.noted else "")
        seen = await self.glance(server)
        return await check_backup(wanted, seen, cloud=self._cloud, run=self.check, now=self.now())

    # -- ask ----------------------------------------------------------------------------------------

    async def power_off(self, server: ServerState, *, force: bool) -> None:
        """Ask for the server to be stopped, together with others that are asked for now."""
        await self._stops[force](server.id)

    async def power_on(self, server: ServerState) -> None:
        """Ask for the server to be started, together with others."""
        await self._starts(server.id)

    async def tag(self, server: ServerState, tags: Mapping[str, str]) -> None:
        """Set tags of the server."""
        await self._certain()
        await self._tagger().tag(server.id, tags)

    async def untag(self, server: ServerState, keys: Sequence[str]) -> None:
        """Take tags off the server."""
        await self._certain()
        await self._tagger().untag(server.id, keys)

    def _tagger(self) -> CanTag:
        if isinstance(self._cloud, CanTag):
            return self._cloud
        raise Rejected("this cloud's servers cannot be tagged", hint="take `claim` out of the plan")

    async def turn_to_wipe(self) -> None:
        """Wait until the cloud would take a wipe at once, where its client can tell. Before announcing it."""
        if self._turns is not None:
            await self._turns.turn_to_wipe()

    async def reinstall(self, order: ReinstallOrder, *, send_by: float, timeout_s: float) -> Accepted:
        """Make the one call that must not be made twice. Announce it first."""
        await self._certain()
        return await self._cloud.reinstall(order, send_by=send_by, timeout_s=timeout_s)

    async def _certain(self) -> None:
        """Return once what was recorded is certain.

        Others whose turn it is record theirs first, so that one sync does for everybody.
        """
        await asyncio.sleep(0)
        self._gate()

    async def _stop_all(self, servers: Sequence[ServerId], *, force: bool) -> None:
        self._gate()
        await self._cloud.stop(servers, force=force)

    async def _start_all(self, servers: Sequence[ServerId]) -> None:
        self._gate()
        await self._cloud.start(servers)


class Batch:
    """Gathers what is asked for at about the same time into one call.

    A batch that is refused as a whole is asked for again server by server, since one odd server may have
    spoilt it. Only for calls that are safe to repeat.
    """

    def __init__(
        self, call: Callable[[Sequence[ServerId]], Awaitable[object]], *, gather_s: float = GATHER_S
    ) -> None:
        self._call = call
        self._gather_s = gather_s
        self._asked: dict[ServerId, asyncio.Future[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, server: ServerId) -> None:
        """Ask for *server*; return when the cloud took it, raise what it said otherwise."""
        future = self._asked.get(server)
        if future is None:
            future = self._asked[server] = asyncio.get_running_loop().create_future()
            if len(self._asked) == 1:
                task = asyncio.create_task(self._flush(), name="batch")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        await asyncio.shield(future)

    def end(self) -> None:
        """Cancel what is under way."""
        for task in self._tasks:
            task.cancel()

    async def _flush(self) -> None:
        await asyncio.sleep(self._gather_s)
        asked, self._asked = self._asked, {}
        servers = list(asked)
        for start in range(0, len(servers), MAX_BATCH):
            await self._ask({server: asked[server] for server in servers[start : start + MAX_BATCH]})

    async def _ask(self, asked: dict[ServerId, asyncio.Future[None]]) -> None:
        try:
            await self._call(list(asked))
        except Rejected as error:
            if len(asked) == 1 or error.everybody:
                _settle(asked, error)
            else:
                for server, future in asked.items():
                    await self._ask({server: future})
        except Exception as error:  # noqa: BLE001 - it belongs to those who asked
            _settle(asked, error)
        else:
            _settle(asked, None)


def _settle(asked: dict[ServerId, asyncio.Future[None]], error: Exception | None) -> None:
    for future in asked.values():
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
            future.exception()  # whoever asked may be gone: then nobody else has to hear of it
