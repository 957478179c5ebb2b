"""One look at a run: everything that a display or a heartbeat says at a moment, as values that do not change.

Taken where the run is changed, drawn wherever there is time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice

from fleet.core import causes, pace
from fleet.core.model import ServerId
from fleet.core.rollout import approval_awaited
from fleet.core.state import IN_FLIGHT, Phase, ServerState, TargetState
from fleet.report.ahead import Ahead, Horizon
from fleet.report.document import failed_while
from fleet.report.figures import headline
from fleet.report.meter import Rate
from fleet.report.pulse import Pulse, Stay
from fleet.report.status import duration, next_step, owed_words, state_word

ROWS = 200
"""Of any list, no more are kept for drawing: no screen has so many lines."""

OVERDUE = 2.0
OVERDUE_S = 10.0
"""Overdue is who has been in its phase for twice as long as usual, and for so much longer at least."""

_NAMED = 5
AHEAD_S = 5.0
"""The forecast is made anew after this at the earliest: it costs all the waves that are left."""


@dataclass(frozen=True, slots=True)
class Flying:
    """A server in flight."""

    label: str
    phase: Phase
    age: timedelta
    usual: timedelta | None
    overdue: bool

    @property
    def in_doubt(self) -> bool:
        """It was asked to be reinstalled, and the answer is unknown."""
        return self.phase is Phase.REQUESTED

    def words(self) -> str:
        """Say it: ``web-3: reinstalling for 6m12s, usually 4m05s``."""
        doubt = " (in doubt)" if self.in_doubt else ""
        usual = f", usually {duration(self.usual)}" if self.usual is not None else ""
        return f"{self.label}: {self.phase}{doubt} for {duration(self.age)}{usual}"


@dataclass(frozen=True, slots=True)
class Failing:
    """Servers that failed alike."""

    count: int
    cause: str
    names: str

    def words(self) -> str:
        """Say it: ``2 while reinstalling: no image [Ecs.0113]: web-3, web-7``."""
        return f"{self.count} {self.cause}: {self.names}"


@dataclass(frozen=True, slots=True)
class TargetRow:
    """How far a target is. *wave* in words; *note* when its pace was lowered."""

    name: str
    settled: int
    size: int
    failed: int
    wave: str
    short: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Glance:
    """A run at a moment.

    Attributes:
        at: The time of day.
        working: A process works on it.
        figures: In one line, zeros left out.
        ends: When it would be over, in words; empty: nothing is started, or nothing left.
        flying: Overdue servers first, then by how long they have been in flight; at most `ROWS`.
        waiting: Why servers wait, with how many.
        owed: What is owed to whom.
        rate: Requests to the cloud, or None: not known.
        next: The command that goes on, or None.
    """

    at: datetime
    run: str
    state: str
    working: bool
    age: timedelta
    settled: bool
    draining: bool
    figures: str
    ends: str
    targets: tuple[TargetRow, ...]
    phases: dict[Phase, int]
    flying: tuple[Flying, ...]
    in_flight: int
    overdue: int
    failed: int
    failures: tuple[Failing, ...]
    waiting: dict[str, int]
    owing: int
    owed: tuple[str, ...]
    notes: tuple[str, ...]
    rate: Rate | None = None
    next: str | None = None


@dataclass(slots=True)
class Eye:
    """Takes glances at one run.

    Args:
        pulse: Of the run.
        horizon: Looks ahead.
        name: What the command line finds the run by.
    """

    pulse: Pulse
    horizon: Horizon
    name: str
    _ahead: Ahead = field(default_factory=lambda: Ahead(None))
    _ahead_at: datetime | None = None
    _stood: tuple[object, ...] = ()

    def look(self, now: datetime, *, worked_on: str | None, rate: Rate | None = None) -> Glance:
        """Take a glance. Costs what is in flight and the kinds of servers that wait, not all servers."""
        run, pulse = self.pulse.run, self.pulse
        counts = run.counts()
        rows = [self._flying(pulse.run.servers[each], stay, now) for each, stay in pulse.flying.items()]
        overdue = [row for row in rows if row.overdue]
        others = [row for row in rows if not row.overdue]
        ahead = self._look_ahead(now)
        promised = ahead.settles is None or worked_on is not None  # else nobody brings them anywhere
        return Glance(
            at=now,
            run=run.id,
            state=self._state(worked_on),
            working=worked_on is not None,
            age=now - run.opened_at,
            settled=run.is_settled,
            draining=run.drained is not None,
            figures=headline(run, brief=True, quick=True),
            ends=ahead.words(now) if promised else "",
            targets=tuple(self._target(target) for target in run.targets.values()),
            phases={phase: counts[phase] for phase in Phase if phase in IN_FLIGHT and counts[phase]},
            flying=tuple([*overdue, *others][:ROWS]),
            in_flight=len(rows),
            overdue=len(overdue),
            failed=counts[Phase.FAILED],
            failures=tuple(self._failures()),
            waiting=pulse.reasons(self.horizon.outside(now, attended=worked_on is not None)),
            owing=len(pulse.owing),
            owed=tuple(self._owed(run.servers[each]) for each in islice(pulse.owing, ROWS)),
            notes=tuple(self._notes()),
            rate=rate,
            next=next_step(run, worked_on, self.name) if worked_on is None else None,
        )

    def _look_ahead(self, now: datetime) -> Ahead:
        run = self.pulse.run
        stands = (run.held, run.drained, run.paused, run.is_settled, run.in_flight > 0)
        old = self._ahead_at is None or abs((now - self._ahead_at).total_seconds()) >= AHEAD_S
        # It counts those in flight, who are counted beside it as they are now.
        old = old or self._ahead.settles is not None
        if old or stands != self._stood:
            self._ahead, self._ahead_at, self._stood = self.horizon.ahead(now), now, stands
        return self._ahead

    def _state(self, worked_on: str | None) -> str:
        run, words = self.pulse.run, state_word(self.pulse.run, worked_on)
        if run.is_settled or worked_on is None:
            return words
        if run.held is not None:
            return f"{words}, held: {run.held}"
        return f"{words}, draining: {run.drained}" if run.drained is not None else words

    def _flying(self, server: ServerState, stay: Stay, now: datetime) -> Flying:
        age = (now - stay.since).total_seconds()
        usual = self.pulse.usual_s(stay.phase)
        overdue = usual is not None and age > max(OVERDUE * usual, usual + OVERDUE_S)
        return Flying(
            server.label,
            stay.phase,
            timedelta(seconds=age),
            None if usual is None else timedelta(seconds=usual),
            overdue,
        )

    def _target(self, target: TargetState) -> TargetRow:
        settled = sum(target.phases[phase] for phase in (Phase.VERIFIED, Phase.FAILED, Phase.SKIPPED))
        if target.finished:
            wave = short = "finished"
        else:
            current = target.waves[target.current]
            short = f"wave {target.current + 1}/{len(target.waves)}"
            wave = f"wave {target.current + 1} of {len(target.waves)}"
            if current.started or current.unsettled < current.size:
                wave += f": {current.size - current.unsettled} of {current.size} settled"
        planned = self.pulse.run.plan_of(target.name).rollout.concurrency
        most = pace.concurrency(self.pulse.run, target)
        note = f"at most {most} at once instead of {planned}" if most < planned else ""
        return TargetRow(target.name, settled, target.size, target.failed, wave, short, note)

    def _failures(self) -> list[Failing]:
        found = []
        for servers, one in islice(self.pulse.failures(), ROWS):
            code = f" [{one.code}]" if one.code else ""
            during = f"while {phase}: " if (phase := failed_while(one)) else ""
            found.append(Failing(len(servers), f"{during}{one.reason}{code}", self._names(servers)))
        return found

    def _names(self, servers: list[ServerId]) -> str:
        labels = [self.pulse.run.servers[each].label for each in servers[:_NAMED]]
        return ", ".join(labels) + (", …" if len(servers) > _NAMED else "")

    @staticmethod
    def _owed(server: ServerState) -> str:
        return f"{server.label} ({server.phase}): {'; '.join(owed_words(server))}"

    def _notes(self) -> list[str]:
        run = self.pulse.run
        notes = [f"{causes.words(group)} is held: {reason}" for group, reason in run.groups_held]
        notes += [
            f"{target.name}: {words}"
            for target in run.targets.values()
            if (words := self._target(target).note)
        ]
        if (awaited := approval_awaited(run)) is not None:
            notes.append(
                f"wave {awaited[1]} of {awaited[0]} waits for `fleet approve {self.name} --reason …`"
            )
        if self.pulse.freeze_overridden:
            notes.append("frozen days do not count: --override-freeze")
        return notes
