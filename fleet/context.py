"""What a step may do to the world: look, wait, ask, record. A few verbs, and no others.

Steps that keep to these run the same on real sockets, on virtual time, and one day on another engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime
from functools import partial

from fleet.checks import Checker
from fleet.clock import Clock
from fleet.cloud.api import Accepted, Cloud, ReinstallOrder
from fleet.core.events import Event, Failed
from fleet.core.model import Job, Server, ServerId
from fleet.core.settings import Check, Settings, Target
from fleet.core.state import Run, ServerState
from fleet.errors import CloudError, Rejected
from fleet.observe import Observer

GATHER_S = 0.02
"""How long a stop or start waits for others to share its call: those whom one read woke ask at once."""

MAX_BATCH = 500
"""Servers in one batch call: half of what the cloud takes in a minute (ECS API reference)."""


class Context:
    """The verbs, for all steps of one life of a run.

    Args:
        run: Read only here; `record` changes it.
        record: Writes an event down, then folds it into the run.
        gate: Raises when nothing may be changed any more, since the journal is broken or the run is over.
        order: Makes the reinstall call's parameters for a server, secrets included.
        own_ids: Ids that the machine we run on may have as a server.
    """

    def __init__(
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
    ) -> None:
        self.own_ids = own_ids
        self.record = record
        self.order = order
        self._run = run
        self._gate = gate
        self._cloud = cloud
        self._observer = observer
        self._checker = checker
        self._clock = clock
        self._since: dict[tuple[ServerId, str], float] = {}
        self._stops = {force: Batch(partial(self._stop_all, force=force)) for force in (False, True)}
        self._starts = Batch(self._start_all)

    def end(self) -> None:
        """Ask for nothing more in calls that are shared, and so belong to no step; their retries included."""
        for batch in (*self._stops.values(), self._starts):
            batch.end()

    # -- record -------------------------------------------------------------------------------------

    def fail(
        self, server: ServerState, reason: str, *, hint: str = "", cause: CloudError | None = None,
        untouched: bool = False,
    ) -> None:  # fmt: skip
        """Give the server up, with the cloud's own words when there are any."""
        if untouched and server.stopped_by_us:
            hint = "; ".join(part for part in (hint, "it was stopped for this, and is left off") if part)
        self.record(
            Failed(
                server=server.id,
                reason=reason,
                hint=hint or (cause.hint if cause and cause.hint else ""),
                code=cause.code if cause else None,
                request_id=cause.request_id if cause else None,
                everybody=isinstance(cause, Rejected) and cause.everybody,
                untouched=untouched,
            )
        )

    def target(self, server: ServerState) -> Target:
        """Return the settings of the server's target."""
        return self._run.target(server)

    @property
    def settings(self) -> Settings:
        """Return the plan in force."""
        return self._run.settings

    # -- time ---------------------------------------------------------------------------------------

    def watched(self, server: ServerState, what: str = "") -> float:
        """Return the seconds for which *what* (default: the server's phase) has been watched in this life.

        Counts from the first time it is asked for, so from the later of phase entered and run resumed,
        and stands still while the cloud cannot be read.
        """
        key = what or f"{server.phase}/{server.sent}/{server.accepted}"
        now = self._observer.watched()
        return now - self._since.setdefault((server.id, key), now)

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
        teaches: bool = False,
        recent: bool = False,
    ) -> Server | None:
        """Wait until a new read shows *wanted*; None after *within_s*. The rest: see `Observer.until`."""
        return await self._observer.until(server.id, wanted, within_s, teaches=teaches, recent=recent)

    async def job(self, server: ServerState) -> Job | None:
        """Read the server's job now; None when the cloud does not know it."""
        return await self._observer.job(server.job) if server.job else None

    async def check(self, check: Check, seen: Server) -> str | None:
        """Run one of the plan's checks; None when it passes."""
        return await self._checker.run(check, seen)

    # -- ask ----------------------------------------------------------------------------------------

    async def power_off(self, server: ServerState, *, force: bool) -> None:
        """Ask for the server to be stopped, together with others that are asked for now."""
        await self._stops[force](server.id)

    async def power_on(self, server: ServerState) -> None:
        """Ask for the server to be started, together with others."""
        await self._starts(server.id)

    async def reinstall(self, order: ReinstallOrder, *, send_by: float, timeout_s: float) -> Accepted:
        """Make the one call that must not be made twice. Announce it first."""
        self._gate()
        return await self._cloud.reinstall(order, send_by=send_by, timeout_s=timeout_s)

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

    def __init__(self, call: Callable[[Sequence[ServerId]], Awaitable[object]]) -> None:
        self._call = call
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
        await asyncio.sleep(GATHER_S)
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
