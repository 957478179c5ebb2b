"""The README's line for cron, as cron runs it: what it mails, and when it mails nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from docs_support import ROOT, blocks
from process_support import Done, Simulator, fleet_text, plan_text, simulator

pytestmark = pytest.mark.process


def cron_line() -> str:
    """Return the command of the README's crontab."""
    (block,) = (each for each in blocks(ROOT / "README.md") if each.language == "cron")
    (line,) = (each for each in block.lines if each.strip() and not each.startswith("#"))
    return line.split(None, 5)[5]


def night(folder: Path, cloud: Simulator) -> Done:
    """Run the line with the environment that cron gives: a shell, a home, a short PATH, no terminal."""
    (folder / "openrc").write_text(f"export FLEET_SIMULATOR_URL={cloud.url}\n")
    line = cron_line().replace("/etc/fleet/plans/", f"{folder}/").replace("/etc/fleet/", f"{folder}/")
    line = line.replace("/opt/fleet/bin/fleet", f"{sys.executable} -m fleet")
    done = subprocess.run(
        ["/bin/sh", "-c", line],
        env={"HOME": str(folder), "LOGNAME": "fleet", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
        | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, "")


def test_a_night_in_which_all_ends_well_mails_nothing(tmp_path: Path) -> None:
    """Nor one in which a reinstall failed once and an answer was lost; nor any night after it."""
    (tmp_path / "cron.yaml").write_text(plan_text())
    with simulator(tmp_path, fleet_text(4)) as cloud:
        cloud.order(
            {"kind": "job-fails", "leaves": "ERROR", "when": {"server": "web-2", "count": 1}},
            {"kind": "answer-lost", "when": {"call": "reinstall", "server": "web-3", "count": 1}},
        )
        for _ in range(2):
            done = night(tmp_path, cloud)
            assert (done.code, done.out) == (0, "")
        assert cloud.reinstalls() == {"web-1": 1, "web-2": 2, "web-3": 1, "web-4": 1}


def test_a_night_that_needs_a_person_says_who_where_and_what_next(tmp_path: Path) -> None:
    """In a few lines; and every night until somebody has decided."""
    (tmp_path / "cron.yaml").write_text(plan_text())
    with simulator(tmp_path, fleet_text(4)) as cloud:
        cloud.order({"kind": "job-fails", "leaves": "ERROR", "when": {"server": "web-1", "count": 9}})
        first = night(tmp_path, cloud)
        assert first.code == 4
        assert "4 servers = 0 verified + 1 failed" in first.out
        assert "web-1: the reinstall failed" in first.out
        assert "\nnext: fleet release " in first.out
        assert len(first.out.splitlines()) <= 10, first.out
        second = night(tmp_path, cloud)
        assert second.code == 4
        assert "is held: 1 of p failed, 0 allowed" in second.out
        assert len(second.out.splitlines()) <= 3, second.out


def test_a_plan_with_a_mistake_says_where(tmp_path: Path) -> None:
    (tmp_path / "cron.yaml").write_text(plan_text(more="concurency: 3\n"))
    with simulator(tmp_path, fleet_text(1)) as cloud:
        done = night(tmp_path, cloud)
    assert done.code == 2
    assert f"{tmp_path}/cron.yaml:8:1: concurency: unknown field" in done.out
