"""What the entry point in ``pyproject.toml`` names: how a `NovaCloud` is put together."""

from __future__ import annotations

import os
import random

import msgspec

from fleet.clock import Clock
from fleet.cloud.api import Cloud
from fleet.cloud.ecs.auth import Login
from fleet.cloud.ecs.login import find
from fleet.cloud.ecs.pacer import Pacer
from fleet.cloud.http import Transport
from fleet.cloud.openstack.client import NovaCloud
from fleet.cloud.openstack.endpoints import Endpoints
from fleet.cloud.openstack.session import Session
from fleet.core.settings import CloudSettings


def openstack(settings: CloudSettings, clock: Clock) -> Cloud:
    """Return the cloud that the environment, clouds.yaml and *settings* name.

    Raises:
        CloudUnusable: There is no login, or it is incomplete.
    """
    from fleet.cloud.ecs.transport import AiohttpTransport  # noqa: PLC0415  # aiohttp only when needed

    found = find(settings, os.environ, keystone=True)
    transport = AiohttpTransport(clock, cafile=found.cafile)
    there = msgspec.structs.replace(settings, endpoints=dict(found.endpoints))
    return assemble(transport, found.login(transport, clock), there, clock, found.region)


def assemble(
    transport: Transport,
    login: Login,
    settings: CloudSettings,
    clock: Clock,
    region: str | None,
    rng: random.Random | None = None,
) -> NovaCloud:
    """Put client, session, login, pacer and transport together."""
    rng = rng or random.Random()
    session = Session(
        transport,
        login,
        Pacer(settings.requests_per_second),
        Endpoints(overrides=settings.endpoints, region=region),
        clock=clock,
        rng=rng,
    )
    return NovaCloud(session)
