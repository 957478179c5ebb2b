"""The call that wipes, on an OpenStack: what is sent, how often, and what each answer proves."""

from __future__ import annotations

import asyncio
import json
import random

import pytest
from ecs_support import IDENTITY, Known, Script, answer

from fleet.clock import LoopClock, run_virtual
from fleet.cloud.api import ReinstallOrder
from fleet.cloud.ecs.auth import LoggedIn
from fleet.cloud.ecs.endpoints import Offer
from fleet.cloud.ecs.pacer import Pacer
from fleet.cloud.http import Response
from fleet.cloud.openstack.provider import assemble
from fleet.core.model import Call, ServerId
from fleet.core.settings import CloudSettings
from fleet.errors import Busy, CloudUnusable, NotFound, NotSent, OutcomeUnknown, Rejected, Throttled

NOVA = "https://nova.example.com/v2.1"
SERVER = ServerId("616fb98f-46ca-475e-917e-2563e5a8cd19")
IMAGE = "c71b64e7-4767-4406-afde-2c7c7ac2242c"
REQUEST = "req-788a6a0b-fbf5-4293-a26f-d97ea59e90a8"
TAKEN = answer(202, {"server": {"adminPass": "Canary-Of-Nova"}}, x_compute_request_id=REQUEST)


class Login(Known):
    """A login whose catalogue has a Nova."""

    async def logged_in(self):
        return LoggedIn(IDENTITY, (Offer("compute", "R", NOVA),))


def nova(message, code=409):
    return {"conflictingRequest": {"code": code, "message": message}}


class Cloud:
    """A Nova that shows one server as *looks* say, in order, and answers a rebuild with *replies*."""

    def __init__(self, *replies, looks=({},), metadata=None):
        self.replies = list(replies)
        self.looks = list(looks)
        self.metadata = metadata or {}
        self.script = Script(self._answer)
        self.client = assemble(
            self.script,
            Login(),
            CloudSettings(provider="openstack", requests_per_second=10_000.0),
            LoopClock(),
            "R",
            random.Random(1),
        )

    def _answer(self, request):
        path = request.url.removeprefix(NOVA)
        if path == "/":
            return answer(200, {"version": {"version": "2.96"}})
        if request.method == "POST":
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
            if isinstance(reply, Exception):
                raise reply
            return reply
        if path.endswith("os-instance-actions"):
            return answer(200, {"instanceActions": [{"action": "create", "request_id": "req-12345678"}]})
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        shown = {
            "id": SERVER,
            "name": "web-1",
            "status": "SHUTOFF",
            "OS-EXT-STS:task_state": None,
            "image": {"id": IMAGE},
            "metadata": self.metadata,
        }
        return answer(200, {"server": shown | look})

    @property
    def wipes(self):
        return [request for request in self.script.sent if request.method == "POST"]

    async def rebuild(self, send_by=1e12, **order):
        made = ReinstallOrder(**{"server": SERVER, "call": Call.REINSTALL_CLOUD_INIT} | order)
        return await self.client.reinstall(made, send_by=send_by, timeout_s=30.0)


async def test_what_a_rebuild_says_and_what_it_leaves_to_nova():
    """Metadata is not named: Nova would replace all of it, and lose what somebody writes meanwhile."""
    cloud = Cloud(TAKEN, metadata={"role": "web"})

    accepted = await cloud.rebuild(key_pair="deploy")

    assert accepted.job == f"{SERVER}/{REQUEST}"
    (sent,) = cloud.wipes
    assert sent.url == f"{NOVA}/servers/{SERVER}/action"
    assert json.loads(sent.body) == {"rebuild": {"imageRef": IMAGE, "key_name": "deploy"}}
    assert sent.send_by == 1e12
    assert sent.headers["OpenStack-API-Version"] == "compute 2.93"


@pytest.mark.parametrize(
    "reply",
    [
        answer(200, {}, x_compute_request_id=REQUEST),
        answer(202, {}),
        answer(202, {}, x_compute_request_id="../../elsewhere"),
        answer(302, b"", location="https://elsewhere/"),
        answer(400, b"<html>Bad Request</html>"),
        answer(401),
        answer(401, b"<html>who are you?</html>"),
        answer(401, {}, www_authenticate="Basic realm=proxy"),
        answer(404, b"<html>Not Found</html>"),
        answer(408, nova("x", 408)),
        answer(409),
        answer(409, nova(f"Cannot 'rebuild' instance {SERVER} while it is in task_state rebuilding")),
        answer(500, {"computeFault": {"code": 500, "message": "x"}}),
        answer(502, b"<html>Bad Gateway</html>"),
        answer(503, {"error": {"code": 503, "message": "x"}}),
        answer(504),
        OutcomeUnknown("the connection broke"),
    ],
    ids=repr,
)
async def test_without_proof_the_outcome_of_a_wipe_is_unknown(reply):
    cloud = Cloud(reply)

    with pytest.raises(OutcomeUnknown):
        await cloud.rebuild()

    assert len(cloud.wipes) == 1, "it must never be sent again by the client"


