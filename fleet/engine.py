"""Work through a run: admit servers as `decide` says, drive each by the runbook, write every fact down.

The engine is the only writer of the journal. A fact is on the disk before it is in memory, and in memory
before anybody acts on it. Servers that an earlier life left in flight come first and count from the start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from enum import Enum, auto
from typing import Protocol

from fleet.checks import Checker
from fleet.chores import Chores
from fleet.clock import Clock, cancel_all
from fleet.cloud.api import Cloud, ReinstallOrder
from fleet.context import Context
from fleet.core.events import (
    Admitted,
    Drained,
    Event,
    GivingUp,
    GroupHeld,
    PaceLowered,
    Paused,
    RunDrained,
    RunFinished,
    RunHeld,
    Unpaused,
)
from fleet.core.model import Server, ServerId
from fleet.core.outside import ANY_TIME, Outside
from fleet.core.rollout import Decision, Kind, Why, approval_awaited, decide, upcoming
from fleet.core.state import IN_FLIGHT, Phase, Run, ServerState, is_payable, owes_undoing
from fleet.debts import pay
from fleet.errors import Exit, FleetError, JournalError
from fleet.hooks import Hooks, NoHooks
from fleet.journal import Recorder
from fleet.machine import LOOK_AGAIN_S
from fleet.observe import Observer
from fleet.rhythm import SHORTEST_S
from fleet.runbook import RUNBOOK, take_step
from fleet.tagging import release

RED_LIMIT_S = 1800.0
"""A gate that is red for half an hour with nobody in flight ends the life: cron comes again, and nobody has
to wonder what waits."""


class Outlook(Protocol):
    """What the clock and the world allow: windows, frozen days, gates.

    Attributes:
        changed: Set whenever `outside` may say something else than before. The engine sets and clears it too.
    """

    changed: asyncio.Event

    def outside(self, run: Run) -> Outside:
        """Return what is known now."""
        ...

    async def fresh(self, run: Run) -> Outside:
        """Return what is so now, having asked."""
        ...


class Slots(Protocol):
    """A limit on servers in flight that goes beyond this run; see `fleet.machine`."""

    def take(self, server: str, *, anyway: bool = False) -> bool:
        """Take a slot; tell whether the server may start."""
        ...

    def give(self, server: str) -> None:
        """Give the slot back."""
        ...


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
        slots: Bounds the servers in flight together with other runs; nothing does by default.
        hooks: Runs the plan's hooks; none are run by default.
        patient: Wait for a window to open and for a person to approve, instead of ending.
    """

    def __init__(  # noqa: PLR0913 - the seams of a life, each with its name
        self,
        recorder: Recorder,
        *,
        cloud: Cloud,
        clock: Clock,
        checker: Checker,
        order: Callable[[ServerState, Server], ReinstallOrder],
        own_ids: Collection[str] = (),
        outlook: Outlook | None = None,
        slots: Slots | None = None,
        hooks: Hooks | None = None,
        patient: bool = False,
    ) -> None:
        self.run = run = recorder.run
        self._outlook: Outlook = outlook or NoOutlook()
        self._patient = patient
        self._slots = slots
        self._crowded = False
        self._recorder = recorder
        rate = run.settings.cloud.requests_per_second
        # Polls yield to who acts (`TakesTurns`); where a cloud's do not, they leave every second call to it.
        self._observer = Observer(cloud, shortest_s=max(SHORTEST_S, 2 / rate), upcoming=lambda: upcoming(run))
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
            hooks=hooks,
            not_now=self._not_now,
        )
        self._tasks: dict[asyncio.Task[None], ServerId] = {}
        self._chores = Chores(
            run,
            context=self._context,
            hooks=hooks or NoHooks(),
            clock=clock,
            outside=lambda: self._outlook.outside(run),
            gate=self._gate,
            ended=self._driven,
        )
        self._red_since: float | None = None
        self._wake = self._outlook.changed  # one for whatever may let somebody start
        self._stop = _Stop.NO
        self._error: BaseException | None = None
        self._syncs_soon = False

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
        if isinstance(event, Drained | GivingUp):
            self._wake.set()  # there is room for the next one to be drained
        self._chores.follow(event)

    def _gate(self) -> None:
        """Have every fact on the disk; raise if nothing may be changed any more. Asked before each change."""
        if self._error is not None:
            raise self._error
        self._make_certain()

    def _make_certain(self) -> None:
        """Have every fact on the disk, in one sync; when that fails, end this life. Raises as `record`."""
        try:
            self._recorder.settle()
        except JournalError as error:
            self._abort(error)
            raise

    def _sync_soon(self) -> None:
        """Have the facts of this pass of the loop on the disk before the next one, whoever acts on them."""
        if not self._syncs_soon:
            self._syncs_soon = True
            asyncio.get_running_loop().call_soon(self._sync_now)

    def _sync_now(self) -> None:
        self._syncs_soon = False
        with suppress(JournalError):  # it has ended this life
            self._make_certain()

    async def _not_now(self) -> str | None:
        """Say why nobody may be wiped at this moment: the run is held, the window closed, a gate red."""
        if self.run.held is not None:
            return f"held: {self.run.held}"
        return (await self._outlook.fresh(self.run)).closed

    # -- the loop -----------------------------------------------------------------------------------

    async def work(self) -> Exit:
        """Go on until everybody is settled, or until nothing may be started and nobody is in flight.

        Raises:
            FleetError: The journal or the cloud cannot be used any more. Servers in flight stay as the
                journal has them; a later life looks at them first.
        """
        self._recorder.later = self._sync_soon
        try:
            # What an earlier life left half done comes before anything new, and counts from now on.
            for server in self.run.servers.values():
                if server.phase in IN_FLIGHT or server.claim is not None or is_payable(server):
                    self._drive(server)
            self._chores.first_of_all()
            while self._stop is not _Stop.NOW and self._error is None:
                decision = self._admit()
                if self._tasks:
                    self._red_since = None
                elif self._is_over(decision):
                    break
                await self._until_woken()
            if self._stop is not _Stop.NOW and self._error is None:
                await self._chores.last_words()
        finally:
            self._context.end()
            await cancel_all({*self._tasks, *self._chores.tasks.values()})
            await self._observer.close()
            self._recorder.later = None
            with suppress(JournalError):
                self._make_certain()
        if self._error is not None:
            raise self._error
        return self._finish()

    async def _until_woken(self) -> None:
        """Wait for a server or a chore to end, for the outlook to change, or for a red gate's patience."""
        at_most = None if self._red_since is None else self._red_since + RED_LIMIT_S - self._time()
        if self._crowded:
            at_most = LOOK_AGAIN_S
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most):
                await self._wake.wait()
        self._wake.clear()

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
            if decision.slower is not None:
                target, most, why = decision.slower
                self.record(PaceLowered(target=target, concurrency=most, reason=why))
                continue
            if self._chores.nobody_new:
                return Decision()
            self._chores.waves_over()
            for target, wave in decision.bake:
                self._chores.bake(target, wave)
            self._crowded = False
            for server_id in decision.start:
                server = self.run.servers[server_id]
                if self._slots is not None and not self._slots.take(server_id):
                    self._crowded = True
                    break
                if not self._chores.start_wave(server):
                    if self._slots is not None:
                        self._slots.give(server_id)
                    continue  # the others may be of other targets, and these have waves of their own
                self._note_pause(None)
                self.record(Admitted(server=server_id))
                self._drive(server)
            crowded = "other runs of this machine fill its limit" if self._crowded else None
            self._note_pause(outside.closed or (None if self._tasks else crowded))
            return decision

    def _note_pause(self, closed: str | None) -> None:
        """Record when nobody new is started for what the journal does not show, and when that is over."""
        run = self.run
        if closed is None:
            if run.paused is not None:
                self.record(Unpaused())
        elif run.paused is None and run.held is None and run.drained is None and run.counts()[Phase.WAITING]:
            self.record(Paused(reason=closed))

    def _is_over(self, decision: Decision) -> bool:
        """Tell whether this life ends, with nobody in flight and nobody to be started."""
        why = decision.waits
        if self._stop is _Stop.DRAIN or self.run.is_settled or self.run.held is not None:
            return True
        if self._crowded:
            return False
        if self._chores.tasks:
            # A bake goes on in a closed window only if somebody waits for the next one anyway.
            return self._outlook.outside(self.run).final and not self._patient and self._chores.only_bake
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

    def _drive(self, server: ServerState) -> None:
        if self._slots is not None:
            self._slots.take(server.id, anyway=True)
        task = asyncio.create_task(self._to_the_end(server), name=server.label)
        self._tasks[task] = server.id
        task.add_done_callback(self._driven)

    async def _to_the_end(self, server: ServerState) -> None:
        """Take one server from the phase it is in to the end of its runbook."""
        settled_now = False
        while server.phase in RUNBOOK:
            await take_step(server, self._context)
            settled_now = True
        if is_payable(server) and not settled_now:  # what an earlier life could not pay
            await pay(server, self._context)
        await release(server, self._context)
        self._context.forget(server)

    def _driven(self, task: asyncio.Task[None]) -> None:
        server = self._tasks.pop(task, None)
        if server is not None and self._slots is not None:
            self._slots.give(server)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._abort(error)
        self._wake.set()

    def _abort(self, error: BaseException) -> None:
        """End this life: nothing is started, nothing more is asked of the cloud."""
        if self._error is None:
            self._error = error
            # Now, not when `work` gets its turn: a request that is about to be sent must not be.
            self._context.end()
            for task in {*self._tasks, *self._chores.tasks.values()} - {asyncio.current_task()}:
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
            done = change(self.run, self.record)
            self._make_certain()
            return done
        finally:
            self._wake.set()

    def drain(self, reason: str) -> None:
        """Start nothing more; whoever is in flight is brought to the end."""
        if self._stop is _Stop.NO:
            self._stop = _Stop.DRAIN
            if not self.run.is_settled:
                try:
                    self.record(RunDrained(reason=reason))
                    self._make_certain()
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
        # Who was left alone because somebody has changed it is not reinstalled, and nobody was asked.
        if counts[Phase.FAILED] or any(
            server.changed or owes_undoing(server) for server in run.servers.values()
        ):
            return Exit.FAILED
        return Exit.UNFINISHED if run.owes else Exit.OK
    if run.held is not None:
        return Exit.HELD
    if run.drained is None and not run.in_flight and approval_awaited(run) is not None:
        return Exit.APPROVAL
    return Exit.UNFINISHED
