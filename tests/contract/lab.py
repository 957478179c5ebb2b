"""What a provider's laboratory gives the contract suite: a cloud, servers to work on, and a judge.

A new provider writes one of these (`docs/providers.md` has the template) and adds it to `conftest.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fleet.cloud.api import Accepted, Cloud, ReinstallOrder
from fleet.cloud.http import Request, Response, Transport
from fleet.core.model import Call, Job, JobId, JobStatus, Server, ServerId
from fleet.errors import Busy, NotFound, OutcomeUnknown


class Lossy:
    """A transport that loses the answer of the next request that *is_wipe*, after the cloud has had it."""

    def __init__(self, inner: Transport, is_wipe: Callable[[Request], bool]) -> None:
        self._inner = inner
        self._is_wipe = is_wipe
        self.lose = False
        self.wipes = 0

    async def send(self, request: Request) -> Response:
        response = await self._inner.send(request)
        if self._is_wipe(request):
            self.wipes += 1
            if self.lose:
                self.lose = False
                raise OutcomeUnknown("the answer was lost on the way")
        return response

    async def close(self) -> None:
        await self._inner.close()


class Judge(Protocol):
    """Says what really happened, by the cloud's own record and not through the provider."""

    async def reinstalls(self, server: ServerId) -> int:
        """Return how many reinstalls of *server* the cloud ever took."""
        ...


@dataclass
class Lab:
    """One cloud to hold a provider against.

    Attributes:
        wire: Carries the provider's requests.
        servers: At least three that may be wiped, running or off, none of them locked.
        key_pair, image: Exist, and may be installed with.
        patience_s: After which anything that was asked for must have happened.
        pause_s: Between looks.
    """

    cloud: Cloud
    wire: Lossy
    judge: Judge
    servers: Sequence[ServerId]
    key_pair: str
    image: str
    patience_s: float = 60.0
    pause_s: float = 0.05
    boottime: Callable[[], float] = field(default=lambda: asyncio.get_running_loop().time())

    async def until(self, server: ServerId, wanted: Callable[[Server], bool], what: str) -> Server:
        """Look until *wanted* holds three times in a row: one look proves nothing."""
        seen = await self.cloud.server(server)
        held = 0
        async with asyncio.timeout(self.patience_s):
            while held < 3:
                held = held + 1 if wanted(seen) else 0
                await asyncio.sleep(self.pause_s)
                seen = await self.cloud.server(server)
        assert wanted(seen), f"{what}: {seen.state()}"
        return seen

    async def off(self, server: ServerId) -> Server:
        """Have a server shut off."""
        seen = await self.until(server, lambda look: look.is_on or look.is_off, "at rest")
        if seen.is_on:
            await self.cloud.stop([server], force=False)
        return await self.until(server, lambda look: look.is_off, "off")

    async def on(self, server: ServerId) -> Server:
        """Have a server running."""
        seen = await self.until(server, lambda look: look.is_on or look.is_off, "at rest")
        if seen.is_off:
            await self.cloud.start([server])
        return await self.until(server, lambda look: look.is_on, "on")

    def order(self, server: ServerId, **fields: object) -> ReinstallOrder:
        """Return the usual order."""
        usual = {
            "call": Call.REINSTALL_CLOUD_INIT,
            "key_pair": self.key_pair,
            "user_data": b"#cloud-config\n",
        }
        return ReinstallOrder(server=server, **{**usual, **fields})  # type: ignore[arg-type]

    async def reinstall(self, server: ServerId, **fields: object) -> Accepted:
        """Ask for a reinstall, with plenty of time."""
        order = self.order(server, **fields)
        return await self.cloud.reinstall(order, send_by=self.boottime() + 30.0, timeout_s=30.0)

    async def over(self, job: JobId) -> Job:
        """Follow a job to its end. It may be unknown for a moment in the beginning."""
        async with asyncio.timeout(self.patience_s):
            while True:
                try:
                    found = await self.cloud.job(job)
                except NotFound:
                    pass
                else:
                    if found.status is not JobStatus.RUNNING:
                        return found
                await asyncio.sleep(self.pause_s)

    async def refused(self, server: ServerId, **fields: object) -> Exception:
        """Ask for a reinstall that is not taken, and return what it raised."""
        try:
            accepted = await self.reinstall(server, **fields)
        except (Busy, Exception) as error:  # noqa: BLE001 - the test says which one is right
            return error
        raise AssertionError(f"it was accepted: {accepted}")
