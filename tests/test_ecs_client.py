"""The ECS client: what it sends, field for field, and what it makes of every answer."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import msgspec
import pytest
from ecs_support import ECS, IAM, IMS, JOB, PROJECT, SERVER, USER, Known, Script, answer, cloud, mocked
from yarl import URL

from fleet.clock import LoopClock, SystemClock, run_virtual
from fleet.cloud.api import MAX_USER_DATA, Accepted, ReinstallOrder
from fleet.cloud.ecs.endpoints import Endpoints
from fleet.cloud.ecs.pacer import Pacer
from fleet.cloud.ecs.transport import AiohttpTransport
from fleet.cloud.patience import TRIES
from fleet.core.model import Call, JobStatus
from fleet.errors import (
    Busy,
    CloudUnusable,
    NotFound,
    NotSent,
    OutcomeUnknown,
    Rejected,
    Throttled,
    Unavailable,
)

NEVER = 1e12
KEY_ORDER = ReinstallOrder(SERVER, Call.REINSTALL_CLOUD_INIT, key_pair="KeyPair-350b")


def ecs_error(code, message="texts vary", **more):
    return {"error": {"code": code, "message": message, **more}}


async def reinstall(client, order=KEY_ORDER, send_by=NEVER):
    return await client.reinstall(order, send_by=send_by, timeout_s=60.0)


# What is sent


@pytest.mark.parametrize(
    ("order", "path", "body"),
    [
        (
            {"key_pair": "KeyPair-350b"},
            "v2/{p}/cloudservers/{s}/reinstallos",
            {"os-reinstall": {"keyname": "KeyPair-350b", "userid": USER}},
        ),
        (
            {"key_pair": "k", "user_id": "another"},
            "v2/{p}/cloudservers/{s}/reinstallos",
            {"os-reinstall": {"keyname": "k", "userid": "another"}},
        ),
        (
            {"key_pair": "k", "user_data": b"#cloud-config\n"},
            "v2/{p}/cloudservers/{s}/reinstallos",
            {
                "os-reinstall": {
                    "keyname": "k",
                    "userid": USER,
                    "metadata": {"user_data": "I2Nsb3VkLWNvbmZpZwo="},
                }
            },
        ),
        (
            {"admin_password": "Passw0rd!", "byol": True, "stop_first": True},
            "v2/{p}/cloudservers/{s}/reinstallos",
            {
                "os-reinstall": {
                    "adminpass": "Passw0rd!",
                    "mode": "withStopServer",
                    "metadata": {"BYOL": "true"},
                }
            },
        ),
        (
            {"user_data": b"\x1f\x8b\x00"},
            "v2/{p}/cloudservers/{s}/reinstallos",
            {"os-reinstall": {"metadata": {"user_data": base64.b64encode(b"\x1f\x8b\x00").decode()}}},
        ),
        (
            {"call": Call.REINSTALL_PLAIN, "admin_password": "Passw0rd!"},
            "v1/{p}/cloudservers/{s}/reinstallos",
            {"os-reinstall": {"adminpass": "Passw0rd!"}},
        ),
        (
            {"call": Call.CHANGE_CLOUD_INIT, "key_pair": "k", "image": "new-image"},
            "v2/{p}/cloudservers/{s}/changeos",
            {"os-change": {"keyname": "k", "userid": USER, "imageid": "new-image"}},
        ),
        (
            {"call": Call.CHANGE_PLAIN, "key_pair": "k", "image": "new-image", "stop_first": True},
            "v1/{p}/cloudservers/{s}/changeos",
            {"os-change": {"keyname": "k", "userid": USER, "mode": "withStopServer", "imageid": "new-image"}},
        ),
    ],
)
async def test_the_destructive_call_on_the_wire(order, path, body):
    """Every documented parameter, under its documented name, and nothing else."""
    url = f"{ECS}/" + path.format(p=PROJECT, s=SERVER)
    transport = AiohttpTransport(SystemClock(), environ={})
    client = cloud(transport, clock=SystemClock())
    with mocked() as wire:
        wire.post(url, payload={"job_id": JOB}, headers={"X-Request-Id": "r-1"})
        got = await reinstall(
            client, ReinstallOrder(**{"server": SERVER, "call": Call.REINSTALL_CLOUD_INIT} | order)
        )
        ((method, sent_to), (sent,)) = next(iter(wire.requests.items()))
    await client.close()

    assert got == Accepted(job=JOB, request_id="r-1")
    assert (method, sent_to) == ("POST", URL(url))
    assert json.loads(sent.kwargs["data"]) == body
    assert sent.kwargs["headers"]["X-Auth-Token"] == "token-1"
    assert sent.kwargs["headers"]["Content-Type"] == "application/json"
    assert sent.kwargs["allow_redirects"] is False


@pytest.mark.parametrize(
    ("ask", "method", "url", "body", "reply"),
    [
        (
            lambda c: c.server(SERVER),
            "GET",
            f"{ECS}/v1/{PROJECT}/cloudservers/{SERVER}",
            None,
            {"server": {"id": SERVER}},
        ),
        (
            lambda c: c.servers(),
            "GET",
            f"{ECS}/v1/{PROJECT}/cloudservers/detail?limit=1000&offset=1",
            None,
            {"servers": [], "count": 0},
        ),
        (
            lambda c: c.stop(["a", "b"], force=False),
            "POST",
            f"{ECS}/v1/{PROJECT}/cloudservers/action",
            {"os-stop": {"type": "SOFT", "servers": [{"id": "a"}, {"id": "b"}]}},
            {"job_id": JOB},
        ),
        (
            lambda c: c.stop(["a"], force=True),
            "POST",
            f"{ECS}/v1/{PROJECT}/cloudservers/action",
            {"os-stop": {"type": "HARD", "servers": [{"id": "a"}]}},
            {"job_id": JOB},
        ),
        (
            lambda c: c.start(["a"]),
            "POST",
            f"{ECS}/v1/{PROJECT}/cloudservers/action",
            {"os-start": {"servers": [{"id": "a"}]}},
            {"job_id": JOB},
        ),
        (lambda c: c.job(JOB), "GET", f"{ECS}/v1/{PROJECT}/jobs/{JOB}", None, {"status": "INIT"}),
        (lambda c: c.image("i-1"), "GET", f"{IMS}/v2/images/i-1", None, {"id": "i-1"}),
        (
            lambda c: c.key_pair("my key+1/ä"),
            "GET",
            f"{ECS}/v2.1/{PROJECT}/os-keypairs/my%20key%2B1%2F%C3%A4",
            None,
            {"keypair": {"name": "my key+1/ä", "user_id": USER}},
        ),
    ],
)
async def test_every_other_call_on_the_wire(ask, method, url, body, reply):
    script = Script(answer(200, reply))

    await ask(cloud(script))

    (sent,) = script.sent
    assert (sent.method, sent.url) == (method, url)
    assert (json.loads(sent.body) if sent.body else None) == body


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ({"key_pair": "k", "admin_password": "p"}, "exclude each other"),
        ({}, "no way to log in"),
        ({"key_pair": "k", "user_data": b"x" * (MAX_USER_DATA + 1)}, "at most 32768"),
        (
            {"key_pair": "k", "user_data": b"x", "call": Call.REINSTALL_PLAIN},
            "needs an image with cloud-init",
        ),
        ({"key_pair": "k", "image": "i"}, "belongs to the change"),
        ({"key_pair": "k", "call": Call.CHANGE_PLAIN}, "belongs to the change"),
    ],
)
async def test_what_cannot_be_sent_is_refused_before_anything_leaves(order, says):
    script = Script(answer(200, {"job_id": JOB}))

    with pytest.raises(Rejected, match=says) as caught:
        await reinstall(
            cloud(script), ReinstallOrder(**{"server": SERVER, "call": Call.REINSTALL_CLOUD_INIT} | order)
        )

    assert script.sent == []
    assert caught.value.hint


async def test_user_data_of_exactly_the_limit_is_sent():
    script = Script(answer(200, {"job_id": JOB}))

    await reinstall(
        cloud(script),
        ReinstallOrder(SERVER, Call.REINSTALL_CLOUD_INIT, key_pair="k", user_data=b"x" * MAX_USER_DATA),
    )

    assert len(script.sent) == 1


@pytest.mark.parametrize(
    "bad", ["", ".", "..", "x/../y", "..%2Fy", "x?y", "x#y", "x y", "x\r\ny", "ä", "x" * 200]
)
async def test_an_id_that_would_lead_elsewhere_is_not_asked_for(bad):
    """From a plan or a damaged journal. A gateway that decodes before it looks would find another server."""
    script = Script(answer(200, {"job_id": JOB}))

    with pytest.raises(CloudUnusable):
        await cloud(script).server(bad)
    with pytest.raises(CloudUnusable):
        await reinstall(cloud(script), ReinstallOrder(bad, Call.REINSTALL_CLOUD_INIT, key_pair="k"))
    with pytest.raises(CloudUnusable):
        await cloud(script).job(bad)

    assert script.sent == []


# What the answer to the destructive call means

UNKNOWN_OUTCOME = [
    answer(200),
    answer(200, {}),
    answer(200, {"job_id": ""}),
    answer(200, {"job_id": None}),
    answer(200, {"job_id": 7}),
    answer(200, {"job_id": "../../v1/x"}),
    answer(200, {"order_id": "CS2026"}),
    answer(200, [{"job_id": JOB}]),
    answer(200, b"<html>please log in</html>"),
    answer(200, b'{"job_id": "ff80'),
    answer(200, b"\xff\xfe\x00"),
    answer(200, b"[" * 200_000),
    answer(202, {}),
    answer(204),
    answer(302, b"", location="https://elsewhere/"),
    answer(401),
    answer(401, b"<html>who are you?</html>"),
    answer(401, ecs_error("Ecs.7777")),
    answer(401, ecs_error("Ecs.1000", details=[{"code": "Common.0013", "message": "token expires"}])),
    answer(307),
    answer(400, ecs_error("Ecs.0002")),
    answer(400, ecs_error("Ecs.1002")),
    answer(400, ecs_error("Ecs.0005", details=[{"code": "Ecs.0002", "message": "x"}])),
    answer(400, ecs_error("Ecs.0100", details=[{"code": "Ecs.0002", "message": "x"}])),
    answer(400, ecs_error("Ecs.0002", details=[{"code": "Ecs.0021", "message": "x"}])),
    answer(408),
    answer(409),
    answer(409, {"conflictingRequest": {"code": 409, "message": "x"}}),
    answer(409, ecs_error("Ecs.7777")),
    answer(425),
    answer(500),
    answer(500, ecs_error("Ecs.0615")),
    answer(500, ecs_error("Common.0001")),
    answer(500, ecs_error("Ecs.7777")),
    answer(501),
    answer(502, b"<html>Bad Gateway</html>"),
    answer(502, {"error_code": "APIGW.0201", "error_msg": "Backend unavailable"}),
    answer(502, {"error_code": "APIGW.0610", "error_msg": "x"}),
    answer(503),
    answer(503, b"{"),
    answer(504, {"error_code": "APIGW.0201", "error_msg": "Backend timeout"}),
    answer(599),
    OutcomeUnknown("the connection broke"),
]


@pytest.mark.parametrize("reply", UNKNOWN_OUTCOME, ids=repr)
async def test_without_proof_the_outcome_of_a_wipe_is_unknown(reply):
    script = Script(reply)

    with pytest.raises(OutcomeUnknown):
        await reinstall(cloud(script))

    assert len(script.sent) == 1, "it must never be sent again by the client"


@pytest.mark.parametrize(
    ("reply", "kind", "everybody"),
    [
        # Specification: ECS error codes
        (answer(400, ecs_error("Ecs.0000")), Rejected, False),
        (answer(400, ecs_error("Ecs.0005")), Rejected, True),
        (
            answer(400, ecs_error("Ecs.0005", details=[{"code": "Ecs.0314", "message": "no key"}])),
            Rejected,
            True,
        ),
        (answer(400, ecs_error("Ecs.0005", details=[{"code": "Ecs.0105", "message": ""}])), Rejected, False),
        (answer(400, ecs_error("Ecs.0011")), Rejected, True),
        (answer(400, ecs_error("Ecs.0021")), Rejected, True),
        (answer(400, ecs_error("Ecs.0030")), Rejected, False),
        (answer(400, ecs_error("Ecs.0031")), Rejected, False),
        (answer(400, ecs_error("Ecs.0105")), Rejected, False),
        (answer(400, ecs_error("Ecs.0314")), Rejected, True),
        (answer(400, ecs_error("Ecs.0605")), Rejected, False),
        (answer(400, ecs_error("Ecs.9876")), Rejected, False),
        (answer(403, ecs_error("Ecs.0003")), Rejected, True),
        (answer(403, ecs_error("Ecs.0067")), Rejected, True),
        (answer(403, ecs_error("Pdp.0001")), Rejected, True),
        (answer(403), Rejected, True),
        (answer(400, ecs_error("Ecs.0100")), Busy, None),
        (answer(409, ecs_error("Ecs.0100")), Busy, None),
        (answer(501, ecs_error("Ecs.0603")), Busy, None),
        (answer(400, ecs_error("Ecs.0073")), Busy, None),
        (answer(200, ecs_error("Ecs.0100")), Busy, None),
        (answer(404, ecs_error("Ecs.0114")), NotFound, None),
        (answer(404, {"itemNotFound": {"code": 404, "message": "x"}}), NotFound, None),
        # Specification: flow control is no acceptance, whatever its status
        (answer(202, ecs_error("Common.0024")), Throttled, None),
        (answer(429, ecs_error("Common.1503")), Throttled, None),
        (answer(503, ecs_error("Common.1503")), Throttled, None),
        (answer(429, {"error_code": "APIGW.0308", "error_msg": "limit:60,time:1 minute"}), Throttled, None),
        (answer(429, {"error_code": "APIG.0308", "error_msg": "x"}), Throttled, None),
        (answer(429), Throttled, None),
        (answer(503, {"error_code": "APIGW.0613", "error_msg": "IAM unavailable"}), Unavailable, None),
        (answer(400, ecs_error("Ecs.0023")), CloudUnusable, None),
        (answer(404, {"error_code": "APIGW.0101", "error_msg": "API not found"}), CloudUnusable, None),
        (answer(403, {"error_code": "APIGW.0802", "error_msg": "x"}), CloudUnusable, None),
        # Specification: shapes of error bodies
        (answer(400, {"errorCode": "Ecs.0100", "errorMsg": "x"}), Busy, None),
        (answer(400, {"code": "Ecs.0100", "message": "x"}), Busy, None),
        (answer(400, {"badRequest": {"code": 400, "message": "x"}}), Rejected, False),
        (answer(413), Rejected, False),
        (NotSent("refused"), NotSent, None),
    ],
    ids=repr,
)
async def test_what_proves_that_nothing_was_wiped(reply, kind, everybody):
    script = Script(reply)

    with pytest.raises(kind) as caught:
        await reinstall(cloud(script))

    assert type(caught.value) is kind
    if everybody is not None:
        assert caught.value.everybody is everybody
    assert len(script.sent) == 1


async def test_an_error_says_who_what_and_the_clouds_own_words():
    script = Script(answer(400, ecs_error("Ecs.0605", "locked\x1b[31m\nby   owner"), x_request_id="abc123"))

    with pytest.raises(Rejected) as caught:
        await reinstall(cloud(script))

    error = caught.value
    assert error.message == f"reinstall of server {SERVER}: HTTP 400: Ecs.0605 locked [31m by owner"
    assert (error.code, error.status, error.request_id) == ("Ecs.0605", 400, "abc123")
    assert error.hint == "the server is locked: its owner unlocks it"


async def test_a_401_is_followed_by_one_login_and_one_repetition():
    """The gateway had not looked at the request: it is safe to send it once more."""
    script = Script(answer(401, {"error_code": "APIGW.0307"}), answer(200, {"job_id": JOB}))

    accepted = await reinstall(cloud(script))

    assert accepted.job == JOB
    assert [sent.headers["X-Auth-Token"] for sent in script.sent] == ["token-1", "token-2"]


async def test_a_second_401_ends_it():
    script = Script(answer(401, {"error_code": "APIGW.0301", "error_msg": "no"}))

    with pytest.raises(CloudUnusable, match=r"also with a new login: APIGW\.0301 no"):
        await reinstall(cloud(script))
    assert len(script.sent) == 2


async def test_a_login_that_cannot_be_renewed_is_not_tried():
    script = Script(answer(401))

    with pytest.raises(CloudUnusable):
        await cloud(script, login=Known(renewals=0)).server(SERVER)
    assert len(script.sent) == 1


def test_nothing_is_sent_after_the_send_by_time():
    """A queue, or a machine that slept, has used the time up."""

    async def story():
        script = Script(answer(200, {"job_id": JOB}))
        client = cloud(script)
        await asyncio.sleep(10)
        with pytest.raises(NotSent, match="send-by"):
            await reinstall(client, send_by=9.9)
        return script.sent

    assert run_virtual(story()) == []


def test_the_repetition_after_a_401_keeps_the_send_by_time():
    async def story():
        refusal = answer(401, {"error_code": "APIGW.0307", "error_msg": "x"})
        script = Script(refusal, answer(200, {"job_id": JOB}), takes_s=5.0)
        with pytest.raises(NotSent):
            await reinstall(cloud(script), send_by=4.0)
        return script.sent

    (only,) = run_virtual(story())
    assert only.send_by == 4.0


# Reads


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (answer(404, ecs_error("Ecs.0114")), NotFound),
        (answer(400, ecs_error("Ecs.0614")), NotFound),
        (answer(403), CloudUnusable),
        (answer(403, ecs_error("Pdp.0001")), CloudUnusable),
        (answer(302), CloudUnusable),
        (answer(400, ecs_error("Ecs.0005")), Rejected),
        (answer(404, b"<html>nginx</html>"), Unavailable),
        (answer(409), Unavailable),
        (answer(500), Unavailable),
        (answer(500, ecs_error("Common.0001")), Unavailable),
        (answer(429), Throttled),
        (answer(200, b"<html>please log in</html>"), Unavailable),
        (answer(200, {"server": {"id": "another"}}), Unavailable),
        (answer(200, {"server": {}}), Unavailable),
        (answer(200, []), Unavailable),
        (NotSent("refused"), NotSent),
        (OutcomeUnknown("broke"), Unavailable),
    ],
    ids=repr,
)
def test_what_a_read_may_end_with(reply, kind):
    """Never with an unknown outcome; and what may heal is tried several times."""
    script = Script(reply)

    async def story():
        with pytest.raises(kind) as caught:
            await cloud(script).server(SERVER)
        return type(caught.value)

    assert run_virtual(story()) is kind
    assert len(script.sent) == (TRIES if issubclass(kind, Unavailable) else 1)


@pytest.mark.parametrize("status", [400, 404])
def test_a_job_the_cloud_does_not_know_is_not_found(status):
    script = Script(answer(status, {"code": "Common.0011", "message": "Failed to obtain the job"}))

    async def story():
        with pytest.raises(NotFound):
            await cloud(script).job(JOB)

    run_virtual(story())
    assert len(script.sent) == 1


def test_a_job_query_that_failed_inside_a_200_is_tried_again():
    script = Script(
        answer(200, {"code": "Common.0025", "message": "query error"}), answer(200, {"status": "SUCCESS"})
    )

    job = run_virtual(ask_job(script))

    assert job.status is JobStatus.SUCCESS


async def ask_job(script):
    return await cloud(script).job(JOB)


@pytest.mark.parametrize(
    "reply", [answer(404, b"<html>404</html>"), answer(404, {"error": {"code": "IMG.0027"}})]
)
async def test_an_unknown_image_is_not_found(reply):
    with pytest.raises(NotFound):
        await cloud(Script(reply)).image("i-1")


async def test_without_permission_for_a_lookup_only_that_lookup_fails():
    with pytest.raises(Rejected) as caught:
        await cloud(Script(answer(403, ecs_error("Pdp.0001")))).key_pair("k")
    assert caught.value.everybody


# Stops and starts


@pytest.mark.parametrize("reply", [OutcomeUnknown("broke"), answer(502), answer(200, b"<html>")])
def test_a_stop_without_an_answer_is_not_repeated_behind_the_back_of_who_asked(reply):
    script = Script(reply, answer(200, {"job_id": JOB}))

    with pytest.raises(OutcomeUnknown):
        run_virtual(ask_stop(script))
    assert len(script.sent) == 1


def test_a_stop_that_was_not_taken_is_repeated():
    script = Script(NotSent("refused"), answer(429), answer(200, {"job_id": JOB}))

    assert run_virtual(ask_stop(script)) == JOB
    assert len(script.sent) == 3


async def ask_stop(script):
    return await cloud(script).stop([SERVER], force=False)


@pytest.mark.parametrize("reply", [answer(202), answer(204), answer(200, {})])
def test_a_stop_without_a_job_counts_as_asked(reply):
    assert run_virtual(ask_stop(Script(reply))) is None


def test_a_stop_that_met_flow_control_in_a_202_is_repeated():
    script = Script(answer(202, ecs_error("Common.0024")), answer(200, {"job_id": JOB}))

    assert run_virtual(ask_stop(script)) == JOB


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (answer(400, ecs_error("Ecs.0100")), Busy),
        (answer(409, {"conflictingRequest": {"code": 409, "message": "x"}}), Busy),
        (answer(404, ecs_error("Ecs.0614")), NotFound),
        (answer(400, ecs_error("Ecs.0611")), Rejected),
        (answer(403, ecs_error("Pdp.0001")), Rejected),
    ],
    ids=repr,
)
async def test_a_refused_stop(reply, kind):
    with pytest.raises(kind) as caught:
        await ask_stop(Script(reply))
    assert type(caught.value) is kind


async def test_more_servers_than_a_call_may_name_take_several():
    script = Script(answer(200, {"job_id": JOB}))

    job = await cloud(script).stop([f"s-{n}" for n in range(2001)], force=False)

    assert job is None
    assert [len(json.loads(sent.body)["os-stop"]["servers"]) for sent in script.sent] == [1000, 1000, 1]


async def test_no_servers_take_no_call():
    script = Script(answer(500))

    assert await cloud(script).start([]) is None
    assert script.sent == []


# Patience


def test_pauses_grow_are_random_and_end():
    """Full jitter below 1, 2, 4, 8, 16 s; six tries; the last failure is raised."""
    script = Script(answer(503))

    async def story():
        with pytest.raises(Unavailable):
            await cloud(script).server(SERVER)

    run_virtual(story())

    pauses = [later - earlier for earlier, later in zip(script.times, script.times[1:], strict=False)]
    assert len(pauses) == 5
    assert all(0 <= pause <= 2.0**n + 0.01 for n, pause in enumerate(pauses))
    assert len(set(pauses)) == 5


def test_tries_end_by_time_as_well():
    script = Script(OutcomeUnknown("nothing within 30 s"), takes_s=30.0)

    async def story():
        with pytest.raises(Unavailable):
            await cloud(script).server(SERVER)
        return asyncio.get_running_loop().time()

    assert run_virtual(story()) <= 125.0


def test_retry_after_slows_down_all_of_the_kind():
    """Whoever asks for another server meanwhile waits as well; other calls do not."""
    script = Script(
        lambda request: (
            answer(429, b"", retry_after="20")
            if len(script.sent) == 1
            else answer(200, {"server": {"id": request.url.rsplit("/", 1)[1]}, "job_id": JOB})
        )
    )

    async def story():
        client = cloud(script)

        async def later():
            await asyncio.sleep(1)
            await client.server("another")

        async def stop():
            await asyncio.sleep(1)
            await client.stop([SERVER], force=False)

        await asyncio.gather(client.server(SERVER), later(), stop())

    run_virtual(story())
    assert [request.url.rsplit("/", 1)[1] for request in script.sent[:2]] == [SERVER, "action"]
    assert all(at >= 20.0 for at in script.times[2:])


@pytest.mark.parametrize("polled", [{"polled"}, {"polled", "or", "listed"}])
def test_a_poll_lets_everybody_else_go_first(polled):
    """Of what is asked for at the same moment, the read that belongs to nobody's wipe comes last."""

    def reply(request):
        server = {"id": request.url.rsplit("/", 1)[1]}
        page = {"servers": [], "count": 0}
        return answer(200, {"server": server, "keypair": {"name": "key"}, "job_id": JOB} | page)

    script = Script(reply)

    async def story():
        client = cloud(script, pacer=Pacer(1.0))
        await client.server("first")
        await asyncio.gather(
            client.servers(only=polled), client.server("looked-at"), client.stop([SERVER], force=False),
            client.start([SERVER]), client.key_pair("key"),
        )  # fmt: skip

    run_virtual(story())
    asked = [
        next(iter(json.loads(request.body))) if request.body else request.url.rsplit("/", 1)[1]
        for request in script.sent
    ]
    assert asked[:5] == ["first", "os-start", "os-stop", "looked-at", "key"]
    assert asked[5].startswith("polled" if len(polled) == 1 else "detail?")


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_kept(form):
    date = format_datetime(datetime(2026, 12, 5, 20, tzinfo=UTC), usegmt=True)
    until = format_datetime(datetime(2026, 12, 5, 20, tzinfo=UTC) + timedelta(seconds=20), usegmt=True)
    wait = "20" if form == "seconds" else until
    script = Script(answer(503, b"", retry_after=wait, date=date), answer(200, {"server": {"id": SERVER}}))

    async def story():
        # Our wall clock is wrong by a day: the answer's own date counts.
        await cloud(script, clock=LoopClock(datetime(2026, 12, 4, 20, tzinfo=UTC))).server(SERVER)

    run_virtual(story())
    assert 20.0 <= script.times[1] - script.times[0] <= 21.1


