"""The calls that change something: power and reinstall. Guards first, then the operation begins."""

from __future__ import annotations

from typing import Final

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


class _StopType(msgspec.Struct):
    type: str = ""


class _NovaAction(msgspec.Struct):
    """Nova's actions on one server: the key says which."""

    stop: _StopType | msgspec.UnsetType | None = msgspec.field(default=msgspec.UNSET, name="os-stop")
    start: _StopType | msgspec.UnsetType | None = msgspec.field(default=msgspec.UNSET, name="os-start")
    lock: _StopType | msgspec.UnsetType | None = msgspec.UNSET
    unlock: _StopType | msgspec.UnsetType | None = msgspec.UNSET


_NOVA_ACTION: Final = msgspec.json.Decoder(_NovaAction)


def nova_act(backend: Backend, call: Call, now: float) -> Answer:
    """``POST /v2.1/{project}/servers/{server}/action``: one server, no job, an empty answer."""
    world = backend.world
    server = world.find(call.names["server"])
    if server is None:
        message = f"Instance {call.names['server']} could not be found."
        raise Refused("", message, status=404, form="nova")
    try:
        body = _NOVA_ACTION.decode(call.body)
    except msgspec.DecodeError as error:
        raise Refused("", f"Malformed request body. {error}", status=400, form="nova") from None
    asked = [kind for kind in ("stop", "start", "lock", "unlock") if getattr(body, kind) is not msgspec.UNSET]
    if len(asked) != 1:
        raise Refused("", "There is no such action.", status=400, form="nova")
    kind = asked[0]
    if kind in {"lock", "unlock"}:
        world.lock(server, now, locked=kind == "lock")
    else:
        hard = isinstance(body.stop, _StopType) and body.stop.type == "HARD"
        why = guards.unfit_for(kind, server, hard=hard)
        if why:
            message = f"Cannot '{kind}' instance {server.id} while it is in this state. {why.message}"
            raise Refused("", message, status=409, form="nova")
        twist = backend.book.twist(kind, (server.id, server.name), now)
        power.begin(world, kind, server, now, hard=hard, twist=twist)
    request = {"x-compute-request-id": f"req-{world.new_uuid()}"}
    return Answer(202, b"", headers=request, accepted=True)


CHANGING: Final = (
    Route("POST", "/v1/{project}/cloudservers/action", "other", act),
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
    Route("POST", "/v2.1/{project}/servers/{server}/action", "other", nova_act),
)
