"""Work through a run: admit servers as `decide` says, drive each by the runbook, write every fact down.

The engine is the only writer of the journal. A fact is on the disk before it is in memory, and in memory
before anybody acts on it. Servers that an earlier life left in flight come first and count from the start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable
from datetime import timedelta
from enum import Enum, auto
from itertools import islice
from typing import Protocol

from fleet.bake import SAMPLE, look_again
from fleet.checks import Checker
from fleet.clock import Clock, cancel_all
from fleet.cloud.api import Cloud, ReinstallOrder
from fleet.context import Context
from fleet.core.events import (
    Admitted,
    Event,
    GroupHeld,
    RunDrained,
    RunFinished,
    RunHeld,
    WaveBaked,
    WaveStarted,
    WentBad,
)
from fleet.core.model import Server, ServerId
from fleet.core.outside import ANY_TIME, Outside
from fleet.core.rollout import Decision, Kind, Why, approval_awaited, decide, upcoming
from fleet.core.state import IN_FLIGHT, Phase, Run, ServerState
from fleet.errors import Exit, FleetError, JournalError
from fleet.journal import Recorder
from fleet.observe import SHORTEST_S, Observer
from fleet.runbook import RUNBOOK, take_step

RED_LIMIT_S = 1800.0
"""A gate that is red for half an hour with nobody in flight ends the life: cron comes again, and nobody has
to wonder what waits."""

BAKE_LOOK_S = 30.0
"""How often a baking wave's surroundings are looked at, and a bound on what a jump of the clock can cost."""


class Outlook(Protocol):
    """What the clock and the world allow: windows, frozen days, gates.

    Attributes:
        changed: Set whenever `outside` may say something else than before.
    """

    changed: asyncio.Event

    def outside(self, run: Run) -> Outside:
        """Return what is known now."""
        ...

    async def fresh(self, run: Run) -> Outside:
        """Return what is so now, having asked."""
        ...


_CATCH_UP = "look again at the finished ones"


