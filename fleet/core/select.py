"""Which servers a plan means: selectors, protection, expectations, limits.

An empty selector matches nothing, never everything. Whoever is not chosen is given one reason in words.

Two readings on purpose. A ``select`` narrows: *every* given field must match. What takes away
(``protect``, ``exclude``) is read the cautious way round: *any* of its conditions is enough, so that
``protect: {ids: [a], tags: {tier: control}}`` protects server a and the whole control tier.
"""

from __future__ import annotations

import fnmatch
import hashlib
import ipaddress
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from fleet.core.hosts import age_s, listed, too_young, unmatched
from fleet.core.model import Server, ServerId
from fleet.core.settings import SHUFFLE, Amount, Select, Settings, Share, Target
from fleet.core.unlike import unlike, words
from fleet.errors import Problem

NOT_IN_MANIFEST = "not in the manifest: it was not approved"

LOWEST_NAMED = 3
"""From so many servers on it is worth saying that nothing bounds a selector."""

_NAMED = 5  # servers named in a message before "and 37 more"
_TARGETS_NAMED = 3


@dataclass(frozen=True, slots=True)
class Resolution:
    """Who is reinstalled, and who is not and why.

    Attributes:
        chosen: Every target's servers in the order of their rollout; empty when the limit left none.
        left_out: One reason in words for every other server.
        problems: Why this plan must not be run on this cloud; empty when it may.
        warnings: What is odd about it and stops nothing.
    """

    chosen: dict[str, tuple[Server, ...]]
    left_out: dict[ServerId, str]
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


# One server, one selector -----------------------------------------------------------------------------


def is_empty(select: Select) -> bool:
    """Tell whether *select* says nothing at all."""
    return select == Select()


def matches(select: Select, server: Server, now: datetime | None = None) -> str | None:
    """Return None when every given field of *select* matches *server*, else the reason why not.

    Args:
        select: Every field of it must fit.
        server: Who is looked at.
        now: By which its age is told. None: its age was judged before, when the run was opened.
    """
    if is_empty(select):
        return "the selector is empty"
    return next((miss for _, miss in _conditions(select, server, now) if miss is not None), None)


def removed_by(select: Select, server: Server, now: datetime | None = None) -> str | None:
    """Return which condition of *select* takes *server* away, or None when none does.

    For ``protect`` and ``exclude``: one condition that fits is enough. *now* is as in `matches`; whose age
    the cloud does not say is taken away, as it may be old enough.
    """
    if now is not None and select.older_than_s is not None and age_s(server, now) is None:
        return "the cloud does not say when it was created"
    return next((hit for hit, miss in _conditions(select, server, now) if miss is None), None)


def is_protected(settings: Settings, server: Server, now: datetime | None = None) -> str | None:
    """Return why *server* must never be touched, or None."""
    if settings.protect is None:
        return None
    return removed_by(settings.protect, server, now)


def _conditions(select: Select, server: Server, now: datetime | None) -> Iterator[tuple[str, str | None]]:
    """Yield for every condition of *select* what it says if it fits, and why it does not (or None)."""
    if select.ids:
        yield f"id {server.id} is listed", None if server.id in select.ids else "its id is not listed"
    if select.name or select.name_regex:
        yield f"name {server.name} matches", _name_miss(select, server.name)
    for key, values in select.tags.items():
        yield _tag(key, server.tags.get(key)), _tag_miss(key, values, server.tags)
    for word, found, wanted in (
        ("zone", server.zone, select.zone),
        ("status", server.status, select.status),
        ("flavor", server.flavor, select.flavor),
        ("image", server.image, select.image),
        ("enterprise project", server.enterprise_project, select.enterprise_project),
    ):
        if wanted:
            yield f"{word} {found}", None if found in wanted else f"{word} {found or '(none)'} {_not(wanted)}"
    if select.hosts:
        yield "the inventory lists it", None if listed(select, server) else "the inventory does not list it"
    if select.older_than_s is not None and now is not None:
        yield f"created {server.created}", too_young(select, server, now)
    if select.vpc:
        common = [vpc for vpc in server.vpcs if vpc in select.vpc]
        yield (
            f"vpc {', '.join(common)}",
            None if common else f"vpc {', '.join(server.vpcs)} {_not(select.vpc)}",
        )
    if select.ip:
        inside = _address_inside(server, select.ip)
        yield f"address {inside}", None if inside else f"no address in {', '.join(select.ip)}"


