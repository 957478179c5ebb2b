"""The journal: written, torn, cut, damaged, full; and read again."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import zlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import make_run

from fleet.core import events as ev
from fleet.core.events import Event
from fleet.core.model import ServerId
from fleet.core.state import Phase
from fleet.errors import JournalError
from fleet.journal import FileSink, Journal, Recorder, encode_line, load, read

AT = datetime(2026, 12, 5, 20, 0, 3, 120_000, tzinfo=UTC)
WEB = ServerId("web-1")
STORY: list[Event] = [
    ev.Admitted(server=WEB),
    ev.StopRequested(server=WEB),
    ev.Stopped(server=WEB, state="SHUTOFF"),
    ev.Failed(server=WEB, reason='ümläut "quoted" \\ and a\nbreak', code="Ecs.0605"),
]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "journal.jsonl"
    journal = Journal.create(path)
    for event in [make_run().opened, *STORY]:
        journal.append(event, AT)
    journal.close()
    return path


def test_lines_are_made_for_jq(written: Path) -> None:
    lines = [json.loads(line) for line in written.read_text().splitlines()]
    assert [line["seq"] for line in lines] == [1, 2, 3, 4, 5]
    assert lines[0]["event"] == "RunOpened"
    assert lines[1] == {
        "seq": 2,
        "at": "2026-12-05T20:00:03.120Z",
        "event": "Admitted",
        "server": "web-1",
        "crc": lines[1]["crc"],
    }


def test_it_is_for_its_owner_only(written: Path) -> None:
    assert stat.S_IMODE(written.stat().st_mode) == 0o600


def test_what_was_written_is_read(written: Path) -> None:
    entries, tail = read(written)
    assert [entry.event for entry in entries][1:] == STORY
    assert entries[0].event == make_run().opened
    assert tail.seq == 5
    assert tail.size == written.stat().st_size
    run, _ = load(written)
    assert run.servers[WEB].phase is Phase.FAILED


def test_a_tail_torn_at_any_byte_is_cut_and_kept_aside(written: Path, tmp_path: Path) -> None:
    """Wherever a crash cuts the last line, what was before it stands, and the journal goes on."""
    whole = written.read_bytes()
    start = whole.rstrip(b"\n").rindex(b"\n") + 1
    for cut in range(start + 1, len(whole)):
        folder = tmp_path / str(cut)
        folder.mkdir()
        path = folder / "journal.jsonl"
        path.write_bytes(whole[:cut])
        run, tail = load(path)
        assert run.servers[WEB].phase is Phase.STOPPED
        assert tail.torn == whole[start:cut]
        journal = Journal.reopen(path, tail)
        journal.append(STORY[-1], AT)
        journal.close()
        assert path.read_bytes() == whole
        assert (folder / "journal.jsonl.torn-5").read_bytes() == whole[start:cut]


def test_a_tail_of_zeros_from_a_power_cut_is_cut(written: Path) -> None:
    with written.open("ab") as file:
        file.write(b"\0" * 512)
    run, tail = load(written)
    assert tail.torn == b"\0" * 512
    assert run.servers[WEB].phase is Phase.FAILED


def test_every_flipped_byte_is_found(written: Path) -> None:
    """A changed byte is refused with its line; only the very last line break may pass for a torn tail."""
    whole = bytearray(written.read_bytes())
    for index in range(len(whole)):
        for mask in (0x01, 0x80):
            damaged = bytearray(whole)
            damaged[index] ^= mask
            written.write_bytes(damaged)
            if index < len(whole) - 1:
                with pytest.raises(JournalError, match=rf"^{re.escape(str(written))}:\d"):
                    load(written)
            else:
                assert load(written)[1].torn


@pytest.mark.parametrize("line", [2, 3, 4])
def test_a_missing_line_is_refused_with_its_number(written: Path, line: int) -> None:
    lines = written.read_bytes().splitlines(keepends=True)
    del lines[line - 1]
    written.write_bytes(b"".join(lines))
    with pytest.raises(JournalError, match=rf":{line}: the checksum is wrong"):
        load(written)


def test_swapped_lines_are_refused(written: Path) -> None:
    lines = written.read_bytes().splitlines(keepends=True)
    lines[1], lines[2] = lines[2], lines[1]
    written.write_bytes(b"".join(lines))
    with pytest.raises(JournalError, match=":2: the checksum is wrong"):
        load(written)


def write_lines(path: Path, events: list[Event]) -> None:
    crc = 0
    with path.open("wb") as file:
        for seq, event in enumerate(events, start=1):
            line, crc = encode_line(seq, AT, event, crc)
            file.write(line)


def test_an_event_that_cannot_follow_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write_lines(path, [make_run().opened, ev.Admitted(server=WEB), ev.Verified(server=WEB)])
    with pytest.raises(JournalError, match=r":3: Verified for web-1, which is stopping"):
        load(path)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    opened = make_run().opened
    newer = ev.RunOpened(
        **{name: getattr(opened, name) for name in opened.__struct_fields__} | {"format": 99}
    )
    write_lines(path, [newer])
    with pytest.raises(JournalError, match="format 99 is newer") as caught:
        load(path)
    assert caught.value.hint is not None
    assert "newer" in caught.value.hint


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"not json\n",
        b"[1,2]\n",
        b'{"seq":1}\n',
        b"{" * 100_000 + b"\n",
        b"\xff\xfe\n",
        b'"' * 10 + b"\n",
    ],
)
def test_rubbish_is_no_journal(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(content)
    with pytest.raises(JournalError):
        load(path)


def test_an_existing_file_is_not_taken_for_a_new_journal(written: Path) -> None:
    with pytest.raises(JournalError, match="cannot create"):
        Journal.create(written)


class FailingSink(FileSink):
    """Fails from the n-th write or sync on, and counts what is tried after that."""

    def __init__(self, path: Path, *, writes: int = 10**9, syncs: int = 10**9) -> None:
        super().__init__(path, create=True)
        self.writes, self.syncs, self.tried = writes, syncs, 0

    def write(self, data: bytes) -> None:
        self.writes -= 1
        if self.writes < 0:
            self.tried += 1
            super().write(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(data)

    def sync(self) -> None:
        self.syncs -= 1
        if self.syncs < 0:
            self.tried += 1
            raise OSError(errno.EIO, "Input/output error")
        super().sync()


@pytest.mark.parametrize(
    ("limits", "words"), [({"writes": 2}, "No space left"), ({"syncs": 1}, "Input/output")]
)
def test_after_the_first_failure_nothing_more_is_tried(
    tmp_path: Path, limits: dict[str, int], words: str
) -> None:
    """A second fsync may report success for data that the first one lost, so there is none."""
    sinks: list[FailingSink] = []

    def make(path: Path) -> FailingSink:
        sinks.append(FailingSink(path, **limits))
        return sinks[0]

    run = make_run()
    journal = Journal.create(tmp_path / "journal.jsonl", sink=make)
    journal.append(run.opened, AT)
    recorder = Recorder(run, journal, lambda: AT)
    recorder.record(STORY[0])
    for _ in range(3):
        with pytest.raises(JournalError, match=words):
            recorder.record(STORY[1])
    assert sinks[0].tried == 1
    assert run.servers[WEB].stopped_by_us is False, "what is not on the disk is not in memory"
    journal.close()


def test_facts_of_one_moment_share_a_sync_and_are_told_after_it(tmp_path: Path) -> None:
    """Whoever records for many writes first; one sync makes all of it certain, and only then it is told."""
    sink = FailingSink(tmp_path / "journal.jsonl")
    before = sink.syncs
    run = make_run()
    journal = Journal.create(tmp_path / "other.jsonl", sink=lambda _: sink)
    journal.append(run.opened, AT)
    told: list[Event] = []
    asked: list[int] = []
    recorder = Recorder(run, journal, lambda: AT, (lambda event, _: told.append(event),))
    recorder.later = lambda: asked.append(before - sink.syncs)
    for event in STORY:
        recorder.record(event)
    assert before - sink.syncs == 1, "the opening's own sync, and no other yet"
    assert told == STORY[:1], "what needs no sync is told at once, the rest in order once it is certain"
    assert asked, "somebody was asked to see to it"
    recorder.settle()
    recorder.settle()
    assert before - sink.syncs == 2
    assert told == STORY
    journal.close()
    assert [entry.event for entry in read(tmp_path / "journal.jsonl")[0][1:]] == STORY


def test_a_shared_sync_that_fails_is_the_last_one(tmp_path: Path) -> None:
    """Nobody is told, nothing is written behind it, and no second sync is tried."""
    path = tmp_path / "journal.jsonl"
    sink = FailingSink(path, syncs=1)
    run = make_run()
    journal = Journal.create(tmp_path / "other.jsonl", sink=lambda _: sink)
    journal.append(run.opened, AT)
    told: list[Event] = []
    recorder = Recorder(run, journal, lambda: AT, (lambda event, _: told.append(event),))
    recorder.later = lambda: None
    recorder.record(STORY[0])
    recorder.record(STORY[1])
    size = path.stat().st_size
    for _ in range(3):
        with pytest.raises(JournalError, match="Input/output"):
            recorder.settle()
        with pytest.raises(JournalError, match="Input/output"):
            recorder.record(STORY[2])
    assert sink.tried == 1
    assert path.stat().st_size == size
    assert told == STORY[:1]
    journal.close()


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_file_holds_the_answer_is_words(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "fuzz.jsonl"
    path.write_bytes(content)
    with pytest.raises(JournalError):
        load(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["event", "server", "at", "seq", "state", "reason", "job"]), JSON))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_well_sealed_line_of_nonsense_is_refused_with_its_number(
    tmp_path: Path, fields: dict[str, object]
) -> None:
    """Even with a right checksum: what is no event, or cannot follow, does not get in."""
    path = tmp_path / "fuzz.jsonl"
    line, crc = encode_line(1, AT, make_run().opened, 0)
    body = json.dumps({"seq": 2, "at": "2026-12-05T20:00:03.120Z", **fields}).encode()[:-1]
    crc = zlib.crc32(body, crc)
    path.write_bytes(line + body + b',"crc":"%08x"}\n' % crc)
    try:
        run, _ = load(path)
    except JournalError as error:
        assert re.search(r":[12]: ", error.message)  # noqa: PT017 - either end is right, and is checked
    else:
        assert fields["event"] in {"Admitted", "RunHeld", "RunDrained", "RunReleased", "Skipped"}
        assert set(run.servers) == set(make_run().servers)


def test_a_write_that_the_disk_takes_in_parts_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A nearly full disk takes a part and says how much: the rest follows, or the line would be torn."""
    really = os.write
    monkeypatch.setattr("fleet.journal.os.write", lambda fd, data: really(fd, bytes(data[:1000])))
    sink = FileSink(tmp_path / "file", create=True)
    sink.write(b"x" * 10_500)
    sink.close()
    assert (tmp_path / "file").stat().st_size == 10_500
