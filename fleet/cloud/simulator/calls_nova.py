"""The calls of an OpenStack: the same world, with another face. Keystone's and Glance's are in `calls`.

Every path is known with the project in it and without, as Nova has it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from fleet.cloud.simulator import guards, power, render_nova
from fleet.cloud.simulator.calls import Answer, Backend, Call, Handler, Route, list_key_pairs, show_key_pair
from fleet.cloud.simulator.faults import CallKind
from fleet.cloud.simulator.rebuild import Order, rebuild
from fleet.cloud.simulator.refusals import Refused
from fleet.cloud.simulator.things import Server, Show

MAX_LIMIT: Final = 1000
NEWEST: Final = "2.96"


class _StopType(msgspec.Struct):
    type: str = ""


class _Rebuild(msgspec.Struct):
    image: str = msgspec.field(name="imageRef")
    key_name: str | None = None
    user_data: str | None = None
    metadata: dict[str, str] | None = None
    preserve_ephemeral: bool = False
    password: str | None = msgspec.field(name="adminPass", default=None)


class _Action(msgspec.Struct):
    """Nova's actions on one server: the key says which."""

    stop: _StopType | msgspec.UnsetType | None = msgspec.field(default=msgspec.UNSET, name="os-stop")
    start: _StopType | msgspec.UnsetType | None = msgspec.field(default=msgspec.UNSET, name="os-start")
    lock: _StopType | msgspec.UnsetType | None = msgspec.UNSET
    unlock: _StopType | msgspec.UnsetType | None = msgspec.UNSET
    rebuild: _Rebuild | msgspec.UnsetType = msgspec.UNSET


_ACTION: Final = msgspec.json.Decoder(_Action)


def _refuse(message: str, status: int) -> Refused:
    return Refused("", message, status=status, form="nova")


def _server(backend: Backend, call: Call) -> Server:
    server = backend.world.find(call.names["server"])
    if server is None:
        raise _refuse(f"Instance {call.names['server']} could not be found.", 404)
    return server


def version(backend: Backend, call: Call, now: float) -> Answer:  # noqa: ARG001 - the shape of a handler
    """``GET /v2.1/``: which microversions there are."""
    found = {"id": "v2.1", "status": "CURRENT", "version": NEWEST, "min_version": "2.1", "links": []}
    return Answer(200, {"version": found})


def list_servers(backend: Backend, call: Call, now: float) -> Answer:  # noqa: ARG001 - the shape of a handler
    """``GET …/servers/detail``: pages by marker; the platform's own servers are no tenant's business."""
    world = backend.world
    found = list(world.servers.values())
    text = (call.query.get("limit") or [str(MAX_LIMIT)])[0]
    if not (text.isascii() and text.isdigit()):
        raise _refuse(f"limit {text!r} is not a number", 400)
    limit = min(int(text), MAX_LIMIT)
    start = 0
    if marker := (call.query.get("marker") or [""])[0]:
        places = [place for place, server in enumerate(found) if server.id == marker]
        if not places:
            raise _refuse(f"marker [{marker}] not found", 400)
        start = places[0] + 1
    page = found[start : start + limit]
    project = world.estate.project
    body: dict[str, Any] = {
        "servers": [render_nova.server_body(server, project, world.calendar) for server in page]
    }
    if start + limit < len(found) and page:
        url = f"{backend.base_url}{call.path}?limit={limit}&marker={page[-1].id}"
        body["servers_links"] = [{"rel": "next", "href": url}]
    return Answer(200, body)


def show_server(backend: Backend, call: Call, now: float) -> Answer:  # noqa: ARG001 - the shape of a handler
    """``GET …/servers/{server}``."""
    world = backend.world
    body = render_nova.server_body(_server(backend, call), world.estate.project, world.calendar)
    return Answer(200, {"server": body})


def show_log(backend: Backend, call: Call, now: float) -> Answer:  # noqa: ARG001 - the shape of a handler
    """``GET …/servers/{server}/os-instance-actions``."""
    world = backend.world
    body = render_nova.log_body(_server(backend, call), world.estate.project, world.calendar)
    return Answer(200, {"instanceActions": body})


def show_line(backend: Backend, call: Call, now: float) -> Answer:  # noqa: ARG001 - the shape of a handler
    """``GET …/servers/{server}/os-instance-actions/{request}``."""
    world, wanted = backend.world, call.names["request"]
    body = render_nova.line_body(_server(backend, call), wanted, world.estate.project, world.calendar)
    if body is None:
        raise _refuse(f"Action {wanted} not found", 404)
    return Answer(200, {"instanceAction": body})


