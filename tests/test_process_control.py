"""Orders to a run of a real process: from another shell, stopped, killed."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from process_support import fleet_on, fleet_text, once_each, plan_text

pytestmark = pytest.mark.process

SLOW = "durations: {reinstall: {median_s: 600, sigma: 0}}"


def test_a_running_run_is_steered_from_another_shell(tmp_path: Path) -> None:
    """Below a folder too deep for a socket's address; a stopped process gets no order, then or later."""
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    with fleet_on(deep, fleet_text(3, more=SLOW)) as (fleet, cloud):
        child = fleet.start("run", fleet.plan(plan_text(waves="[3]", concurrency=1)), "--yes")
        fleet.wait_for("ReinstallAccepted", child=child)
        wrong = fleet("skip", "p", "web-9", "--reason", "gone")
        assert wrong.code == 2
        assert "0 servers" in wrong.err
        child.signal(signal.SIGSTOP)
        unheard = fleet("hold", "--reason", "too early")
        assert unheard.code == 7
        assert "it got none" in unheard.err
        child.signal(signal.SIGCONT)
        held = fleet("hold", "--reason", "the pager rings")
        assert held.code == 0, held.err
        assert "is held" in held.err
        assert "held: the pager rings" in fleet("runs").out, "also while its process works on"
        assert child.wait().code == 4
        [reason] = [event["reason"] for event in fleet.events() if event["event"] == "RunHeld"]
        assert reason.startswith("the pager rings")
        assert not list(fleet.state.glob("*/*.control"))
        assert set(cloud.reinstalls().values()) == {1}


def test_a_killed_process_leaves_a_socket_that_hinders_nobody(tmp_path: Path) -> None:
    """The order goes into the journal, and the next life listens in its place."""
    with fleet_on(tmp_path, fleet_text(3, more=SLOW)) as (fleet, cloud):
        plan = fleet.plan(plan_text(waves="[3]", concurrency=1))
        child = fleet.start("run", plan, "--yes")
        fleet.wait_for("ReinstallAccepted", child=child)
        child.kill()
        [left] = fleet.state.glob("*/*.control/socket")
        held = fleet("hold", "--reason", "it died")
        assert held.code == 0
        assert "1 in flight stays as it is: `fleet resume` brings 1 to its end" in held.err
        assert left.exists()
        assert fleet("release", "p", "--reason", "it was the host").code == 0
        child = fleet.start("run", plan, "--yes")
        fleet.wait_for("RunResumed", child=child)
        fleet.wait_for("ReinstallAccepted", 2, child=child)
        drained = fleet("drain", "--reason", "lunch")
        assert drained.code == 0
        assert "1 in flight settles by about " in drained.err, "by what the first ones took"
        assert child.wait().code == 5
        assert fleet("run", plan, "--yes").code == 0
        assert cloud.reinstalls() == once_each(3)
