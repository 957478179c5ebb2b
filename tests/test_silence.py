"""Nights in which nothing moved, and windows that nobody met."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from rollout_support import open_run, settle, take, target
from support import event_for

from fleet.core import events as ev
from fleet.core.model import ServerId
from fleet.core.settings import Window
from fleet.core.silence import last_progress, missed, nights_without_progress, ordinal
from fleet.core.state import Run

NIGHTS = (Window(start="22:00", end="04:00", timezone="UTC"),)
WEEKENDS = (Window(start="22:00", end="04:00", days=("sat",), timezone="UTC"),)
OPENED = "2026-12-05T20:00"  # a Saturday, by `support.AT`


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def run_of(windows: tuple[Window, ...] = (), *, moved: str | None = None) -> Run:
    run = open_run((target(waves=(1, 9)), 3), windows=windows)
    if moved is not None:
        take(run, ev.Admitted(server=ServerId("web-1")), at=at(moved))
    return run


COUNTED = [
    # windows, last moved, now, nights at the end of a call, nights that are over
    (NIGHTS, "2026-12-07T22:31", "2026-12-07T23:00", 0, 0),
    (NIGHTS, "2026-12-08T02:31", "2026-12-08T05:00", 0, 0),  # it moved behind midnight: one night
    (NIGHTS, "2026-12-07T22:31", "2026-12-08T22:00", 1, 0),
    (NIGHTS, "2026-12-07T22:31", "2026-12-09T04:00", 1, 1),
    (NIGHTS, "2026-12-07T22:31", "2026-12-09T22:05", 2, 1),
    (NIGHTS, "2026-12-07T22:31", "2026-12-10T12:00", 2, 2),
    (NIGHTS, None, "2026-12-05T21:00", 0, 0),
    (NIGHTS, None, "2026-12-05T22:05", 1, 0),
    (WEEKENDS, "2026-12-06T01:00", "2026-12-11T12:00", 0, 0),  # a week without a window is no silence
    (WEEKENDS, "2026-12-06T01:00", "2026-12-12T22:00", 1, 0),
    ((), "2026-12-07T22:31", "2026-12-07T23:00", 0, 0),
    ((), "2026-12-08T02:10", "2026-12-08T22:00", 1, 0),
    ((), "2026-12-07T22:31", "2026-12-08T22:00", 1, 0),
    ((), "2026-12-07T22:31", "2026-12-09T22:01", 2, 1),
    ((), "2026-12-07T22:31", "2026-12-10T22:32", 3, 3),
]


@pytest.mark.parametrize(("windows", "moved", "now", "nights", "over"), COUNTED)
def test_nights(windows: tuple[Window, ...], moved: str | None, now: str, nights: int, over: int) -> None:
    run = run_of(windows, moved=moved)
    assert nights_without_progress(run, at(now)) == nights
    assert nights_without_progress(run, at(now), over=True) == over


def test_a_settled_run_has_no_silent_nights() -> None:
    run = open_run((target(), 1), windows=NIGHTS)
    settle(run, "verified", "web-1")
    assert nights_without_progress(run, at("2027-03-01T12:00")) == 0


def test_who_was_left_out_at_the_opening_is_no_progress() -> None:
    run = run_of(NIGHTS)
    take(run, event_for(ev.Skipped, ServerId("web-3")), at=at("2026-12-06T01:00"))
    assert run.progress_at is None
    assert last_progress(run) == at(OPENED)


def test_missed_windows_are_those_that_are_over() -> None:
    """From the last sign of life on, by when they opened; the one that is open is not missed yet."""
    found = missed(run_of(NIGHTS).settings, at("2026-12-07T23:00"), at("2026-12-09T23:00"))
    assert [span.start for span in found] == [at("2026-12-08T22:00")]
    assert missed(run_of().settings, at("2026-12-07T23:00"), at("2027-12-09T23:00")) == []


def test_ordinals() -> None:
    words = [ordinal(number) for number in (1, 2, 10, 11, 12, 21, 22, 23, 111)]
    assert words == ["first", "second", "tenth", "11th", "12th", "21st", "22nd", "23rd", "111th"]
