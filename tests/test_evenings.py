"""Evenings as operators live them, played from the first command to the last: real processes, a real cloud.

Others are elsewhere: the selector that grew in `test_process_manifest`, the cover wave in
`test_stories_cover`, two people in `test_process_machines`, the full disk in `test_process_journal`.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from process_support import fleet_on, fleet_text, once_each, plan_text, wait_until

pytestmark = pytest.mark.process

KINDS = """\
speed: 150
servers:
  - {name: "web-1", tags: {role: web}, flavor: c4.xlarge.2, zones: [eu-de-01], subnet: 10.20.1.0/24}
  - {name: "web-2-{}", count: 9, tags: {role: web}, flavor: s3.large.2, zones: [eu-de-01]}
"""


def _bad_image() -> dict:
    return {
        "kind": "job-fails", "code": "Ecs.0605", "leaves": "ERROR",
        "when": {"server": "web-2-*", "count": 99},
    }  # fmt: skip


def test_the_bad_image(tmp_path: Path) -> None:
    """Wave 1 boots the new kernel, wave 2 is of another flavor: held after the third, two settle."""
    with fleet_on(tmp_path, KINDS) as (fleet, cloud):
        cloud.order(_bad_image())
        plan = fleet.plan(
            plan_text(waves="[1, 5, 100%]", concurrency=5, max_failures=2).replace(
                "settle: 2s", "settle: 2s, attempts: 1"
            )
        )
        held = fleet("run", plan, "--yes")
        assert held.code == 4, held.err
        data = fleet("status", "-o", "json").data
        assert Counter(server["phase"] for server in data["servers"]) == {
            "verified": 1, "failed": 5, "waiting": 4,
        }  # fmt: skip
        assert "failed, all of flavor s3.large.2 (verified: c4.xlarge.2):" in fleet("status").out
        (cause,) = fleet("report", "-o", "json").data["causes"]
        assert len(cause["servers"]) == 5
        assert cause["code"] == "Ecs.0605"
        assert cause["in_common"] == ["flavor s3.large.2 (verified: c4.xlarge.2)"]
        assert sum(cloud.reinstalls().values()) == 6, "four were never touched"


def test_the_bad_image_with_a_wave_that_covers(tmp_path: Path) -> None:
    """One of each kind first: found at the price of one server."""
    with fleet_on(tmp_path, KINDS) as (fleet, cloud):
        cloud.order(_bad_image())
        plan = fleet.plan(
            plan_text(waves="[cover, 100%]", concurrency=5).replace("settle: 2s", "settle: 2s, attempts: 1")
        )
        assert fleet("run", plan, "--yes").code == 4
        assert fleet("status", "-o", "json").data["figures"]["failed"] == 1
        assert sum(cloud.reinstalls().values()) == 2


POOL = """\
#!/bin/sh
# A load balancer of files: whoever is out has one.
case $1 in out) : > "$2/$FLEET_SERVER_NAME";; in) rm -f "$2/$FLEET_SERVER_NAME";; esac
"""


def pooled(folder: Path) -> tuple[str, Path]:
    """Return hooks that take servers out of a pool and put them back, and the folder of those who are out."""
    out, script = folder / "out", folder / "pool"
    out.mkdir()
    script.write_text(POOL)
    script.chmod(0o755)
    pair = f"{{do: [{script}, out, {out}], undo: [{script}, in, {out}], timeout: 20s}}"
    return f"hooks: {{around_server: [{pair}]}}\n", out


def test_the_key_pair_was_deleted_at_noon(tmp_path: Path) -> None:
    """The first refusal is everybody's: held at once; who was stopped and not wiped runs again."""
    with fleet_on(tmp_path, fleet_text(6)) as (fleet, cloud):
        hooks, out = pooled(tmp_path)
        plan = fleet.plan(plan_text(waves="[1, 100%]", concurrency=3, max_failures=5, more=hooks))
        night = fleet.start("run", plan, "--yes")
        fleet.wait_for("Verified", child=night)
        cloud.order({"kind": "key-pair-deleted", "key_pair": "demo-key"})
        held = night.wait()
        assert held.code == 4, held.err
        assert "demo-key" in held.err
        figures = fleet("status", "-o", "json").data["figures"]
        assert figures["in_flight"] == figures["in_doubt"] == 0
        assert figures["failed"] >= 1
        assert figures["never_touched"] >= 1, "and nobody else pays for it"
        assert list(out.iterdir()) == [], "everybody is in the pool again"
        assert {server["status"] for server in cloud.ask("state")["servers"]} == {"ACTIVE"}
        taken = cloud.reinstalls()
        assert len(taken) == figures["verified"]

        # It is put back, under its name; a person lets the run go on, and gives the failed ones another try.
        cloud.order({"kind": "key-pair-restored"})
        run = fleet.journals()[0].parent.name
        assert fleet("release", run, "--reason", "the key pair is back").code == 0
        assert fleet("retry", run, "--reason", "the key pair is back").code == 0
        done = fleet("resume", run)
        assert done.code == 0, done.err
        assert cloud.reinstalls() == cloud.wipes() == once_each(6)
        assert list(out.iterdir()) == []


