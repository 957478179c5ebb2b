"""`--log-file` of a real run: rotated, by logrotate itself where it is installed, and taken away."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from process_support import Fleet, fleet_on, fleet_text, plan_text

pytestmark = pytest.mark.process
EXAMPLE = Path(__file__).parent.parent / "contrib" / "logrotate" / "fleet"
OWN = {"CommandBegan", "CommandEnded", "StillWorking"}


def said(*paths: Path) -> list[dict]:
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def of_the_journal(lines: list[dict]) -> list[str]:
    return [line["event"] for line in lines if line["event"] not in OWN]


def recorded(fleet: Fleet) -> list[str]:
    """Return what the journal has of a life: all but its first line, which nobody listens to yet."""
    return [event["event"] for event in fleet.events()[1:]]


@pytest.mark.parametrize("how", ["rename", "logrotate"])
def test_a_rotation_under_a_run_loses_no_line(tmp_path: Path, how: str) -> None:
    """No signal, no restart: what the journal has is in the old file or the new one, once, in order."""
    if how == "logrotate" and shutil.which("logrotate") is None:
        pytest.skip("there is no logrotate")
    log, old = tmp_path / "log" / "web.log", tmp_path / "log" / "web.log.1"
    log.parent.mkdir(mode=0o700)
    with fleet_on(tmp_path, fleet_text(4)) as (fleet, _):
        child = fleet.start("run", fleet.plan(plan_text()), "--yes", "--quiet", "--log-file", str(log))
        fleet.wait_for("ReinstallAccepted", child=child)
        if how == "rename":
            log.rename(old)
        else:
            config = tmp_path / "logrotate.conf"
            text = EXAMPLE.read_text().replace("/var/log/fleet/", f"{log.parent}/")
            config.write_text(text.replace("    su fleet fleet\n", ""))
            subprocess.run(["logrotate", "-f", "-s", tmp_path / "state.logrotate", config], check=True)
        done = child.wait()
        assert (done.code, done.err) == (0, ""), "the file has everything, cron's mail nothing"
        lines = said(old, log)
        assert said(log), "the new file is written"
        assert of_the_journal(lines) == recorded(fleet)
        assert [lines[0]["event"], lines[-1]["event"]] == ["CommandBegan", "CommandEnded"]
        assert (lines[-1]["code"], lines[-1]["meaning"]) == (0, "every server verified, or nothing to do")
        assert [stat.S_IMODE(path.stat().st_mode) for path in (old, log)] == [0o600, 0o600]


def test_a_log_that_is_taken_away_ends_no_run_and_is_told_once(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    with fleet_on(tmp_path, fleet_text(4)) as (fleet, cloud):
        arguments = (
            "run",
            fleet.plan(plan_text()),
            "--yes",
            "--quiet",
            "--log-file",
            str(folder / "web.log"),
        )
        child = fleet.start(*arguments)
        fleet.wait_for("ReinstallAccepted", child=child)
        folder.rename(tmp_path / "away")
        done = child.wait()
        assert done.code == 0
        (line,) = done.err.splitlines()
        assert (
            "web.log cannot be written: No such file or directory; the run goes on"
            in json.loads(line)["what"]
        )
        assert cloud.wipes() == {f"web-{number}": 1 for number in range(1, 5)}


def test_how_a_command_ended_is_in_it_also_where_no_run_began(tmp_path: Path) -> None:
    """And what cannot be a log file is refused before anything is touched."""
    fleet = Fleet(tmp_path)
    log = tmp_path / "web.log"
    done = fleet("run", str(tmp_path / "none.yaml"), "--yes", env={"FLEET_LOG_FILE": str(log)})
    assert done.code == 2
    _, last = said(log)
    assert (last["event"], last["code"], last["level"]) == ("CommandEnded", 2, "warning")
    assert "none.yaml" in last["error"]
    for wrong in ("-", str(tmp_path)):
        done = fleet("run", "plan.yaml", "--yes", "--log-file", wrong)
        assert done.code == 2
        assert "--log-file" in done.err


def test_no_line_of_a_log_gets_into_a_journal_or_a_plan(tmp_path: Path) -> None:
    """By whatever name, and also where the name leads there later: a run could never be resumed again."""
    with fleet_on(tmp_path, fleet_text(1)) as (fleet, cloud):
        plan = fleet.plan(plan_text(waves="[1]"))
        child = fleet.start("run", plan, "--yes")
        fleet.wait_for("ReinstallAccepted", child=child)
        child.kill()
        (journal,) = fleet.journals()
        log = tmp_path / "web.log"
        for make in (log.symlink_to, log.hardlink_to):
            make(journal)
            done = fleet("resume", "--log-file", str(log))
            assert (done.code, "web.log is the journal of a run" in done.err) == (2, True)
            log.unlink()
        done = fleet("resume", env={"FLEET_LOG_FILE": str(journal)})
        assert done.code == 2
        before = Path(plan).read_bytes()
        for arguments in (["--log-file", plan], ["--journal", str(log), "--log-file", str(log)]):
            done = fleet("run", plan, "--yes", *arguments)
            assert (done.code, "give it a file of its own" in done.err) == (2, True)
        assert (Path(plan).read_bytes(), log.exists()) == (before, False)
        assert fleet("resume").code == 0
        assert cloud.wipes() == {"web-1": 1}