def test_a_longer_retry_after_than_our_patience_is_passed_on():
    script = Script(answer(429, b"", retry_after="600"))

    async def story():
        with pytest.raises(Throttled) as caught:
            await cloud(script).server(SERVER)
        return caught.value.retry_after_s

    assert run_virtual(story()) == 600.0
    assert len(script.sent) == 1


@pytest.mark.parametrize("nonsense", ["", "soon", "-5", "1e99", "nan", "99999999999999", "٣"])
def test_a_senseless_retry_after_is_ignored(nonsense):
    script = Script(answer(503, b"", retry_after=nonsense), answer(200, {"server": {"id": SERVER}}))

    async def story():
        await cloud(script).server(SERVER)

    run_virtual(story())
    assert script.times[1] - script.times[0] <= 1.01


def test_a_refused_wipe_slows_the_next_ones_and_not_the_reads():
    """The gateway says 50 a minute for this call: that is kept, and reads go on at their own pace."""
    throttled = answer(
        429, {"error_code": "APIGW.0308", "error_msg": "policy user over ratelimit,limit:50,time:1 minute"}
    )
    wipes = Script(throttled, answer(200, {"job_id": JOB}))
    pacer = Pacer(10.0)

    async def story():
        client = cloud(wipes, pacer=pacer)
        with pytest.raises(Throttled):
            await reinstall(client)
        for _ in range(5):
            await reinstall(client)

    run_virtual(story())
    gaps = [later - earlier for earlier, later in zip(wipes.times[1:], wipes.times[2:], strict=False)]
    assert all(gap >= 1.19 for gap in gaps)
    assert pacer.lane("show").rate == 10.0


