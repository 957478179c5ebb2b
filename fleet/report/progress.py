"""The live display on a terminal: what is in flight, how far it is, what failed. It fits the screen."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TextIO, cast

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fleet.core.state import IN_FLIGHT, Phase, Run, ServerState
from fleet.report.status import duration, headline, state_word
from fleet.secrets import redact

_FAILURES = 5
_TARGETS = 8
_STYLE = {Phase.FAILED: "red", Phase.VERIFIED: "green", Phase.REQUESTED: "yellow"}


class Progress:
    """Draws a run, anew at each refresh.

    Args:
        now: The time of day, for ages.
    """

    def __init__(self, run: Run, now: Callable[[], datetime]) -> None:
        self._run = run
        self._now = now

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        run, now = self._run, self._now()
        servers = run.servers.values()
        age = duration(now - run.opened_at)
        title = _line(f"{run.id}: {state_word(run, 'this process')}, {age}", "bold")
        figures = Text(headline(run, brief=True))
        targets = self._targets()
        most = max(1, min(_FAILURES, options.size.height // 4))
        failed = [server for server in servers if server.phase is Phase.FAILED]
        failures = [_line(f"failed: {each.label}: {each.reason}", "red") for each in failed[-most:]]
        if len(failed) > most:
            failures.append(_line(f"… and {len(failed) - most} more failed", "red"))
        hint = "Ctrl-C: start nothing more (drain); twice: stop at once"
        end = _line(hint if run.drained is None else "draining; Ctrl-C again: stop at once", "dim")
        ends = [] if run.is_settled else [end]

        # Servers in flight get the lines that are left, one of the screen's being the cursor's own.
        around: list[RenderableType] = [title, figures, targets, *failures, *ends]
        taken = sum(len(console.render_lines(part, options.update(height=None))) for part in around)
        flying = [server for server in servers if server.phase in IN_FLIGHT]
        yield title
        yield figures
        yield targets
        yield from _flying(flying, max(1, options.size.height - taken - 1), now)
        yield from failures
        yield from ends

    def _targets(self) -> Table:
        """Draw the targets: those under way when there are too many."""
        table = Table.grid(padding=(0, 1))
        targets = list(self._run.targets.values())
        first = next((number for number, each in enumerate(targets) if not each.finished), 0)
        start = max(0, min(first - 1, len(targets) - _TARGETS))
        for target in targets[start : start + _TARGETS]:
            settled = sum(target.phases[phase] for phase in (Phase.VERIFIED, Phase.FAILED, Phase.SKIPPED))
            where = "finished" if target.finished else f"wave {target.current + 1}/{len(target.waves)}"
            colour = "red" if target.failed else "green"
            table.add_row(
                _line(target.name),
                ProgressBar(
                    total=max(1, target.size),
                    completed=settled,
                    width=24,
                    complete_style=colour,
                    finished_style=colour,
                ),
                f"{settled}/{target.size}",
                where,
            )
        return table


def _flying(servers: list[ServerState], room: int, now: datetime) -> Iterator[RenderableType]:
    if not servers:
        return
    shown = servers if len(servers) <= room else servers[: room - 1]
    table = Table.grid(padding=(0, 2))
    for server in shown:
        words = f"{server.phase} (in doubt)" if server.phase is Phase.REQUESTED else str(server.phase)
        age = duration(now - server.since) if server.since else ""
        table.add_row(_line(f"  {server.label}"), _line(words, _STYLE.get(server.phase, "cyan")), age)
    if shown:
        yield table
    if len(shown) < len(servers):
        more = f"  … and {len(servers) - len(shown)} more in flight" if shown else _counts(servers)
        yield _line(more, "dim")


def _counts(servers: list[ServerState]) -> str:
    return f"  {len(servers)} in flight"


def _line(text: str, style: str = "") -> Text:
    """Return one line, cut where the screen ends; names come from outside, so controls are taken out."""
    plain = "".join(char if char.isprintable() else "?" for char in redact(text))
    return Text(plain, style=style, no_wrap=True, overflow="ellipsis")


class _Lenient:
    """Standard error for the display: a terminal that has gone away must not end the run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.encoding = stream.encoding

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()


@contextmanager
def shown(run: Run, now: Callable[[], datetime]) -> Iterator[None]:
    """Show *run* on standard error while the block runs."""
    console = Console(file=cast("TextIO", _Lenient(sys.stderr)))
    progress = Progress(run, now)
    with Live(progress, console=console, refresh_per_second=4, redirect_stdout=False):
        yield
