"""Two machines: two state folders, two processes, one cloud. What each sees of the other, and what not."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from process_support import Done, Fleet, Simulator, fleet_text, once_each, plan_text, simulator

pytestmark = pytest.mark.process

SLOW = "durations: {reinstall: {median_s: 1800, sigma: 0}}"
CLAIM = "claim: true\n"


@contextmanager
def machines(folder: Path, text: str) -> Iterator[tuple[Fleet, Fleet, Simulator]]:
    """Serve a fleet file, and return two machines that know where."""
    with simulator(folder, text) as cloud:
        made = []
        for name in ("bastion", "laptop"):
            (folder / name).mkdir()
            made.append(Fleet(folder / name, env={"FLEET_SIMULATOR_URL": cloud.url}))
        try:
            yield made[0], made[1], cloud
        finally:
            for fleet in made:
                fleet.close()


def plan(fleet: Fleet, *, claim: bool = True, **fields: Any) -> str:
    return fleet.plan(plan_text(more=CLAIM if claim else "", **fields))


def claims(cloud: Simulator) -> list[str]:
    servers = cloud.ask("state")["servers"]
    return [tag for server in servers for tag in server["tags"] if tag.startswith("fleet-run-")]


def changed(done: Done) -> int:
    """Return how many servers a run has left to the other one."""
    return done.err.count('"event":"Skipped"')


@pytest.mark.parametrize("claim", [True, False])
def test_the_second_of_two_people_is_told_who_is_at_it(tmp_path: Path, claim: bool) -> None:  # noqa: FBT001
    """The one who comes later need not claim himself to be told."""
    with machines(tmp_path, fleet_text(3, more=SLOW)) as (bastion, laptop, cloud):
        first = bastion.start("run", plan(bastion, waves="[100%]"), "--yes")
        bastion.wait_for("ReinstallAccepted", 3, child=first)
        run = bastion.events()[0]["run"]
        second = plan(laptop, claim=claim)
        for command in (("run", second, "--yes"), ("preview", second)):
            refused = laptop(*command)
            assert refused.code == 2
            assert f"another run works on it: run …-{run.removeprefix('p-')}" in refused.err
            assert "fleet unclaim" in refused.err
        assert laptop.journals() == []
        shown = laptop("unclaim", second, "-o", "json").data
        names = {row["name"] for row in shown}
        assert {name for name in names if "-temp-" not in name} == {"web-1", "web-2", "web-3"}
        assert {row["old"] for row in shown} == {False}
        assert first.wait().code == 0
        assert claims(cloud) == []
        assert cloud.reinstalls() == once_each(3)
        assert laptop("unclaim", second).out == "no server is claimed\n"


@pytest.mark.parametrize("round_", range(3))
def test_a_race_of_two_machines_wipes_everybody_at_most_once(tmp_path: Path, round_: int) -> None:
    """Both at the same instant. Each server is one run's alone; the other leaves it, and says whose it is."""
    del round_
    with machines(tmp_path, fleet_text(4)) as (bastion, laptop, cloud):
        children = [
            fleet.start("run", plan(fleet, waves="[100%]", max_failures=4), "--yes")
            for fleet in (bastion, laptop)
        ]
        ended = [child.wait() for child in children]
        assert {done.code for done in ended} <= {0, 2, 3}, [done.err[-2000:] for done in ended]
        assert all(count == 1 for count in cloud.reinstalls().values())
        assert claims(cloud) == []
        for fleet in (bastion, laptop):
            for event in fleet.events():
                if event["event"] == "Failed":
                    assert event["untouched"], event
            for journal in fleet.journals():
                assert fleet("check", str(journal)).code == 0
        verified = [each["server"] for fleet in (bastion, laptop) for each in fleet.events()
                    if each["event"] == "Verified"]  # fmt: skip
        assert len(verified) == len(set(verified)) == len(cloud.reinstalls()), (
            "nobody takes credit for another"
        )


def test_without_claims_the_cloud_itself_shows_it(tmp_path: Path) -> None:
    """Task and state before, the disk afterwards; preview says that this is all there is."""
    with machines(tmp_path, fleet_text(2, more=SLOW)) as (bastion, laptop, cloud):
        first = bastion.start("run", plan(bastion, claim=False, waves="[100%]"), "--yes")
        bastion.wait_for("ReinstallAccepted", 2, child=first)
        second = plan(laptop, claim=False)
        refused = laptop("run", second, "--yes")
        assert refused.code == 2
        assert "something is being done to it" in refused.err
        assert "claim: true" in laptop("preview", second).out
        assert first.wait().code == 0
        assert cloud.reinstalls() == once_each(2)


