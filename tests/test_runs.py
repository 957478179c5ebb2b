"""The state folder: whose it is, which run is meant, and the locks that keep runs apart."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from fleet import runs
from fleet.claims import claim_servers
from fleet.errors import JournalError, LockedError, RunNotFoundError
from fleet.runs import find, is_locked, lock_run, state_folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# -- where ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"FLEET_STATE_DIR": "/a", "XDG_STATE_HOME": "/b"}, Path("/a")),
        ({"FLEET_STATE_DIR": "", "XDG_STATE_HOME": "/b"}, Path("/b/fleet")),
        ({"XDG_STATE_HOME": ""}, Path.home() / ".local/state/fleet"),
        ({}, Path.home() / ".local/state/fleet"),
    ],
)
def test_where_runs_live(environ: dict, folder: Path) -> None:
    assert state_folder(environ) == folder


def test_a_relative_folder_is_where_we_are_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert state_folder({"FLEET_STATE_DIR": "state"}) == tmp_path / "state"


def test_a_user_without_a_home_is_told_where_to_say_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a number of its own."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 123456789)
    with pytest.raises(JournalError, match="has no home") as caught:
        state_folder({})
    assert "FLEET_STATE_DIR" in str(caught.value.hint)


def test_folders_are_for_their_owner_only(tmp_path: Path) -> None:
    runs.make_folder(tmp_path / "state" / "run")
    assert mode(tmp_path / "state" / "run") == 0o700
    assert mode(tmp_path / "state") == 0o700
    runs.make_folder(tmp_path / "state" / "run")


def test_a_folder_that_cannot_be_made_is_said_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError) as caught:
        runs.make_folder(tmp_path / "file" / "run")
    assert "FLEET_STATE_DIR" in (caught.value.hint or "")


# -- which ----------------------------------------------------------------------------------------------


def test_ids_sort_by_time_whatever_the_plan_and_the_zone() -> None:
    early = datetime(2026, 12, 5, 20, tzinfo=UTC)
    late = (early + timedelta(seconds=1)).astimezone(timezone(timedelta(hours=-5)))
    first, second = runs.new_run_id("web-tier", early), runs.new_run_id("a", late)
    assert first.startswith("web-tier-20261205T200000Z-")
    assert runs.started_at(first) < runs.started_at(second)
    assert runs.new_run_id("web-tier", early) != first


@pytest.fixture
def state(tmp_path: Path) -> Path:
    for name in ("web-20261201T000000Z-aaaa", "web-20261203T000000Z-bbbb", "db-20261202T000000Z-cccc"):
        (tmp_path / name).mkdir()
        (tmp_path / name / runs.JOURNAL).write_text("{}\n")
    (tmp_path / "plans").mkdir()
    (tmp_path / "web-20261209T000000Z-dddd").mkdir()  # died before its journal was made
    return tmp_path


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (None, "web-20261203T000000Z-bbbb"),
        ("db", "db-20261202T000000Z-cccc"),
        ("web-20261201", "web-20261201T000000Z-aaaa"),
        ("web-20261203T000000Z-bbbb", "web-20261203T000000Z-bbbb"),
    ],
)
def test_which_run_is_meant(state: Path, name: str | None, found: str) -> None:
    assert find(name, state) == state / found / runs.JOURNAL


def test_an_exact_id_is_never_ambiguous(state: Path) -> None:
    (state / "web-20261201T000000Z-aaaa-more").mkdir()
    (state / "web-20261201T000000Z-aaaa-more" / runs.JOURNAL).touch()
    assert find("web-20261201T000000Z-aaaa", state).parent.name == "web-20261201T000000Z-aaaa"


def test_a_plan_s_name_means_its_newest_run(state: Path) -> None:
    """Not that of another plan whose name begins alike."""
    (state / "web-tier-20261209T000000Z-dddd").mkdir()
    (state / "web-tier-20261209T000000Z-dddd" / runs.JOURNAL).touch()
    assert find("web", state).parent.name == "web-20261203T000000Z-bbbb"
    assert find("web-tier", state).parent.name == "web-tier-20261209T000000Z-dddd"


def test_a_path_is_a_path(state: Path, tmp_path: Path) -> None:
    folder = state / "db-20261202T000000Z-cccc"
    assert find(str(folder), Path("/nowhere")) == folder / runs.JOURNAL
    assert find(str(folder / runs.JOURNAL), Path("/nowhere")) == folder / runs.JOURNAL
    other = tmp_path / "mine.jsonl"
    other.touch()
    assert find(str(other), Path("/nowhere")) == other


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("we", "2 runs begin with 'we': web-20261203T000000Z-bbbb, web-20261201T000000Z-aaaa"),
        ("app", "no run is called 'app'"),
        ("/no/such/journal.jsonl", "no journal at /no/such/journal.jsonl"),
    ],
)
def test_a_name_that_means_none_or_several(state: Path, name: str, words: str) -> None:
    with pytest.raises(RunNotFoundError) as caught:
        find(name, state)
    assert caught.value.message == words


def test_no_runs_at_all(tmp_path: Path) -> None:
    with pytest.raises(RunNotFoundError, match="there are no runs in"):
        find(None, tmp_path / "nothing")


# -- what the journal must not hold ---------------------------------------------------------------------


def test_user_data_is_kept_for_a_resume_and_for_the_owner_only(tmp_path: Path) -> None:
    journal = tmp_path / runs.JOURNAL
    assert runs.read_files(journal) == {}
    runs.keep_files(journal, {})
    assert not runs.files_folder(journal).exists()
    kept = {"a1": b"#cloud-config\n", "b2": b"\xff\x00"}
    runs.keep_files(journal, kept)
    runs.keep_files(journal, kept)
    assert runs.read_files(journal) == kept
    assert mode(runs.files_folder(journal)) == 0o700
    assert {mode(path) for path in runs.files_folder(journal).iterdir()} == {0o600}


def test_what_a_crash_left_half_written_is_not_read(tmp_path: Path) -> None:
    journal = tmp_path / runs.JOURNAL
    runs.keep_files(journal, {"a1": b"whole"})
    (runs.files_folder(journal) / ".b2.new").write_bytes(b"ha")
    assert runs.read_files(journal) == {"a1": b"whole"}
    runs.keep_files(journal, {"b2": b"whole too"})
    assert runs.read_files(journal)["b2"] == b"whole too"


# -- locks ----------------------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from fleet import claims, runs
kept = {what}
print("held", flush=True)
time.sleep(600)
"""


