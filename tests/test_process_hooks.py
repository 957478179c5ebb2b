"""Hooks as real processes, around a `fleet` that is killed: what was done is undone, first thing and once."""

from __future__ import annotations

import json
import signal
import stat
from pathlib import Path
from typing import Any

import pytest
from process_support import Fleet, fleet_on, fleet_text, once_each, plan_text, wait_until

pytestmark = pytest.mark.process

HOOK = """\
#!/bin/sh
# Keeps a pool in a folder: a file for each server that is out of it. Waits while there is a file "wait-…".
set -e
what=$1 server=$FLEET_SERVER_NAME
cat > "$POOL/stdin-$what-$server.json"
echo "$what $server" >> "$POOL/log"
env > "$POOL/env-$what"
while [ -e "$POOL/wait-$what" ]; do sleep 0.05; done
if [ -e "$POOL/fail-$what" ]; then echo "pool is read only"; exit 1; fi
case $what in
  do) touch "$POOL/out-$server" ;;
  undo) rm -f "$POOL/out-$server" ;;
esac
echo "$what of $server: done"
"""


class Pool:
    """A pool of servers, as the hooks keep it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "pool"
        self.folder.mkdir()
        hook = folder / "hook"
        hook.write_text(HOOK)
        hook.chmod(0o755)

    @property
    def out(self) -> set[str]:
        return {path.name.removeprefix("out-") for path in self.folder.glob("out-*")}

    @property
    def log(self) -> list[str]:
        log = self.folder / "log"
        return log.read_text().splitlines() if log.exists() else []

    def set(self, word: str) -> None:
        (self.folder / word).touch()

    def clear(self, word: str) -> None:
        (self.folder / word).unlink()


def hooked(fleet: Fleet, pool: Pool, *, more: str = "", **plan: Any) -> str:
    """Write a plan that takes servers out of the pool and puts them back."""
    fleet.env["POOL"] = str(pool.folder)
    around = "{do: [./hook, do], undo: [./hook, undo], timeout: 30s}"
    text = plan_text(more=f"hooks: {{around_server: [{around}], env: [POOL]{more}}}\n", **plan)
    return fleet.plan(text)


def test_a_whole_run(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    with fleet_on(tmp_path, fleet_text(3)) as (fleet, cloud):
        fleet.env |= {"OS_PASSWORD": "S3cret-of-the-cloud", "SOME_TOKEN": "S3cret-of-somebody"}
        done = fleet("run", hooked(fleet, pool), "--yes")
        assert done.code == 0, done.err
        assert cloud.reinstalls() == once_each(3)
        assert sorted(pool.log) == sorted(f"{what} web-{n}" for n in (1, 2, 3) for what in ("do", "undo"))
        assert pool.out == set()

        told = json.loads((pool.folder / "stdin-undo-web-2.json").read_text())
        run = fleet.events()[0]["run"]
        assert (told["server_name"], told["hook"], told["run"], told["wave"]) == ("web-2", "undo-1", run, "2")
        assert told["server_tags"] == {"role": "web", "env": "prod"}
        assert told["server_private_ip"].startswith("10.20.1.")
        environment = (pool.folder / "env-do").read_text()
        assert "FLEET_SERVER_ID=" in environment
        assert "S3cret" not in environment
        assert "PATH=" in environment

        [log] = (fleet.state / run / "hooks").glob(f"{told['server_id']}-undo-1.log")
        assert "undo of web-2: done" in log.read_text()
        assert stat.S_IMODE(log.stat().st_mode) == 0o600
        assert stat.S_IMODE(log.parent.stat().st_mode) == 0o700
        assert fleet("check", run).code == 0


@pytest.mark.parametrize("what", ["do", "undo"])
def test_killed_in_the_middle_of_a_hook(tmp_path: Path, what: str) -> None:
    """The hook outlives its `fleet`; the next life ends it before it runs another one for that server."""
    pool = Pool(tmp_path)
    with fleet_on(tmp_path, fleet_text(2)) as (fleet, cloud):
        plan = hooked(fleet, pool, waves="[100%]")
        pool.set(f"wait-{what}")
        child = fleet.start("run", plan, "--yes")
        wait_until(lambda: sum(line.startswith(f"{what} ") for line in pool.log) == 2, f"both {what}")
        child.kill()
        orphans = hooks_of(pool)
        assert len(orphans) == 2, "they go on without fleet"

        resumed = fleet.start("resume")
        wait_until(lambda: not orphans & hooks_of(pool), "the end of the old ones")
        pool.clear(f"wait-{what}")
        assert resumed.wait().code == 0, resumed.err
        assert cloud.reinstalls() == once_each(2)
        assert pool.out == set()
        for name in ("web-1", "web-2"):
            mine = [line.split()[0] for line in pool.log if line.endswith(name)]
            # A `do` of which nobody knows how far it came is undone before it is done again.
            assert mine == (["do", "undo", "do", "undo"] if what == "do" else ["do", "undo", "undo"])
        assert fleet("check").code == 0


def hooks_of(pool: Pool) -> set[int]:
    """Return the processes of hooks that are running."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            mine = f"POOL={pool.folder}".encode() in (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if mine and any(word.endswith(b"/hook") for word in words):
            found.add(int(folder.name))
    return found


