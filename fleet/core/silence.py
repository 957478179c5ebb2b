"""Nights in which nothing moved: counted from the journal's facts and the plan's windows.

Silence is to be loud: see docs/notifications.md and docs/metrics.md.
A *night* is a window that opened; of a plan without windows, 24 hours.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from fleet.core.settings import Settings
from fleet.core.state import Run
from fleet.core.windows import HORIZON, Span, of_plan

_DAY = timedelta(days=1)
_OLDEST = HORIZON - timedelta(days=1)
"""Openings are looked for within the horizon; of what is older, silence has been told."""

_ORDINALS = (
    "",
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
)


def last_progress(run: Run) -> datetime:
    """Return when a server was last moved on; as long as none was, when the run was opened."""
    return run.progress_at or run.opened_at


def nights_without_progress(
    run: Run, now: datetime, *, over: bool = False, watched_from: datetime | None = None
) -> int:
    """Return in how many nights up to now nothing was done; 0 for a run that is settled.

    Args:
        run: As the journal tells it.
        now: The time of day.
        over: Count a night only when it is over: a run is at work, and this one may still bring something.
        watched_from: Of nights that begin later than this, or last until then; None: of all.
    """
    if run.is_settled:
        return 0
    since, whole = last_progress(run), run.progress_at is not None
    if watched_from is not None and watched_from > since:
        since, whole = watched_from, False
    if not run.settings.windows:
        # Cron comes at ten every night, and the last night's work ended at half past ten, or at two.
        gone = (now - since) / _DAY
        return int(gone) if over else round(gone)
    # Of the night in which it was opened nothing came either, where nobody was ever started.
    counted = openings_since(run.settings, since, now, whole=whole)
    return sum(_utc(span.end) <= now for span in counted) if over else sum(1 for _ in counted)


def openings_since(settings: Settings, since: datetime, now: datetime, *, whole: bool) -> Iterator[Span]:
    """Yield the windows that have opened from *since* up to *now*.

    Args:
        settings: The plan.
        since: From when on.
        now: Up to when.
        whole: Leave out the one that was open at *since* already.
    """
    if not settings.windows:
        return
    for span in of_plan(settings).openings(max(since, now - _OLDEST)):
        if _utc(span.start) > now:
            return
        if not whole or _utc(span.start) > since:
            yield span


def missed(settings: Settings, since: datetime, now: datetime) -> list[Span]:
    """Return the windows since then that are over, of which nobody has made anything."""
    return [span for span in openings_since(settings, since, now, whole=True) if _utc(span.end) <= now]


def ordinal(number: int) -> str:
    """Return ``second``, or ``12th``."""
    if number < len(_ORDINALS):
        return _ORDINALS[number]
    ending = "th" if number % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)
