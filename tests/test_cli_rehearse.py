"""`fleet rehearse` and `fleet check` from the command line."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest
from story_support import calm, told

from fleet.cli.main import run_command_line
from fleet.errors import Exit
from fleet.rehearsal.rehearse import most_in_flight
from fleet.rehearsal.stories import Told

PLAN = """\
version: 1
name: rehearsed
cloud: {provider: simulator}
rollout: {waves: [1, 3], concurrency: 2, max_failures: 1}
reinstall: {key_pair: demo-key}
targets:
  - {name: web, select: {name: "web-*"}}
"""
FLEET = "servers:\n  - {name: 'web-{}', count: 4}\n"


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    plan, fleet = tmp_path / "plan.yaml", tmp_path / "fleet.yaml"
    plan.write_text(PLAN.replace("reinstall:", "defaults:\n  reinstall:"))
    fleet.write_text(FLEET)
    return str(plan), str(fleet)


def test_a_night_in_a_moment(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Waves, figures and the end, as data."""
    plan, fleet = files
    assert run_command_line(["rehearse", plan, "--fleet-file", fleet, "-o", "json"]) == Exit.OK
    found = msgspec.json.decode(capsys.readouterr().out)
    (night,) = found["nights"]
    assert night["servers"] == {"verified": 4}
    assert night["most_in_flight"] == 2
    assert [wave["servers"] for wave in night["waves"]] == [1, 3]


def test_killed_everywhere(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """The user's own plan, killed at some of its instants."""
    plan, fleet = files
    arguments = ["rehearse", plan, "--fleet-file", fleet, "--crash-everywhere", "--at-most", "15"]
    assert run_command_line(arguments) == Exit.OK
    assert "30 crashes, 30 resumed, 0 wiped twice, 0 limits broken" in capsys.readouterr().out


def test_the_referee_on_a_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A good journal passes; one that tells of a second wipe does not."""
    night = told(calm("web-1"))
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(night.journal)
    assert run_command_line(["check", str(journal)]) == Exit.OK
    assert "no promise was broken" in capsys.readouterr().out

    record = tmp_path / "record.jsonl"
    lines = night.world.ledger.lines()
    wipe = next(line for line in lines if b'"kind":"reinstall"' in line)
    record.write_bytes(b"\n".join([*lines, wipe]))
    assert run_command_line(["check", str(journal), "--record", str(record)]) == Exit.FAILED
    assert "P1" in capsys.readouterr().out


def test_a_changed_byte_is_seen(tmp_path: Path) -> None:
    """The referee has a reader of its own, with the same checksum."""
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(told(calm("web-1")).journal.replace(b'"Verified"', b'"Verifies"'))
    assert run_command_line(["check", str(journal)]) == Exit.FAILED


def test_most_in_flight_counts_nobody_who_was_left_alone_or_put_back() -> None:
    """Who has changed, or is put back since the run is held, has left: the limit is never exceeded."""
    ways = (
        ("Admitted", "Skipped"),
        ("Admitted", "PutBack"),
        ("Admitted", "Failed"),
        ("Admitted", "Verified"),
    )
    events = [{"event": kind, "server": f"web-{number}"} for number, way in enumerate(ways) for kind in way]
    night = cast("Told", SimpleNamespace(events=lambda: events))
    assert most_in_flight(night) == 1
