"""A run that is held, and what a person does about it."""

from __future__ import annotations

from pathlib import Path

import pytest
from process_support import fleet_on, fleet_text, once_each, plan_text

pytestmark = pytest.mark.process


def test_a_failure_too_many_holds_until_a_person_says_go_on(tmp_path: Path) -> None:
    """Exit 4, again and again, until released; the failed one is retried, and everybody is verified."""
    with fleet_on(tmp_path, fleet_text(4)) as (fleet, cloud):
        cloud.order({"kind": "job-fails", "leaves": "ERROR", "when": {"server": "web-1", "count": 2}})
        plan = fleet.plan(plan_text())
        held = fleet("run", plan, "--yes")
        assert held.code == 4, held.err
        run = fleet.journals()[0].parent.name
        assert held.last == f"next: fleet release {run} --reason …, then fleet resume {run}"
        status = fleet("status")
        assert status.out.splitlines()[0] == f"{run}: held: 1 of p failed, 0 allowed"
        assert "web-1: the reinstall failed 2 times" in status.out
        assert "3 x held" in status.out
        mutations = len(cloud.calls())
        for command in (("run", plan, "--yes"), ("resume",)):
            again = fleet(*command)
            assert again.code == 4
            assert "is held: 1 of p failed" in again.err
        assert len(cloud.calls()) == mutations
        assert fleet("release", run).code == 2, "a reason is asked for"
        assert fleet("release", run, "--reason", "image mended, CHG-1").code == 0
        retried = fleet("retry", run[:-2], "web-1", "--reason", "try again")
        assert retried.code == 0, retried.err
        assert "web-1" in retried.err
        done = fleet("run", plan, "--yes")
        assert done.code == 0, done.err
        assert cloud.reinstalls() == once_each(4) | {"web-1": 3}
        released = [event for event in fleet.events() if event["event"] == "RunReleased"]
        assert released[0]["reason"] == "image mended, CHG-1"


def test_skipped_servers_are_out_and_the_rest_goes_on(tmp_path: Path) -> None:
    """`skip` takes the failed one and a waiting one out; released, the run ends 0 with what is left."""
    with fleet_on(tmp_path, fleet_text(4)) as (fleet, cloud):
        cloud.order({"kind": "job-fails", "leaves": "ERROR", "when": {"server": "web-1", "count": 2}})
        plan = fleet.plan(plan_text())
        assert fleet("run", plan, "--yes").code == 4
        run = fleet.journals()[0].parent.name
        wrong = fleet("skip", run, "web-9", "web-2", "--reason", "x")
        assert wrong.code == 2
        assert "0 servers" in wrong.err
        assert fleet("status", "-o", "json").data["figures"]["skipped"] == 0, "all or nothing"
        assert fleet("skip", run, "web-1", "web-3", "--reason", "decommissioned").code == 0
        assert fleet("release", run, "--reason", "known").code == 0
        assert fleet("resume", run).code == 0
        figures = fleet("status", run, "-o", "json").data["figures"]
        assert (figures["verified"], figures["skipped"], figures["failed"]) == (2, 2, 0)
        assert set(cloud.reinstalls()) == {"web-1", "web-2", "web-4"}
        nothing = fleet("retry", run, "--reason", "x")
        assert nothing.code == 2
        assert "no server of run" in nothing.err


def test_allowed_failures_finish_with_exit_3(tmp_path: Path) -> None:
    with fleet_on(tmp_path, fleet_text(3)) as (fleet, cloud):
        cloud.order({"kind": "job-fails", "leaves": "ERROR", "when": {"server": "web-3", "count": 2}})
        plan = fleet.plan(plan_text(max_failures=1))
        done = fleet("run", plan, "--yes")
        assert done.code == 3, done.err
        run = fleet.journals()[0].parent.name
        assert done.last == f"next: fleet retry {run} --reason …"
        again = fleet("run", plan, "--yes")
        assert again.code == 3, "a finished run with failures stays one"
        assert "nothing to do" in again.err
        assert fleet("retry", run, "--reason", "again").code == 0
        assert fleet("run", plan, "--yes").code == 0
        assert cloud.reinstalls() == once_each(3) | {"web-3": 3}