def test_without_claims_a_race_ends_at_the_clouds_own_guard(tmp_path: Path) -> None:
    """Both have surveyed before either has begun: the second request meets a busy server, then a new disk."""
    with machines(tmp_path, fleet_text(2, more=SLOW)) as (bastion, laptop, cloud):
        children = [
            fleet.start("run", plan(fleet, claim=False, waves="[100%]", max_failures=2), "--yes")
            for fleet in (bastion, laptop)
        ]
        ended = [child.wait() for child in children]
        assert {done.code for done in ended} <= {0, 2, 3}
        assert all(count == 1 for count in cloud.reinstalls().values())


def test_a_server_in_doubt_stays_claimed_while_its_run_is_dead(tmp_path: Path) -> None:
    """The worst case without claims: a lost answer and another's reinstall look the same on the disk."""
    with machines(tmp_path, fleet_text(1)) as (bastion, laptop, cloud):
        cloud.order({"kind": "lands-late", "when": {"call": "reinstall"}, "seconds": 600.0})
        first = bastion.start("run", plan(bastion, settle="15s"), "--yes")
        bastion.wait_for("ReinstallRequested", child=first)
        first.kill()
        second = plan(laptop)
        refused = laptop("run", second, "--yes")
        assert refused.code == 2
        run = bastion.events()[0]["run"]
        tail = run.removeprefix("p-")

        # The journal is brought over, and goes on there: its claim is its own on any machine.
        moved = laptop.folder / "brought" / "journal.jsonl"
        moved.parent.mkdir()
        moved.write_bytes(bastion.journals()[0].read_bytes())
        done = laptop("resume", str(moved))
        assert done.code == 0, done.err
        assert cloud.reinstalls() == once_each(1)
        assert claims(cloud) == []
        assert tail not in laptop("unclaim", second).out


def test_a_person_takes_the_claims_of_a_run_off_that_is_gone_for_good(tmp_path: Path) -> None:
    with machines(tmp_path, fleet_text(2, more=SLOW)) as (bastion, laptop, cloud):
        first = bastion.start("run", plan(bastion, waves="[100%]"), "--yes")
        bastion.wait_for("ReinstallAccepted", 2, child=first)
        tail = bastion.events()[0]["run"].removeprefix("p-")
        refused = bastion("unclaim", plan(bastion), "--run", tail, "--yes")
        assert refused.code == 7, "it lives"
        first.kill()
        refused = bastion("unclaim", plan(bastion), "--run", tail, "--yes")
        assert refused.code == 2
        assert "fleet resume" in refused.err, "its journal is here: that is the better way"
        second = plan(laptop)
        assert laptop("unclaim", second, "--run", tail).code == 2, "nobody was asked"
        assert laptop("unclaim", second, "--run", "20261205T200000Z-0000", "--yes").code == 2
        assert laptop("unclaim", second, "web-1", "--run", tail, "--yes").code == 0
        assert len(claims(cloud)) == 1
        assert laptop("unclaim", second, "--run", f"p-{tail}", "--yes").code == 0
        assert claims(cloud) == []
        # Should it be resumed all the same, it has lost nothing: they are in the cloud's hands already.
        assert bastion("resume").code == 0
        assert cloud.reinstalls() == once_each(2)


def test_two_copies_of_one_journal_on_two_machines(tmp_path: Path) -> None:
    """The original is asleep, a copy goes on elsewhere; when it wakes up it leaves what the copy has."""
    with machines(tmp_path, fleet_text(2)) as (bastion, laptop, cloud):
        first = bastion.start("run", plan(bastion, waves="[1]", concurrency=1, max_failures=2), "--yes")
        bastion.wait_for("Verified", child=first)
        first.signal(signal.SIGSTOP)
        moved = laptop.folder / "brought" / "journal.jsonl"
        moved.parent.mkdir()
        moved.write_bytes(bastion.journals()[0].read_bytes())
        done = laptop("resume", str(moved))
        first.signal(signal.SIGCONT)
        original = first.wait()
        assert cloud.reinstalls() == once_each(2)
        assert {done.code, original.code} <= {0, 3}, (done.err[-3000:], original.err[-3000:])
        assert claims(cloud) == []
