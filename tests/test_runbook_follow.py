"""How soon the end of the cloud's work is noticed, on virtual time, against one server that is scripted."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

from fleet.clock import run_virtual
from fleet.core.events import Event, Member, ReinstallFailed, ReinstallRequested
from fleet.core.model import Call, Disk, Job, JobId, JobStatus, Server, ServerId
from fleet.core.state import Phase, ServerState
from fleet.observe import Observer
from fleet.runbook import follow

ONE, JOB = ServerId("s-1"), JobId("j-1")
USUAL_S = 1200.0


class Cloud:
    """One server, as it is told to look, and its job, which fails after a while."""

    def __init__(self, *, task: str | None, fails_after_s: float) -> None:
        self.jobs_asked = 0
        self._task, self._fails_after_s = task, fails_after_s

    async def server(self, server: ServerId) -> Server:
        over = asyncio.get_running_loop().time() >= self._fails_after_s
        disks = (Disk(id="old", system=True),)
        return Server(id=server, status="SHUTOFF", task=None if over else self._task, disks=disks)

    async def servers(self, *, only: Collection[ServerId]) -> list[Server]:
        return [await self.server(each) for each in only]

    async def job(self, job: JobId) -> Job:
        self.jobs_asked += 1
        over = asyncio.get_running_loop().time() >= self._fails_after_s
        return Job(id=job, status=JobStatus.FAIL if over else JobStatus.RUNNING, servers={}, reason="no disk")


class Context:
    """As much of `fleet.context.Context` as `follow` asks for; most reinstalls have taken `USUAL_S`."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud, self._observer = cloud, Observer(cloud)  # type: ignore[arg-type]  # as much as is asked for
        self.recorded: list[Event] = []

    def target(self, _: ServerState) -> Any:
        return SimpleNamespace(reinstall=SimpleNamespace(timeout_s=2 * USUAL_S))

    def watched(self, _: ServerState) -> float:
        return asyncio.get_running_loop().time()

    def nearly_all_s(self, _: str) -> float:
        return USUAL_S

    async def until(self, server: ServerState, *args: Any, **named: Any) -> Server | None:
        return await self._observer.until(server.id, *args, **named)

    async def job(self, _: ServerState) -> Job:
        return await self._cloud.job(JOB)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def record(self, event: Event) -> None:
        self.recorded.append(event)


def noticed_s(cloud: Cloud) -> float:
    """Return when a failure is recorded."""

    async def story() -> float:
        server = ServerState(
            Member(id=ONE, name="web-1", target="web", wave=1, call=Call.REINSTALL_CLOUD_INIT),
            Phase.REINSTALLING,
            job=JOB,
        )
        server.noted = ReinstallRequested(
            server=ONE,
            attempt=1,
            call=Call.REINSTALL_CLOUD_INIT,
            system_disk="old",
            data_disks=(),
            updated="",
            state="SHUTOFF",
            settle_s=300.0,
        )
        ctx = Context(cloud)
        await follow(server, ctx)  # type: ignore[arg-type]
        assert [type(event) for event in ctx.recorded] == [ReinstallFailed]
        return asyncio.get_running_loop().time()

    return run_virtual(story())


def test_a_job_that_fails_at_once_is_noticed_soon() -> None:
    """The server stands as before, and never showed that it was worked on."""
    cloud = Cloud(task=None, fails_after_s=2.0)
    assert noticed_s(cloud) <= 31.0
    assert cloud.jobs_asked == 1


def test_where_the_server_shows_that_it_is_worked_on_its_job_is_asked_once() -> None:
    cloud = Cloud(task="rebuilding", fails_after_s=600.0)
    assert 600.0 <= noticed_s(cloud) <= 615.0
    assert cloud.jobs_asked == 1


def test_where_it_never_shows_that_its_job_is_asked_once_more_around_the_usual_end() -> None:
    cloud = Cloud(task=None, fails_after_s=USUAL_S - 10.0)
    assert USUAL_S - 10.0 <= noticed_s(cloud) <= USUAL_S + 31.0
    assert cloud.jobs_asked == 2
