"""Windows, frozen days and gates, as cron meets them: real processes, the time of day as it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from process_support import fleet_on, fleet_text, once_each, plan_text, wait_until

pytestmark = pytest.mark.process


def window(opens: timedelta, closes: timedelta) -> str:
    """Write a window between two moments from now."""
    now = datetime.now(UTC)
    start, end = ((now + each).isoformat(timespec="seconds") for each in (opens, closes))
    return f"windows: [{{from: {start}, to: {end}}}]\n"


def test_outside_a_window_nothing_is_touched_and_cron_hears_5(tmp_path: Path) -> None:
    with fleet_on(tmp_path, fleet_text(2)) as (fleet, cloud):
        plan = fleet.plan(plan_text(more=window(timedelta(days=1), timedelta(days=2))))
        closed = fleet("run", plan, "--yes")
        assert closed.code == 5, closed.err
        assert "nothing is started: window opens" in closed.err
        assert not fleet.journals(), "no run was opened"
        assert not cloud.reinstalls()


def test_a_server_that_would_not_be_done_in_time_is_not_started(tmp_path: Path) -> None:
    """By the plan's time-outs one takes minutes, and the window closes in one: exit 5, with the reason."""
    with fleet_on(tmp_path, fleet_text(2)) as (fleet, cloud):
        plan = fleet.plan(plan_text(more=window(-timedelta(hours=1), timedelta(minutes=1))))
        late = fleet("run", plan, "--yes")
        assert late.code == 5, late.err
        assert "would end" in late.err
        assert not cloud.calls()
        (drained,) = [event for event in fleet.events() if event["event"] == "RunDrained"]
        assert "the window closes" in drained["reason"]
        assert "\n2 left; would end " in late.out


def test_inside_a_window_it_runs_and_a_frozen_day_needs_a_reason(tmp_path: Path) -> None:
    with fleet_on(tmp_path, fleet_text(2)) as (fleet, cloud):
        days = [(datetime.now(UTC) + timedelta(days=each)).date().isoformat() for each in (-1, 1)]
        plan = fleet.plan(
            plan_text(
                more=window(-timedelta(hours=1), timedelta(hours=9)) + f"freeze: [{days[0]}/{days[1]}]\n"
            )
        )
        frozen = fleet("run", plan, "--yes")
        assert frozen.code == 5, frozen.err
        assert f"frozen: {days[0]}/{days[1]}" in frozen.err
        done = fleet("run", plan, "--yes", "--override-freeze", "INC-4711")
        assert done.code == 0, done.err
        assert cloud.reinstalls() == once_each(2)
        (overridden,) = [event for event in fleet.events() if event["event"] == "FreezeOverridden"]
        assert overridden["reason"] == "INC-4711"


def test_a_calendar_that_cannot_be_read_counts_as_frozen(tmp_path: Path) -> None:
    with fleet_on(tmp_path, fleet_text(2)) as (fleet, cloud):
        (fleet.folder / "company.ics").write_text("<html>log in</html>")
        plan = fleet.plan(plan_text(more="freeze: [{ical: company.ics}]\n"))
        frozen = fleet("run", plan, "--yes")
        assert frozen.code == 5, frozen.err
        assert "cannot be told" in frozen.err
        assert "no iCalendar" in frozen.err
        assert not cloud.calls()


def test_a_red_gate_starts_nobody_new_and_green_goes_on(tmp_path: Path) -> None:
    """The gate is a file: it is taken away after the first wave, and comes back."""
    with fleet_on(tmp_path, fleet_text(3)) as (fleet, cloud):
        green = tmp_path / "green"
        green.touch()
        plan = fleet.plan(plan_text(waves="[1, 100%]", more=f"gates: [{{command: [test, -e, {green}]}}]\n"))
        night = fleet.start("run", plan, "--yes")
        fleet.wait_for("ReinstallRequested", child=night)
        green.unlink()
        fleet.wait_for("Verified", child=night)
        assert fleet.count("ReinstallRequested") == 1
        fleet.wait_for("Paused", child=night)
        # Who was admitted at the last green look is put back first.
        red = "2 x gate is red: command test: ended with 1"
        wait_until(lambda: red in fleet("status").out, red)
        assert fleet.count("ReinstallRequested") == 1
        green.touch()
        assert night.wait().code == 0, night.err
        assert cloud.reinstalls() == once_each(3)
        assert fleet.count("Unpaused") == 1
