"""A log file that may be rotated under a process, and that ends no run by failing.

Renamed and made anew (logrotate's way): the next line goes into the new file, no signal is needed. Cut off
where it is (``copytruncate``): lines are appended, so the next one is the first. Whatever goes wrong is said
once; every later line tries again, and the first that is written says how many are missing.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from fleet.secrets import redact

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
"""Not blocking: a pipe that nobody reads is an error, not a night of waiting."""

_BEGIN = b'{"seq":1,"at":"'
"""Of a run's journal."""


def is_a_journal(path: Path) -> bool:
    """Tell whether a file is a run's journal, by whatever name; a line of a log would damage it for good."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            return stat.S_ISREG(os.fstat(fd).st_mode) and os.read(fd, len(_BEGIN)) == _BEGIN
        finally:
            os.close(fd)
    return False


class LogFile:
    """Appends lines to a file, for its owner only if it is made here.

    Args:
        path: The file.
        tell: Is told, in words, when it cannot be written and when it can be again.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path, tell: Callable[[str], None]) -> None:
        self.path = path.absolute()
        self.tell = tell
        self._fd: int | None = None
        self._file: tuple[int, int] | None = None
        self._torn = False
        self._missed = 0
        self._telling = False

    def note(self, event: str, level: str, **fields: object) -> None:
        """Write a line of our own, with no secret in it; what says nothing is left out."""
        at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        said = {"event": event, **fields, "level": level, "timestamp": at}
        told = {key: value for key, value in said.items() if value is not None}
        self.write(redact(msgspec.json.encode(told).decode()))

    def write(self, line: str) -> None:
        """Append a line. Raises nothing, waits for nobody."""
        if self._telling:  # whoever tells of our failure may log it, and so come back here
            return
        try:
            if self._missed:
                missing = self._missed
                self._append(b'{"event":"LogLinesMissing","lines":%d,"level":"warning"}' % missing)
                self._missed = 0
                self._say(f"the log file {self.path} is written again; {missing} lines are missing in it")
            self._append(line.encode(errors="backslashreplace"))
        except OSError as error:
            self._close()
            self._missed += 1
            if self._missed == 1:
                why = error.strerror or str(error)
                self._say(f"the log file {self.path} cannot be written: {why}; the run goes on without it")

    def _say(self, words: str) -> None:
        self._telling = True
        try:
            self.tell(words)
        finally:
            self._telling = False

    def _append(self, line: bytes) -> None:
        """Append one line in one write, so that lines of several processes do not mix."""
        fd = self._opened()
        data = memoryview((b"\n" if self._torn else b"") + line + b"\n")
        while data:
            done = os.write(fd, data)  # a full disk may take a part only
            data = data[done:]
            self._torn = bool(data)

    def _opened(self) -> int:
        """Return the file that has the name now."""
        try:
            there = os.stat(self.path)  # noqa: PTH116 - a stat of a path, or its error
        except FileNotFoundError:
            there = None
        if self._fd is not None and (there is None or (there.st_dev, there.st_ino) != self._file):
            self._close()
        if self._fd is None:
            if is_a_journal(self.path):
                raise OSError("it is the journal of a run")
            self._fd = os.open(self.path, _FLAGS, 0o600)
            opened = os.fstat(self._fd)
            self._torn = self._torn and self._file == (opened.st_dev, opened.st_ino)
            self._file = (opened.st_dev, opened.st_ino)
        return self._fd

    def _close(self) -> None:
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = None
