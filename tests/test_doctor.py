"""What `fleet doctor` says of clocks and of users, against a cloud over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from fleet.clock import SystemClock
from fleet.cloud.simulator import defaults
from fleet.cloud.simulator.fleetfile import FleetFile, Group
from fleet.cloud.simulator.server import SimulatorServer
from fleet.core.settings import CloudSettings
from fleet.doctor import Doctor, Verdict
from fleet.errors import Exit

FLEET = FleetFile(servers=(Group(name="web-{}", count=2),))


class Off(SystemClock):
    """A clock that is off."""

    def __init__(self, by: timedelta) -> None:
        self.by = by

    def now(self):
        return super().now() + self.by


@pytest.fixture
async def url(monkeypatch, tmp_path) -> AsyncIterator[str]:
    for name in ("OS_CLOUD", "OS_USERNAME", "OS_PASSWORD", "OS_TOKEN", "OS_USER_ID"):
        monkeypatch.delenv(name, raising=False)
    server = SimulatorServer(FLEET)
    address = await server.start("127.0.0.1", 0)
    monkeypatch.setenv("OS_AUTH_URL", address)
    monkeypatch.setenv("OS_PROJECT_NAME", defaults.PROJECT_NAME)
    monkeypatch.setenv("FLEET_SIMULATOR_URL", address)
    monkeypatch.setenv("OS_ACCESS_KEY", defaults.ACCESS_KEY)
    monkeypatch.setenv("OS_SECRET_KEY", defaults.SECRET_KEY)
    yield address
    await server.close()


async def examined(provider, by, state):
    told = []
    doctor = Doctor(Off(by), told.append)
    await doctor.examine(CloudSettings(provider=provider), None, state)
    assert told == doctor.steps
    return doctor, {step.name: step for step in doctor.steps}


async def test_a_clock_that_is_a_little_off(url, tmp_path):
    """Every login works, and windows open at the wrong time."""
    doctor, steps = await examined("ecs", timedelta(minutes=-5), tmp_path)
    assert steps["clock"].verdict is Verdict.ODD
    assert "behind the cloud's" in steps["clock"].said
    assert "windows" in steps["clock"].remedy
    assert steps["servers"].verdict is Verdict.WELL
    assert doctor.exit_code is Exit.OK


async def test_a_clock_with_which_no_signature_is_accepted(url, tmp_path):
    """It is not tried: wrong ones lock the key."""
    doctor, steps = await examined("ecs", timedelta(hours=1), tmp_path)
    assert steps["clock"].verdict is Verdict.WRONG
    assert steps["login"].verdict is Verdict.UNTRIED
    assert doctor.exit_code is Exit.CLOUD


async def test_a_password_works_with_any_clock(url, tmp_path):
    doctor, steps = await examined("simulator", timedelta(hours=1), tmp_path)
    assert (steps["clock"].verdict, steps["servers"].verdict) == (Verdict.ODD, Verdict.WELL)
    assert doctor.exit_code is Exit.OK


async def test_an_openstack_takes_no_access_key(url, tmp_path):
    _, steps = await examined("openstack", timedelta(), tmp_path)
    assert "no login for OpenStack" in steps["login found"].said
