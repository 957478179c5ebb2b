"""What a rehearsal found about time: the windows it used, who overran one, and when many nights would end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any

from fleet.core.state import Phase
from fleet.core.windows import Schedule, Span, of_plan, spell
from fleet.errors import Exit
from fleet.rehearsal.stories import Told
from fleet.report.closing import overruns

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class WindowUse:
    """One opening, and what was done in it.

    Attributes:
        number: Counted from 1; openings in which nothing was done count too.
        used_s: From its opening, or the rehearsal's begin, to the last word about a server.
    """

    number: int
    span: Span
    begun: int
    verified: int
    used_s: float

    @property
    def share(self) -> float:
        """How much of the window that is; above 1, somebody overran it."""
        return self.used_s / self.span.length.total_seconds()

    def data(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "window": self.number,
            "opens_at": self.span.start,
            "closes_at": self.span.end,
            "begun": self.begun,
            "verified": self.verified,
            "used_s": round(self.used_s, 1),
            "used_share": round(self.share, 3),
        }

    def words(self) -> str:
        """Return it for people."""
        return (
            f"window {self.number}, {spell(self.span.start)} to {spell(self.span.end)}: {self.begun} begun, "
            f"{self.verified} verified, used {span(self.used_s)} of {span(self.span.length.total_seconds())} "
            f"({self.share:.0%})"
        )


class Night:
    """One rehearsal, seen by the clock.

    Args:
        told: It.
        at_most: Openings in which it must be done; None: as many as it takes.
    """

    def __init__(self, told: Told, at_most: int | None = None) -> None:
        self.told = told
        self.at_most = at_most
        self.begins = told.story.begins.astimezone(UTC)
        self._events = [
            (datetime.fromisoformat(event["at"]), event) for event in told.events() if event.get("server")
        ]
        self.last = max((at for at, _ in self._events), default=self.begins)
        schedule = of_plan(told.story.settings)
        self.windows = [] if schedule.is_always_open else list(self._windows(schedule))
        late = overruns(told.run, self.last, schedule) if told.run is not None else []
        self.overran = {server.label: by for server, by in late}

    def _windows(self, schedule: Schedule) -> Iterator[WindowUse]:
        spans = list(takewhile(lambda each: each.start <= self.last, schedule.openings(self.begins)))
        for number, each in enumerate(spans):
            until = spans[number + 1].start if number + 1 < len(spans) else self.last + timedelta(days=1)
            here = [(at, event["event"]) for at, event in self._events if each.start <= at < until]
            begun = sum(name == "Admitted" for _, name in here)
            verified = sum(name == "Verified" for _, name in here)
            if begun or verified:
                used = here[-1][0] - max(each.start.astimezone(UTC), self.begins)
                yield WindowUse(number + 1, each, begun, verified, used.total_seconds())

    @property
    def left(self) -> int:
        """Servers that nobody began in any window."""
        return self.told.run.counts()[Phase.WAITING] if self.told.run is not None else 0

    @property
    def is_done(self) -> bool:
        """Every server is settled."""
        return self.told.run is not None and self.told.run.is_settled

    @property
    def took_s(self) -> float:
        """Seconds from the begin to the end of the last life, the days between windows included."""
        if self.told.story.nightly and len(self.windows) > 1:
            return (self.last - self.begins).total_seconds()
        return sum(ending.took_s for ending in self.told.endings if not ending.was_settled)

    @property
    def nights(self) -> int | None:
        """In which window it was done; None: it was not, or there are none."""
        return self.windows[-1].number if self.windows and self.is_done else None

    @property
    def breaks_window(self) -> bool:
        """It was not done in the windows, overran one, or took more of them than it may."""
        ended = self.told.endings[-1].code is Exit.UNFINISHED
        too_many = self.at_most is not None and (self.nights or 0) > self.at_most
        return ended or bool(self.overran) or too_many

    @property
    def was_held(self) -> bool:
        """More failed than the plan allows, be it that nobody was left to be started."""
        return self.told.run is not None and self.told.run.held is not None

    @property
    def some_failed(self) -> bool:
        """It ended otherwise than with every server verified."""
        return self.told.endings[-1].code is Exit.FAILED

    @property
    def why_unfinished(self) -> str:
        """Why nobody was started any more."""
        return next((str(event["reason"]) for event in reversed(self.told.events("RunDrained"))), "")

    def data(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "begins_at": self.begins,
            "done_at": self.last if self.is_done else None,
            "done_in_window": self.nights,
            "windows": [each.data() for each in self.windows],
            "overran": {name: round(by.total_seconds()) for name, by in self.overran.items()},
            "left": self.left,
            "unfinished": self.why_unfinished if self._stands else None,
            "breaks_window": self.breaks_window,
        }

    @property
    def _stands(self) -> bool:
        return self.told.endings[-1].code is Exit.UNFINISHED

    def lines(self) -> Iterator[str]:
        """Yield it for people; nothing where the plan has no windows."""
        for each in self.windows:
            yield f"  {each.words()}"
        if self.windows and self.is_done:
            zone = self.windows[-1].span.start.tzinfo
            too_many = f": more than {self.at_most}" if self.at_most and self.breaks_window else ""
            yield f"  done in window {self.nights}, {spell(self.last.astimezone(zone))}{too_many}"
        if self._stands:
            waited = (
                "nobody was ever started" if not self.windows else f"{self.left} servers are never started"
            )
            yield f"  not done: {waited}: {self.why_unfinished}"
        if self.overran:
            yield f"  {len(self.overran)} not done when the window closed:"
            for name, by in sorted(self.overran.items(), key=lambda each: -each[1])[:_SHOWN]:
                yield f"    {name}: by {span(by.total_seconds())}"
            if len(self.overran) > _SHOWN:
                yield f"    … and {len(self.overran) - _SHOWN} more"


def span(seconds: float) -> str:
    """Return seconds for people."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def exit_code(nights: Sequence[Night]) -> Exit:
    """Return what a change request is told: the worst of all nights."""
    if any(night.told.violations for night in nights):
        return Exit.DEFECT
    if any(night.was_held for night in nights):
        return Exit.HELD
    if any(night.breaks_window for night in nights):
        return Exit.UNFINISHED
    return Exit.FAILED if any(night.some_failed for night in nights) else Exit.OK


class Ends:
    """When many nights would be over. One that is not done ends after all others."""

    def __init__(self, nights: Sequence[Night]) -> None:
        self._took = sorted(night.took_s if night.is_done else math.inf for night in nights)
        self._counts = {
            "runs": len(nights),
            "break_window": sum(night.breaks_window for night in nights),
            "held": sum(night.was_held for night in nights),
            "some_failed": sum(night.some_failed for night in nights),
        }

    def _at(self, share: float) -> float:
        return self._took[math.ceil(share * len(self._took)) - 1]

    def data(self) -> dict[str, int | float | None]:
        """Return it for JSON; None: not done."""
        found = {"median_s": self._at(0.5), "p95_s": self._at(0.95), "worst_s": self._took[-1]}
        return {
            **self._counts,
            **{name: round(took, 1) if took < math.inf else None for name, took in found.items()},
        }

    def words(self) -> str:
        """Return it for people."""
        half, most, worst = (
            span(took) if took < math.inf else "not done"
            for took in (self._at(0.5), self._at(0.95), self._took[-1])
        )
        counts = self._counts
        return (
            f"{counts['runs']} nights: over after {half} (median), {most} (95 %), {worst} (worst); "
            f"{counts['break_window']} would break the window, {counts['held']} would hold, "
            f"{counts['some_failed']} would end with failed servers"
        )
