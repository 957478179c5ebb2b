"""A real Nova as a laboratory: `tests/nova/up.sh` brings one up, `make contract-nova` runs the suite on it.

Works on the servers ``contract-*`` of the project that the environment's openrc names.
"""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from contract.lab import Lab, Lossy

from fleet.clock import SystemClock
from fleet.cloud.ecs.auth import TokenLogin
from fleet.cloud.ecs.credentials import Credentials
from fleet.cloud.ecs.login import find
from fleet.cloud.ecs.login_key import KeyCredentials
from fleet.cloud.ecs.transport import AiohttpTransport
from fleet.cloud.http import Request
from fleet.cloud.openstack.provider import assemble
from fleet.core.model import ServerId
from fleet.core.settings import CloudSettings


def is_nova_wipe(request: Request) -> bool:
    return request.url.endswith("/action") and (request.body or b"").startswith(b'{"rebuild"')


def _credentials() -> Credentials:
    """Return the login that the environment (openrc) names."""
    found = find(CloudSettings(provider="openstack"), os.environ, keystone=True).credentials
    assert not isinstance(found, KeyCredentials)
    return found


class NovaJudge:
    """Nova's own log of actions, read with plain requests."""

    def __init__(self, session: aiohttp.ClientSession, compute: str) -> None:
        self._session = session
        self._compute = compute

    @classmethod
    async def log_in(cls, session: aiohttp.ClientSession) -> NovaJudge:
        credentials = _credentials()
        body = credentials.body()
        headers = {"Content-Type": "application/json"}
        async with session.post(f"{credentials.url}/v3/auth/tokens", data=body, headers=headers) as answer:
            session.headers["X-Auth-Token"] = answer.headers["X-Subject-Token"]
            catalog = (await answer.json())["token"]["catalog"]
        (compute,) = [
            endpoint["url"]
            for service in catalog
            if service["type"] == "compute"
            for endpoint in service["endpoints"]
            if endpoint["interface"] == "public"
        ]
        return cls(session, compute)

    async def ask(self, path: str) -> dict[str, list[dict[str, str]]]:
        async with self._session.get(self._compute + path) as answer:
            answer.raise_for_status()
            found: dict[str, list[dict[str, str]]] = await answer.json()
        return found

    async def reinstalls(self, server: ServerId) -> int:
        lines = (await self.ask(f"/servers/{server}/os-instance-actions"))["instanceActions"]
        return sum(line["action"] == "rebuild" for line in lines)


@asynccontextmanager
async def real_nova() -> AsyncIterator[Lab]:
    """Return a laboratory on the real one."""
    clock = SystemClock()
    wire = Lossy(AiohttpTransport(clock), is_nova_wipe)
    login = TokenLogin(_credentials(), wire, clock)
    settings = CloudSettings(provider="openstack", requests_per_second=20.0)
    cloud = assemble(wire, login, settings, clock, os.environ.get("OS_REGION_NAME"), random.Random())
    async with aiohttp.ClientSession() as session:
        judge = await NovaJudge.log_in(session)
        listed = (await judge.ask("/servers/detail"))["servers"]
        servers = [server for server in listed if server["name"].startswith("contract-")]
        assert len(servers) >= 3, "boot some: tests/nova/servers.py boot 4 contract"
        image = servers[0]["image"]["id"]  # type: ignore[index]
        try:
            yield Lab(
                cloud=cloud,
                wire=wire,
                judge=judge,
                servers=[ServerId(server["id"]) for server in servers],
                key_pair="fleet-lab",
                image=image,
                patience_s=100.0,
                pause_s=0.3,
                boottime=clock.boottime,
            )
        finally:
            await cloud.close()
