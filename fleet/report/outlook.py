"""When a run would be over: by the durations to expect, and if every server used up its time-outs."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice
from typing import Any

from fleet.core.forecast import ENOUGH, Kind, quantile
from fleet.core.preflight import Finding
from fleet.core.rounds import End, documented_s, end_of, longest_s, stretches
from fleet.core.windows import Schedule, Span
from fleet.survey import Survey

AHEAD = timedelta(days=40)
"""A change of the clocks in a window within this time is worth a sentence."""

_LOOKED_AT = 60
"""Openings that are looked at for their length: two months of nights."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """When it is over.

    Attributes:
        expected: By the durations to expect.
        latest: If every server used up every time-out and every attempt, and was verified all the same.
        each: Seconds that a server is expected to take, by target.
        reserve: Seconds that must be left of a window for a server to be started, by target.
        source: Where both come from, in words.
        openings: The next ones of the windows; empty: any time.
        zone: To tell times in.
        approvals: A person is waited for on the way.
        now: When it was looked ahead, UTC.
    """

    expected: End
    latest: End
    each: dict[str, float]
    reserve: dict[str, float]
    source: str
    openings: tuple[Span, ...]
    zone: tzinfo
    approvals: bool
    now: datetime

    def findings(self) -> Iterator[Finding]:
        """Yield what does not fit, or is not as long as it looks."""
        longest = max((span.length.total_seconds() for span in self.openings), default=0.0)
        for name, reserve in self.reserve.items():
            if self.openings and reserve > longest:
                yield Finding(
                    f"the longest window ahead is {duration(longest)}, shorter than one server's expected "
                    f"{duration(reserve)}: nothing will ever start",
                    f"a longer window; until {ENOUGH} servers were seen, the time-outs are reckoned with",
                    name,
                    stops=False,
                )
        for span in self.openings:
            shown = span.end.replace(tzinfo=None) - span.start.replace(tzinfo=None)
            if shown != span.length and span.start - self.now < AHEAD:
                yield Finding(
                    f"{span.start:%H:%M}-{span.end:%H:%M} is {_hours(span.length)} long on "
                    f"{span.start.day} {span.start:%B}, not {_hours(shown)}: the clocks change",
                    stops=False,
                )

    def as_data(self) -> dict[str, Any]:
        """Return it for JSON."""

        def end(found: End) -> dict[str, Any]:
            at = found.at.astimezone(UTC).isoformat(timespec="seconds") if found.at else None
            return {"at": at, "busy_s": round(found.busy_s), "windows": found.nights}

        return {
            "expected_end": end(self.expected),
            "last_possible_end": end(self.latest),
            "server_s": {name: round(seconds) for name, seconds in self.each.items()},
            "reserve_s": {name: round(seconds) for name, seconds in self.reserve.items()},
            "source": self.source,
            "waits_for_approval": self.approvals,
        }


def outlook(
    found: Survey, now: datetime, *, schedule: Schedule | None = None, seen: Sequence[tuple[Kind, float]] = ()
) -> Outlook:
    """Say when a run of what was surveyed is over, if it begins *now*.

    Args:
        found: Who.
        now: UTC.
        schedule: When anything may be started; None: any time.
        seen: Durations of earlier runs.
    """
    settings = found.settings
    parts = stretches(settings, found.members, found.skipped)
    begun = {member.target for member in found.started}
    approvals = any(
        number < max((member.wave for member in found.started if member.target == target.name), default=0)
        for target in settings.targets
        for number in target.rollout.approve_after
    )
    took = [took_s for _, took_s in seen]
    enough = len(took) >= ENOUGH
    each = {each.name: statistics.median(took) if enough else documented_s(each) for each in settings.targets}
    reserve = {each.name: quantile(took) if enough else longest_s(each) for each in settings.targets}
    always = schedule is None or schedule.is_always_open

    def end(lengths: dict[str, float]) -> End:
        openings = None if always or schedule is None else ((s.start, s.end) for s in schedule.openings(now))
        return end_of(
            settings, parts, lambda target: lengths[target.name], now, openings, lambda t: reserve[t.name]
        )

    return Outlook(
        expected=end(each),
        latest=end({target.name: longest_s(target) for target in settings.targets}),
        each={name: seconds for name, seconds in each.items() if name in begun},
        reserve={name: seconds for name, seconds in reserve.items() if name in begun},
        source=f"{len(took)} seen in earlier runs" if enough else _UNSEEN,
        openings=() if always or schedule is None else tuple(islice(schedule.openings(now), _LOOKED_AT)),
        zone=_zone(schedule, now),
        approvals=approvals,
        now=now,
    )


_UNSEEN = "by the cloud's documents"


def _zone(schedule: Schedule | None, now: datetime) -> tzinfo:
    """Return the zone of the windows, in which people think of them."""
    if schedule is None or schedule.is_always_open:
        return UTC
    first = next(schedule.openings(now), None)
    return (first.start.tzinfo if first else None) or UTC


def _hours(length: timedelta) -> str:
    return f"{length.total_seconds() / 3600:g} h"


def duration(seconds: float) -> str:
    """Write ``9 s``, ``41 min``, ``3 h 20 min``, ``2 days 4 h``.

    >>> duration(9), duration(2460), duration(12000), duration(187200)
    ('9 s', '41 min', '3 h 20 min', '2 days 4 h')
    """
    if seconds < 59.5:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} days {hours} h" if hours else f"{days} days"
