"""As few calls as a client can do with: stops in batches, one list for everybody in flight. For comparison.

    python tests/benchmarks/bare.py URL CONCURRENCY

It observes by a list of ids every half second. It has no journal, looks at nothing before it wipes, asks for
no job, repeats nothing, and believes the first look that seems good.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from typing import Any

import aiohttp
import msgspec
from naive import login

LOOK_S = 0.5
IDS = 100
"""Servers that one list can be asked for by id."""

LONGEST_S = 60.0
"""It cannot tell a reinstall that has failed from one that is not over."""


class _Volume(msgspec.Struct):
    id: str


class _Server(msgspec.Struct):
    id: str
    status: str
    task: str | None = msgspec.field(name="OS-EXT-STS:task_state", default=None)
    volumes: list[_Volume] = msgspec.field(name="os-extended-volumes:volumes_attached", default_factory=list)


class _Page(msgspec.Struct):
    servers: list[_Server]
    count: int = 0


_page = msgspec.json.Decoder(_Page).decode


class Client:
    """A logged-in client and what it is doing.

    Attributes:
        stopping: Ids of servers that are asked to stop.
        wiping: Ids of servers whose reinstall was taken, and since when.
        before: Volumes of every server at the start.
        failed: Servers given up.
    """

    def __init__(
        self, session: aiohttp.ClientSession, base: str, owner: str, headers: dict[str, str]
    ) -> None:
        self._session = session
        self._base = base
        self._owner = owner
        self._headers = headers
        self.stopping: set[str] = set()
        self.wiping: dict[str, float] = {}
        self.before: dict[str, list[_Volume]] = {}
        self.failed = 0

    async def ask(self, method: str, path: str, body: Any = None) -> bytes:
        """Make a call; raise at whatever is no success."""
        url = f"{self._base}/cloudservers/{path}"
        async with self._session.request(method, url, json=body, headers=self._headers) as answer:
            answer.raise_for_status()
            return await answer.read()

    async def everybody(self) -> deque[str]:
        """Return the ids of all servers."""
        while True:
            number = len(self.before) // 1000 + 1
            page = _page(await self.ask("GET", f"detail?limit=1000&offset={number}"))
            self.before |= {server.id: server.volumes for server in page.servers}
            if len(self.before) >= page.count or not page.servers:
                return deque(self.before)

    async def wipe(self, server: str) -> None:
        """Reinstall a server that is stopped."""
        self.stopping.discard(server)
        order = {"os-reinstall": {"keyname": "demo-key", "userid": self._owner}}
        path = f"{self._base.replace('/v1/', '/v2/')}/cloudservers/{server}/reinstallos"
        try:
            async with self._session.post(path, json=order, headers=self._headers) as answer:
                answer.raise_for_status()
        except aiohttp.ClientError:
            self.failed += 1
        else:
            self.wiping[server] = time.monotonic()

    async def look(self) -> None:
        """See who is stopped, and wipe them; see who is done."""
        flying = [*self.stopping, *self.wiping]
        stopped = []
        for begin in range(0, len(flying), IDS):
            names = ",".join(flying[begin : begin + IDS])
            for seen in _page(await self.ask("GET", f"detail?limit=1000&server_id={names}")).servers:
                if seen.id in self.stopping:
                    stopped += [seen.id] if seen.status == "SHUTOFF" else []
                elif seen.status == "ACTIVE" and seen.task is None and seen.volumes != self.before[seen.id]:
                    del self.wiping[seen.id]
                elif time.monotonic() - self.wiping[seen.id] > LONGEST_S:
                    del self.wiping[seen.id]
                    self.failed += 1
        await asyncio.gather(*map(self.wipe, stopped))


async def main(url: str, concurrency: int) -> None:
    """Reinstall every server of the project; print the makespan."""
    async with aiohttp.ClientSession() as session:
        client = Client(session, *await login(session, url))
        waiting = await client.everybody()
        began = time.monotonic()
        while waiting or client.stopping or client.wiping:
            room = concurrency - len(client.stopping) - len(client.wiping)
            new = [waiting.popleft() for _ in range(min(room, len(waiting)))]
            if new:
                stop = {"os-stop": {"type": "SOFT", "servers": [{"id": each} for each in new]}}
                await client.ask("POST", "action", stop)
                client.stopping.update(new)
            await asyncio.sleep(LOOK_S)
            await client.look()
        print(json.dumps({"makespan_s": round(time.monotonic() - began, 3), "failed": client.failed}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
