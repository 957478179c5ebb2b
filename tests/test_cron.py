"""When cron starts something: fields, names, days, and both changes of the clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from fleet.core.cron import parse_cron
from fleet.core.windows import Span

BERLIN = ZoneInfo("Europe/Berlin")


def starts(words: str, begin: str, end: str, zone: ZoneInfo = BERLIN) -> list[str]:
    """Return the local times at which cron starts it."""
    span = Span(
        datetime.fromisoformat(begin).replace(tzinfo=zone), datetime.fromisoformat(end).replace(tzinfo=zone)
    )
    return [f"{each:%d %H:%M %Z}" for each in parse_cron(words).starts(span, zone)]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("0 22 * * *", ["02 22:00 CET", "03 22:00 CET"]),
        (
            "*/15 22-23 3 * *",
            [f"03 {hour}:{minute:02} CET" for hour in (22, 23) for minute in (0, 15, 30, 45)],
        ),
        ("@daily", ["03 00:00 CET"]),
        ("0 1,3 * dec fri", []),
        ("0 1-3/2 * DEC Thu", ["03 01:00 CET", "03 03:00 CET"]),
        ("5/20 4 3 12 *", ["03 04:05 CET", "03 04:25 CET", "03 04:45 CET"]),
        ("0 12 3 * 7", ["03 12:00 CET"]),  # either day fits, the third or a Sunday
        ("0 12 */2 * 0", []),  # a day with a star: both have to
    ],
)
def test_what_the_fields_mean(words: str, found: list[str]) -> None:
    """Wednesday noon to Thursday midnight, 2 and 3 December 2026."""
    assert starts(words, "2026-12-02T12:00", "2026-12-04T00:00") == found


def test_the_hour_that_comes_twice() -> None:
    """A fixed time is meant once; with a star the clock on the wall counts."""
    night = ("2026-10-25T01:30", "2026-10-25T04:00")
    assert starts("30 2 * * *", *night) == ["25 02:30 CEST"]
    assert starts("30 * * * *", *night) == ["25 01:30 CEST", "25 02:30 CEST", "25 02:30 CET", "25 03:30 CET"]


def test_the_hour_that_is_left_out() -> None:
    """A fixed time comes at the change; with a star it does not come."""
    night = ("2027-03-28T01:00", "2027-03-28T04:00")
    assert starts("30 2 * * *", *night) == ["28 03:00 CEST"]
    assert starts("30 * * * *", *night) == ["28 01:30 CET", "28 03:30 CEST"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("0 22 * *", "has 4 fields"),
        ("60 22 * * *", "minute '60': '60' is not a number from 0 to 59"),
        ("0 22 * * mo", "day of week 'mo'"),
        ("*/15 22-5 * * *", "hour '22-5': cron does not count past its end; 22-5 is written 22-23,0-5"),
        (
            "0 1 * * fri-mon",
            "day of week 'fri-mon': cron does not count past its end; fri-mon is written fri-sat,sun-mon",
        ),
        ("*/0 5 * * *", "minute '*/0'"),
        ("*/ 5 * * *", "minute '*/'"),
        ("@reboot", "has 1 fields"),
        ("0~30 5 * * *", "minute '0~30'"),
    ],
)
def test_what_is_not_understood_is_said(words: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - its words are looked at
        parse_cron(words)
    assert said in str(caught.value)


def test_every_start_of_a_year_is_counted_by_the_minute() -> None:
    """Against a look at each minute of the night's zone, with no arithmetic of ours."""
    schedule = parse_cron("*/20 1-3 * * 0")
    span = Span(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 11, 30, tzinfo=UTC))
    minutes = (span.start + timedelta(minutes=number) for number in range(274 * 24 * 60))
    wall = (moment.astimezone(BERLIN) for moment in minutes)
    expected = [m for m in wall if m.isoweekday() == 7 and m.hour in {1, 2, 3} and m.minute % 20 == 0]
    assert list(schedule.starts(span, BERLIN)) == expected
