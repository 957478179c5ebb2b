"""The calls that change something: power and reinstall. Guards first, then the operation begins."""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

from fleet.cloud.simulator import guards, power
from fleet.cloud.simulator.calls import Answer, Backend, Call, Route
from fleet.cloud.simulator.refusals import Refused
from fleet.cloud.simulator.reinstall import reinstall
from fleet.cloud.simulator.things import Server
from fleet.cloud.simulator.world import Twist


def act(backend: Backend, call: Call, now: float) -> Answer:
    """``POST /v1/{project}/cloudservers/action``: stop, start or reboot servers, at most 1000."""
    world = backend.world
    kind, batch = guards.decode_batch(call.body)
    user = call.user
    if user and f"ecs:cloudServers:{kind}" in user.denied:
        raise Refused("Pdp.0001", f"Policy does not allow ecs:cloudServers:{kind} to be performed.")
    backend.throttle.admit_servers(len(batch.servers), user.id if user else "", now)
    hard = batch.type == "HARD"
    servers: list[Server] = []
    refused: dict[str, str] = {}
    for target in dict.fromkeys(target.id for target in batch.servers):
        server = world.find(target)
        why = guards.unfit_for(kind, server, hard=hard)
        if why and (server is None or world.behaviour.unfit_in_batch == "refuse"):
            raise why
        if server:
            servers.append(server)
            if why:
                refused[server.id] = why.code
    twists: dict[str, Twist] = {
        server.id: backend.book.twist(kind, (server.id, server.name), now)
        for server in servers
        if server.id not in refused
    }
    job = power.batch(world, kind, servers, now, hard=hard, refused=refused, twists=twists)
    return Answer(200, {"job_id": job.id}, accepted=True, job=job.id)


def install(backend: Backend, call: Call, now: float) -> Answer:
    """``POST /v1|v2/{project}/cloudservers/{server}/reinstallos`` and ``changeos``: the destructive ones."""
    world = backend.world
    change = call.path.endswith("/changeos")
    name = ("changeOs" if change else "reinstallOs") + ("V2" if call.path.startswith("/v2/") else "")
    server = world.find(call.names["server"])
    body = guards.decode_order(call.body, change=change)
    order = guards.may_reinstall(world, server, body, call.user.id if call.user else "", call=name)
    if server is None:
        raise Refused("Ecs.0114")
    order = msgspec.structs.replace(order, request_id=call.request_id)
    twist = backend.book.twist("reinstall", (server.id, server.name), now)
    job = reinstall(world, server, order, now, twist)
    return Answer(200, {"job_id": job.id}, accepted=True, job=job.id)


class _Tag(msgspec.Struct):
    key: str
    value: str = ""


class _Tags(msgspec.Struct):
    action: Literal["create", "delete"]
    tags: list[_Tag]


_TAGS: Final = msgspec.json.Decoder(_Tags)
MAX_TAGS: Final = 10
"""Of a user's own on one server; the platform's do not count."""


def retag(backend: Backend, call: Call, now: float) -> Answer:
    """``POST /v1/{project}/cloudservers/{server}/tags/action``: set tags, or take them off.

    A tag overwrites one of the same key, and is taken off by its key alone. Works whatever else is being
    done to the server.
    """
    world = backend.world
    server = world.find(call.names["server"])
    if server is None:
        raise Refused("Ecs.0114")
    try:
        body = _TAGS.decode(call.body)
    except msgspec.DecodeError as error:
        raise Refused("Ecs.0005", f"Invalid request body. {error}") from None
    tags = dict(tag.partition("=")[::2] for tag in server.tags)
    for tag in body.tags:
        if body.action == "delete":
            tags.pop(tag.key, None)
            continue
        # The strictest of the regions (OTC): elsewhere values may have dots, and both may be Chinese.
        if not (_TAG_KEY.fullmatch(tag.key) and _TAG_VALUE.fullmatch(tag.value)):
            raise Refused("Ecs.0089", f"The tag {tag.key!r} is invalid.")
        tags[tag.key] = tag.value
    if body.action == "create" and sum(not key.startswith("_") for key in tags) > MAX_TAGS:
        raise Refused("Ecs.0905")
    shown = [f"{key}={value}" if value else key for key, value in tags.items()]
    world.retag(server, shown, now)
    return Answer(204, b"", accepted=True)


_TAG_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,36}", re.ASCII)
_TAG_VALUE: Final = re.compile(r"[A-Za-z0-9_-]{0,43}", re.ASCII)


CHANGING: Final = (
    Route("POST", "/v1/{project}/cloudservers/action", "other", act),
    Route(
        "POST",
        "/v1/{project}/cloudservers/{server}/tags/action",
        "tag",
        retag,
        "ecs:cloudServers:batchSetServerTags",
    ),
    Route(
        "POST",
        "/v1/{project}/cloudservers/{server}/reinstallos",
        "reinstall",
        install,
        "ecs:cloudServers:rebuild",
    ),
    Route(
        "POST",
        "/v2/{project}/cloudservers/{server}/reinstallos",
        "reinstall",
        install,
        "ecs:cloudServers:rebuild",
    ),
    Route(
        "POST",
        "/v1/{project}/cloudservers/{server}/changeos",
        "reinstall",
        install,
        "ecs:cloudServers:changeOS",
    ),
    Route(
        "POST",
        "/v2/{project}/cloudservers/{server}/changeos",
        "reinstall",
        install,
        "ecs:cloudServers:changeOS",
    ),
)
