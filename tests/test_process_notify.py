"""Notifications by real processes to a real socket: what is told when, mailed, and lost by no crash."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from process_support import Fleet, Simulator, fleet_on, fleet_text, once_each, plan_text, wait_until
from receiver import SECRET_PATH, Receiver, receiver
from test_process_windows import window

pytestmark = pytest.mark.process

NOTIFY = 'notify: [{webhook: {env: TEAM_WEBHOOK}, format: json, to: "#web"}]\n'


@pytest.fixture
def stage(tmp_path: Path):
    with fleet_on(tmp_path, fleet_text(4)) as (fleet, cloud), receiver() as team:
        fleet.env["TEAM_WEBHOOK"] = team.url
        yield fleet, cloud, team


Stage = tuple[Fleet, Simulator, Receiver]


def fail_one(cloud: Simulator) -> None:
    cloud.order({"kind": "job-fails", "leaves": "ERROR", "when": {"server": "web-1", "count": 2}})


def test_a_hold_is_told_at_once_and_mailed(stage: Stage) -> None:
    """Failed and held, each once; `--quiet` says in a few lines what needs a person, night after night."""
    fleet, cloud, team = stage
    fail_one(cloud)
    plan = fleet.plan(plan_text(more=NOTIFY))
    held = fleet("run", plan, "--yes", "--quiet")
    assert held.code == 4
    assert team.events() == ["failed", "held"]
    failed, hold = team.taken
    assert [server["name"] for server in failed["servers"]] == ["web-1"]
    assert hold["title"] == "p is held: 1 of p failed, 0 allowed"
    assert hold["next"].startswith("fleet release p-")
    assert hold["figures"]["failed"] == 1
    assert len(held.out.splitlines()) <= 8
    assert ": held: 1 of p failed" in held.out
    again = fleet("run", plan, "--yes", "--quiet")
    assert again.code == 4
    assert "is held: 1 of p failed" in again.err
    assert len(team.taken) == 2
    status = fleet("status").out.splitlines()
    assert re.match(r"told to #web at \w{3} 20\d\d-", status[1])
    assert fleet("status", "-o", "json").data["not_delivered"] == []


def test_a_process_that_is_killed_loses_no_hold(stage: Stage) -> None:
    """The receiver is down, the process dies while it tries: whoever comes next tells."""
    fleet, cloud, team = stage
    team.otherwise = 503
    fail_one(cloud)
    plan = fleet.plan(plan_text(more=NOTIFY))
    night = fleet.start("run", plan, "--yes")
    wait_until(lambda: fleet.count("RunHeld"), "the hold")
    wait_until(lambda: team.bodies, "an attempt")
    night.kill()
    assert team.taken == []
    team.otherwise = 200
    assert fleet("run", plan, "--yes").code == 4
    assert team.events() == ["failed", "held"]


def test_who_cannot_be_reached_holds_nothing_up(stage: Stage) -> None:
    """All servers are done long before the last attempt; the exit code stays; status and stderr say it."""
    fleet, cloud, team = stage
    team.otherwise = 503
    plan = fleet.plan(plan_text(more=NOTIFY + "# on: everything\n"))
    night = fleet("run", plan, "--yes")
    assert night.code == 0, night.err
    assert cloud.reinstalls() == once_each(4)
    assert "not delivered to #web: finished: HTTP 503" in night.err
    (failure,) = fleet("status", "-o", "json").data["not_delivered"]
    assert (failure["event"], failure["to"], failure["why"]) == ("finished", "#web", "HTTP 503: ok")
    assert "not delivered to #web: p is finished" in fleet("status").out
    team.otherwise = 200
    assert fleet("run", plan, "--yes", "--quiet").err == ""
    assert team.events() == ["finished"], "delivered by the next command"
    assert "not delivered" not in fleet("status").out


def test_the_url_is_nowhere(stage: Stage, tmp_path: Path) -> None:
    """Neither in a file nor in what is printed, delivered or not; no hook and no check gets the variable."""
    fleet, _, team = stage
    team.otherwise = (404, {}, f"no {SECRET_PATH} here".encode())
    (tmp_path / "show").write_text("#!/bin/sh\nenv\n")
    (tmp_path / "show").chmod(0o755)
    more = NOTIFY + "hooks: {after_run: [./show], on_failure: [./show]}\n"
    text = plan_text(more=more).replace("verify: {", "verify: {checks: [{command: [./show]}], ")
    done = fleet("run", fleet.plan(text), "--yes")
    assert done.code == 0, done.err
    assert "HTTP 404" in done.err
    fleet("status")
    fleet("report", "--to", str(tmp_path / "r.html"))
    for path in tmp_path.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"hunter2" not in content, path
            assert SECRET_PATH.encode() not in content, path


def test_what_goes_wrong_before_a_run_is_told_to_those_who_sleep(stage: Stage) -> None:
    """The cloud is away, or the plan refused: cron's command tells; one that a person typed does not."""
    fleet, _, team = stage
    plan = fleet.plan(plan_text(more=NOTIFY + "expect: {min: 50}\n"))
    assert fleet("run", plan).code == 2
    assert team.taken == []
    refused = fleet("run", plan, "--yes")
    assert refused.code == 2
    assert team.events() == ["unfinished"]
    assert "p: nothing was done: " in team.taken[0]["title"]
    assert fleet("run", plan, "--yes").code == 2
    assert len(team.taken) == 1, "once a day"
    away = fleet("run", plan, "--yes", env={"FLEET_SIMULATOR_URL": "http://127.0.0.1:9"})
    assert away.code == 8
    assert len(team.taken) == 2


