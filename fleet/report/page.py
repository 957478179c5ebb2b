"""A run as one HTML page that needs no network: figures, nights, who was down when, every server's way.

`View` is what a page shows; the pieces in ``pages/parts.html.j2`` show it, here and in `fleet.watch`.

Names and reasons are foreign text: the template escapes all of it, and the page's own policy forbids
everything but its own style and script.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined

from fleet import __version__
from fleet.core.settling import settling
from fleet.report.document import SHARES, as_document, causes_of, out_limit, out_series, waiting_by_reason
from fleet.report.figures import rows_amount_to
from fleet.report.status import Seen, duration
from fleet.report.tables import stamp
from fleet.report.timeline import Span, Timeline

_BREAK = 0.02
"""Share of the axis that a pause takes in which no process worked on the run, however long it was."""

_SHORTEST_PAUSE = timedelta(minutes=10)
_OPEN_ROWS = 300
"""Up to so many servers every wave is unfolded; beyond, those in which something is left to see."""

_BRIEF_ROWS = 100
"""A wave of more servers shows those that need a look; the verified ones when asked for."""

_COLUMNS = 1000
"""Steps of the chart that a screen can tell apart."""


@dataclass(frozen=True, slots=True)
class _Piece:
    begin: datetime
    end: datetime
    left: float
    width: float


class Axis:
    """Time from left (0) to right (1): nights to scale, the pauses between them cut short.

    Args:
        worked: Begin and end of every process's work, in order.
    """

    def __init__(self, worked: list[tuple[datetime, datetime]]) -> None:
        nights: list[tuple[datetime, datetime]] = []
        for begin, end in worked:
            if nights and begin - nights[-1][1] < _SHORTEST_PAUSE:
                nights[-1] = (nights[-1][0], max(end, nights[-1][1]))
            else:
                nights.append((begin, end))
        total = sum((end - begin).total_seconds() for begin, end in nights) or 1.0
        room = max(0.3, 1.0 - _BREAK * (len(nights) - 1))
        pause = (1.0 - room) / max(1, len(nights) - 1)
        self.nights: list[_Piece] = []
        left = 0.0
        for begin, end in nights:
            width = room * ((end - begin).total_seconds() / total if total else 1.0)
            self.nights.append(_Piece(begin, end, left, width))
            left += width + pause
        self._begins = [piece.begin for piece in self.nights]

    def as_json(self) -> str:
        """Return the nights for the page's script: seconds, and percent of the axis."""
        return msgspec.json.encode(
            [
                {
                    "begin": piece.begin.timestamp(), "end": piece.end.timestamp(),
                    "left": round(piece.left * 100, 4), "width": round(piece.width * 100, 4),
                }
                for piece in self.nights
            ]
        ).decode()  # fmt: skip

    def at(self, moment: datetime) -> float:
        """Return where *moment* is, from 0 to 1; a moment in a pause is where the pause begins to end."""
        index = bisect_right(self._begins, moment) - 1
        if index < 0:
            return 0.0
        piece = self.nights[index]
        length = (piece.end - piece.begin).total_seconds()
        if moment <= piece.end:
            return piece.left + piece.width * (
                (moment - piece.begin).total_seconds() / length if length else 0.0
            )
        if index + 1 == len(self.nights):
            return 1.0
        following = self.nights[index + 1]
        share = (moment - piece.end) / (following.begin - piece.end)
        right = piece.left + piece.width
        return right + (following.left - right) * share


@dataclass(frozen=True, slots=True)
class Bar:
    """A stay in a phase. Places are percent of the axis; *open*: the server is still there."""

    phase: str
    left: str
    width: str
    open: bool


@dataclass(frozen=True, slots=True)
class Row:
    """A server.

    Attributes:
        index: Its number in the order of the rollout.
        server: As `fleet.report.status.as_data` tells it.
        words: Its way in words.
    """

    index: int
    name: str
    phase: str
    server: dict[str, Any]
    words: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Wave:
    """A wave of a target, with rows for those that were begun."""

    title: str
    count: int
    verified: int
    failed: int
    untouched: int
    open: bool
    brief: bool
    rows: tuple[Row, ...]


