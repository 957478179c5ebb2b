"""Virtual time, and who may read a clock."""

from __future__ import annotations

import ast
import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import fleet
from fleet.clock import Deadlock, LoopClock, SystemClock, cancel_all, run_virtual


def now() -> float:
    return asyncio.get_running_loop().time()


def test_a_year_costs_nothing() -> None:
    async def story() -> float:
        await asyncio.sleep(365 * 86400)
        return now()

    began = time.monotonic()
    assert run_virtual(story()) == pytest.approx(365 * 86400)
    assert time.monotonic() - began < 5


def test_a_wait_for_a_rounding_error_ends() -> None:
    """On a real loop time passes by itself; here a wait too short to count would be repeated for ever."""

    async def story() -> None:
        await asyncio.sleep(1e5)
        end = now() + 1e-10
        for _ in range(100):
            if now() >= end:
                return
            await asyncio.sleep(end - now())
        raise AssertionError("no time passes")

    run_virtual(story())


def test_sleepers_wake_in_the_order_of_their_time() -> None:
    woken: list[tuple[float, int]] = []

    async def sleep(seconds: float, number: int) -> None:
        await asyncio.sleep(seconds)
        woken.append((now(), number))

    async def story() -> None:
        await asyncio.gather(sleep(30, 1), sleep(10, 2), sleep(20, 3), sleep(10, 4))

    run_virtual(story())
    assert [number for _, number in woken] == [2, 4, 3, 1]
    assert [at for at, _ in woken] == pytest.approx([10, 10, 20, 30])


def test_no_time_passes_while_anything_is_ready() -> None:
    async def story() -> None:
        sleeper = asyncio.create_task(asyncio.sleep(1))
        for _ in range(10_000):
            await asyncio.sleep(0)
        assert now() == 0
        assert not sleeper.done()
        await sleeper

    run_virtual(story())


def test_waiting_for_what_never_comes_is_an_error() -> None:
    async def story() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match="no timer is set"):
        run_virtual(story())


def test_a_time_out_is_not_a_deadlock() -> None:
    async def story() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()
        return now()

    assert run_virtual(story()) == pytest.approx(3600)


def test_every_loop_begins_at_nought() -> None:
    async def story() -> float:
        began = now()
        await asyncio.sleep(5)
        return began

    assert [run_virtual(story()) for _ in range(2)] == [0, 0]


def test_the_wall_clock_follows_the_loop_and_can_be_made_to_jump() -> None:
    async def story() -> None:
        clock = LoopClock(datetime(2026, 12, 5, 20, tzinfo=UTC))
        await asyncio.sleep(90)
        assert clock.now() == datetime(2026, 12, 5, 20, 1, 30, tzinfo=UTC)
        clock.epoch -= timedelta(hours=1)
        assert clock.now() == datetime(2026, 12, 5, 19, 1, 30, tzinfo=UTC)
        assert clock.boottime() == pytest.approx(90), "elapsed time does not follow the wall's jumps"

    run_virtual(story())


def test_the_systems_clock_is_aware_and_its_boottime_does_not_go_back() -> None:
    clock = SystemClock()
    assert clock.now().tzinfo is UTC
    first = clock.boottime()
    assert clock.boottime() >= first > 0


def test_cancel_all_waits_for_the_ends_whatever_they_are() -> None:
    ended: list[str] = []

    async def stubborn() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            await asyncio.sleep(1)
            ended.append("stubborn")

    async def failing() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            raise RuntimeError("in the clean-up")

    async def story() -> None:
        tasks = {asyncio.create_task(stubborn()), asyncio.create_task(failing())}
        await asyncio.sleep(0)
        await cancel_all(tasks)
        assert all(task.done() for task in tasks)
        await cancel_all(tasks)

    run_virtual(story())
    assert ended == ["stubborn"]


ALLOWED = {
    "clock.py": {"datetime.now"},
    "runs.py": {"datetime.now", "time.sleep", "time.monotonic"},  # locks between real processes
    "cli/common.py": {"datetime.now"},
    "survey.py": {"datetime.now"},  # how old a backup is, where nobody says what time it is
    "logfile.py": {"datetime.now"},  # when a line of the log was written
    "starters.py": {"datetime.now"},  # a question to see whether systemd answers, for the doctor
    "reach.py": {"datetime.now"},  # how long a certificate is still good, for the doctor
    "cli/simulator.py": {"time.sleep", "time.monotonic"},  # waits for a process of its own to come up
    # What people look at goes on beside a run, and decides nothing in it.
    "cli/watching.py": {"time.monotonic", "time.sleep"},
    "notify.py": {"datetime.now"},
    "report/beside.py": {"time.monotonic"},
    "watch/live.py": {"time.monotonic"},
    "watch/server.py": {"datetime.now"},
    "rehearsal/soak.py": {"time.monotonic"},  # how many stories fit into how many real seconds
}
FORBIDDEN = {
    *(f"time.{name}" for name in ("time", "time_ns", "sleep", "monotonic", "perf_counter", "localtime")),
    *(f"datetime.{name}" for name in ("now", "utcnow", "today")),
    "date.today",
    *(f"random.{name}" for name in ("random", "uniform", "choice", "randint", "shuffle", "sample")),
}


def _reads_of_clocks(source: str) -> set[str]:
    """Return the clocks and dice that a module calls by name: ``time.sleep``, ``datetime.now``."""
    return {
        f"{node.func.value.id}.{node.func.attr}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
    } & FORBIDDEN


def test_nothing_else_reads_a_clock_or_rolls_dice() -> None:
    """A clock read in passing is what makes a rehearsal differ from the night that it rehearses."""
    root = Path(fleet.__file__).parent
    found = {
        str(path.relative_to(root)): reads - ALLOWED.get(str(path.relative_to(root)), set())
        for path in root.rglob("*.py")
        if (reads := _reads_of_clocks(path.read_text()))
    }
    assert {path: reads for path, reads in found.items() if reads} == {}


def test_the_search_for_clocks_finds_one() -> None:
    assert _reads_of_clocks("import time\ndef f():\n    return time.time() + random.random()") == {
        "time.time",
        "random.random",
    }


def test_no_virtual_time_passes_while_a_thread_would_work() -> None:
    async def main() -> tuple[str, float]:
        async with asyncio.timeout(1000):
            found = await asyncio.to_thread(slow, "done")
        return found, asyncio.get_running_loop().time()

    def slow(word: str) -> str:
        time.sleep(0.05)
        return word

    assert run_virtual(main()) == ("done", 0.0)


def test_what_would_fail_in_a_thread_fails_for_whoever_waits() -> None:
    async def main() -> None:
        with pytest.raises(OSError, match="no such thing"):
            await asyncio.to_thread(fail)

    def fail() -> None:
        raise OSError("no such thing")

    run_virtual(main())
