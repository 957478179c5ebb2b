"""Logging in with an access key, over real HTTP, against a cloud that checks every signature."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import timedelta

import pytest
from ecs_support import IAM, PROJECT, SERVER, USER, Script, answer
from ecs_support import cloud as scripted

from fleet.clock import LoopClock, SystemClock, run_virtual
from fleet.cloud.api import ReinstallOrder
from fleet.cloud.ecs.client import EcsCloud
from fleet.cloud.ecs.endpoints import Endpoints
from fleet.cloud.ecs.login_key import KeyCredentials, KeyLogin
from fleet.cloud.ecs.pacer import Pacer
from fleet.cloud.ecs.signing import AccessKey
from fleet.cloud.ecs.transport import AiohttpTransport
from fleet.cloud.http import Request
from fleet.cloud.simulator import defaults
from fleet.cloud.simulator.fleetfile import FleetFile, Group
from fleet.cloud.simulator.server import SimulatorServer
from fleet.cloud.simulator.things import User
from fleet.core.model import Call, JobStatus, ServerId
from fleet.errors import CloudUnusable, NotSent, OutcomeUnknown, Rejected, Unavailable

FLEET = FleetFile(servers=(Group(name="web-{}", count=4, status="SHUTOFF"),), speed=200.0, seed=3)
GOOD = AccessKey(defaults.ACCESS_KEY, defaults.SECRET_KEY)


class Wrong(SystemClock):
    """A clock that is off."""

    def now(self):
        return super().now() - timedelta(hours=1)


class Lab:
    """A cloud over HTTP and clients of it."""

    def __init__(self, fleet=FLEET):
        self.server = SimulatorServer(fleet)
        self.url = ""
        self.clients = []

    async def __aenter__(self):
        self.url = await self.server.start("127.0.0.1", 0)
        return self

    async def __aexit__(self, *_):
        for client in self.clients:
            await client.close()
        await self.server.close()

    def client(self, key=GOOD, clock=None, **more):
        clock = clock or SystemClock()
        transport = AiohttpTransport(clock, environ={})
        facts = {"project_name": defaults.PROJECT_NAME, "source": "the test"} | more
        login = KeyLogin(KeyCredentials(self.url, key, **facts), transport, clock)
        made = EcsCloud(
            transport, login, Pacer(500.0), Endpoints(self.url), clock=clock, rng=random.Random(1)
        )
        self.clients.append(made)
        return made

    async def temporary(self, seconds=3600):
        """Get a temporary key as people do: for a token."""
        transport = AiohttpTransport(SystemClock(), environ={})

        async def post(path, body, **headers):
            request = Request("POST", self.url + path, headers, json.dumps(body).encode())
            return await transport.send(request)

        user = {"name": "fleet", "password": "simulator", "domain": {"name": "simulator"}}
        by_password = {"identity": {"methods": ["password"], "password": {"user": user}}}
        token = (await post("/v3/auth/tokens", {"auth": by_password})).headers["x-subject-token"]
        by_token = {"identity": {"methods": ["token"], "token": {"duration_seconds": seconds}}}
        made = await post("/v3.0/OS-CREDENTIAL/securitytokens", {"auth": by_token}, **{"X-Auth-Token": token})
        await transport.close()
        found = json.loads(made.body)["credential"]
        return AccessKey(found["access"], found["secret"], found["securitytoken"])


def order(server, **more):
    return ReinstallOrder(server=server, call=Call.REINSTALL_CLOUD_INIT, key_pair=defaults.KEY_PAIR, **more)


async def reinstalled(client):
    """Reinstall one server, return how its job ended."""
    server = (await client.servers())[0].id
    send_by = SystemClock().boottime() + 30
    accepted = await client.reinstall(order(server), send_by=send_by, timeout_s=30)
    async with asyncio.timeout(60):
        while (job := await client.job(accepted.job)).status is JobStatus.RUNNING:  # noqa: ASYNC110 - a job of the cloud, which has no event
            await asyncio.sleep(0.02)
    return job.status


async def test_a_reinstall_with_an_access_key():
    """Project and user are found by themselves."""
    async with Lab() as lab:
        client = lab.client()
        identity = await client.whoami()

        assert (identity.user_id, identity.project_id) == (defaults.USER_ID, defaults.PROJECT_ID)
        assert identity.cloud == f"{lab.url} project {defaults.PROJECT_NAME}"
        assert len(await client.servers()) == 4
        assert await reinstalled(client) is JobStatus.SUCCESS
        assert client.calls()["login"] == 2


async def test_a_reinstall_with_a_temporary_key():
    """Nobody says whose such a key is: the owner of the key pair is asked for."""
    async with Lab() as lab:
        client = lab.client(await lab.temporary())

        assert (await client.whoami()).user_id == ""
        assert await reinstalled(client) is JobStatus.SUCCESS


async def test_a_temporary_key_without_its_token_or_after_its_end():
    async with Lab() as lab:
        key = await lab.temporary(seconds=900)
        with pytest.raises(CloudUnusable) as bare:
            await lab.client(AccessKey(key.access, key.secret)).whoami()
        client = lab.client(key, project_id=defaults.PROJECT_ID)
        await client.whoami()
        await asyncio.sleep(900 / FLEET.speed + 0.2)
        with pytest.raises(CloudUnusable) as ended:
            await client.servers()

    for caught in (bare, ended):
        assert "security token" in caught.value.message
        assert "get a new one" in caught.value.hint
        assert key.security_token[:20] not in str(caught.value)


async def test_a_temporary_key_that_is_replaced_in_time_goes_on():
    """Where the key was read it is read again, once it is refused."""
    async with Lab() as lab:
        first, second = await lab.temporary(seconds=900), await lab.temporary(seconds=90000)
        client = lab.client(first, reread=lambda: second)
        await client.servers()
        await asyncio.sleep(900 / FLEET.speed + 0.2)

        assert len(await client.servers()) == 4


async def test_the_project_by_its_id_and_by_a_name_that_is_not_there():
    async with Lab() as lab:
        named = await lab.client(project_id=defaults.PROJECT_ID, project_name=None).whoami()
        with pytest.raises(CloudUnusable) as caught:
            await lab.client(project_name="eu-nl").whoami()

    assert named.cloud == f"{lab.url} project {defaults.PROJECT_NAME}"  # as a password's login has it
    assert "'eu-nl'" in caught.value.message
    assert "OS_PROJECT_ID" in caught.value.hint


async def test_a_wrong_secret_is_sent_once_and_never_again():
    """Six wrong signatures lock the key for five minutes, for everybody who uses it."""
    async with Lab() as lab:
        client = lab.client(AccessKey(defaults.ACCESS_KEY, "Canary-Wrong-Secret"))
        got = await asyncio.gather(*(client.servers() for _ in range(20)), return_exceptions=True)

        assert {type(error) for error in got} == {CloudUnusable}
        assert lab.server.face.world.ledger.requests["projects"] == 1
        assert (await lab.client().whoami()).user_id == defaults.USER_ID  # not locked
    assert "secret key" in got[0].hint
    for error in got:
        assert "Canary" not in str(error)
        assert "canonicalRequest" not in str(error)


async def test_a_wrong_clock_is_said_in_so_many_words():
    async with Lab() as lab:
        with pytest.raises(CloudUnusable) as caught:
            await lab.client(clock=Wrong()).whoami()
    assert "3600 s behind the cloud's" in caught.value.hint or "3599 s behind" in caught.value.hint


async def test_an_unknown_key():
    async with Lab() as lab:
        with pytest.raises(CloudUnusable, match="ak not exist") as caught:
            await lab.client(AccessKey("NOBODYSKEY", "x")).whoami()
    assert "of another cloud" in caught.value.hint


async def test_a_user_who_may_not_ask_whose_key_it_is():
    """Not every policy allows it; the id that somebody gives is taken, and nothing is asked."""
    fleet = FleetFile(servers=FLEET.servers, users=(User(access_keys={"AK": "SK-canary"}),), speed=100.0)
    async with Lab(fleet) as lab:
        client = lab.client(AccessKey("AK", "SK-canary"), user_id="somebody")
        assert (await client.whoami()).user_id == "somebody"
        assert client.calls()["login"] == 1


# What real sockets cannot show


def login(script, **more):
    given = {"project_id": PROJECT, "user_id": USER} | more
    return KeyLogin(KeyCredentials(IAM, GOOD, **given), script, LoopClock())


def projects(*names):
    found = [{"id": f"id-{number}", "name": name} for number, name in enumerate(names)]
    return answer(200, {"projects": found})


def test_two_projects_of_one_name_are_nobodys():
    async def story():
        made = login(Script(projects("eu-de", "eu-de")), project_id=None, project_name="eu-de")
        with pytest.raises(CloudUnusable, match="2 projects of that name"):
            await made.logged_in()

    run_virtual(story())


@pytest.mark.parametrize("reply", [answer(403), answer(404, {"error": {"code": 404, "message": "no"}})])
def test_what_we_may_not_ask_is_done_without(reply):
    async def story():
        made = login(Script(reply), user_id=None)
        return (await made.logged_in()).identity

    identity = run_virtual(story())
    assert (identity.project_id, identity.user_id) == (PROJECT, "")


@pytest.mark.parametrize(
    "reply",
    [
        answer(503),
        answer(429),
        answer(200, b"<html>"),
        answer(200, {"x": 1}),
        OutcomeUnknown("x"),
        NotSent("x"),
    ],
    ids=repr,
)
def test_a_look_up_without_an_answer_is_repeated(reply):
    async def story():
        with pytest.raises(Unavailable):
            await login(Script(reply)).logged_in()
        script = Script(reply, projects("eu-de"))
        return (await scripted(script, login=login(script)).whoami()).project_id

    assert run_virtual(story()) == PROJECT


def test_nobody_knows_the_owner_of_the_key_pair():
    """Then nothing is sent: a wrong owner would be found out by each server in turn."""

    async def story():
        script = Script(projects(), answer(404), answer(200, {"keypair": {"name": "demo-key"}}))
        client = scripted(script, login=login(script, user_id=None))
        with pytest.raises(Rejected) as caught:
            await client.reinstall(order(ServerId(SERVER)), send_by=1e9, timeout_s=30)
        return caught.value, [request.method for request in script.sent]

    error, methods = run_virtual(story())
    assert error.everybody
    assert "user_id" in error.hint
    assert set(methods) == {"GET"}


def test_a_signature_that_grew_old_on_the_way_is_made_anew_once():
    """A machine that slept between signing and sending."""

    async def story():
        made = login(Script(projects("eu-de")))
        old = await made.headers(Request("GET", IAM))
        await asyncio.sleep(3600)
        first = await made.renew(old)
        fresh = await made.headers(Request("GET", IAM))
        second = await made.renew(fresh)
        with pytest.raises(CloudUnusable, match="was refused"):
            await made.headers(Request("GET", IAM))
        return first, second

    assert run_virtual(story()) == (True, False)


def test_many_who_are_refused_with_a_key_that_was_replaced_go_on():
    """A permanent key, rotated in the file under way. The first reads the new one; the others must not take
    it for refused."""

    async def story():
        made = login(Script(projects("eu-de")), reread=lambda: AccessKey("NEW", "new-secret"))
        old = [await made.headers(Request("GET", IAM)) for _ in range(3)]
        going_on = await asyncio.gather(*(made.renew(each) for each in old))
        fresh = await made.headers(Request("GET", IAM))
        await asyncio.sleep(2)
        later = await made.headers(Request("GET", IAM))
        return going_on, "Access=NEW," in fresh["Authorization"], await made.renew(later)

    assert run_virtual(story()) == ([True, True, True], True, False)
