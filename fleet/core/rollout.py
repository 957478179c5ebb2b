"""Who may be started, and why not: one pure function over the run, the clock and the world.

`decide` and `why_waiting` ask the same questions in the same words (`_Room`), so that what is done, logged,
shown and previewed cannot differ. ``docs/limits.md`` says exactly what each limit means; in short: a share
is of the target's servers when the run was opened, wave sizes round up and limits round down, a limit of N
lets N through, and whoever failed and was left down counts as out of service.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from fleet.core import causes, pace
from fleet.core.line import Queue
from fleet.core.model import ServerId
from fleet.core.outside import ANY_TIME, Outside
from fleet.core.settings import Amount, NeverMoreThan, Share
from fleet.core.state import Phase, Run, ServerState, TargetState, attribute_of
from fleet.core.waves import cut_waves, wave_size

__all__ = ["Decision", "Kind", "allowed", "allowed_failures", "cut_waves", "decide", "upcoming", "wave_size"]


def allowed(amount: Amount, servers: int) -> int:
    """Return how many of *servers* a limit lets through; shares round down."""
    if isinstance(amount, Share):
        return math.floor(round(servers * amount.percent / 100, 6))
    return amount


allowed_failures = allowed


def opened_cap(cap: NeverMoreThan, verified: int) -> int:
    """Return how many may be failed or in flight at once, with so many verified."""
    return max(cap.at_least, math.floor(round(verified * cap.of_verified / 100, 6)))


class Kind(StrEnum):
    """What a server waits for."""

    STATE = "state"  # held, drained
    WINDOW = "window"
    GATE = "gate"
    TURN = "turn"  # another target, an earlier wave
    BAKE = "bake"
    APPROVAL = "approval"
    PERSON = "person"  # a limit that is used up by servers that failed
    ROOM = "room"  # a limit that frees itself


@dataclass(frozen=True, slots=True)
class Why:
    """Why a server is not started."""

    kind: Kind
    words: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens next.

    Attributes:
        start: Servers to start now, in order.
        hold: Why the run is to be held from now on, or None.
        group: A group to hold from now on, with the reason, or None.
        slower: A target whose pace is to be lowered, to how many in flight, with the reason, or None.
        bake: Waves (target, number) that are settled, and are to be left alone and looked at again.
        waits: What the first server in line waits for, if nobody is started and nobody is in flight.
    """

    start: tuple[ServerId, ...] = ()
    hold: str | None = None
    group: tuple[dict[str, str], str] | None = None
    slower: tuple[str, int, str] | None = None
    bake: tuple[tuple[str, int], ...] = ()
    waits: Why | None = None


def decide(run: Run, outside: Outside = ANY_TIME) -> Decision:
    """Say who is started now.

    Costs the number of targets, of servers started, and of kinds passed over: see `fleet.core.line`.
    """
    if run.held is not None:
        return Decision(waits=Why(Kind.STATE, f"held: {run.held}"))
    if (hold := _reason_to_hold(run)) is not None:  # before the drain: a spent budget is never only "drained"
        return Decision(hold=hold)
    if (group := causes.group_to_hold(run)) is not None:
        return Decision(group=group)
    for target in run.targets.values():
        if not target.finished and (slower := pace.too_many(run, target)) is not None:
            return Decision(slower=(target.name, *slower))
    bake = tuple(_to_bake(run))
    if run.drained is not None:
        return Decision(bake=bake, waits=Why(Kind.STATE, f"drained: {run.drained}"))
    room = _Room(run, outside)
    passed = _fill(run, room)
    if room.taken or run.in_flight or bake:
        return Decision(start=tuple(room.taken), bake=bake)
    if not passed:
        return Decision()
    if (stuck := _person(passed)) is not None:
        return Decision(hold=f"{_STUCK}: {stuck.words}")
    return Decision(waits=(_others(passed) or passed)[0])


_STUCK = "nobody else can be started"


def _others(passed: list[Why]) -> list[Why]:
    """Return what can come to pass without anything being released: a window, a gate, an approval."""
    return [why for why in passed if why.kind not in {Kind.PERSON, Kind.ROOM}]


