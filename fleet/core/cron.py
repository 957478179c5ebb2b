"""When cron starts something: its five fields, in a time zone, through both changes of the clocks. Pure.

As crontab(5) and cron(8) of Debian and of cronie say: a fixed time that the clocks leave out comes at the
change, one that comes twice is meant once; with a ``*`` in minute or hour the clock on the wall counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from fleet.core.windows import Span, instant

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _DAYS),
)
_SHORT = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
FIELDS = len(_FIELDS)


@dataclass(frozen=True, slots=True)
class Cron:
    """A schedule of cron.

    Attributes:
        words: As it was written.
        by_clock: With a ``*`` in minute or hour, so that what is left out or doubled is so for it too.
        any_day: Day of month or day of week begins with ``*``: both have to fit; else one of them has to.
    """

    words: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    by_clock: bool
    any_day: bool

    def starts(self, span: Span, zone: tzinfo) -> Iterator[datetime]:
        """Yield when it starts within a time, in order, in *zone*."""
        begin, end = span.start.astimezone(UTC), span.end.astimezone(UTC)
        day = span.start.astimezone(zone).date() - timedelta(days=1)
        while day <= span.end.astimezone(zone).date():
            if self._is_on(day):
                for moment in self._of_day(day, zone):
                    if begin <= moment < end:
                        yield moment.astimezone(zone)
            day += timedelta(days=1)

    def _of_day(self, day: date, zone: tzinfo) -> list[datetime]:
        found = set[datetime]()
        for hour in self.hours:
            for minute in self.minutes:
                clock = time(hour, minute)
                first = instant(day, clock, zone)
                if self.by_clock and first.replace(tzinfo=None) != datetime.combine(day, clock):
                    continue  # left out
                found.add(first.astimezone(UTC))
                if self.by_clock:
                    found.add(instant(day, clock, zone, last=True).astimezone(UTC))
        return sorted(found)

    def _is_on(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        fits = (day.day in self.days, day.isoweekday() % 7 in self.weekdays)
        return all(fits) if self.any_day else any(fits)


def parse_cron(words: str) -> Cron:
    """Read the five fields of a crontab's line, or ``@daily`` and its like.

    Raises:
        ValueError: They are not understood; says which field and why.
    """
    fields = _SHORT.get(words.strip().lower(), words).lower().split()
    if len(fields) != FIELDS:
        raise ValueError(
            f"{words!r} has {len(fields)} fields; cron wants 5: minute, hour, day, month, weekday"
        )
    minutes, hours, days, months, weekdays = (
        _numbers(field, *kind) for field, kind in zip(fields, _FIELDS, strict=True)
    )
    return Cron(
        " ".join(words.split()),
        minutes,
        hours,
        days,
        months,
        frozenset(number % 7 for number in weekdays),
        by_clock=fields[0].startswith("*") or fields[1].startswith("*"),
        any_day=fields[2].startswith("*") or fields[4].startswith("*"),
    )


def _numbers(field: str, name: str, low: int, high: int, names: tuple[str, ...]) -> frozenset[int]:
    found = set[int]()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, dash, last = span.partition("-")
        if span == "*":
            begin, end = low, high
        else:
            begin = _number(first, field, name, low, high, names)
            end = _number(last, field, name, low, high, names) if dash else begin
        if step and not (span == "*" or dash):
            end = high
        every = int(step) if step.isascii() and step.isdigit() else 0 if step else 1
        if begin > end and every > 0:
            around = f"{first}-{names[-1] if names else high},{names[0] if names else low}-{last}"
            raise ValueError(
                f"{name} {field!r}: cron does not count past its end; {span} is written {around}"
            )
        if every < 1 or ("/" in part and not step):
            raise ValueError(f"{name} {field!r}: {part!r} is no range with a step")
        found.update(range(begin, end + 1, every))
    return frozenset(found)


def _number(word: str, field: str, name: str, low: int, high: int, names: tuple[str, ...]) -> int:
    if word in names:
        return names.index(word) + low
    if not (word.isascii() and word.isdigit()) or not low <= int(word) <= high:
        raise ValueError(f"{name} {field!r}: {word!r} is not a number from {low} to {high}")
    return int(word)
