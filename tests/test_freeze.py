"""Frozen days from commands and calendars. What cannot be read freezes."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from fleet import calendars, freeze
from fleet.core.settings import Freeze
from fleet.core.windows import Frozen

NOW = datetime(2026, 12, 5, 20, tzinfo=UTC)


def calendar(*events: str) -> str:
    return "\r\n".join(["BEGIN:VCALENDAR", "VERSION:2.0", *events, "END:VCALENDAR", ""])


def event(*lines: str) -> str:
    return "\r\n".join(["BEGIN:VEVENT", *lines, "END:VEVENT"])


@pytest.mark.parametrize(
    ("lines", "first", "last"),
    [
        (("DTSTART;VALUE=DATE:20261224", "DTEND;VALUE=DATE:20261228"), (12, 24), (12, 27)),
        (("DTSTART;VALUE=DATE:20261224",), (12, 24), (12, 24)),
        (("DTSTART:20261224T230000Z", "DTEND:20261225T050000Z"), (12, 25), (12, 25)),  # midnight in Berlin
        (("DTSTART;TZID=America/New_York:20261224T200000", "DTEND;TZID=America/New_York:20261224T220000"),
         (12, 25), (12, 25)),
        (("DTSTART:20261224T080000", "DTEND:20261224T090000"), (12, 24), (12, 24)),
        (("DTSTART;VALUE=DATE:20261224", "BEGIN:VALARM", "TRIGGER:-P1D", "END:VALARM"), (12, 24), (12, 24)),
    ],
)  # fmt: skip
def test_the_days_of_an_event(lines: tuple[str, ...], first: tuple[int, int], last: tuple[int, int]) -> None:
    text = calendar(event("SUMMARY:year end", *lines))
    days = Frozen(date(2026, *first), date(2026, *last), "Europe/Berlin", "year end")
    assert calendars.events(text, "Europe/Berlin", NOW) == [days]


def test_a_folded_line_is_one_line() -> None:
    text = calendar(event("SUMMARY:year\r\n  end", "DTSTART;VALUE=DATE:2026\r\n 1224"))
    assert calendars.events(text, "UTC", NOW) == [
        Frozen(date(2026, 12, 24), date(2026, 12, 24), "UTC", "year end")
    ]


def days(*lines: str) -> list[str]:
    """Return the first days of events that are not long over, in Berlin."""
    found = calendars.events(calendar(event("SUMMARY:x", *lines)), "Europe/Berlin", NOW)
    return [str(each.first) for each in found]


def test_events_that_recur_freeze_each_time() -> None:
    friday = ("DTSTART;VALUE=DATE:20200103", "RRULE:FREQ=WEEKLY;BYDAY=FR;UNTIL=20261231")
    assert days(*friday) == ["2026-12-04", "2026-12-11", "2026-12-18", "2026-12-25"]
    assert days(*friday, "EXDATE;VALUE=DATE:20261218") == ["2026-12-04", "2026-12-11", "2026-12-25"]
    yearly = ("DTSTART;VALUE=DATE:20101224", "DTEND;VALUE=DATE:20101227", "RRULE:FREQ=YEARLY")
    assert days(*yearly) == ["2026-12-24", "2027-12-24"]
    again = ("DTSTART:20261224T230000Z", "DURATION:PT4H", "RDATE:20261228T090000Z")
    assert days(*again) == ["2026-12-25", "2026-12-28"]


def test_an_event_that_was_moved_or_called_off_counts_as_it_is_now() -> None:
    weekly = event("UID:1", "SUMMARY:x", "DTSTART;VALUE=DATE:20261207", "RRULE:FREQ=WEEKLY;COUNT=3")
    moved = event("UID:1", "SUMMARY:x", "RECURRENCE-ID;VALUE=DATE:20261214", "DTSTART;VALUE=DATE:20261216")
    off = event(
        "UID:1", "RECURRENCE-ID;VALUE=DATE:20261221", "DTSTART;VALUE=DATE:20261221", "STATUS:CANCELLED"
    )
    found = calendars.events(calendar(weekly, moved, off), "UTC", NOW)
    assert [str(each.first) for each in found] == ["2026-12-07", "2026-12-16"]


def test_what_is_over_is_left_out_and_today_is_in() -> None:
    assert days("DTSTART;VALUE=DATE:20261101") == []
    assert days("DTSTART;VALUE=DATE:20261205") == ["2026-12-05"]
    assert days("DTSTART:20261205T183000Z", "DTEND:20261205T190000Z") == ["2026-12-05"]
    assert days("DTSTART;VALUE=DATE:20261120", "DTEND;VALUE=DATE:20270110") == ["2026-11-20"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no iCalendar"),
        ("<html>log in</html>", "no iCalendar"),
        ("BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:2026", "not a whole one"),
        (calendar(event("DTSTART:20261224T080000Z", "RRULE:FREQ=SECONDLY")), "more than once a day"),
        (calendar(event("DTSTART;VALUE=DATE:20261224", "RRULE:FREQ=SOMETIMES")), "not understood"),
        (calendar(event("DTSTART:20261224T080000Z", "DTEND:soon")), "not understood"),
        (calendar(event("SUMMARY:x")), "does not say when"),
        (calendar(event("DTSTART:tomorrow")), "not understood"),
        (calendar(event("DTSTART;TZID=Atlantis/Capital:20261224T080000")), "time zone"),
    ],
)
def test_what_is_not_understood_freezes(text: str, why: str) -> None:
    with pytest.raises(calendars.UnreadableError, match=why):
        calendars.events(text, "UTC", NOW)


def script(folder: Path, body: str) -> Freeze:
    path = folder / "frozen"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return Freeze(command=(str(path),))


async def test_a_command_prints_days(tmp_path: Path) -> None:
    made = script(tmp_path, "echo 2026-12-24/2026-12-27; echo; echo 2026-12-31")
    found, wrong = await freeze.read((made,), str(tmp_path), {"PATH": "/usr/bin:/bin"}, NOW)
    assert wrong is None
    assert [(str(each.first), str(each.last)) for each in found] == [
        ("2026-12-24", "2026-12-27"),
        ("2026-12-31", "2026-12-31"),
    ]


@pytest.mark.parametrize(
    ("body", "why"), [("exit 3", "ended with 3"), ("echo soon", "line 1"), ("echo 2026-13-01", "is no date")]
)
async def test_a_command_that_fails_freezes(tmp_path: Path, body: str, why: str) -> None:
    found, wrong = await freeze.read((script(tmp_path, body),), str(tmp_path), {"PATH": "/usr/bin:/bin"}, NOW)
    assert not found
    assert wrong is not None
    assert why in wrong


async def test_a_calendar_that_is_gone_freezes_and_its_secrets_are_not_told(tmp_path: Path) -> None:
    gone = Freeze(ical=str(tmp_path / "gone.ics"))
    away = Freeze(ical="http://user:hunter2@127.0.0.1:1/x.ics?token=geheim")
    _, wrong = await freeze.read((gone, away), str(tmp_path), {}, NOW)
    assert wrong is not None
    assert "gone.ics: No such file" in wrong
    assert "127.0.0.1:1/x.ics" in wrong
    assert "hunter2" not in wrong
    assert "geheim" not in wrong