def _person(passed: list[Why]) -> Why | None:
    """Return what only a person can change, where everybody left waits for that."""
    return None if _others(passed) else next((why for why in passed if why.kind is Kind.PERSON), None)


def why_held_again(run: Run) -> str | None:
    """Say which limit would hold the run again, were it released as it stands; None: it would go on.

    A release forgives failures; servers that they have put out of service stay so, and fill their limits
    until they are retried or skipped.
    """
    if run.in_flight or run.is_settled:
        return None
    room = _Room(run, ANY_TIME, released=True)
    passed = _fill(run, room)
    stuck = None if room.taken else _person(passed)
    return stuck.words if stuck else None


def _fill(run: Run, room: _Room) -> list[Why]:
    """Take whom the limits let through; return why the others are passed over.

    Targets that run side by side take turns, the one with the fewest in flight first: what they share (the
    run's concurrency, calls a second) must not go to the first of them alone.
    """
    passed: dict[str, list[Why]] = {}
    lines: dict[str, Queue] = {}
    for target in run.targets.values():
        if target.finished:
            continue
        if (why := room.why_not_target(target)) is None:
            lines[target.name] = target.waves[target.current].waiting.queue()
        passed[target.name] = [why] if why is not None and why.kind is not Kind.TURN else []
    while lines:
        target = run.targets[min(lines, key=room.in_flight)]
        if not _take_next(run, room, target, lines[target.name], passed[target.name]):
            del lines[target.name]
    return [why for whys in passed.values() for why in whys]


def _take_next(run: Run, room: _Room, target: TargetState, line: Queue, passed: list[Why]) -> bool:
    """Take the next of a target whom the limits let through; tell whether there was one."""
    # What is so for one is so for all until one is taken: hundreds of kinds may be passed over.
    no_more = {down: room.why_not_more(target, down=down) for down in (False, True)}
    is_full = room.is_full(target)
    while (server_id := line.next()) is not None:
        server = run.servers[server_id]
        why = no_more[server.is_out] or room.why_not(server)
        if why is None:
            room.take(server)
            line.take()
            return True
        passed.append(why)
        if is_full:
            return False
    return False


def why_waiting(run: Run, server: ServerState, outside: Outside = ANY_TIME) -> str:
    """Return the one reason why a waiting server has not been started, in words."""
    if server.phase is not Phase.WAITING:
        return ""
    if run.held is not None:
        return f"held: {run.held}"
    if run.drained is not None:
        return f"drained: {run.drained}"
    room = _Room(run, outside)
    target = run.targets[server.member.target]
    why = room.why_not_target(target)
    if why is None and server.member.wave - 1 > target.current:
        why = Why(Kind.TURN, f"waits for wave {target.current + 1}")
    if why is None:
        why = room.why_not_more(target, down=server.is_out) or room.why_not(server)
    if why is not None:
        return why.words
    return "about to be started" if outside.attended else "no process works on the run"


def upcoming(run: Run) -> Iterable[ServerId]:
    """Return who is started next as room allows, in order, as far as the waves go. Nothing is promised."""
    for target in run.targets.values():
        if not target.finished and _unmet(run, target) is None:
            yield from target.waves[target.current].waiting


# -- turns ----------------------------------------------------------------------------------------------


def _unmet(run: Run, target: TargetState) -> Why | None:
    """Say which target has to be through first; without `needs` it is the one before."""
    needs = run.plan_of(target.name).needs
    if needs is None:
        names = list(run.targets)
        before = names.index(target.name)
        needs = tuple(names[:before])
    for name in needs:
        other = run.targets[name]
        if not other.finished:
            return Why(Kind.TURN, f"waits for target {name}")
        if (why := _pending(run, other)) is not None:
            return why
    return None


def _pending(run: Run, target: TargetState) -> Why | None:
    """Say what has to happen between the settled waves of a target and what follows them."""
    return next((why for _, why in _after_waves(run, target)), None)