# Paging


def pages(*numbers, count):
    return [
        answer(200, {"count": total, "servers": [{"id": i} for i in ids]})
        for ids, total in zip(numbers, count, strict=True)
    ]


async def listed(script, **options):
    return [server.id for server in await cloud(script, **options).servers()]


async def test_all_pages_are_read():
    script = Script(*pages(["a", "b"], ["c", "d"], ["e"], count=[5, 5, 5]))

    assert await listed(script, page_size=2) == ["a", "b", "c", "d", "e"]
    assert [sent.url.rpartition("offset=")[2] for sent in script.sent] == ["1", "2", "3"]


async def test_a_cloud_that_gives_smaller_pages_is_read_to_its_count():
    script = Script(*pages(["a"], ["b"], ["c"], count=[3, 3, 3]))

    assert await listed(script) == ["a", "b", "c"]


async def test_without_a_count_a_short_page_is_the_last():
    script = Script(*pages(["a", "b"], ["c"], count=[None, None]))

    assert await listed(script, page_size=2) == ["a", "b", "c"]
    assert len(script.sent) == 2


async def test_a_server_skipped_by_drift_is_found_by_reading_again():
    """``a`` was deleted between the pages: ``c`` moved to page 1, and page 2 begins with ``d``."""
    drifted = pages(["a", "b"], ["d"], count=[4, 3])  # three seen, three counted: but the count moved
    script = Script(*drifted, *pages(["b", "c"], ["d"], count=[3, 3]))

    assert await listed(script, page_size=2) == ["b", "c", "d"]


