"""Windows: by weekday, n-th weekday and moments, past midnight, in every time zone and both clock changes."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.core.settings import Window
from fleet.core.windows import Frozen, Schedule, instant

NIGHT = Window(start="22:00", end="04:00", timezone="Europe/Berlin")
NEW_YORK = Window(start="22:00", end="04:00", timezone="America/New_York")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("window", "day", "opens", "closes", "hours"),
    [
        (NIGHT, "2026-10-24", "2026-10-24T20:00Z", "2026-10-25T03:00Z", 7),
        (NIGHT, "2026-10-23", "2026-10-23T20:00Z", "2026-10-24T02:00Z", 6),
        (NIGHT, "2027-03-27", "2027-03-27T21:00Z", "2027-03-28T02:00Z", 5),
        (NEW_YORK, "2026-10-31", "2026-11-01T02:00Z", "2026-11-01T09:00Z", 7),
        (NEW_YORK, "2027-03-13", "2027-03-14T03:00Z", "2027-03-14T08:00Z", 5),
        # The doubled hour: the first 02:30 opens, the second closes.
        (Window(start="02:30", end="05:00", timezone="Europe/Berlin"), "2026-10-25",
         "2026-10-25T00:30Z", "2026-10-25T04:00Z", 3.5),
        (Window(start="00:30", end="02:30", timezone="Europe/Berlin"), "2026-10-25",
         "2026-10-24T22:30Z", "2026-10-25T01:30Z", 3),
        (Window(start="01:30", end="03:00", timezone="America/New_York"), "2026-11-01",
         "2026-11-01T05:30Z", "2026-11-01T08:00Z", 2.5),
        # The missing hour: what it leaves out is the moment of the change.
        (Window(start="02:30", end="05:00", timezone="Europe/Berlin"), "2027-03-28",
         "2027-03-28T01:00Z", "2027-03-28T03:00Z", 2),
        (Window(start="00:30", end="02:30", timezone="Europe/Berlin"), "2027-03-28",
         "2027-03-27T23:30Z", "2027-03-28T01:00Z", 1.5),
        (Window(start="02:15", end="04:00", timezone="America/New_York"), "2027-03-14",
         "2027-03-14T07:00Z", "2027-03-14T08:00Z", 1),
    ],
)  # fmt: skip
def test_both_changes_of_the_clock(window: Window, day: str, opens: str, closes: str, hours: float) -> None:
    noon = datetime.combine(date.fromisoformat(day), time(), zoneinfo.ZoneInfo(window.timezone or ""))
    span = next(Schedule([window]).openings(noon + timedelta(minutes=1)))
    if span.start < noon:  # last night's, still open at midnight
        span = next(islice(Schedule([window]).openings(noon + timedelta(minutes=1)), 1, None))
    assert [each.astimezone(UTC) for each in (span.start, span.end)] == [at(opens), at(closes)]
    assert span.length == timedelta(hours=hours)
    state = Schedule([window]).at(at(closes) - timedelta(seconds=1))
    assert state.closed is None
    assert state.closes_at is not None
    assert state.closes_at.astimezone(UTC) == at(closes)
    assert Schedule([window]).at(at(closes)).closed is not None


def test_a_missing_window_never_opens_that_day() -> None:
    gone = Window(start="02:10", end="02:50", timezone="Europe/Berlin", days=("sun",))
    spans = list(islice(Schedule([gone]).openings(at("2027-03-22T00:00Z")), 2))
    assert [span.start.date() for span in spans] == [date(2027, 4, 4), date(2027, 4, 11)]


def test_half_past_midnight_belongs_to_the_night_before() -> None:
    friday = Schedule([Window(days=("fri",), start="22:00", end="04:00", timezone="UTC")])
    assert friday.at(at("2026-12-05T00:30Z")).closed is None  # a Saturday by the calendar
    assert friday.at(at("2026-12-04T00:30Z")).closed == "window opens Fri 2026-12-04 22:00 UTC"


@pytest.mark.parametrize(
    ("nth", "expected"),
    [
        ((1,), ["2026-12-05", "2027-01-02"]),
        ((2, 4), ["2026-12-12", "2026-12-26"]),
        ((-1,), ["2026-12-26", "2027-01-30"]),
        ((5,), ["2027-01-30", "2027-05-29"]),
    ],
)
def test_the_nth_saturday_of_the_month(nth: tuple[int, ...], expected: list[str]) -> None:
    schedule = Schedule(
        [Window(days=("sat",), nth=nth, start="22:00", end="23:00", timezone="Europe/Berlin")]
    )
    found = [span.start.date().isoformat() for span in islice(schedule.openings(at("2026-12-01T00:00Z")), 2)]
    assert found == expected


def test_windows_that_touch_are_one() -> None:
    schedule = Schedule(
        [
            Window(days=("sat",), start="20:00", end="00:00", timezone="UTC"),
            Window(days=("sun",), start="00:00", end="06:00", timezone="UTC"),
            Window(start="2026-12-06T05:00+00:00", end="2026-12-06T08:00+00:00"),
        ]
    )
    assert schedule.at(at("2026-12-05T21:00Z")).closes_at == at("2026-12-06T08:00Z")


def test_moments_are_over_when_they_are_over() -> None:
    schedule = Schedule([Window(start="2026-12-05T20:00+01:00", end="2026-12-06T05:00+01:00")])
    assert schedule.at(at("2026-12-05T18:59Z")).closed == "window opens Sat 2026-12-05 20:00 UTC+01:00"
    assert schedule.at(at("2026-12-05T19:00Z")).closes_at == at("2026-12-06T04:00Z")
    assert schedule.at(at("2026-12-06T04:00Z")).closed == "no window opens any more"


def test_frozen_days_are_cut_out() -> None:
    christmas = Frozen(date(2026, 12, 24), date(2026, 12, 27), "Europe/Berlin", "2026-12-24/2026-12-27")
    schedule = Schedule([NIGHT], [christmas])
    assert schedule.at(at("2026-12-23T21:30Z")).closes_at == at("2026-12-23T23:00Z")  # midnight in Berlin
    frozen = schedule.at(at("2026-12-25T22:00Z"))
    assert frozen.closed == "frozen: 2026-12-24/2026-12-27, opens Mon 2026-12-28 00:00 CET"
    # The window of the 27th goes on past midnight, and its rest is not frozen.
    assert schedule.at(at("2026-12-27T23:30Z")).closes_at == at("2026-12-28T03:00Z")
    always = Schedule([], [christmas])
    assert always.at(at("2026-12-20T00:00Z")).closes_at == at("2026-12-23T23:00Z")
    assert always.at(at("2026-12-28T00:00Z")) == Schedule([]).at(at("2026-12-28T00:00Z"))


def test_whoever_asks_again_hears_what_a_new_schedule_says() -> None:
    """Second by second over a closing, a frozen day's begin and an opening; and back, as clocks go."""
    windows = [Window(start="22:00", end="23:59", timezone="Europe/Berlin")]
    frozen = [Frozen(date(2026, 12, 5), date(2026, 12, 5), "Europe/Berlin")]
    asked = Schedule(windows, frozen)
    for day, clock in (
        (4, time(21, 58)),
        (4, time(22, 57, 30)),
        (5, time(20, 59)),
        (6, time(20, 59)),
        (4, time(22, 0)),
    ):
        begin = datetime.combine(date(2026, 12, day), clock, UTC)
        for second in range(0, 150, 1):
            now = begin + timedelta(seconds=second)
            assert asked.at(now) == Schedule(windows, frozen).at(now)


