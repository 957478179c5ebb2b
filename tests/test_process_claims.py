"""Dead runs protect what they have left half done, whatever a plan is called and wherever a journal is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from process_support import Child, Fleet, Simulator, fleet_on, fleet_text, once_each, plan_text, wait_until

pytestmark = pytest.mark.process

SLOW = "durations: {reinstall: {median_s: 450, sigma: 0}}"


def half_way(fleet: Fleet, *arguments: str, flying: int = 2, journal: Path | None = None) -> str:
    """Kill a run of plan p with *flying* servers in the cloud's hands; return its id."""
    plan = fleet.plan(plan_text(waves="[100%]", concurrency=flying))
    child: Child = fleet.start("run", plan, "--yes", *arguments)
    fleet.wait_for("ReinstallAccepted", flying, child=child, journal=journal)
    child.kill()
    run: str = fleet.events(journal)[0]["run"]
    return run


def names_of(cloud: Simulator, servers: list[str]) -> list[str]:
    names = cloud.names()
    return sorted(names[server] for server in servers)


def accepted(fleet: Fleet, journal: Path | None = None) -> list[str]:
    events = fleet.events(journal)
    return [each["server"] for each in events if each["event"] == "ReinstallAccepted"]


def test_another_plan_leaves_alone_what_a_dead_run_has_left_half_done(tmp_path: Path) -> None:
    with fleet_on(tmp_path, fleet_text(4, more=SLOW)) as (fleet, cloud):
        run = half_way(fleet)
        flying = names_of(cloud, accepted(fleet))
        other = fleet.plan(plan_text(name="q"), "q.yaml")
        for command in (("run", other, "--yes"), ("preview", other)):
            refused = fleet(*command)
            assert refused.code == 2, refused.err
            assert f"run {run} has left it half done" in refused.err
            assert f"fleet resume {run}" in refused.err
            assert all(name in refused.err for name in flying)
        assert len(fleet.journals()) == 1, "a run that was refused leaves no journal"
        assert sorted(cloud.reinstalls()) == flying

        # What it had not begun anybody may have.
        done = fleet("run", other, "--yes", "--skip-unfit")
        assert done.code == 0, done.err
        assert cloud.reinstalls() == once_each(4)
        # Its own run finds out: nobody is wiped twice, and those two are reported as changed.
        resumed = fleet("resume", run)
        assert cloud.reinstalls() == once_each(4)
        assert resumed.code in {3, 4}, resumed.err
        assert "somebody has reinstalled it" in resumed.out
        assert list((fleet.state / "live").glob("*.json")) == []


def test_a_renamed_plan_is_no_way_round(tmp_path: Path) -> None:
    with fleet_on(tmp_path, fleet_text(2, more=SLOW)) as (fleet, _cloud):
        run = half_way(fleet)
        renamed = fleet("run", fleet.plan(plan_text(name="p-2"), "plan.yaml"), "--yes")
        assert renamed.code == 2
        assert run in renamed.err


def test_nor_is_a_journal_outside_the_state_folder(tmp_path: Path) -> None:
    journal = tmp_path / "elsewhere" / "night.jsonl"
    with fleet_on(tmp_path, fleet_text(3, more=SLOW)) as (fleet, cloud):
        run = half_way(fleet, "--journal", str(journal), journal=journal)
        flying = accepted(fleet, journal)
        other = fleet.plan(plan_text(name="q"), "q.yaml")
        refused = fleet("run", other, "--yes")
        assert refused.code == 2
        assert f"fleet resume {journal}" in refused.err
        # The same plan without --journal goes on with it, and `fleet runs` knows it.
        assert [row["run"] for row in fleet("runs", "-o", "json").data] == [run]
        assert fleet("status", run, "-o", "json").data["run"] == run

        # Its disk is not there: nobody can tell, so everybody it may have touched is left alone.
        away = journal.with_suffix(".away")
        journal.rename(away)
        refused = fleet("run", other, "--yes")
        assert refused.code == 2
        assert "is not there" in refused.err
        assert sorted(cloud.reinstalls()) == names_of(cloud, flying)
        away.rename(journal)
        plan = fleet.plan(plan_text(waves="[100%]", concurrency=2))
        assert fleet("run", plan, "--yes").code == 0
        assert cloud.reinstalls() == once_each(3)
        assert fleet("run", plan, "--yes").code == 0
        assert cloud.reinstalls() == once_each(3), "what a journal elsewhere tells counts as well"


