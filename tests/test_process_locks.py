"""Two processes at once: one works, the other says who is at it and touches nothing."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from process_support import fleet_on, fleet_text, once_each, plan_text, wait_until

pytestmark = pytest.mark.process

SLOW = "durations: {reinstall: {median_s: 450, sigma: 0}}"


def test_one_plan_one_process(tmp_path: Path) -> None:
    """The second one is exit 7 and names the holder, until the holder is killed."""
    with fleet_on(tmp_path, fleet_text(2, more=SLOW)) as (fleet, cloud):
        plan = fleet.plan(plan_text())
        other = fleet.plan(plan_text(name="other"), "other.yaml")
        holder = fleet.start("run", plan, "--yes")
        fleet.wait_for("ReinstallAccepted", child=holder)
        holder.signal(signal.SIGSTOP)  # a holder that is asleep still holds
        run = fleet.journals()[0].parent.name
        copy = tmp_path / "copy" / "journal.jsonl"
        copy.parent.mkdir()
        copy.write_bytes(fleet.journals()[0].read_bytes())
        for command in (
            ("run", plan, "--yes"),
            ("run", other, "--yes"),
            ("resume", run),
            ("resume", str(copy)),
            ("skip", run, "web-2", "--reason", "x"),
            ("retry", run, "--reason", "x"),
            ("release", run, "--reason", "x"),
        ):
            done = fleet(*command)
            assert done.code == 7, (command, done.err)
            assert f"pid {holder.pid} " in done.err, (command, done.err)
        holder.kill()
        assert fleet("run", plan, "--yes").code == 0
        assert cloud.reinstalls() == once_each(2)


def test_other_servers_may_be_worked_on_at_the_same_time(tmp_path: Path) -> None:
    with fleet_on(tmp_path, fleet_text(3, more=SLOW)) as (fleet, cloud):
        one = fleet.plan(plan_text(name="one") + "exclude: {name: web-3}\n", "one.yaml")
        two = fleet.plan(plan_text(name="two").replace("{role: web}", "{role: web}, name: web-3"), "two.yaml")
        children = [fleet.start("run", plan, "--yes") for plan in (one, two)]
        assert [child.wait().code for child in children] == [0, 0]
        assert cloud.reinstalls() == once_each(3)
        assert list((fleet.state / "live").glob("*.json")) == []


def test_a_race_has_one_winner(tmp_path: Path) -> None:
    """Four at the same instant, on one plan: one reinstalls, three are told."""
    with fleet_on(tmp_path, fleet_text(2, more=SLOW)) as (fleet, cloud):
        plan = fleet.plan(plan_text())
        children = [fleet.start("run", plan, "--yes") for _ in range(4)]
        codes = sorted(child.wait().code for child in children)
        assert codes == [0, 7, 7, 7]
        assert cloud.reinstalls() == once_each(2)


def test_a_look_does_not_get_in_the_way(tmp_path: Path) -> None:
    """`fleet status` holds the lock for an instant; a run that starts in that instant is not refused."""
    with fleet_on(tmp_path, fleet_text(1)) as (fleet, _cloud):
        plan = fleet.plan(plan_text())
        assert fleet("run", plan, "--yes").code == 0
        journal = fleet.journals()[0]
        looker = os.fork()
        if looker == 0:  # looks as often as it can
            from fleet.runs import is_locked  # noqa: PLC0415 - in the child alone

            while True:
                is_locked(journal)
        try:
            time.sleep(0.05)
            for number in range(5):
                assert fleet("skip", journal.parent.name, f"web-{number}", "--reason", "x").code == 2
        finally:
            os.kill(looker, signal.SIGKILL)
            os.waitpid(looker, 0)


def test_a_person_who_decides_between_two_lives_is_heard(tmp_path: Path) -> None:
    """`fleet skip` while `fleet run` reads the journal: either is told to wait, and no line is lost."""
    with fleet_on(tmp_path, fleet_text(6, more=SLOW)) as (fleet, cloud):
        plan = fleet.plan(plan_text(waves="[6]", concurrency=2))
        first = fleet.start("run", plan, "--yes")
        fleet.wait_for("ReinstallAccepted", 2, child=first)
        first.kill()
        run = fleet.journals()[0].parent.name
        names = sorted(
            server["name"]
            for server in fleet("status", "-o", "json").data["servers"]
            if server["phase"] == "waiting"
        )
        resumed = fleet.start("run", plan, "--yes")
        skips = [fleet.start("skip", run, name, "--reason", "kept") for name in names]
        codes = [child.wait().code for child in skips]
        assert set(codes) <= {0, 2, 7}
        done = resumed.wait()
        assert done.code in {0, 7}, done.err
        if done.code == 7:
            assert fleet("run", plan, "--yes").code == 0
        skipped = [name for name, code in zip(names, codes, strict=True) if code == 0]
        assert cloud.reinstalls() == {name: 1 for name in once_each(6) if name not in skipped}
        wait_until(lambda: fleet("status", "-o", "json").data["state"] == "finished")
