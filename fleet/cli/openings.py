"""The next openings of a plan's windows, and which of them somebody meets who starts it: cron, or a timer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fleet import starters
from fleet.core.windows import Span, spell
from fleet.doctor import Doctor
from fleet.starters import Starter

STEP = "starts"
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Opening:
    """An opening.

    Attributes:
        span: When.
        starts: Who starts the plan in it, and when first; the first one first.
        known: Somebody starts the plan at some time, so an opening without a start is a gap.
    """

    span: Span
    starts: tuple[tuple[Starter, datetime], ...] = ()
    known: bool = False

    def lines(self) -> Iterator[str]:
        """Say it: in the window's own time zone, in UTC, and who meets it."""
        span = self.span
        start, end = span.start.astimezone(UTC), span.end.astimezone(UTC)
        yield (
            f"  {spell(span.start)} to {spell(span.end)}"
            f"  ({start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC, {_length(span.length)})"
        )
        if not self.known:
            return
        if not self.starts:
            yield "      nobody starts it"
            return
        starter, first = self.starts[0]
        left = _length(span.end.astimezone(UTC) - first.astimezone(UTC))
        yield f"      {starter.place} starts it {first:%H:%M %Z}, {left} before it closes"

    def as_data(self) -> dict[str, object]:
        """Return it for JSON."""
        return {
            "start": self.span.start.isoformat(),
            "end": self.span.end.isoformat(),
            "start_utc": self.span.start.astimezone(UTC).isoformat(),
            "end_utc": self.span.end.astimezone(UTC).isoformat(),
            "met": bool(self.starts) if self.known else None,
            "starts": [
                {"by": starter.place, "schedule": starter.words, "first": first.isoformat()}
                for starter, first in self.starts
            ],
        }


def meet(
    found: Doctor, spans: Sequence[Span], plan: Path, name: str, given: Sequence[str], now: datetime
) -> list[Opening]:
    """Note who starts a plan, and whether its openings are met; return them.

    Args:
        found: Is told.
        spans: The openings.
        plan: The plan's file.
        name: Its name.
        given: Expressions of cron that count instead of what this machine has.
        now: The time of day: of an opening that is open already, what is left of it counts.

    Raises:
        ValueError: An expression is not understood.
    """
    if given:
        who = starters.Found(tuple(starters.given(each) for each in given), ("--cron",), ())
    else:
        who = starters.find(plan, name)
    for odd in who.odd:
        found.odd(STEP, odd)
    if not who.starters:
        looked = ", ".join(who.looked[:_SHOWN]) + (", …" if len(who.looked) > _SHOWN else "")
        found.untried(
            STEP,
            f"nothing that can be read here starts this plan ({looked or 'no crontab, no systemd'})",
            "--cron '0 22 * * *' tells who does, where that is another machine, user or script",
        )
        return [Opening(span) for span in spans]
    openings = [Opening(span, tuple(_starts(who.starters, span, now)), known=True) for span in spans]
    for starter in who.starters:
        met = sum(any(each == starter for each, _ in opening.starts) for opening in openings)
        zone = getattr(starter.zone, "key", None) or "local time"
        found.well(STEP, f"{starter.place}: {starter.words} ({zone}) meets {met} of the next {len(spans)}")
    if missed := [opening.span for opening in openings if not opening.starts]:
        found.odd(
            STEP,
            f"nobody starts it in {len(missed)} of the next {len(spans)} openings: "
            + ", ".join(spell(span.start) for span in missed),
            "start it more often: outside its windows `fleet run` ends at once and asks for nothing",
        )
    return openings


def _starts(who: Sequence[Starter], span: Span, now: datetime) -> Iterator[tuple[Starter, datetime]]:
    left = Span(max(span.start, now.astimezone(span.start.tzinfo)), span.end)
    firsts = [(starter, first) for starter in who if (first := starter.first(left)) is not None]
    yield from sorted(firsts, key=lambda each: each[1].astimezone(UTC))


def _length(length: timedelta) -> str:
    hours, rest = divmod(int(length.total_seconds()), 3600)
    minutes = f"{rest // 60} min" if rest >= 60 else ""
    return f"{hours} h {minutes}".strip() if hours else minutes or "seconds"
