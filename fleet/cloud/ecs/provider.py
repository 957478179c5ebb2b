"""What the entry points in ``pyproject.toml`` name: how an `EcsCloud` is put together.

aiohttp takes a tenth of a second to import, so it waits until a cloud is really wanted. Nothing is
connected here; sessions are made inside the loop that uses them.
"""

from __future__ import annotations

import os
import random

from fleet.clock import Clock
from fleet.cloud.api import Cloud
from fleet.cloud.ecs.auth import Password, PasswordLogin, login_from_environment
from fleet.cloud.ecs.client import EcsCloud
from fleet.cloud.ecs.endpoints import Endpoints
from fleet.cloud.ecs.pacer import Pacer
from fleet.core.settings import CloudSettings
from fleet.errors import CloudUnusable


def ecs(settings: CloudSettings, clock: Clock) -> Cloud:
    """Return the cloud that ``OS_…`` in the environment and *settings* name.

    Raises:
        CloudUnusable: Credentials are missing; all of the missing variables are named.
    """
    if settings.profile is not None:
        raise CloudUnusable(
            f"cloud.profile {settings.profile!r}: profiles of clouds.yaml are not read by this provider",
            hint="drop cloud.profile and export the OS_… variables (openrc)",
        )
    credentials = login_from_environment(os.environ, iam=settings.endpoints.get("iam"))
    return assemble(credentials, settings, clock, settings.region or os.environ.get("OS_REGION_NAME"))


def assemble(credentials: Password, settings: CloudSettings, clock: Clock, region: str | None) -> Cloud:
    """Put client, login, pacer and transport together."""
    from fleet.cloud.ecs.transport import AiohttpTransport  # noqa: PLC0415  # aiohttp only when needed

    transport = AiohttpTransport(clock)
    return EcsCloud(
        transport,
        PasswordLogin(credentials, transport, clock),
        Pacer(settings.requests_per_second),
        Endpoints(iam=credentials.url, overrides=settings.endpoints, region=region),
        clock=clock,
        rng=random.Random(),
    )