def test_windows_that_cron_never_meets(stage: Stage) -> None:
    """Called, and closed; called again when a window has come and gone in between: told and mailed once."""
    fleet, _, team = stage
    plan = fleet.plan(plan_text(more=NOTIFY + window(timedelta(days=1), timedelta(days=2))))
    first = fleet("run", plan, "--yes", "--quiet")
    assert (first.code, first.out, first.err) == (5, "", "")
    told = next(fleet.state.glob("plans/*.told.json"))
    known = json.loads(told.read_text())
    known["called_at"] = (datetime.now(UTC) - timedelta(days=3)).isoformat()
    told.write_text(json.dumps(known))
    plan = fleet.plan(plan_text(more=NOTIFY + window(-timedelta(days=2), -timedelta(days=1))))
    late = fleet("run", plan, "--yes", "--quiet")
    assert late.code == 5
    assert late.err.startswith("warning: p: a window was missed, since fleet was not called in it: ")
    assert team.events() == ["window-missed"]
    assert fleet("run", plan, "--yes", "--quiet").err == ""
    assert len(team.taken) == 1


def test_another_form_and_a_command(stage: Stage, tmp_path: Path) -> None:
    """Several destinations, each with its own events; a command gets the facts."""
    fleet, _, team = stage
    (tmp_path / "page").write_text('#!/bin/sh\necho "$FLEET_EVENT $FLEET_PLAN" >> paged\n')
    (tmp_path / "page").chmod(0o755)
    notify = (
        "notify:\n"
        "  - {webhook: {env: TEAM_WEBHOOK}, on: [started]}\n"
        "  - {webhook: {command: [printenv, TEAM_WEBHOOK]}, format: teams, on: finished}\n"
        "  - {command: [./page], on: [started, finished]}\n"
    )
    assert fleet("run", fleet.plan(plan_text(more=notify)), "--yes").code == 0
    slack, teams = team.taken
    assert slack["text"].startswith("*p begins: 4 servers = ")
    assert "next:" not in slack["text"]
    assert teams["attachments"][0]["content"]["type"] == "AdaptiveCard"
    assert (tmp_path / "paged").read_text() == "started p\nfinished p\n"


def test_a_test_message_says_who_is_reached(stage: Stage) -> None:
    fleet, _, team = stage
    notify = 'notify: [{webhook: {env: TEAM_WEBHOOK}, to: "#web", on: held}, {webhook: {env: NO_HOOK}}]\n'
    done = fleet("notify", fleet.plan(plan_text(more=notify)))
    assert done.code == 3
    reached, unset = done.out.splitlines()
    assert reached == "#web: delivered"
    why = "not delivered: environment variable NO_HOOK is not set"
    assert unset == f"the webhook from environment variable NO_HOOK: {why}"
    assert team.taken[0]["text"].startswith("*p: a test, nothing has happened*")
    assert fleet("notify", fleet.plan(plan_text())).code == 2


def test_metrics_while_no_run_is_at_work(stage: Stage, tmp_path: Path) -> None:
    """By the journals alone, every plan's newest run, with the code that its command ended with."""
    fleet, cloud, _ = stage
    fail_one(cloud)
    assert fleet("run", fleet.plan(plan_text()), "--yes").code == 4
    done = fleet("metrics")
    assert (done.code, done.err) == (0, "")
    assert 'fleet_run_held{plan="p"} 1\n' in done.out
    assert 'fleet_last_exit_code{plan="p"} 4\n' in done.out
    assert 'fleet_run_alive{plan="p"} 0\n' in done.out
    path = tmp_path / "x.prom"
    assert fleet("metrics", "p", "--file", str(path)).out == ""
    assert 'fleet_servers{plan="p",phase="failed"} 1\n' in path.read_text()
    folder = tmp_path / "collector"
    folder.mkdir()
    assert fleet("metrics", "--file", str(folder)).code == 0
    assert [each.name for each in folder.iterdir()] == ["fleet-p.prom"]
    assert fleet("metrics", "q").code == 2


def test_metrics_tell_a_run_that_works_from_one_that_died(stage: Stage, tmp_path: Path) -> None:
    """Written while it works, requests counted; of a killed one `fleet metrics` puts the file right."""
    fleet, cloud, _ = stage
    folder = tmp_path / "collector"
    folder.mkdir()
    cloud.order({"kind": "slow", "seconds": 3000, "when": {"call": "reinstall", "count": 9}})
    night = fleet.start("run", fleet.plan(plan_text()), "--yes", "--metrics-file", str(folder))
    path = folder / "fleet-p.prom"
    wait_until(path.exists, "the first metrics")
    fleet.wait_for("ReinstallRequested", child=night)
    first = path.read_text()
    assert 'fleet_run_alive{plan="p"} 1\n' in first
    assert 'fleet_requests_total{plan="p",call="' in first
    night.kill()
    assert 'fleet_run_alive{plan="p"} 1\n' in path.read_text()
    assert fleet("metrics", "--file", str(folder)).code == 0
    after = path.read_text()
    assert 'fleet_run_alive{plan="p"} 0\n' in after
    assert 'fleet_servers_in_doubt{plan="p"} 1\n' in after
