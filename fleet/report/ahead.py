"""When a run at work would be over, from counts alone: by the durations seen so far, against its window."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice

from fleet.core.forecast import Forecast, Kind, quantile
from fleet.core.outside import Outside
from fleet.core.rounds import Stretch, documented_s, end_of, longest_s, rounds_of
from fleet.core.settings import Target
from fleet.core.settling import Settling, settling
from fleet.core.state import Phase
from fleet.core.windows import Schedule, of_plan, spell
from fleet.core.worst import plan_concurrency
from fleet.report.pulse import Pulse

_ENOUGH = 3
"""Servers of this run whose durations say more than those of earlier runs. A forecast for people may err."""

_OPENINGS = 60
"""So many windows ahead are looked at: two months of nights."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """When a run would be over if nothing more fails and nobody has to be asked.

    Attributes:
        at: If it went on without a break; None: nothing more is started.
        closes_at: When the open window closes; None: none does, or none is open.
        opens_at: When the next one opens, where none is open.
        done_at: When it would be over in the windows to come, where the open one is too short.
        approvals: A person is waited for on the way.
        settles: Nothing more is started: when those in flight are settled.
    """

    at: datetime | None
    closes_at: datetime | None = None
    opens_at: datetime | None = None
    done_at: datetime | None = None
    approvals: bool = False
    settles: Settling | None = None

    def words(self, now: datetime) -> str:
        """Say it: ``ends about 02:35``, or ``would end 04:12, window closes 04:00``."""
        if self.settles is not None:
            return self.settles.when(now)
        zone = (self.closes_at or self.opens_at or now.astimezone()).tzinfo

        def clock(moment: datetime) -> str:
            local, today = moment.astimezone(zone), now.astimezone(zone)
            return f"{local:%H:%M}" if local - today < timedelta(hours=20) else f"{local:%a %d %b %H:%M}"

        if self.at is None:
            return ""
        then = f"; done about {clock(self.done_at)}" if self.done_at else ""
        if self.opens_at is not None:
            words = f"window opens {spell(self.opens_at)}{then}"
        elif self.closes_at is None:
            words = f"ends about {clock(self.at)}"
        elif self.at <= self.closes_at.astimezone(UTC):
            words = f"ends about {clock(self.at)}, window closes {clock(self.closes_at)}"
        else:
            words = f"would end {clock(self.at)}, window closes {clock(self.closes_at)}{then}"
        return words + (", approvals not counted" if self.approvals else "")


class Horizon:
    """Looks ahead, and tells what the clock allows, for displays: from the journal's facts and history alone.

    Args:
        pulse: Of the run.
        seen: Durations of earlier runs of the plan (`fleet.history`).
    """

    def __init__(self, pulse: Pulse, seen: Sequence[tuple[Kind, float]] = ()) -> None:
        self._pulse = pulse
        self._forecast = Forecast(seen)
        self._kinds = seen
        self._seen = [took_s for _, took_s in seen]

    def outside(self, now: datetime, *, attended: bool = True) -> Outside:
        """Return what the clock says by the plan; of gates and calendars, what the run's process has read.

        Args:
            now: UTC.
            attended: A process works on the run.
        """
        run = self._pulse.run
        state = self._schedule().at(now)
        return Outside(
            now=now,
            closed=state.closed or run.paused,
            closes_at=state.closes_at,
            final=state.closed is not None,
            expected_s=lambda server: self._forecast.expected_s(run, server),
            attended=attended,
        )

    def ahead(self, now: datetime, *, resumed: bool = False) -> Ahead:
        """Say when it would be over. Costs the waves that are left and the servers in flight.

        Args:
            now: UTC.
            resumed: A later life is asked about: that this one is drained does not matter.
        """
        run, schedule = self._pulse.run, self._schedule()
        stopped = run.held is not None or (run.drained is not None and not resumed)
        if run.is_settled or (stopped and (resumed or not run.in_flight)):
            return Ahead(None)
        if stopped:
            flying = (run.servers[each] for each in self._pulse.flying)
            settles = settling(run, now, self._kinds, flying=flying)
            return Ahead(settles.at, settles=settles)
        rest = max((self._rest_s(target, now) for target in run.settings.targets), default=0.0)
        parts = self._parts()
        begin = now + timedelta(seconds=rest)
        plain = end_of(run.settings, parts, self._usual_s, begin).at
        state = schedule.at(now)
        done: datetime | None = None
        if parts and not schedule.is_always_open:
            openings = ((span.start, span.end) for span in islice(schedule.openings(now), _OPENINGS))
            done = end_of(run.settings, parts, self._usual_s, begin, openings, self._reserve_s).at
        late = plain is not None and state.closes_at is not None and plain > state.closes_at.astimezone(UTC)
        return Ahead(
            plain,
            state.closes_at,
            state.opens_at if state.closed and parts else None,
            done if late or state.closed else None,
            approvals=bool(parts) and any(self._approvals(target) for target in run.settings.targets),
        )

    def _schedule(self) -> Schedule:
        settings = self._pulse.run.settings
        return Schedule(settings.windows) if self._pulse.freeze_overridden else of_plan(settings)

    def _usual_s(self, target: Target) -> float:
        here = self._here(target)
        others = [took_s for each in self._pulse.run.targets.values() for _, took_s in each.took]
        for seen, enough in ((here, _ENOUGH), (self._seen, 1), (here, 1), (others, 1)):
            if len(seen) >= enough:
                return statistics.median(seen)
        return documented_s(target)

    def _reserve_s(self, target: Target) -> float:
        seen = self._here(target) or self._seen
        return quantile(seen) if len(seen) >= _ENOUGH else longest_s(target)

    def _here(self, target: Target) -> list[float]:
        return [took_s for _, took_s in self._pulse.run.targets[target.name].took]

    def _rest_s(self, target: Target, now: datetime) -> float:
        """Return how long a target's servers in flight still take: the last one, or until others follow."""
        run, usual = self._pulse.run, self._usual_s(target)
        rests = [
            max(0.0, usual - (now - (server.started_at or stay.since)).total_seconds())
            for server_id, stay in self._pulse.flying.items()
            if (server := run.servers[server_id]).member.target == target.name
        ]
        if not rests:
            return 0.0
        state = run.targets[target.name]
        follows = not state.finished and state.waves[state.current].waiting
        return statistics.fmean(rests) if follows else max(rests)

    def _parts(self) -> tuple[Stretch, ...]:
        run, found = self._pulse.run, list[Stretch]()
        most = plan_concurrency(run.settings)
        for target in run.settings.targets:
            state = run.targets[target.name]
            verified = state.phases[Phase.VERIFIED]
            for number in range(state.current + 1, len(state.waves) + 1):
                left = state.waves[number - 1].unsettled
                waiting = self._pulse.waiting(target.name, number)
                rounds = rounds_of(target, waiting, state.size, verified, most) if waiting else 0
                last = number == len(state.waves)
                if left:
                    found.append(Stretch(target.name, rounds, 0.0 if last else target.rollout.bake_s))
                verified += left
        return tuple(part for part in found if part.rounds or part.pause_s)

    def _approvals(self, target: Target) -> bool:
        state = self._pulse.run.targets[target.name]
        return any(
            number < len(state.waves) and not state.waves[number - 1].approved
            for number in target.rollout.approve_after
        )