def act(backend: Backend, call: Call, now: float) -> Answer:
    """``POST …/servers/{server}/action``: one server, no job; the answer's request id is the log's."""
    world = backend.world
    server = _server(backend, call)
    try:
        body = _ACTION.decode(call.body)
    except msgspec.DecodeError as error:
        raise _refuse(f"Malformed request body. {error}", 400) from None
    asked = [name for name in _Action.__struct_fields__ if getattr(body, name) is not msgspec.UNSET]
    if len(asked) != 1:
        raise _refuse("There is no such action.", 400)
    kind = asked[0]
    request = f"req-{call.request_id}"
    job = ""
    if isinstance(body.rebuild, _Rebuild):
        order = _order(backend, call, server, body.rebuild)
        twist = backend.book.twist("reinstall", (server.id, server.name), now)
        rebuild(world, server, order, now, twist)
        job = f"{server.id}/{request}"  # an action is known by its server only
    elif kind in {"lock", "unlock"}:
        world.lock(server, now, locked=kind == "lock")
    else:
        hard = isinstance(body.stop, _StopType) and body.stop.type == "HARD"
        _check(server, kind, guards.unfit_for(kind, server, hard=hard))
        twist = backend.book.twist(kind, (server.id, server.name), now)
        power.begin(world, kind, server, now, hard=hard, twist=twist, request_id=call.request_id)
    said = {"server": render_nova.server_body(server, world.estate.project, world.calendar)} if job else b""
    return Answer(202, said, headers={"x-compute-request-id": request}, accepted=True, job=job)


def _check(server: Server, kind: str, why: Refused | None) -> None:
    if server.locked:
        raise _refuse(f"Instance {server.id} is locked", 409)
    if why is not None:
        _, vm_state, task, _ = server.show.value
        state = f"task_state {task}" if task else f"vm_state {vm_state}"
        raise _refuse(f"Cannot '{kind}' instance {server.id} while it is in {state}", 409)


def _order(backend: Backend, call: Call, server: Server, body: _Rebuild) -> Order:
    """Return the order if Nova takes it; in the order in which Nova looks."""
    world, user = backend.world, call.user
    if user and "ecs:cloudServers:rebuild" in user.denied:
        raise _refuse("Policy doesn't allow os_compute_api:servers:rebuild to be performed.", 403)
    if body.key_name is not None and (user.id if user else "", body.key_name) not in world.key_pairs:
        raise _refuse("Invalid key_name provided.", 400)
    try:
        user_data = None if body.user_data is None else base64.b64decode(body.user_data, validate=True)
    except (binascii.Error, ValueError):
        raise _refuse("Invalid input for field/attribute user_data. It is not a 'base64'.", 400) from None
    image = world.images.get(body.image)
    if image is None:
        raise _refuse("Cannot find image for rebuild", 400)
    if image.status != "active":
        raise _refuse(f"Image {image.id} is not active.", 400)
    idle = server.show.value[2] is None and server.show in {Show.ACTIVE, Show.OFF, Show.ERROR}
    under_way = server.operation is not None and server.operation.kind != "reinstall"
    # Idle by what it shows: that is all that Nova looks at, also in the middle of another rebuild.
    _check(server, "rebuild", None if idle and not under_way else _refuse("", 409))
    return Order(
        image=image.id,
        request_id=call.request_id,
        key_name=body.key_name,
        user_data=None if user_data is None else user_data.decode("utf-8", "replace"),
        metadata=body.metadata,
    )


_ROWS: Final[tuple[tuple[str, str, CallKind, Handler], ...]] = (
    ("GET", "", "other", version),
    ("GET", "/servers/detail", "list", list_servers),
    ("GET", "/servers/{server}", "show", show_server),
    ("GET", "/servers/{server}/os-instance-actions", "actions", show_log),
    ("GET", "/servers/{server}/os-instance-actions/{request}", "job", show_line),
    ("POST", "/servers/{server}/action", "other", act),
    ("GET", "/os-keypairs", "key-pair", list_key_pairs),
    ("GET", "/os-keypairs/{name}", "key-pair", show_key_pair),
)


def _routes() -> Iterator[Route]:
    for method, path, kind, handler in _ROWS:
        yield Route(method, f"/v2.1{path}", kind, handler)
    for method, path, kind, handler in _ROWS[1:-2]:  # key pairs with the project are in `calls`
        yield Route(method, f"/v2.1/{{project}}{path}", kind, handler)


NOVA: Final = tuple(_routes())
