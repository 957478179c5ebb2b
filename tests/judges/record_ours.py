"""Our own clients work on the built-in cloud over HTTP, and what went over the wire is written down.

    python tests/judges/record_ours.py FILE

Runs in our environment. FILE gets, as JSON, for each of our clients: every request as the server received it
with its answer, and every value that the client made of an answer. `judge_ours.py` judges them elsewhere.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from fleet.clock import SystemClock
from fleet.cloud.api import ReinstallOrder
from fleet.cloud.ecs import provider as ecs_provider
from fleet.cloud.http import Request
from fleet.cloud.openstack import provider as openstack_provider
from fleet.cloud.simulator import defaults
from fleet.cloud.simulator.face import Outcome
from fleet.cloud.simulator.faults import fault
from fleet.cloud.simulator.fleetfile import read_fleet
from fleet.cloud.simulator.server import SimulatorServer
from fleet.core.model import Call, Job, JobId, JobStatus, ServerId
from fleet.core.settings import CloudSettings
from fleet.errors import CloudError

SPEED = 100.0
PATIENCE_S = 60.0
USER_DATA = b"#cloud-config\npackages: [nginx]\n"
PASSWORD = "aPassword1!"
PLACE = {"OS_REGION_NAME": defaults.REGION, "OS_PROJECT_NAME": defaults.PROJECT_NAME}
LOGINS = {
    "password": {
        **PLACE,
        "OS_USERNAME": defaults.USER_NAME,
        "OS_PASSWORD": defaults.USER_PASSWORD,
        "OS_USER_DOMAIN_NAME": defaults.DOMAIN_NAME,
    },
    "password, by ids": {
        **PLACE,
        "OS_USER_ID": defaults.USER_ID,
        "OS_PASSWORD": defaults.USER_PASSWORD,
        "OS_PROJECT_ID": defaults.PROJECT_ID,
    },
    "access key": {
        **PLACE,
        "OS_ACCESS_KEY": defaults.ACCESS_KEY,
        "OS_SECRET_KEY": defaults.SECRET_KEY,
    },
    "application credential": {
        "OS_REGION_NAME": defaults.REGION,
        "OS_AUTH_TYPE": "v3applicationcredential",
        "OS_APPLICATION_CREDENTIAL_ID": defaults.APPLICATION_CREDENTIAL,
        "OS_APPLICATION_CREDENTIAL_SECRET": defaults.APPLICATION_SECRET,
    },
}


class Recorder:
    """A simulator with a witness at its door.

    Attributes:
        exchanges: What was received and what was answered, by the part of the session.
        values: What our client made of it.
        orders: What it was told to install, one for each request that installs.
    """

    def __init__(self, server: SimulatorServer) -> None:
        self._inner = server.face.handle
        server.face.handle = self._handle  # type: ignore[method-assign]
        self.exchanges: list[dict[str, Any]] = []
        self.values: list[dict[str, Any]] = []
        self.orders: list[dict[str, Any]] = []

    def order(self, order: ReinstallOrder) -> ReinstallOrder:
        """Keep an order as it was given."""
        kept = asdict(order)
        kept["user_data"] = None if order.user_data is None else base64.b64encode(order.user_data).decode()
        self.orders.append(kept)
        return order

    def _handle(self, request: Request, now: float) -> Outcome:
        outcome = self._inner(request, now)
        self.exchanges.append(
            {
                "method": request.method,
                "url": request.url,
                "headers": {name.lower(): value for name, value in request.headers.items()},
                "body": base64.b64encode(request.body or b"").decode(),
                "status": outcome.response.status,
                "answer": base64.b64encode(outcome.response.body).decode(),
            }
        )
        return outcome

    async def value(self, kind: str, call: Awaitable[Any], path: str = "") -> Any:
        """Make a call and keep what it gave, with the place of the answer that it was made of.

        Where it takes several requests, that is the first one whose *path* ends so; else the last one.
        """
        before = len(self.exchanges)
        found = await call
        asked = [urlsplit(each["url"]).path for each in self.exchanges[before:]]
        place = next((i for i, each in enumerate(asked) if path and each.endswith(path)), len(asked) - 1)
        made = msgspec.to_builtins(found)
        self.values.append({"kind": kind, "value": made, "exchange": before + place})
        return found

    async def error(self, kind: str, call: Awaitable[Any]) -> None:
        """Make a call that must be refused; keep what our error says."""
        try:
            await call
        except CloudError as error:
            made = {"code": error.code, "status": error.status, "message": error.message}
            self.values.append({"kind": kind, "value": made, "exchange": len(self.exchanges) - 1})
        else:
            raise AssertionError(f"{kind}: not refused")


async def over(job: Callable[[], Awaitable[Job]]) -> None:
    """Wait for the end of a job."""
    async with asyncio.timeout(PATIENCE_S):
        while (await job()).status is JobStatus.RUNNING:  # noqa: ASYNC110 - a cloud is asked
            await asyncio.sleep(0.05)


async def until(cloud: Any, server: ServerId, status: str) -> None:
    """Wait until a server is in a state, and idle, three times in a row."""
    held = 0
    async with asyncio.timeout(PATIENCE_S):
        while held < 3:
            look = await cloud.server(server)
            held = held + 1 if (look.status, look.task) == (status, None) else 0
            await asyncio.sleep(0.02)


async def ecs(cloud: Any, witness: Recorder, server: SimulatorServer) -> None:
    """Make every call that there is."""
    await ecs_reading(cloud, witness)
    await ecs_changing(cloud, witness, server)


async def ecs_reading(cloud: Any, witness: Recorder) -> None:
    """Make the calls that read, and those that tag."""
    await cloud.whoami()
    servers = await witness.value("servers", cloud.servers())
    web = [each.id for each in servers if each.name.startswith("web-")]
    data = next(each.id for each in servers if each.data_disks)
    await cloud.servers(set(web[:50]))  # by their ids
    for each in (web[0], data):
        await witness.value("server", cloud.server(each))
    await witness.value("image", cloud.image(defaults.IMAGE_ID))
    await witness.value("image", cloud.image(defaults.PLAIN_IMAGE_ID))
    await witness.value("key pair", cloud.key_pair(defaults.KEY_PAIR))
    await witness.value("room", cloud.disk_room())
    await witness.value("groups", cloud.scaling_groups())
    await witness.value("backup", cloud.backup(web[0]))
    await witness.value("backups", cloud.backups(datetime(2026, 1, 1, tzinfo=UTC)))
    await cloud.tag(web[0], {"fleet-run-abc": "x", "mark": ""})
    await witness.value("server", cloud.server(web[0]))
    await cloud.untag(web[0], ["fleet-run-abc", "mark"])
    await witness.error("error", cloud.server(ServerId("none")))
    await witness.error("error", cloud.image("none"))
    await witness.error("error", cloud.key_pair("none"))
    await witness.error("error", cloud.job(JobId("0" * 32)))


async def ecs_changing(cloud: Any, witness: Recorder, server: SimulatorServer) -> None:
    """Make the calls that stop, install and start."""
    web = [each.id for each in await cloud.servers() if each.name.startswith("web-")]

    async def reinstall(place: int, call: Call, **fields: Any) -> JobId:
        order = witness.order(ReinstallOrder(server=web[place], call=call, **fields))
        send_by = SystemClock().boottime() + 30.0
        return (await cloud.reinstall(order, send_by=send_by, timeout_s=30.0)).job

    key = {"key_pair": defaults.KEY_PAIR}
    await witness.error("error", reinstall(0, Call.REINSTALL_PLAIN, **key))  # it runs
    soft = await cloud.stop(web[:4], force=False)
    await witness.value("job", cloud.job(soft))
    await over(lambda: cloud.job(soft))
    await witness.value("job", cloud.job(soft))
    await cloud.stop(web[4:6], force=True)
    for each in web[:6]:
        await until(cloud, each, "SHUTOFF")
    await witness.error("error", reinstall(0, Call.REINSTALL_PLAIN, key_pair="none"))
    cloud_init, plain = Call.REINSTALL_CLOUD_INIT, Call.REINSTALL_PLAIN
    first = await reinstall(0, cloud_init, **key, user_data=USER_DATA, byol=True)
    await witness.value("job", cloud.job(first))
    await witness.value("server", cloud.server(web[0]))
    server.face.order(
        fault("job-fails", code="Ecs.0202", text="Failed to create the system disk.", lose_disk=True)
    )
    jobs = [first, await reinstall(1, plain, key_pair=defaults.KEY_PAIR, user_id=defaults.USER_ID)]
    jobs.append(await reinstall(2, cloud_init, admin_password=PASSWORD, user_data=USER_DATA))
    jobs.append(await reinstall(3, plain, admin_password=PASSWORD))
    jobs.append(
        await reinstall(4, Call.CHANGE_CLOUD_INIT, **key, image=defaults.IMAGE_ID, user_data=USER_DATA)
    )
    jobs.append(await reinstall(5, Call.CHANGE_PLAIN, **key, image=defaults.PLAIN_IMAGE_ID))
    jobs.append(await reinstall(6, cloud_init, user_data=USER_DATA, stop_first=True))
    for job in jobs:
        await over(lambda job=job: cloud.job(job))
        await witness.value("job", cloud.job(job))
    await until(cloud, web[0], "ACTIVE")
    for each in (web[0], web[1], web[4]):
        await witness.value("server", cloud.server(each))
    server.face.order(fault("job-fails", call="start", server="web-010", code="Ecs.0226", text="No host."))
    for each in web[8:10]:
        await stopped(cloud, each)
    await started(cloud, witness, web[8:10])
    await witness.value("servers", cloud.servers())
    async with asyncio.timeout(PATIENCE_S):  # the trail comes minutes later, of the cloud's time
        since = datetime.now(UTC) - timedelta(hours=1)
        while len((await cloud.trail(web, since)).wipes) < len(jobs):  # noqa: ASYNC110 - a cloud is asked
            await asyncio.sleep(0.5)


async def stopped(cloud: Any, server: ServerId) -> None:
    """Have a server stopped."""
    await cloud.stop([server], force=False)
    await until(cloud, server, "SHUTOFF")


async def started(cloud: Any, witness: Recorder, servers: list[ServerId]) -> None:
    """Start servers, and follow the batch to its end."""
    job = await cloud.start(servers)
    await over(lambda: cloud.job(job))
    await witness.value("job", cloud.job(job))


async def openstack(cloud: Any, witness: Recorder, server: SimulatorServer) -> None:
    """Make every call that there is."""
    await cloud.whoami()
    servers = await witness.value("servers", cloud.servers(), "/servers/detail")
    web = [each.id for each in servers if each.name.startswith("web-")]
    data = next(each.id for each in servers if each.name.startswith("db-"))
    for each in (web[0], data):
        await look(cloud, witness, each)
    await witness.value("image", cloud.image(defaults.IMAGE_ID))
    await witness.value("key pair", cloud.key_pair(defaults.KEY_PAIR))
    await witness.error("error", cloud.server(ServerId("none")))
    await witness.error("error", cloud.key_pair("none"))
    await witness.error("error", cloud.start([web[0]]))
    await cloud.stop(web[:2], force=False)
    for each in web[:2]:
        await until(cloud, each, "SHUTOFF")
    await look(cloud, witness, web[0])

    async def rebuild(place: int, **fields: Any) -> JobId:
        fields = {"image": defaults.IMAGE_ID, **fields}
        order = witness.order(ReinstallOrder(server=web[place], call=Call.REINSTALL_CLOUD_INIT, **fields))
        send_by = SystemClock().boottime() + 30.0
        return (await cloud.reinstall(order, send_by=send_by, timeout_s=30.0)).job

    await witness.error("error", rebuild(0, key_pair="none"))
    server.face.order(fault("job-fails", server="web-002", text="no valid host", leaves="ERROR"))
    jobs = [
        await rebuild(0, key_pair=defaults.KEY_PAIR, user_data=USER_DATA, image=defaults.PLAIN_IMAGE_ID),
        await rebuild(1, admin_password=PASSWORD, preserve_ephemeral=True),
    ]
    await look(cloud, witness, web[0])
    for job in jobs:
        await over(lambda job=job: cloud.job(job))
    await until(cloud, web[0], "SHUTOFF")
    await until(cloud, web[1], "ERROR")
    for job in jobs:
        await witness.value("job", cloud.job(job), f"/os-instance-actions/{job.partition('/')[2]}")
    await look(cloud, witness, web[1])
    await cloud.start([web[0]])
    await until(cloud, web[0], "ACTIVE")


async def look(cloud: Any, witness: Recorder, server: ServerId) -> None:
    """Look at a server; keep what was seen with the answer that shows it, and not its log's."""
    await witness.value("server", cloud.server(server), f"/servers/{server}")