def test_killed_between_do_and_undo_and_paid_first_by_the_resume(tmp_path: Path) -> None:
    """Stopped in the middle: the resume gives back what the first life took, before it takes more."""
    pool = Pool(tmp_path)
    slow = "durations: {reinstall: {median_s: 450, sigma: 0}}"
    with fleet_on(tmp_path, fleet_text(3, more=slow)) as (fleet, cloud):
        plan = hooked(fleet, pool, waves="[1, 100%]", concurrency=1)
        child = fleet.start("run", plan, "--yes")
        fleet.wait_for("ReinstallAccepted", child=child)
        child.kill()
        assert pool.out == {"web-1"}
        assert fleet("resume").code == 0
        assert pool.log[:2] == ["do web-1", "undo web-1"]
        assert cloud.reinstalls() == once_each(3)
        assert pool.out == set()


def test_settle_undoes_and_starts_and_does_nothing_else(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    soft = "durations: {stop_soft: {median_s: 600, sigma: 0}}"
    with fleet_on(tmp_path, fleet_text(3, more=soft)) as (fleet, cloud):
        plan = hooked(fleet, pool, waves="[100%]", concurrency=2)
        child = fleet.start("run", plan, "--yes")
        fleet.wait_for("StopRequested", 2, child=child)
        child.kill()
        assert len(pool.out) == 2
        run = fleet.events()[0]["run"]
        done = fleet("settle", run)
        assert done.code == 0, done.err
        assert pool.out == set()
        assert cloud.reinstalls() == {}
        wait_until(lambda: {each["status"] for each in cloud.ask("state")["servers"]} == {"ACTIVE"})
        status = fleet("status", run, "-o", "json").data
        assert status["figures"]["never_touched"] == 3
        assert fleet("check", run).code == 0
        assert fleet("resume", run).code == 0
        assert cloud.reinstalls() == once_each(3)
        assert pool.out == set()


def test_a_settlement_that_is_killed_is_taken_up_again_and_a_live_run_pays_by_itself(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    with fleet_on(tmp_path, fleet_text(1)) as (fleet, cloud):
        pool.set("wait-do")
        child = fleet.start("run", hooked(fleet, pool), "--yes")
        wait_until(lambda: pool.log, "the hook")
        assert fleet("settle").code == 7
        child.kill()
        pool.set("wait-undo")
        settling = fleet.start("settle")
        wait_until(lambda: len(pool.log) == 2, "the undo")
        settling.kill()
        pool.clear("wait-undo")
        done = fleet("settle")
        assert done.code == 0, done.err
        assert pool.out == set()
        assert [line.split()[0] for line in pool.log] == ["do", "undo", "undo"]
        assert cloud.calls() == [], "it was neither stopped nor wiped"
        assert not hooks_of(pool)
        nothing = fleet("settle")
        assert nothing.code == 0
        assert "nothing is owed" in nothing.err
        assert fleet("check").code == 0


def test_who_failed_after_its_wipe_is_settled_only_when_a_person_says_so(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    with fleet_on(tmp_path, fleet_text(2)) as (fleet, cloud):
        cloud.order({"kind": "job-fails", "leaves": "ERROR", "when": {"server": "web-1", "count": 9}})
        plan = hooked(fleet, pool, waves="[100%]", max_failures=1)
        ran = fleet("run", plan, "--yes")
        assert ran.code == 3, ran.err
        assert pool.out == {"web-1"}
        assert "owed, and not paid:" in ran.out
        assert ran.out.index("owed, and not paid:") < ran.out.index("servers = ")
        assert "hook undo" in ran.out
        assert fleet("resume").code == 3
        assert pool.out == {"web-1"}, "a resume does not give traffic to a broken server"

        left = fleet("settle")
        assert left.code == 3
        assert "left alone" in left.err
        assert pool.out == {"web-1"}
        assert fleet("settle", "web-9").code == 2
        run = fleet.events()[0]["run"]
        assert fleet("settle", run, "web-9").code == 2
        noted = fleet("settle", run, "web-1", "--by-hand")
        assert noted.code == 2, "without a reason"
        noted = fleet("settle", run, "web-1", "--by-hand", "--reason", "deleted, CHG-1")
        assert noted.code == 0, noted.err
        assert pool.out == {"web-1"}, "nothing was run"
        assert "owed" not in fleet("status", run).out
        assert fleet("check", run).code == 0


def test_an_undo_that_fails_is_told_and_paid_by_the_next_life(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    with fleet_on(tmp_path, fleet_text(1)) as (fleet, _cloud):
        pool.set("fail-undo")
        ran = fleet("run", hooked(fleet, pool), "--yes")
        assert ran.code == 3, ran.err
        assert "1 verified" in ran.out
        assert "owed, and not paid:" in ran.out
        assert "fleet resume" in ran.last
        pool.clear("fail-undo")
        again = fleet("resume")
        assert again.code == 0, again.err
        assert pool.out == set()
        assert "owed" not in again.out


def test_the_first_interrupt_waits_for_hooks_and_the_second_leaves_the_debt(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    with fleet_on(tmp_path, fleet_text(1)) as (fleet, _cloud):
        pool.set("wait-do")
        child = fleet.start("run", hooked(fleet, pool), "--yes")
        wait_until(lambda: pool.log, "the hook")
        child.signal(signal.SIGINT)
        fleet.wait_for("RunDrained", child=child)
        assert hooks_of(pool), "a Ctrl-C is not for them"
        child.signal(signal.SIGINT)
        assert child.wait().code == 130
        assert not hooks_of(pool), "they end with fleet"
        assert [event["debt"] for event in fleet.events() if event["event"] == "DebtOwed"] == ["1"]
        pool.clear("wait-do")
        assert fleet("resume").code == 0
        assert [line.split()[0] for line in pool.log] == ["do", "undo", "do", "undo"] or pool.log[
            1
        ].startswith("undo")
        assert pool.out == set()
