"""A disk with one file on it, the journal. It knows which bytes a power cut cannot take."""

from __future__ import annotations

import errno
import random
import re

from fleet.core.events import SYNCED
from fleet.rehearsal.incidents import Fate

_FACT = re.compile(rb'\{"seq":\d+,"at":"[^"]*","event":"(?P<event>\w+)","server":"(?P<server>[^"]+)"')
_SYNCED = frozenset(kind.__name__ for kind in SYNCED)


class Disk:
    """What is on the disk.

    Attributes:
        data: The file, as a reader sees it.
        synced: So many of its bytes are certain.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.synced = 0

    @property
    def has_run(self) -> bool:
        """Whether the first line is whole: without it nothing was touched, and a new run is opened."""
        return b"\n" in self.data

    def cut(self, size: int) -> None:
        """Cut the file, for good."""
        del self.data[size:]
        self.synced = size

    def killed(self) -> None:
        """The process died: the system still writes everything that it was given."""
        self.synced = len(self.data)

    def power_cut(self, rng: random.Random) -> None:
        """Lose some of what was not synced: all of it, a part, or the file's length without its content."""
        tail = len(self.data) - self.synced
        if tail:
            kept = self.synced + rng.choice((0, tail, rng.randint(0, tail)))
            zeros = rng.random() < 0.2
            lost = len(self.data) - kept
            del self.data[kept:]
            if zeros:
                self.data += bytes(lost)
        self.synced = len(self.data)


class DiskSink:
    """A `fleet.journal.Sink` on a `Disk`, for one life.

    Attributes:
        failed: The disk said no; nothing may be changed in the cloud after that.
    """

    def __init__(self, disk: Disk, fate: Fate | None = None) -> None:
        self.failed = False
        self._disk = disk
        self._fate = fate
        self._cut_off = False

    def cut_off(self) -> None:
        """Keep nothing more: whoever would write is dead."""
        self._cut_off = True

    def write(self, data: bytes) -> None:
        """Append *data*, or a part of it and raise OSError."""
        disk, fate = self._disk, self._fate
        if self._cut_off:
            return
        if fate is None:
            disk.data += data
            return
        if self.failed:
            raise AssertionError("written to after it failed")
        fate.effect("write")
        if (fault := fate.disk_fault("write-fails", "disk-full")) is not None:
            self.failed = True
            if fault.kind == "disk-full":  # a real one takes what it has room for
                disk.data += data[: len(data) // 2]
                raise OSError(errno.ENOSPC, "No space left on device")
            raise OSError(errno.EIO, "Input/output error")
        if (crash := fate.tears()) is not None:
            disk.data += data[: 1 + crash.at * 7 % (len(data) - 1)]
            fate.tear(crash)
        disk.data += data
        fate.effect("written")

    def sync(self) -> None:
        """Make everything certain, or raise OSError."""
        disk, fate = self._disk, self._fate
        if self._cut_off:
            return
        if fate is not None:
            if fate.disk_fault("sync-fails") is not None:
                self.failed = True
                raise OSError(errno.EIO, "Input/output error")
            disk.synced = len(disk.data)
            fate.effect("synced")
        disk.synced = len(disk.data)

    def uncertain(self, about: bytes) -> str | None:
        """Return a fact that has to be certain, is not, and is about a server that is named in *about*."""
        for line in self._disk.data[self._disk.synced :].splitlines():
            found = _FACT.match(line)
            if found and found["event"].decode() in _SYNCED and found["server"] in about:
                return line.decode()
        return None

    def close(self) -> None:
        """Nothing to close."""
