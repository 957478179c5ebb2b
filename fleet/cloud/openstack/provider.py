"""What the entry point in ``pyproject.toml`` names: how a `NovaCloud` is put together."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from fleet.clock import Clock
from fleet.cloud.api import Cloud
from fleet.cloud.ecs.auth import Login, Password, PasswordLogin, login_from_environment
from fleet.cloud.ecs.pacer import Pacer
from fleet.cloud.http import Transport
from fleet.cloud.openstack.client import NovaCloud
from fleet.cloud.openstack.endpoints import Endpoints
from fleet.cloud.openstack.parse import as_json
from fleet.cloud.openstack.session import Session
from fleet.core.settings import CloudSettings
from fleet.errors import CloudUnusable


def openstack(settings: CloudSettings, clock: Clock) -> Cloud:
    """Return the cloud that ``OS_…`` in the environment and *settings* name.

    Raises:
        CloudUnusable: Credentials are missing; all of the missing variables are named.
    """
    if settings.profile is not None:
        raise CloudUnusable(
            f"cloud.profile {settings.profile!r}: profiles of clouds.yaml are not read by this provider",
            hint="drop cloud.profile and export the OS_… variables (openrc)",
        )
    from fleet.cloud.ecs.transport import AiohttpTransport  # noqa: PLC0415  # aiohttp only when needed

    transport = AiohttpTransport(clock)
    credentials = keystone_password(os.environ, url=settings.endpoints.get("identity"))
    login = PasswordLogin(credentials, transport, clock)
    return assemble(transport, login, settings, clock, settings.region or os.environ.get("OS_REGION_NAME"))


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
    return NovaCloud(session, clock=clock, rng=rng)


@dataclass(frozen=True, slots=True)
class KeystonePassword(Password):
    """Credentials for Keystone proper: a project's name is unique within its domain only.

    Attributes:
        project_domain_id, project_domain_name: Of the project; None: the user's.
    """

    project_domain_id: str | None = None
    project_domain_name: str | None = None

    def body(self) -> bytes:
        """Return the request's body."""
        body: dict[str, Any] = msgspec.json.decode(Password.body(self))
        if not self.project_id:
            by_id = self.project_domain_id or (None if self.project_domain_name else self.domain_id)
            domain = {"id": by_id} if by_id else {"name": self.project_domain_name or self.domain_name}
            body["auth"]["scope"]["project"]["domain"] = domain
        return as_json(body)


def keystone_password(environ: Mapping[str, str], *, url: str | None = None) -> KeystonePassword:
    """Return the credentials that the ``OS_…`` variables name; raises as `login_from_environment`."""
    found = login_from_environment(environ, iam=url)
    return KeystonePassword(
        url=found.url,
        user=found.user,
        password=found.password,
        domain_id=found.domain_id,
        domain_name=found.domain_name,
        project_id=found.project_id,
        project_name=found.project_name,
        project_domain_id=environ.get("OS_PROJECT_DOMAIN_ID") or None,
        project_domain_name=environ.get("OS_PROJECT_DOMAIN_NAME") or None,
    )
