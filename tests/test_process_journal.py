"""No journal, no act: disks that are full or broken, journals that are torn, damaged or from the future."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from process_support import FLEET, Fleet, Simulator, fleet_on, fleet_text, heed_signals, once_each, plan_text

pytestmark = pytest.mark.process

SERVERS = 12
STRACE = shutil.which("strace")
MOUNT = ("/bin/mount",)


def check_no_act_without_a_line(fleet: Fleet, cloud: Simulator, journal: Path) -> None:
    """Everything that the cloud was asked to change was announced on the disk before."""
    events = fleet.events(journal)
    for kind, event in (("reinstall", "ReinstallRequested"), ("stop", "StopRequested")):
        announced = {each["server"] for each in events if each["event"] == event}
        asked = {server for call in cloud.calls(kind) for server in call["servers"]}
        assert asked <= announced, kind


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir()
    mounted = subprocess.run(
        [*MOUNT, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        yield
    finally:
        subprocess.run(["/bin/umount", "-l", folder], check=True)


def test_a_full_disk_ends_the_run_before_anything_more_is_changed(tmp_path: Path) -> None:
    """A real short write, then ENOSPC: exit 9, nothing unannounced; with room again it goes on."""
    disk = tmp_path / "disk"
    with small_disk(disk, "24k"), fleet_on(tmp_path, fleet_text(SERVERS)) as (fleet, cloud):
        journal = disk / "journal.jsonl"
        command = ("run", fleet.plan(plan_text(waves="[1, 5]")), "--yes", "--journal", str(journal))
        full = fleet(*command)
        assert full.code == 9, full.err
        assert "No space left on device" in full.err
        assert full.last == f"next: fleet resume {journal}"
        check_no_act_without_a_line(fleet, cloud, journal)
        before = len(cloud.calls())
        again = fleet(*command)
        assert again.code == 9, "still full"
        assert len(cloud.calls()) == before
        subprocess.run([*MOUNT, "-o", "remount,size=4m", disk], check=True)
        done = fleet("resume", str(journal))
        assert done.code == 0, done.err
        assert cloud.reinstalls() == cloud.wipes() == once_each(SERVERS)


def limit_files(size: int) -> Callable[[], None]:
    def limit() -> None:
        heed_signals()
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.parametrize("size", [3, 9, 15, 20])
def test_a_file_that_may_not_grow_is_a_full_disk(tmp_path: Path, size: int) -> None:
    """The same without being root, cut at several places, the very first line included."""
    with fleet_on(tmp_path, fleet_text(SERVERS)) as (fleet, cloud):
        plan = fleet.plan(plan_text(waves="[1, 5]"))
        quiet = Path(os.devnull).open("wb")  # noqa: SIM115 - closed below; the limit would stop logs as well
        child = fleet.start("run", plan, "--yes", before=limit_files(size * 1024), stderr=quiet)
        assert child.wait().code == 9
        quiet.close()
        if size == 3:
            assert cloud.calls() == []
            assert fleet.journals() == [], "a run that has not begun leaves no journal"
        else:
            check_no_act_without_a_line(fleet, cloud, fleet.journals()[0])
        done = fleet("run", plan, "--yes")
        assert done.code == 0, done.err
        assert cloud.reinstalls() == cloud.wipes() == once_each(SERVERS)


@pytest.mark.skipif(STRACE is None, reason="needs strace")
@pytest.mark.parametrize(
    "inject",
    [
        *(f"fdatasync:error=EIO:when={number}+" for number in (1, 2, 4, 9)),
        "fdatasync:error=ENOSPC:when=6",  # a second one would succeed, and must not be tried
        "fdatasync:signal=KILL:when=5",
    ],
)
def test_a_disk_that_fails_under_a_sync(tmp_path: Path, inject: str) -> None:
    """The first sync that fails is the last one; what it was to gate is not done."""
    can = subprocess.run([str(STRACE), "-e", "trace=none", "true"], capture_output=True, check=False)
    if can.returncode:
        pytest.skip("strace may not trace here")
    with fleet_on(tmp_path, fleet_text(3)) as (fleet, cloud):
        plan = fleet.plan(plan_text())
        journal = tmp_path / "j" / "journal.jsonl"
        trace = tmp_path / "trace"
        command = ("run", plan, "--yes", "--journal", str(journal))
        wrapper = (
            str(STRACE),
            "-f",
            "-qq",
            "-o",
            str(trace),
            "-e",
            "trace=fdatasync",
            "-e",
            f"inject={inject}",
        )
        failed = fleet(*command, wrapper=wrapper)
        if "KILL" in inject:
            assert failed.code in {-9, 137}
        else:
            assert failed.code == 9, failed.err
            assert trace.read_text().count("(INJECTED)") == 1, "a failed sync is never repeated"
            assert trace.read_text().rstrip().splitlines()[-1].endswith("(INJECTED)")
        if journal.exists():
            check_no_act_without_a_line(fleet, cloud, journal)
        else:
            assert cloud.calls() == []
        done = fleet(*command)
        assert done.code == 0, done.err
        assert cloud.reinstalls() == cloud.wipes() == once_each(3)


def unfinished(fleet: Fleet, plan: str) -> Path:
    """Kill a run in its middle, return its journal."""
    child = fleet.start("run", plan, "--yes")
    fleet.wait_for("ReinstallAccepted", 2, child=child)
    child.kill()
    return fleet.journals()[0]


def test_a_torn_tail_is_cut_kept_and_told(tmp_path: Path) -> None:
    with fleet_on(tmp_path, fleet_text(3)) as (fleet, cloud):
        plan = fleet.plan(plan_text())
        journal = unfinished(fleet, plan)
        with journal.open("ab") as file:
            file.write(b'{"seq":99,"at":"2026-1')
        assert fleet("status").code == 0
        done = fleet("run", plan, "--yes")
        assert done.code == 0, done.err
        assert "torn by a crash (22 bytes)" in done.err
        [aside] = journal.parent.glob("journal.jsonl.torn-*")
        assert aside.read_bytes() == b'{"seq":99,"at":"2026-1'
        assert cloud.reinstalls() == once_each(3)


def test_a_damaged_journal_is_refused_with_its_line(tmp_path: Path) -> None:
    """A changed byte, a missing line, a newer format: exit 9, the line's number, and nothing is sent."""
    with fleet_on(tmp_path, fleet_text(3)) as (fleet, cloud):
        plan = fleet.plan(plan_text())
        journal = unfinished(fleet, plan)
        whole = journal.read_bytes()
        lines = whole.splitlines(keepends=True)
        first = json.loads(lines[0])
        body = (
            lines[0].rpartition(b',"crc":"')[0].replace(b'"format":%d' % first["format"], b'"format":99', 1)
        )
        newer = b'%s,"crc":"%08x"}\n' % (body, zlib.crc32(body))
        before = len(cloud.calls())
        for content, words in (
            (whole.replace(b'"event":"Admitted"', b'"event":"Admittee"', 1), ":3: the checksum is wrong"),
            (b"".join([*lines[:3], *lines[4:]]), ":4: the checksum is wrong"),
            (newer + b"".join(lines[1:]), ":1: journal format 99 is newer"),
        ):
            assert content != whole
            journal.write_bytes(content)
            for command in (
                ("run", plan, "--yes"),
                ("resume",),
                ("status",),
                ("skip", journal.parent.name, "web-3", "--reason", "x"),
            ):
                refused = fleet(*command)
                assert refused.code == 9, (command, refused.err)
                assert f"{journal}{words}" in refused.err
            assert "unreadable" in fleet("runs").out
        assert len(cloud.calls()) == before
        journal.write_bytes(whole)
        assert fleet("run", plan, "--yes").code == 0


