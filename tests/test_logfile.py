"""The log file: rotated under whoever writes it, and never in the way when it cannot be written."""

from __future__ import annotations

import io
import json
import logging
import os
import stat
from pathlib import Path

import pytest
import structlog
from support import AT, make_run

from fleet import logs
from fleet.core import events as ev
from fleet.core.model import ServerId
from fleet.logfile import LogFile
from fleet.secrets import MARK, register

WEB = ServerId("web-1")


@pytest.fixture(autouse=True)
def _as_before() -> None:
    yield
    structlog.reset_defaults()


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def file(tmp_path: Path, told: list[str]) -> LogFile:
    return LogFile(tmp_path / "log", told.append)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_it_is_made_for_its_owner_and_appended_to(tmp_path: Path, file: LogFile, told: list[str]) -> None:
    file.write("one")
    LogFile(tmp_path / "log", told.append).write("two")
    assert lines(tmp_path / "log") == ["one", "two"]
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600
    assert told == []


def test_a_mode_that_an_admin_chose_stays(tmp_path: Path, file: LogFile) -> None:
    (tmp_path / "log").touch(mode=0o640)
    file.write("one")
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o640


@pytest.mark.parametrize("create", [True, False])
def test_the_line_after_a_rename_is_the_first_of_the_new_file(
    tmp_path: Path, file: LogFile, *, create: bool
) -> None:
    """logrotate's way, with `create` and with `nocreate`."""
    file.write("one")
    (tmp_path / "log").rename(tmp_path / "log.1")
    if create:
        (tmp_path / "log").touch(mode=0o640)
    file.write("two")
    file.write("three")
    assert (lines(tmp_path / "log.1"), lines(tmp_path / "log")) == (["one"], ["two", "three"])


def test_the_line_after_a_truncation_is_the_first(tmp_path: Path, file: LogFile) -> None:
    """`copytruncate`: no hole of zeros before it."""
    file.write("one")
    os.truncate(tmp_path / "log", 0)
    file.write("two")
    assert (tmp_path / "log").read_bytes() == b"two\n"


def test_a_folder_that_is_gone_is_told_once_and_what_is_missing_when_it_is_back(
    tmp_path: Path, told: list[str]
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    file = LogFile(folder / "log", told.append)
    file.write("one")
    folder.rename(tmp_path / "away")
    file.write("two")
    file.write("three")
    assert told == [
        f"the log file {folder}/log cannot be written: No such file or directory; the run goes on without it"
    ]
    folder.mkdir()
    file.write("four")
    assert lines(folder / "log") == ['{"event":"LogLinesMissing","lines":2,"level":"warning"}', "four"]
    assert told[1:] == [f"the log file {folder}/log is written again; 2 lines are missing in it"]
    file.write("five")
    assert lines(folder / "log")[2:] == ["five"]


@pytest.mark.parametrize("kind", ["full disk", "pipe without a reader", "no right"])
def test_what_cannot_be_written_is_told_once_and_waited_for_by_nobody(
    tmp_path: Path, told: list[str], kind: str
) -> None:
    path = tmp_path / "log"
    if kind == "full disk":
        path = Path("/dev/full")
    elif kind == "pipe without a reader":
        os.mkfifo(path)
    else:
        path = Path("/proc/version")
    file = LogFile(path, told.append)
    file.write("one")
    file.write("two")
    assert len(told) == 1
    assert str(path) in told[0]


def test_a_line_that_a_full_disk_has_cut_does_not_spoil_the_next(
    tmp_path: Path, file: LogFile, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes a part, then nothing, then has room again."""
    write = os.write
    takes = [3, 0]

    def full(fd: int, data: bytes) -> int:
        if not takes:
            return write(fd, data)
        if (some := takes.pop(0)) == 0:
            raise OSError(28, "No space left on device")
        return write(fd, data[:some])

    monkeypatch.setattr(os, "write", full)
    file.write("first line")
    file.write("second line")
    cut, _, second = lines(tmp_path / "log")
    assert (cut, second) == ("fir", "second line")
    assert len(told) == 2


def test_everything_is_in_it_whatever_is_shown(tmp_path: Path, file: LogFile, told: list[str]) -> None:
    """With --quiet too, as JSON though people see something else, and without secrets."""
    register("Planted-s3cret in a file")
    shown = io.StringIO()
    logs.configure(as_json=False, level=logging.WARNING, stream=shown, file=file)
    log = logs.event_logger(make_run())
    log(ev.Admitted(server=WEB), AT)
    log(ev.Failed(server=WEB, reason="said Planted-s3cret in a file"), AT)
    try:
        raise ValueError("Planted-s3cret in a file")  # noqa: TRY301  # to have it logged
    except ValueError:
        structlog.get_logger().exception("broken")
    file.note("CommandEnded", "info", code=0, error="Planted-s3cret in a file", hint=None)
    kept = [json.loads(line) for line in lines(tmp_path / "log")]
    assert [each["event"] for each in kept] == ["Admitted", "Failed", "broken", "CommandEnded"]
    assert [each["level"] for each in kept] == ["info", "warning", "error", "info"]
    assert all(each["timestamp"].endswith("Z") for each in kept)
    assert "hint" not in kept[-1]
    assert "Traceback" in kept[2]["exception"]
    assert "Planted" not in (tmp_path / "log").read_text() + shown.getvalue()
    assert (tmp_path / "log").read_text().count(MARK) == 4
    assert "Failed" in shown.getvalue()
    assert "Admitted" not in shown.getvalue()
    assert told == []


def test_its_failure_is_a_line_of_the_other_log(tmp_path: Path) -> None:
    """Which is JSON where that is JSON, and is told once though telling logs, too."""
    shown = io.StringIO()
    file = LogFile(tmp_path / "gone" / "log", lambda _words: None)
    logs.configure(as_json=True, stream=shown, file=file)
    log = logs.event_logger(make_run())
    log(ev.Admitted(server=WEB), AT)
    log(ev.Failed(server=WEB, reason="x"), AT)
    assert [json.loads(line)["event"] for line in shown.getvalue().splitlines()] == [
        "LogFile", "Admitted", "Failed"
    ]  # fmt: skip


def test_a_name_that_leads_to_a_journal_later_is_not_written(
    tmp_path: Path, file: LogFile, told: list[str]
) -> None:
    file.write("one")
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(first := b'{"seq":1,"at":"2026-12-05T20:00:03.120Z","event":"RunOpened"}\n')
    (tmp_path / "log").unlink()
    (tmp_path / "log").symlink_to(journal)
    file.write("two")
    assert journal.read_bytes() == first
    (words,) = told
    assert "cannot be written: it is the journal of a run" in words
