"""What a run would do: whom it hits, in which waves, and at worst."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from fleet.core.events import Member
from fleet.core.rollout import allowed_failures
from fleet.core.settings import Target
from fleet.survey import Survey

_NAMES = 8


def worst_case(target: Target, members: list[Member], size: int) -> tuple[int, int, int]:
    """Return what a target's limits allow at the very worst.

    Args:
        target: Whose limits.
        members: Its servers that will be started.
        size: Its servers in all, skipped ones included: what a share is of.

    Returns:
        Most servers in flight at once; most that can be lost before nothing more is started, which are the
        failures that are allowed, the one that holds, and whoever else is in flight at that moment; and the
        failures that are allowed.
    """
    flying = min(
        target.rollout.concurrency, max(Counter(member.wave for member in members).values(), default=0)
    )
    allowed = allowed_failures(target.rollout.hold_after, size)
    return flying, min(len(members), allowed + flying), allowed


def _members(found: Survey, target: Target) -> tuple[list[Member], int]:
    """Return a target's servers that will be started, and how many it has with the skipped ones."""
    members = [member for member in found.members if member.target == target.name]
    return [member for member in members if member.id not in found.skipped], len(members)


def as_text(found: Survey, *, everything: bool = False) -> Iterator[str]:
    """Yield the lines for people."""
    yield f"cloud: {found.identity.cloud}, as {found.identity.user_name}"
    for target in found.settings.targets:
        yield from _target(target, *_members(found, target), everything)
    reasons = Counter(found.resolution.left_out.values())
    if reasons:
        yield f"left out: {sum(reasons.values())}"
        names: dict[str, list[str]] = {}
        for server, reason in found.resolution.left_out.items():
            names.setdefault(reason, []).append(
                found.servers[server].label if server in found.servers else server
            )
        for reason, count in reasons.most_common(None if everything else 12):
            yield f"  {count} x {reason}: {_some(names[reason], everything)}"
    if found.skipped:
        yield f"skipped as unfit: {len(found.skipped)}"
        for server, reason in found.skipped.items():
            yield f"  {found.servers[server].label}: {reason}"
    for problem in found.resolution.warnings:
        yield f"warning: {problem}"
    # What stops the run is raised as an error, by `Survey.refuse`.
    for finding in found.warnings:
        yield f"warning: {finding}"


def _target(
    target: Target,
    members: list[Member],
    size: int,
    everything: bool,  # noqa: FBT001
) -> Iterator[str]:
    waves = Counter(member.wave for member in members)
    sizes = ", ".join(str(waves[number]) for number in sorted(waves)) or "none"
    flying, lost, allowed = worst_case(target, members, size)
    yield (
        f"{target.name}: {len(members)} servers in {len(waves)} waves ({sizes}), "
        f"at most {target.rollout.concurrency} in flight; every system disk will be wiped"
    )
    calls = Counter(str(member.call) for member in members)
    yield f"  calls: {', '.join(f'{count} x {call}' for call, count in calls.items())}"
    login = f"key pair {target.reinstall.key_pair}" if target.reinstall.key_pair else "an admin password"
    data = target.reinstall.user_data
    sent = f"{data.size} bytes ({data.path or data.kind})" if data else "none"
    yield f"  login: {login}; user data: {sent}"
    yield (
        f"  at worst: {flying} in flight at once; {lost} lost before it holds "
        f"(the {_ordinal(allowed + 1)} failure holds)"
    )
    for number in sorted(waves):
        names = [member.name or member.id for member in members if member.wave == number]
        yield f"  wave {number}: {_some(names, everything)}"


def _some(names: list[str], everything: bool) -> str:  # noqa: FBT001
    if everything or len(names) <= _NAMES:
        return ", ".join(names)
    return f"{', '.join(names[: _NAMES - 2])}, … {names[-1]} ({len(names)})"


def _ordinal(number: int) -> str:
    if number % 100 in {11, 12, 13}:
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"


def as_data(found: Survey) -> dict[str, Any]:
    """Return everything, for JSON. No secret is in it."""
    targets = []
    for target in found.settings.targets:
        members, size = _members(found, target)
        flying, lost, _ = worst_case(target, members, size)
        targets.append(
            {
                "name": target.name,
                "servers": len(members),
                "waves": [size for _, size in sorted(Counter(m.wave for m in members).items())],
                "most_in_flight": flying,
                "most_lost": lost,
            }
        )
    return {
        "plan": found.settings.plan,
        "cloud": found.identity.cloud,
        "user": found.identity.user_name,
        "targets": targets,
        "servers": [
            {
                "id": m.id,
                "name": m.name,
                "target": m.target,
                "wave": m.wave,
                "call": str(m.call),
                "image": m.image,
            }
            for m in found.members
        ],
        "left_out": [
            {
                "id": server,
                "name": found.servers[server].name if server in found.servers else "",
                "reason": reason,
            }
            for server, reason in found.resolution.left_out.items()
        ],
        "skipped": dict(found.skipped),
        "problems": [str(problem) for problem in found.resolution.problems],
        "findings": [
            {"target": f.target, "server": f.server, "message": f.message, "hint": f.hint, "stops": f.stops}
            for f in found.findings
        ],
    }
