"""The calls of an OpenStack: the same world, with another face. Keystone's and Glance's are in `calls`.

Every path is known with the project in it and without, as Nova has it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

import msgspec

from fleet.cloud.simulator import guards, power, render_nova
from fleet.cloud.simulator.calls import Answer, Backend, Call, Handler, Route, list_key_pairs, show_key_pair
from fleet.cloud.simulator.calls_discovery import NEWEST, OLDEST, spell
from fleet.cloud.simulator.faults import CallKind
from fleet.cloud.simulator.rebuild import Order, rebuild
from fleet.cloud.simulator.refusals import Refused
from fleet.cloud.simulator.things import Server, Show

MAX_LIMIT: Final = 1000


class _StopType(msgspec.Struct):
    type: str = ""


class _Rebuild(msgspec.Struct, forbid_unknown_fields=True):
    """All that Nova's schema has: what it does not have is refused. Some of it changes nothing here."""

    image: str = msgspec.field(name="imageRef")
    key_name: str | None = None
    user_data: str | None = None
    metadata: dict[str, str] | None = None
    preserve_ephemeral: bool = False
    password: str | None = msgspec.field(name="adminPass", default=None)
    name: str | None = None
    description: str | None = None
    hostname: str | None = None
    ipv4: str | None = msgspec.field(name="accessIPv4", default=None)
    ipv6: str | None = msgspec.field(name="accessIPv6", default=None)
    disk_config: str | None = msgspec.field(name="OS-DCF:diskConfig", default=None)
    certificates: list[str] | None = msgspec.field(name="trusted_image_certificates", default=None)


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


_SINCE: Final = {
    "description": (2, 19),
    "key_name": (2, 54),
    "user_data": (2, 57),
    "certificates": (2, 63),
    "hostname": (2, 90),
}
"""From which microversion on a rebuild may name it (Compute API microversion history)."""


def _microversion(call: Call) -> tuple[int, int]:
    """Return the microversion that a request wants; the oldest where it does not say, as Nova has it."""
    wanted = call.headers.get("x-openstack-nova-api-version", "")
    for part in call.headers.get("openstack-api-version", "").split(","):
        service, _, number = part.strip().partition(" ")
        wanted = number.strip() if service == "compute" else wanted
    if wanted in {"", "latest"}:
        return NEWEST if wanted else OLDEST
    found = re.fullmatch(r"([1-9][0-9]{0,3})\.(0|[1-9][0-9]{0,3})", wanted)
    if found is None:
        raise _refuse(f"API Version String {wanted} is of invalid format.", 400)
    version = int(found[1]), int(found[2])
    if not OLDEST <= version <= NEWEST:
        known = f"Minimum is {spell(OLDEST)} and maximum is {spell(NEWEST)}"
        raise _refuse(f"Version {wanted} is not supported by the API. {known}.", 406)
    return version


def _spoken(handler: Handler) -> Handler:
    """Return a handler that minds the microversion first, and says in its answer which one was spoken."""

    def handle(backend: Backend, call: Call, now: float) -> Answer:
        said = spell(_microversion(call))
        answer = handler(backend, call, now)
        names = {"openstack-api-version": f"compute {said}", "x-openstack-nova-api-version": said}
        return replace(answer, headers={**names, "vary": ", ".join(names), **answer.headers})

    return handle


def _server(backend: Backend, call: Call) -> Server:
    server = backend.world.find(call.names["server"])
    if server is None:
        raise _refuse(f"Instance {call.names['server']} could not be found.", 404)
    return server


def list_servers(backend: Backend, call: Call, now: float) -> Answer:  # noqa: ARG001 - the shape of a handler
    """``GET …/servers/detail`` and ``GET …/servers``: pages by marker; the platform's own are not shown."""
    world = backend.world
    found = _matching(world.servers.values(), call.query)
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
    spoken = _microversion(call)
    bodies = [render_nova.server_body(server, project, world.calendar, spoken) for server in page]
    if not call.path.rstrip("/").endswith("/detail"):
        bodies = [{name: body[name] for name in ("id", "name", "links")} for body in bodies]
    body: dict[str, Any] = {"servers": bodies}
    if start + limit < len(found) and page:
        kept = [f"{name}={quote(call.query[name][0])}" for name in _FILTERS if call.query.get(name)]
        query = "&".join([*kept, f"limit={limit}", f"marker={page[-1].id}"])
        url = f"{backend.base_url}{call.path}?{query}"
        body["servers_links"] = [{"rel": "next", "href": url}]
    return Answer(200, body)


_FILTERS: Final = ("name", "status")


def _matching(servers: Iterable[Server], query: Mapping[str, list[str]]) -> list[Server]:
    """Return the servers that a query wants: by a regular expression for the name, or by status."""
    found = list(servers)
    if names := query.get("name"):
        try:
            pattern = re.compile(names[0])
        except re.error:
            raise _refuse(f"Invalid input for query parameters name. Value: {names[0]}.", 400) from None
        found = [server for server in found if pattern.search(server.name)]
    if statuses := query.get("status"):
        wanted = {status.upper() for status in statuses}
        found = [server for server in found if server.show.value[0] in wanted]
    return found


def show_server(backend: Backend, call: Call, now: float) -> Answer:  # noqa: ARG001 - the shape of a handler
    """``GET …/servers/{server}``."""
    return Answer(200, {"server": _described(backend, call, _server(backend, call))})


def _described(backend: Backend, call: Call, server: Server) -> dict[str, Any]:
    world = backend.world
    return render_nova.server_body(server, world.estate.project, world.calendar, _microversion(call))


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
    said: Any = b""
    if isinstance(body.rebuild, _Rebuild):
        # Nova makes up a password where none was given, and says it here and nowhere else.
        made_up = hashlib.sha256(request.encode()).hexdigest()[:12]
        password = made_up if body.rebuild.password is None else body.rebuild.password
        said = {"server": {**_described(backend, call, server), "adminPass": password}}
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
    spoken = _microversion(call)
    for name, since in _SINCE.items():
        if getattr(body, name) is not None and spoken < since:
            raise _refuse(f"Additional properties are not allowed ('{name}' was unexpected)", 400)
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
    ("GET", "/servers", "list", list_servers),
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
        yield Route(method, f"/v2.1{path}", kind, _spoken(handler))
    for method, path, kind, handler in _ROWS[:-2]:  # key pairs with the project are in `calls`
        yield Route(method, f"/v2.1/{{project}}{path}", kind, _spoken(handler))


NOVA: Final = tuple(_routes())