def promise(said: str) -> str:
    """Return when those in flight settle, or that nobody knows; its figures add up."""
    found = re.search(r"(\d+) in flight.* settles? .*: (.*)$", said, re.MULTILINE)
    assert found, said
    parts = [int(count) for count in re.findall(r"(\d+) (?:not wiped yet )?(?:is|are) ", found[2])]
    assert int(found[1]) == sum(parts) > 0
    return found[2]


@pytest.mark.parametrize("how", ["a person", "a gate"])
def test_an_incident_begins(tmp_path: Path, how: str) -> None:
    """Nothing new is started; who is wiped comes to its end; who is not is put back."""
    with fleet_on(tmp_path, fleet_text(8, speed=60)) as (fleet, cloud):
        hooks, out = pooled(tmp_path)
        hooks += "limits: {booting: 1}\n"  # so that somebody is off and drained, and not wiped yet
        green = tmp_path / "green"
        green.touch()
        gate = f"gates: [{{command: [test, -e, {green}]}}]\n" if how == "a gate" else ""
        plan = fleet.plan(plan_text(waves="[8]", concurrency=3, more=hooks + gate))
        night = fleet.start("run", plan, "--yes")
        fleet.wait_for("ReinstallAccepted", child=night)
        run = fleet.journals()[0].parent.name
        if how == "a gate":
            green.unlink()
            fleet.wait_for("Paused", child=night)
            begun = fleet.count("Admitted")
            wait_until(lambda: fleet("status", run, "-o", "json").data["figures"]["in_flight"] == 0)
            assert "gate is red: command test" in fleet("status", run).out
            assert fleet.count("Admitted") == begun
            names = [event["event"] for event in fleet.events()]
            assert "ReinstallRequested" not in names[names.index("Paused") :], "while it is red"
            assert list(out.iterdir()) == []
            green.touch()
        else:
            held = fleet("hold", run, "--reason", "INC-4711")
            assert held.code == 0, held.err
            ended = night.wait()
            assert ended.code == 4, ended.err
            assert promise(held.err) in ended.err, "the run's own log says the same"
            status = fleet("status", run).out
            assert "INC-4711" in status
            (told,) = [event for event in fleet.events() if event["event"] == "RunHeld"]
            assert told["by"], "who"
            later = [event["event"] for event in fleet.events() if event["seq"] > told["seq"]]
            assert "ReinstallRequested" not in later, "who was not wiped yet is not wiped any more"
            assert "PutBack" in later, "and somebody was on the way to it"
            begun = fleet.count("Admitted")
            assert begun < 8
            figures = fleet("status", run, "-o", "json").data["figures"]
            assert figures["in_flight"] == figures["in_doubt"] == figures["failed"] == 0
            assert list(out.iterdir()) == [], "who was drained for nothing is back"
            assert {server["status"] for server in cloud.ask("state")["servers"]} == {"ACTIVE"}
            assert fleet("run", plan, "--yes").code == 4, "cron does not overrule a person"
            assert fleet("release", run, "--reason", "INC-4711 is over").code == 0
            assert fleet.count("RunReleased") == 1
            night = fleet.start("run", plan, "--yes")
        done = night.wait()
        assert done.code == 0, done.err
        assert cloud.reinstalls() == cloud.wipes() == once_each(8)


CHANGED = {
    "renamed": ("renamed-by-other", "db-7", "web-3"),
    "resized": ("resized-by-other", "s6.2xlarge.4", "s3.large.2"),
    "locked": ("locked-by-other", "", "locked"),
    "protected": ("tagged-by-other", "reinstall=never", "tag reinstall=never"),
}
"""What a colleague does, to what, and the words of the plan's side of it."""


@pytest.mark.parametrize("what", CHANGED)
def test_somebody_changed_it(tmp_path: Path, what: str) -> None:
    """Between the opening of the run and its turn: it is not wiped, both facts are told, the others go on."""
    with fleet_on(tmp_path, fleet_text(3, speed=40)) as (fleet, cloud):
        plan = fleet.plan(
            plan_text(
                waves="[1, 100%]", concurrency=1, max_failures=1, more="protect: {tags: {reinstall: never}}\n"
            )
        )
        night = fleet.start("run", plan, "--yes")
        fleet.wait_for("ReinstallAccepted", child=night)
        (server,) = [each["id"] for each in cloud.ask("state")["servers"] if each["name"] == "web-3"]
        kind, text, planned = CHANGED[what]
        cloud.order({"kind": kind, "text": text, "when": {"server": "web-3"}})
        done = night.wait()
        assert done.code == 3, done.err
        assert cloud.reinstalls() == once_each(2)
        (row,) = [each for each in fleet("status", "-o", "json").data["servers"] if each["id"] == server]
        assert row["attempts"] == 0
        assert fleet("status", "-o", "json").data["figures"]["verified"] == 2
        assert row["phase"] == "skipped"
        assert row["reason"].startswith("changed since planned: ")
        assert planned in row["reason"]
        assert row["reason"] in done.out, "the last words name it"
        assert fleet.count("Failed") == 0, "it spends no budget"
