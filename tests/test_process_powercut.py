"""The power fails: what a real file system had not yet sent to its disk is gone.

An image is mounted through a loop device with a commit interval of ten minutes, so that only what was synced
reaches it; a copy of the image is what a disk would hold after a cut. Needs root and mkfs.ext4.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from process_support import fleet_on, fleet_text, once_each, plan_text, wait_until

pytestmark = pytest.mark.process


def _mount(image: Path, at: Path, options: str) -> bool:
    at.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-o", options, str(image), str(at)], capture_output=True, check=False)
    return done.returncode == 0


@contextmanager
def disk(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Mount a new file system; yield its image and where it is mounted."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("needs root and mkfs.ext4 to mount a file system of its own")
    image, at = folder / "image", folder / "mounted"
    with image.open("wb") as file:
        file.truncate(48 * 1024 * 1024)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    if not _mount(image, at, "loop,commit=600"):
        pytest.skip("no loop devices here")
    subprocess.run(["sync", "-f", str(at)], check=True)
    try:
        yield image, at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=False)


def _last(state: Path) -> Path | None:
    found = sorted(state.glob("*/journal.jsonl"))
    return found[-1] if found else None


@pytest.mark.parametrize("moment", ["ReinstallRequested", "ReinstallAccepted", "Verified"])
def test_after_a_power_cut_every_server_is_wiped_once(tmp_path: Path, moment: str) -> None:
    """What the disk holds at the cut is enough: the same command finishes, and nobody is wiped twice."""
    with disk(tmp_path) as (image, at), fleet_on(tmp_path, fleet_text(6, speed=40)) as (fleet, cloud):
        plan = fleet.plan(plan_text(concurrency=3))
        lived_on = {"FLEET_STATE_DIR": str(at / "state")}
        child = fleet.start("run", plan, "--yes", env=lived_on)
        wait_until(
            lambda: (journal := _last(at / "state")) and fleet.count(moment, journal) >= 2, f"2 x {moment}"
        )
        child.signal(signal.SIGSTOP)  # the power fails here: nothing is done after it
        cut = tmp_path / "cut"
        shutil.copyfile(image, cut)
        child.kill()

        after = tmp_path / "after"
        assert _mount(cut, after, "loop")
        try:
            shutil.copytree(after / "state", fleet.state, ignore=shutil.ignore_patterns("*.control"))
        finally:
            subprocess.run(["umount", "-l", str(after)], check=False)
        kept = fleet.count(moment)
        done = fleet("run", plan, "--yes")

        assert done.code == 0, done.err
        assert kept >= 2, "what was synced before the cut is there after it"
        assert cloud.wipes() == once_each(6)
        assert cloud.reinstalls() == once_each(6)
