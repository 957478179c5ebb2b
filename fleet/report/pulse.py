"""What a live display needs to know of a run, kept fact by fact.

Drawing must not cost more for 100,000 servers than for 40: nothing here is looked up among all of them. Told
of every event right after it was folded into the run, by the process that records it or by one that reads the
journal while it grows.
"""

from __future__ import annotations

import statistics
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from fleet.core import events as ev
from fleet.core.causes import signature
from fleet.core.events import Member
from fleet.core.model import ServerId
from fleet.core.outside import Outside
from fleet.core.rollout import why_waiting
from fleet.core.state import IN_FLIGHT, Phase, Run, ServerState, attribute_of, owes_undoing
from fleet.journal import Entry

Signature = tuple[Phase | None, str]
Took = dict[Phase, deque[float]]
_Key = tuple[str | bool, ...]

_KEPT = 100
"""Durations of a phase that are kept: the last ones."""

_BACK = frozenset({Phase.FAILED, Phase.SKIPPED, Phase.STOPPING, Phase.WAITING})
"""Where a server goes that has not got on: how long that took is nothing usual."""


@dataclass(slots=True)
class Stay:
    """A server in flight is in *phase* since then; *watched*: without a pause between two processes."""

    phase: Phase
    since: datetime
    watched: bool = True


@dataclass(slots=True)
class _Alike:
    """Waiting servers of which whatever keeps one waiting keeps all.

    Attributes:
        one: Stands for them all.
    """

    one: ServerState
    count: int = 0


@dataclass(slots=True)
class _Wave:
    """Who waits in one wave, by all that `fleet.core.rollout.why_waiting` looks at."""

    alike: dict[_Key, _Alike] = field(default_factory=dict)


