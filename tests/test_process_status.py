"""`status` and `runs` while a run runs, help, imports that `fleet --help` must not pay for, NO_COLOR."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from process_support import FLEET, Fleet, fleet_on, fleet_text, plan_text

pytestmark = pytest.mark.process

COMMANDS = ("", "demo", "validate", "preview", "run", "resume", "status", "runs", "release", "retry", "skip")
HEAVY = {"aiohttp", "pydantic", "rich", "structlog", "jinja2", "yaml"}


def test_the_figures_add_up_at_every_instant(tmp_path: Path) -> None:
    """Sampled while it runs: nobody is counted twice or forgotten, and each server has its one reason."""
    with fleet_on(tmp_path, fleet_text(6, speed=30)) as (fleet, cloud):
        cloud.order({"kind": "answer-lost", "when": {"server": "web-2"}})
        child = fleet.start("run", fleet.plan(plan_text(concurrency=2)), "--yes")
        fleet.wait_for("RunOpened", child=child)
        seen: set[tuple[tuple[str, int], ...]] = set()
        while child.process.poll() is None:
            data = fleet("status", "-o", "json").data
            figures = data["figures"]
            assert figures.pop("selected") == sum(figures.values()) == len(data["servers"]) == 6
            phases = [server["phase"] for server in data["servers"]]
            assert phases.count("verified") == figures["verified"]
            assert phases.count("requested") == figures["in_doubt"]
            assert phases.count("waiting") == figures["never_touched"]
            assert figures["in_flight"] + figures["in_doubt"] <= 2
            assert all(server["reason"] for server in data["servers"] if server["phase"] == "waiting")
            seen.add(tuple(figures.items()))
            if child.process.poll() is None:
                assert fleet("status").code == fleet("runs").code == 0
        assert child.wait().code == 0
        assert len(seen) > 3
        runs = fleet("runs", "-o", "json").data
        assert [run["state"] for run in runs] == ["finished"]
        assert runs[0]["figures"]["verified"] == 6


def test_status_says_who_works_on_it(tmp_path: Path) -> None:
    with fleet_on(tmp_path, fleet_text(1, speed=30)) as (fleet, _cloud):
        child = fleet.start("run", fleet.plan(plan_text()), "--yes")
        fleet.wait_for("ReinstallAccepted", child=child)
        assert f"running (pid {child.pid} on " in fleet("status").out
        child.kill()
        status = fleet("status")
        assert "unfinished: its process has ended" in status.out
        assert status.last == f"next: fleet resume {fleet.journals()[0].parent.name}"


@pytest.mark.parametrize("command", [("runs",), ("status",), ("no-such",), ("validate", "-"), ("--version",)])
def test_a_fork_does_what_a_start_does(tmp_path: Path, command: tuple[str, ...]) -> None:
    """The other tests fork (`forks.py`): code, output, error and place are those of `python -m fleet`."""
    told = []
    for anew in (False, True):
        done = Fleet(tmp_path, anew=anew)(*command, env={"COLUMNS": "40"})
        told.append((done.code, done.out, done.err))
    assert told[0] == told[1]


def test_no_run_is_said_in_words(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    assert "no runs in" in fleet("runs").out
    for command in (("status",), ("resume",), ("status", "nothing"), ("status", str(tmp_path / "no.jsonl"))):
        done = fleet(*command)
        assert done.code == 2
        assert done.err.startswith("error: ")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(tmp_path: Path, command: str) -> None:
    done = Fleet(tmp_path)(*command.split(), "--help")
    assert done.code == 0
    assert "Example" in done.out
    assert "  fleet " in done.out
    assert "\b" not in done.out


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], HEAVY),
        (["status"], HEAVY),
        (["runs"], HEAVY),
        (["run", "-h"], {"aiohttp", "rich.console"}),
    ],
)
def test_what_is_not_needed_is_not_imported(tmp_path: Path, arguments: list[str], heavy: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "fleet", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"FLEET_STATE_DIR": str(tmp_path)},
    )
    imported = {
        line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "import time:" in line
    }
    assert "click" in imported
    assert not heavy & imported


def test_no_colour_where_none_is_wanted(tmp_path: Path) -> None:
    with fleet_on(tmp_path, fleet_text(1)) as (fleet, _cloud):
        plan = fleet.plan(plan_text())
        command = ("run", plan, "--yes", "--again", "--log-format", "pretty")
        piped = fleet(*command)
        assert "\x1b" not in piped.err + piped.out
        bare = fleet(
            "run",
            plan,
            "--yes",
            "--again",
            "--log-format",
            "pretty",
            env={"NO_COLOR": "1", "FORCE_COLOR": "1"},
        )
        assert "\x1b" not in bare.err + bare.out
        coloured = fleet(*command, env={"FORCE_COLOR": "1"})
        assert "\x1b[" in coloured.err
        assert "\x1b" not in coloured.out


def test_completion_for_each_shell(tmp_path: Path) -> None:
    """The script is made by the installed command's own variable."""
    fleet = Path(sys.executable).with_name("fleet")
    if not fleet.exists():
        pytest.skip(f"not installed beside {FLEET[0]}")
    for shell in ("bash", "zsh", "fish"):
        done = subprocess.run(
            [fleet],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"_FLEET_COMPLETE": f"{shell}_source"},
        )
        assert done.returncode == 0, done.stderr
        assert "_FLEET_COMPLETE" in done.stdout
    done = subprocess.run(
        [fleet],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"_FLEET_COMPLETE": "bash_complete", "COMP_WORDS": "fleet re", "COMP_CWORD": "1"},
    )
    assert {line.partition(",")[2] for line in done.stdout.split()} >= {"resume", "release", "retry"}
