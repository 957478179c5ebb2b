"""What goes on beside a run at work: the live display, a heartbeat in the log, its rate for those who watch.

None of it may end the run or wait for anybody; what fails is said once, and done without.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fleet.logs import get_logger
from fleet.report import meter
from fleet.report.figures import Miscounted, figures
from fleet.report.glance import Eye, Glance
from fleet.report.meter import Meter

TICK_S = 0.5
KEPT_EVERY_S = 5.0
HEARTBEAT_S = 300.0
"""A log that is silent for longer than this raises the question whether anybody works."""

_SHARE = 50
"""A glance may take a fiftieth of the time: where it takes longer it is taken less often."""

_OLDEST = 3


@dataclass(frozen=True, slots=True)
class Beside:
    """What goes on beside.

    Args:
        eye: Takes glances at the run.
        meter: Of its cloud client.
        journal: Of the run.
        now: The time of day.
        show: Is given every glance, or None: nobody looks.
        heartbeat_s: Seconds between lines in the log; 0: none.
    """

    eye: Eye
    meter: Meter
    journal: Path
    now: Callable[[], datetime]
    show: Callable[[Glance], None] | None = None
    heartbeat_s: float = HEARTBEAT_S

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """Go on as long as the block runs."""
        self._show()
        tasks = [asyncio.create_task(self._every(TICK_S, self._show), name="glances")]
        tasks.append(asyncio.create_task(self._every(KEPT_EVERY_S, self._keep), name="rate"))
        if self.heartbeat_s:
            tasks.append(asyncio.create_task(self._every(self.heartbeat_s, self.beat), name="heartbeat"))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            meter.forget(self.journal)
            with contextlib.suppress(Exception):  # the last words of the run come after this
                self._show()

    async def _every(self, seconds: float, act: Callable[[], None]) -> None:
        """Act again and again, less often where acting takes long; end, and say so, when it fails."""
        pause = seconds
        while True:
            await asyncio.sleep(pause)
            began = time.monotonic()
            try:
                act()
            except Exception as error:  # noqa: BLE001 - a display that fails must not end a run
                get_logger().warning("DisplayFailed", why=f"{type(error).__name__}: {error}")
                return
            pause = max(seconds, _SHARE * (time.monotonic() - began))

    def _show(self) -> None:
        now = self.now()
        rate = self.meter.rate(now)
        if self.show is not None:
            self.show(self.eye.look(now, worked_on="this process", rate=rate))

    def _keep(self) -> None:
        meter.keep(self.journal, self.meter.rate(self.now()))

    def beat(self) -> None:
        """Write one line into the log that says where the run stands, though nothing may have happened."""
        now, run = self.now(), self.eye.pulse.run
        see = self.eye.look(now, worked_on="this process", rate=self.meter.rate(now))
        try:
            counts: dict[str, object] = dict(figures(run))
        except Miscounted as error:
            counts = {"defect": str(error)}
        said = {
            **counts,
            "phases": ", ".join(f"{count} {phase}" for phase, count in see.phases.items()),
            "oldest": [row.words() for row in see.flying[:_OLDEST]],
            "overdue": see.overdue,
            "waiting": [f"{count} x {reason}" for reason, count in see.waiting.items()][:_OLDEST],
            "ends": see.ends,
            "owing": see.owing,
            "requests_per_second": round(see.rate.per_s, 1) if see.rate else None,
            "throttled": ", ".join(see.rate.slowed) if see.rate else "",
            "held": run.held,
            "drained": run.drained,
        }
        always = ("selected", "verified", "failed", "skipped", "in_flight", "in_doubt", "never_touched")
        told = {key: value for key, value in said.items() if value or key in always}
        get_logger().info("StillWorking", run=run.id, **told)
