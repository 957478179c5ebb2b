"""Journals of every released format are read, and mean what they meant."""

from __future__ import annotations

import json
import shutil
import types
import typing
import zlib
from pathlib import Path

import msgspec
import pytest

from fleet.core import events as ev
from fleet.core.model import ServerId
from fleet.core.rollout import decide
from fleet.core.settings import Settings
from fleet.core.state import Phase
from fleet.errors import Exit, JournalError
from fleet.journal import Journal, load, read

KEPT = Path(__file__).with_name("data") / "journal-format-1.jsonl"
RAILS = KEPT.with_name("rails-format-1.jsonl")
"""What came into format 1 after the first one was kept."""


def test_the_kept_journal_is_read_to_its_end() -> None:
    entries, tail = read(KEPT)
    assert tail.torn == b""
    assert tail.size == KEPT.stat().st_size
    assert entries[0].event.format == 1
    assert entries[0].at.isoformat() == "2026-12-05T20:00:00.120000+00:00"


def test_it_has_every_event_that_there_is() -> None:
    """A new event comes with a line in the kept journal of the format that it came with."""
    entries = [*read(KEPT)[0], *read(RAILS)[0]]
    kinds = {type(entry.event) for entry in entries}
    assert kinds == {*typing.get_args(ev.ServerEvent), *typing.get_args(ev.RunEvent)}


def test_it_means_what_it_meant() -> None:
    run, _ = load(KEPT)
    assert run.id == "kept-20261205T200000Z-0000"
    assert {server.id: server.phase for server in run.servers.values()} == {
        "w1": Phase.VERIFIED,
        "w2": Phase.VERIFIED,
        "w3": Phase.SKIPPED,
        "w4": Phase.VERIFIED,
        "w5": Phase.FAILED,
        "w6": Phase.REQUESTED,
        "w7": Phase.SKIPPED,
        "d1": Phase.STOPPING,
        "d2": Phase.WAITING,
    }
    assert (run.lives, run.held, run.everybody, run.drained, run.finished) == (3, None, None, None, False)
    assert run.settings.digest == "ef" * 32, "the edit is in force"
    assert run.opened.limit == ("web-*", "!web-9")
    assert {name: target.in_flight for name, target in run.targets.items()} == {"web": 1, "db": 1}
    assert run.targets["web"].current == 2
    assert decide(run).start == ()


def test_the_later_one_means_what_it_meant() -> None:
    run, tail = load(RAILS)
    assert tail.torn == b""
    assert run.finished
    assert run.held is None
    one = run.servers[ServerId("r1")]
    assert (one.phase, one.claim, one.owed, one.failed_in) == (Phase.SKIPPED, None, {}, Phase.VERIFIED)
    target = run.targets["web"]
    assert (target.pace, target.waves[0].approved, run.groups_held) == (
        3,
        True,
        [({"flavor": "s3"}, "2 failed alike")],
    )


def test_each_server_is_where_it_was_with_what_was_known() -> None:
    run, _ = load(KEPT)
    servers = {str(key): value for key, value in run.servers.items()}
    one, two, six, first = servers["w1"], servers["w2"], servers["w6"], servers["d1"]
    assert (one.accepted, one.sent, one.doubted, one.stopped_by_us) == (2, 4, True, True)
    assert (one.job, one.new_disk, one.was_off, one.wiped) == (None, "new-w1", False, True)
    assert (two.was_off, two.stopped_by_us, two.new_disk) == (True, False, "new-w2")
    assert (servers["w5"].reason, servers["w5"].untouched) == ("not stopped after 2 min", True)
    assert six.noted is not None
    assert (six.noted.system_disk, six.noted.settle_s, six.wiped) == ("disk-w6", 240.0, False)
    assert first.stopped_by_us
    assert servers["w3"].reason == "decommissioned (alice)"


