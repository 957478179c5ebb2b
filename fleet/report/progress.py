"""The live display on a terminal: one glance at a run, drawn so that it fits the screen.

``docs/terminal.md`` says what each line means. What needs a person comes first, what changes all the time
last, so that nothing above it jumps. Every list has a first line that says enough by itself, for screens on
which there is no room for more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from fleet.core.state import Phase
from fleet.report.glance import Flying, Glance, TargetRow
from fleet.report.status import duration
from fleet.secrets import redact

WIDE, MEDIUM = 76, 50
"""Columns from which on there is room for whole sentences, and for a short bar."""

LOW = 12
"""Lines below which there is no room to say what keys do."""

_LABEL = 32
_LINES = 3
_FEW = 5
"""Finished targets that may stand before the one that is worked on."""

_STYLE = {Phase.VERIFIED: "green", Phase.REQUESTED: "yellow"}


@dataclass(slots=True)
class _Part:
    """A list with a first line.

    Attributes:
        head: Says enough by itself when nothing else is shown.
        rows: What follows, as far as there is room.
        total: How many there really are; rows may have been cut already.
    """

    head: Text
    rows: Sequence[Text] = ()
    total: int = 0
    lines: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.total = max(self.total, len(self.rows))

    @property
    def wants(self) -> int:
        """Lines with all rows."""
        return 1 + len(self.rows) + (self.total > len(self.rows))

    def drawn(self) -> Iterable[Text]:
        """Yield as many lines as it was given."""
        yield self.head
        room = self.lines - 1
        whole = self.total == len(self.rows) <= room
        shown = self.rows[: room if whole or room < 2 else room - 1]
        yield from shown
        if room >= 2 and not whole:
            yield _line(f"  … and {self.total - len(shown)} more", "dim")


class Progress:
    """Draws a glance.

    Args:
        glance: What there is to see.
        hint: The line that says what keys do; empty: there is none.
    """

    def __init__(self, glance: Glance, hint: str = "") -> None:
        self._glance = glance
        self._hint = hint

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = options.max_width, options.size.height
        top = list(self._top(console, width, low=height < LOW))
        parts = self._parts(width, ascii_only=options.ascii_only)
        _share(parts, height - 1 - len(top))  # the last line is the cursor's
        yield from top[: max(1, height - 1)]
        for part in parts:
            if part.lines:
                yield from part.drawn()

    def _top(self, console: Console, width: int, *, low: bool) -> Iterable[Text]:
        """Yield what is said on every screen: who, where everybody is, when it ends, how fast it asks."""
        see = self._glance
        yield from _wrapped(f"{see.run}, {duration(see.age)}: {see.state}", console, width, "bold")
        yield from _wrapped(see.figures, console, width)
        said = [each for each in (see.ends, see.rate.words() if see.rate else "") if each]
        if sum(map(len, said)) + 3 <= width:
            said = [" · ".join(said)] if said else []
        yield from (_line(each, "cyan") for each in said)
        if see.next is not None:
            yield from _wrapped(f"next: {see.next}", console, width, "yellow")
        if self._hint and not low:
            yield _line(self._hint, "dim")
        yield from (_line(each, "yellow") for each in see.notes)

    def _parts(self, width: int, *, ascii_only: bool) -> list[_Part]:
        """Return the lists in the order in which they are drawn."""
        found = [self._owed(), self._targets(width, ascii_only=ascii_only), self._failed(), self._waiting()]
        found.append(self._flying(width))
        return [part for part in found if part is not None]

    def _owed(self) -> _Part | None:
        see = self._glance
        if not see.owing:
            return None
        head = _line(f"owed to {_servers(see.owing)}, and not paid: {see.owed[0]}", "yellow")
        if see.owing == 1:
            return _Part(head)
        head = _line(f"owed to {_servers(see.owing)}, and not paid:", "yellow")
        return _Part(head, [_line(f"  {each}", "yellow") for each in see.owed], see.owing)

    def _targets(self, width: int, *, ascii_only: bool) -> _Part:
        """Draw the targets, the first unfinished one first where there is no room for all."""
        see = self._glance
        cells = [_cells(row, width) for row in see.targets]
        sizes = [max(cell_len(row[place]) for row in cells) for place in range(3)]
        sizes[0] = min(sizes[0], _LABEL, width // 3)
        bar = 24 if width >= WIDE else 10 if width >= MEDIUM else 0
        lines = []
        for row, (name, count, wave) in zip(see.targets, cells, strict=True):
            line = _line(f"{set_cell_size(name, sizes[0])} ")
            if bar:
                line.append_text(_bar(row, bar, ascii_only=ascii_only))
                line.append(" ")
            line.append(f"{count:>{sizes[1]}}  {wave}")
            lines.append(line)
        first = next((number for number, row in enumerate(see.targets) if row.settled < row.size), 0)
        if len(lines) == 1:
            return _Part(lines[0])
        order = [*lines[first:], *lines[:first]]
        over = sum(row.settled == row.size for row in see.targets)
        return _Part(
            _line(f"{len(lines)} targets, {over} finished"), order if first > 6 else lines, len(lines)
        )

    def _failed(self) -> _Part | None:
        see = self._glance
        if not see.failed:
            return None
        if len(see.failures) == 1:
            return _Part(_line(f"failed: {see.failures[0].words()}", "red"))
        rows = [_line(f"  {each.words()}", "red") for each in see.failures]
        commonest = f", most of them {see.failures[0].cause}" if see.failures else ""
        return _Part(_line(f"{see.failed} failed{commonest}", "red"), rows, len(see.failures))

    def _waiting(self) -> _Part | None:
        see = self._glance
        if not see.waiting:
            return None
        total = sum(see.waiting.values())
        if len(see.waiting) == 1:
            return _Part(_line(f"{total} not started: {next(iter(see.waiting))}"))
        size = len(str(max(see.waiting.values())))
        rows = [_line(f"  {count:>{size}}  {reason}") for reason, count in see.waiting.items()]
        most = max(see.waiting, key=lambda reason: see.waiting[reason])
        return _Part(_line(f"{total} not started, most of them: {most}"), rows)

    def _flying(self, width: int) -> _Part | None:
        see = self._glance
        if not see.in_flight:
            return None
        phases = ", ".join(f"{count} {phase}" for phase, count in see.phases.items())
        late = f"; {see.overdue} overdue" if see.overdue else ""
        label = min(max(cell_len(_plain(row.label)) for row in see.flying), _LABEL, width // 2 - 6)
        rows = [_row(row, label, width) for row in see.flying]
        doubt = f", {see.phases[Phase.REQUESTED]} of them in doubt" if Phase.REQUESTED in see.phases else ""
        return _Part(_line(f"{see.in_flight} in flight{doubt}: {phases}{late}"), rows, see.in_flight)


def _share(parts: list[_Part], room: int) -> None:
    """Give each list its lines: the first one to all, then a fair share, the rest to what is in flight."""
    for part in parts:
        part.lines = int(room > 0)
        room -= part.lines
    if not parts or room <= 0:
        return
    fair = max(2, room // 3)
    for limit in (fair, 10**6):
        for part in parts if limit == fair else (parts[-1], *parts[:-1]):
            more = min(part.wants - part.lines, room, max(0, limit - part.lines))
            part.lines += max(0, more)
            room -= max(0, more)


def _row(row: Flying, label: int, width: int) -> Text:
    """Draw a server in flight, with its age against the usual."""
    style = "red" if row.overdue else _STYLE.get(row.phase, "")
    phase = "in doubt" if row.in_doubt and width < MEDIUM else f"{row.phase}{' (in doubt)' * row.in_doubt}"
    line = _line(f"  {set_cell_size(_plain(row.label), label)} ")
    line.append(f"{phase:<{12 if width < WIDE else 21}} ", style)
    usual = ""
    if row.usual is not None:
        usual = f", usually {duration(row.usual)}" if width >= MEDIUM else f" ({duration(row.usual)})"
    line.append(duration(row.age) + usual + (", overdue" if row.overdue and width >= MEDIUM else ""), style)
    return line


def _cells(row: TargetRow, width: int) -> tuple[str, str, str]:
    wave = row.wave if width >= WIDE else row.short
    return _plain(row.name), f"{row.settled}/{row.size}", wave


def _bar(row: TargetRow, width: int, *, ascii_only: bool) -> Text:
    """Draw how much of a target is settled; what is done and what is not differ without colour too."""
    done = width * row.settled // max(1, row.size)
    full, empty = ("#", ".") if ascii_only else ("━", "─")
    return Text(full * done, style="red" if row.failed else "green").append(empty * (width - done), "dim")


def _wrapped(text: str, console: Console, width: int, style: str = "") -> Iterable[Text]:
    """Return what must be read whole, in as many lines as it takes, three at most."""
    lines = list(Text(_plain(text), style=style).wrap(console, width))
    if len(lines) > _LINES:
        lines[_LINES - 1 :] = [_line(" ".join(line.plain for line in lines[_LINES - 1 :]), style)]
    return lines


def _servers(count: int) -> str:
    return f"{count} server{'s' * (count != 1)}"


def _plain(text: str) -> str:
    """Names and words come from outside, so secrets and controls are taken out."""
    return "".join(char if char.isprintable() else "?" for char in redact(text))


def _line(text: str, style: str = "") -> Text:
    """Return one line, cut where the screen ends."""
    return Text(_plain(text), style=style, no_wrap=True, overflow="ellipsis")


def hint_for(glance: Glance, *, mine: bool) -> str:
    """Return what keys do: in the process at work, or in one that watches it."""
    if not mine:
        return "Ctrl-C: stop watching" + ("; the run goes on" if glance.working else "")
    if glance.settled:
        return ""
    if glance.draining:
        return "draining; Ctrl-C again: stop at once"
    return "Ctrl-C: start nothing more (drain); twice: stop at once"
