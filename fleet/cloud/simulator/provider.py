"""The provider ``simulator``: the ECS client, logged in to what ``fleet simulator`` serves."""

from __future__ import annotations

import os

from fleet.clock import Clock
from fleet.cloud.api import Cloud
from fleet.cloud.ecs.credentials import Password
from fleet.cloud.ecs.endpoints import identity_base
from fleet.cloud.ecs.login_build import Found
from fleet.cloud.ecs.provider import assemble
from fleet.cloud.simulator import defaults
from fleet.core.settings import CloudSettings
from fleet.errors import CloudUnusable

URL_VARIABLE = "FLEET_SIMULATOR_URL"


def simulator(settings: CloudSettings, clock: Clock) -> Cloud:
    """Return the cloud that ``fleet simulator`` serves.

    Raises:
        CloudUnusable: Nobody says where it is.
    """
    return assemble(login(settings), settings, clock)


def login(settings: CloudSettings) -> Found:
    """Return the login that every simulator knows. Raises as `simulator`."""
    if settings.profile is not None:
        raise CloudUnusable(
            f"cloud.profile {settings.profile!r}: the built-in cloud has no profiles",
            hint="take it out, or write provider: ecs",
        )
    url = settings.endpoints.get("iam") or os.environ.get(URL_VARIABLE)
    if not url:
        raise CloudUnusable(
            "the simulator's address is not known",
            hint=f"start `fleet simulator` and export {URL_VARIABLE} as it says; or try `fleet demo`",
        )
    credentials = Password(
        url=identity_base(url),
        user=defaults.USER_NAME,
        password=defaults.USER_PASSWORD,
        domain_name=defaults.DOMAIN_NAME,
        project_name=defaults.PROJECT_NAME,
        source="the built-in cloud",
    )
    return Found(
        credentials=credentials,
        kind="password",
        source=credentials.source,
        region=settings.region,
        endpoints=settings.endpoints,
    )
