"""What is left, and when it would be over: said last."""

from __future__ import annotations

from datetime import timedelta

from rollout_support import open_run, target

from fleet.report.closing import closing_lines


def test_an_end_that_nobody_works_for_is_no_promise() -> None:
    run = open_run((target(), 3))
    now = run.opened_at + timedelta(minutes=1)
    (dead,) = closing_lines(run, now)
    (alive,) = closing_lines(run, now, attended=True)
    assert alive.startswith("3 left; ends about ")
    assert dead == alive.replace("ends about", "if resumed now, ends about")