async def test_a_server_on_two_pages_is_listed_once():
    script = Script(*pages(["a", "b"], ["b", "c"], ["d"], count=[4, 4, 4]))

    assert await listed(script, page_size=2) == ["a", "b", "c", "d"]


async def test_a_list_that_never_settles_gives_whom_either_reading_saw():
    script = Script(*pages(["a"], [], ["b"], [], count=[2, 2, 2, 2]))

    assert await listed(script) == ["a", "b"]


async def test_a_cloud_that_repeats_its_first_page_does_not_keep_us_for_ever():
    script = Script(*pages(["a", "b"], count=[9]))

    assert await listed(script, page_size=2) == ["a", "b"]
    assert len(script.sent) == 4


@pytest.mark.parametrize(
    "body", [{}, {"count": 0}, {"servers": None}, {"servers": {}}, {"servers": [None]}, []]
)
def test_a_list_without_servers_in_it_is_not_an_empty_fleet(body):
    async def story():
        with pytest.raises(Unavailable):
            await listed(Script(answer(200, body)))

    run_virtual(story())


# Some of the servers


def everybody(request):
    """A cloud of five servers that knows the filter by id, as Huawei Cloud does."""
    query = dict(part.split("=") for part in request.url.partition("?")[2].split("&"))
    if "server_id" not in query:
        wanted = ["a", "b", "c", "d", "e"]
        if not request.url.partition("?")[2]:
            return answer(200, {"server": {"id": request.url[-1], "status": "ACTIVE"}})
    else:
        wanted = query["server_id"].split(",")
    servers = [
        {"id": name, "status": "ACTIVE"} if name in "abcde" else {"id": name, "fault": {"code": 404}}
        for name in wanted
    ]
    return answer(200, {"count": len(servers), "servers": servers})