@pytest.mark.parametrize(
    ("reply", "kind", "everybody"),
    [
        (answer(400, {"badRequest": {"code": 400, "message": "Invalid key_name provided."}}), Rejected, True),
        (answer(400, {"badRequest": {"code": 400, "message": "Image is too big"}}), Rejected, False),
        (answer(403, {"forbidden": {"code": 403, "message": "Policy doesn't allow"}}), Rejected, True),
        (
            answer(404, {"itemNotFound": {"code": 404, "message": "Instance could not be found"}}),
            NotFound,
            None,
        ),
        (answer(409, nova(f"Instance {SERVER} is locked")), Rejected, False),
        (answer(409, nova("Cannot 'rebuild' instance while it is in vm_state building")), Busy, None),
        (answer(413, {"overLimit": {"code": 413, "message": "slow down"}}), Throttled, None),
        (answer(429, b""), Throttled, None),
        (NotSent("refused"), NotSent, None),
    ],
    ids=repr,
)
async def test_what_proves_that_nothing_was_wiped(reply, kind, everybody):
    cloud = Cloud(reply)

    with pytest.raises(kind) as caught:
        await cloud.rebuild()

    assert type(caught.value) is kind
    if everybody is not None:
        assert caught.value.everybody is everybody
    assert len(cloud.wipes) == 1


@pytest.mark.parametrize(
    "refusal",
    [
        answer(401, {"error": {"code": 401, "title": "Unauthorized", "message": "requires authentication"}}),
        answer(401, b"Authentication required", www_authenticate='Keystone uri="https://k"'),
    ],
    ids=["new", "old"],
)
async def test_keystones_401_is_followed_by_one_login_and_one_repetition(refusal):
    """Its gate had not passed the request on; once is safe, and once it stays."""
    taken, refused = Cloud(refusal, TAKEN), Cloud(refusal)

    assert (await taken.rebuild()).request_id == REQUEST
    with pytest.raises(CloudUnusable):
        await refused.rebuild()

    assert [sent.headers["X-Auth-Token"] for sent in taken.wipes] == ["token-1", "token-2"]
    assert len(refused.wipes) == 2


@pytest.mark.parametrize(
    "look",
    [
        {"status": "ACTIVE"},
        {"status": "REBUILD", "OS-EXT-STS:task_state": "rebuilding"},
        {"OS-EXT-STS:task_state": "powering-on"},
        {"status": "VERIFY_RESIZE"},
    ],
    ids=repr,
)
async def test_a_server_that_runs_by_now_is_not_rebuilt(look):
    """Nova itself takes running servers too: the look before the call is the only guard."""
    cloud = Cloud(TAKEN, looks=[look])

    with pytest.raises(Busy, match="not sent"):
        await cloud.rebuild()

    assert cloud.wipes == []


def test_the_look_is_made_after_the_wait_for_a_turn():
    """Throttling silences the client for half a minute, in which somebody starts the server."""

    async def story():
        cloud = Cloud(TAKEN, looks=[{}])
        await cloud.client.server(SERVER)  # the run's last look
        slow = cloud.client._session._pacer.lane("reinstall")
        slow.throttled(silence_s=20.0)
        await cloud.rebuild()  # still off after the wait
        await cloud.client.server(SERVER)
        cloud.looks = [{"status": "ACTIVE"}]
        slow.throttled(silence_s=20.0)
        with pytest.raises(Busy, match="not sent"):
            await cloud.rebuild()
        return len(cloud.wipes)

    assert run_virtual(story()) == 1


async def test_a_server_in_error_is_rebuilt():
    cloud = Cloud(TAKEN, looks=[{"status": "ERROR"}])
    assert (await cloud.rebuild()).request_id == REQUEST


@pytest.mark.parametrize("bad", ["", ".", "..", "x/../y", "..%2Fy", "x?y", "x#y", "x y", "x\r\ny", "ä"])
async def test_an_id_that_would_lead_elsewhere_is_not_asked_for(bad):
    cloud = Cloud(TAKEN)

    for call in (
        lambda: cloud.rebuild(server=bad),
        lambda: cloud.client.server(bad),
        lambda: cloud.client.stop([bad], force=False),
        lambda: cloud.client.start([bad]),
    ):
        with pytest.raises(CloudUnusable):
            await call()

    assert [request for request in cloud.script.sent if request.url != f"{NOVA}/"] == []


async def test_nothing_is_sent_after_the_send_by_time():
    cloud = Cloud(TAKEN)

    with pytest.raises(NotSent, match="send-by"):
        await cloud.rebuild(send_by=-1.0)

    assert cloud.wipes == []


def test_a_poll_lets_everybody_else_go_first():
    """One pacer for both providers: a start, a stop, a look, and then the read of those who wait."""
    cloud = Cloud(TAKEN)

    def about(request):
        shown = cloud._answer(request)
        asked = request.url.rsplit("/", 1)[1].encode()
        return Response(shown.status, shown.headers, shown.body.replace(SERVER.encode(), asked))

    async def story():
        await cloud.client.server(SERVER)
        cloud.script.steps = [about]
        cloud.client._session._pacer = Pacer(1.0)
        await cloud.client._session._pacer.slot("other")
        await asyncio.gather(
            cloud.client.servers(only={"polled"}), cloud.client.server("looked-at"),
            cloud.client.stop([SERVER], force=False), cloud.client.start([SERVER]),
        )  # fmt: skip

    before = len(cloud.script.sent)
    run_virtual(story())
    asked = [
        next(iter(json.loads(request.body))) if request.body else request.url.rsplit("/", 1)[1]
        for request in cloud.script.sent[before:]
    ]
    order = [asked.index(each) for each in ("os-start", "os-stop", "looked-at", "polled")]
    assert order == sorted(order)