async def session(client: str, login: str, work: Callable[..., Awaitable[None]] | None) -> dict[str, Any]:
    """Let one of our clients work on a simulator of its own, logged in one way."""
    fleet = msgspec.structs.replace(read_fleet(Path(__file__).with_name("fleet.yaml")), speed=SPEED)
    server = SimulatorServer(fleet)
    url = await server.start("127.0.0.1", 0)
    witness = Recorder(server)
    for name in [name for name in os.environ if name.startswith(("OS_", "HW_", "HUAWEICLOUD_"))]:
        del os.environ[name]
    os.environ.update({**LOGINS[login], "OS_AUTH_URL": f"{url}/v3"})
    settings = CloudSettings(provider=client, requests_per_second=500.0)
    make: Any = ecs_provider.ecs if client == "ecs" else openstack_provider.openstack
    cloud = make(settings, SystemClock())
    try:
        if work is None:
            await witness.value("identity", cloud.whoami())
            await cloud.server((await cloud.servers())[0].id)
        else:
            await work(cloud, witness, server)
    finally:
        await cloud.close()
        await server.close()
    recorded = {"exchanges": witness.exchanges, "values": witness.values, "orders": witness.orders}
    return {"client": client, "login": login, **recorded}


async def record() -> list[dict[str, Any]]:
    """Record every session."""
    return [
        await session("ecs", "password", ecs),
        await session("openstack", "password", openstack),
        await session("ecs", "password, by ids", None),
        await session("ecs", "access key", None),
        await session("openstack", "application credential", None),
    ]


def main(path: Path) -> None:
    """Record, and write it down."""
    found = asyncio.run(record())
    path.write_text(json.dumps(found), encoding="utf-8")
    print(f"recorded {sum(len(each['exchanges']) for each in found)} requests of our clients")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
