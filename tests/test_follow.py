"""A journal that is read while it grows ends where it ends when it is read at once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from support import AT, event_for, make_run

from fleet.core import events as ev
from fleet.core.model import ServerId
from fleet.core.state import Phase
from fleet.errors import JournalError
from fleet.journal import Entry, encode_line, load
from fleet.report.follow import Follower

KINDS = (ev.Admitted, ev.Stopped, ev.ReinstallRequested, ev.ReinstallAccepted)
SERVER = ServerId("web-1")


def _lines() -> list[bytes]:
    crc, found = 0, []
    events = (make_run().opened, *(event_for(kind, SERVER) for kind in KINDS))
    for seq, event in enumerate(events, 1):
        line, crc = encode_line(seq, AT + timedelta(seconds=seq), event, crc)
        found.append(line)
    return found


def test_every_cut_of_a_growing_file_is_read_as_far_as_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    opening, *rest = _lines()
    path.write_bytes(opening)
    told: list[Entry] = []
    follower = Follower(path, watch=lambda _: told.append)
    run = follower.run
    data = b"".join(rest)
    with path.open("ab", buffering=0) as file:
        for number in range(len(data)):
            file.write(data[number : number + 1])
            assert follower.read() == (data[number] == ord("\n"))
    assert follower.run is run
    assert [type(entry.event) for entry in told] == [ev.RunOpened, *KINDS]
    assert run.servers[SERVER].phase is Phase.REINSTALLING
    assert (follower.tail.seq, follower.tail.size) == (5, path.stat().st_size)
    assert load(path)[0].counts() == run.counts()


def test_a_torn_tail_that_a_resume_cuts_off_is_no_trouble(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    lines = _lines()
    path.write_bytes(b"".join(lines[:3]) + lines[3][:20])
    follower = Follower(path)
    assert follower.read() == 0
    path.write_bytes(b"".join(lines))  # the resume cut it, and went on
    assert follower.read() == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines[:2], "shorter"),
        (lambda lines: [*lines[:3], lines[4]], "checksum"),
        (lambda lines: [*lines[:3], b"hello\n", lines[3]], ":4: not a line"),
    ],
)
def test_what_is_not_the_same_journal_any_more_is_refused(tmp_path: Path, change, words: str) -> None:
    path = tmp_path / "journal.jsonl"
    lines = _lines()
    path.write_bytes(b"".join(lines[:3]))
    follower = Follower(path)
    path.write_bytes(b"".join(change(lines)))
    with pytest.raises(JournalError, match=words):
        follower.read()


def test_a_journal_that_is_gone_or_empty_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with pytest.raises(JournalError, match="cannot read"):
        Follower(path)
    path.touch()
    with pytest.raises(JournalError, match="empty"):
        Follower(path)
