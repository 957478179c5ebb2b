"""How long a run takes, in rounds: servers that are worked on at the same time, again and again. Pure.

Arithmetic for a preview, no simulation: every server takes equally long and is verified. With the plan's
time-outs that is the last possible end, with usual durations the expected one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from fleet.core.events import Member
from fleet.core.model import ServerId
from fleet.core.rollout import allowed, opened_cap
from fleet.core.settings import Settings, Target
from fleet.core.state import attribute_of
from fleet.core.worst import plan_concurrency, waits_for

Duration = Callable[[Target], float]
"""Seconds that one server of a target takes, from its start to settled."""

HARD_STOP_S, START_S = 300.0, 600.0
"""As long as the runbook waits for these."""


def documented_s(target: Target) -> float:
    """Return how long a server takes by the cloud's own documents: stop 35 s, reinstall 4 min, boot 1 min."""
    return 35.0 + 240.0 + 60.0 + target.verify.stable_for_s


def longest_s(target: Target) -> float:
    """Return how long a server takes that uses up every time-out and every attempt."""
    plan = target.reinstall
    stop = target.stop.soft_timeout_s + (HARD_STOP_S if target.stop.then == "hard" else 0.0)
    hooks = sum(2 * each.timeout_s for each in target.hooks.around_server)
    return hooks + plan.attempts * (stop + 2 * plan.timeout_s) + START_S + target.verify.timeout_s


@dataclass(frozen=True, slots=True)
class Stretch:
    """Servers of one wave that are worked on at the same time, again and again.

    Attributes:
        rounds: How often.
        pause_s: What follows: the wave's bake.
    """

    target: str
    rounds: int
    pause_s: float = 0.0


def stretches(
    settings: Settings, members: Sequence[Member], skipped: Mapping[ServerId, object] | None = None
) -> tuple[Stretch, ...]:
    """Return the rounds that a run takes whose servers all take equally long and are all verified."""
    found: list[Stretch] = []
    most = plan_concurrency(settings)
    sizes = Counter(member.target for member in members)
    for target in settings.targets:
        waves: dict[int, list[Member]] = {}
        for member in members:
            if member.target == target.name and member.id not in (skipped or {}):
                waves.setdefault(member.wave, []).append(member)
        verified = 0
        for number, wave in sorted(waves.items()):
            rounds = _rounds(target, wave, sizes[target.name], verified, most)
            last = number == max(waves)
            found.append(Stretch(target.name, rounds, 0.0 if last else target.rollout.bake_s))
            verified += len(wave)
    return tuple(found)


def _rounds(target: Target, wave: Sequence[Member], size: int, verified: int, most: int | None) -> int:
    names = tuple(target.rollout.spread)
    waiting = Counter(tuple(attribute_of(member, name) for name in names) for member in wave)
    return rounds_of(target, waiting, size, verified, most)


def rounds_of(
    target: Target, waiting: Counter[tuple[str, ...]], size: int, verified: int, most: int | None
) -> int:
    """Return in how many rounds servers are worked off.

    Args:
        target: Whose they are.
        waiting: How many, by their values of the attributes that `spread` names.
        size: Of the target.
        verified: Of the target, before them.
        most: In flight at once by the plan, or None.
    """
    rollout = target.rollout
    names = tuple(rollout.spread)
    room = min(rollout.concurrency, rollout.concurrency if most is None else most)
    if rollout.max_unavailable is not None:
        room = min(room, allowed(rollout.max_unavailable, size))
    rounds = 0
    while waiting and room > 0:
        left = room
        if rollout.never_more_than is not None:
            left = min(left, opened_cap(rollout.never_more_than, verified))
        used: Counter[tuple[str, str]] = Counter()
        taken: Counter[tuple[str, ...]] = Counter()
        for key, count in waiting.items():
            keys = list(zip(names, key, strict=True))
            free = min([count, left, *(rollout.spread[name] - used[name, value] for name, value in keys)])
            if free > 0:
                taken[key] += free
                left -= free
                used.update(dict.fromkeys(keys, free))
            if not left:
                break
        if not taken:
            break
        rounds += 1
        verified += taken.total()
        waiting = Counter({key: count - taken[key] for key, count in waiting.items() if count > taken[key]})
        if not names and rollout.never_more_than is None:
            return rounds + math.ceil(waiting.total() / room)
    return rounds


