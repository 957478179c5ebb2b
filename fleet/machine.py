"""A limit on the servers in flight over all runs of this state folder, should one be wanted.

For what the runs of a machine share and no single plan knows: a disk quota, an image server, a link. Each
server in flight holds a slot, a locked file in ``slots/``; the kernel lets go of it when the process dies.
What a dead run has left in flight therefore holds none until it is resumed, and then it comes first: servers
that are in flight already are never held up, so the limit can be exceeded by those of several dead runs that
are resumed at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Mapping
from pathlib import Path

from fleet.errors import FleetError, JournalError, PlanError, Problem
from fleet.runs import make_folder

VARIABLE = "FLEET_MACHINE_CONCURRENCY"
"""Environment variable: the limit for this process."""

FILE = "machine-concurrency"
"""A file in the state folder with one number: the limit for all runs. The smaller of the two counts."""

LOOK_AGAIN_S = 2.0
"""Nobody is told when another process gives a slot back. A reinstall takes minutes."""


def limit_of(folder: Path, environ: Mapping[str, str] | None = None) -> int | None:
    """Return how many servers may be in flight over all runs of a state folder; None: no limit.

    Raises:
        PlanError: A limit is given that is no number above 0.
        JournalError: The file cannot be read.
    """
    environ = os.environ if environ is None else environ
    found = []
    if given := environ.get(VARIABLE, "").strip():
        found.append(_number(given, VARIABLE))
    path = folder / FILE
    try:
        found.append(_number(path.read_text(errors="replace").strip(), str(path)))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise JournalError(
            f"cannot read {path}: {error.strerror or error}",
            hint="it limits the servers in flight over all runs; run as the user who owns the state folder",
        ) from error
    return min(found, default=None)


def _number(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 100_000):
        raise PlanError(
            Problem(
                f"{where}: a number from 1 to 100000 was expected, found {text[:40]!r}", hint="or drop it"
            )
        )
    return int(text)


class Machine:
    """The slots of one life of a run.

    Args:
        folder: The state folder.
        limit: Slots in all; None: as many as anybody wants, and nothing is locked.
    """

    def __init__(self, folder: Path, limit: int | None) -> None:
        self.limit = limit
        self._folder = folder / "slots"
        self._held: dict[str, tuple[int, int]] = {}  # by server: number and descriptor
        self._numbers: set[int] = set()
        self._made = limit is None

    def room(self) -> bool:
        """Tell whether another server may start. A look, no promise: that is `take`."""
        if self.limit is None:
            return True
        slot = self._free_slot()
        if slot is None:
            return False
        os.close(slot[1])
        return True

    def take(self, server: str, *, anyway: bool = False) -> bool:
        """Take a slot for *server*; tell whether it may start.

        Args:
            server: Its id. Asked for twice it keeps the slot that it has.
            anyway: It is in flight already: it goes on without a slot when none is free.

        Raises:
            JournalError: The slots cannot be made or locked.
        """
        if self.limit is None or server in self._held:
            return True
        slot = self._free_slot()
        if slot is None:
            return anyway
        self._held[server] = slot
        self._numbers.add(slot[0])
        return True

    def give(self, server: str) -> None:
        """Give back the slot of *server*, if it has one."""
        if (slot := self._held.pop(server, None)) is not None:
            self._numbers.discard(slot[0])
            os.close(slot[1])

    def close(self) -> None:
        """Give everything back. Dying does the same."""
        for server in list(self._held):
            self.give(server)

    def why(self) -> str:
        """Say why a server waits, in words, when there is no room."""
        return f"{self.limit} servers are in flight over all runs of this machine"

    def _free_slot(self) -> tuple[int, int] | None:
        """Lock the first free slot and return its number and descriptor; None when all are taken."""
        assert self.limit is not None  # noqa: S101 - the callers looked
        if not self._made:
            make_folder(self._folder)
            self._made = True
        try:
            for number in range(self.limit):
                if number in self._numbers:
                    continue
                fd = os.open(self._folder / f"{number + 1:05}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(fd)
                except OSError:
                    os.close(fd)
                    raise
                else:
                    return number, fd
        except OSError as error:
            raise JournalError(
                f"cannot take a slot in {self._folder}: {error.strerror or error}",
                hint=f"without {VARIABLE} and the file {FILE} nothing is limited",
            ) from error
        return None


def machine_of(folder: Path) -> Machine:
    """Return the slots of a state folder, by what environment and folder say. Raises as `limit_of`."""
    return Machine(folder, limit_of(folder))


def describe(folder: Path) -> str | None:
    """Return the limit in words for a preview, or None when there is none."""
    with contextlib.suppress(FleetError):
        if (limit := limit_of(folder)) is not None:
            return f"at most {limit} servers in flight over all runs of this machine ({VARIABLE}, or {FILE})"
    return None
