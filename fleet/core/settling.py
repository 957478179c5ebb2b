"""When those in flight are settled, once nothing more is started: what a hold and a drain promise. Pure.

By the tail of the durations that were seen, and not by the usual one: who asks wants to know when it is over
for all of them. As long as none were seen that is said, with the end of the plan's time-outs.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from fleet.core.forecast import QUANTILE, Kind
from fleet.core.rounds import longest_s
from fleet.core.state import IN_FLIGHT, Phase, Run, ServerState
from fleet.core.windows import of_plan

_NOT_WIPED = frozenset({Phase.DRAINING, Phase.STOPPING, Phase.STOPPED})


@dataclass(frozen=True, slots=True)
class Settling:
    """What becomes of those in flight.

    Attributes:
        finished: How many are brought to their end.
        put_back: How many are not wiped yet, and are put back.
        doubted: How many of the former are in doubt.
        at: When all are settled who do not take longer than any before; None: nobody is known to.
        late: How many have taken longer than any that was seen.
        seen: By how many durations this is told, at most those of a kind of server; 0: none are known.
        latest: When the plan's time-outs end.
        zone: To tell times in.
        wrong: They are not as many as the run counts: a defect of ours, said in the figures' place.
    """

    finished: int = 0
    put_back: int = 0
    doubted: int = 0
    at: datetime | None = None
    late: int = 0
    seen: int = 0
    latest: datetime | None = None
    zone: tzinfo | None = None
    wrong: str = ""

    @property
    def in_flight(self) -> int:
        """How many there are."""
        return self.finished + self.put_back

    def when(self, now: datetime) -> str:
        """Say who settles when: ``17 in flight settle by about 02:35``; empty: nobody is in flight."""
        count = self.in_flight
        if self.wrong or not count:
            return self.wrong
        doubted = f", {self.doubted} of them in doubt," if self.doubted else ""
        settle = "settles" if count == 1 else "settle"
        if self.at is not None:
            late = f", but for {self.late} that took longer than any before" if self.late else ""
            return f"{count} in flight{doubted} {settle} by about {self._clock(self.at, now)}{late}"
        why = "longer than any before" if self.seen else "no durations known yet"
        latest = f"; time-outs end {self._clock(self.latest, now)}" if self.latest else ""
        return f"{count} in flight{doubted} {settle} nobody knows when ({why}{latest})"

    def words(self, now: datetime) -> str:
        """Say the same, and what becomes of them."""
        if self.wrong or not self.in_flight:
            return self.wrong or "nobody is in flight"
        parts = []
        if self.finished:
            theirs = "is brought to its end" if self.finished == 1 else "are brought to their end"
            parts.append(f"{self.finished} {theirs}")
        if self.put_back:
            parts.append(f"{self.put_back} not wiped yet {'is' if self.put_back == 1 else 'are'} put back")
        return f"{self.when(now)}: {', '.join(parts)}"

    def at_rest(self) -> str:
        """Say what becomes of those whom a dead process has left in flight: nobody works on them."""
        count = self.in_flight
        if self.wrong or not count:
            return self.wrong or "nobody is in flight"
        doubted = f", {self.doubted} of them in doubt," if self.doubted else ""
        stay = "stays as it is" if count == 1 else "stay as they are"
        parts = []
        if self.finished:
            parts.append(f"brings {self.finished} to {'its' if self.finished == 1 else 'their'} end")
        if self.put_back:
            parts.append(f"puts back {self.put_back} not wiped yet")
        return f"{count} in flight{doubted} {stay}: `fleet resume` {' and '.join(parts)}"

    def _clock(self, moment: datetime, now: datetime) -> str:
        """Return a time of day, rounded up: what is promised *by* then is over by then."""
        whole = moment + timedelta(minutes=1) - timedelta(microseconds=1)
        zone = self.zone or now.astimezone().tzinfo
        local, today = whole.astimezone(zone), now.astimezone(zone)
        return f"{local:%H:%M}" if local - today < timedelta(hours=20) else f"{local:%a %d %b %H:%M}"


def settling(
    run: Run,
    now: datetime,
    seen: Sequence[tuple[Kind, float]] = (),
    *,
    flying: Iterable[ServerState] | None = None,
) -> Settling:
    """Say what becomes of those in flight when nothing more is started, and when.

    Costs the durations that are known, and what is in flight where that is given.

    Args:
        run: As it stands. Held: whoever is not wiped yet is put back.
        now: UTC.
        seen: Durations of earlier runs of the plan.
        flying: Servers in flight; None: they are looked for.
    """
    if flying is None:
        flying = (server for server in run.servers.values() if server.phase in IN_FLIGHT)
    flying = list(flying)
    if len(flying) != run.in_flight:
        counted = f"{run.in_flight} in flight, and {len(flying)} servers"
        return Settling(wrong=f"a defect of fleet: the figures do not add up: {counted}")
    if not flying:
        return Settling()
    durations = _Durations(run, seen)
    ends, late, known = list[datetime](), 0, 0
    for server in flying:
        took = durations.of(server)
        known = max(known, len(took))
        began = server.started_at or server.since or now
        first = bisect_right(took, (now - began).total_seconds())
        if first < len(took):  # of those that took longer than it has: their `quantile`, without a copy
            at = first + math.ceil(QUANTILE * (len(took) - first)) - 1
            ends.append(began + timedelta(seconds=took[at]))
        else:
            late += bool(took)
    back = sum(_is_put_back(run, server) for server in flying)
    # Time-outs count watched time, which begins anew with each life.
    limits = (
        ((run.lives == 1 and server.started_at) or now) + timedelta(seconds=longest_s(run.target(server)))
        for server in flying
    )
    state = of_plan(run.settings).at(now)
    return Settling(
        finished=len(flying) - back,
        put_back=back,
        doubted=sum(server.phase is Phase.REQUESTED for server in flying),
        at=max(ends, default=None) if len(ends) + late == len(flying) else None,
        late=late,
        seen=known,
        latest=max(limits).astimezone(UTC),
        zone=next((each.tzinfo for each in (state.closes_at, state.opens_at) if each), None),
    )


def _is_put_back(run: Run, server: ServerState) -> bool:
    """Tell whether a server is on its way back already, or will be since the run is held."""
    if server.giving_up is not None:
        return True
    return run.held is not None and server.phase in _NOT_WIPED and server.wiped is False


class _Durations:
    """Whole ways that were seen: of a server's kind and target; else of anybody."""

    def __init__(self, run: Run, seen: Sequence[tuple[Kind, float]]) -> None:
        self._run = run
        self._seen = seen
        self._of: dict[tuple[str, Kind], list[float]] = {}

    def of(self, server: ServerState) -> list[float]:
        """Return the seconds that servers like this one took, the shortest first."""
        member = server.member
        kind = (member.image, member.flavor, member.zone)
        key = (member.target, kind)
        if key not in self._of:
            here = [took_s for _, took_s in self._run.targets[member.target].took]
            own = here + [took_s for each, took_s in self._seen if each == kind]
            others = [took_s for each in self._run.targets.values() for _, took_s in each.took]
            self._of[key] = sorted(own or others + [took_s for _, took_s in self._seen])
        return self._of[key]
