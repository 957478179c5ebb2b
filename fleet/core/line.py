"""Who waits in a wave, in order, with those side by side whom a decision cannot tell apart.

A limit that passes over one server passes over all that are like it. So a decision costs the servers that it
starts and the kinds that it passes over, not everybody who waits: that may be tens of thousands.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator

from fleet.core.model import ServerId

Alike = tuple[object, ...]
"""What a decision looks at: servers with the same values are all started, or all passed over."""


class Line:
    """A wave's line. To join its end and to leave it at any place costs the same, however long it is."""

    __slots__ = ("_heads", "_joined", "_kinds")

    def __init__(self) -> None:
        self._kinds: dict[Alike, OrderedDict[ServerId, int]] = {}
        self._heads: list[tuple[int, Alike]] = []  # the first of every kind, in order
        self._joined = 0

    def __bool__(self) -> bool:
        return bool(self._heads)

    def __iter__(self) -> Iterator[ServerId]:
        for _, server in heapq.merge(*map(_numbered, self._kinds.values())):
            yield server

    @property
    def first(self) -> ServerId:
        """Who is at the front."""
        return next(iter(self._kinds[self._heads[0][1]]))

    def join(self, server: ServerId, alike: Alike) -> None:
        """Put a server at the end."""
        self._put(server, alike, self._joined)
        self._joined += 1

    def leave(self, server: ServerId, alike: Alike) -> int:
        """Take a server out; return its place."""
        kind = self._kinds[alike]
        number = kind.pop(server)
        place = bisect_left(self._heads, number, key=_number)
        if place < len(self._heads) and self._heads[place][0] == number:
            del self._heads[place]
            if kind:
                insort(self._heads, (next(iter(kind.values())), alike), key=_number)
            else:
                del self._kinds[alike]
        return number

    def change(self, server: ServerId, before: Alike, after: Alike) -> None:
        """Let a server be like others than before, in its place. Costs as much as there are such others."""
        number = self.leave(server, before)
        behind = [(each, at) for each, at in self._kinds.get(after, {}).items() if at > number]
        for each, _ in behind:
            self.leave(each, after)
        for each, at in [(server, number), *behind]:
            self._put(each, after, at)

    def _put(self, server: ServerId, alike: Alike, number: int) -> None:
        kind = self._kinds.setdefault(alike, OrderedDict())
        if not kind:
            insort(self._heads, (number, alike), key=_number)
        kind[server] = number

    def queue(self) -> Queue:
        """Return the line as one decision goes through it. Good until somebody joins or leaves."""
        return Queue(self._heads, self._kinds)


class Queue:
    """Servers in order; of a kind whose first one is not taken nobody else comes."""

    __slots__ = ("_heads", "_kinds", "_latest", "_others", "_place")

    def __init__(
        self, heads: list[tuple[int, Alike]], kinds: dict[Alike, OrderedDict[ServerId, int]]
    ) -> None:
        self._heads = heads
        self._kinds = kinds
        self._place = 0
        self._others: list[tuple[int, ServerId, Iterator[tuple[int, ServerId]]]] = []
        self._latest: Iterator[tuple[int, ServerId]] = iter(())

    def next(self) -> ServerId | None:
        """Return who is next; None: nobody."""
        at_head = self._heads[self._place] if self._place < len(self._heads) else None
        if self._others and (at_head is None or self._others[0][0] < at_head[0]):
            _, server, self._latest = heapq.heappop(self._others)
            return server
        if at_head is None:
            return None
        self._place += 1
        self._latest = _numbered(self._kinds[at_head[1]])
        return next(self._latest)[1]

    def take(self) -> None:
        """Take the one who was next: those who are like it have their turn."""
        if (following := next(self._latest, None)) is not None:
            heapq.heappush(self._others, (*following, self._latest))


def _numbered(kind: OrderedDict[ServerId, int]) -> Iterator[tuple[int, ServerId]]:
    return ((number, server) for server, number in kind.items())


def _number(head: tuple[int, Alike]) -> int:
    return head[0]
