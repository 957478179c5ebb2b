"""When servers may be worked on: windows by the clock or by moments, less frozen days. Pure.

``docs/windows.md`` says exactly what a window means. In short: it belongs to the day on which it opens; the
first of two equal clock times opens it, the second closes it; a clock time that a change of the clocks leaves
out is the moment of the change. All arithmetic is on instants, so a night with 25 hours is as long as it is.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

from fleet.core.settings import Settings, Window

HORIZON = timedelta(days=400)
"""How far ahead an opening is looked for: a fifth Friday behind a frozen year-end is found."""

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CHUNK = timedelta(days=40)
_MOMENT = timedelta(minutes=1)
"""How long an opening that was found is good for: thousands of servers ask in it, each before its wipe."""


@dataclass(frozen=True, slots=True)
class Span:
    """A time from *start* to *end*, the end not included; both aware, in the zone they were written in."""

    start: datetime
    end: datetime

    @property
    def length(self) -> timedelta:
        """How long it really is."""
        return self.end.astimezone(UTC) - self.start.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Frozen:
    """Days on which nothing is started, both included, with the reason in words."""

    first: date
    last: date
    zone: str = "UTC"
    why: str = ""

    def span(self) -> Span:
        """Return the days as instants."""
        zone = ZoneInfo(self.zone)
        return Span(instant(self.first, time(), zone), instant(self.last + timedelta(days=1), time(), zone))


@dataclass(frozen=True, slots=True)
class State:
    """What a schedule says about one instant.

    Attributes:
        closed: Why nothing may be started, or None.
        closes_at: When what is open closes, within the horizon; None: not in sight.
        opens_at: When what is closed opens; None: not in sight.
    """

    closed: str | None = None
    closes_at: datetime | None = None
    opens_at: datetime | None = None


class Schedule:
    """Windows less frozen days.

    Args:
        windows: Of the plan; none of them: any time.
        frozen: Days on which nothing is started.
    """

    def __init__(self, windows: Sequence[Window], frozen: Iterable[Frozen] = ()) -> None:
        self._windows = tuple(windows)
        self._frozen = tuple(frozen)
        self._cuts = tuple(_joined(each.span() for each in self._frozen))
        self._open: tuple[datetime, Span] | None = None

    @property
    def is_always_open(self) -> bool:
        """Nothing restricts the time."""
        return not self._windows and not self._frozen

    def at(self, now: datetime) -> State:
        """Say what holds at *now*."""
        if self.is_always_open:
            return State()
        upcoming = self._upcoming(now)
        if upcoming is not None and _utc(upcoming.start) <= _utc(now):
            sight = _utc(now) + HORIZON
            return State(closes_at=upcoming.end if _utc(upcoming.end) < sight else None)
        opens = upcoming.start if upcoming is not None else None
        frozen = next((cut for cut in self._frozen if _holds(cut.span(), now)), None)
        if frozen is not None:
            why = f": {frozen.why}" if frozen.why else ""
            until = f", opens {spell(opens)}" if opens else ""
            return State(closed=f"frozen{why}{until}", opens_at=opens)
        if opens is None:
            return State(closed="no window opens any more")
        return State(closed=f"window opens {spell(opens)}", opens_at=opens)

    def _upcoming(self, now: datetime) -> Span | None:
        """Return what is open at *now*, or opens next. What was open a moment ago is not worked out anew."""
        moment = _utc(now)
        if self._open is not None:
            since, span = self._open
            if since <= moment < min(since + _MOMENT, _utc(span.end)):
                return span
        found = next(self.openings(now), None)
        if found is not None and _utc(found.start) <= moment:
            self._open = moment, found
        return found

    def openings(self, now: datetime) -> Iterator[Span]:
        """Yield what is open at *now*, if anything is, and then every opening within the horizon."""
        begin, limit = _utc(now), _utc(now) + HORIZON
        while begin < limit:
            end = min(limit, begin + _CHUNK)
            # Whole spans, so that one that goes on across the border of a chunk is seen as a whole.
            for span in self._between(begin - timedelta(days=2), end + timedelta(days=3)):
                if _utc(span.end) <= begin or _utc(span.start) >= end:
                    continue
                if _utc(span.start) < begin and begin != _utc(now):
                    continue  # it began in the chunk before, and was yielded there
                yield span
            begin = end

    def _between(self, begin: datetime, end: datetime) -> list[Span]:
        if self._windows:
            spans = [span for window in self._windows for span in _spans(window, begin, end)]
        else:
            spans = [Span(begin - HORIZON, begin + 3 * HORIZON)]
        return [part for span in _joined(spans) for part in _without(span, self._cuts)]


def spell(moment: datetime) -> str:
    """Return a moment for people, in its own time zone: ``Sat 2026-12-05 22:00 CET``."""
    return f"{moment:%a %Y-%m-%d %H:%M %Z}".rstrip()


def instant(day: date, clock: time, zone: tzinfo, *, last: bool = False) -> datetime:
    """Return when a clock in *zone* shows *clock* on *day*.

    Args:
        day: The date there.
        clock: The time of day there.
        zone: The time zone.
        last: Of two such moments the second; the first otherwise. One that is left out is the moment at which
            the clocks change.
    """
    naive = datetime.combine(day, clock)
    found = naive.replace(tzinfo=zone, fold=int(last))
    if found.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == naive:
        return found
    early = naive.replace(tzinfo=zone, fold=1).astimezone(UTC)
    late = naive.replace(tzinfo=zone, fold=0).astimezone(UTC)
    before = early.astimezone(zone).utcoffset()
    while late - early > timedelta(seconds=1):
        middle = early + (late - early) / 2
        if middle.astimezone(zone).utcoffset() == before:
            early = middle
        else:
            late = middle
    return late.replace(microsecond=0).astimezone(zone)


def _spans(window: Window, begin: datetime, end: datetime) -> Iterator[Span]:
    """Yield a window's times that reach into the time from *begin* to *end*, whole."""
    if window.timezone is None:
        span = Span(datetime.fromisoformat(window.start), datetime.fromisoformat(window.end))
        if span.start < end and span.end > begin:
            yield span
        return
    zone = ZoneInfo(window.timezone)
    opens, closes = time.fromisoformat(window.start), time.fromisoformat(window.end)
    over = timedelta(days=int(closes <= opens))
    day = begin.astimezone(zone).date() - timedelta(days=1)
    while day <= end.astimezone(zone).date():
        if _is_on(window, day):
            span = Span(instant(day, opens, zone), instant(day + over, closes, zone, last=True))
            if _utc(span.start) < _utc(span.end) and _utc(span.end) > begin and _utc(span.start) < end:
                yield span
        day += timedelta(days=1)