def _not(wanted: Sequence[str]) -> str:
    return f"is not {wanted[0]}" if len(wanted) == 1 else f"is none of {', '.join(wanted)}"


def _tag(key: str, value: str | None) -> str:
    return f"tag {key}={value}" if value else f"tag {key}"


def _tag_miss(key: str, values: Sequence[str], tags: dict[str, str]) -> str | None:
    if key not in tags:
        return f"no tag {key}"
    if not values or tags[key] in values:
        return None
    return f"tag {key}={tags[key]} {_not(values)}"


def _name_miss(select: Select, name: str) -> str | None:
    """Globs and regular expressions are one field with several values: any of them will do."""
    if any(fnmatch.fnmatchcase(name, glob) for glob in select.name):
        return None
    if any(re.fullmatch(pattern, name) for pattern in select.name_regex):
        return None
    return f"name {_not((*select.name, *(f'/{pattern}/' for pattern in select.name_regex)))}"


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@lru_cache(maxsize=4096)
def _network(text: str) -> Network:
    return ipaddress.ip_network(text, strict=False)


def _address_inside(server: Server, networks: Iterable[str]) -> str | None:
    for address in (*server.addresses, *server.public_addresses):
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:  # whatever the cloud wrote there, it is in no network
            continue
        if any(parsed in _network(network) for network in networks):
            return address
    return None


# The order of a rollout -------------------------------------------------------------------------------


def in_order(servers: Iterable[Server], order: Sequence[str], *, seed: int = 0) -> tuple[Server, ...]:
    """Sort *servers* by the attributes of *order*; numbers count (web-2 before web-10), ids break ties.

    Servers without a tag that they are ordered by come last. `SHUFFLE` is an attribute like the others, drawn
    from *seed* and the id: ``[availability_zone, shuffle]`` shuffles within each zone.
    """

    def key(server: Server) -> tuple[object, ...]:
        values = (_drawn(server, seed) if name == SHUFFLE else _attribute(server, name) for name in order)
        return (*((value is None, _natural(value or "")) for value in values), server.id)

    return tuple(sorted(servers, key=key))


def _drawn(server: Server, seed: int) -> str:
    return hashlib.sha256(f"{seed}/{server.id}".encode()).hexdigest()


def _attribute(server: Server, name: str) -> str | None:
    if name.startswith("tag:"):
        return server.tags.get(name.removeprefix("tag:"))
    return {
        "name": server.name,
        "availability_zone": server.zone,
        "flavor": server.flavor,
        "image": server.image,
        "id": server.id,
    }[name]


@lru_cache(maxsize=1024)  # zones and flavors repeat; names do not, and a key is larger than its server
def _natural(text: str) -> tuple[object, ...]:
    """Return a sort key in which numbers count. Digits are compared by length, then text: no huge ints."""
    parts: list[tuple[int, int, str]] = []
    for digits, other in re.findall(r"([0-9]+)|([^0-9]+)", text):
        number = digits.lstrip("0")
        parts.append((0, len(number), number) if digits else (1, 0, other))
    return (tuple(parts), text)


# The whole plan against a cloud -----------------------------------------------------------------------


