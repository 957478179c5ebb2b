"""The last words about time: who was not done when the window closed, and when the rest would be done."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any

from fleet.core.forecast import Kind
from fleet.core.state import IN_FLIGHT, SETTLED, Phase, Run, ServerState
from fleet.core.windows import Schedule, of_plan
from fleet.report.ahead import Ahead, Horizon
from fleet.report.pulse import Pulse
from fleet.report.status import duration

_SHOWN = 20


def overruns(run: Run, now: datetime, schedule: Schedule) -> list[tuple[ServerState, timedelta]]:
    """Return who was settled, or still is not, after the window in which it was started; by how long."""
    if schedule.is_always_open:
        return []
    opened = takewhile(lambda span: span.start.astimezone(UTC) <= now, schedule.openings(run.opened_at))
    closings = [span.end.astimezone(UTC) for span in opened]
    found = []
    for server in run.servers.values():
        began, ended = server.started_at, now if server.phase in IN_FLIGHT else server.since
        if began is None or ended is None or server.phase in {Phase.WAITING, Phase.SKIPPED}:
            continue
        index = bisect_right(closings, began)
        if index < len(closings) and ended > closings[index]:
            found.append((server, ended - closings[index]))
    return found


def _ahead(run: Run, now: datetime, seen: Sequence[tuple[Kind, float]]) -> tuple[int, Ahead]:
    left = sum(count for phase, count in run.counts().items() if phase not in SETTLED)
    return left, Horizon(Pulse(run), seen).ahead(now, resumed=True)


def closing_lines(
    run: Run, now: datetime, seen: Sequence[tuple[Kind, float]] = (), *, attended: bool = False
) -> Iterator[str]:
    """Yield who overran a window, by name; then how many are left, when it opens again and when all are done.

    Args:
        run: As the journal tells it.
        now: UTC.
        seen: Durations of earlier runs of the plan.
        attended: A process works on the run. Else an end is nobody's promise.
    """
    if late := overruns(run, now, of_plan(run.settings)):
        yield f"{len(late)} not done when the window closed:"
        for server, by in sorted(late, key=lambda each: each[1], reverse=True)[:_SHOWN]:
            yield f"  {server.label}: by {duration(by)}{' so far' if server.phase in IN_FLIGHT else ''}"
        if len(late) > _SHOWN:
            yield f"  … and {len(late) - _SHOWN} more"
    left, ahead = _ahead(run, now, seen)
    if left and (words := ahead.words(now)):
        resumed = "" if attended or not words.startswith("ends ") else "if resumed now, "
        yield f"{left} left; {resumed}{words}"


def closing_data(run: Run, now: datetime, seen: Sequence[tuple[Kind, float]] = ()) -> dict[str, Any]:
    """Return the same for JSON."""
    left, ahead = _ahead(run, now, seen)
    return {
        "forecast": {
            "left": left,
            "window_opens_at": ahead.opens_at,
            "window_closes_at": ahead.closes_at,
            "done_at": ahead.done_at or ahead.at,
        },
        "overran": [
            {"id": server.id, "name": server.member.name, "by_s": round(by.total_seconds())}
            for server, by in overruns(run, now, of_plan(run.settings))
        ],
    }
