"""`fleet demo` and small runs, killed with SIGKILL wherever it hurts, and given again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from process_support import Fleet, Simulator, fleet_on, fleet_text, once_each, plan_text, wait_until

pytestmark = pytest.mark.process


def demo_cloud(fleet: Fleet) -> Simulator:
    found = json.loads((fleet.state / "demo" / "cloud.json").read_text())
    return Simulator(found["url"], None)  # type: ignore[arg-type]  # not ours to end


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_demo_killed_again_and_again_wipes_each_server_once(tmp_path: Path) -> None:
    """The real demo plan, 66 servers: killed in each target, it ends as if nothing had happened."""
    fleet = Fleet(tmp_path)
    pids = set()
    try:
        for event, count in (("ReinstallRequested", 2), ("ReinstallAccepted", 9), ("Verified", 20)):
            child = fleet.start("demo", "--speed", "120")
            fleet.wait_for(event, count, child=child)
            pids.add(json.loads((fleet.state / "demo" / "cloud.json").read_text())["pid"])
            child.kill()
        done = fleet("demo", "--speed", "120")
    finally:
        fleet.close()
    assert done.code == 0, done.err[-2000:]
    assert len(fleet.journals()) == 1
    assert fleet.count("RunResumed") == 3
    assert "66 reinstalls accepted, 66 servers wiped, none of them twice" in done.err
    [pid] = pids
    wait_until(lambda: not alive(pid), "the end of the demo's cloud")
    assert not (fleet.state / "demo" / "cloud.json").exists()


def test_a_demo_after_a_dead_cloud_starts_anew(tmp_path: Path) -> None:
    """The cloud of an unfinished demo is gone, a reboot say: its run is history."""
    fleet = Fleet(tmp_path)
    try:
        child = fleet.start("demo", "--speed", "120")
        fleet.wait_for("ReinstallAccepted", 1, child=child)
        second = fleet("demo")
        assert second.code == 7
        assert f"pid {child.pid}" in second.err
        cloud = demo_cloud(fleet)
        child.kill()
        cloud.ask("stop", {})
        wait_until(lambda: fails(cloud), "the end of the cloud")
        again = fleet.start("demo", "--speed", "120")
        wait_until(lambda: len(fleet.journals()) == 2, "a new run")
        newest = max(fleet.journals(), key=lambda path: path.stat().st_mtime)
        fleet.wait_for("ReinstallAccepted", 1, child=again, journal=newest)
        cloud = demo_cloud(fleet)
        again.kill()
        cloud.ask("stop", {})
        wait_until(lambda: fails(cloud), "the end of the cloud")
    finally:
        fleet.close()


def fails(cloud: Simulator) -> bool:
    try:
        cloud.ask("health")
    except OSError:
        return True
    return False


MOMENTS = [
    ("RunOpened", 1),
    ("Admitted", 1),
    ("StopRequested", 2),
    ("Stopped", 1),
    ("ReinstallRequested", 1),
    ("ReinstallRequested", 3),
    ("ReinstallAccepted", 1),
    ("ReinstallAccepted", 4),
    ("Reinstalled", 1),
    ("ChecksPassed", 2),
    ("WaveStarted", 2),
]


@pytest.mark.parametrize(("event", "count"), MOMENTS)
def test_killed_at_any_moment_each_server_is_reinstalled_once(tmp_path: Path, event: str, count: int) -> None:
    """SIGKILL right after a line of the journal; the same command goes on, and one call each."""
    with fleet_on(tmp_path, fleet_text(5, speed=250)) as (fleet, cloud):
        plan = fleet.plan(plan_text(waves="[2, 100%]"))
        child = fleet.start("run", plan, "--yes")
        fleet.wait_for(event, count, child=child)
        child.kill()
        done = fleet("run", plan, "--yes")
        assert done.code == 0, done.err
        assert cloud.reinstalls() == cloud.wipes() == once_each(5)
        assert len(fleet.journals()) == 1
