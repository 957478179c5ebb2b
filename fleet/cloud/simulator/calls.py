"""The calls that the built-in cloud knows: how a request is told to be one of them, and what it is answered.

Handlers of the calls that change something are in `calls_changing`; both kinds are functions of the
backend, the call and the time, and raise `Refused` where the cloud says no.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from fleet.cloud.simulator import render
from fleet.cloud.simulator.auth import Gatekeeper, catalog_body, token_body
from fleet.cloud.simulator.faults import CallKind, FaultBook
from fleet.cloud.simulator.listing import Listing
from fleet.cloud.simulator.refusals import Refused
from fleet.cloud.simulator.things import Server, User
from fleet.cloud.simulator.throttle import Throttle
from fleet.cloud.simulator.world import World


class Backend:
    """What handlers work with."""

    def __init__(
        self, world: World, gatekeeper: Gatekeeper, throttle: Throttle, book: FaultBook, base_url: str
    ) -> None:
        self.world = world
        self.gatekeeper = gatekeeper
        self.throttle = throttle
        self.book = book
        self.base_url = base_url
        self.listing = Listing(world)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler says.

    Attributes:
        body: To be written as JSON, or bytes as they are.
        accepted: Something is being done.
        job: Id of its job.
    """

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    accepted: bool = False
    job: str = ""
    code: str = ""


@dataclass(slots=True)
class Call:
    """One request, told to be one of the calls.

    Attributes:
        project: Id in the path, or empty.
        names: The other variable parts of the path.
        servers: Ids of the servers that it is about.
        as_of: Show the state of this time, or None for now.
        action: Permission that it needs, or empty.
    """

    method: str
    path: str
    raw_query: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes
    kind: str = "other"
    handler: Handler | None = None
    action: str = ""
    project: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""
    servers: tuple[str, ...] = ()
    user: User | None = None
    as_of: float | None = None

    def named(self, world: World) -> list[tuple[str, str]]:
        """Return ids and names of its servers, for matching faults."""
        return [
            (server_id, found.name if (found := world.find(server_id)) else "") for server_id in self.servers
        ]


Handler = Callable[[Backend, Call, float], Answer]


@dataclass(frozen=True, slots=True)
class Route:
    """A row of the table of calls. *kind* may be refined by the body (see `servers_of`)."""

    method: str
    path: str
    kind: CallKind
    handler: Handler
    action: str = ""


# identity


def log_in(backend: Backend, call: Call, now: float) -> Answer:
    """``POST /v3/auth/tokens``: the token is in a header."""
    text, token = backend.gatekeeper.log_in(call.body, now)
    body = token_body(token, backend.world, backend.base_url)
    if call.query.get("nocatalog"):
        del body["catalog"]
    trace = {"x-subject-token": text, "x-iam-trace-id": f"token_sim_null_{call.request_id}"}
    return Answer(201, {"token": body}, headers=trace)


def catalog(backend: Backend, call: Call, now: float) -> Answer:  # noqa: ARG001 - the shape of a handler
    """``GET /v3/auth/catalog``."""
    return Answer(200, {"catalog": catalog_body(backend.world, backend.base_url), "links": {}})


def projects(backend: Backend, call: Call, now: float) -> Answer:  # noqa: ARG001 - the shape of a handler
    """``GET /v3/projects`` and ``GET /v3/auth/projects``."""
    project = backend.world.estate.project
    wanted = call.query.get("name")
    found = {
        "id": project.id,
        "name": project.name,
        "domain_id": project.domain_id,
        "parent_id": project.domain_id,
        "enabled": True,
        "is_domain": False,
        "description": "",
        "links": {},
    }
    return Answer(200, {"projects": [found] if not wanted or wanted[0] == project.name else [], "links": {}})


def credential(backend: Backend, call: Call, now: float) -> Answer:  # noqa: ARG001 - the shape of a handler
    """``GET /v3.0/OS-CREDENTIAL/credentials/{ak}``: whose access key it is."""
    owner = backend.gatekeeper.secret_owner(call.names["access"])
    if owner is None:
        raise Refused("", f"Could not find credential: {call.names['access']}.", status=404, form="keystone")
    return Answer(
        200,
        {
            "credential": {
                "access": call.names["access"],
                "user_id": owner.id,
                "status": "active",
                "description": "",
            }
        },
    )


