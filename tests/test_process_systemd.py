"""What systemd hears of a run, over a real socket; what it is kept from; and the units, as it reads them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from process_support import Fleet, fleet_on, fleet_text, plan_text, wait_until

from fleet.systemd import watchdog_s, watched

pytestmark = pytest.mark.process
UNITS = Path(__file__).parent.parent / "contrib" / "systemd"


@contextlib.contextmanager
def listening_at(address: Path) -> Iterator[Callable[[], list[str]]]:
    """Yield what returns the messages that have come since it was asked last."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(address))
        listening.settimeout(0)

        def heard() -> list[str]:
            found = []
            while True:
                try:
                    found.append(listening.recv(4096).decode())
                except BlockingIOError:
                    return found

        yield heard


def test_systemd_hears_ready_progress_and_the_end(tmp_path: Path) -> None:
    """A second run that has nothing to do is ready too: else systemd would call it failed."""
    address = str(tmp_path / "notify")
    with listening_at(tmp_path / "notify") as heard, fleet_on(tmp_path, fleet_text(2)) as (fleet, _cloud):
        plan = fleet.plan(plan_text(waves="[2]", concurrency=2))
        assert fleet("run", plan, "--yes", env={"NOTIFY_SOCKET": address}).code == 0
        first = heard()
        assert first[0] == "READY=1"
        assert "2 of 2 verified, 0 in flight, 0 failed" in first[-2]
        assert first[-1] == "STOPPING=1"
        assert fleet("run", plan, "--yes", env={"NOTIFY_SOCKET": address}).code == 0
        assert heard() == ["READY=1"]
        gone = {"NOTIFY_SOCKET": str(tmp_path / "nobody")}
        assert fleet("run", plan, "--yes", "--again", env=gone).code == 0


# -- the watchdog ---------------------------------------------------------------------------------------


def test_the_watchdog_hears_from_a_run_at_work(tmp_path: Path) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
    with listening_at(tmp_path / "notify") as heard, fleet_on(tmp_path, fleet_text(2)) as (fleet, _cloud):
        plan = fleet.plan(plan_text(waves="[1]", concurrency=1))
        assert fleet("run", plan, "--yes", env=environment).code == 0
        said = heard()
        assert said[0] == "READY=1", "systemd looks for pings only after it"
        assert said.count("WATCHDOG=1") >= 3


async def test_a_loop_that_hangs_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that pings would say that all is well."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    with listening_at(tmp_path / "notify") as heard:
        before: list[str] = []

        async def work() -> int:
            while len(before) < 3:
                await asyncio.sleep(0.001)
                before.extend(heard())
            time.sleep(0.1)  # noqa: ASYNC251 - the loop is to hang
            return len(heard())

        assert await watched(work()) == 0
        assert set(before) == {"WATCHDOG=1"}
        await asyncio.sleep(0)
        assert heard() == [], "and nothing is said once the work is done"


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "300000000"}, 300.0),
        ({"WATCHDOG_USEC": "300000000", "WATCHDOG_PID": str(os.getpid())}, 300.0),
        ({"WATCHDOG_USEC": "300000000", "WATCHDOG_PID": "1"}, None),  # it is about another process
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "1" * 400}, None),  # no float
        ({"WATCHDOG_USEC": "1" * 5000}, None),  # and not even an int
    ],
)
def test_when_the_watchdog_looks(environ: dict[str, str], seconds: float | None) -> None:
    assert watchdog_s(environ) == seconds


# -- shutdowns ------------------------------------------------------------------------------------------


def stand_in(folder: Path, *, refuses: bool = False) -> tuple[dict[str, str], Path]:
    """Put a systemd-inhibit first in PATH that notes when it holds, and when no more."""
    bins, notes = folder / "bin", folder / "notes"
    bins.mkdir()
    notes.touch()
    program = bins / "systemd-inhibit"
    program.write_text(
        "#!/bin/sh\necho 'Failed to inhibit: Access denied' >&2\nexit 1\n" if refuses else
        '#!/bin/sh\necho "held $1 $2 $4" >> "$NOTES"\nshift 4\n"$@"\necho let go >> "$NOTES"\n'.replace(
            "$NOTES", str(notes)
        )
    )  # fmt: skip
    program.chmod(0o755)
    return {"PATH": f"{bins}:{os.environ['PATH']}", "FLEET_INHIBIT": "yes"}, notes


