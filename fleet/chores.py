"""What is done beside the servers' ways: the plan's hooks for a run and its waves, bakes, and second looks.

The engine says when; each chore is a task with a name, done once at a time, and counts for nothing in flight.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from datetime import timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING

from fleet.bake import look_again, whom_to_look_at
from fleet.clock import Clock, cancel_all
from fleet.context import Context
from fleet.core.events import (
    Event,
    Failed,
    HookFailed,
    RunHeld,
    WaveBaked,
    WaveStarted,
    WentBad,
)
from fleet.core.phases import Phase
from fleet.core.state import Run, ServerState
from fleet.hooks import Hooks, commands_of, run_hook

if TYPE_CHECKING:
    from fleet.core.outside import Outside

BAKE_LOOK_S = 30.0
"""How often a baking wave's surroundings are looked at, and a bound on what a jump of the clock can cost."""

_CATCH_UP, _BEFORE_RUN, _BAKE = "look again at the finished ones", "before_run", "bake/"
_FIRST = frozenset({_CATCH_UP, _BEFORE_RUN})


class Chores:
    """The chores of one life of a run.

    Args:
        context: The verbs of steps: a second look is one of them.
        hooks: Runs the plan's hooks.
        outside: Says what the clock and the world allow now.
        gate: Has every fact on the disk. Raises when nothing may be changed any more.
        ended: Told of every task that has ended.

    Attributes:
        tasks: What is being done, by name.
    """

    def __init__(
        self,
        run: Run,
        *,
        context: Context,
        hooks: Hooks,
        clock: Clock,
        outside: Callable[[], Outside],
        gate: Callable[[], None],
        ended: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._run = run
        self._context = context
        self._record = context.record
        self._hooks = hooks
        self._clock = clock
        self._outside = outside
        self._gate = gate
        self._ended = ended
        self._over: dict[str, int] = {}

    def _do(self, name: str, chore: Callable[[], Coroutine[None, None, None]]) -> None:
        """Do something, unless it is being done."""
        if name in self.tasks:
            return
        task = asyncio.create_task(chore(), name=name)
        self.tasks[name] = task

        def done(task: asyncio.Task[None]) -> None:
            self.tasks.pop(name, None)
            self._ended(task)

        task.add_done_callback(done)

    @property
    def nobody_new(self) -> bool:
        """Something is being done that comes before any new server."""
        return not self.tasks.keys().isdisjoint(_FIRST)

    @property
    def only_bake(self) -> bool:
        """Nothing is being done but to leave waves alone."""
        return all(name.startswith(_BAKE) for name in self.tasks)

    # -- hooks --------------------------------------------------------------------------------------

    async def _hook(self, hook: str, **known: str) -> str | None:
        self._gate()
        return await run_hook(self._hooks, self._run, hook, known)

    async def _tell(self, hook: str, **known: str) -> None:
        """Run a hook whose failure changes nothing."""
        if (why := await self._hook(hook, **known)) is not None:
            self._record(HookFailed(hook=hook, why=why))

    async def _ask(self, hook: str, **known: str) -> bool:
        """Run a hook whose failure holds the run; tell whether it went well."""
        if (why := await self._hook(hook, **known)) is not None:
            self._hold(why)
        return why is None

    def _hold(self, reason: str) -> None:
        if self._run.held is None:
            self._record(RunHeld(reason=reason))

    def follow(self, event: Event) -> None:
        """Run the hooks that an event calls for."""
        if isinstance(event, RunHeld) and commands_of(self._run, "on_hold"):
            self._do("on_hold", partial(self._tell, "on_hold", reason=event.reason))
        elif isinstance(event, Failed | WentBad):
            server = self._run.servers[event.server]
            if self._run.target(server).hooks.on_failure is not None:
                self._do(f"on_failure/{server.id}", partial(self._on_failure, server))

    async def _on_failure(self, server: ServerState) -> None:
        plan = self._run.target(server).hooks
        if plan.on_failure is not None:
            ran = await self._context.hook(server, "on_failure", plan.on_failure, plan.timeout_s)
            if ran.why is not None:
                self._record(HookFailed(hook=f"on_failure of {server.label}", why=ran.why))

    def first_of_all(self) -> None:
        """Before anybody new is started: the plan's preparations, and a look at those finished earlier."""
        run = self._run
        self._over = {name: target.current for name, target in run.targets.items()}
        if commands_of(run, "before_run") and not run.is_settled and run.held is None:
            self._do(_BEFORE_RUN, self._before_run)
        verified = [
            server
            for server in run.servers.values()
            if server.phase is Phase.VERIFIED and run.target(server).rollout.bake_s > 0
        ]
        if run.lives > 1 and verified:
            self._do(_CATCH_UP, lambda: self._look_again(verified))

    async def _before_run(self) -> None:
        await self._ask("before_run")

    def start_wave(self, server: ServerState) -> bool:
        """Record that a server's wave starts; tell whether it has, or its hook has yet to say that it may."""
        target = self._run.targets[server.member.target]
        number = server.member.wave
        wave = target.waves[number - 1]
        if wave.started:
            return True
        started = WaveStarted(target=target.name, wave=number, of=len(target.waves), servers=wave.size)
        if not commands_of(self._run, "before_wave", target.name):
            self._record(started)
            return True

        async def ask_first() -> None:
            if await self._ask("before_wave", target=target.name, wave=str(number)):
                self._record(started)

        self._do(f"before_wave/{target.name}/{number}", ask_first)
        return False

    def waves_over(self) -> None:
        """Run the hook of every wave that has settled since it was looked last."""
        for name, target in self._run.targets.items():
            for index in range(self._over[name], target.current):
                if commands_of(self._run, "after_wave", name):
                    number = str(index + 1)
                    self._do(
                        f"after_wave/{name}/{number}",
                        partial(self._tell, "after_wave", target=name, wave=number),
                    )
            self._over[name] = target.current

    async def last_words(self) -> None:
        """Let the hooks end that tell of something, then the one after the run."""
        telling = [task for name, task in self.tasks.items() if not name.startswith(_BAKE)]
        if telling:
            await asyncio.wait(telling)
        if commands_of(self._run, "after_run"):
            await self._tell("after_run", state="settled" if self._run.is_settled else "unfinished")

    # -- looking again ------------------------------------------------------------------------------

    def bake(self, target: str, wave: int) -> None:
        """Leave a settled wave alone for its time, then look at it again."""
        self._do(f"{_BAKE}{target}/{wave}", lambda: self._bake(target, wave))

    @cached_property
    def _in_order(self) -> dict[str, list[ServerState]]:
        """The servers of every target, in the order of its waves: that never changes."""
        found: dict[str, list[ServerState]] = {name: [] for name in self._run.targets}
        for server in self._run.servers.values():
            found[server.member.target].append(server)
        for servers in found.values():
            servers.sort(key=lambda server: server.member.wave)
        return found

    async def _bake(self, name: str, number: int) -> None:
        """Leave a settled wave alone for its time, then look at it again, and at a sample of earlier ones."""
        target = self._run.targets[name]
        settled_at = target.waves[number - 1].settled_at
        bake_s = self._run.plan_of(name).rollout.bake_s
        # The time since counts, also that in which no process ran; a clock that jumps costs one bake at most.
        gone = (self._clock.now() - settled_at) if settled_at else timedelta()
        left = min(bake_s, max(0.0, bake_s - gone.total_seconds()))
        loop = asyncio.get_running_loop()
        until = loop.time() + left
        while (rest := until - loop.time()) > 0:
            await asyncio.sleep(min(rest, BAKE_LOOK_S))
            outside = self._outside()
            if outside.closed is not None and not outside.final:
                self._hold(f"{outside.closed}, while wave {number} of {name} was baking")
                return
        await self._look_again(whom_to_look_at(self._in_order[name], number))
        again = target.waves[number - 1]
        if again.unsettled or again.settled_at != settled_at:
            return  # somebody of it was given another try meanwhile: it bakes anew once that is over
        self._record(WaveBaked(target=name, wave=number))

    async def _look_again(self, servers: Iterable[ServerState]) -> None:
        """Look at verified servers again; who is not well has gone bad, and counts as failed."""
        at_once = asyncio.Semaphore(50)

        async def one(server: ServerState) -> None:
            async with at_once:
                wrong = await look_again(server, self._context)
            if wrong is not None:
                self._record(WentBad(server=server.id, reason=f"went bad after it was verified: {wrong}"))

        looks = {asyncio.create_task(one(server), name=f"look again at {server.label}") for server in servers}
        try:
            await asyncio.gather(*looks)  # no group: what ends the life is told as it is, with its exit code
        finally:
            await cancel_all(looks)
