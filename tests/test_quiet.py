"""`--quiet`: which ends of a life are worth a mail."""

from __future__ import annotations

import pytest
from rollout_support import open_run, settle, take, target
from support import event_for

from fleet.cli.run import _matters
from fleet.core import events as ev
from fleet.core.model import ServerId
from fleet.core.state import Run
from fleet.errors import Exit


def a_run(*, failed: bool = False, flying: bool = False, owed: bool = False) -> Run:
    run = open_run((target(), 4))
    settle(run, "verified", "web-1")
    if failed:
        settle(run, "lost", "web-2")
    if flying or owed:
        take(run, ev.Admitted(server=ServerId("web-3")))
    if owed:
        take(run, ev.DrainStarted(server=ServerId("web-3")), event_for(ev.DebtOwed, ServerId("web-3")))
        take(run, ev.Failed(server=ServerId("web-3"), reason="x", untouched=True))
    return run


def test_a_good_night_is_not() -> None:
    """All done, or the window has closed and everybody who was started is done."""
    assert not _matters(a_run(), Exit.OK)
    assert not _matters(a_run(), Exit.UNFINISHED)


@pytest.mark.parametrize(
    "run", [a_run(failed=True), a_run(flying=True), a_run(owed=True)], ids=["failed", "in flight", "owed"]
)
def test_a_night_that_left_something_behind_is(run: Run) -> None:
    assert _matters(run, Exit.UNFINISHED)


@pytest.mark.parametrize("code", [code for code in Exit if code not in {Exit.OK, Exit.UNFINISHED}])
def test_any_other_end_is(code: Exit) -> None:
    assert _matters(a_run(), code)
