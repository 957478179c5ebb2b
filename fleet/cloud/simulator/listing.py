"""The list of servers: filters and pages as documented (ECS API reference, section 6.1)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from fleet.cloud.simulator.refusals import Refused
from fleet.cloud.simulator.things import Server
from fleet.cloud.simulator.world import World

DEFAULT_LIMIT: Final = 25
MAX_LIMIT: Final = 1000
_ON_THE_WAY: Final = {
    "ACTIVE": {"REBOOT", "HARD_REBOOT", "REBUILD", "MIGRATING", "RESIZE"},
    "SHUTOFF": {"RESIZE", "REBUILD"},
    "ERROR": {"REBUILD"},
    "VERIFY_RESIZE": {"REVERT_RESIZE"},
}
"""What a status also finds."""

Query = Mapping[str, Sequence[str]]
Test = Callable[[Server], bool]
_FILTERS: Final = ("name", "status", "flavor", "ip", "ip_eq", "tags", "not-tags", "enterprise_project_id")


class Listing:
    """Finds the servers of a query. Remembers the answer while no server came, went or changed its tags."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._found: dict[tuple[tuple[str, tuple[str, ...]], ...], tuple[int, list[Server]]] = {}

    def matching(self, query: Query) -> list[Server]:
        """Return all that match, in the cloud's order."""
        key = tuple((name, tuple(query[name])) for name in _FILTERS if query.get(name))
        known = self._found.get(key)
        if known and known[0] == self._world.version and "status" not in query:
            return known[1]
        tests = [test for name, values in key for value in values for test in (_test(name, value),)]
        found = [server for server in self._world.listed() if all(test(server) for test in tests)]
        if len(self._found) > 100:
            self._found.clear()
        self._found[key] = (self._world.version, found)
        return found

    def page(self, query: Query) -> tuple[int, list[Server]]:
        """Return how many match, and the page asked for: ``offset`` is the number of a page."""
        found = self.matching(query)
        limit = _number(query, "limit", DEFAULT_LIMIT)
        if not 1 <= limit <= MAX_LIMIT:
            raise Refused("Ecs.0005", f"Invalid parameter: limit {limit} is not between 1 and {MAX_LIMIT}.")
        start = (max(1, _number(query, "offset", 1)) - 1) * limit
        marker = (query.get("marker") or ("",))[0]
        if marker:
            places = [place for place, server in enumerate(found) if server.id == marker]
            if not places:
                raise Refused("Ecs.0005", f"Invalid parameter: marker {marker} not found.")
            start = places[0] + 1
        return len(found), found[start : start + limit]


def _number(query: Query, name: str, default: int) -> int:
    text = (query.get(name) or (str(default),))[0]
    if not text.isascii() or not text.isdigit():
        raise Refused("Ecs.0005", f"Invalid parameter: {name} {text!r} is not a number.")
    return int(text)


def _test(name: str, value: str) -> Test:
    match name:
        case "name":
            # Fuzzy: a part of the name, and a dot stands for any character.
            pattern = re.compile(".".join(re.escape(part) for part in value.split(".")))
            return lambda server: pattern.search(server.name) is not None
        case "status":
            statuses = {value} | _ON_THE_WAY.get(value, set())
            return lambda server: server.show.value[0] in statuses
        case "flavor":
            return lambda server: server.spec.flavor == value
        case "ip":
            return lambda server: value in server.address
        case "ip_eq":
            return lambda server: server.address == value
        case "tags":
            return lambda server: has_tag(server, value)
        case "not-tags":
            return lambda server: not has_tag(server, value)
        case _:
            return lambda server: value in {"all_granted_eps", server.spec.enterprise_project}


def has_tag(server: Server, wanted: str) -> bool:
    """Tell whether a server has a tag, by key, or by key and value."""
    if "=" in wanted:
        return wanted in server.tags
    return any(tag.partition("=")[0] == wanted for tag in server.tags)
