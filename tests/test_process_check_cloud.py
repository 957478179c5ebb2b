"""`fleet check --cloud`, against the built-in cloud's audit trail and Nova's logs, by real processes."""

from __future__ import annotations

from pathlib import Path

import pytest
from process_support import Done, Fleet, fleet_on, fleet_text, once_each, plan_text, wait_until

pytestmark = pytest.mark.process


def _if(done: Done, words: str) -> Done | None:
    return done if words in done.out else None


def test_every_wipe_is_explained_and_a_stranger_s_is_named(tmp_path: Path) -> None:
    """66 and 66 in small; a colleague's run on the same servers; one deleted: named, with who and when."""
    with fleet_on(tmp_path, fleet_text(6, speed=600)) as (fleet, cloud):
        cloud.order({"kind": "answer-lost", "when": {"server": "web-2"}})
        plan = fleet.plan(plan_text(concurrency=6))
        night = fleet("run", plan, "--yes")
        assert night.code == 0, night.err
        assert cloud.reinstalls() == once_each(6)
        counted = "6 servers, 6 wipes by the cloud's own count (the audit trail (CTS)), none unexplained\n"
        # The trail comes minutes later, of the cloud's time.
        good = wait_until(lambda: _if(fleet("check", "--cloud"), counted))
        assert good.code == 0, good.out
        assert good.last == "the cloud shows nothing that the run does not explain"

        (tmp_path / "elsewhere").mkdir()
        other = Fleet(tmp_path / "elsewhere", env=dict(fleet.env))
        assert other("run", plan, "--yes", "--limit", "web-3").code == 0
        cloud.order({"kind": "server-disappears", "when": {"server": "web-6"}})
        run = fleet.journals()[0].parent.name
        odd = wait_until(lambda: _if(fleet("check", run, "--cloud"), "web-3 was wiped by"))
        assert odd.code == 3, odd.out
        assert "web-6 does not exist any more" in odd.out
        assert "since then web-3 was wiped by " in odd.out
        assert "1 oddity\n" in odd.out, "another disk is no wonder after that"
        found = fleet("check", run, "--cloud", "-o", "json").data["cloud"]
        assert found["source"] == "the audit trail (CTS)"
        assert sum(each["name"] == "web-3" and each["accepted"] for each in found["record"]) == 2


def test_without_a_trail_the_servers_are_compared(tmp_path: Path) -> None:
    """Forbidden, or not switched on: said, and the rest is done all the same; a damaged journal is not."""
    with fleet_on(tmp_path, fleet_text(2)) as (fleet, cloud):
        assert fleet("run", fleet.plan(plan_text()), "--yes").code == 0
        cloud.order(
            {"kind": "rejected", "code": "Pdp.0001", "when": {"call": "traces", "count": 99}},
        )
        found = fleet("check", "--cloud")
        assert found.code == 0, (found.out, found.err)
        assert "not compared with a record of the cloud's own: reading the audit trail: " in found.out
        assert "2 servers were compared as they are now" in found.out
        journal = fleet.journals()[0]
        data = journal.read_bytes()
        journal.write_bytes(data.replace(b'"web-1"', b'"web-7"', 1))
        damaged = fleet("check", "--cloud")
        assert damaged.code == 3
        assert "the checksum is wrong" in damaged.out
        assert "not compared with the cloud: the journal is damaged" in damaged.err