class View:
    """What a page shows of a run.

    Args:
        timeline: The run and its story.
        worked_on: Who works on it, or None.
        now: UTC.
        name: What the command line finds the run by.
        horizon: Where the axis ends; None: now, or with the last event of a run nobody works on. A live
            page looks further ahead, or every bar would move with every second.
        seen: Durations of earlier runs of the plan; None: they are not known.
    """

    def __init__(
        self,
        timeline: Timeline,
        *,
        worked_on: str | None,
        now: datetime,
        name: str,
        horizon: datetime | None = None,
        seen: Seen | None = None,
    ) -> None:
        self.timeline = timeline
        self.run = timeline.run
        self.is_live = horizon is not None
        self.shares = SHARES
        self.document = as_document(timeline, worked_on=worked_on, now=now, name=name, seen=seen)
        self.until = max(now, self.run.last_at) if worked_on else self.run.last_at
        end = max(horizon or self.until, self.until)
        self.axis = Axis(
            [(life.begin, life.end) for life in timeline.lives[:-1]] + [(timeline.lives[-1].begin, end)]
        )
        self.chart = _chart(timeline, self.axis, self.axis.at(self.until))
        self.causes = causes_of(self.run, name)
        stopped = worked_on is not None and (self.run.held is not None or self.run.drained is not None)
        settles = stopped and self.run.in_flight > 0
        self.settles = settling(self.run, now, seen or ()).words(now) if settles else ""
        self.waiting = waiting_by_reason(self.run, now, worked_on, seen)
        self.rows = [self._row(index, server) for index, server in enumerate(self.document["servers"])]
        self.waves = self._waves()

    def _row(self, index: int, server: dict[str, Any]) -> Row:
        spans = self.timeline.spans.get(server["id"], [])
        if self.is_live and server["phase"] == "waiting":
            # What they wait for changes for a thousand at once, with every server that gets on.
            server = server | {"reason": "why: see Never touched"}
        return Row(
            index=index,
            name=server["name"] or server["id"],
            phase=server["phase"],
            server=server,
            words=", ".join(_words(span) for span in spans if span.end is None or _is_long(span)),
            bars=tuple(self._bar(span) for span in spans),
        )

    def _bar(self, span: Span) -> Bar:
        left = self.axis.at(span.begin)
        if span.end is None:  # it reaches to --now, which moves
            return Bar(str(span.phase), f"{left * 100:.3f}", "0", open=True)
        return Bar(
            str(span.phase),
            f"{left * 100:.3f}",
            f"{max(self.axis.at(span.end) - left, 0.0) * 100:.3f}",
            open=False,
        )

    def _waves(self) -> list[Wave]:
        """Return rows by wave."""
        waves: dict[tuple[str, int], list[Row]] = {}
        for row in self.rows:
            waves.setdefault((row.server["target"], row.server["wave"]), []).append(row)
        rows_amount_to(self.document["figures"], (row.phase for rows in waves.values() for row in rows))
        few = len(self.rows) <= _OPEN_ROWS
        found = []
        for (target, number), rows in waves.items():
            untouched = sum(row.phase == "waiting" for row in rows)
            verified = sum(row.phase == "verified" for row in rows)
            found.append(
                Wave(
                    title=f"{target}, wave {number} of {len(self.run.targets[target].waves)}",
                    count=len(rows),
                    verified=verified,
                    failed=sum(row.phase == "failed" for row in rows),
                    untouched=untouched,
                    open=few or verified + untouched < len(rows),
                    brief=not few and len(rows) > _BRIEF_ROWS,
                    rows=tuple(row for row in rows if row.bars),
                )
            )
        return found


def as_html(
    timeline: Timeline, *, worked_on: str | None, now: datetime, name: str, seen: Seen | None = None
) -> str:
    """Return the page."""
    view = View(timeline, worked_on=worked_on, now=now, name=name, seen=seen)
    return environment().get_template("report.html.j2").render(v=view, version=__version__)


@cache
def environment() -> Environment:
    """Return the templates. Whatever is put into them is escaped."""
    made = Environment(
        loader=PackageLoader("fleet.report", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "stamp": stamp,
        "seconds": lambda seconds: duration(timedelta(seconds=seconds)),
        "clock": lambda moment: f"{moment:%Y-%m-%d %H:%M}",
    }
    return made


def _chart(timeline: Timeline, axis: Axis, end: float) -> dict[str, Any] | None:
    """Return the steps of "servers out of service" in a box of 1,000 by 160, with its limit and its scale."""
    series = list(out_series(timeline))
    if not series:
        return None
    limit = out_limit(timeline.run)
    most = timeline.most_out()
    top = math.ceil(max(most, limit or 0, 1) * 1.1)

    def height(number: float) -> float:
        return round(160 - 150 * number / top, 1)

    # Of all the steps in a column the highest is drawn, and the last: no peak is lost.
    columns: dict[int, tuple[float, int, int]] = {}
    for at, number in series:
        x = axis.at(at) * 1000
        first, highest, _ = columns.get(int(x * _COLUMNS / 1000), (x, number, number))
        columns[int(x * _COLUMNS / 1000)] = (first, max(highest, number), number)
    path, last = [f"M0 {height(0)}"], 0
    for x, highest, last in columns.values():
        path.append(f"H{x:.1f}V{height(highest)}" + (f"V{height(last)}" if last != highest else ""))
    path.append(f"H{end * 1000:.1f}" if last else "")
    line = "".join(path)
    return {
        "path": line,
        "area": f"{line}V{height(0)}Z",
        "limit": limit,
        "limit_y": None if limit is None else height(limit),
        "present": last,
        "marks": [(number, height(number)) for number in sorted({0, most})],
    }


def _is_long(span: Span) -> bool:
    return span.end is not None and (span.end - span.begin).total_seconds() >= 0.5


def _words(span: Span) -> str:
    if span.end is None:
        return f"{span.phase} since {span.begin:%H:%M:%S}"
    return f"{span.phase} {duration(span.end - span.begin)}"
