"""Evening fifteen, 07:30, coffee: 3,000 servers, and every surface says the same of them.

What the auditor asks a month later is in `test_evenings_audit`.
"""

from __future__ import annotations

import csv
import io
import re
import shlex
from collections import Counter
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from browser_support import lines_of
from process_support import Fleet
from support import AT, event_for, make_run

from fleet.core import events as ev
from fleet.core.model import ServerId

pytestmark = pytest.mark.process

FIGURES = {
    "selected": 3000, "verified": 2961, "failed": 9, "skipped": 12, "in_flight": 0, "in_doubt": 0,
    "never_touched": 18,
}  # fmt: skip
SENTENCE = (
    "3000 servers = 2961 verified + 9 failed + 12 skipped + 0 in flight + 0 in doubt + 18 never touched"
)
RUN = "p-20261205T200000Z-c0ff"
CAUSES = {
    "no capacity": ("Ecs.0319", 5),
    "not verified within 5 min: tcp 22 is closed": (None, 3),
    "it is locked since 22:40": ("Ecs.0616", 1),
}
WAY = (
    ev.Admitted, ev.Stopped, ev.ReinstallRequested, ev.ReinstallAccepted, ev.Reinstalled, ev.Started,
    ev.ChecksPassed, ev.Verified,
)  # fmt: skip


def night() -> list[tuple]:
    """Return the facts of a night that ended with the window."""
    opened = make_run(3000, waves=(3000,), concurrency=3000, hold_after=3000).opened
    facts: list[ev.Event] = [msgspec.structs.replace(opened, run=RUN)]
    names = iter(member.id for member in opened.members)
    for name in (next(names) for _ in range(FIGURES["verified"])):
        facts += [event_for(kind, name) for kind in WAY]
    for words, (code, count) in CAUSES.items():
        for name in (next(names) for _ in range(count)):
            facts += [event_for(kind, name) for kind in WAY[:4]]
            facts.append(ev.Failed(server=name, reason=words, code=code, request_id=f"req-{name}"))
    for name in (next(names) for _ in range(FIGURES["skipped"])):
        facts.append(ev.Skipped(server=name, reason="decommissioned (ann)"))
    facts.append(ev.RunDrained(reason="the window has closed"))
    return [(AT + timedelta(seconds=number), fact) for number, fact in enumerate(facts)]


@pytest.fixture(scope="module")
def morning(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fleet, str]:
    """Return the state folder in the morning, and the run."""
    fleet = Fleet(tmp_path_factory.mktemp("morning"))
    journal = fleet.state / RUN / "journal.jsonl"
    journal.parent.mkdir(parents=True, mode=0o700)
    journal.write_bytes(b"".join(line for _, line in lines_of(iter(night()))))
    return fleet, RUN


def test_every_surface_counts_the_same(morning: tuple[Fleet, str]) -> None:
    """Status, list, report in each of its forms, metrics: 3,000 and their parts, and nothing owed."""
    fleet, run = morning
    status = fleet("status", run).out
    assert SENTENCE in status
    assert "owed" not in status
    assert fleet("status", run, "-o", "json").data["figures"] == FIGURES
    (row,) = fleet("runs", "-o", "json").data
    assert row["figures"] == FIGURES
    data = fleet("report", run, "-o", "json", "--to", "-").data
    assert data["figures"] == FIGURES
    assert data["owed"] == []
    assert Counter(each["phase"] for each in data["servers"]) == {
        "verified": 2961, "failed": 9, "skipped": 12, "waiting": 18,
    }  # fmt: skip
    assert SENTENCE in fleet("report", run, "-o", "markdown", "--to", "-").out
    rows = list(csv.DictReader(io.StringIO(fleet("report", run, "-o", "csv", "--to", "-").out)))
    assert Counter(each["phase"] for each in rows)["failed"] == 9
    assert len(rows) == 3000
    junit = fleet("report", run, "-o", "junit", "--to", "-").out
    assert 'tests="3000" failures="9" errors="0" skipped="30"' in junit
    page = re.sub(r"<[^>]+>", "", fleet("report", run, "--to", "-").out)
    assert SENTENCE in " ".join(page.split())
    assert "Nothing is owed to any server" in page
    names = fleet("status", run, "-o", "names", "--only", "failed").out.split()
    assert len(names) == 9
    groups = fleet("status", run, "-o", "ansible").data
    hosts = {name: len(group["hosts"]) for name, group in groups["all"]["children"].items()}
    assert {key: hosts.get(key, 0) for key in FIGURES if key != "selected"} == {
        key: count for key, count in FIGURES.items() if key != "selected"
    }


def test_nine_failures_in_three_causes_with_the_next_command_for_each(
    morning: tuple[Fleet, str], tmp_path: Path
) -> None:
    """Each command is for those servers and for no other, and does what it says."""
    fleet, run = morning
    causes = fleet("report", run, "-o", "json", "--to", "-").data["causes"]
    assert {each["reason"]: (each["code"], len(each["servers"])) for each in causes} == CAUSES
    assert all(len(each["request_ids"]) == len(each["servers"]) for each in causes)
    page = fleet("report", run, "--to", "-").out
    text = fleet("report", run, "-o", "markdown", "--to", "-").out
    for each in causes:
        argv = shlex.split(each["next"])
        assert argv[:3] == ["fleet", "retry", run]
        assert set(argv[3:-2]) == set(each["servers"])
        assert each["next"] in page
        assert f"Next: `{each['next']}`" in text
    # On a copy: the others keep their morning.
    again = Fleet(tmp_path)
    again.state.mkdir(mode=0o700)
    (again.state / run).mkdir(mode=0o700)
    copied = (fleet.state / run / "journal.jsonl").read_bytes()
    (again.state / run / "journal.jsonl").write_bytes(copied)
    command = shlex.split(causes[0]["next"].replace("…", "CHG-4712"))
    done = again(*command[1:])
    assert done.code == 0, done.err
    figures = again("status", run, "-o", "json").data["figures"]
    assert (figures["failed"], figures["never_touched"]) == (4, 23)
    retried = [event["server"] for event in again.events() if event["event"] == "Retried"]
    assert retried == [ServerId(name) for name in causes[0]["servers"]]
