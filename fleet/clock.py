"""Time, real and virtual.

Elapsed time is the event loop's (``asyncio.get_running_loop().time()``, ``asyncio.sleep``); the wall
clock is for records and for windows. Nothing else in ``fleet`` reads a clock: tests look for it.

`run_virtual` runs a coroutine on a loop whose time moves only when nothing is ready, so an hour of
waiting takes as long as its callbacks. It waits on no real descriptor: nothing on it may use sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import time
from collections.abc import Callable, Coroutine
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Clock(Protocol):
    """The wall's time."""

    def now(self) -> datetime:
        """Return the time of day, aware, UTC."""
        ...

    def boottime(self) -> float:
        """Return seconds that also pass while the machine is suspended or the process stopped."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        """Return the system's time of day."""
        return datetime.now(UTC)

    def boottime(self) -> float:
        """Return CLOCK_BOOTTIME where there is one: CLOCK_MONOTONIC stands still in a suspended VM."""
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class LoopClock:
    """A wall clock that follows the running loop's time, for virtual time.

    Attributes:
        epoch: The time of day when the loop's time was 0; move it to make the wall clock jump.
    """

    def __init__(self, epoch: datetime = datetime(2026, 12, 5, 20, tzinfo=UTC)) -> None:
        self.epoch = epoch

    def now(self) -> datetime:
        """Return the epoch plus the loop's time."""
        return self.epoch + timedelta(seconds=asyncio.get_running_loop().time())

    def boottime(self) -> float:
        """Return the loop's time."""
        return asyncio.get_running_loop().time()


class Deadlock(RuntimeError):
    """Everything waits, and nothing will ever happen: on a real loop this would hang for ever."""


_MAX_TURNS = 200_000
"""Callbacks that call one another need a few turns for the same instant; a wait that spins has no end."""


class _LeapingSelector(selectors.SelectSelector):
    """Instead of sleeping until the next timer, tells the loop that the time has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.elapsed = 0.0
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("every task waits and no timer is set")
        if timeout > 0:
            self.elapsed += timeout
            self._turns = 0
        else:
            self._turns += 1
            if self._turns > _MAX_TURNS:
                raise Deadlock(f"{_MAX_TURNS} turns of the loop, and no time has passed")
        return []


_RESOLUTION_S = 1e-7
"""asyncio's own nanosecond is lost in a float past 2**24 s (194 days): no timer would ever be due."""

_SHORTEST_S = 1e-6


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time, from 0."""

    def __init__(self) -> None:
        self._leaping = _LeapingSelector()
        super().__init__(self._leaping)
        self._clock_resolution = _RESOLUTION_S

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call back at *when*, a microsecond from now at the soonest.

        Whoever waits for what a rounding error left over would else wait again and again, and no time pass.
        """
        return super().call_at(max(when, self.time() + _SHORTEST_S), callback, *args, context=context)

    def time(self) -> float:
        """Return virtual seconds since the loop was made."""
        return self._leaping.elapsed

    def run_in_executor(
        self, executor: object, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Call *func* at once, in this thread.

        While a real one worked, all tasks would wait, and time would leap to the next timer: to the end of
        the story when nothing else is set, though not a moment has passed.
        """
        del executor
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is for whoever awaits it
            done.set_exception(error)
        return done

    def leap(self, seconds: float) -> None:
        """Let time pass in which nothing runs: the process was stopped, and goes on."""
        self._leaping.elapsed += seconds


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run *main* to its end on a virtual loop of its own; return its result.

    Raises:
        Deadlock: Everything waits and no timer is set.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


async def cancel_all(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancel *tasks* and wait until each has ended, whatever it raises."""
    for task in tasks:
        task.cancel()
    for task in list(tasks):
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task