def _is_on(window: Window, day: date) -> bool:
    if window.days and _DAYS[day.weekday()] not in window.days:
        return False
    if not window.nth:
        return True
    length = calendar.monthrange(day.year, day.month)[1]
    return (day.day - 1) // 7 + 1 in window.nth or (-1 in window.nth and day.day + 7 > length)


def _joined(spans: Iterable[Span]) -> Iterator[Span]:
    """Yield spans in order, those that touch or overlap as one."""
    current: Span | None = None
    for span in sorted(spans, key=lambda each: _utc(each.start)):
        if current is None:
            current = span
        elif _utc(span.start) <= _utc(current.end):
            if _utc(span.end) > _utc(current.end):
                current = Span(current.start, span.end)
        else:
            yield current
            current = span
    if current is not None:
        yield current


def _without(span: Span, cuts: Sequence[Span]) -> Iterator[Span]:
    """Yield what is left of a span."""
    start = span.start
    for cut in cuts:
        if _utc(cut.end) <= _utc(start) or _utc(cut.start) >= _utc(span.end):
            continue
        if _utc(cut.start) > _utc(start):
            yield Span(start, cut.start.astimezone(start.tzinfo))
        start = cut.end.astimezone(start.tzinfo)
        if _utc(start) >= _utc(span.end):
            return
    yield Span(start, span.end)


def _holds(span: Span, now: datetime) -> bool:
    return _utc(span.start) <= _utc(now) < _utc(span.end)


def _utc(moment: datetime) -> datetime:
    # Comparing two times of one zone compares what the clock shows, which lies in the doubled hour.
    return moment.astimezone(UTC)


def of_plan(settings: Settings) -> Schedule:
    """Return a plan's windows less the frozen days that stand in the plan itself."""
    frozen = [
        Frozen(date.fromisoformat(days[0]), date.fromisoformat(days[1]), each.timezone, "/".join(days))
        for each in settings.freeze
        if (days := each.dates) is not None
    ]
    return Schedule(settings.windows, frozen)