def test_an_opening_is_not_worked_out_for_everybody_who_asks() -> None:
    asked = Schedule([Window(start="22:00", end="04:00", timezone="Europe/Berlin")])
    begin = datetime(2026, 12, 5, 22, tzinfo=UTC)
    worked_out = []
    asked.openings = lambda now: worked_out.append(now) or Schedule.openings(asked, now)  # type: ignore[method-assign, func-returns-value]
    for moment in range(600):
        assert asked.at(begin + timedelta(seconds=moment / 2)).closes_at is not None
    assert len(worked_out) == 5


def test_without_windows_it_is_always_open() -> None:
    assert Schedule([]).is_always_open
    assert Schedule([]).at(at("2026-12-28T00:00Z")).closed is None
    assert Schedule([]).at(at("2026-12-28T00:00Z")).closes_at is None


ZONES = sorted(zoneinfo.available_timezones())


@given(
    zone=st.sampled_from(ZONES),
    start=st.times().map(lambda clock: clock.replace(second=0, microsecond=0)),
    end=st.times().map(lambda clock: clock.replace(second=0, microsecond=0)),
    hour=st.integers(0, 87_600),
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_every_zone_for_ten_years(zone: str, start: time, end: time, hour: int) -> None:
    """In order, apart, as the clocks there show, and `at` agrees with `openings`."""
    if start == end:
        return
    there = zoneinfo.ZoneInfo(zone)
    schedule = Schedule([Window(start=f"{start:%H:%M}", end=f"{end:%H:%M}", timezone=zone)])
    moment = at("2026-01-01T00:00Z") + timedelta(hours=hour)
    spans = list(islice(schedule.openings(moment), 4))
    assert all(one.end.astimezone(UTC) < other.start.astimezone(UTC) for one, other in pairwise(spans))
    for span in spans:
        assert timedelta(0) < span.length < timedelta(hours=27)
        for shown, meant in ((span.start, start), (span.end, end)):
            local = shown.astimezone(UTC).astimezone(there)
            missing = instant(local.date(), meant, there).astimezone(UTC) == local.astimezone(UTC)
            assert (local.hour, local.minute) == (meant.hour, meant.minute) or missing
        inside = span.start.astimezone(UTC) + span.length / 2
        assert schedule.at(inside).closed is None
        assert schedule.at(span.end).closed is not None
        assert schedule.at(span.start.astimezone(UTC) - timedelta(seconds=1)).closed is not None
    state = schedule.at(moment)
    assert (state.closed is None) == (spans[0].start.astimezone(UTC) <= moment)
