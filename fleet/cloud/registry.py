"""Find a provider by the name that a plan gives it.

Our own cannot be replaced by installing a package; others are found by the entry point group
``fleet.providers``.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, cast

from fleet.clock import Clock
from fleet.cloud.api import Cloud
from fleet.core.settings import CloudSettings
from fleet.errors import CloudUnusable

if TYPE_CHECKING:
    from fleet.cloud.ecs.login_build import Found

Provider = Callable[[CloudSettings, Clock], Cloud]

_OURS = {
    "ecs": "fleet.cloud.ecs.provider:ecs",
    "openstack": "fleet.cloud.openstack.provider:openstack",
    "simulator": "fleet.cloud.simulator.provider:simulator",
}


def login_of(settings: CloudSettings) -> Found | None:
    """Return the login that one of our own providers would use; None for others, who find theirs themselves.

    Raises:
        CloudUnusable: There is none.
    """
    from fleet.cloud.ecs.login import find  # noqa: PLC0415 - most commands connect, or need no login
    from fleet.cloud.simulator.provider import login  # noqa: PLC0415 - late: start-up stays fast

    match settings.provider:
        case "ecs":
            return find(settings, os.environ)
        case "openstack":
            return find(settings, os.environ, keystone=True)
        case "simulator":
            return login(settings)
        case _:
            return None


def connect(settings: CloudSettings, clock: Clock) -> Cloud:
    """Return the plan's cloud. Nothing is sent yet.

    Raises:
        CloudUnusable: There is no such provider, or it lacks what it needs to log in.
    """
    if (path := _OURS.get(settings.provider)) is not None:
        module, _, name = path.partition(":")
        return cast("Provider", getattr(importlib.import_module(module), name))(settings, clock)
    found = entry_points(group="fleet.providers", name=settings.provider)
    for each in found:
        return cast("Provider", each.load())(settings, clock)
    raise CloudUnusable(
        f"no provider is called {settings.provider!r}", hint=f"there are {', '.join(sorted(_OURS))}"
    )
