"""The terminal that a live display is drawn on: in a thread of its own, since a terminal may make us wait.

A terminal that has gone away, is held by Ctrl-S, or cannot show what we draw, must not end or stop a run.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import deque
from types import TracebackType
from typing import Self, TextIO, cast

from rich.console import Console, ConsoleDimensions
from rich.live import Live
from rich.text import Text

from fleet.report.glance import Glance
from fleet.report.progress import Progress, hint_for

PERIOD_S = 0.5


class Lenient:
    """A stream that nobody may be reading any more."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.encoding = stream.encoding

    def write(self, text: str) -> int:
        """Write, if anybody is there."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, if anybody is there."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        """Tell whether it is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Return its number."""
        return self._stream.fileno()


class _Lines:
    """Standard error while a display is on it: lines wait here until they are drawn above it.

    Whoever writes one does not wait, although the terminal may be held.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._parts: deque[str] = deque()
        self._rest = ""

    def write(self, text: str) -> int:
        """Put it with the others."""
        if not isinstance(text, str):
            raise TypeError("text is wanted")  # click asks by trying
        self._parts.append(text)
        return len(text)

    def flush(self) -> None:
        """Wait for nothing."""

    def taken(self) -> list[str]:
        """Return the whole lines that nobody has drawn yet."""
        while self._parts:
            self._rest += self._parts.popleft()
        *lines, self._rest = self._rest.split("\n")
        return lines

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


class Screen:
    """Draws the latest glance, twice a second. Use it as a context.

    Args:
        stream: The terminal.
        mine: The run is this process's own.

    Attributes:
        failed: What went wrong while drawing, or None. Nothing is drawn after it.
    """

    def __init__(self, stream: TextIO, *, mine: bool) -> None:
        self._console = Console(file=cast("TextIO", Lenient(stream)))
        self._mine = mine
        self._before: TextIO | None = None
        self._lines: _Lines | None = None
        self._glance: Glance | None = None
        self._words = ""
        self._live: Live | None = None
        self._size: ConsoleDimensions = self._console.size
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._draw, name="display", daemon=True)
        self.failed: Exception | None = None

    def show(self, glance: Glance) -> None:
        """Have this drawn from now on."""
        self._glance = glance

    def say(self, words: str) -> None:
        """Have one line drawn, as long as there is nothing to see."""
        self._words = words

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._live = self._begin()
        if self._mine:
            self._before, self._lines = sys.stderr, _Lines(sys.stderr)
            sys.stderr = cast("TextIO", self._lines)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Draw the last glance, and leave it on the screen."""
        self._give_back()
        self._over.set()
        self._thread.join(timeout=5.0)  # a terminal that is held keeps nobody
        if self._live is not None and not self._thread.is_alive():
            with contextlib.suppress(Exception):
                self._live.stop()

    def _give_back(self) -> None:
        if self._before is not None and sys.stderr is self._lines:
            sys.stderr = self._before

    def _begin(self) -> Live:
        live = Live(
            get_renderable=self._renderable,
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        live.start()
        return live

    def _renderable(self) -> Progress | Text:
        glance = self._glance
        return Text(self._words) if glance is None else Progress(glance, hint_for(glance, mine=self._mine))

    def _draw(self) -> None:
        try:
            while not self._over.wait(PERIOD_S):
                self._refresh()
            self._refresh()
        except Exception as error:  # noqa: BLE001 - whatever it is: a run goes on without its display
            self.failed = error
            self._give_back()

    def _refresh(self) -> None:
        assert self._live is not None  # noqa: S101 - the thread is started after it
        if (size := self._console.size) != self._size:
            # What was drawn before has been wrapped anew by the terminal: nobody knows where it is.
            self._size = size
            self._live.stop()
            self._console.clear()
            self._live = self._begin()
        for line in self._lines.taken() if self._lines else ():
            self._console.print(Text.from_ansi(line))
        self._live.refresh()
