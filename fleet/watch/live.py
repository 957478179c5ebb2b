"""What pages have to be told of a run: worked out once for all of them, and only what has changed.

A page is made of pieces (``report/pages/parts.html.j2``), and of a row for each server. Every piece is kept
with the look and with the journal's line at which it last changed. A page that is connected is told by
looks; one that comes back after a pause names the last line that it has seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fleet.core.rollout import approval_awaited
from fleet.core.state import Run
from fleet.errors import JournalError
from fleet.journal import Entry
from fleet.report.follow import Follower
from fleet.report.metrics import metrics_text
from fleet.report.page import Row, View, environment
from fleet.report.status import Seen
from fleet.report.timeline import Teller, Timeline
from fleet.runs import is_locked

PAUSE_S = 1.0
"""Between two looks at least: whatever happens meanwhile is told together."""

_SHARE = 10
"""A look of a large run takes longer, and is followed by a pause so many times as long."""

_LONGEST_S = 5.0
"""The longest pause: a page that hears nothing for twice as long says that it may be old."""

_CLOCK_S = 30.0
"""How often a run is drawn anew in which nothing happens: windows open and close by the clock."""

_AHEAD = timedelta(minutes=2)
"""How far the axis looks ahead at least; a quarter of the time so far, if that is more."""

PARTS = ("summary", "causes", "waiting", "nights", "down", "legend", "times", "notes")


@dataclass(slots=True)
class _Kept:
    """A piece of the page, and when it last changed."""

    text: str
    look: int
    seq: int


class Live:
    """A run, as its pages show it.

    Args:
        journal: Of the run.
        clean: Takes secrets and control characters out of a text.

    Attributes:
        seen: Durations of earlier runs of the plan; None: they are not known.
        name: What the command line finds the run by.
        looks: How often something was found to be told.
        broken: Why the journal cannot be read any more, or None.
        pause_s: How long to wait before the next look.

    Raises:
        JournalError: The journal cannot be read.
    """

    def __init__(self, journal: Path, *, clean: Callable[[str], str]) -> None:
        self.journal = journal
        self.name = str(journal)
        self.looks = 0
        self.broken: str | None = None
        self.pause_s = PAUSE_S
        self._clean = clean
        self.seen: Seen | None = None
        self._timelines: list[Timeline] = []
        self._follower = Follower(journal, watch=self._opened)
        self._worked_on = self._worked_before = is_locked(journal)
        self._drawn = -1
        self._drawn_at = self._now = datetime.min.replace(tzinfo=UTC)
        self._horizon: datetime | None = None
        self._view: View | None = None
        self._keys: dict[int, tuple[object, ...]] = {}
        self._ways: dict[int, _Kept] = {}
        self._words: dict[int, _Kept] = {}
        self._heads: dict[int, _Kept] = {}
        self._parts: dict[str, _Kept] = {}
        self._axis: _Kept | None = None
        self._wave_of: dict[int, int] = {}
        self._parts_html = environment().get_template("parts.html.j2").module

    def _opened(self, run: Run) -> Callable[[Entry], None]:
        self._timelines.append(Timeline(run))
        return Teller(self._timelines[0]).entry

    @property
    def seq(self) -> int:
        """The journal's last line that was read."""
        return self._follower.tail.seq

    @property
    def run(self) -> Run:
        """The run."""
        return self._follower.run

    @property
    def view(self) -> View:
        """What was drawn last; `look` first."""
        assert self._view is not None  # noqa: S101 - `look` makes it
        return self._view

    def metrics(self, now: datetime) -> str:
        """Return the run's metrics: counts and times, no server's name."""
        self._follower.read()
        return self._clean(metrics_text(self.run, now=now, worked_on=is_locked(self.journal)))

    def look(self, now: datetime) -> None:
        """Read what is new, and work out what has changed on the page."""
        self._now = now
        if self.broken is not None:
            return
        began = time.monotonic()
        try:
            self._follower.read()
        except JournalError as error:
            self.broken = self._clean(str(error.message))
            return
        found = is_locked(self.journal)
        # An order to a run at rest locks it for a moment: seen once is no process that works on it.
        stirred = found != self._worked_on and found == self._worked_before
        self._worked_before = found
        if stirred:
            self._worked_on = found
        passed = self._horizon is not None and now >= self._horizon
        waited = self._view is None or (now - self._drawn_at).total_seconds() >= _CLOCK_S
        if self.seq != self._drawn or stirred or passed or waited:
            self._draw(now)
            self.pause_s = min(max(PAUSE_S, _SHARE * (time.monotonic() - began)), _LONGEST_S)

    def _draw(self, now: datetime) -> None:
        (timeline,) = self._timelines
        if self._worked_on is None or self.run.is_settled:
            self._horizon = None
        elif self._horizon is None or now >= self._horizon:
            self._horizon = now + max(_AHEAD, (now - timeline.lives[-1].begin) / 4)
        view = View(
            timeline,
            worked_on=self._worked_on,
            now=now,
            name=self.name,
            horizon=self._horizon or self.run.last_at,
            seen=self.seen,
        )
        self._view, self._drawn, self._drawn_at = view, self.seq, now
        self.looks += 1
        self._axis = self._keep(self._axis, view.axis.as_json())
        for name in PARTS:
            self._parts[name] = self._keep(self._parts.get(name), self._made(name, view))
        for number, wave in enumerate(view.waves):
            self._heads[number] = self._keep(self._heads.get(number), self._made("wave_head", wave))
            self._wave_of.update((row.index, number) for row in wave.rows)
        for row in view.rows:
            if self._keys.get(row.index) != (key := _key(row)):
                self._keys[row.index] = key
                way = self._made("way_row", row) if row.bars else ""
                self._ways[row.index] = self._keep(self._ways.get(row.index), way)
                words = self._made("words_row", row)
                self._words[row.index] = self._keep(self._words.get(row.index), words)

    def _made(self, piece: str, of: object) -> str:
        return self._clean(str(getattr(self._parts_html, piece)(of))).strip()

    def _keep(self, before: _Kept | None, text: str) -> _Kept:
        """Keep a piece. What was there from the first is on every page: line 0."""
        if before is None:
            return _Kept(text, self.looks, 0)
        return before if before.text == text else _Kept(text, self.looks, self.seq)

    def message(self, look: int | None, seq: int) -> dict[str, Any]:
        """Return what has changed since a look; for a page that comes back (None), since a line."""

        def is_new(kept: _Kept) -> bool:
            return kept.look > look if look is not None else kept.seq >= seq

        view, found = self.view, self._pulse()
        if look == self.looks:
            return found
        found["state"] = self._state()
        found["parts"] = {
            name: kept.text for name, kept in self._parts.items() if look is None or is_new(kept)
        }
        found["heads"] = [[number, kept.text] for number, kept in self._heads.items() if is_new(kept)]
        everybody = self._axis is not None and is_new(self._axis)
        if self._axis is not None and everybody:
            found["nights"] = self._axis.text
            found["waves"] = self._made("waves", view)
        rows: dict[int, list[str | None]] = {}
        for index, kept in self._new(self._ways, is_new) if not everybody else ():
            rows.setdefault(index, [None, None])[0] = kept.text
        for index, kept in self._new(self._words, is_new):
            rows.setdefault(index, [None, None])[1] = kept.text
        found["rows"] = [[self._wave_of.get(index), index, *row] for index, row in rows.items()]
        return found

    @staticmethod
    def _new(kept: dict[int, _Kept], is_new: Callable[[_Kept], bool]) -> Iterable[tuple[int, _Kept]]:
        return ((index, each) for index, each in kept.items() if is_new(each))

    def _pulse(self) -> dict[str, Any]:
        """Return what every page is told at every look, or it would not know that it is still told."""
        until = self._now if self._worked_on else self.run.last_at
        return {"now": round(self.view.axis.at(until) * 100, 3), "broken": self.broken}

    def _state(self) -> dict[str, Any]:
        """Return what a page announces and whom it lets give which order."""
        run, document = self.run, self.view.document
        awaited = approval_awaited(run)
        no: dict[str, str] = {}
        if run.is_settled:
            no = dict.fromkeys(("hold", "release", "drain", "approve"), "the run is finished")
        else:
            if run.held is not None:
                no["hold"] = "the run is held already"
            elif not run.groups_held:
                no["release"] = "the run is not held"
            if self._worked_on is None:
                no["drain"] = "no process works on the run"
            elif run.drained is not None:
                no["drain"] = "the run drains already"
            if awaited is None:
                no["approve"] = "no wave waits for approval"
        held = f"held: {run.held}" if run.held is not None else ""
        figures = document["figures"]
        return {
            "word": self._clean(document["state"]),
            "held": self._clean(held),
            "figures": figures,
            "awaits": None if awaited is None else {"target": awaited[0], "wave": awaited[1]},
            "no": no,
            "title": f"{figures['verified']}/{figures['selected']}"
            + (f", {figures['failed']} failed" if figures["failed"] else "")
            + (", held" if held else ""),
        }

    def page(self, template: str, **more: object) -> str:
        """Return a whole page of what was drawn last."""
        made = environment().get_template(template)
        return self._clean(
            made.render(v=self.view, seq=self.seq, pulse=self._pulse(), state=self._state(), **more)
        )


def _key(row: Row) -> tuple[object, ...]:
    """Return all that a server's two rows show."""
    server = row.server
    shown = ("reason", "code", "attempts", "system_disk_before", "system_disk", "in_doubt")
    return (row.phase, row.bars, row.words, *(server[each] for each in shown))