def test_a_line_written_today_is_the_line_that_was_written_then() -> None:
    """What is read and encoded again gives the same bytes: no field was renamed, none lost its meaning."""
    entries = [*read(KEPT)[0], *read(RAILS)[0]]
    lines = [*KEPT.read_bytes().splitlines(), *RAILS.read_bytes().splitlines()]
    for entry, line in zip(entries, lines, strict=True):
        then, now = json.loads(line), json.loads(msgspec.json.encode(entry.event))
        for name, value in _leaves(then, {"seq", "at", "crc"}):
            assert _at(now, name) == value, f"line {entry.line}: {name}"


def test_the_kept_settings_have_every_field_away_from_its_default() -> None:
    """A field that nothing in the kept journal uses could be renamed and nobody would notice."""
    used: set[str] = set()
    for kept in (KEPT, RAILS):
        (opened, *_), _ = read(kept)
        assert isinstance(opened.event, ev.RunOpened)
        used |= _used(opened.event.settings)
    assert not _fields(Settings) - used


def test_a_run_of_an_old_format_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    shutil.copy(KEPT, path)
    run, tail = load(path)
    journal = Journal.reopen(path, tail)
    journal.append(ev.RunResumed(host="h", pid=1), run.last_at)
    journal.close()
    assert load(path)[0].lives == run.lives + 1


def test_a_field_that_is_not_known_yet_is_passed_over(tmp_path: Path) -> None:
    """A newer fleet of the same format may add fields; an older one goes on with what it understands."""
    path = tmp_path / "journal.jsonl"
    path.write_bytes(
        _sealed(KEPT.read_bytes().splitlines()[0].replace(b'"format":1', b'"format":1,"new":[1]'))
    )
    assert load(path)[0].id == "kept-20261205T200000Z-0000"


def test_a_newer_format_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(_sealed(KEPT.read_bytes().splitlines()[0].replace(b'"format":1', b'"format":2')))
    with pytest.raises(JournalError) as caught:
        load(path)
    assert caught.value.message == f"{path}:1: journal format 2 is newer than this fleet reads (1)"
    assert caught.value.hint == "use the fleet version that wrote it, or a newer one"
    assert caught.value.exit_code is Exit.JOURNAL


def test_every_format_has_a_kept_journal() -> None:
    kept = sorted(path.name for path in KEPT.parent.glob("journal-format-*.jsonl"))
    assert kept == [f"journal-format-{number}.jsonl" for number in range(1, ev.FORMAT + 1)]


# -- helpers --------------------------------------------------------------------------------------------


def _sealed(line: bytes) -> bytes:
    """Return a first line with the checksum that it should have."""
    body = line.rpartition(b',"crc":"')[0]
    return b'%s,"crc":"%08x"}\n' % (body, zlib.crc32(body))


def _leaves(value: object, without: set[str], path: tuple = ()):
    if isinstance(value, dict):
        for key, each in value.items():
            if key not in without:
                yield from _leaves(each, set(), (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _leaves(each, set(), (*path, index))
    else:
        yield path, value


def _at(value, path: tuple):
    for part in path:
        value = value[part]
    return value


def _structs(annotation) -> set[type]:
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return {annotation}
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) in {tuple, dict}:
        return {struct for each in typing.get_args(annotation) for struct in _structs(each)}
    return set()


def _fields(struct: type) -> set[str]:
    """Return every field of *struct* and of the structs below it: ``Target.leave``."""
    hints = typing.get_type_hints(struct)
    found = {f"{struct.__name__}.{name}" for name in hints if name in struct.__struct_fields__}
    for name in struct.__struct_fields__:
        for below in _structs(hints[name]):
            found |= _fields(below)
    return found


def _used(value: object) -> set[str]:
    """Return the fields that are not at their defaults somewhere in *value*."""
    found: set[str] = set()
    if isinstance(value, msgspec.Struct):
        for field in msgspec.structs.fields(type(value)):
            each = getattr(value, field.name)
            default = (
                field.default_factory()
                if field.default is msgspec.NODEFAULT and (field.default_factory is not msgspec.NODEFAULT)
                else field.default
            )
            if each != default:
                found.add(f"{type(value).__name__}.{field.name}")
            found |= _used(each)
    elif isinstance(value, tuple):
        for each in value:
            found |= _used(each)
    return found