class Pulse:
    """A run's servers by what is to be shown of them.

    Args:
        run: As it stands; it is looked through once.
        took: What an earlier pulse of it knows about the durations of phases.

    Attributes:
        flying: Servers in flight, the longest first.
        causes: Failed servers by cause, the first cause first.
        owing: Servers at rest that are owed something.
        freeze_overridden: Frozen days do not count in this life.
        took: By phase, the seconds that servers were in it which then got on; the last ones.
    """

    def __init__(self, run: Run, took: Took | None = None) -> None:
        self.run = run
        self.took: Took = {} if took is None else took
        self.freeze_overridden = False
        self._usual: dict[Phase, float] = {}
        self._look()

    def _look(self) -> None:
        """Look through the whole run."""
        run = self.run
        self.flying: dict[ServerId, Stay] = {}
        self.causes: dict[Signature, dict[ServerId, None]] = {}
        self.owing: dict[ServerId, None] = {}
        self._failed: dict[ServerId, Signature] = {}
        self._waves: dict[tuple[str, int], _Wave] = {}
        self._waiting_out: set[ServerId] = set()
        flying = [server for server in run.servers.values() if server.phase in IN_FLIGHT]
        for server in sorted(flying, key=lambda each: each.started_at or run.opened_at):
            self.flying[server.id] = Stay(server.phase, server.since or run.opened_at, watched=False)
        for server in run.servers.values():
            self._settle(server)
            if server.phase is Phase.WAITING:
                self._waits(server)

    def entry(self, entry: Entry) -> None:
        """Hear of an entry of the journal, after it was folded in."""
        self.hear(entry.event, entry.at)

    def listen(self, event: ev.Event, at: datetime) -> None:
        """Hear of an event beside a run at work, which a defect of a display must not end."""
        try:
            self.hear(event, at)
        except Exception:  # noqa: BLE001 - what was miscounted is counted anew
            self._look()

    def hear(self, event: ev.Event, at: datetime) -> None:
        """Hear of an event, after it was folded in."""
        match event:
            case ev.RunResumed():
                self.freeze_overridden = False
                for stay in self.flying.values():  # nobody knows when it would have gone on
                    stay.watched = False
                if event.settings is not None:
                    self._count_waiting()
            case ev.FreezeOverridden():
                self.freeze_overridden = True
            case _ if ev.is_of_server(event):
                self._server(self.run.servers[event.server], event, at)
            case _:
                pass

    def usual_s(self, phase: Phase) -> float | None:
        """Return how long servers usually were in *phase* so far; None as long as nobody got on from it."""
        took = self.took.get(phase)
        if not took:
            return None
        if phase not in self._usual:
            self._usual[phase] = statistics.median(took)
        return self._usual[phase]

    def reasons(self, outside: Outside) -> dict[str, int]:
        """Return why servers wait, in the words of `why_waiting`, with how many; in the plan's order.

        Costs the kinds of servers that wait in the current waves, not the servers.
        """
        found: Counter[str] = Counter()
        for name, target in self.run.targets.items():
            left = target.phases[Phase.WAITING]
            if not left:
                continue
            current = self._waves.get((name, target.current + 1), _Wave())
            for each in current.alike.values():
                if each.count:
                    found[why_waiting(self.run, each.one, outside)] += each.count
                    left -= each.count
            if left:  # of later waves everybody waits for the same
                later = next(wave for wave in target.waves[target.current + 1 :] if wave.waiting)
                one = self.run.servers[later.waiting.first]
                found[why_waiting(self.run, one, outside)] += left
        return dict(found)

    def waiting(self, target: str, wave: int) -> Counter[tuple[str, ...]]:
        """Return how many wait in a wave, by the attributes that the target's `spread` names."""
        names = tuple(self.run.plan_of(target).rollout.spread)
        found: Counter[tuple[str, ...]] = Counter()
        for each in self._waves.get((target, wave), _Wave()).alike.values():
            if each.count:
                found[tuple(attribute_of(each.one.member, name) for name in names)] += each.count
        return found

    def failures(self) -> Iterator[tuple[list[ServerId], ServerState]]:
        """Yield failed servers by cause, the commonest cause first, each with the one that stands for it."""
        for alike in sorted(self.causes.values(), key=len, reverse=True):
            servers = list(alike)
            yield servers, self.run.servers[servers[0]]

    # -- one server ---------------------------------------------------------------------------------

    def _server(self, server: ServerState, event: ev.Event, at: datetime) -> None:
        stay = self.flying.get(server.id)
        if stay is not None:
            if server.phase is not stay.phase:
                self._moved(server, stay, at)
        elif server.phase in IN_FLIGHT:
            self._waits_no_more(server)
            self.flying[server.id] = Stay(server.phase, at)
        elif server.id not in self._failed and isinstance(event, ev.Skipped):
            self._waits_no_more(server)
        self._settle(server)
        if server.phase is Phase.WAITING:
            if isinstance(event, ev.PutBack | ev.Retried):
                self._waits(server)
            elif server.id in self._waiting_out and not server.is_out:
                self._waits_no_more(server)
                self._waits(server)

    def _moved(self, server: ServerState, stay: Stay, at: datetime) -> None:
        if stay.watched and server.phase not in _BACK and server.giving_up is None:
            self.took.setdefault(stay.phase, deque(maxlen=_KEPT)).append((at - stay.since).total_seconds())
            self._usual.pop(stay.phase, None)
        if server.phase in IN_FLIGHT:
            stay.phase, stay.since, stay.watched = server.phase, at, True
        else:
            del self.flying[server.id]

    def _settle(self, server: ServerState) -> None:
        """Keep who failed, of what, and who is owed something."""
        if server.phase is Phase.FAILED:
            if server.id not in self._failed:
                found = self._failed[server.id] = signature(server)
                self.causes.setdefault(found, {})[server.id] = None
        elif (before := self._failed.pop(server.id, None)) is not None:
            del self.causes[before][server.id]
            if not self.causes[before]:
                del self.causes[before]
        if server.phase not in IN_FLIGHT and owes_undoing(server):
            self.owing[server.id] = None
        else:
            self.owing.pop(server.id, None)

    # -- who waits ----------------------------------------------------------------------------------

    def _count_waiting(self) -> None:
        self._waves.clear()
        self._waiting_out.clear()
        for server in self.run.servers.values():
            if server.phase is Phase.WAITING:
                self._waits(server)

    def _waits(self, server: ServerState) -> None:
        out = server.is_out
        if out:
            self._waiting_out.add(server.id)
        self._alike(server.member, out=out).count += 1

    def _waits_no_more(self, server: ServerState) -> None:
        out = server.id in self._waiting_out
        self._waiting_out.discard(server.id)
        self._alike(server.member, out=out).count -= 1

    def _alike(self, member: Member, *, out: bool) -> _Alike:
        wave = self._waves.setdefault((member.target, member.wave), _Wave())
        spread = (value for _, value in self.run.spread_keys(member))
        key: _Key = (out, member.zone, member.flavor, member.image, *spread)
        found = wave.alike.get(key)
        if found is None:
            found = wave.alike[key] = _Alike(ServerState(member, down=out))
        return found


def watching(found: list[Pulse]) -> Callable[[Run], Callable[[Entry], None]]:
    """Return what a reading of a journal is to be watched by for *found* to have the run's pulse."""

    def opened(run: Run) -> Callable[[Entry], None]:
        found.append(Pulse(run))
        return found[-1].entry

    return opened
