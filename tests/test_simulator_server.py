"""The built-in cloud over real HTTP, on loopback."""

from __future__ import annotations

import asyncio
import io
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from fleet.cloud.simulator import defaults
from fleet.cloud.simulator.faults import fault
from fleet.cloud.simulator.fleetfile import FleetFile, Group
from fleet.cloud.simulator.server import SimulatorServer, serve
from fleet.cloud.simulator.settings import Durations, Spread
from fleet.errors import PlanError

P = defaults.PROJECT_ID
FLEET = FleetFile(
    speed=200.0,
    servers=(Group(name="web-{}", count=4, status="SHUTOFF"),),
    durations=Durations(latency=Spread(0)),
)


class Http:
    """A session that has logged in."""

    def __init__(self, server: SimulatorServer, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.session = session
        self.headers: dict[str, str] = {}

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        async with self.session.request(
            method, self.server.url + path, json=body, headers=self.headers, allow_redirects=False
        ) as response:
            content = await response.read()
            return response.status, json.loads(content) if content else None

    async def log_in(self) -> None:
        user = {"name": "fleet", "password": "simulator", "domain": {"name": "simulator"}}
        identity = {"methods": ["password"], "password": {"user": user}}
        body = {"auth": {"identity": identity, "scope": {"project": {"name": "sim-1"}}}}
        async with self.session.post(f"{self.server.url}/v3/auth/tokens", json=body) as response:
            assert response.status == 201
            assert response.headers["Server"] == "api-gateway"
            self.headers = {"X-Auth-Token": response.headers["X-Subject-Token"]}
            token = (await response.json())["token"]
        assert token["catalog"][0]["endpoints"][0]["url"] == f"{self.server.url}/v1/{P}"

    async def reinstall(self, name: str) -> tuple[int, Any]:
        server = self.server.face.world.named(name).id
        order = {"os-reinstall": {"keyname": "demo-key"}}
        return await self.ask("POST", f"/v2/{P}/cloudservers/{server}/reinstallos", order)


@asynccontextmanager
async def serving(fleet: FleetFile = FLEET, record_file: Path | None = None) -> AsyncIterator[Http]:
    server = SimulatorServer(fleet, record_file=record_file)
    await server.start("127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession() as session:
            http = Http(server, session)
            await http.log_in()
            yield http
    finally:
        await server.close()


async def test_a_reinstall_over_http(tmp_path: Path) -> None:
    """List, reinstall, follow the job to its end; the record says the same in the file and on request."""
    file = tmp_path / "record.jsonl"
    async with serving(record_file=file) as http:
        status, body = await http.ask("GET", f"/v1/{P}/cloudservers/detail?limit=2&offset=2")
        assert (status, body["count"]) == (200, 4)
        assert [server["name"] for server in body["servers"]] == ["web-3", "web-4"]
        status, accepted = await http.reinstall("web-1")
        assert status == 200
        assert file.read_bytes().count(b'"kind":"reinstall"') == 1
        while True:
            job = (await http.ask("GET", f"/v1/{P}/jobs/{accepted['job_id']}"))[1]
            if job["status"] in {"SUCCESS", "FAIL"}:
                break
            await asyncio.sleep(0.02)
        assert job["status"] == "SUCCESS"
        record = (await http.ask("GET", "/_simulator/record"))[1]
        server = http.server.face.world.named("web-1").id
        assert record["reinstalls"] == record["wipes"] == {server: 1}
        assert record["max_down"] == 4
        assert record["requests"]["reinstall"] == 1
        assert record["entries"][0]["entry"] == "call"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["server"] for line in lines if line.get("effect") == "disk-replaced"] == [server]


async def test_what_happens_happens_without_anybody_asking(tmp_path: Path) -> None:
    file = tmp_path / "record.jsonl"
    async with serving(record_file=file) as http:
        await http.reinstall("web-1")
        while b"disk-replaced" not in file.read_bytes():  # noqa: ASYNC110 - only the file can tell
            await asyncio.sleep(0.05)


async def test_dropped_connections() -> None:
    """Lost after acceptance, cut before, landing late: the client sees the same, the record does not."""
    async with serving() as http:
        orders = [
            {"kind": "answer-lost", "when": {"server": "web-1"}},
            {"kind": "cut-before", "when": {"server": "web-2"}},
            {"kind": "lands-late", "when": {"server": "web-3"}, "seconds": 30},
        ]
        assert await http.ask("POST", "/_simulator/faults", orders) == (200, {"ordered": 3})
        for name in ("web-1", "web-2", "web-3"):
            with pytest.raises(aiohttp.ClientError):
                await http.reinstall(name)
        await asyncio.sleep(0.3)
        world = http.server.face.world
        await http.ask("GET", "/_simulator/health")
        assert world.reinstalls() == {world.named("web-1").id: 1, world.named("web-3").id: 1}


async def test_the_operators_side() -> None:
    async with serving() as http:
        assert (await http.ask("GET", "/_simulator/health"))[1]["status"] == "ok"
        state = (await http.ask("GET", "/_simulator/state"))[1]
        assert [server["status"] for server in state["servers"]] == ["SHUTOFF"] * 4
        assert (await http.ask("POST", "/_simulator/faults", {"kind": "gremlins"}))[0] == 400
        assert (await http.ask("GET", "/_simulator/nothing"))[0] == 404
        assert (await http.ask("GET", "/_simulator/summary"))[1]["reinstalls"] == {}
        assert (await http.ask("POST", "/_simulator/stop"))[0] == 200
        assert http.server.stopped.is_set()


async def test_odd_requests_get_a_sane_answer() -> None:
    async with serving() as http:
        for method in ("HEAD", "OPTIONS", "PATCH", "DELETE"):
            async with http.session.request(method, f"{http.server.url}/v1/{P}/x%2Fy?a=%ZZ") as response:
                assert response.status == 404
        async with http.session.post(
            f"{http.server.url}/v3/auth/tokens", data=io.BytesIO(b"x" * (12 * 1024 * 1024 + 1))
        ) as response:
            assert response.status == 413


async def test_only_loopback_is_served(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "192.0.2.1", "example.org"):  # noqa: S104 - that is the point
        with pytest.raises(PlanError, match="loopback"):
            await serve(FLEET, host=host)
    with pytest.raises(PlanError):
        await serve(FLEET, record_file=tmp_path / "no" / "such" / "folder")


async def test_a_taken_port_is_said_with_a_remedy() -> None:
    server = SimulatorServer(FLEET)
    url = await server.start("127.0.0.1", 0)
    port = int(url.rpartition(":")[2])
    try:
        with pytest.raises(PlanError) as caught:
            await SimulatorServer(FLEET).start("127.0.0.1", port)
    finally:
        await server.close()
    assert str(caught.value) == (
        f"the simulator cannot start on 127.0.0.1:{port}: Address already in use\n"
        "  hint: another one may be at work there; --port 0 takes a free port"
    )


async def test_it_ends_by_itself_when_idle() -> None:
    told: list[str] = []
    await serve(FLEET, idle_exit_s=0.2, on_ready=told.append)
    assert told[0].startswith("http://127.0.0.1:")


async def test_it_ends_on_a_signal() -> None:
    def interrupt(_url: str) -> None:
        asyncio.get_running_loop().call_later(0.05, signal.raise_signal, signal.SIGTERM)

    await asyncio.wait_for(serve(FLEET, on_ready=interrupt), 10)


async def test_faults_of_the_file_count_from_the_start() -> None:
    fleet = FleetFile(speed=200.0, faults=(fault("error-burst", call="list", status=502),))
    async with serving(fleet) as http:
        assert (await http.ask("GET", f"/v1/{P}/cloudservers/detail"))[0] == 502
        assert (await http.ask("GET", f"/v1/{P}/cloudservers/detail"))[1]["count"] == 71
