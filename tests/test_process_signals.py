"""Ctrl-C, SIGTERM, SIGHUP, terminals and pipes that go away."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from process_support import (
    Child,
    Fleet,
    fleet_on,
    fleet_text,
    heed_signals,
    once_each,
    plan_text,
    wait_until,
)

pytestmark = pytest.mark.process

SLOW = "durations: {reinstall: {median_s: 300, sigma: 0}}"


def begin(fleet: Fleet, plan: str, **options: Any) -> Child:
    child = fleet.start("run", plan, "--yes", **options)
    fleet.wait_for("ReinstallAccepted", 2, child=child)
    return child


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_drains(tmp_path: Path, number: int) -> None:
    """Nobody new is started, who is in flight is brought to the end, and the last line says how to go on."""
    with fleet_on(tmp_path, fleet_text(5, more=SLOW)) as (fleet, cloud):
        plan = fleet.plan(plan_text(waves="[5]", concurrency=2))
        child = begin(fleet, plan)
        child.signal(number)
        done = child.wait()
        assert done.code == 5, done.err
        assert "2 in flight settle " in done.err
        assert ": 2 are brought to their end" in done.err
        run = fleet.journals()[0].parent.name
        assert done.last == f"next: fleet resume {run}"
        status = fleet("status", "-o", "json").data
        assert status["figures"]["in_flight"] == status["figures"]["in_doubt"] == 0
        assert status["figures"]["verified"] == fleet.count("Admitted") == 2
        assert status["state"] == f"drained: {signal.Signals(number).name}"
        assert fleet("run", plan, "--yes").code == 0
        assert cloud.reinstalls() == once_each(5)


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        (signal.SIGINT, signal.SIGINT, 130),
        (signal.SIGTERM, signal.SIGTERM, 143),
        (signal.SIGHUP, signal.SIGTERM, 143),
    ],
)
def test_the_second_signal_stops_at_once(tmp_path: Path, first: int, second: int, code: int) -> None:
    """Servers stay in flight, the journal has them, and the same command brings them home."""
    slow = "durations: {reinstall: {median_s: 500, sigma: 0}}"
    with fleet_on(tmp_path, fleet_text(3, more=slow)) as (fleet, cloud):
        plan = fleet.plan(plan_text(waves="[3]", concurrency=2))
        child = begin(fleet, plan)
        child.signal(first)
        fleet.wait_for("RunDrained", child=child)
        child.signal(second)
        done = child.wait()
        assert done.code == code, done.err
        assert done.last.startswith("next: fleet resume ")
        assert "2 left in flight: 2 reinstalling;" in done.out
        assert fleet("status", "-o", "json").data["figures"]["in_flight"] == 2
        assert fleet("resume").code == 0
        assert cloud.reinstalls() == cloud.wipes() == once_each(3)


def test_an_interrupt_while_the_cloud_is_asked_touches_nothing(tmp_path: Path) -> None:
    with fleet_on(tmp_path, fleet_text(1)) as (fleet, cloud):
        cloud.order({"kind": "slow", "when": {"call": "list"}, "seconds": 3000})
        child = fleet.start("run", fleet.plan(plan_text()), "--yes")
        wait_until(lambda: cloud.summary()["requests"].get("list"), "the list call")
        child.signal(signal.SIGINT)
        done = child.wait()
        assert done.code == 130
        assert "Traceback" not in done.err
        assert fleet.journals() == []


def test_what_was_to_be_ignored_stays_ignored(tmp_path: Path) -> None:
    """`nohup fleet run …`: the terminal goes, the run goes on."""

    def as_nohup() -> None:
        heed_signals()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with fleet_on(tmp_path, fleet_text(3, more=SLOW)) as (fleet, _cloud):
        child = begin(fleet, fleet.plan(plan_text(waves="[3]", concurrency=2)), before=as_nohup)
        child.signal(signal.SIGHUP)
        done = child.wait()
        assert done.code == 0
        assert fleet.count("RunDrained") == 0


@pytest.mark.parametrize("which", ["stdout", "stderr", "both"])
def test_a_reader_that_goes_away_does_not_stop_a_run(tmp_path: Path, which: str) -> None:
    """`fleet run … | head -1`: everything is reinstalled, and the exit code is that of the run."""
    with fleet_on(tmp_path, fleet_text(4)) as (fleet, cloud):
        reading, writing = os.pipe()
        streams = {name: writing for name in ("stdout", "stderr") if which in {name, "both"}}
        child = fleet.start("run", fleet.plan(plan_text()), "--yes", **streams)
        os.close(writing)
        os.close(reading)
        assert child.wait().code == 0
        assert cloud.reinstalls() == once_each(4)
        assert fleet.events()[-1]["event"] == "RunFinished"


@pytest.mark.parametrize("style", ["json", "pretty", "live"])
def test_a_full_log_disk_does_not_stop_a_run(tmp_path: Path, style: str) -> None:
    with fleet_on(tmp_path, fleet_text(2)) as (fleet, cloud), Path("/dev/full").open("wb") as full:
        plan = fleet.plan(plan_text())
        child = fleet.start("run", plan, "--yes", "--log-format", style, stderr=full, stdout=full)
        assert child.wait().code == 0
        assert cloud.reinstalls() == once_each(2)
        broken = fleet.start("status", stdout=full).wait()
        assert broken.code == 1
        assert "standard output" in broken.err
        assert "Traceback" not in broken.err


def test_without_standard_streams_nothing_is_printed_into_the_journal(tmp_path: Path) -> None:
    """Started with 0, 1 and 2 closed, as some daemons do it: the journal must not become descriptor 2."""

    def close_all() -> None:
        for number in (0, 1, 2):
            os.close(number)

    with fleet_on(tmp_path, fleet_text(2)) as (fleet, cloud):
        for style in ("auto", "pretty"):
            command = ("run", fleet.plan(plan_text()), "--yes", "--again", "--log-format", style)
            assert fleet.start(*command, before=close_all).wait().code == 0
        assert set(cloud.reinstalls().values()) == {2}
        for journal in fleet.journals():
            assert fleet("status", str(journal), "-o", "json").data["state"] == "finished"
        done = fleet.start("run", fleet.plan(plan_text()), "--again", before=close_all).wait()
        assert done.code == 2


def test_a_terminal_that_dies_under_the_live_display_drains(tmp_path: Path) -> None:
    """The ssh connection breaks: SIGHUP, and every write to the terminal fails. The run drains in order."""
    with fleet_on(tmp_path, fleet_text(4, more=SLOW)) as (fleet, cloud):
        plan = fleet.plan(plan_text(waves="[4]", concurrency=2))
        master, slave = os.openpty()
        os.set_blocking(master, False)
        child = fleet.start("run", plan, "--yes", stderr=slave, stdout=slave, env={"TERM": "xterm"})
        os.close(slave)
        shown = b""

        def two_accepted() -> bool:
            nonlocal shown
            with contextlib.suppress(BlockingIOError):
                shown += os.read(master, 65536)
            return fleet.count("ReinstallAccepted") >= 2

        wait_until(two_accepted, "two in flight")
        os.close(master)
        child.signal(signal.SIGHUP)
        assert child.wait().code == 5
        assert b"Ctrl-C: start nothing more" in shown
        assert fleet("resume").code == 0
        assert cloud.reinstalls() == once_each(4)