@dataclass(frozen=True, slots=True)
class End:
    """When a run is over, by arithmetic.

    Attributes:
        at: UTC; None: never, since a server takes longer than any window.
        too_long: The target whose servers fit into no window.
        nights: Openings that are used; 0 where there are no windows.
        busy_s: Seconds of work, bakes included, pauses between windows not.
    """

    at: datetime | None
    busy_s: float
    nights: int = 0
    too_long: str = ""


MAX_OPENINGS = 400
"""More nights than a year has: whatever needs them is not planned but abandoned."""


def end_of(
    settings: Settings,
    found: Sequence[Stretch],
    each_s: Duration,
    now: datetime,
    openings: Iterable[tuple[datetime, datetime]] | None = None,
    reserve_s: Duration | None = None,
) -> End:
    """Say when a run that begins *now* is over.

    Targets that need not wait for each other run side by side, unless the plan bounds them together: then
    one after the other. A round begins only if it ends before its window does.

    Args:
        settings: The plan.
        found: Its stretches.
        each_s: Seconds that one server takes.
        now: UTC.
        openings: When windows open and close, in order, the open one first; None: any time.
        reserve_s: Seconds that must be left before a window closes for a server to be started; None: as long
            as it takes.
    """
    targets = {target.name: target for target in settings.targets}
    own = {name: [part for part in found if part.target == name] for name in targets}
    before = waits_for(settings)
    one_by_one = settings.concurrency is not None
    if openings is None:
        busy: dict[str, float] = {}
        for name in _in_turn(before):
            starts = max((busy[other] for other in before[name]), default=0.0)
            if one_by_one:
                starts = max(busy.values(), default=0.0)
            work = sum(part.rounds * each_s(targets[name]) + part.pause_s for part in own[name])
            busy[name] = starts + work
        total = max(busy.values(), default=0.0)
        return End(now + timedelta(seconds=total), total)
    lengths = {
        name: (each_s(target), max(each_s(target), (reserve_s or each_s)(target)))
        for name, target in targets.items()
    }
    return _in_windows([part for name in _in_turn(before) for part in own[name]], lengths, now, openings)


def _in_turn(before: Mapping[str, set[str]]) -> list[str]:
    """Sort targets so that everybody comes after those it needs."""
    return sorted(before, key=lambda name: len(before[name]))


def _in_windows(
    parts: Sequence[Stretch],
    lengths: Mapping[str, tuple[float, float]],
    now: datetime,
    openings: Iterable[tuple[datetime, datetime]],
) -> End:
    """Lay rounds into windows, target after target: side by side they would be sooner."""
    nights, busy, free_at = 0, 0.0, now
    ahead = list(parts)
    stuck = 0
    for opens, closes in openings:
        if nights >= MAX_OPENINGS or not ahead:
            break
        at = max(opens, free_at, now)
        used = False
        while ahead:
            part = ahead[0]
            length, reserve = lengths[part.target]
            left = (closes - at).total_seconds() - reserve
            fit = min(part.rounds, 1 + int(left // max(length, 1e-9))) if left >= 0 else 0
            if fit:
                used = True
                at += timedelta(seconds=fit * length)
                busy += fit * length
            if fit < part.rounds:
                ahead[0] = replace(part, rounds=part.rounds - fit)
                break
            ahead.pop(0)
            busy += part.pause_s
            at += timedelta(seconds=part.pause_s)
        free_at = at
        nights += used
        stuck = 0 if used else stuck + 1
        if stuck > _EMPTY_OPENINGS:
            break
    if ahead:
        return End(None, busy, nights, ahead[0].target)
    return End(free_at, busy, nights)


_EMPTY_OPENINGS = 20
"""Windows in which nothing at all could be started: the next ones are not longer."""
