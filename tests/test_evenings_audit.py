"""Power cut in wave 3, and the morning after: the night of 60 servers, and what an auditor asks later."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from process_support import Simulator, fleet_on, fleet_text, once_each, plan_text, wait_until
from story_support import at, calm, effect_of, told

from fleet.core.settings import Rollout, Verify
from fleet.errors import Exit
from fleet.rehearsal.stories import Story

NAMES = tuple(f"web-{number:02}" for number in range(1, 61))
MOST = 10


def sixty() -> Story:
    """Return 60 servers in waves of 1, 9 and 50, ten in flight."""
    story = calm(
        *NAMES,
        rollout=Rollout(waves=(1, 9, 50), concurrency=MOST, hold_after=0),
        verify=Verify(timeout_s=300.0, stable_for_s=60.0),
    )
    return replace(story, nights_s=(20 * 3600.0, 60.0))


def test_power_cut_in_wave_3() -> None:
    """In the middle of wave 3 the rack goes dark, unsynced lines with it; the next night goes on. 60 for 60.

    At the cut some are stopping, some requested, some reinstalling, some verifying: it is sought out.
    """
    story = sixty()
    found = None
    for nth in range(22, 60):
        number = effect_of(story, "ReinstallRequested", kind="sent", nth=nth)
        night = told(story, at(number, "power-cut"))
        resumed, *_ = night.events("RunResumed")
        where = in_flight(night.journal, resumed["seq"])
        if {"stopping", "requested", "reinstalling", "verifying"} <= set(where.values()):
            found = night
            break
    assert found is not None, "no cut found with servers in all these phases"
    assert len(where) == MOST, "counted from the first second"
    assert found.endings[0].crash == "power-cut"
    assert found.endings[1].code is Exit.OK
    assert found.phases() == dict.fromkeys(NAMES, "verified")
    assert found.reinstalls() == dict.fromkeys(NAMES, 1)
    assert found.world.max_down <= MOST
    # Whoever was being reinstalled, or was done, is found so: nobody asks for it again.
    later = [event for event in found.events() if event["seq"] > resumed["seq"]]
    asked = {event["server"] for event in later if event["event"] == "ReinstallRequested"}
    assert not asked & {server for server, phase in where.items() if phase in {"reinstalling", "verifying"}}
    # And who was in doubt is concluded upon, by looking.
    doubtful = {server for server, phase in where.items() if phase == "requested"}
    concluded = {"ReinstallAccepted", "ReinstallNotTaken", "Reinstalled"}
    assert doubtful <= {event.get("server") for event in later if event["event"] in concluded}
    assert found.report.violations == []


def in_flight(journal: bytes, before: int) -> dict[str, str]:
    """Return who was where, by the journal's own words up to a line."""
    words = {
        "Admitted": "stopping", "StopRequested": "stopping", "Stopped": "stopped",
        "ReinstallRequested": "requested", "ReinstallAccepted": "reinstalling", "Reinstalled": "reinstalled",
        "StartRequested": "starting", "Started": "verifying", "ChecksPassed": "returning", "Verified": "",
    }  # fmt: skip
    at_last: dict[str, str] = {}
    for line in journal.splitlines()[: before - 1]:
        event = json.loads(line)
        if "server" in event and event["event"] in words:
            at_last[event["server"]] = words[event["event"]]
    return {server: phase for server, phase in at_last.items() if phase}


# -- the same by a real process, and the morning after ----------------------------------------------------

SECRET_DATA = "#cloud-config\npassword: hunter2-in-user-data\n"


