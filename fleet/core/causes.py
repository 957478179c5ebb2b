"""What failures have in common, and so whom they hold: one server, a group, or everybody.

A failure has a signature: the phase it happened in, and the cloud's code or its words without names and
numbers. Failures of one signature on servers that share an attribute, while servers without it were
verified, are that group's. On servers that share nothing they are everybody's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from fleet.core.events import Member
from fleet.core.state import GROUP_OF, Phase, Run, ServerState, attribute_of

NO_CAPACITY = frozenset({"Ecs.0319"})
"""Codes that say that a flavor is sold out in a zone (ECS API reference, "Error codes")."""

LIKE_FAILURES, UNLIKE_FAILURES = 2, 3
"""Failures of one signature that make a group's cause, and everybody's."""

_CHANGING = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4,}){1,4}|\d+(\.\d+)?", re.IGNORECASE)


def signature(server: ServerState) -> tuple[Phase | None, str]:
    """Return what a failure has in common with others of its cause."""
    if server.code:
        return server.failed_in, server.code
    return server.failed_in, _alike_words(server.reason, server.member.name)


@lru_cache(maxsize=4096)  # asked of every failure after every event
def _alike_words(reason: str, name: str) -> str:
    return _CHANGING.sub("…", reason.replace(name, "…") if name else reason)


def group_to_hold(run: Run) -> tuple[dict[str, str], str] | None:
    """Return the group that the newest failure holds, with the reason; None when it holds none."""
    if not run.failures:
        return None
    newest = run.servers[next(reversed(run.failures))]
    if newest.code in NO_CAPACITY:
        found = {name: attribute_of(newest.member, name) for name in ("flavor", "availability_zone")}
        group = {name: value for name, value in found.items() if value}
        return None if not group or _is_held(run, group) else (group, f"no capacity: {newest.reason}")
    alike = _alike(run, newest)
    if len(alike) < LIKE_FAILURES:
        return None
    for attribute in GROUP_OF:
        value = attribute_of(newest.member, attribute)
        group = {attribute: value}
        if (
            value
            and all(attribute_of(each.member, attribute) == value for each in alike)
            and not _is_held(run, group)
            and _only_others_are_well(run, attribute, value)
        ):
            return group, f"{len(alike)} failed alike: {newest.reason}"
    return None


def everybodys(run: Run) -> str | None:
    """Say what failures on servers that share nothing have in common; None when there is no such thing."""
    if len(run.failures) < UNLIKE_FAILURES:
        return None
    newest = run.servers[next(reversed(run.failures))]
    alike = _alike(run, newest)
    if len(alike) < UNLIKE_FAILURES:
        return None
    for attribute in GROUP_OF:
        values = {attribute_of(server.member, attribute) for server in alike}
        if len(values) == 1:
            return None
    return f"{len(alike)} servers that share neither zone, flavor nor image failed alike: {newest.reason}"


def is_of(member: Member, group: dict[str, str]) -> bool:
    """Tell whether a server is of a group."""
    return all(attribute_of(member, name) == value for name, value in group.items())


def words(group: dict[str, str]) -> str:
    """Return a group for people: ``flavor s3.large, availability_zone eu-de-02``."""
    return ", ".join(f"{name} {value}" for name, value in group.items())


def _alike(run: Run, newest: ServerState) -> list[ServerState]:
    wanted = signature(newest)
    return [server for each in run.failures if signature(server := run.servers[each]) == wanted]


def _is_held(run: Run, group: dict[str, str]) -> bool:
    return any(held == group for held, _ in run.groups_held)


def _only_others_are_well(run: Run, attribute: str, value: str) -> bool:
    """Tell whether somebody was verified without the attribute's value, and nobody with it."""
    well = sum(target.phases[Phase.VERIFIED] for target in run.targets.values())
    return well > 0 and run.verified_by[attribute, value] == 0


def in_common(run: Run, failed: Iterable[ServerState]) -> list[str]:
    """Say what *failed* have in common that no verified server has: ``flavor s3 (verified: c4)``.

    Empty when nobody was verified: then nothing tells them from the others.
    """
    members = [server.member for server in failed]
    well = [server.member for server in run.servers.values() if server.phase is Phase.VERIFIED]
    told = []
    for attribute in GROUP_OF:
        theirs = {attribute_of(member, attribute) for member in members}
        others = {attribute_of(member, attribute) for member in well}
        if len(theirs) == 1 and others and not theirs & others and all(theirs):
            (value,) = theirs
            verified = ", ".join(sorted(other or "(none)" for other in others))
            told.append(f"{attribute.replace('_', ' ')} {value} (verified: {verified})")
    return told
