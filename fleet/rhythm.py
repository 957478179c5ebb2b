"""How often to read: by what a read costs, and by what everybody who waits loses without it.

While nobody reads, whoever is done already loses time. How many are is known by and large from the durations
seen: none before the shortest of them, most around the usual one. A read is due when the time lost comes to
what it would in one interval if ends were spread evenly; whoever only waits to be confirmed loses from the
first moment, and so brings the read forward.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

SHORTEST_S, FIRST_S, LONGEST_S = 0.1, 1.0, 10.0
"""Bounds of the interval, and what it is before any duration was seen."""

SHARE = 0.016
"""Interval as a share of a server's whole way. Half of it is lost after each of its waits, and up to all of
it until the look that confirms (``docs/benchmarks.md`` has what that costs and saves)."""

SOONEST = 0.25
"""Of the interval: never a shorter pause, or the look that confirms would be the first one over again."""

LATEST = 4.0
"""Of the interval: never a longer pause, whatever the durations seen may say."""

KEPT, ENOUGH = 200, 5
"""Durations that are remembered of each kind of wait, and how many it takes to go by them."""

UNKNOWN = 3.0
"""A wait of which none has ended yet may be three times as long as it has been: few are late by that."""

TRUST = 0.8
"""How far the durations seen are believed. For the rest anything may end at any time."""

MANY = 200
"""Among so many who wait their ends are spread evenly, and counting them is not worth its time."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Who waits for the same.

    Attributes:
        count: How many.
        so_far_s: For how long they have waited, the first of them before the others; of `MANY` it is enough.
    """

    count: int
    so_far_s: Sequence[float]


@dataclass(slots=True)
class _Seen:
    """Durations of one kind of wait."""

    usual_s: float = 0.0
    latest: deque[float] = field(default_factory=deque)
    ordered: list[float] = field(default_factory=list)

    def add(self, duration_s: float) -> None:
        self.latest.append(duration_s)
        insort(self.ordered, duration_s)
        if len(self.latest) > KEPT:
            oldest = self.latest.popleft()
            del self.ordered[bisect_right(self.ordered, oldest) - 1]
        self.usual_s = max(math.fsum(self.ordered) / len(self.ordered), 1e-3)

    def ends_within(self, waiting: Waiting, span_s: float) -> float:
        """Return how many of those who wait are done a second, probably, in the next *span_s*."""
        ordered, known, so_far = self.ordered, len(self.ordered), waiting.so_far_s
        evenly = 1 / self.usual_s
        if known < ENOUGH or waiting.count > len(so_far):
            return waiting.count * evenly
        seen, unknown = 0.0, 0
        for lasted in so_far:
            ended = bisect_right(ordered, lasted)
            if ended == known:
                unknown += 1  # longer than any other: it may end at any time
            else:
                seen += (bisect_right(ordered, lasted + span_s, ended) - ended) / (known - ended)
        return unknown * evenly + TRUST * seen / span_s + (1 - TRUST) * (len(so_far) - unknown) * evenly


class Rhythm:
    """Says when the next read is due.

    Args:
        shortest_s: Lower bound of the interval.
    """

    def __init__(self, shortest_s: float = SHORTEST_S) -> None:
        self._shortest_s = shortest_s
        self._seen: dict[str, _Seen] = {}
        self._interval_s = max(FIRST_S, shortest_s)

    @property
    def interval_s(self) -> float:
        """The pause between reads if ends were spread evenly."""
        return self._interval_s

    def learn(self, kind: str, duration_s: float) -> None:
        """Note how long a wait took."""
        self._seen.setdefault(kind, _Seen()).add(duration_s)
        self._set(sum(seen.usual_s for seen in self._seen.values()))

    def nearly_all_s(self, kind: str) -> float | None:
        """Return how long all but the longest tenth of such waits took; None when too few are known."""
        seen = self._seen.get(kind)
        if seen is None or len(seen.ordered) < ENOUGH:
            return None
        return seen.ordered[len(seen.ordered) * 9 // 10]

    def _set(self, way_s: float) -> None:
        self._interval_s = min(LONGEST_S, max(self._shortest_s, SHARE * way_s))

    def pause_s(self, waits: Mapping[str, Waiting], soon: int) -> float:
        """Return how long after the last read the next one is due.

        Args:
            waits: Those who wait, by the name of what they wait for; each name with somebody.
            soon: How many wait for nothing but to be confirmed.
        """
        if not self._seen:
            return self._interval_s
        # Where nothing of a kind has ended yet it takes at least as long as it has taken.
        longest = {kind: max(each.so_far_s) for kind, each in waits.items() if kind not in self._seen}
        self._set(sum(seen.usual_s for seen in self._seen.values()) + UNKNOWN * sum(longest.values()))
        interval = self._interval_s
        evenly = expected = 0.0
        for kind, waiting in waits.items():
            if (seen := self._seen.get(kind)) is not None:
                evenly += waiting.count / seen.usual_s
                expected += seen.ends_within(waiting, interval)
            else:
                rate = waiting.count / max(longest[kind], interval)
                evenly, expected = evenly + rate, expected + rate
        shortest = min(max(self._shortest_s, SOONEST * interval), interval)
        if not evenly:
            return shortest if soon else interval
        # soon * t + expected * t**2 / 2 is what is lost by t.
        worth = evenly * interval**2 / 2
        due = (math.sqrt(soon**2 + 2 * expected * worth) - soon) / expected
        return min(max(due, shortest), LATEST * interval)
