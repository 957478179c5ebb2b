"""The clouds that the contract suite runs on: both faces of the built-in one, the template's tiny one, and a
real Nova if there is one.

``FLEET_CONTRACT=nova`` and an openrc in the environment: the real one alone (`make contract-nova`).
``FLEET_CONTRACT=module:function``: the cloud of a laboratory of one's own (docs/providers.md).
"""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from importlib import import_module

import pytest
from contract.lab import Lab, Lossy
from contract.real_nova import is_nova_wipe

from fleet.clock import SystemClock
from fleet.cloud.ecs.auth import TokenLogin
from fleet.cloud.ecs.client import EcsCloud
from fleet.cloud.ecs.credentials import KeystonePassword, Password
from fleet.cloud.ecs.endpoints import Endpoints
from fleet.cloud.ecs.pacer import Pacer
from fleet.cloud.ecs.transport import AiohttpTransport
from fleet.cloud.http import Request
from fleet.cloud.openstack.provider import assemble
from fleet.cloud.simulator import defaults
from fleet.cloud.simulator.face import Face
from fleet.cloud.simulator.fleetfile import FleetFile, Group
from fleet.cloud.simulator.server import SimulatorServer
from fleet.core.model import ServerId
from fleet.core.settings import CloudSettings

REAL = os.environ.get("FLEET_CONTRACT", "")
NAMES = {"nova": "contract.real_nova:real_nova"}
CLOUDS = [NAMES.get(REAL, REAL)] if REAL else ["ecs", "openstack", "contract.template:tiny_lab"]

FLEET = FleetFile(
    servers=(
        Group(name="web-{}", count=4, tags={"role": "web"}, subnet="10.20.1.0/24", data_disks=1),
        Group(name="locked", locked=1),
    ),
    speed=100.0,
    seed=7,
)


class SimulatorJudge:
    """The simulator's own record."""

    def __init__(self, face: Face) -> None:
        self._face = face

    async def reinstalls(self, server: ServerId) -> int:
        return self._face.world.reinstalls().get(server, 0)


def _is_ecs_wipe(request: Request) -> bool:
    return request.url.endswith(("/reinstallos", "/changeos"))


def named_lab(name: str) -> Callable[[], AbstractAsyncContextManager[Lab]]:
    """Return the function that ``module:function`` names."""
    module, _, function = name.partition(":")
    try:
        found: Callable[[], AbstractAsyncContextManager[Lab]] = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise pytest.UsageError(
            f"FLEET_CONTRACT={name}: {error}; install it, or name it in PYTHONPATH"
        ) from error
    return found


@pytest.fixture(params=CLOUDS)
async def lab(request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    """One cloud, fresh where it is simulated."""
    if ":" in request.param:
        async with named_lab(request.param)() as found:
            yield found
        return
    server = SimulatorServer(FLEET)
    url = await server.start("127.0.0.1", 0)
    clock = SystemClock()
    transport = AiohttpTransport(clock, environ={})
    known = {
        "url": url,
        "user": defaults.USER_NAME,
        "password": defaults.USER_PASSWORD,
        "domain_name": defaults.DOMAIN_NAME,
        "project_name": defaults.PROJECT_NAME,
    }
    rng = random.Random(1)
    if request.param == "ecs":
        wire = Lossy(transport, _is_ecs_wipe)
        login = TokenLogin(Password(**known), wire, clock)
        cloud = EcsCloud(wire, login, Pacer(500.0), Endpoints(url), clock=clock, rng=rng)
    else:
        wire = Lossy(transport, is_nova_wipe)
        login = TokenLogin(KeystonePassword(**known), wire, clock)
        settings = CloudSettings(provider="openstack", requests_per_second=500.0)
        cloud = assemble(wire, login, settings, clock, None, rng)
    world = server.face.world
    try:
        yield Lab(
            cloud=cloud,
            wire=wire,
            judge=SimulatorJudge(server.face),
            servers=[ServerId(world.named(f"web-{number}").id) for number in range(1, 5)],
            key_pair=defaults.KEY_PAIR,
            image=defaults.IMAGE_ID,
            boottime=clock.boottime,
        )
    finally:
        await cloud.close()
        await server.close()
