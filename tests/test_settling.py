"""When those in flight are settled: what a hold and a drain promise, from the durations that are known."""

from __future__ import annotations

from datetime import timedelta

import pytest
from rollout_support import TO_INSTALLED, open_run, take, target
from support import AT, event_for

from fleet.core import events as ev
from fleet.core.model import ServerId
from fleet.core.settings import Window
from fleet.core.settling import settling
from fleet.core.state import Run

KIND = ("image", "flavor", "zone")
ZONE = {"image": "image", "flavor": "flavor", "zone": "zone"}
TAIL = [(KIND, 60.0 * minutes) for minutes in (20, 22, 24, 26, 45)]
WINDOW = Window(start="22:00", end="04:00", timezone="Europe/Berlin")
"""AT is eight in the evening, UTC: nine in Berlin."""


def began(run: Run, *names: str, minutes_ago: float = 0.0, wiped: bool = True) -> None:
    """Have servers been started so long ago; *wiped*: the cloud has taken their reinstall."""
    events = [ev.Admitted, *(TO_INSTALLED[:3] if wiped else TO_INSTALLED[:1])]
    at = AT - timedelta(minutes=minutes_ago)
    for name in names:
        take(run, *(event_for(kind, ServerId(name)) for kind in events), at=at)


def held(run: Run) -> Run:
    """Hold it."""
    take(run, ev.RunHeld(reason="INC-4711", by="me"))
    return run


def test_all_in_flight_settle_by_the_tail_of_what_was_seen() -> None:
    """Not by the usual duration, and told in the windows' zone; who is not wiped yet is put back."""
    run = open_run((target(), [ZONE] * 9), windows=(WINDOW,))
    began(run, "web-1", "web-2", minutes_ago=10)
    began(run, "web-3", minutes_ago=2, wiped=False)
    drained = settling(run, AT, TAIL)
    assert drained.words(AT) == "3 in flight settle by about 21:43: 3 are brought to their end"
    assert settling(held(run), AT, TAIL).words(AT) == (
        "3 in flight settle by about 21:43: 2 are brought to their end, 1 not wiped yet is put back"
    )


def test_who_takes_longer_than_any_before_is_not_promised_anything() -> None:
    run = open_run((target(), [ZONE] * 9), windows=(WINDOW,))
    began(run, "web-1", minutes_ago=50)
    began(run, "web-2", minutes_ago=30)
    found = settling(held(run), AT, TAIL)
    assert found.when(AT) == "2 in flight settle by about 21:15, but for 1 that took longer than any before"
    take(run, ev.Failed(server=ServerId("web-2"), reason="broken"))
    late = settling(run, AT, TAIL)
    assert (late.in_flight, late.late) == (1, 1)
    assert late.when(AT).startswith("1 in flight settles nobody knows when (longer than any before")


def test_without_durations_that_is_said() -> None:
    """With the end of the time-outs, which is known; durations of this very run are as good as others."""
    run = open_run((target(), [ZONE] * 9))
    began(run, "web-1", minutes_ago=10)
    words = settling(held(run), AT).when(AT)
    assert words.startswith("1 in flight settles nobody knows when (no durations known yet; time-outs end ")
    began(run, "web-2", minutes_ago=10)
    rest = (*TO_INSTALLED[3:], ev.ChecksPassed, ev.Verified)
    take(run, *(event_for(kind, ServerId("web-2")) for kind in rest), at=AT + timedelta(minutes=9))
    assert run.targets["web"].took
    assert "no durations" not in settling(run, AT).when(AT)


def test_other_kinds_tell_where_nothing_is_known_of_ones_own() -> None:
    run = open_run((target(), [ZONE | {"flavor": "another"}] * 2), windows=(WINDOW,))
    began(run, "web-1")
    assert settling(run, AT, TAIL).when(AT) == "1 in flight settles by about 21:45"
    assert settling(run, AT, [*TAIL, (("image", "another", "zone"), 60.0)]).when(AT).endswith(" 21:01")


def test_figures_add_up_or_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts are the whole, in doubt is one of those in flight, and a miscount is a defect of ours."""
    run = open_run((target(), [ZONE] * 9))
    began(run, "web-1", "web-2")
    began(run, "web-3", wiped=False)
    asked = [ev.Admitted, *TO_INSTALLED[:2]]
    take(run, *(event_for(kind, ServerId("web-4")) for kind in asked))
    found = settling(held(run), AT, TAIL)
    assert (found.in_flight, found.finished, found.put_back, found.doubted) == (run.in_flight, 3, 1, 1)
    assert found.at_rest() == (
        "4 in flight, 1 of them in doubt, stay as they are: "
        "`fleet resume` brings 3 to their end and puts back 1 not wiped yet"
    )
    monkeypatch.setattr(Run, "in_flight", 5)
    assert "do not add up: 5 in flight, and 4 servers" in settling(run, AT, TAIL).words(AT)


def test_nobody_is_in_flight() -> None:
    run = held(open_run((target(), 2)))
    assert settling(run, AT).words(AT) == settling(run, AT).at_rest() == "nobody is in flight"
    assert settling(run, AT).when(AT) == ""