@pytest.mark.process
def test_killed_in_wave_3_and_audited_a_month_later(tmp_path: Path) -> None:
    """First line of the resume, one wipe each, never too many down; and every question has its answer."""
    (tmp_path / "web.yaml").write_text(SECRET_DATA)
    digest = hashlib.sha256(SECRET_DATA.encode()).hexdigest()
    with fleet_on(tmp_path, fleet_text(60, speed=150)) as (fleet, cloud):
        text = plan_text(waves="[1, 5, 100%]", concurrency=MOST).replace(
            "settle: 2s", "settle: 2s, user_data: {file: web.yaml}"
        )
        plan = fleet.plan(text.replace("max_failures: 0", "max_failures: 0, approve_after: [2]"))
        assert fleet("run", plan, "--yes").code == 6
        run = fleet.journals()[0].parent.name
        assert fleet("approve", run, "--reason", "CHG-4711").code == 0

        # At the instant of death some are requested and unanswered: taken, and their answers take their time.
        cloud.order({"kind": "slow", "seconds": 6000, "when": {"call": "reinstall", "nth": 12, "count": 3}})
        journal = fleet.journals()[0]
        night = fleet.start("run", plan, "--yes")
        wait_until(lambda: _mixed(journal), "wave 3 with servers in several phases")
        night.kill()
        left = fleet("status", "-o", "json").data["figures"]
        resumed = fleet("run", plan, "--yes")
        assert resumed.code == 0, resumed.err
        flying = left["in_flight"] + left["in_doubt"]
        first = resumed.err.splitlines()[0]
        assert first == f"resuming run {run}: {flying} in flight, {left['in_doubt']} of them in doubt"
        assert cloud.reinstalls() == cloud.wipes() == once_each(60)
        assert cloud.summary()["max_down"] <= MOST

        morning(fleet("status").out, fleet("report", "-o", "json").data["figures"])
        rows = list(csv.DictReader(io.StringIO(fleet("report", "-o", "wipes").out)))
        ask_as_an_auditor(rows, digest)
        counted = "60 servers, 60 wipes by the cloud's own count (the audit trail (CTS)), none unexplained"
        wait_until(lambda: counted in fleet("check", run, "--cloud").out, counted)
        nothing_secret_is_found(tmp_path, cloud)

        # A single byte, anywhere: noticed by everybody who reads.
        data = bytearray(journal.read_bytes())
        middle = len(data) // 2
        data[middle] ^= 1
        journal.write_bytes(bytes(data))
        for command in ("status", "report"):
            assert fleet(command).code == 9, command
        assert fleet("check").code == 3


def _mixed(journal: Path) -> bool:
    data = journal.read_bytes().rpartition(b"\n")[0]
    where = Counter(in_flight(data, data.count(b"\n") + 2).values())
    busy = sum(where[phase] for phase in ("reinstalling", "reinstalled", "starting", "verifying"))
    # The first 6 are of the first night; of this one some are through already.
    return where["requested"] >= 2 and busy > 0 and data.count(b'"event":"Verified"') >= 12


def morning(status: str, figures: dict[str, int]) -> None:
    """07:30, coffee."""
    line = "60 servers = 60 verified + 0 failed + 0 skipped + 0 in flight + 0 in doubt + 0 never touched"
    assert line in status
    assert "owed" not in status
    assert figures["selected"] == figures["verified"] == 60


def ask_as_an_auditor(rows: list[dict[str, str]], digest: str) -> None:
    """Which ones on the second night, by whom approved, with which user data; was any wiped twice?"""
    second = [row for row in rows if row["night"] == "2"]
    assert 10 <= len(second) <= 54
    assert {row["wave"] for row in second} == {"3"}
    assert {row["approval"] for row in second} == {"CHG-4711"}
    assert all(row["approved_by"] and row["approved_at"].endswith("Z") for row in second)
    assert {row["approved_by"] for row in rows if row["night"] == "1"} == {""}
    assert {row["user_data_sha256"] for row in rows} == {digest}
    taken = Counter(row["name"] for row in rows if row["outcome"] == "accepted")
    assert taken == once_each(60)
    for row in rows:
        if row["outcome"] == "accepted":
            assert row["system_disk_before"]
            assert row["system_disk_after"] not in {"", row["system_disk_before"]}


def nothing_secret_is_found(folder: Path, cloud: Simulator) -> None:
    """The auditor greps. User data lie where they must, for their owner only."""
    assert cloud.url
    for path in folder.rglob("*"):
        if not path.is_file() or path.name == "web.yaml":
            continue
        if b"hunter2" in path.read_bytes():
            assert path.parent.name == "journal.files", path
            assert path.stat().st_mode & 0o077 == 0
