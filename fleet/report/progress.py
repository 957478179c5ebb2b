"""The live display on a terminal: what is in flight, how far it is, what failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fleet.core.state import IN_FLIGHT, Phase, Run
from fleet.report.status import duration, headline, state_word

_ROWS = 12
_FAILURES = 5
_STYLE = {Phase.FAILED: "red", Phase.VERIFIED: "green", Phase.REQUESTED: "yellow"}


class Progress:
    """Draws a run, anew at each refresh.

    Args:
        now: The time of day, for ages.
    """

    def __init__(self, run: Run, now: Callable[[], datetime]) -> None:
        self._run = run
        self._now = now

    def __rich__(self) -> RenderableType:
        run, now = self._run, self._now()
        parts: list[RenderableType] = [
            Text(
                f"{run.id}: {state_word(run, 'this process')}, {duration(now - run.opened_at)}", style="bold"
            ),
            Text(headline(run)),
            self._targets(),
        ]
        flying = [server for server in run.servers.values() if server.phase in IN_FLIGHT]
        if flying:
            parts.append(self._flying(now))
        if len(flying) > _ROWS:
            parts.append(Text(f"… and {len(flying) - _ROWS} more in flight", style="dim"))
        failed = [server for server in run.servers.values() if server.phase is Phase.FAILED]
        parts += [Text(f"failed: {each.label}: {each.reason}", style="red") for each in failed[-_FAILURES:]]
        if len(failed) > _FAILURES:
            parts.append(Text(f"… and {len(failed) - _FAILURES} more failed", style="red"))
        hint = "Ctrl-C: start nothing more (drain); twice: stop at once"
        parts.append(
            Text(hint if run.drained is None else "draining; Ctrl-C again: stop at once", style="dim")
        )
        return Group(*parts)

    def _targets(self) -> Table:
        table = Table.grid(padding=(0, 1))
        for target in self._run.targets.values():
            settled = sum(target.phases[phase] for phase in (Phase.VERIFIED, Phase.FAILED, Phase.SKIPPED))
            where = "finished" if target.finished else f"wave {target.current + 1}/{len(target.waves)}"
            colour = "red" if target.failed else "green"
            table.add_row(
                target.name,
                ProgressBar(total=max(1, target.size), completed=settled, width=24, complete_style=colour),
                f"{settled}/{target.size}",
                where,
            )
        return table

    def _flying(self, now: datetime) -> Table:
        table = Table.grid(padding=(0, 2))
        shown = 0
        for server in self._run.servers.values():
            if server.phase not in IN_FLIGHT:
                continue
            if shown == _ROWS:
                break
            shown += 1
            words = f"{server.phase} (in doubt)" if server.phase is Phase.REQUESTED else str(server.phase)
            age = duration(now - server.since) if server.since else ""
            table.add_row(f"  {server.label}", Text(words, style=_STYLE.get(server.phase, "cyan")), age)
        return table


@contextmanager
def shown(run: Run, now: Callable[[], datetime]) -> Iterator[None]:
    """Show *run* on standard error while the block runs."""
    console = Console(stderr=True)
    with Live(Progress(run, now), console=console, refresh_per_second=4, redirect_stdout=False):
        yield
