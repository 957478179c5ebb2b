"""Pay what a run owes, and do nothing else: undo what its hooks have done, start whom it has stopped.

For a run that nobody wants to go on with now, and for servers that failed after their wipe: nobody undoes
anything there by itself, since a broken server must not get traffic.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from fleet.clock import Clock, cancel_all
from fleet.cloud.api import Cloud, ReinstallOrder
from fleet.context import Context
from fleet.core.events import Event
from fleet.core.model import Server
from fleet.core.settings import Check
from fleet.core.state import SETTLED, Phase, Run, ServerState, owes_undoing
from fleet.debts import pay
from fleet.errors import FleetError, JournalError
from fleet.hooks import Hooks
from fleet.journal import Recorder
from fleet.observe import Observer
from fleet.rhythm import SHORTEST_S
from fleet.runbook import take_step
from fleet.tagging import release

AT_ONCE = 20
"""Servers that are given back at the same time: pools and monitoring are asked by nobody else just now."""

NOT_WIPED = (Phase.DRAINING, Phase.STOPPING, Phase.STOPPED)


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one server.

    Attributes:
        why: What could not be paid, and why; None: nothing is owed any more.
    """

    server: ServerState
    why: str | None


def is_open(server: ServerState) -> bool:
    """Tell whether something is owed to a server that can be paid without going on with it."""
    if server.phase in NOT_WIPED:
        return server.wiped is False and (bool(server.owed) or server.stopped_by_us)
    if server.phase is Phase.RETURNING:
        return True
    return (server.phase in SETTLED or server.phase is Phase.WAITING) and owes_undoing(server)


def failed_after_its_wipe(server: ServerState) -> bool:
    """Tell whether a server is owed something, and may be broken."""
    return server.phase is Phase.FAILED and not server.untouched and owes_undoing(server)


def in_the_clouds_hands(run: Run) -> list[ServerState]:
    """Return those in flight that only going on with the run can bring to an end."""
    flying = (server for server in run.servers.values() if server.phase not in (*SETTLED, Phase.WAITING))
    return [server for server in flying if not is_open(server) and server.owed]


class _Nothing:
    """There is nothing to check."""

    async def run(self, check: Check, server: Server) -> str | None:
        del check, server
        return None


def _no_order(server: ServerState, seen: Server) -> ReinstallOrder:
    raise AssertionError(f"{server.label} ({seen.state()}) is to be wiped by a settlement")


class Settlement:
    """Settles debts of one run.

    Args:
        recorder: Holds the run and writes its facts down.
        hooks: Runs the plan's hooks.
    """

    def __init__(self, recorder: Recorder, *, cloud: Cloud, clock: Clock, hooks: Hooks) -> None:
        self._recorder = recorder
        self._error: BaseException | None = None
        run = recorder.run
        rate = run.settings.cloud.requests_per_second
        self._observer = Observer(cloud, shortest_s=max(SHORTEST_S, 4 / rate))
        self._context = Context(
            run=run,
            record=self._record,
            gate=self._gate,
            order=_no_order,
            cloud=cloud,
            observer=self._observer,
            checker=_Nothing(),
            clock=clock,
            hooks=hooks,
        )

    async def settle(self, servers: Sequence[ServerState]) -> list[Settled]:
        """Pay what is owed to *servers*.

        Raises:
            FleetError: The journal or the cloud cannot be used any more. What is not paid stays owed.
        """
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(server: ServerState) -> Settled:
            async with turns:
                return Settled(server, await self._settle(server))

        tasks = [asyncio.create_task(one(server), name=server.label) for server in servers]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            self._context.end()
            await cancel_all(set(tasks))
            await self._observer.close()

    async def _settle(self, server: ServerState) -> str | None:
        context = self._context
        if server.phase in NOT_WIPED:
            context.put_back(server, "settled before it was wiped")
        why: str | None = None
        if server.phase is Phase.RETURNING:
            while server.phase is Phase.RETURNING:
                await take_step(server, context)
            why = server.hint if owes_undoing(server) else None
        else:
            why = await pay(server, context)
        await release(server, context)
        return (why or "something is still owed") if owes_undoing(server) else None

    def _record(self, event: Event) -> None:
        try:
            self._recorder.record(event)
        except JournalError as error:
            self._error = error
            raise

    def _gate(self) -> None:
        if self._error is not None:
            raise self._error if isinstance(self._error, FleetError) else JournalError(str(self._error))
