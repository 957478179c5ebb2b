"""What the entry points in ``pyproject.toml`` name: how an `EcsCloud` is put together.

aiohttp takes a tenth of a second to import, so it waits until a cloud is really wanted. Nothing is
connected here; sessions are made inside the loop that uses them.
"""

from __future__ import annotations

import os
import random

from fleet.clock import Clock
from fleet.cloud.api import Cloud
from fleet.cloud.ecs.client import EcsCloud
from fleet.cloud.ecs.endpoints import Endpoints
from fleet.cloud.ecs.login import find
from fleet.cloud.ecs.login_build import Found
from fleet.cloud.ecs.pacer import Pacer
from fleet.core.settings import CloudSettings


def ecs(settings: CloudSettings, clock: Clock) -> Cloud:
    """Return the cloud that the environment, clouds.yaml and *settings* name.

    Raises:
        CloudUnusable: There is no login, or it is incomplete.
    """
    return assemble(find(settings, os.environ), settings, clock)


def assemble(found: Found, settings: CloudSettings, clock: Clock) -> EcsCloud:
    """Put client, login, pacer and transport together."""
    from fleet.cloud.ecs.transport import AiohttpTransport  # noqa: PLC0415  # aiohttp only when needed

    transport = AiohttpTransport(clock, cafile=found.cafile)
    return EcsCloud(
        transport,
        found.login(transport, clock),
        Pacer(settings.requests_per_second),
        Endpoints(iam=found.url, overrides=found.endpoints, region=found.region),
        clock=clock,
        rng=random.Random(),
    )
