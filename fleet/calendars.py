"""Calendars (iCalendar, RFC 5545) whose events are days on which nothing is started.

Recurring events, their exceptions and time zones are worked out by ``recurring-ical-events``. Whatever it
would pass over in silence is refused here: a calendar that is not understood as a whole counts as frozen.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from fleet.core.windows import HORIZON, Frozen

if TYPE_CHECKING:
    from icalendar import Calendar, Component, Event

MOST_EVENTS = 5_000
"""In the time that is looked at; a calendar of frozen days has some dozens."""

_SHORT = {"SECONDLY", "MINUTELY", "HOURLY"}
"""How often nobody freezes; working such an event out for a year would take minutes."""


class UnreadableError(Exception):
    """A calendar cannot be read, so nobody knows whether today is frozen."""


def events(text: str, zone: str, now: datetime) -> list[Frozen]:
    """Return the days of a calendar's events, from yesterday on, as far ahead as openings are looked for.

    Args:
        text: iCalendar.
        zone: In which days are meant that have no time zone of their own.
        now: The time, aware.

    Raises:
        UnreadableError: It is no calendar, or one that is not understood as a whole.
    """
    import icalendar  # noqa: PLC0415 - only for plans that name a calendar
    import recurring_ical_events  # type: ignore[import-untyped]  # noqa: PLC0415 - late: start-up stays fast

    lines = [line.strip().upper() for line in text.splitlines() if line.strip()]
    if not lines or lines[0] != "BEGIN:VCALENDAR" or lines[-1] != "END:VCALENDAR":
        raise UnreadableError("the calendar is no iCalendar file, or not a whole one")
    today = now.astimezone(ZoneInfo(zone)).date()
    known: list[Event] = []
    try:
        for calendar in icalendar.Calendar.from_ical(text, multiple=True):
            _check(calendar)
            # A zone may be most of a day away from another.
            ahead = recurring_ical_events.of(calendar).between(today - timedelta(days=2), today + HORIZON)
            known += islice(ahead, MOST_EVENTS + 1)
        found = {_days(event, zone) for event in known if not _is_off(event)}
    except UnreadableError:
        raise
    except Exception as error:  # whatever a parser makes of a stranger's file, today may be frozen
        raise UnreadableError(f"the calendar is not understood: {_first_line(error)}") from error
    if len(known) > MOST_EVENTS:
        raise UnreadableError(f"the calendar has more than {MOST_EVENTS:,} events in a year")
    return sorted(found, key=lambda each: (each.first, each.last, each.why))


def _check(calendar: Calendar) -> None:
    """Refuse what would be passed over.

    Raises:
        UnreadableError: An event without a time, or with a line that is not understood.
    """
    for event in calendar.walk("VEVENT"):
        said = _said(event)
        for name, error in event.errors:
            raise UnreadableError(f"the calendar's event {said!r}: {name} is not understood: {error}"[:200])
        if "DTSTART" not in event:
            raise UnreadableError(f"the calendar's event {said!r} does not say when it is")
        rules = event.get("RRULE", [])
        for rule in rules if isinstance(rules, list) else [rules]:
            if _SHORT.intersection(str(freq).upper() for freq in rule.get("FREQ", [])):
                raise UnreadableError(f"the calendar's event {said!r} recurs more than once a day")
        for name in ("DTSTART", "DTEND"):
            stamp = event.get(name)
            if stamp is None:
                continue
            moment = getattr(stamp, "dt", None)
            if not isinstance(moment, date):
                raise UnreadableError(f"the calendar's event {said!r}: {name} is not understood")
            named = stamp.params.get("TZID")
            if named and isinstance(moment, datetime) and moment.tzinfo is None:
                raise UnreadableError(f"the calendar's event {said!r}: time zone {str(named)!r} is not known")


def _is_off(event: Event) -> bool:
    return str(event.get("STATUS", "")).upper() == "CANCELLED"


def _days(event: Event, zone: str) -> Frozen:
    first = _moment(event.start, zone)
    last = _moment(event.end, zone)  # worked out where the event has a duration, or neither
    # The end is not included: of a day the day before, of a moment the one right before it.
    end = last - (timedelta(seconds=1) if isinstance(last, datetime) else timedelta(days=1))
    day = _day(first, zone)
    return Frozen(day, max(_day(end, zone), day), zone, _said(event))


def _said(event: Component) -> str:
    return " ".join(str(event.get("SUMMARY", "")).split())[:60] or "an event"


def _moment(value: date | datetime, zone: str) -> date | datetime:
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=ZoneInfo(zone))
    return value


def _day(moment: date | datetime, zone: str) -> date:
    return moment.astimezone(ZoneInfo(zone)).date() if isinstance(moment, datetime) else moment


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
