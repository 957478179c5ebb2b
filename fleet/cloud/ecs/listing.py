"""Reading servers: one by one, by their ids, or from all pages of the list, whichever takes fewer calls."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from fleet.cloud.ecs import parse
from fleet.cloud.ecs.classify import Purpose
from fleet.cloud.ecs.session import Call, Session
from fleet.cloud.http import id_segment, segment
from fleet.core.model import Server, ServerId
from fleet.errors import Rejected

PAGE_SIZE = 1000
"""Servers of a page; the documented maximum (default 25). Fewer calls, and less that can shift between
them. A cloud that gives fewer is read on to its own count."""

MAX_PAGES = 1000
"""A million servers. A cloud that pages on after that goes round in circles."""

IDS = 100
"""Servers that one list call can be asked for by id: the documented maximum of ``server_id``, where there is
that filter at all (ECS API reference: Huawei Cloud yes, OTC no)."""

FEW = 2
"""So many servers are always read one by one: a direct read is never behind, a list may be."""

LIST_TIMEOUT_S = 60.0


class Listing:
    """The servers of one project, as they are read.

    Args:
        session: Makes calls.
        page_size: Servers asked for per page.
    """

    def __init__(self, session: Session, page_size: int) -> None:
        self._session = session
        self._page_size = page_size
        self._pages = 1
        self._by_id = True
        # What the latest reading of some servers showed, and the one before it.
        self._known: dict[bytes, Server] = {}
        self._before: dict[bytes, Server] = {}

    async def servers(self, only: AbstractSet[ServerId] | None) -> list[Server]:
        """Return every server of the project, all pages, each once, in the cloud's order; or *only* some.

        Some are read one by one, by lists of their ids, or from all pages, whichever takes fewer calls.

        Pages are numbered, so a server that comes or goes while they are read shifts the others: one can be
        skipped. Then the count changes or does not fit, and everything is read once more.
        """
        if only is not None:
            return await self._some(only)
        found, steady = await self._all_pages()
        if not steady:
            again, steady = await self._all_pages()
            # Still moving: whom either reading saw is there, as far as anybody can tell.
            found = again if steady else {**found, **again}
        return list(found.values())

    async def server(self, server: ServerId, *, poll: bool = False) -> Server:
        """Return one server, read now. Raises NotFound."""
        call = Call(
            "show",
            f"reading server {server}",
            Purpose.READ,
            f"/v1/{{project}}/cloudservers/{id_segment(server)}",
            poll=poll,
        )
        return await self._session.ask(call, lambda body: parse.server(body, server))

    async def _some(self, only: AbstractSet[ServerId]) -> list[Server]:
        lists = -(-len(only) // IDS) if self._by_id else self._pages
        if len(only) <= max(FEW, min(lists, self._pages)):
            return await self._one_by_one(sorted(only))  # a set has no order that a seed repeats
        self._before, self._known = self._known, {}
        if self._by_id and lists <= self._pages:
            found = await self._listed_by_id(sorted(only))
            if found is not None:
                return found
        return list((await self._all_pages(only))[0].values())

    async def _one_by_one(self, servers: Sequence[ServerId]) -> list[Server]:
        found = []
        for server in servers:
            with contextlib.suppress(Rejected):  # not there, or not told: a read of its own says which
                found.append(await self.server(server, poll=True))
        return found

    async def _listed_by_id(self, servers: Sequence[ServerId]) -> list[Server] | None:
        """Return servers listed by their ids; None where the cloud turns out not to know that filter."""
        found: list[Server] = []
        for begin in range(0, len(servers), IDS):
            part = frozenset(servers[begin : begin + IDS])
            names = ",".join(segment(name) for name in servers[begin : begin + IDS])
            try:
                page = await self._page(1, part, f"&server_id={names}")
            except Rejected:
                self._by_id = False
                return None
            if not part.issuperset(page.ids):  # it was ignored: this is a page of everybody
                self._by_id = False
                return None
            # An id that does not exist is listed with a fault and nothing else.
            found += [seen for seen in page.servers if seen.name or seen.status != "UNKNOWN"]
        return found

    async def _page(self, number: int, only: AbstractSet[ServerId] | None, filters: str = "") -> parse.Page:
        call = Call(
            "list",
            f"listing servers, page {number}",
            Purpose.READ,
            f"/v1/{{project}}/cloudservers/detail?limit={self._page_size}&offset={number}{filters}",
            timeout_s=LIST_TIMEOUT_S,
            poll=only is not None,
        )
        page = await self._session.ask(call, lambda body: parse.page(body, only, self._before))
        self._known |= page.made_from
        return page

    async def _all_pages(
        self, only: AbstractSet[ServerId] | None = None
    ) -> tuple[dict[ServerId, Server], bool]:
        """Read all pages; return the servers by id, and whether nothing moved meanwhile."""
        found: dict[ServerId, Server] = {}
        seen: set[ServerId] = set()
        counts: set[int | None] = set()
        for number in range(1, MAX_PAGES + 1):
            page = await self._page(number, only)
            counts.add(page.count)
            before = len(seen)
            seen.update(page.ids)
            found.update((server.id, server) for server in page.servers)
            if len(seen) == before:
                break  # an empty page, or a cloud that gives the same one again
            self._pages = number
            complete = len(page.ids) < self._page_size if page.count is None else len(seen) >= page.count
            if complete:
                break
        return found, counts == {None} or counts == {len(seen)}
