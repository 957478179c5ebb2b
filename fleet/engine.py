"""Work through a run: admit servers as `decide` says, drive each by the runbook, write every fact down.

The engine is the only writer of the journal. A fact is on the disk before it is in memory, and in memory
before anybody acts on it. Servers that an earlier life left in flight come first and count from the start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable
from contextlib import suppress
from datetime import timedelta
from enum import Enum, auto
from functools import cached_property, partial
from typing import Protocol

from fleet.bake import look_again, whom_to_look_at
from fleet.checks import Checker
from fleet.clock import Clock, cancel_all
from fleet.cloud.api import Cloud, ReinstallOrder
from fleet.context import Context
from fleet.core.events import (
    Admitted,
    Drained,
    Event,
    Failed,
    GivingUp,
    GroupHeld,
    HookFailed,
    PaceLowered,
    Paused,
    RunDrained,
    RunFinished,
    RunHeld,
    Unpaused,
    WaveBaked,
    WaveStarted,
    WentBad,
)
from fleet.core.model import Server, ServerId
from fleet.core.outside import ANY_TIME, Outside
from fleet.core.rollout import Decision, Kind, Why, approval_awaited, decide, upcoming
from fleet.core.state import IN_FLIGHT, Phase, Run, ServerState, is_payable, owes_undoing
from fleet.debts import pay
from fleet.errors import Exit, FleetError, JournalError
from fleet.hooks import Hooks, NoHooks, commands_of, run_hook
from fleet.journal import Recorder
from fleet.machine import LOOK_AGAIN_S
from fleet.observe import Observer
from fleet.rhythm import SHORTEST_S
from fleet.runbook import RUNBOOK, take_step
from fleet.tagging import release

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


class Slots(Protocol):
    """A limit on servers in flight that goes beyond this run; see `fleet.machine`."""

    def take(self, server: str, *, anyway: bool = False) -> bool:
        """Take a slot; tell whether the server may start."""
        ...

    def give(self, server: str) -> None:
        """Give the slot back."""
        ...


_CATCH_UP, _BEFORE_RUN, _BAKE = "look again at the finished ones", "before_run", "bake/"
_FIRST = frozenset({_CATCH_UP, _BEFORE_RUN})


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
        self._clock = clock
        self._outlook: Outlook = outlook or NoOutlook()
        self._patient = patient
        self._slots = slots
        self._crowded = False
        self._hooks: Hooks = hooks or NoHooks()
        self._over: dict[str, int] = {}
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
        self._chores: dict[str, asyncio.Task[None]] = {}
        self._red_since: float | None = None
        self._wake = asyncio.Event()
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
        if isinstance(event, RunHeld) and commands_of(self.run, "on_hold"):
            self._do("on_hold", partial(self._tell, "on_hold", reason=event.reason))
        elif isinstance(event, Drained | GivingUp):
            self._wake.set()  # there is room for the next one to be drained
        elif isinstance(event, Failed | WentBad):
            server = self.run.servers[event.server]
            if self.run.target(server).hooks.on_failure is not None:
                self._do(f"on_failure/{server.id}", partial(self._on_failure, server))

    async def _on_failure(self, server: ServerState) -> None:
        plan = self.run.target(server).hooks
        if plan.on_failure is not None:
            ran = await self._context.hook(server, "on_failure", plan.on_failure, plan.timeout_s)
            if ran.why is not None:
                self.record(HookFailed(hook=f"on_failure of {server.label}", why=ran.why))

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
            self._first_of_all()
            while self._stop is not _Stop.NOW and self._error is None:
                decision = self._admit()
                if self._tasks:
                    self._red_since = None
                elif self._is_over(decision):
                    break
                await self._until_woken()
            if self._stop is not _Stop.NOW and self._error is None:
                await self._last_words()
        finally:
            self._context.end()
            await cancel_all({*self._tasks, *self._chores.values()})
            await self._observer.close()
            self._recorder.later = None
            with suppress(JournalError):
                self._make_certain()
        if self._error is not None:
            raise self._error
        return self._finish()

    async def _last_words(self) -> None:
        """Let the hooks end that tell of something, then the one after the run."""
        telling = [task for name, task in self._chores.items() if not name.startswith(_BAKE)]
        if telling:
            await asyncio.wait(telling)
        if commands_of(self.run, "after_run"):
            await self._tell("after_run", state="settled" if self.run.is_settled else "unfinished")

    async def _until_woken(self) -> None:
        """Wait for a server or a chore to end, for the outlook to change, or for a red gate's patience."""
        waits = {asyncio.ensure_future(event.wait()) for event in (self._wake, self._outlook.changed)}
        try:
            at_most = None if self._red_since is None else self._red_since + RED_LIMIT_S - self._time()
            if self._crowded:
                at_most = LOOK_AGAIN_S
            await asyncio.wait(waits, timeout=at_most, return_when=asyncio.FIRST_COMPLETED)
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
            if decision.slower is not None:
                target, most, why = decision.slower
                self.record(PaceLowered(target=target, concurrency=most, reason=why))
                continue
            if self._chores.keys() & _FIRST:  # nobody new before these are done
                return Decision()
            self._waves_over()
            for target, wave in decision.bake:
                self._do(f"{_BAKE}{target}/{wave}", lambda target=target, wave=wave: self._bake(target, wave))  # type: ignore[misc]  # a lambda that binds its loop variables
            self._crowded = False
            for server_id in decision.start:
                server = self.run.servers[server_id]
                if self._slots is not None and not self._slots.take(server_id):
                    self._crowded = True
                    break
                if not self._start_wave(server):
                    break
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
        if self._chores:
            # A bake goes on in a closed window only if somebody waits for the next one anyway.
            return (
                self._outlook.outside(self.run).final
                and not self._patient
                and all(name.startswith(_BAKE) for name in self._chores)
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

    def _start_wave(self, server: ServerState) -> bool:
        """Record that a wave starts; tell whether it has, or its hook is still to say that it may."""
        target = self.run.targets[server.member.target]
        number = server.member.wave
        wave = target.waves[number - 1]
        if wave.started:
            return True
        started = WaveStarted(target=target.name, wave=number, of=len(target.waves), servers=wave.size)
        if not commands_of(self.run, "before_wave", target.name):
            self.record(started)
            return True

        async def ask_first() -> None:
            why = await self._hook("before_wave", target=target.name, wave=str(number))
            if why is not None:
                self._hold(why)
            else:
                self.record(started)

        self._do(f"before_wave/{target.name}/{number}", ask_first)
        return False

    # -- hooks --------------------------------------------------------------------------------------

    async def _hook(self, hook: str, **known: str) -> str | None:
        self._gate()
        return await run_hook(self._hooks, self.run, hook, known)

    def _first_of_all(self) -> None:
        """Before anybody new is started: the plan's preparations, and a look at those finished earlier."""
        self._over = {name: target.current for name, target in self.run.targets.items()}
        if commands_of(self.run, "before_run") and not self.run.is_settled and self.run.held is None:
            self._do(_BEFORE_RUN, self._before_run)
        verified = [
            server
            for server in self.run.servers.values()
            if server.phase is Phase.VERIFIED and self.run.target(server).rollout.bake_s > 0
        ]
        if self.run.lives > 1 and verified:
            self._do(_CATCH_UP, lambda: self._look_again(verified))

    async def _before_run(self) -> None:
        if (why := await self._hook("before_run")) is not None:
            self._hold(why)

    def _waves_over(self) -> None:
        """Run the hook of every wave that has settled since it was looked last."""
        for name, target in self.run.targets.items():
            for index in range(self._over[name], target.current):
                if commands_of(self.run, "after_wave", name):
                    number = str(index + 1)
                    self._do(
                        f"after_wave/{name}/{number}",
                        partial(self._tell, "after_wave", target=name, wave=number),
                    )
            self._over[name] = target.current

    async def _tell(self, hook: str, **known: str) -> None:
        """Run a hook whose failure changes nothing."""
        if (why := await self._hook(hook, **known)) is not None:
            self.record(HookFailed(hook=hook, why=why))

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

    @cached_property
    def _in_order(self) -> dict[str, list[ServerState]]:
        """The servers of every target, in the order of its waves: that never changes."""
        found: dict[str, list[ServerState]] = {name: [] for name in self.run.targets}
        for server in self.run.servers.values():
            found[server.member.target].append(server)
        for servers in found.values():
            servers.sort(key=lambda server: server.member.wave)
        return found

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
        await self._look_again(whom_to_look_at(self._in_order[name], number))
        again = target.waves[number - 1]
        if again.unsettled or again.settled_at != settled_at:
            return  # somebody of it was given another try meanwhile: it bakes anew once that is over
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