def holds(fleet: Fleet) -> list[str]:
    """Return the locks of the newest run: two, since logind wants another right for both at once."""
    why = f"servers of run {fleet.journals()[-1].parent.name} are being reinstalled"
    return [
        f"held --what={what} --mode=block --why={why}: `fleet drain` ends it gently"
        for what in ("shutdown", "sleep")
    ]


def test_shutdowns_are_inhibited_once_while_servers_are_in_flight(tmp_path: Path) -> None:
    """Not anew for each server, though there are moments without any in flight."""
    environment, notes = stand_in(tmp_path)
    with fleet_on(tmp_path, fleet_text(3)) as (fleet, _cloud):
        child = fleet.start(
            "run", fleet.plan(plan_text(waves="[1]", concurrency=1)), "--yes", env=environment
        )
        fleet.wait_for("ReinstallRequested", child=child)
        wait_until(lambda: "--what=sleep" in notes.read_text(), "the locks")
        assert child.wait().code == 0
        assert notes.read_text().splitlines() == [*holds(fleet), "let go", "let go"]


def test_a_run_that_is_killed_inhibits_nothing_any_more(tmp_path: Path) -> None:
    """Or the machine could never be shut down again."""
    environment, notes = stand_in(tmp_path)
    with fleet_on(tmp_path, fleet_text(2)) as (fleet, _cloud):
        child = fleet.start("run", fleet.plan(plan_text()), "--yes", env=environment)
        wait_until(lambda: "--what=sleep" in notes.read_text(), "the locks")
        child.kill()
        wait_until(lambda: notes.read_text().count("let go") == 2, "letting go")


@pytest.mark.parametrize("how", ["refused", "not there"])
def test_what_cannot_be_inhibited_is_said_once_and_done_without(tmp_path: Path, how: str) -> None:
    environment, _ = stand_in(tmp_path, refuses=True)
    if how == "not there":
        environment["PATH"] = str(tmp_path)
    with fleet_on(tmp_path, fleet_text(2)) as (fleet, _cloud):
        done = fleet("run", fleet.plan(plan_text()), "--yes", "--quiet", env=environment)
        assert done.code == 0
        (line,) = [json.loads(line) for line in done.err.splitlines()]
        why = "Failed to inhibit: Access denied" if how == "refused" else "No such file or directory"
        assert (line["event"], line["why"]) == ("ShutdownNotInhibited", why)


@pytest.mark.parametrize("how", ["hangs", "leaves a child", "says too much"])
def test_no_run_waits_for_one_who_does_not_let_go(tmp_path: Path, how: str) -> None:
    """Neither for it, nor for the end of a pipe that a child of its holds; and nobody keeps what it says."""
    environment, _ = stand_in(tmp_path)
    pids = tmp_path / "pids"
    (tmp_path / "bin" / "systemd-inhibit").write_text(
        "#!/bin/sh\n"
        + {
            "hangs": f"echo $$ >> {pids}\nsleep 1000\n",
            "leaves a child": f"setsid sh -c 'echo $$ >> {pids}; exec sleep 1000' &\ncat\n",
            "says too much": f"echo $$ >> {pids}\nexec yes >&2\n",
        }[how]
    )
    with fleet_on(tmp_path, fleet_text(2)) as (fleet, _cloud):
        child = fleet.start("run", fleet.plan(plan_text()), "--yes", env=environment)
        try:
            done = child.wait()
            assert done.code == 0
            assert "ShutdownNotInhibited" not in done.err
            assert done.err.count("RunFinished") == 1
        finally:
            left = [int(each) for each in pids.read_text().split()]
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    assert how == "leaves a child", "what it left behind is killed"


# -- the units ------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_the_units_are_ones(tmp_path: Path) -> None:
    service = (UNITS / "fleet@.service").read_text()
    for unit, text in (("fleet@.service", service), ("fleet@.timer", (UNITS / "fleet@.timer").read_text())):
        there = text.replace("/opt/fleet/bin/fleet", "/bin/true").replace("User=fleet", "User=root")
        (tmp_path / unit).write_text(there)
    units = [str(tmp_path / "fleet@web.service"), str(tmp_path / "fleet@web.timer")]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if "fleet@" in line]) == (0, [])