class NoOutlook:
    """Of a plan without windows, frozen days and gates."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()

    def outside(self, run: Run) -> Outside:
        """Return that everything may be done."""
        del run
        return ANY_TIME

    async def fresh(self, run: Run) -> Outside:
        """Return that everything may be done."""
        return self.outside(run)


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
        outlook: When servers may be started; at any time by default.
        patient: Wait for a window to open and for a person to approve, instead of ending.
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
        outlook: Outlook | None = None,
        patient: bool = False,
    ) -> None:
        self.run = run = recorder.run
        self._clock = clock
        self._outlook: Outlook = outlook or NoOutlook()
        self._patient = patient
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
        self._chores: dict[str, asyncio.Task[None]] = {}
        self._red_since: float | None = None
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
            self._look_again_later()
            while self._stop is not _Stop.NOW and self._error is None:
                decision = self._admit()
                if not self._tasks and self._is_over(decision):
                    break
                await self._until_woken()
        finally:
            self._context.end()
            await cancel_all({*self._tasks, *self._chores.values()})
            await self._observer.close()
        if self._error is not None:
            raise self._error
        return self._finish()

    async def _until_woken(self) -> None:
        """Wait for a server or a chore to end, for the outlook to change, or for a red gate's patience."""
        waits = {asyncio.ensure_future(event.wait()) for event in (self._wake, self._outlook.changed)}
        try:
            red = None if self._red_since is None else self._red_since + RED_LIMIT_S - self._time()
            await asyncio.wait(waits, timeout=red, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self._wake.clear()
        self._outlook.changed.clear()

    def _admit(self) -> Decision:
        """Start whom the run allows to be started, as facts; return what was decided in the end."""
        while True:
            outside = self._outlook.outside(self.run)
            decision = decide(self.run, outside)
            if decision.hold is not None:
                self.record(RunHeld(reason=decision.hold))
                continue
            if decision.group is not None:
                group, reason = decision.group
                self.record(GroupHeld(group=group, reason=reason))
                continue
            if _CATCH_UP in self._chores:  # the finished ones are asked first
                return Decision()
            for target, wave in decision.bake:
                self._do(f"bake/{target}/{wave}", lambda target=target, wave=wave: self._bake(target, wave))  # type: ignore[misc]  # a lambda that binds its loop variables
            for server_id in decision.start:
                server = self.run.servers[server_id]
                self._start_wave(server)
                self.record(Admitted(server=server_id))
                self._drive(server)
            return decision

    def _is_over(self, decision: Decision) -> bool:
        """Tell whether this life ends, with nobody in flight and nobody to be started."""
        why = decision.waits
        if self._stop is _Stop.DRAIN or self.run.is_settled or self.run.held is not None:
            return True
        if self._chores:
            # A bake goes on in a closed window only if somebody waits for the next one anyway.
            return (
                self._outlook.outside(self.run).final and not self._patient and _CATCH_UP not in self._chores
            )
        if why is None:
            return True
        if why.kind is Kind.GATE:
            self._red_since = self._time() if self._red_since is None else self._red_since
            if self._time() - self._red_since < RED_LIMIT_S or self._patient:
                return False
            why = Why(why.kind, f"{why.words}, for {RED_LIMIT_S / 60:.0f} min")
        elif self._patient and why.kind in {Kind.WINDOW, Kind.APPROVAL}:
            return False
        self._red_since = None
        if why.kind is not Kind.STATE and why.kind is not Kind.APPROVAL:
            self.record(RunDrained(reason=why.words))
        return True

    @staticmethod
    def _time() -> float:
        return asyncio.get_running_loop().time()

    def _start_wave(self, server: ServerState) -> None:
        target = self.run.targets[server.member.target]
        wave = target.waves[server.member.wave - 1]
        if not wave.started:
            self.record(
                WaveStarted(
                    target=target.name, wave=server.member.wave, of=len(target.waves), servers=wave.size
                )
            )

    # -- looking again ------------------------------------------------------------------------------

    def _do(self, name: str, chore: Callable[[], Coroutine[None, None, None]]) -> None:
        """Do something beside the servers' ways, unless it is being done."""
        if name in self._chores:
            return
        task = asyncio.create_task(chore(), name=name)
        self._chores[name] = task

        def done(task: asyncio.Task[None]) -> None:
            self._chores.pop(name, None)
            self._driven(task)

        task.add_done_callback(done)

    def _look_again_later(self) -> None:
        """In a later life ask the finished servers of every target that bakes, before anything is started."""
        verified = [
            server
            for server in self.run.servers.values()
            if server.phase is Phase.VERIFIED and self.run.target(server).rollout.bake_s > 0
        ]
        if self.run.lives > 1 and verified:
            self._do(_CATCH_UP, lambda: self._look_again(verified))

    async def _bake(self, name: str, number: int) -> None:
        """Leave a settled wave alone for its time, then look at it again, and at a sample of earlier ones."""
        target = self.run.targets[name]
        settled_at = target.waves[number - 1].settled_at
        bake_s = self.run.plan_of(name).rollout.bake_s
        # The time since counts, also that in which no process ran; a clock that jumps costs one bake at most.
        gone = (self._clock.now() - settled_at) if settled_at else timedelta()
        left = min(bake_s, max(0.0, bake_s - gone.total_seconds()))
        until = self._time() + left
        while (rest := until - self._time()) > 0:
            await asyncio.sleep(min(rest, BAKE_LOOK_S))
            outside = self._outlook.outside(self.run)
            if outside.closed is not None and not outside.final:
                self._hold(f"{outside.closed}, while wave {number} of {name} was baking")
                return
        servers = [each for each in self.run.servers.values() if each.phase is Phase.VERIFIED]
        mine = [each for each in servers if each.member.target == name]
        wave = [each for each in mine if each.member.wave == number]
        earlier = [each for each in mine if each.member.wave < number]
        step = max(1, len(earlier) // SAMPLE)
        await self._look_again([*wave, *islice(earlier[::step], SAMPLE)])
        self.record(WaveBaked(target=name, wave=number))

    async def _look_again(self, servers: Iterable[ServerState]) -> None:
        """Look at verified servers again; who is not well has gone bad, and counts as failed."""
        at_once = asyncio.Semaphore(50)

        async def one(server: ServerState) -> None:
            async with at_once:
                wrong = await look_again(server, self._context)
            if wrong is not None:
                self.record(WentBad(server=server.id, reason=f"went bad after it was verified: {wrong}"))

        async with asyncio.TaskGroup() as group:
            for server in servers:
                group.create_task(one(server))

    def _hold(self, reason: str, by: str = "") -> None:
        if self.run.held is None:
            self.record(RunHeld(reason=reason, by=by))

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
            for task in {*self._tasks, *self._chores.values()} - {asyncio.current_task()}:
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

    def steer(self, change: Callable[[Run, Callable[[Event], None]], str]) -> str:
        """Let a person's decision be recorded, and act upon it; return what was done, in words.

        Raises:
            PlanError: It cannot be done as the run stands.
        """
        try:
            return change(self.run, self.record)
        finally:
            self._wake.set()

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
    if run.drained is None and not run.in_flight and approval_awaited(run) is not None:
        return Exit.APPROVAL
    return Exit.UNFINISHED