def temporary_key(backend: Backend, call: Call, now: float) -> Answer:
    """``POST /v3.0/OS-CREDENTIAL/securitytokens``: an access key for a while, with its security token."""
    assert call.user is not None  # noqa: S101 - the gateway has let the call in
    access, key = backend.gatekeeper.temporary_key(call.body, call.user, now)
    return Answer(
        201,
        {
            "credential": {
                "access": access,
                "secret": key.secret,
                "securitytoken": key.security_token,
                "expires_at": backend.world.calendar.micros(key.expires) + "Z",
            }
        },
    )


# servers


def list_servers(backend: Backend, call: Call, now: float) -> Answer:  # noqa: ARG001 - the shape of a handler
    """``GET /v1/{project}/cloudservers/detail``."""
    wanted = [part for value in call.query.get("server_id", ()) for part in value.split(",") if part]
    if wanted:
        bodies = [_described(backend, call, server_id) for server_id in wanted[:100]]
        return Answer(200, {"count": len(bodies), "servers": bodies})
    count, page = backend.listing.page(call.query)
    return Answer(200, {"count": count, "servers": [_raw(backend, call, server) for server in page]})


def _described(backend: Backend, call: Call, server_id: str) -> msgspec.Raw | dict[str, Any]:
    server = backend.world.find(server_id)
    return _raw(backend, call, server) if server else render.missing_server_body(server_id)


def _raw(backend: Backend, call: Call, server: Server) -> msgspec.Raw:
    world = backend.world
    return msgspec.Raw(
        world.rendered(server) if call.as_of is None else world.rendered_at(server, call.as_of)
    )


def _server(backend: Backend, call: Call) -> Server:
    server = backend.world.find(call.names["server"])
    if server is None:
        raise Refused("Ecs.0114", f"itemNotFound: Instance {call.names['server']} could not be found.")
    return server


def show_server(backend: Backend, call: Call, now: float) -> Answer:  # noqa: ARG001 - the shape of a handler
    """``GET /v1/{project}/cloudservers/{server}``."""
    return Answer(200, {"server": _raw(backend, call, _server(backend, call))})


def block_devices(backend: Backend, call: Call, now: float) -> Answer:  # noqa: ARG001 - the shape of a handler
    """``GET /v1/{project}/cloudservers/{server}/block_device``."""
    return Answer(200, render.block_devices_body(_server(backend, call)))


def server_tags(backend: Backend, call: Call, now: float) -> Answer:  # noqa: ARG001 - the shape of a handler
    """``GET /v1/{project}/cloudservers/{server}/tags``."""
    pairs = [tag.partition("=") for tag in _server(backend, call).tags]
    return Answer(200, {"tags": [{"key": key, "value": value} for key, _, value in pairs]})


def limits(backend: Backend, call: Call, now: float) -> Answer:  # noqa: ARG001 - the shape of a handler
    """``GET /v1/{project}/cloudservers/limits``."""
    used = len(backend.world.listed())
    absolute = {"maxTotalInstances": -1, "totalInstancesUsed": used, "maxTotalKeypairs": -1}
    return Answer(200, {"absolute": absolute})


# the rest


def show_job(backend: Backend, call: Call, now: float) -> Answer:
    """``GET /v1/{project}/jobs/{job}``."""
    job = backend.world.job(call.names["job"], now)
    if job is None:
        raise Refused("Common.0011", form="job")
    return Answer(200, render.job_body(job, backend.world.calendar))


def show_image(backend: Backend, call: Call, now: float) -> Answer:  # noqa: ARG001 - the shape of a handler
    """``GET /v2/images/{image}``."""
    image = backend.world.images.get(call.names["image"])
    if image is None:
        raise Refused("IMG.0027", f"Image {call.names['image']} not found.", status=404)
    return Answer(200, render.image_body(image, backend.world.estate.project))


def glance_images(backend: Backend, call: Call, now: float) -> Answer:  # noqa: ARG001 - the shape of a handler
    """``GET /v2/images``: Glance's list, pages by marker."""
    wanted = {name: values[0] for name, values in call.query.items() if name in {"name", "status"}}
    project = backend.world.estate.project
    bodies = [render.image_body(image, project) for image in backend.world.images.values()]
    found = [body for body in bodies if all(body[name] == value for name, value in wanted.items())]
    limit, marker = (call.query.get("limit") or ["25"])[0], (call.query.get("marker") or [""])[0]
    ids = [body["id"] for body in found]
    if not limit.isascii() or not limit.isdigit() or (marker and marker not in ids):
        raise Refused("", "Invalid limit or marker.", status=400, form="nova")
    start = ids.index(marker) + 1 if marker else 0
    page = found[start : start + int(limit)]
    answer: dict[str, Any] = {"images": page, "first": "/v2/images", "schema": "/v2/schemas/images"}
    if page and start + len(page) < len(found):
        answer["next"] = f"/v2/images?limit={limit}&marker={page[-1]['id']}"
    return Answer(200, answer)


