"""Which of some servers are unlike the rest: for a selector that has grown. Pure.

Somebody tags two thousand staging servers ``role=web``, and the sixty that were meant are a minority now. So
"the rest" is what the plan expects: a property that about as many servers share as were expected. Whoever
lacks it is unlike. Only where no property tells them apart does rarity decide.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fleet.core.model import Server

NAMED = 10


@dataclass(frozen=True, slots=True)
class Unlike:
    """Who does not belong, by all appearances.

    Attributes:
        servers: The most unlike first; at most `NAMED`.
        count: Of all that are unlike; 0 where rarity decided.
        what: What the others share and these do not (``tag env=prod``), or empty.
        alike: How many share it.
    """

    servers: tuple[Server, ...]
    count: int = 0
    what: str = ""
    alike: int = 0


def unlike(servers: Sequence[Server], *, at_least: int, at_most: int) -> Unlike:
    """Return those of *servers* that are most unlike the rest, where between so and so many were expected."""
    traits = {server.id: frozenset(_traits(server)) for server in servers}
    shared = Counter(trait for each in traits.values() for trait in each)
    fitting = [
        (count, trait)
        for trait, count in shared.items()
        if max(1, at_least) <= count <= at_most < len(servers)
    ]
    alike, what = max(fitting, default=(0, ""), key=lambda found: (found[0], _telling(found[1])))
    others = [server for server in servers if what not in traits[server.id]] if what else list(servers)
    rest = Counter(trait for server in servers if what in traits[server.id] for trait in traits[server.id])
    if not what:
        rest = shared

    def strangeness(server: Server) -> float:
        return sum(-math.log((rest[trait] + 0.5) / (len(servers) + 1)) for trait in traits[server.id])

    found = sorted(others, key=lambda server: (-strangeness(server), server.name, server.id))
    return Unlike(tuple(found[:NAMED]), len(others) if what else 0, what, alike)


def words(found: Unlike) -> str:
    """Say it in a sentence."""
    names = ", ".join(_name(server) for server in found.servers)
    if not found.what:
        return f"most unlike the rest: {names}"
    others = f"the other {found.count}" if found.count > 1 else "the other one"
    do = "do" if found.count > 1 else "does"
    return f"{found.alike} share {found.what}, {others} {do} not; most unlike the rest: {names}"


def _name(server: Server) -> str:
    created = f", created {server.created[:10]}" if server.created else ""
    return f"{server.label} ({server.zone or 'no zone'}, {server.flavor or 'no flavor'}{created})"


def _traits(server: Server) -> Iterator[str]:
    """Yield what a server may share with others."""
    yield f"a name like {re.sub(r'[0-9]+', '#', server.name)}"
    for key, value in server.tags.items():
        if not key.startswith("_"):
            yield f"tag {key}={value}" if value else f"tag {key}"
    for word, value in (
        ("flavor", server.flavor),
        ("image", server.image),
        ("zone", server.zone),
        ("key pair", server.key_pair),
        ("enterprise project", server.enterprise_project),
        ("creation on", server.created[:10]),
    ):
        if value:
            yield f"{word} {value}"
    for vpc in server.vpcs:
        yield f"vpc {vpc}"


def _telling(trait: str) -> int:
    """Rank what tells people most, where several traits part the servers the same way: tags first."""
    order = ("vpc", "creation", "key pair", "image", "flavor", "zone", "enterprise", "a name", "tag")
    return next((place for place, word in enumerate(order) if trait.startswith(word)), -1)