def test_a_person_may_give_up_what_a_dead_run_has_left(tmp_path: Path) -> None:
    with fleet_on(tmp_path, fleet_text(2, more=SLOW)) as (fleet, cloud):
        run = half_way(fleet)
        other = fleet.plan(plan_text(name="q"), "q.yaml")
        assert fleet("abandon", run, "web-9", "--reason", "x").code == 2
        done = fleet("abandon", run, "web-1", "--reason", "by hand, CHG-1")
        assert done.code == 0, done.err
        refused = fleet("run", other, "--yes")
        assert refused.code == 2
        assert "web-2" in refused.err
        assert fleet("abandon", run, "--reason", "by hand").code == 0
        status = fleet("status", run, "-o", "json").data
        assert status["figures"]["failed"] == 2
        assert "abandoned by" in status["servers"][0]["reason"]
        assert fleet("abandon", run, "--reason", "again").code == 2
        wait_until(lambda: {each["status"] for each in cloud.ask("state")["servers"]} == {"ACTIVE"})
        assert fleet("run", other, "--yes").code == 0
        assert fleet("check", run).code == 0
        assert cloud.reinstalls() == {"web-1": 2, "web-2": 2}


def test_a_live_run_can_be_told_from_a_dead_one_and_a_drained_one_keeps_nothing(tmp_path: Path) -> None:
    with fleet_on(tmp_path, fleet_text(4, more=SLOW)) as (fleet, cloud):
        plan = fleet.plan(plan_text(waves="[100%]", concurrency=2))
        child = fleet.start("run", plan, "--yes")
        fleet.wait_for("ReinstallAccepted", 2, child=child)
        other = fleet.plan(plan_text(name="q"), "q.yaml")
        assert fleet("run", other, "--yes").code == 7
        child.signal(2)  # drains: what is in flight is brought to its end
        assert child.wait().code == 5
        assert list((fleet.state / "live").glob("*.json")) == []
        assert fleet("run", other, "--yes", "--limit", "web-4").code == 0
        assert cloud.reinstalls()["web-4"] == 1


def test_the_second_interrupt_leaves_a_claim_of_what_is_half_done_only(tmp_path: Path) -> None:
    with fleet_on(tmp_path, fleet_text(6, more=SLOW)) as (fleet, _cloud):
        plan = fleet.plan(plan_text(waves="[100%]", concurrency=2))
        child = fleet.start("run", plan, "--yes")
        fleet.wait_for("ReinstallAccepted", 2, child=child)
        child.signal(2)
        fleet.wait_for("RunDrained", child=child)
        child.signal(2)
        assert child.wait().code == 130
        [claim] = (fleet.state / "live").glob("*.json")
        assert json.loads(claim.read_text())["servers"] == sorted(accepted(fleet))


def test_a_torn_claim_protects_what_its_journal_tells(tmp_path: Path) -> None:
    with fleet_on(tmp_path, fleet_text(3, more=SLOW)) as (fleet, _cloud):
        run = half_way(fleet)
        claim = fleet.state / "live" / f"{run}.json"
        claim.write_bytes(claim.read_bytes()[:40])
        refused = fleet("run", fleet.plan(plan_text(name="q"), "q.yaml"), "--yes")
        assert refused.code == 2
        assert run in refused.err


def test_a_run_is_not_gone_on_with_where_it_would_wipe_what_carries_it(tmp_path: Path) -> None:
    with fleet_on(tmp_path, fleet_text(2, more=SLOW)) as (fleet, cloud):
        run = half_way(fleet, flying=1)
        [waiting] = [
            each["name"]
            for each in fleet("status", "-o", "json").data["servers"]
            if each["phase"] == "waiting"
        ]
        members = {each["name"]: each["addresses"][0] for each in fleet.events()[0]["members"]}
        there = {"FLEET_STANDS_ON": members[waiting]}
        refused = fleet("resume", run, env=there)
        assert refused.code == 2
        assert f"{waiting}: this machine stands on it" in refused.err
        assert fleet("run", fleet.plan(plan_text(name="q"), "q.yaml"), "--yes", env=there).code == 2
        assert len(cloud.reinstalls()) == 1
        assert fleet("skip", run, waiting, "--reason", "we stand on it").code == 0
        assert fleet("resume", run, env=there).code == 0
        assert len(cloud.reinstalls()) == 1