def without_filter(request):
    """The same cloud, which ignores a filter it does not know, as OTC does."""
    bare = request.url.partition("&server_id=")[0]
    return everybody(msgspec.structs.replace(request, url=bare))


async def test_some_servers_are_listed_by_their_ids():
    script = Script(everybody)

    found = await cloud(script).servers(only={"a", "c", "e"})

    assert sorted(server.id for server in found) == ["a", "c", "e"]
    assert ["server_id=a,c,e" in sent.url for sent in script.sent] == [True]


async def test_an_id_that_does_not_exist_is_left_out():
    found = await cloud(Script(everybody)).servers(only={"a", "b", "gone"})

    assert sorted(server.id for server in found) == ["a", "b"]


async def test_a_cloud_without_that_filter_is_asked_for_everybody_from_then_on():
    script = Script(without_filter)
    client = cloud(script)

    for _ in range(2):
        found = await client.servers(only={"a", "c", "e"})
        assert sorted(server.id for server in found) == ["a", "c", "e"]
    assert ["server_id" in sent.url for sent in script.sent] == [True, False, False]


async def test_a_cloud_that_refuses_that_filter_is_asked_for_everybody():
    refusal = answer(400, {"error": {"code": "Ecs.0005", "message": "Invalid parameter"}})
    client = cloud(Script(refusal, everybody))

    found = await client.servers(only={"a", "b", "c"})

    assert sorted(server.id for server in found) == ["a", "b", "c"]


