"""`status --watch` and the live display in real terminals (pty), beside real runs over HTTP."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from process_support import Child, Fleet, fleet_on, fleet_text, heed_signals, plan_text, wait_until

pytestmark = pytest.mark.process

ON_A_TERMINAL = {"TERM": "xterm", "COLUMNS": "", "LINES": ""}


class Terminal:
    """A terminal, and everything that was written to it."""

    def __init__(self, width: int = 80, height: int = 24) -> None:
        self.ours, self.theirs = pty.openpty()
        self.resize(width, height)
        self._seen = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def _read(self) -> None:
        while True:
            try:
                self._seen += os.read(self.ours, 65536)
            except OSError:
                return

    @property
    def raw(self) -> str:
        return self._seen.decode(errors="replace")

    @property
    def text(self) -> str:
        """What was written, without what moves the cursor or colours."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.raw)

    def waits_for(self, words: str) -> None:
        wait_until(lambda: words in self.text, f"{words!r} in {self.text[-1500:]!r}")

    def close(self) -> None:
        os.close(self.theirs)
        self._reader.join(timeout=2)
        os.close(self.ours)


@contextmanager
def terminal(width: int = 80, height: int = 24) -> Iterator[Terminal]:
    found = Terminal(width, height)
    try:
        yield found
    finally:
        found.close()


def watch(fleet: Fleet, seen: Terminal, *more: str) -> Child:
    return fleet.start("status", "--watch", *more, env=ON_A_TERMINAL, stdout=seen.theirs)


def test_a_run_is_watched_from_before_it_is_there_to_its_end(tmp_path: Path) -> None:
    """Killed half-way and resumed meanwhile: it says so, goes on, and ends with 0, without the cloud."""
    with fleet_on(tmp_path, fleet_text(6, speed=60)) as (fleet, cloud), terminal() as seen:
        fleet.env.pop("FLEET_SIMULATOR_URL")
        watcher = watch(fleet, seen)
        seen.waits_for("there is no run in ")
        fleet.env["FLEET_SIMULATOR_URL"] = cloud.url
        plan = fleet.plan(plan_text(concurrency=2))
        child = fleet.start("run", plan, "--yes")
        fleet.wait_for("ReinstallAccepted", 2, child=child)
        seen.waits_for(f"running (pid {child.pid} on ")
        seen.waits_for("requests/s")
        seen.waits_for("1 reinstalling")
        child.kill()
        seen.waits_for("unfinished: its process has ended")
        seen.waits_for("next: fleet resume ")
        again = fleet.start("resume")
        seen.waits_for(f"running (pid {again.pid} on ")
        assert again.wait().code == 0
        assert watcher.wait().code == 0
        assert "6 servers = 6 verified" in seen.text
        assert ": finished" in seen.text
        assert "Traceback" not in seen.text + watcher.err
        assert not list(tmp_path.glob("state/*/*.rate.json"))


def test_ctrl_c_stops_watching_and_nothing_else(tmp_path: Path) -> None:
    with fleet_on(tmp_path, fleet_text(2, speed=20)) as (fleet, _cloud), terminal(40, 12) as seen:
        child = fleet.start("run", fleet.plan(plan_text()), "--yes")
        fleet.wait_for("Admitted", child=child)
        watcher = watch(fleet, seen)
        seen.waits_for("1 in flight")
        watcher.signal(signal.SIGINT)
        assert watcher.wait().code == 0
        assert child.process.poll() is None
        assert seen.raw.endswith("\x1b[?25h") or "\x1b[?25h" in seen.raw, "the cursor is back"
        child.kill()


def test_without_a_terminal_it_is_text_now_and_then(tmp_path: Path) -> None:
    with fleet_on(tmp_path, fleet_text(3, speed=100)) as (fleet, _cloud):
        watcher = fleet.start("status", "--watch", "--every", "1")
        child = fleet.start("run", fleet.plan(plan_text()), "--yes")
        assert child.wait().code == 0
        done = watcher.wait()
        assert done.code == 0
        assert "\x1b" not in done.out
        texts = done.out.split("--- ")[1:]
        assert len(texts) >= 1
        assert "3 servers = 3 verified" in texts[-1]
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\n", texts[-1])
    refused = fleet("status", "--watch", "-o", "json")
    assert refused.code == 2
    assert "-o json" in refused.err


def test_two_runs_of_one_prefix_are_not_guessed_at(tmp_path: Path) -> None:
    with fleet_on(tmp_path, fleet_text(1, speed=300)) as (fleet, _cloud):
        for name in ("web-a", "web-b"):
            assert fleet("run", fleet.plan(plan_text(name), f"{name}.yaml"), "--yes", "--again").code == 0
        done = fleet("status", "web", "--watch")
        assert done.code == 2
        assert "2 runs begin with 'web'" in done.err


def test_the_runs_own_display_on_a_terminal_that_is_resized(tmp_path: Path) -> None:
    """Drawn anew on a cleared screen, in the new width; the last words come after it."""
    with fleet_on(tmp_path, fleet_text(6, speed=25)) as (fleet, _cloud), terminal(100, 30) as seen:
        child = fleet.start(
            "run", fleet.plan(plan_text(concurrency=2)), "--yes", env=ON_A_TERMINAL, stderr=seen.theirs
        )
        seen.waits_for("Ctrl-C: start nothing more (drain); twice: stop at once")
        seen.waits_for("1 in flight: ")
        before = len(seen.raw)
        seen.resize(40, 14)
        wait_until(lambda: "\x1b[2J" in seen.raw[before:], "a cleared screen")
        narrow = seen.raw.index("\x1b[2J", before)
        wait_until(
            lambda: "wave 1/2" in seen.raw[narrow:] or "wave 2/2" in seen.raw[narrow:], "the short words"
        )
        child.signal(signal.SIGINT)
        seen.waits_for("draining: SIGINT")
        done = child.wait()
        assert done.code == 5
        assert done.last.startswith("next: fleet resume")
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.raw[narrow:])
        drawn = [line for line in plain.replace("\r", "\n").split("\n") if line.strip()]
        assert max(map(len, drawn)) <= 40


def test_a_terminal_that_goes_away_does_not_end_the_run(tmp_path: Path) -> None:
    with fleet_on(tmp_path, fleet_text(2, speed=60)) as (fleet, cloud):
        with terminal() as seen:
            child = fleet.start(
                "run", fleet.plan(plan_text()), "--yes", env=ON_A_TERMINAL, stderr=seen.theirs, before=_no_hup
            )
            seen.waits_for("1 in flight: ")
        assert child.wait().code == 0
        assert len(cloud.wipes()) == 2


def _no_hup() -> None:
    heed_signals()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def test_a_log_is_never_silent_for_long(tmp_path: Path) -> None:
    """Without a terminal: a line an event, and heartbeats, none of them in the journal."""
    with fleet_on(tmp_path, fleet_text(2, speed=60)) as (fleet, _cloud):
        done = fleet("run", fleet.plan(plan_text()), "--yes", env={"FLEET_RUN_HEARTBEAT": "0.01"})
        assert done.code == 0, done.err
        lines = [json.loads(line) for line in done.err.splitlines() if line.startswith("{")]
        beats = [line for line in lines if line["event"] == "StillWorking"]
        assert len(beats) >= 2
        assert all(beat["selected"] == 2 for beat in beats)
        assert any("oldest" in beat for beat in beats)
        assert fleet.count("StillWorking") == 0
