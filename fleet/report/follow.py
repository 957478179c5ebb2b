"""A run whose journal grows while it is read: of a process that works on it, or of none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fleet.core.state import Run
from fleet.errors import JournalError
from fleet.journal import Entry, Reading, Tail, fold, replay

Watch = Callable[[Run], Callable[[Entry], None]]


class Follower:
    """Folds a journal into its run, as far as it has been written.

    A line that is being written, or that a crash tore, is left for later: it will be whole, or cut off.

    Args:
        path: The journal.
        watch: Given the run once; what it returns is told of every entry right after it was folded in.

    Attributes:
        run: As the journal tells it so far.
        tail: Where reading has ended.

    Raises:
        JournalError: It cannot be read. So does `read`.
    """

    def __init__(self, path: Path, *, watch: Watch | None = None) -> None:
        self.path = path
        self.tail = Tail(0, 0, 0)
        self._watch = watch
        self._tell: Callable[[Entry], None] | None = None
        self._run: Run | None = None
        self.read()

    @property
    def run(self) -> Run:
        """The run."""
        assert self._run is not None  # noqa: S101 - set by the constructor, or it raised
        return self._run

    def read(self) -> int:
        """Fold what was written since; return how many events. Nothing new costs a look at the size."""
        try:
            size = self.path.stat().st_size
            if size < self.tail.size:
                raise JournalError(
                    f"{self.path} has become shorter than what was read of it",
                    hint="it was replaced or restored; give the command again to read it anew",
                )
            if self._run is not None and size == self.tail.size:
                return 0
            with self.path.open("rb") as file:
                reading = Reading(file, self.path, after=self.tail)
                before = self.tail.seq
                if self._run is None:
                    self._run = replay(self.path, reading, watch=self._opened)
                else:
                    fold(self.path, self._run, reading, self._tell)
        except OSError as error:
            raise JournalError(f"cannot read the journal {self.path}: {error.strerror or error}") from error
        self.tail = reading.tail
        return self.tail.seq - before

    def _opened(self, run: Run) -> Callable[[Entry], None]:
        self._tell = self._watch(run) if self._watch else lambda _: None
        return self._tell
