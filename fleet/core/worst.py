"""The worst that a plan allows, as numbers, before anything is touched. Pure.

What is bounded is what the run does by itself: until it is held, and until a person releases, retries or
edits something. The bounds follow from one remark: a server is started only while no budget is spent and
every limit has room, so at the last start the failures are still allowed ones, and whatever is in flight
then may fail as well. Servers that were verified and are found bad later (`bake`) come on top: nothing that
is decided before can bound what nobody can see.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from fleet.core.events import Member
from fleet.core.model import ServerId
from fleet.core.rollout import allowed, opened_cap
from fleet.core.settings import NeverMoreThan, Settings, Target
from fleet.core.state import attribute_of

ZONE = "availability_zone"

_MANY_TARGETS = 12
"""With more targets than these, all are taken to be worked on at once: a bound still, only a wider one."""


@dataclass(frozen=True, slots=True)
class WaveBound:
    """One wave at worst.

    Attributes:
        at_once: Most of its servers in flight at once.
        limited_by: What keeps that from being more: a field of the plan, or ``the wave``.
        lost: Most servers of the target lost by its end.
        if_late: Most lost when what is wrong shows only at its bake; None: there is none.
    """

    number: int
    servers: int
    at_once: int
    limited_by: str
    lost: int
    if_late: int | None = None


@dataclass(frozen=True, slots=True)
class TargetBound:
    """One target at worst.

    Attributes:
        servers: That will be started.
        in_flight: At most at once.
        out: Out of service at most at once: in flight, or failed and left down. At worst all of them are
            lost, so it is also how many can be lost before nothing more is started.
        may_fail: Failures that do not hold.
    """

    name: str
    servers: int
    waves: tuple[WaveBound, ...]
    in_flight: int
    out: int
    may_fail: int


@dataclass(frozen=True, slots=True)
class GroupBound:
    """Servers with one value of an attribute: out of service at most at once, of how many."""

    attribute: str
    value: str
    out: int
    servers: int


@dataclass(frozen=True, slots=True)
class WorstCase:
    """The whole plan at worst; see `TargetBound`.

    Attributes:
        groups: For the zone, and for every attribute that `spread` names: the value that is hit hardest.
    """

    servers: int
    in_flight: int
    out: int
    targets: tuple[TargetBound, ...]
    groups: tuple[GroupBound, ...]

    @property
    def lost(self) -> int:
        """Most servers lost before nothing more is started."""
        return self.out


def worst_case(
    settings: Settings, members: Sequence[Member], skipped: Mapping[ServerId, object] | None = None
) -> WorstCase:
    """Return the bounds for a run of *members*, *skipped* ones left alone."""
    return _Worst(settings, members, skipped or {}).bounds()


def waits_for(settings: Settings) -> dict[str, set[str]]:
    """Return for every target those that are through before it starts, directly or through others."""
    before: dict[str, set[str]] = {}
    names = [target.name for target in settings.targets]
    needs = {
        target.name: set(names[:place] if target.needs is None else target.needs)
        for place, target in enumerate(settings.targets)
    }
    for name in names:
        seen: set[str] = set()
        ahead = list(needs[name])
        while ahead:
            if (each := ahead.pop()) not in seen:
                seen.add(each)
                ahead += needs.get(each, ())
        before[name] = seen
    return before


def plan_concurrency(settings: Settings) -> int | None:
    """Return how many servers of all targets may be in flight at once, or None for no bound."""
    if settings.concurrency is None:
        return None
    return max(settings.concurrency, *(target.rollout.concurrency for target in settings.targets))


def under_cap(cap: NeverMoreThan, servers: int) -> int:
    """Return how many of *servers* can be failed or in flight at once: the others may all be verified.

    >>> under_cap(NeverMoreThan(at_least=4, of_verified=20), 60)
    10
    """
    most = min(servers, max(cap.at_least, math.floor(servers * cap.of_verified / 100) + 1))
    while most > 0 and most > opened_cap(cap, servers - most):
        most -= 1
    return most


class _Worst:
    def __init__(
        self, settings: Settings, members: Sequence[Member], skipped: Mapping[ServerId, object]
    ) -> None:
        self._settings = settings
        self._sizes = Counter(member.target for member in members)
        self._members: dict[str, list[Member]] = {target.name: [] for target in settings.targets}
        for member in members:
            if member.id not in skipped:
                self._members[member.target].append(member)
        self._before = waits_for(settings)
        self._total = sum(len(found) for found in self._members.values())
        self._most = plan_concurrency(settings)
        budget = settings.budget
        self._run_may = None if budget.hold_after is None else allowed(budget.hold_after, len(members))

    def bounds(self) -> WorstCase:
        targets = tuple(self._target(target) for target in self._settings.targets)
        dead = {each.name: min(each.may_fail, each.servers) for each in targets}
        flying = self._together({each.name: each.in_flight for each in targets}, {})
        if self._most is not None:
            flying = min(flying, self._most)
        out = min(
            self._together({each.name: each.out for each in targets}, dead), flying + sum(dead.values())
        )
        if self._run_may is not None:
            out = min(out, flying + self._run_may)
        if (cap := self._settings.budget.never_more_than) is not None:
            out = min(out, under_cap(cap, self._total))
            flying = min(flying, out)
        return WorstCase(self._total, flying, out, targets, tuple(self._groups(targets, out)))

    def _target(self, target: Target) -> TargetBound:
        members, rollout = self._members[target.name], target.rollout
        may = allowed(rollout.hold_after, self._sizes[target.name])
        waves: list[WaveBound] = []
        begun = out = 0
        by_number: dict[int, list[Member]] = {}
        for member in members:
            by_number.setdefault(member.wave, []).append(member)
        for number, wave in sorted(by_number.items()):
            begun += len(wave)
            limits = dict(self._limits(target, wave, begun))
            by = min(limits, key=lambda name: limits[name])
            lost = min(begun, may + limits[by], *(limits[name] for name in _OF_THE_DEAD_TOO & limits.keys()))
            if self._run_may is not None:
                lost = min(lost, self._run_may + limits[by])
            out = max(out, lost)
            late = begun if rollout.bake_s > 0 else None
            waves.append(WaveBound(number, len(wave), limits[by], by, out, late))
        flying = max((wave.at_once for wave in waves), default=0)
        return TargetBound(target.name, len(members), tuple(waves), flying, out, may)

    def _limits(self, target: Target, wave: Sequence[Member], begun: int) -> Iterator[tuple[str, int]]:
        """Yield what bounds the servers of a wave that are in flight at once. Of equals the first is told."""
        rollout = target.rollout
        yield "the wave", len(wave)
        yield "concurrency", rollout.concurrency
        if self._most is not None:
            yield "concurrency of the plan", self._most
        if rollout.max_unavailable is not None:
            yield "max_unavailable", allowed(rollout.max_unavailable, self._sizes[target.name])
        for attribute, most in rollout.spread.items():
            values = Counter(attribute_of(member, attribute) for member in wave)
            yield f"spread {attribute}", sum(min(most, count) for count in values.values())
        if rollout.never_more_than is not None:
            yield "never_more_than", under_cap(rollout.never_more_than, begun)
        if (cap := self._settings.budget.never_more_than) is not None:
            others = sum(
                len(self._members[name])
                for name, before in self._before.items()
                if name != target.name and target.name not in before
            )
            yield "never_more_than of the plan", under_cap(cap, begun + others)

    def _groups(self, targets: Sequence[TargetBound], out: int) -> Iterator[GroupBound]:
        spread = (name for target in self._settings.targets for name in target.rollout.spread)
        for attribute in dict.fromkeys((ZONE, *spread)):
            servers: Counter[str] = Counter()
            for members in self._members.values():
                servers.update(attribute_of(member, attribute) for member in members)
            found = [
                GroupBound(attribute, value, min(out, self._group(targets, attribute, value)), count)
                for value, count in servers.items()
            ]
            if found:
                yield max(found, key=lambda group: (group.out, group.servers, group.value))

    def _group(self, targets: Sequence[TargetBound], attribute: str, value: str) -> int:
        active: dict[str, int] = {}
        dead: dict[str, int] = {}
        limits: list[int | None] = []
        for bound in targets:
            waves = Counter(
                member.wave
                for member in self._members[bound.name]
                if attribute_of(member, attribute) == value
            )
            if not waves:
                continue
            begun = most = 0
            for wave in bound.waves:
                begun += waves[wave.number]
                flying = min(waves[wave.number], wave.at_once)
                most = max(most, min(begun, bound.may_fail + flying, wave.lost))
            rollout = next(each for each in self._settings.targets if each.name == bound.name).rollout
            limit = rollout.spread.get(attribute)
            limits.append(limit)
            active[bound.name] = most if limit is None else min(most, limit)
            dead[bound.name] = min(bound.may_fail, active[bound.name])
        found = self._together(active, dead)
        bounded = [limit for limit in limits if limit is not None]
        return min(found, max(bounded)) if bounded and len(bounded) == len(limits) else found

    def _together(self, active: Mapping[str, int], dead: Mapping[str, int]) -> int:
        """Return the most at once: targets that may run together as active, the others as what they left."""
        names = [name for name in active if active[name]]
        if len(names) > _MANY_TARGETS:
            return sum(active.values())
        left = sum(dead.values())
        best = 0
        for count in range(1, len(names) + 1):
            for chosen in combinations(names, count):
                if any(one in self._before[other] for one in chosen for other in chosen):
                    continue
                best = max(best, sum(max(active[name], dead.get(name, 0)) for name in chosen)
                           + left - sum(dead.get(name, 0) for name in chosen))  # fmt: skip
        return best


_OF_THE_DEAD_TOO = frozenset({"max_unavailable", "never_more_than", "never_more_than of the plan"})
"""Limits that count servers which failed, so that they bound what can be lost as well."""
