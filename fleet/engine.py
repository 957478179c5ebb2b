"""Work through a run: admit servers as `decide` says, drive each by the runbook, write every fact down.

The engine is the only writer of the journal. A fact is on the disk before it is in memory, and in memory
before anybody acts on it. Servers that an earlier life left in flight come first and count from the start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from enum import Enum, auto

from fleet.checks import Checker
from fleet.clock import Clock, cancel_all
from fleet.cloud.api import Cloud, ReinstallOrder
from fleet.context import Context
from fleet.core.events import Admitted, Event, RunDrained, RunFinished, RunHeld, WaveStarted
from fleet.core.model import Server, ServerId
from fleet.core.rollout import decide, upcoming
from fleet.core.state import IN_FLIGHT, Phase, Run, ServerState
from fleet.errors import Exit, FleetError, JournalError
from fleet.journal import Recorder
from fleet.observe import SHORTEST_S, Observer
from fleet.runbook import RUNBOOK, take_step


class _Stop(Enum):
    """How far a life has been told to stop."""

    NO = auto()
    DRAIN = auto()
    NOW = auto()


class Engine:
    """One life of a run.

    Args:
        recorder: Holds the run and writes its facts down.
        order: Makes the parameters of a server's reinstall call.
        own_ids: Ids that the machine we run on may have as a server: never wiped.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        cloud: Cloud,
        clock: Clock,
        checker: Checker,
        order: Callable[[ServerState, Server], ReinstallOrder],
        own_ids: Collection[str] = (),
    ) -> None:
        self.run = run = recorder.run
        self._recorder = recorder
        rate = run.settings.cloud.requests_per_second
        # Polls of a big list may take a quarter of the calls: the rest is for those that act.
        self._observer = Observer(cloud, shortest_s=max(SHORTEST_S, 4 / rate), upcoming=lambda: upcoming(run))
        self._context = Context(
            run=run,
            record=self.record,
            gate=self._gate,
            order=order,
            cloud=cloud,
            observer=self._observer,
            checker=checker,
            clock=clock,
            own_ids=own_ids,
        )
        self._tasks: dict[asyncio.Task[None], ServerId] = {}
        self._wake = asyncio.Event()
        self._stop = _Stop.NO
        self._error: BaseException | None = None

    # -- facts --------------------------------------------------------------------------------------

    def record(self, event: Event) -> None:
        """Record *event*; when it cannot be written, end this life.

        Raises:
            JournalError: The run is over: see `work`.
        """
        try:
            self._recorder.record(event)
        except JournalError as error:
            self._abort(error)
            raise

    def _gate(self) -> None:
        """Raise if nothing may be asked of the cloud any more that changes something."""
        if self._error is not None:
            raise self._error

    # -- the loop -----------------------------------------------------------------------------------

    async def work(self) -> Exit:
        """Go on until everybody is settled, or until nothing may be started and nobody is in flight.

        Raises:
            FleetError: The journal or the cloud cannot be used any more. Servers in flight stay as the
                journal has them; a later life looks at them first.
        """
        try:
            # What an earlier life left half done comes before anything new, and counts from now on.
            for server in self.run.servers.values():
                if server.phase in IN_FLIGHT:
                    self._drive(server)
            while self._stop is not _Stop.NOW and self._error is None:
                self._admit()
                if not self._tasks:
                    break
                await self._wake.wait()
                self._wake.clear()
        finally:
            self._context.end()
            await cancel_all(set(self._tasks))
            await self._observer.close()
        if self._error is not None:
            raise self._error
        return self._finish()

    def _admit(self) -> None:
        """Start whom the run allows to be started, as facts."""
        while True:
            decision = decide(self.run)
            if decision.hold is not None:
                self.record(RunHeld(reason=decision.hold))
                continue
            for server_id in decision.start:
                server = self.run.servers[server_id]
                self._start_wave(server)
                self.record(Admitted(server=server_id))
                self._drive(server)
            return

    def _start_wave(self, server: ServerState) -> None:
        target = self.run.targets[server.member.target]
        wave = target.waves[server.member.wave - 1]
        if not wave.started:
            self.record(
                WaveStarted(
                    target=target.name, wave=server.member.wave, of=len(target.waves), servers=wave.size
                )
            )

    def _drive(self, server: ServerState) -> None:
        task = asyncio.create_task(self._to_the_end(server), name=server.label)
        self._tasks[task] = server.id
        task.add_done_callback(self._driven)

    async def _to_the_end(self, server: ServerState) -> None:
        """Take one server from the phase it is in to the end of its runbook."""
        while server.phase in RUNBOOK:
            await take_step(server, self._context)

    def _driven(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._abort(error)
        self._wake.set()

    def _abort(self, error: BaseException) -> None:
        """End this life: nothing is started, nothing more is asked of the cloud."""
        if self._error is None:
            self._error = error
            # Now, not when `work` gets its turn: a request that is about to be sent must not be.
            self._context.end()
            for task in self._tasks.keys() - {asyncio.current_task()}:
                task.cancel()
        self._wake.set()

    def _finish(self) -> Exit:
        run = self.run
        counts = run.counts()
        if run.is_settled:
            if not run.finished:
                self.record(
                    RunFinished(
                        verified=counts[Phase.VERIFIED],
                        failed=counts[Phase.FAILED],
                        skipped=counts[Phase.SKIPPED],
                    )
                )
            return outcome(run)
        if self._stop is _Stop.NOW:
            return Exit.INTERRUPTED
        return outcome(run)

    # -- from outside -------------------------------------------------------------------------------

    def drain(self, reason: str) -> None:
        """Start nothing more; whoever is in flight is brought to the end."""
        if self._stop is _Stop.NO:
            self._stop = _Stop.DRAIN
            if not self.run.is_settled:
                try:
                    self.record(RunDrained(reason=reason))
                except FleetError:
                    return  # the run is over already, and says so itself
            self._wake.set()

    def stop_now(self) -> None:
        """End this life at once. The cloud goes on with what it was asked; a later life looks first."""
        self._stop = _Stop.NOW
        self._wake.set()


def outcome(run: Run) -> Exit:
    """Return the exit code that a run's state stands for."""
    counts = run.counts()
    if run.is_settled:
        return Exit.FAILED if counts[Phase.FAILED] else Exit.OK
    if run.held is not None:
        return Exit.HELD
    return Exit.UNFINISHED
