"""Frozen days from commands and calendars. What cannot be read freezes."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from fleet import freeze
from fleet.core.settings import Freeze
from fleet.core.windows import Frozen


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
        (("DTSTART;VALUE=DATE:20261224", "BEGIN:VALARM", "DTEND:x", "END:VALARM"), (12, 24), (12, 24)),
    ],
)  # fmt: skip
def test_the_days_of_an_event(lines: tuple[str, ...], first: tuple[int, int], last: tuple[int, int]) -> None:
    text = calendar(event("SUMMARY:year end", *lines))
    days = Frozen(date(2026, *first), date(2026, *last), "Europe/Berlin", "year end")
    assert freeze.events(text, "Europe/Berlin") == [days]


def test_a_folded_line_is_one_line() -> None:
    text = calendar(event("SUMMARY:year\r\n  end", "DTSTART;VALUE=DATE:2026\r\n 1224"))
    assert freeze.events(text, "UTC") == [Frozen(date(2026, 12, 24), date(2026, 12, 24), "UTC", "year end")]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no iCalendar"),
        ("<html>log in</html>", "no iCalendar"),
        ("BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:2026", "not a whole one"),
        (calendar(event("DTSTART;VALUE=DATE:20261224", "RRULE:FREQ=YEARLY")), "recurs"),
        (calendar(event("SUMMARY:x")), "does not say when"),
        (calendar(event("DTSTART:tomorrow")), "not understood"),
        (calendar(event("DTSTART;TZID=Atlantis/Capital:20261224T080000")), "not understood"),
    ],
)
def test_what_is_not_understood_freezes(text: str, why: str) -> None:
    with pytest.raises(freeze.UnreadableError, match=why):
        freeze.events(text, "UTC")


def script(folder: Path, body: str) -> Freeze:
    path = folder / "frozen"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return Freeze(command=(str(path),))


async def test_a_command_prints_days(tmp_path: Path) -> None:
    made = script(tmp_path, "echo 2026-12-24/2026-12-27; echo; echo 2026-12-31")
    found, wrong = await freeze.read((made,), str(tmp_path), {"PATH": "/usr/bin:/bin"})
    assert wrong is None
    assert [(str(each.first), str(each.last)) for each in found] == [
        ("2026-12-24", "2026-12-27"),
        ("2026-12-31", "2026-12-31"),
    ]


@pytest.mark.parametrize(
    ("body", "why"), [("exit 3", "ended with 3"), ("echo soon", "line 1"), ("echo 2026-13-01", "is no date")]
)
async def test_a_command_that_fails_freezes(tmp_path: Path, body: str, why: str) -> None:
    found, wrong = await freeze.read((script(tmp_path, body),), str(tmp_path), {"PATH": "/usr/bin:/bin"})
    assert not found
    assert wrong is not None
    assert why in wrong


async def test_a_calendar_that_is_gone_freezes_and_its_secrets_are_not_told(tmp_path: Path) -> None:
    gone = Freeze(ical=str(tmp_path / "gone.ics"))
    away = Freeze(ical="http://user:hunter2@127.0.0.1:1/x.ics?token=geheim")
    _, wrong = await freeze.read((gone, away), str(tmp_path), {})
    assert wrong is not None
    assert "gone.ics: No such file" in wrong
    assert "127.0.0.1:1/x.ics" in wrong
    assert "hunter2" not in wrong
    assert "geheim" not in wrong