def list_images(backend: Backend, call: Call, now: float) -> Answer:  # noqa: ARG001 - the shape of a handler
    """``GET /v2/cloudimages``."""
    wanted = call.query.get("id")
    project = backend.world.estate.project
    found = [
        render.image_body(image, project)
        for image in backend.world.images.values()
        if not wanted or image.id == wanted[0]
    ]
    return Answer(200, {"images": found})


def list_key_pairs(backend: Backend, call: Call, now: float) -> Answer:  # noqa: ARG001 - as above
    """``GET /v2.1/{project}/os-keypairs``: the caller's own ones."""
    shown = ("name", "fingerprint", "public_key", "type")
    found = [
        {"keypair": {name: value for name, value in render.key_pair_body(pair, 0).items() if name in shown}}
        for pair in backend.world.key_pairs.values()
        if call.user and pair.user_id == call.user.id
    ]
    return Answer(200, {"keypairs": found})


def show_key_pair(backend: Backend, call: Call, now: float) -> Answer:  # noqa: ARG001 - as above
    """``GET /v2.1/{project}/os-keypairs/{name}``; another user's looks like none."""
    name = call.names["name"]
    pair = backend.world.key_pairs.get((call.user.id if call.user else "", name))
    if pair is None:
        raise Refused("", f"Keypair {name} not found for user.", status=404, form="nova")
    return Answer(200, {"keypair": render.key_pair_body(pair, 0)})


def show_volume(backend: Backend, call: Call, now: float) -> Answer:  # noqa: ARG001 - the shape of a handler
    """``GET /v2/{project}/cloudvolumes/{volume}``; a replaced system disk is gone."""
    wanted = call.names["volume"]
    for server in backend.world.listed():
        for disk in server.disks:
            if disk.id == wanted:
                return Answer(200, {"volume": render.volume_body(disk, server, backend.world.calendar)})
    raise Refused("", f"Volume {wanted} could not be found.", status=404, form="nova")


def volume_quota(backend: Backend, call: Call, now: float) -> Answer:  # noqa: ARG001 - as above
    """``GET /v3/{project}/os-quota-sets/{project}``: how many disks there may be."""
    quota = backend.world.behaviour.volume_quota
    volumes = {"limit": -1 if quota is None else quota, "in_use": backend.world.volumes(), "reserved": 0}
    unlimited = {"limit": -1, "in_use": 0, "reserved": 0}
    body = {"id": backend.world.estate.project.id, "volumes": volumes, "gigabytes": unlimited}
    return Answer(200, {"quota_set": body})


READING: Final = (
    Route("POST", "/v3/auth/tokens", "token", log_in),
    Route("GET", "/v3/auth/catalog", "projects", catalog),
    Route("GET", "/v3/auth/projects", "projects", projects),
    Route("GET", "/v3/projects", "projects", projects),
    Route("GET", "/v3.0/OS-CREDENTIAL/credentials/{access}", "projects", credential),
    Route("POST", "/v3.0/OS-CREDENTIAL/securitytokens", "projects", temporary_key),
    Route("GET", "/v1/{project}/cloudservers/detail", "list", list_servers, "ecs:cloudServers:list"),
    Route("GET", "/v1/{project}/cloudservers/limits", "limits", limits),
    Route("GET", "/v1/{project}/cloudservers/{server}", "show", show_server, "ecs:cloudServers:showServer"),
    Route("GET", "/v1/{project}/cloudservers/{server}/block_device", "block-device", block_devices),
    Route("GET", "/v1/{project}/cloudservers/{server}/tags", "tags", server_tags),
    Route("GET", "/v1/{project}/jobs/{job}", "job", show_job),
    Route("GET", "/v2.1/{project}/os-keypairs", "key-pair", list_key_pairs, "ecs:serverKeypairs:list"),
    Route("GET", "/v2.1/{project}/os-keypairs/{name}", "key-pair", show_key_pair, "ecs:serverKeypairs:get"),
    Route("GET", "/v2/images", "image", glance_images, "ims:images:list"),
    Route("GET", "/v2/images/{image}", "image", show_image, "ims:images:get"),
    Route("GET", "/v2/cloudimages", "image", list_images, "ims:images:list"),
    Route("GET", "/v2/{project}/cloudvolumes/{volume}", "volume", show_volume, "evs:volumes:get"),
    Route("GET", "/v3/{project}/os-quota-sets/{target}", "volume", volume_quota),
)
