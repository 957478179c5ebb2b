"""The limit over all runs of a machine: slots that a process holds, and loses when it dies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fleet.errors import JournalError, PlanError
from fleet.machine import FILE, VARIABLE, Machine, limit_of

HOLD = """
import sys, time
from pathlib import Path
from fleet.machine import Machine
machine = Machine(Path(sys.argv[1]), 3)
print([machine.take(name) for name in sys.argv[2:]], flush=True)
time.sleep(600)
"""


def test_without_a_limit_nothing_is_locked(tmp_path: Path) -> None:
    machine = Machine(tmp_path, None)
    assert machine.room()
    assert all(machine.take(str(number)) for number in range(1000))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.process
def test_two_runs_share_the_slots_and_a_dead_one_gives_them_back(tmp_path: Path) -> None:
    ours = Machine(tmp_path, 3)
    assert ours.take("a")
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path), "x", "y", "z"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "[True, True, False]\n"
        assert not ours.room()
        assert not ours.take("b")
        assert ours.take("a"), "who has a slot keeps it"
        assert ours.take("c", anyway=True), "who is in flight already goes on"
        ours.give("c")
        ours.give("nobody")
        assert not ours.room()
    finally:
        child.kill()
        child.communicate()
    assert ours.room()
    assert ours.take("b")
    assert ours.take("d")
    assert not ours.take("e")
    ours.close()
    assert all(Machine(tmp_path, 3).room() for _ in range(5)), "a look keeps nothing"


@pytest.mark.parametrize(
    ("variable", "file", "limit"),
    [(None, None, None), ("", None, None), ("7", None, 7), (None, "5\n", 5), ("7", "5", 5), ("3", "5", 3)],
)
def test_where_the_limit_comes_from(
    tmp_path: Path, variable: str | None, file: str | None, limit: int | None
) -> None:
    if file is not None:
        (tmp_path / FILE).write_text(file)
    assert limit_of(tmp_path, {} if variable is None else {VARIABLE: variable}) == limit


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5", "", "²"])
def test_a_limit_that_is_none_is_an_error_that_says_where(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(PlanError, match=FILE):
        limit_of(tmp_path, {})


def test_slots_that_cannot_be_made_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "slots").touch()
    with pytest.raises(JournalError):
        Machine(tmp_path, 1).take("a")
