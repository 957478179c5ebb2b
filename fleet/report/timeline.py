"""What happened when: every server's phases, the nights, and how many were out of service at each moment.

Read from a journal's entries while they are folded into the run, once and in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from fleet.core import causes
from fleet.core import events as ev
from fleet.core.model import ServerId
from fleet.core.state import IN_FLIGHT, Phase, Run
from fleet.errors import JournalError
from fleet.journal import Entry, Reading, replay


@dataclass(frozen=True, slots=True)
class Span:
    """A server was in *phase* from *begin* to *end*; to None when it still is."""

    phase: Phase
    begin: datetime
    end: datetime | None


@dataclass(slots=True)
class Life:
    """One process that worked on the run: a night, as a rule.

    Attributes:
        end: Its last event. A process that was killed said nothing later.
        last_word: Why it started nothing more, in words; empty when it was cut short.
    """

    begin: datetime
    end: datetime
    host: str
    pid: int
    admitted: int = 0
    verified: int = 0
    failed: int = 0
    last_word: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """Something that was decided, or went wrong, and who did it."""

    at: datetime
    what: str
    server: ServerId | None = None
    by: str = ""


@dataclass(slots=True)
class Timeline:
    """The whole story of a run.

    Attributes:
        spans: By server: its phases from its first admission on. `WAITING` between two goes is left out.
        out: Moments at which the number of servers out of service changed, with the new number, by target.
        events: How many entries the journal has.
    """

    run: Run
    spans: dict[ServerId, list[Span]] = field(default_factory=dict)
    lives: list[Life] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    out: list[tuple[datetime, dict[str, int]]] = field(default_factory=list)
    events: int = 0

    def seconds_in(self, phase: Phase) -> list[float]:
        """Return how long every finished stay in *phase* took."""
        return [
            (span.end - span.begin).total_seconds()
            for spans in self.spans.values()
            for span in spans
            if span.phase is phase and span.end is not None
        ]

    def most_out(self) -> int:
        """Return the highest number of servers out of service at once, over all targets."""
        return max((sum(numbers.values()) for _, numbers in self.out), default=0)


def read_timeline(path: Path) -> Timeline:
    """Read a journal and tell its story. Raises as `fleet.journal.load`."""
    try:
        with path.open("rb") as file:
            return _told(path, Reading(file, path))
    except OSError as error:
        raise JournalError(f"cannot read the journal {path}: {error.strerror or error}") from error


def _told(path: Path, entries: Iterable[Entry]) -> Timeline:
    found: list[Timeline] = []

    def opened(run: Run) -> Callable[[Entry], None]:
        found.append(Timeline(run))
        return Teller(found[0]).entry

    replay(path, entries, watch=opened)
    (timeline,) = found
    return timeline


_AT_REST = (ev.RunReleased, ev.Approved, ev.Retried)
"""What a person may write the morning after: no sign of life of a process."""


class Teller:
    """Follows a run while it is folded: told of every entry after it was applied."""

    def __init__(self, timeline: Timeline) -> None:
        self._story = timeline
        self._phases: dict[ServerId, tuple[Phase, datetime]] = {}
        self._out: dict[str, int] = {}

    def entry(self, entry: Entry) -> None:
        """Take in one entry, folded already."""
        story, run, event, at = self._story, self._story.run, entry.event, entry.at
        story.events += 1
        match event:
            case ev.RunOpened(host=host, pid=pid) | ev.RunResumed(host=host, pid=pid):
                story.lives.append(Life(at, at, host, pid))
            case ev.RunDrained(reason=reason) | ev.RunHeld(reason=reason):
                story.lives[-1].last_word = reason
            case ev.RunFinished():
                story.lives[-1].last_word = "finished"
            case ev.Approved() if not story.lives[-1].last_word and not run.in_flight:
                story.lives[-1].last_word = "waited for approval"
            case ev.Admitted():
                story.lives[-1].admitted += 1
                story.lives[-1].last_word = ""  # released, and its process lived to see it
            case ev.Verified():
                story.lives[-1].verified += 1
            case ev.Failed():
                story.lives[-1].failed += 1
            case _:
                pass
        if not isinstance(event, _AT_REST):
            story.lives[-1].end = at
        story.notes.extend(_notes(event, at))
        if ev.is_of_server(event):
            self._follow(event.server, at)
            self._count_out(run.servers[event.server].member.target, at)

    def _follow(self, server: ServerId, at: datetime) -> None:
        phase = self._story.run.servers[server].phase
        before = self._phases.get(server)
        if before is not None and before[0] is phase:
            return
        spans = self._story.spans.setdefault(server, [])
        if before is not None and before[0] in IN_FLIGHT:
            spans[-1] = Span(before[0], before[1], at)
        self._phases[server] = (phase, at)
        if phase in IN_FLIGHT:
            spans.append(Span(phase, at, None))

    def _count_out(self, target: str, at: datetime) -> None:
        now = self._story.run.targets[target].out
        if self._out.get(target, 0) == now:
            return
        self._out[target] = now
        series = self._story.out
        if series and series[-1][0] == at:
            series[-1] = (at, dict(self._out))
        else:
            series.append((at, dict(self._out)))


_WORDS: dict[type, str] = {
    ev.RunHeld: "held: {event.reason}",
    ev.RunReleased: "released: {event.reason}",
    ev.Approved: "approved after wave {event.wave} of {event.target}: {event.reason}",
    ev.FreezeOverridden: "freeze overridden: {event.reason}",
    ev.Retried: "given another try: {event.reason}",
    ev.Skipped: "skipped: {event.reason}",
    ev.WentBad: "went bad after it was verified: {event.reason}",
    ev.PaceLowered: "{event.target} slowed to {event.concurrency} at once: {event.reason}",
    ev.HookFailed: "hook {event.hook} failed: {event.why}",
    ev.RunDrained: "nothing more started: {event.reason}",
    ev.Paused: "paused: {event.reason}",
    ev.RunResumed: "resumed by process {event.pid} on {event.host}",
}
"""What a person did, or the run decided, in words."""


def _notes(event: ev.Event, at: datetime) -> Iterator[Note]:
    server, by = getattr(event, "server", None), getattr(event, "by", "")
    if isinstance(event, ev.GroupHeld):
        yield Note(at, f"{causes.words(event.group)} held: {event.reason}")
    elif isinstance(event, ev.DebtPaid) and event.by:
        yield Note(at, f"settled by hand, {event.debt}: {event.reason}", server, by)
    elif (words := _WORDS.get(type(event))) is not None:
        changes = getattr(event, "changes", ())
        edited = f", with an edited plan ({', '.join(changes)})" if changes else ""
        yield Note(at, words.format(event=event) + edited, server, by)