@contextmanager
def another_process(what: str) -> Iterator[subprocess.Popen[str]]:
    """Have another process keep *what*, an expression over `runs` and `Path`, until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(what=what)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.process
def test_a_run_is_locked_until_its_process_is_dead_however_it_dies(tmp_path: Path) -> None:
    journal = tmp_path / "web-1" / runs.JOURNAL
    journal.parent.mkdir()
    assert is_locked(journal) is None, "no lock file yet"
    with another_process(f"runs.lock_run(Path({str(journal)!r}))") as process:
        assert f"pid {process.pid} on " in (is_locked(journal) or "")
        with pytest.raises(LockedError) as caught:
            lock_run(journal)
        assert "run web-1 is being worked on by another process" in caught.value.message
        assert f"pid {process.pid}" in caught.value.message
        process.kill()
        process.wait()
        assert is_locked(journal) is None
        lock = lock_run(journal)
        assert is_locked(journal) is not None
        lock.release()
    assert is_locked(journal) is None
    assert mode(journal.with_name("journal.jsonl.lock")) == 0o600


@pytest.mark.process
def test_servers_of_a_live_run_are_nobody_elses(tmp_path: Path) -> None:
    kept = f"claims.claim_servers(Path({str(tmp_path)!r}), 'other', ['a', 'b', 'c'])"
    with another_process(kept) as process:
        with pytest.raises(LockedError) as caught:
            claim_servers(tmp_path, "mine", ["x", "b", "c"])
        assert "2 of these servers are being worked on by run other" in caught.value.message
        assert f"pid {process.pid}" in caught.value.message
        assert not (tmp_path / "live" / "mine.json").exists()
        claim_servers(tmp_path, "apart", ["x", "y"]).release()
        process.kill()
        process.wait()
        claim = claim_servers(tmp_path, "mine", ["b"])
    assert not (tmp_path / "live" / "other.json").exists(), "a dead run's claim is cleared away"
    assert mode(claim.path) == 0o600
    claim.release()
    assert list((tmp_path / "live").iterdir()) == []


def test_a_claim_is_taken_anew_by_the_next_life_of_its_run(tmp_path: Path) -> None:
    """Its process was killed: the file is there, and nobody holds it."""
    (tmp_path / "live").mkdir()
    (tmp_path / "live" / "mine.json").write_text("half a claim, much longer than the next one will be" * 9)
    claim_servers(tmp_path, "mine", ["a"])
    with pytest.raises(LockedError, match="run mine"):
        claim_servers(tmp_path, "other", ["a"])


def test_two_claims_of_one_process_are_two_all_the_same(tmp_path: Path) -> None:
    claim = claim_servers(tmp_path, "mine", ["a"])
    with pytest.raises(LockedError):
        claim_servers(tmp_path, "other", ["a"])
    with pytest.raises(LockedError):
        claim_servers(tmp_path, "mine", ["a"])
    claim.release()
    claim_servers(tmp_path, "other", ["a"]).release()


def test_a_look_at_a_lock_does_not_take_it(tmp_path: Path) -> None:
    journal = tmp_path / runs.JOURNAL
    lock_run(journal).release()
    for _ in range(50):
        assert is_locked(journal) is None
    began = time.monotonic()
    lock_run(journal).release()
    assert time.monotonic() - began < 0.4