def _after_waves(run: Run, target: TargetState) -> Iterator[tuple[int, Why]]:
    """Yield the settled waves, counted from 1, that something still has to happen after.

    Not only the latest: the next one may have been skipped whole, an earlier one reopened by a retry.
    """
    rollout = run.plan_of(target.name).rollout
    # Waves that are baked and not waited for are not walked: there may be thousands, and this is asked
    # after every event.
    numbers = {number for number in rollout.approve_after if number <= target.current}
    if rollout.bake_s > 0:
        numbers.update(range(target.baked + 1, target.current + 1))
    for number in sorted(numbers):
        wave = target.waves[number - 1]
        if rollout.bake_s > 0 and not wave.baked:
            yield number, Why(Kind.BAKE, f"wave {number} of {target.name} bakes")
        elif number in rollout.approve_after and not wave.approved:
            yield number, Why(Kind.APPROVAL, f"waits for approval after wave {number} of {target.name}")


def approval_awaited(run: Run) -> tuple[str, int] | None:
    """Return the target and wave that a person has to approve next, or None."""
    if run.is_settled:
        return None
    for target in run.targets.values():
        for number, why in _after_waves(run, target):
            if why.kind is Kind.APPROVAL:
                return target.name, number
    return None


def _to_bake(run: Run) -> Iterator[tuple[str, int]]:
    """Yield settled waves that something follows and that were not looked at again."""
    if run.is_settled:
        return
    for target in run.targets.values():
        for number, why in _after_waves(run, target):
            if why.kind is Kind.BAKE:
                yield target.name, number


# -- budgets --------------------------------------------------------------------------------------------


def _reason_to_hold(run: Run) -> str | None:
    if run.everybody is not None:
        return f"every server would meet this: {run.everybody}"
    for settings in run.settings.targets:
        target = run.targets[settings.name]
        rollout = settings.rollout
        counted = target.failed - target.forgiven
        may = allowed(rollout.hold_after, target.size)
        if counted > may:
            since = " since the release" if target.forgiven else ""
            return f"{counted} of {settings.name} failed{since}, {may} allowed"
        if rollout.in_a_row is not None and target.row >= rollout.in_a_row:
            return f"{target.row} of {settings.name} failed in a row"
    budget = run.settings.budget
    if budget.hold_after is not None:
        may = allowed(budget.hold_after, len(run.servers))
        if len(run.failures) > may:
            return f"{len(run.failures)} of the run failed, {may} allowed"
    if budget.in_a_row is not None and run.row >= budget.in_a_row:
        return f"{run.row} of the run failed in a row"
    return causes.everybodys(run)


# -- room -----------------------------------------------------------------------------------------------


