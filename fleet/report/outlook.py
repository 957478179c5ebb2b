"""When a run would be over: by the durations to expect, and if every server used up its time-outs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from fleet.core.preflight import Finding
from fleet.core.rounds import Duration, End, documented_s, end_of, longest_s, stretches
from fleet.survey import Survey

Openings = Sequence[tuple[datetime, datetime]]


@dataclass(frozen=True, slots=True)
class Outlook:
    """When it is over.

    Attributes:
        expected: By the durations to expect.
        latest: If every server used up every time-out and every attempt, and was verified all the same.
        each: Seconds that a server is expected to take, by target.
        source: Where those come from, in words.
        openings: Of the windows; None: any time.
        zone: To tell times in.
        approvals: A person is waited for on the way.
    """

    expected: End
    latest: End
    each: dict[str, float]
    source: str
    openings: Openings | None
    zone: tzinfo
    approvals: bool

    def findings(self) -> Iterator[Finding]:
        """Yield what does not fit."""
        if self.expected.too_long:
            yield self._too_long(self.expected.too_long)

    def _too_long(self, target: str) -> Finding:
        spans = [(closes - opens).total_seconds() for opens, closes in self.openings or ()]
        longest = f"the longest window ahead is {duration(max(spans))}" if spans else "no window is ahead"
        return Finding(
            f"{longest}, and one server is expected to take {duration(self.each[target])} ({self.source}): "
            "nothing will ever start",
            "a longer window",
            target,
        )

    def as_data(self) -> dict[str, Any]:
        """Return it for JSON."""

        def end(found: End) -> dict[str, Any]:
            at = found.at.astimezone(UTC).isoformat(timespec="seconds") if found.at else None
            return {"at": at, "busy_s": round(found.busy_s), "nights": found.nights}

        return {
            "expected_end": end(self.expected),
            "last_possible_end": end(self.latest),
            "server_s": {name: round(seconds) for name, seconds in self.each.items()},
            "source": self.source,
            "waits_for_approval": self.approvals,
        }


def outlook(
    found: Survey,
    now: datetime,
    *,
    each_s: Duration = documented_s,
    source: str = "by the cloud's documents",
    openings: Openings | None = None,
    zone: tzinfo = UTC,
) -> Outlook:
    """Say when a run of what was surveyed is over, if it begins *now*.

    Args:
        found: Who.
        now: UTC.
        each_s: Seconds that a server of a target is expected to take.
        source: Where those come from.
        openings: When windows open and close, in order; None: any time.
        zone: To tell times in.
    """
    settings = found.settings
    parts = stretches(settings, found.members, found.skipped)
    begun = {member.target for member in found.started}
    approvals = any(
        number < max((member.wave for member in found.started if member.target == target.name), default=0)
        for target in settings.targets
        for number in target.rollout.approve_after
    )
    return Outlook(
        expected=end_of(settings, parts, each_s, now, openings),
        latest=end_of(settings, parts, longest_s, now, openings),
        each={target.name: each_s(target) for target in settings.targets if target.name in begun},
        source=source,
        openings=openings,
        zone=zone,
        approvals=approvals,
    )


def duration(seconds: float) -> str:
    """Write ``41 min``, ``3 h 20 min``, ``2 days 4 h``.

    >>> duration(2460), duration(12000), duration(187200)
    ('41 min', '3 h 20 min', '2 days 4 h')
    """
    minutes = max(1, round(seconds / 60))
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} days {hours} h" if hours else f"{days} days"
