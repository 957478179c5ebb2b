"""The journal: one event a line, appended, checksummed, and on the disk before it matters.

A line is ``{"seq":7,"at":"2026-12-05T20:00:03.120Z","event":"Stopped", …,"crc":"9c3e01aa"}``. The checksum
is a CRC-32 of the line's bytes up to it, chained: it starts from the line before, so a changed, lost or
moved line is noticed.

`Journal.append` is a plain function: what is not awaited cannot be cancelled half-way. After its first
failure nothing more is written and no sync is tried again, since a second fsync may report success for
data that the first one lost.

A sync costs milliseconds, and one sync makes certain whatever was written before it. So whoever records for
many servers at once writes first and syncs before anything is done about it: `Journal.write`, `Journal.sync`.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

from fleet.core.events import FORMAT, SYNCED, Event, RunOpened
from fleet.core.fold import apply, apply_checked, check
from fleet.core.state import IllegalEventError, Run
from fleet.errors import JournalError

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Event).decode


class _Envelope(msgspec.Struct, frozen=True):
    """What every line has, whatever its event."""

    seq: int
    at: datetime
    event: str


class _First(msgspec.Struct, frozen=True):
    """As much of a first line as tells whether we can read the rest."""

    event: str
    format: int = 0


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_first = msgspec.json.Decoder(_First).decode


class Sink(Protocol):
    """Where lines go. A seam for tests that fail or cut the power."""

    def write(self, data: bytes) -> None:
        """Append *data*, all of it, or raise OSError."""
        ...

    def sync(self) -> None:
        """Return once everything written is on the disk, or raise OSError."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class FileSink:
    """An append-only file."""

    def __init__(self, path: Path, *, create: bool) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
        self._fd = os.open(path, flags, 0o600)

    def write(self, data: bytes) -> None:
        """Append *data*. A full disk may take a part only, so this loops."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def sync(self) -> None:
        """Wait for the disk."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line, read."""

    line: int
    seq: int
    at: datetime
    event: Event