def test_a_run_that_died_in_its_first_line_is_none(tmp_path: Path) -> None:
    """Half a first line: nothing was touched, so the next `fleet run` begins anew."""
    with fleet_on(tmp_path, fleet_text(1)) as (fleet, cloud):
        plan = fleet.plan(plan_text())
        for name, content in (
            ("p-20260101T000000Z-aaaa", b""),
            ("p-20260101T000000Z-bbbb", b'{"seq":1,"at":"2026-01-01T00:0'),
            ("p-other-20260101T000000Z-cccc", b"not ours\n"),
        ):
            folder = fleet.state / name
            folder.mkdir(parents=True)
            (folder / "journal.jsonl").write_bytes(content)
        assert fleet("run", plan, "--yes").code == 0
        assert cloud.reinstalls() == once_each(1)
        stillborn = fleet.state / "p-20260101T000000Z-bbbb" / "journal.jsonl"
        refused = fleet("run", plan, "--yes", "--journal", str(stillborn))
        assert refused.code == 2
        assert "died before it touched anything" in refused.err


def test_a_state_folder_that_cannot_be_written_is_exit_9(tmp_path: Path) -> None:
    with fleet_on(tmp_path, fleet_text(1)) as (fleet, cloud):
        (tmp_path / "file").write_text("")
        refused = fleet(
            "run", fleet.plan(plan_text()), "--yes", env={"FLEET_STATE_DIR": str(tmp_path / "file" / "x")}
        )
        assert refused.code == 9, refused.err
        assert "FLEET_STATE_DIR" in refused.err
        assert cloud.calls() == []


def test_the_interpreter_is_the_real_one() -> None:
    """strace would otherwise trace a shell script that starts it."""
    assert Path(FLEET[0]).is_file()
