"""A run as one HTML page that needs no network: figures, nights, who was down when, every server's way.

Names and reasons are foreign text: the template escapes all of it, and the page's own policy forbids
everything but its own style and script.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from fleet import __version__
from fleet.report.document import SHARES, as_document, causes_of, out_limit, out_series, waiting_by_reason
from fleet.report.figures import rows_amount_to
from fleet.report.status import duration
from fleet.report.tables import stamp
from fleet.report.timeline import Span, Timeline

_BREAK = 0.02
"""Share of the axis that a pause takes in which no process worked on the run, however long it was."""

_SHORTEST_PAUSE = timedelta(minutes=10)
_OPEN_ROWS = 300
"""Up to so many servers every wave is unfolded; beyond, those in which something is left to see."""


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


def as_html(timeline: Timeline, *, worked_on: str | None, now: datetime, name: str) -> str:
    """Return the page."""
    run = timeline.run
    document = as_document(timeline, worked_on=worked_on, now=now, name=name)
    until = now if worked_on else run.last_at
    axis = Axis(
        [(life.begin, life.end) for life in timeline.lives[:-1]] + [(timeline.lives[-1].begin, until)]
    )
    environment = Environment(
        loader=PackageLoader("fleet.report", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "stamp": stamp,
        "seconds": lambda seconds: duration(timedelta(seconds=seconds)),
        "clock": lambda moment: f"{moment:%Y-%m-%d %H:%M}",
    }
    return environment.get_template("report.html.j2").render(
        document=document,
        run=run,
        timeline=timeline,
        version=__version__,
        axis=axis,
        chart=_chart(timeline, axis),
        waves=_waves(document, timeline, axis, until),
        causes=causes_of(run),
        waiting=waiting_by_reason(run, now),
        shares=SHARES,
        phases=[each["phase"] for each in document["phases"]],
    )


def _chart(timeline: Timeline, axis: Axis) -> dict[str, Any] | None:
    """Return the steps of "servers out of service" in a box of 1,000 by 160, with its limit and its scale."""
    series = list(out_series(timeline))
    if not series:
        return None
    limit = out_limit(timeline.run)
    top = max(timeline.most_out(), limit or 0, 1)
    top = math.ceil(top * 1.1)

    def height(number: float) -> float:
        return round(160 - 150 * number / top, 1)

    path, before = [f"M0 {height(0)}"], 0
    for at, number in series:
        path.append(f"H{axis.at(at) * 1000:.1f}V{height(number)}")
        before = number
    path.append("H1000" if before else "")
    return {
        "path": "".join(path),
        "limit": limit,
        "limit_y": None if limit is None else height(limit),
        "top": top,
        "base": height(0),
        "marks": [(number, height(number)) for number in sorted({0, timeline.most_out()})],
    }


def _waves(document: dict[str, Any], timeline: Timeline, axis: Axis, until: datetime) -> list[dict[str, Any]]:
    """Return rows of bars, wave by wave. Places are percent of the axis."""
    waves: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in document["servers"]:
        waves.setdefault((row["target"], row["wave"]), []).append(row)
    rows_amount_to(document["figures"], (row["phase"] for rows in waves.values() for row in rows))
    few = len(document["servers"]) <= _OPEN_ROWS
    found = []
    for (target, number), rows in waves.items():
        untouched = sum(row["phase"] == "waiting" for row in rows)
        verified = sum(row["phase"] == "verified" for row in rows)
        begun = [row for row in rows if timeline.spans.get(row["id"])]
        found.append(
            {
                "title": f"{target}, wave {number} of {len(timeline.run.targets[target].waves)}",
                "count": len(rows),
                "verified": verified,
                "untouched": untouched,
                "open": few or verified + untouched < len(rows),
                "rows": [
                    {
                        "name": row["name"] or row["id"],
                        "phase": row["phase"],
                        "words": _words(row, timeline.spans[row["id"]], until),
                        "bars": [_bar(span, axis, until) for span in timeline.spans[row["id"]]],
                    }
                    for row in begun
                ],
            }
        )
    return found


def _bar(span: Span, axis: Axis, until: datetime) -> dict[str, str]:
    left, right = axis.at(span.begin), axis.at(span.end or until)
    return {
        "phase": str(span.phase),
        "left": f"{left * 100:.2f}",
        "width": f"{max(right - left, 0.0005) * 100:.2f}",
    }


def _words(row: dict[str, Any], spans: list[Span], until: datetime) -> str:
    """Return a row's tooltip: the same as its bars, to be read."""
    told = ", ".join(f"{span.phase} {duration((span.end or until) - span.begin)}" for span in spans)
    return f"{row['name'] or row['id']}: {told}; {row['phase']}" + (
        f" ({row['reason']})" if row["reason"] else ""
    )