def resolve(
    settings: Settings,
    servers: Sequence[Server],
    *,
    limit: Sequence[str] = (),
    seed: int = 0,
    only: Collection[ServerId] | None = None,
    now: datetime | None = None,
) -> Resolution:
    """Say which of the cloud's *servers* the plan means, in which order, and why not the others.

    Args:
        settings: The plan.
        servers: Everything the cloud shows; names may repeat, ids decide.
        limit: Names (globs) and ids that narrow the selection; ``!`` before one takes away instead.
            Applied after the expectations were checked.
        seed: What `SHUFFLE` in an order is drawn from.
        only: Ids of a manifest: others are left out before anything is counted.
        now: By which ages are told; a plan that selects by age needs it.

    Raises:
        ValueError: It does, and there is none: without it young servers would be selected.
    """
    if now is None and _asks_for_age(settings):
        raise ValueError("the plan selects by age, and nobody said what time it is")
    problems: list[Problem] = []
    warnings: list[Problem] = []
    left_out: dict[ServerId, str] = {}
    found: dict[str, list[Server]] = {target.name: [] for target in settings.targets}
    matched: Counter[str] = Counter()
    shared: dict[tuple[str, ...], list[Server]] = {}

    for server in servers:
        wanted_by, reason = _wanted(settings, server, now)
        if not wanted_by:
            left_out[server.id] = reason
            continue
        if only is not None and server.id not in only:
            left_out[server.id] = NOT_IN_MANIFEST
            continue
        found[wanted_by[0]].append(server)
        matched.update(wanted_by)
        if len(wanted_by) > 1:
            shared.setdefault(tuple(wanted_by), []).append(server)

    for names, both in shared.items():
        targets = " and ".join(names)
        problems.append(
            Problem(
                f"targets {targets} both want {_names(both)}",
                hint="a server belongs to one target: narrow one selector, or add an exclude",
                path="targets",
            )
        )
    ids = {server.id for server in servers}
    for index, target in enumerate(settings.targets):
        problems += _expectations(index, target, matched[target.name], found[target.name])
        problems += _unknown_ids(f"targets[{index}].select.ids", target.select, ids)
        warnings += _unknown_ids(f"targets[{index}].exclude.ids", target.exclude, ids)
    warnings += _unknown_ids("protect.ids", settings.protect, ids)
    _judge_inventories(settings, servers, now, problems, warnings)

    if limit:
        problems += _narrow(found, limit, left_out)
    for index, target in enumerate(settings.targets):
        problems += _budget(index, target, len(found[target.name]))
    problems += _run_budget(settings, sum(len(servers) for servers in found.values()))
    chosen = {
        target.name: in_order(found[target.name], target.rollout.order, seed=seed)
        for target in settings.targets
    }
    return Resolution(chosen, left_out, tuple(problems), tuple(warnings))


def _asks_for_age(settings: Settings) -> bool:
    selectors = [settings.protect, *(each for one in settings.targets for each in (one.select, one.exclude))]
    return any(each is not None and each.older_than_s is not None for each in selectors)


def _judge_inventories(
    settings: Settings,
    servers: Sequence[Server],
    now: datetime | None,
    problems: list[Problem],
    warnings: list[Problem],
) -> None:
    """Note hosts that are nobody, and hosts that may be two, which stops where it decides who is wiped."""
    for index, target in enumerate(settings.targets):
        if target.select.hosts:
            meant = [server for server in servers if matches(target.select, server, now) is None]
            found = unmatched(f"targets[{index}].select.inventory", target.select, servers, meant)
            for doubtful, problem in found:
                (problems if doubtful else warnings).append(problem)
        away = unmatched(f"targets[{index}].exclude.inventory", target.exclude, servers, servers)
        warnings += [problem for _, problem in away]
    warnings += [problem for _, problem in unmatched("protect.inventory", settings.protect, servers, servers)]


def _wanted(settings: Settings, server: Server, now: datetime | None) -> tuple[list[str], str]:
    """Return the targets that want *server*, or none and the reason."""
    wanted: list[str] = []
    reasons: list[tuple[str, str]] = []
    for target in settings.targets:
        if (miss := matches(target.select, server, now)) is not None:
            reasons.append((target.name, miss))
        elif target.exclude is not None and (hit := removed_by(target.exclude, server, now)) is not None:
            reasons.append((target.name, f"excluded: {hit}"))
        else:
            wanted.append(target.name)
    if not wanted:
        if len(reasons) == 1:
            return [], reasons[0][1]
        told = [f"{name}: {miss}" for name, miss in reasons[:_TARGETS_NAMED]]
        more = len(reasons) - len(told)
        return [], f"no target matches ({'; '.join(told)}{f'; and {more} more' if more else ''})"
    if (why := is_protected(settings, server, now)) is not None:
        return [], f"protected: {why}"
    if server.bare_metal:
        return [], "a bare-metal server: its disks are reinstalled by another service"
    return wanted, ""