def sync_folder(folder: Path) -> None:
    """Make a new or renamed entry of *folder* survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def encode_line(seq: int, at: datetime, event: Event, crc: int) -> tuple[bytes, int]:
    """Return the line, with its line break, and its checksum for the next one."""
    stamp = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    body = b'{"seq":%d,"at":"%s",%s' % (seq, stamp.encode(), _encode(event)[1:-1])
    crc = zlib.crc32(body, crc)
    return b'%s,"crc":"%08x"}\n' % (body, crc), crc


class Journal:
    """An open journal; the only writer of its file. Take the run's lock first.

    Attributes:
        path: The file.
        broken: The first failure, after which nothing is written; or None.
    """

    def __init__(self, path: Path, sink: Sink, *, seq: int = 0, crc: int = 0) -> None:
        self.path = path
        self.broken: JournalError | None = None
        self._sink = sink
        self._seq = seq
        self._crc = crc
        self._owes_sync = False

    @classmethod
    def create(cls, path: Path, *, sink: Callable[[Path], Sink] | None = None) -> Journal:
        """Create the file and make its name last.

        Raises:
            JournalError: It exists already, or the disk says no.
        """
        try:
            opened = sink(path) if sink else FileSink(path, create=True)
            sync_folder(path.parent)
        except OSError as error:
            raise JournalError(
                f"cannot create the journal {path}: {error.strerror or error}",
                hint="choose a writable place with --journal or FLEET_STATE_DIR; nothing was touched",
            ) from error
        return cls(path, opened)

    @classmethod
    def reopen(cls, path: Path, tail: Tail, *, sink: Callable[[Path], Sink] | None = None) -> Journal:
        """Go on with a journal that `read` has read. A torn tail is cut, after it was kept aside."""
        try:
            if path.stat().st_size != tail.size + len(tail.torn):
                raise JournalError(
                    f"{path} has changed since it was read", hint="give the same command again"
                )
            if tail.torn:
                _cut(path, tail)
            opened = sink(path) if sink else FileSink(path, create=False)
        except OSError as error:
            raise JournalError(f"cannot write to the journal {path}: {error.strerror or error}") from error
        return cls(path, opened, seq=tail.seq, crc=tail.crc)

    def append(self, event: Event, at: datetime) -> None:
        """Write *event*; return once it is as durable as its kind needs.

        Raises:
            JournalError: It may not be on the disk. Nothing that it gates may be done, now or later.
        """
        self.write(event, at)
        self.sync()

    def write(self, event: Event, at: datetime) -> None:
        """Write *event* behind what is there. Nothing that it gates may be done before `sync` has returned.

        Raises:
            JournalError: As `append`.
        """
        if self.broken is not None:
            raise self.broken
        line, crc = encode_line(self._seq + 1, at, event, self._crc)
        try:
            self._sink.write(line)
        except OSError as error:
            raise self._break(error) from error
        self._seq += 1
        self._crc = crc
        self._owes_sync = self._owes_sync or type(event) in SYNCED

    @property
    def owes_sync(self) -> bool:
        """Something was written that has to be certain, and is not yet."""
        return self._owes_sync

    def sync(self) -> None:
        """Return once everything written that has to be certain is on the disk. Raises as `append`."""
        if self.broken is not None:
            raise self.broken
        if not self._owes_sync:
            return
        try:
            self._sink.sync()
        except OSError as error:
            raise self._break(error) from error
        self._owes_sync = False

    def _break(self, error: OSError) -> JournalError:
        self.broken = JournalError(
            f"cannot write to the journal {self.path}: {error.strerror or error}",
            hint="make room or mend the disk, then `fleet resume`: servers in flight are looked at first",
        )
        return self.broken

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):
            self._sink.close()


@dataclass(frozen=True, slots=True)
class Tail:
    """Where a journal ends.

    Attributes:
        seq, crc: Of the last good line.
        size: Bytes up to and with it.
        torn: Bytes behind it, left by a crash in the middle of a write.
    """

    seq: int
    crc: int
    size: int
    torn: bytes = b""


def _lines(file: BinaryIO, number: int) -> Iterator[tuple[int, bytes, bool]]:
    """Yield line number, bytes, and whether it is the last one; the first that is read is *number*."""
    line = file.readline()
    while line:
        following = file.readline()
        yield number, line, not following
        number, line = number + 1, following


def read(path: Path) -> tuple[list[Entry], Tail]:
    """Read a whole journal.

    A last line that a crash tore is left out and returned in the tail; anything else that is wrong is
    refused: a gap, a changed byte, a line that is no event, a newer format.

    Raises:
        JournalError: With the line number.
    """
    try:
        with path.open("rb") as file:
            return read_from(file, path)
    except OSError as error:
        raise JournalError(f"cannot read the journal {path}: {error.strerror or error}") from error


def read_from(file: BinaryIO, path: Path) -> tuple[list[Entry], Tail]:
    """Read a whole journal from *file*; *path* is for messages. As `read`."""
    reading = Reading(file, path)
    return list(reading), reading.tail


class Reading:
    """A journal that is being read entry by entry, so that a long one is never in memory as a whole.

    Args:
        file: The journal.
        path: For messages.
        after: Where an earlier reading ended: this one begins behind it.

    Attributes:
        tail: Where it ends; right once all entries have been taken. Taking them raises as `read` does.
    """

    def __init__(self, file: BinaryIO, path: Path, *, after: Tail | None = None) -> None:
        self.tail = after or Tail(0, 0, 0)
        self._file = file
        self._path = path

    def __iter__(self) -> Iterator[Entry]:
        crc, size, seq = self.tail.crc, self.tail.size, self.tail.seq
        self._file.seek(size)
        for number, line, is_last in _lines(self._file, seq + 1):
            try:
                entry, crc = _parse(number, line, crc)
            except JournalError as error:
                if is_last and seq and _is_torn(line):
                    self.tail = Tail(seq, crc, size, torn=line)
                    return
                raise JournalError(
                    f"{self._path}:{number}: {error.message}",
                    hint=error.hint
                    or "the file is damaged or was edited; restore a copy, or look at each server by hand",
                ) from error
            seq = entry.seq
            size += len(line)
            yield entry
        if not seq:
            raise JournalError(
                f"{self._path}: the journal is empty",
                hint="the run died before it touched anything; delete its folder and run the plan again",
            )
        self.tail = Tail(seq, crc, size)


def _is_torn(line: bytes) -> bool:
    """Tell a write that a crash cut short from a line that was damaged later.

    A cut line has no line break; a power cut may leave blocks of zeros in its place.
    """
    return not line.endswith(b"\n") or b"\0" in line


def _parse(number: int, line: bytes, crc: int) -> tuple[Entry, int]:
    body, found, rest = line.rpartition(b',"crc":"')
    if not found or not line.endswith(b'"}\n') or len(rest) != len(b'00000000"}\n'):
        raise JournalError("not a line of a journal")
    crc = zlib.crc32(body, crc)
    if rest[:8] != b"%08x" % crc:
        raise JournalError("the checksum is wrong")
    try:
        envelope = _decode_envelope(line)
    except (ValueError, RecursionError) as error:  # what is not JSON, or not UTF-8, is a ValueError
        raise JournalError("not a line of a journal") from error
    if envelope.seq != number:
        raise JournalError(f"seq is {envelope.seq}, {number} was expected")
    if number == 1:
        _check_first(line)
    try:
        event = _decode(line)
    except ValueError as error:
        raise JournalError(f"an event {envelope.event!r} that this fleet cannot read: {error}") from error
    if envelope.at.tzinfo is None:
        raise JournalError("its time has no zone")
    return Entry(number, envelope.seq, envelope.at, event), crc


def _check_first(line: bytes) -> None:
    try:
        first = _decode_first(line)
    except ValueError as error:
        raise JournalError(f"not the first line of a journal: {error}") from error
    if first.event != "RunOpened":
        raise JournalError(f"the first event is {first.event!r}, not 'RunOpened'")
    if first.format > FORMAT:
        raise JournalError(
            f"journal format {first.format} is newer than this fleet reads ({FORMAT})",
            hint="use the fleet version that wrote it, or a newer one",
        )


def replay(
    path: Path, entries: Iterable[Entry], *, watch: Callable[[Run], Callable[[Entry], None]] | None = None
) -> Run:
    """Fold a journal's entries into the run that they tell.

    Args:
        path: For messages.
        entries: In order, the opening first.
        watch: Given the new run; what it returns is told of every entry right after it was folded in.

    Raises:
        JournalError: An event cannot follow the ones before it.
    """
    left = iter(entries)
    opening = next(left)
    first = opening.event
    if not isinstance(first, RunOpened):
        raise JournalError(f"{path}:1: not the opening of a run")
    try:
        run = Run(first, opening.at)
    except IllegalEventError as error:
        raise JournalError(f"{path}:1: {error}", hint="the file is damaged or was edited") from error
    tell = watch(run) if watch else None
    if tell:
        tell(opening)
    fold(path, run, left, tell)
    return run


def fold(path: Path, run: Run, entries: Iterable[Entry], tell: Callable[[Entry], None] | None = None) -> None:
    """Fold further *entries* into *run*; *tell* is told of each right after it. Raises as `replay`."""
    for entry in entries:
        try:
            apply(run, entry.event, entry.at)
        except IllegalEventError as error:
            raise JournalError(
                f"{path}:{entry.line}: {error}", hint="the file is damaged or was edited"
            ) from error
        if tell:
            tell(entry)


def load(path: Path, *, watch: Callable[[Run], Callable[[Entry], None]] | None = None) -> tuple[Run, Tail]:
    """Read and replay a journal, entry by entry; for *watch* see `replay`. Raises as `read` and `replay`."""
    try:
        with path.open("rb") as file:
            reading = Reading(file, path)
            return replay(path, reading, watch=watch), reading.tail
    except OSError as error:
        raise JournalError(f"cannot read the journal {path}: {error.strerror or error}") from error


Listener = Callable[[Event, datetime], None]


class Recorder:
    """Writes facts down: to the disk, then into the run, then to whoever listens. In this order.

    Args:
        run: As `load` gave it, or opened with the journal's first line.
        now: The time of day, for records.
        listeners: Told of every event once it is certain; they must not fail and must not block.

    Attributes:
        later: Called when facts were written that `settle` has yet to make certain; None: each is at once.
            Whoever sets it calls `settle` soon, and in any case before it does anything about them.
    """

    def __init__(
        self,
        run: Run,
        journal: Journal,
        now: Callable[[], datetime],
        listeners: tuple[Listener, ...] = (),
    ) -> None:
        self.run = run
        self.journal = journal
        self.listeners = listeners
        self.later: Callable[[], None] | None = None
        self._untold: list[tuple[Event, datetime]] = []
        self._now = now

    def record(self, event: Event) -> None:
        """Record *event*.

        Raises:
            JournalError: It may not be on the disk. Nothing that it gates may be done, now or later.
            IllegalEventError: It cannot follow; a defect of ours. It was not written.
        """
        at = self._now().astimezone(UTC)
        # A defect of ours must end the run, not make its journal unreadable for good.
        check(self.run, event)
        if self.later is None:
            self.journal.append(event, at)
        else:
            self.journal.write(event, at)
        apply_checked(self.run, event, at)
        self._untold.append((event, at))
        if self.journal.owes_sync and self.later is not None:
            self.later()
        else:
            self.settle()

    def settle(self) -> None:
        """Have every fact on the disk that has to be there, then tell whoever listens.

        Raises:
            JournalError: As `record`.
        """
        self.journal.sync()
        untold, self._untold = self._untold, []
        for event, at in untold:
            for listener in self.listeners:
                listener(event, at)


def _cut(path: Path, tail: Tail) -> None:
    """Keep the torn tail in a file beside the journal, then cut it off. Both last before anything follows."""
    aside = path.with_name(f"{path.name}.torn-{tail.seq + 1}")
    while aside.exists():
        aside = aside.with_name(aside.name + "x")
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(fd, tail.torn)
        os.fsync(fd)
    finally:
        os.close(fd)
    fd = os.open(path, os.O_WRONLY)
    try:
        os.ftruncate(fd, tail.size)
        os.fsync(fd)
    finally:
        os.close(fd)
    sync_folder(path.parent)