async def test_two_servers_are_read_directly():
    script = Script(
        answer(200, {"server": {"id": "a"}}),
        answer(404, {"error": {"code": "Ecs.0114", "message": "itemNotFound"}}),
    )

    found = await cloud(script).servers(only={"a"}), await cloud(script).servers(only={"b"})

    assert [[server.id for server in each] for each in found] == [["a"], []]
    assert ["detail" in sent.url for sent in script.sent] == [False, False]


# The rest


async def test_calls_are_counted_by_kind():
    script = Script(answer(200, {"server": {"id": SERVER}}))
    client = cloud(script)
    await client.server(SERVER)
    await client.server(SERVER)
    script.steps = [answer(200, {"job_id": JOB})]
    await reinstall(client)

    assert client.calls() == {"show": 2, "reinstall": 1}
    assert (await client.whoami()).user_id == USER


def test_secrets_are_in_no_exception_and_no_repr():
    """The password and the user data travel in the body only, whatever goes wrong."""
    order = ReinstallOrder(
        SERVER, Call.REINSTALL_CLOUD_INIT, admin_password="Canary-Passw0rd", user_data=b"canary-user-data"
    )
    hidden = (
        "Canary-Passw0rd",
        "canary-user-data",
        base64.b64encode(b"canary-user-data").decode(),
        "token-1",
    )

    async def story():
        texts = []
        for reply in [*UNKNOWN_OUTCOME, answer(400), answer(401), answer(429), NotSent("x")]:
            client = cloud(Script(reply))
            try:
                await reinstall(client, order)
            except Exception as error:  # noqa: BLE001  # whichever it is
                while error is not None:
                    texts += [str(error), repr(error), repr(vars(error))]
                    error = error.__cause__ or error.__context__
            texts += [repr(client), repr(order)]
        return texts

    for text in run_virtual(story()):
        assert not any(secret in text for secret in hidden)


@pytest.mark.parametrize(
    ("iam", "overrides", "catalog_region", "ecs"),
    [
        ("https://iam.eu-de.otc.t-systems.com", {}, None, "https://ecs.eu-de.otc.t-systems.com"),
        (
            "https://iam-pub.eu-ch2.sc.otc.t-systems.com:443",
            {},
            None,
            "https://ecs.eu-ch2.sc.otc.t-systems.com:443",
        ),
        ("https://iam.myhuaweicloud.com", {}, "cn-north-4", "https://ecs.cn-north-4.myhuaweicloud.com"),
        ("http://127.0.0.1:8080", {}, None, "http://127.0.0.1:8080"),
        ("http://localhost:8080", {}, None, "http://localhost:8080"),
        (IAM, {"ecs": "https://private.example/ecs/"}, None, "https://private.example/ecs"),
    ],
)
def test_where_the_service_is(iam, overrides, catalog_region, ecs):
    assert Endpoints(iam, overrides, catalog_region).base("ecs") == ecs


def test_a_service_nobody_names_is_asked_for():
    with pytest.raises(CloudUnusable) as caught:
        Endpoints("https://keystone.example").base("ims")
    assert "cloud.endpoints.ims" in (caught.value.hint or "")
