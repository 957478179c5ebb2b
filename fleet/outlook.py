"""What the clock and the world allow a run: windows, frozen days and gates, read while it goes on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Self

from fleet import freeze
from fleet.clock import Clock, cancel_all
from fleet.core.forecast import Forecast
from fleet.core.outside import Outside
from fleet.core.settings import Settings
from fleet.core.state import Run
from fleet.core.windows import Schedule, State
from fleet.gates import LOOK_S, Gates

CLOCK_S = 20.0
"""How often the time of day is looked at, at least: a clock may jump, and a machine sleep."""


class Outlook:
    """The windows, frozen days and gates of a plan; use it as a context.

    Args:
        settings: The plan in force.
        clock: The wall's time.
        forecast: How long a server takes.
        override: Why frozen days do not count, or None: they do.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        forecast: Forecast,
        *,
        override: str | None = None,
    ) -> None:
        self.changed = asyncio.Event()
        self._settings = settings
        self._clock = clock
        self._forecast = forecast
        self._override = override
        self._gates = Gates(settings.gates, settings.folder)
        self._schedule = Schedule(settings.windows)
        self._unreadable: str | None = "the frozen days have not been read yet" if self._has_freeze else None
        self._red: str | None = "the gates have not been read yet" if settings.gates else None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def _has_freeze(self) -> bool:
        return bool(self._settings.freeze) and self._override is None

    async def __aenter__(self) -> Self:
        """Read everything once, then go on reading."""
        await self._read_freeze()
        await self._read_gates()
        if self._has_freeze:
            self._tasks.add(
                asyncio.create_task(self._again(self._read_freeze, freeze.READ_AGAIN_S), name="freeze")
            )
        if self._settings.gates:
            self._tasks.add(asyncio.create_task(self._again(self._read_gates, LOOK_S), name="gates"))
        if self._settings.windows or self._has_freeze:
            self._tasks.add(asyncio.create_task(self._watch_the_clock(), name="windows"))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop reading."""
        await cancel_all(self._tasks)

    def outside(self, run: Run) -> Outside:
        """Return what is known now."""
        now = self._clock.now().astimezone(UTC)
        state = self.state(now)
        closed, final = state.closed, state.closed is not None
        if closed is None and self._red is not None:
            closed = self._red
        return Outside(
            now=now,
            closed=closed,
            closes_at=state.closes_at,
            final=final,
            expected_s=lambda server: self._forecast.expected_s(run, server),
        )

    def state(self, now: datetime) -> State:
        """Say what windows and frozen days allow at *now*."""
        if self._unreadable is not None:
            return State(closed=f"frozen, since it cannot be told whether it is: {self._unreadable}")
        return self._schedule.at(now)

    async def fresh(self, run: Run) -> Outside:
        """Return what is so now, the gates read anew."""
        await self._read_gates()
        return self.outside(run)

    @staticmethod
    async def _again(read: Callable[[], Awaitable[None]], every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            await read()

    async def _read_gates(self) -> None:
        if not self._settings.gates:
            return
        before = self._red
        self._red = await self._gates.red()
        if (before is None) != (self._red is None):
            self.changed.set()

    async def _read_freeze(self) -> None:
        if not self._has_freeze:
            return
        found, self._unreadable = await freeze.read(
            self._settings.freeze, self._settings.folder, dict(os.environ), self._clock.now()
        )
        self._schedule = Schedule(self._settings.windows, found)
        self.changed.set()

    async def _watch_the_clock(self) -> None:
        """Tell when a window opens or closes."""
        before = self.state(self._clock.now()).closed is None
        while True:
            now = self._clock.now()
            state = self.state(now)
            if (state.closed is None) is not before:
                before = not before
                self.changed.set()
            turn = state.closes_at or state.opens_at
            rest = CLOCK_S if turn is None else (turn.astimezone(UTC) - now.astimezone(UTC)).total_seconds()
            await asyncio.sleep(min(CLOCK_S, max(0.05, rest)))