def _expectations(index: int, target: Target, count: int, found: Sequence[Server]) -> Iterator[Problem]:
    where = f"targets[{index}]"
    if is_empty(target.select):
        yield Problem(
            f"the selector of target {target.name} is empty; that never means every server",
            hint='write what to select, such as tags: {role: web}; name: "*" is every server',
            path=f"{where}.select",
        )
        return
    if count == 0:
        yield Problem(
            f"target {target.name} matches no server",
            hint="`fleet preview` says for every server why not; widen the selector or drop the target",
            path=f"{where}.select",
        )
        return
    if target.expect_min is not None and count < target.expect_min:
        yield Problem(
            f"target {target.name} matches {_count(count)}, fewer than the {target.expect_min} expected",
            hint="look for what is missing in `fleet preview`; lower expect.min if that is right",
            path=f"{where}.expect",
        )
    if target.expect_max is not None and count > target.expect_max:
        strangers = words(unlike(found, at_least=target.expect_min or 1, at_most=target.expect_max))
        yield Problem(
            f"target {target.name} matches {_count(count)}, more than the {target.expect_max} expected: "
            f"{strangers}",
            hint="narrow the selector or exclude them; raise expect.max if that is right",
            path=f"{where}.expect",
        )


def _unknown_ids(path: str, select: Select | None, known: set[ServerId]) -> Iterator[Problem]:
    for wanted in () if select is None else dict.fromkeys(select.ids):
        if wanted not in known:
            yield Problem(
                f"the cloud shows no server with the id {wanted}",
                hint="mistyped, deleted, or in another project or region",
                path=path,
            )


def _narrow(
    found: dict[str, list[Server]], limit: Sequence[str], left_out: dict[ServerId, str]
) -> Iterator[Problem]:
    """Take away what *limit* does not name, and note it."""
    everybody = [server for servers in found.values() for server in servers]
    keep = [entry for entry in limit if not entry.startswith("!")]
    drop = [entry.removeprefix("!") for entry in limit if entry.startswith("!")]
    for entry, bare in [*((entry, entry) for entry in keep), *((f"!{entry}", entry) for entry in drop)]:
        if not any(_named(server, bare) for server in everybody):
            yield Problem(
                f"--limit {entry} matches none of the servers that the plan selects",
                hint="it takes names, globs and ids of selected servers; `!` before one takes away",
            )
    gone = 0
    for servers in found.values():
        for server in tuple(servers):
            kept = not keep or any(_named(server, entry) for entry in keep)
            if not kept or any(_named(server, entry) for entry in drop):
                servers.remove(server)
                left_out[server.id] = "left out by --limit"
                gone += 1
    if everybody and gone == len(everybody):
        yield Problem("--limit leaves no server at all", hint="`fleet preview` lists what the plan selects")


def _named(server: Server, entry: str) -> bool:
    return server.id == entry or fnmatch.fnmatchcase(server.name, entry)


def _budget(index: int, target: Target, count: int) -> Iterator[Problem]:
    """Find limits that let nothing through: whoever writes 1 % of 12 servers did not mean 0."""
    where = f"targets[{index}].rollout"
    if (least := _nothing(target.rollout.hold_after, count)) is not None:
        yield Problem(
            f"max_failures of target {target.name} rounds to nothing: {target.rollout.hold_after} of "
            f"{_count(count)}",
            hint=f"write a count (0: the first failure holds), or select at least {least} servers",
            path=f"{where}.max_failures",
        )
    if (least := _nothing(target.rollout.max_unavailable, count)) is not None:
        yield Problem(
            f"max_unavailable of target {target.name} rounds to nothing: {target.rollout.max_unavailable} of "
            f"{_count(count)}, so that no server could ever be started",
            hint=f"write a count of at least 1, or select at least {least} servers",
            path=f"{where}.max_unavailable",
        )


def _run_budget(settings: Settings, count: int) -> Iterator[Problem]:
    if (least := _nothing(settings.budget.hold_after, count)) is not None:
        yield Problem(
            f"failures.hold_after of the plan rounds to nothing: {settings.budget.hold_after} of "
            f"{_count(count)}",
            hint=f"write a count (0: the first failure holds), or select at least {least} servers",
            path="failures.hold_after",
        )


def _nothing(limit: Amount | None, count: int) -> int | None:
    """Return how many servers a share takes to be at least one, when *count* are too few; else None."""
    if not isinstance(limit, Share) or not count or math.floor(count * limit.percent / 100 + 1e-9):
        return None
    return math.ceil(100 / limit.percent - 1e-9)


def _count(count: int) -> str:
    return "1 server" if count == 1 else f"{count} servers"


def _names(servers: Sequence[Server]) -> str:
    told = ", ".join(
        f"{server.name} ({server.id})" if server.name else server.id for server in servers[:_NAMED]
    )
    more = len(servers) - _NAMED
    return f"{told} and {more} more" if more > 0 else told