class _Room:
    """What the limits leave, while servers are taken one after another.

    Args:
        released: Reckon as if the run and its groups had been released.
    """

    def __init__(self, run: Run, outside: Outside, *, released: bool = False) -> None:
        self._run = run
        self._outside = outside
        self._groups_held = () if released else run.groups_held
        self.taken: list[ServerId] = []
        self._flying: Counter[str] = Counter()
        self._out: Counter[str] = Counter()
        self._out_by: Counter[tuple[str, str]] = Counter()
        self._full: dict[tuple[str, str, int], Why] = {}
        self._ends: dict[tuple[str, str, str, str], datetime] = {}
        self._failed = sum(target.failed for target in run.targets.values())
        self._verified = sum(target.phases[Phase.VERIFIED] for target in run.targets.values())
        self._in_flight = run.in_flight
        self._draining = sum(
            target.undrained
            for target in run.targets.values()
            if run.plan_of(target.name).hooks.around_server
        )

    def take(self, server: ServerState) -> None:
        """Count a server as started."""
        name = server.member.target
        self.taken.append(server.id)
        self._flying[name] += 1
        self._in_flight += 1
        if self._run.plan_of(name).hooks.around_server and not server.drained:
            self._draining += 1
        if not server.is_out:
            self._out[name] += 1
            self._out_by.update(self._run.spread_keys(server.member))

    def in_flight(self, target: str) -> int:
        """Return how many of a target are in flight, those just taken among them."""
        return self._run.targets[target].in_flight + self._flying[target]

    def is_full(self, target: TargetState) -> bool:
        """Tell whether no further server of a target need be looked at."""
        return self.why_not_more(target, down=True) is not None or self._outside.closed is not None

    def why_not_target(self, target: TargetState) -> Why | None:
        """Say why nobody of a target's current wave may be started, whatever the limits."""
        if self._outside.closed is not None:
            return Why(Kind.WINDOW if self._outside.final else Kind.GATE, self._outside.closed)
        if (why := _unmet(self._run, target)) is not None:
            return why
        return None if target.finished else _pending(self._run, target)

    def why_not_more(self, target: TargetState, *, down: bool) -> Why | None:
        """Say which limit leaves no room for one more of a target.

        Args:
            target: Whose.
            down: The server counts as out of service already.
        """
        run, rollout = self._run, self._run.plan_of(target.name).rollout
        flying = self.in_flight(target.name)
        if flying >= (most := pace.concurrency(run, target)):
            why = "" if most == rollout.concurrency else ", lowered since more at once are slower"
            return Why(Kind.ROOM, f"concurrency {most} is reached{why}")
        if run.settings.concurrency is not None:
            most = max(run.settings.concurrency, *(each.rollout.concurrency for each in run.settings.targets))
            if self._in_flight >= most:
                return Why(Kind.ROOM, f"concurrency {most} of the plan is reached")
        if self._in_flight >= (most := pace.most_by_rate(run.settings)):
            rate = f"{run.settings.cloud.requests_per_second:g}"
            return Why(Kind.ROOM, f"requests_per_second {rate} lets {most} be in flight")
        limit = run.settings.limits.draining
        if limit is not None and self._draining >= limit and run.plan_of(target.name).hooks.around_server:
            return Why(Kind.ROOM, f"{limit} are being drained")
        if rollout.max_unavailable is not None and not down:
            most = allowed(rollout.max_unavailable, target.size)
            out = target.out + self._out[target.name]
            if out >= most:
                kind = Kind.ROOM if flying else Kind.PERSON
                return Why(kind, f"max_unavailable {most}: {out} of {target.name} are out of service")
        caps = [(rollout.never_more_than, target.failed, flying, target.phases[Phase.VERIFIED])]
        caps.append((run.settings.budget.never_more_than, self._failed, self._in_flight, self._verified))
        for cap, failed, started, verified in caps:
            if cap is not None and failed + started >= (most := opened_cap(cap, verified)):
                kind = Kind.ROOM if started else Kind.PERSON
                counts = f"{failed} failed, {started} in flight"
                return Why(kind, f"never_more_than {most} with {verified} verified: {counts}")
        return None

    def why_not(self, server: ServerState) -> Why | None:
        """Say why this one server is passed over, when there is room for others."""
        for group, reason in self._groups_held:
            if causes.is_of(server.member, group):
                return Why(Kind.PERSON, f"{causes.words(group)} is held: {reason}")
        if not server.is_out:
            for attribute, most in self._run.plan_of(server.member.target).rollout.spread.items():
                value = attribute_of(server.member, attribute)
                if (why := self._full.get((attribute, value, most))) is not None:
                    return why
                out = self._run.out_by[attribute, value] + self._out_by[attribute, value]
                if out >= most:
                    kind = Kind.ROOM if self._in_flight else Kind.PERSON
                    words = f"{_group(attribute, value)} is at its limit: {most} out of service"
                    self._full[attribute, value, most] = why = Why(kind, words)
                    return why
        closes = self._outside.closes_at
        if closes is not None and (end := self._end(server)) > closes:
            local = end.astimezone(closes.tzinfo)
            return Why(Kind.WINDOW, f"would end {local:%H:%M}, the window closes {closes:%H:%M}")
        return None

    def _end(self, server: ServerState) -> datetime:
        member = server.member
        kind = (member.target, member.image, member.flavor, member.zone)
        if kind not in self._ends:  # quantiles are sorted for: not for each of thousands that wait
            self._ends[kind] = self._outside.now + timedelta(seconds=self._outside.expected_s(server))
        return self._ends[kind]


def _group(attribute: str, value: str) -> str:
    name = "zone" if attribute == "availability_zone" else attribute
    return f"{name} {value}" if value else f"no {name}"
