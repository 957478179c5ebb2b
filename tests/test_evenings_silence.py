"""Three nights of nothing: approval was asked for in a channel that nobody reads. Played with real processes.

Between the nights the run's files are made a day older, so that tomorrow is now.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from process_support import Fleet, Simulator, fleet_on, plan_text
from prometheus_client.parser import text_string_to_metric_families
from receiver import Receiver, receiver

from fleet.journal import encode_line, read

pytestmark = pytest.mark.process

FLEET = """\
speed: 150
servers:
  - {name: "web-{}", count: 3, tags: {role: web}, subnet: 10.20.1.0/24}
  - {name: "new-1", tags: {role: other}, subnet: 10.20.1.0/24}
"""
NOTIFY = """\
notify:
  - {webhook: {env: TEAM_WEBHOOK}, format: json, to: "#web-oncall"}
"""
DAY = timedelta(days=1)


def grow_older(fleet: Fleet, by: timedelta) -> None:
    """Let time pass: everything that a run and its plan have on the disk was so much earlier."""
    for journal in fleet.journals():
        crc, lines = 0, []
        for entry in read(journal)[0]:
            line, crc = encode_line(entry.seq, entry.at - by, entry.event, crc)
            lines.append(line)
        journal.write_bytes(b"".join(lines))
    for told in fleet.state.glob("plans/*.told.json"):
        known = json.loads(told.read_text())
        known["called_at"] = (datetime.fromisoformat(known["called_at"]) - by).isoformat()
        for keys in known["told"].values():
            for key in list(keys):
                # The keys have the journal's own times in them.
                head, _, tail = key.rpartition("/")
                keys[_older(head, by) + "/" + _older(tail, by)] = keys.pop(key)
        told.write_text(json.dumps(known))


def _older(text: str, by: timedelta) -> str:
    parts = []
    for part in text.split("/"):
        try:
            moment = datetime.fromisoformat(part)
        except ValueError:
            parts.append(part)
        else:
            parts.append((moment - by).isoformat(timespec="milliseconds") if moment.tzinfo else part)
    return "/".join(parts)


def metrics(path: Path) -> dict[str, float]:
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
    }


@pytest.fixture
def stage(tmp_path: Path):
    with fleet_on(tmp_path, FLEET) as (fleet, cloud), receiver() as team:
        fleet.env |= {"TEAM_WEBHOOK": team.url, "FLEET_METRICS_FILE": str(tmp_path / "fleet.prom")}
        yield fleet, cloud, team


def a_plan(fleet: Fleet) -> str:
    text = plan_text(waves="[1, 100%]", more=NOTIFY)
    return fleet.plan(text.replace("max_failures: 0", "max_failures: 0, approve_after: [1]"))


def test_three_nights_of_nothing(stage: tuple[Fleet, Simulator, Receiver], tmp_path: Path) -> None:
    """Each night exit 6 and louder words; the metric ages; approved, it goes on and says what has drifted."""
    fleet, cloud, team = stage
    plan = a_plan(fleet)

    monday = fleet("run", plan, "--yes", "--quiet")
    assert monday.code == 6, monday.err
    assert team.events() == ["needs-approval"]
    assert "waits for approval after wave 1" in monday.out
    assert metrics(tmp_path / "fleet.prom")["fleet_nights_without_progress"] == 0

    for night, words in enumerate(("first", "second", "third"), start=1):
        grow_older(fleet, DAY)
        assert fleet("run", plan, "--yes", "--quiet").code == 6
        assert team.events() == ["needs-approval"] + ["no-progress"] * night
        title = team.taken[-1]["title"]
        assert title.startswith(f"p: {words} night without progress: waits for approval after wave 1 of p, ")
        assert fleet("run", plan, "--yes", "--quiet").code == 6
        assert len(team.taken) == night + 1, "once a night, however often cron calls"
        found = metrics(tmp_path / "fleet.prom")
        age_s = datetime.now(UTC).timestamp() - found["fleet_last_progress_timestamp_seconds"]
        assert DAY.total_seconds() * night <= age_s < DAY.total_seconds() * night + 600
        assert found["fleet_nights_without_progress"] == night
        assert (found["fleet_approval_awaited"], found["fleet_last_exit_code"]) == (1, 6)

    run = fleet.journals()[0].parent.name
    first, second, third, *_ = fleet("status").out.splitlines()
    assert first.startswith(f"{run}: waits for approval after wave 1 of p, since ")
    assert second.startswith("third night without progress; the last was at ")
    assert third.startswith("asked of #web-oncall at ")
    assert sum(cloud.reinstalls().values()) == 1

    cloud.order({"kind": "tagged-by-other", "text": "role=web", "when": {"server": "new-1"}})
    approved = fleet("approve", run, "--reason", "canary looked at, CHG-1")
    assert approved.code == 0, approved.err
    thursday = fleet("run", plan, "--yes")
    assert thursday.code == 0, thursday.err
    logged = [json.loads(line) for line in thursday.err.splitlines() if line.startswith("{")]
    drifted = [line["what"] for line in logged if line["event"] == "ListDrifted"]
    assert drifted == ["new-1 would be selected now, and is not in this run"]
    assert cloud.reinstalls() == {"web-1": 1, "web-2": 1, "web-3": 1}, "shown, and not drawn in"
    assert team.events()[4:] == ["finished"]
    assert metrics(tmp_path / "fleet.prom")["fleet_nights_without_progress"] == 0


def test_a_good_night_says_nothing_and_a_held_one_does(stage: tuple[Fleet, Simulator, Receiver]) -> None:
    """`--quiet`: no output and no mail for exit 0; the team hears that it is finished."""
    fleet, cloud, team = stage
    plan = fleet.plan(plan_text(more=NOTIFY))
    done = fleet("run", plan, "--yes", "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert team.events() == ["finished"]
    again = fleet("run", plan, "--yes", "--quiet")
    assert (again.code, again.out, again.err) == (0, "", "")
    assert team.events() == ["finished"], "cron may look every night"
    assert len(cloud.reinstalls()) == 3
