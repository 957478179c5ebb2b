"""Faults to order: each does what it says, over the transport inside the process and on virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fleet.clock import run_virtual
from fleet.cloud.http import Request, Response
from fleet.cloud.simulator import defaults
from fleet.cloud.simulator.face import Face
from fleet.cloud.simulator.faults import Fault, fault, random_faults
from fleet.cloud.simulator.settings import Behaviour, Durations, Spread
from fleet.cloud.simulator.things import ServerSpec
from fleet.cloud.simulator.transport import SimulatedTransport
from fleet.cloud.simulator.world import World
from fleet.errors import NotSent, OutcomeUnknown

P = defaults.PROJECT_ID
DURATIONS = Durations(
    stop_soft=Spread(20, 0),
    start=Spread(20, 0),
    queue=Spread(2, 0),
    reinstall=Spread(100, 0),
    job_lag=Spread(2, 0),
    latency=Spread(0.1, 0),
)


class Console:
    """A client without any wit: it asks, and shows what it got."""

    def __init__(self, *faults: Fault, status: str = "SHUTOFF", profile: str = "A") -> None:
        specs = [ServerSpec(name=f"web-{n}", status=status, profile=profile) for n in (1, 2)]
        self.world = World(specs, durations=DURATIONS, behaviour=Behaviour(job="single"), seed=1)
        self.face = Face(self.world, faults=faults)
        self.transport = SimulatedTransport(self.face)
        self.headers: dict[str, str] = {}

    def id_of(self, name: str) -> str:
        return self.world.named(name).id

    async def ask(self, method: str, path: str, body: Any = None, *, timeout_s: float = 30.0) -> Response:
        data = None if body is None else json.dumps(body).encode()
        return await self.transport.send(
            Request(method, defaults.BASE_URL + path, self.headers, data, timeout_s=timeout_s)
        )

    async def log_in(self) -> None:
        user = {"name": "fleet", "password": "simulator", "domain": {"name": "simulator"}}
        identity = {"methods": ["password"], "password": {"user": user}}
        body = {"auth": {"identity": identity, "scope": {"project": {"name": "sim-1"}}}}
        response = await self.ask("POST", "/v3/auth/tokens", body)
        assert response.status == 201
        self.headers = {"X-Auth-Token": response.headers["x-subject-token"]}

    async def reinstall(self, name: str = "web-1", **kwargs: float) -> Response:
        path = f"/v2/{P}/cloudservers/{self.id_of(name)}/reinstallos"
        return await self.ask("POST", path, {"os-reinstall": {"keyname": "demo-key"}}, **kwargs)

    async def power(self, root: str, *names: str, **fields: str) -> Response:
        body = {root: {"servers": [{"id": self.id_of(name)} for name in names], **fields}}
        return await self.ask("POST", f"/v1/{P}/cloudservers/action", body)

    async def job(self, accepted: Response) -> Response:
        return await self.ask("GET", f"/v1/{P}/jobs/{json.loads(accepted.body)['job_id']}")

    async def statuses(self) -> list[str]:
        response = await self.ask("GET", f"/v1/{P}/cloudservers/detail")
        return [server["status"] for server in json.loads(response.body)["servers"]]

    async def shown(self, name: str = "web-1") -> str:
        response = await self.ask("GET", f"/v1/{P}/cloudservers/{self.id_of(name)}")
        server = json.loads(response.body)["server"]
        return f"{server['status']}/{server['OS-EXT-STS:task_state']}"

    def reinstalls(self) -> int:
        return sum(self.world.reinstalls().values())

    def wipes(self) -> int:
        return sum(self.world.wipes().values())


def story(console: Console, tell: Callable[[Console], Awaitable[None]]) -> None:
    async def whole() -> None:
        await console.log_in()
        await tell(console)

    run_virtual(whole())


def code_of(response: Response) -> str:
    body = json.loads(response.body)
    return str(body.get("error_code") or body.get("code") or body["error"]["code"])


def test_an_answer_that_is_lost_was_a_yes() -> None:
    """The connection drops after acceptance: the record counts it, the client knows nothing."""

    async def tell(console: Console) -> None:
        with pytest.raises(OutcomeUnknown):
            await console.reinstall()
        assert console.reinstalls() == 1
        await asyncio.sleep(300)
        assert await console.shown() == "ACTIVE/None"
        assert console.wipes() == 1

    story(Console(fault("answer-lost")), tell)


@pytest.mark.parametrize(("kind", "error"), [("cut-before", OutcomeUnknown), ("unreachable", NotSent)])
def test_what_is_cut_before_is_not_done(kind: str, error: type[Exception]) -> None:
    async def tell(console: Console) -> None:
        with pytest.raises(error):
            await console.reinstall()
        assert console.reinstalls() == 0
        assert [entry.fault for entry in console.world.ledger.calls("reinstall")] == [kind]
        assert (await console.reinstall()).status == 200

    story(Console(fault(kind, call="reinstall")), tell)


def test_a_request_that_lands_late() -> None:
    """The client was cut off at once; 25 s later the cloud takes it, at the state of that time."""

    async def tell(console: Console) -> None:
        with pytest.raises(OutcomeUnknown):
            await console.reinstall()
        await asyncio.sleep(24)
        assert await console.shown() == "SHUTOFF/None"
        assert console.reinstalls() == 0
        await asyncio.sleep(4)
        assert await console.shown() == "REBUILD/rebuilding"
        (entry,) = console.world.ledger.calls("reinstall")
        assert (entry.late, entry.accepted) == (True, True)
        await asyncio.sleep(300)
        console.transport.catch_up()
        assert console.wipes() == 1

    story(Console(fault("lands-late", seconds=25)), tell)


def test_a_late_request_meets_the_guards_of_its_time() -> None:
    async def tell(console: Console) -> None:
        with pytest.raises(OutcomeUnknown):
            await console.reinstall()
        assert (await console.reinstall()).status == 200
        await asyncio.sleep(60)
        await console.statuses()
        assert [(entry.code, entry.late) for entry in console.world.ledger.calls("reinstall")] == [
            ("", False),
            ("Ecs.0603", True),
        ]

    story(Console(fault("lands-late")), tell)


@pytest.mark.parametrize(
    ("status", "code"), [(429, "APIGW.0308"), (500, "Common.0001"), (502, "APIGW.0201"), (503, "Common.1503")]
)
@pytest.mark.parametrize("accepted", [False, True])
def test_errors_with_and_without_acceptance(status: int, code: str, accepted: bool) -> None:  # noqa: FBT001 - a table's column
    async def tell(console: Console) -> None:
        response = await console.reinstall()
        assert (response.status, code_of(response)) == (status, code)
        assert response.headers["retry-after"] == "7"
        assert console.reinstalls() == int(accepted)

    order = fault("error-burst", call="reinstall", status=status, accepted=accepted, retry_after_s=7)
    story(Console(order), tell)


def test_a_burst_by_count_and_by_duration() -> None:
    async def by_count(console: Console) -> None:
        seen = [(await console.ask("GET", f"/v1/{P}/cloudservers/detail")).status for _ in range(4)]
        assert seen == [200, 503, 503, 200]

    story(Console(fault("error-burst", call="list", nth=2, count=2)), by_count)

    async def by_duration(console: Console) -> None:
        seen = []
        for _ in range(4):
            seen.append((await console.ask("GET", f"/v1/{P}/cloudservers/detail")).status)
            await asyncio.sleep(4.9)
        assert seen == [504, 504, 504, 200]

    story(Console(fault("error-burst", call="list", status=504, for_s=12)), by_duration)


def test_flow_limit_is_a_success_status_without_a_job() -> None:
    async def tell(console: Console) -> None:
        response = await console.reinstall()
        assert (response.status, code_of(response)) == (202, "Common.0024")
        assert console.reinstalls() == 0

    story(Console(fault("flow-limit")), tell)


def test_a_refusal_to_order() -> None:
    async def tell(console: Console) -> None:
        assert code_of(await console.reinstall("web-1")) == "Ecs.0073"
        assert (await console.reinstall("web-2")).status == 200

    story(Console(fault("rejected", code="Ecs.0073", server="*-1")), tell)


def test_a_slow_answer_is_still_an_answer_unless_the_client_gives_up() -> None:
    async def tell(console: Console) -> None:
        began = asyncio.get_running_loop().time()
        assert (await console.reinstall("web-1", timeout_s=60)).status == 200
        assert asyncio.get_running_loop().time() - began == pytest.approx(40.1)
        with pytest.raises(OutcomeUnknown):
            await console.reinstall("web-2", timeout_s=30)
        assert asyncio.get_running_loop().time() - began == pytest.approx(70.1)
        assert console.reinstalls() == 2

    story(Console(fault("slow", call="reinstall", seconds=40, count=2)), tell)


@pytest.mark.parametrize(("kind", "status"), [("html", 502), ("garbage", 200)])
def test_answers_that_nobody_can_read(kind: str, status: int) -> None:
    async def tell(console: Console) -> None:
        response = await console.reinstall()
        assert response.status == status
        with pytest.raises(json.JSONDecodeError):
            json.loads(response.body)
        assert console.reinstalls() == 1

    story(Console(fault(kind, call="reinstall", accepted=True)), tell)


@pytest.mark.parametrize(("loses", "leaves"), [(False, "SHUTOFF"), (True, "SHUTOFF"), (False, "ERROR")])
@pytest.mark.parametrize("profile", ["A", "B"])
def test_a_job_that_fails(loses: bool, leaves: str, profile: str) -> None:  # noqa: FBT001 - a table's column
    """The server may be reinstalled again, whatever it shows, unless its system disk is lost."""

    async def tell(console: Console) -> None:
        disk = console.world.named("web-1").system_disk
        accepted = await console.reinstall()
        await asyncio.sleep(120)
        job = json.loads((await console.job(accepted)).body)
        assert (job["status"], job["error_code"]) == ("FAIL", "Ecs.0319")
        assert await console.shown() == f"{leaves}/None"
        server = console.world.named("web-1")
        assert server.system_disk is (None if loses else disk)
        assert console.wipes() == int(loses)
        assert (server.fault is not None) is (leaves == "ERROR")
        again = await console.reinstall()
        assert again.status == (400 if loses else 200)
        if loses:
            assert code_of(again) == "Ecs.0105"

    order = fault("job-fails", code="Ecs.0319", lose_disk=loses, leaves=leaves)
    story(Console(order, profile=profile), tell)


def test_a_job_that_is_stuck() -> None:
    async def tell(console: Console) -> None:
        stuck, half = await console.reinstall("web-1"), await console.reinstall("web-2")
        await asyncio.sleep(20000)
        assert [json.loads((await console.job(each)).body)["status"] for each in (stuck, half)] == [
            "RUNNING",
            "RUNNING",
        ]
        assert await console.shown("web-1") == "REBUILD/rebuild_spawning"
        assert await console.shown("web-2") == "ACTIVE/None"
        assert code_of(await console.power("os-start", "web-1")) == "Ecs.0603"
        assert (await console.power("os-stop", "web-2")).status == 200

    story(Console(fault("job-stuck", server="web-1"), fault("job-stuck", server="web-2", done=True)), tell)


def test_a_job_that_vanishes() -> None:
    async def tell(console: Console) -> None:
        accepted = await console.reinstall()
        assert (await console.job(accepted)).status == 200
        await asyncio.sleep(31)
        assert code_of(await console.job(accepted)) == "Common.0011"
        await asyncio.sleep(300)
        assert await console.shown() == "ACTIVE/None"

    story(Console(fault("job-vanishes", seconds=30)), tell)


def test_a_soft_stop_that_hangs_until_forced() -> None:
    async def tell(console: Console) -> None:
        assert (await console.power("os-stop", "web-1", "web-2", type="SOFT")).status == 200
        await asyncio.sleep(600)
        assert await console.statuses() == ["ACTIVE", "SHUTOFF"]
        assert await console.shown() == "ACTIVE/powering-off"
        assert code_of(await console.power("os-stop", "web-1", type="SOFT")) == "Ecs.0603"
        assert (await console.power("os-stop", "web-1", type="HARD")).status == 200
        await asyncio.sleep(60)
        assert await console.statuses() == ["SHUTOFF", "SHUTOFF"]

    story(Console(fault("stop-hangs", server="web-1"), status="ACTIVE"), tell)


def test_a_start_that_comes_to_nothing() -> None:
    async def tell(console: Console) -> None:
        accepted = await console.power("os-start", "web-1")
        assert await console.shown() == "SHUTOFF/powering-on"
        await asyncio.sleep(60)
        assert await console.shown() == "SHUTOFF/None"
        assert json.loads((await console.job(accepted)).body)["status"] == "SUCCESS"
        assert (await console.power("os-start", "web-1")).status == 200
        await asyncio.sleep(60)
        assert await console.shown() == "ACTIVE/None"

    story(Console(fault("accepted-then-nothing")), tell)


@pytest.mark.parametrize("profile", ["A", "B"])
def test_a_success_that_changed_nothing(profile: str) -> None:
    async def tell(console: Console) -> None:
        disk = console.world.named("web-1").system_disk
        accepted = await console.reinstall()
        await asyncio.sleep(300)
        assert json.loads((await console.job(accepted)).body)["status"] == "SUCCESS"
        assert await console.shown() == "ACTIVE/None"
        assert console.world.named("web-1").system_disk == disk
        assert (console.reinstalls(), console.wipes()) == (1, 0)

    story(Console(fault("success-without-change"), profile=profile), tell)


def test_a_false_end_in_the_middle() -> None:
    async def tell(console: Console) -> None:
        await console.reinstall()
        await asyncio.sleep(55)
        assert await console.shown() == "ACTIVE/None"
        await asyncio.sleep(12)
        assert await console.shown() == "REBUILD/rebuild_spawning"
        assert code_of(await console.reinstall()) == "Ecs.0603"

    story(Console(fault("false-idle", seconds=10)), tell)


def test_views_that_are_stale() -> None:
    """The list, or one server, as it was 15 s ago."""

    async def tell(console: Console) -> None:
        await console.power("os-stop", "web-1", "web-2")
        await asyncio.sleep(30)
        assert await console.statuses() == ["SHUTOFF", "SHUTOFF"]
        assert await console.statuses() == ["ACTIVE", "ACTIVE"]
        assert await console.statuses() == ["SHUTOFF", "SHUTOFF"]
        assert await console.shown("web-2") == "ACTIVE/powering-off"
        assert await console.shown("web-2") == "SHUTOFF/None"

    orders = (fault("stale-list", seconds=15, nth=2), fault("stale-show", server="web-2", seconds=15))
    story(Console(*orders, status="ACTIVE"), tell)


def test_tokens_revoked_at_a_time_and_at_a_call() -> None:
    async def tell(console: Console) -> None:
        await asyncio.sleep(10)
        response = await console.ask("GET", f"/v1/{P}/cloudservers/detail")
        assert (response.status, code_of(response)) == (401, "APIGW.0307")
        await console.log_in()
        assert await console.statuses() == ["SHUTOFF", "SHUTOFF"]
        assert (await console.reinstall()).status == 401
        assert console.reinstalls() == 0
        await console.log_in()
        assert (await console.reinstall()).status == 200

    story(Console(fault("token-expiry", from_s=5), fault("token-expiry", call="reinstall")), tell)


def test_a_key_pair_deleted_between_looking_and_calling() -> None:
    async def tell(console: Console) -> None:
        path = f"/v2.1/{P}/os-keypairs/demo-key"
        assert (await console.ask("GET", path)).status == 200
        assert code_of(await console.reinstall()) == "Ecs.0314"
        assert (await console.ask("GET", path)).status == 404

    story(Console(fault("key-pair-deleted", call="reinstall", key_pair="demo-key")), tell)


def test_what_other_people_do() -> None:
    """At a time, or right before a call; a server's own, never its neighbour's."""

    async def tell(console: Console) -> None:
        assert code_of(await console.reinstall("web-1")) == "Ecs.0605"
        assert (await console.ask("GET", f"/v1/{P}/cloudservers/{console.id_of('web-1')}")).status == 200
        await asyncio.sleep(60)
        assert await console.statuses() == ["SHUTOFF", "ACTIVE"]
        assert code_of(await console.reinstall("web-2")) == "Ecs.0100"
        gone = console.id_of("web-1")
        await asyncio.sleep(100)
        assert (await console.ask("GET", f"/v1/{P}/cloudservers/{gone}")).status == 404
        assert await console.shown("web-2") == "SHUTOFF/None"

    story(
        Console(
            fault("locked-by-other", server="web-1", call="reinstall"),
            fault("started-by-other", server="web-2", from_s=20),
            fault("stopped-by-other", server="web-2", from_s=80),
            fault("server-disappears", server="web-1", from_s=120),
        ),
        tell,
    )


def test_a_request_past_its_send_by_time_is_not_sent() -> None:
    async def tell(console: Console) -> None:
        await asyncio.sleep(10)
        request = Request("GET", f"{defaults.BASE_URL}/v3/projects", console.headers, send_by=9.0)
        before = console.world.ledger.requests.total()
        with pytest.raises(NotSent):
            await console.transport.send(request)
        assert console.world.ledger.requests.total() == before
        await console.transport.close()
        with pytest.raises(NotSent):
            await console.statuses()

    story(Console(), tell)


def test_a_world_outlives_the_loop() -> None:
    """A life ends, the next one has a loop of its own: the world goes on from where it was."""
    console = Console()
    story(console, lambda console: console.reinstall())
    before = console.world.now
    console.transport = SimulatedTransport(console.face, offset_s=before + 200)

    async def second(console: Console) -> None:
        assert await console.shown() == "ACTIVE/None"

    story(console, second)


def test_random_faults_are_seeded_and_can_all_be_ordered() -> None:
    names = [f"web-{number}" for number in range(500)]
    first = random_faults(random.Random(4), names, 1.0)
    assert first == random_faults(random.Random(4), names, 1.0)
    assert len({order.kind for order in first}) > 15
    assert random_faults(random.Random(4), names, 0.0) == []
    assert 50 < len(random_faults(random.Random(4), names, 0.2)) < 150
    face = Face(World([]), faults=first)
    assert len(face.book.orders) == len(first)


def test_a_story_with_faults_repeats_byte_for_byte() -> None:
    def record(seed: int) -> list[bytes]:
        faults = random_faults(random.Random(seed), ["web-1", "web-2"], 1.0)
        console = Console(*faults, profile="B")

        async def tell(console: Console) -> None:
            for _ in range(20):
                for name in ("web-1", "web-2"):
                    with contextlib.suppress(NotSent, OutcomeUnknown, KeyError):
                        await console.reinstall(name)
                    await asyncio.sleep(30)

        story(console, tell)
        return console.world.ledger.lines()

    assert record(3) == record(3)
