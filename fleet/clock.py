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
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


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


class _LeapingSelector(selectors.SelectSelector):
    """Instead of sleeping until the next timer, tells the loop that the time has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.elapsed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("every task waits and no timer is set")
        if timeout > 0:
            self.elapsed += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time, from 0."""

    def __init__(self) -> None:
        self._leaping = _LeapingSelector()
        super().__init__(self._leaping)

    def time(self) -> float:
        """Return virtual seconds since the loop was made."""
        return self._leaping.elapsed


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
