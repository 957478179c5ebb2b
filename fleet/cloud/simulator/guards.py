"""What the cloud refuses, and in which order it looks (ECS API reference, sections 2, 3.5 and 13)."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final, TypeVar

import msgspec

from fleet.cloud.simulator.refusals import Refused
from fleet.cloud.simulator.reinstall import Order
from fleet.cloud.simulator.things import ImageRecord, Server, Show
from fleet.cloud.simulator.world import World

T = TypeVar("T")

MAX_USER_DATA: Final = 32 * 1024
"""Bytes before base64."""
MAX_BATCH: Final = 1000
_PASSWORD: Final = re.compile(r"[A-Za-z0-9!@$%^\-_=+\[{}\]:,./?~#*]{8,26}")
_CLASSES: Final = (r"[a-z]", r"[A-Z]", r"[0-9]", r"[!@$%^\-_=+\[{}\]:,./?~#*]")


class OrderMetadata(msgspec.Struct, frozen=True):
    """The part ``metadata`` of a reinstall's body. Unknown fields are passed over, as the cloud does."""

    user_data: str = ""
    byol: str = msgspec.field(default="", name="BYOL")


class OrderBody(msgspec.Struct, frozen=True):
    """The body of a reinstall or of a change of OS, below its root."""

    keyname: str = ""
    adminpass: str = ""
    userid: str = ""
    mode: str = ""
    imageid: str = ""
    metadata: OrderMetadata = msgspec.field(default_factory=OrderMetadata)


class _ReinstallRoot(msgspec.Struct, frozen=True):
    order: OrderBody = msgspec.field(name="os-reinstall")


class _ChangeRoot(msgspec.Struct, frozen=True):
    order: OrderBody = msgspec.field(name="os-change")


class Target(msgspec.Struct, frozen=True):
    """A server of a batch."""

    id: str


class Batch(msgspec.Struct, frozen=True):
    """What a batch call carries below its root."""

    servers: list[Target]
    type: str = ""


class BatchBody(msgspec.Struct, frozen=True):
    """The body of a batch call; exactly one root is set."""

    stop: Batch | None = msgspec.field(default=None, name="os-stop")
    start: Batch | None = msgspec.field(default=None, name="os-start")
    reboot: Batch | None = None


_REINSTALL: Final = msgspec.json.Decoder(_ReinstallRoot)
_CHANGE: Final = msgspec.json.Decoder(_ChangeRoot)
_BATCH: Final = msgspec.json.Decoder(BatchBody)


def decode_batch(body: bytes) -> tuple[str, Batch]:
    """Read a batch call: what to do (``stop``, ``start``, ``reboot``) and with whom."""
    batch = _decode(_BATCH, body)
    found = [
        (kind, part)
        for kind, part in (("stop", batch.stop), ("start", batch.start), ("reboot", batch.reboot))
        if part is not None
    ]
    if len(found) != 1 or not found[0][1].servers:
        raise Refused("Ecs.0005")
    kind, part = found[0]
    if part.type not in (
        {"", "SOFT", "HARD"} if kind == "stop" else {"SOFT", "HARD"} if kind == "reboot" else {""}
    ):
        raise Refused("Ecs.0005", f"Invalid request body: type {part.type!r}.")
    if len(part.servers) > MAX_BATCH:
        raise Refused(
            "Ecs.0118",
            f"The number of ECSs {len(part.servers)} is greater than the maximum number {MAX_BATCH}.",
        )
    return kind, part


def decode_order(body: bytes, *, change: bool) -> OrderBody:
    """Read the body of a reinstall, or of a change of OS."""
    return _decode(_CHANGE, body).order if change else _decode(_REINSTALL, body).order


def _decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    if not body:
        raise Refused("Common.0002")
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as error:
        raise Refused("Ecs.0005", f"Invalid request body. {error}") from None


def unfit_for(kind: str, server: Server | None, *, hard: bool) -> Refused | None:
    """Return why a server cannot be stopped, started or rebooted now, or None."""
    if server is None:
        return Refused("Ecs.0614")
    busy = server.operation
    if server.locked:
        return Refused("Ecs.0605")
    if busy and not (kind == "stop" and hard and busy.kind == "stop" and not busy.hard):
        # A hard stop is the documented way out of a soft one that hangs.
        return unstable(server)
    if server.spec.metadata.get("EcmResStatus") == "freeze":
        return Refused("Ecs.0030")
    wanted = Show.OFF if kind == "start" else Show.ACTIVE
    if busy is None and server.show is not wanted:
        return Refused("Ecs.0100", f"The status of ECS {server.id} does not meet requirements.")
    if kind == "start" and server.system_disk is None:
        return Refused("Ecs.0105")
    return None


def unstable(server: Server) -> Refused:
    """Return the refusal of a server that is being worked on."""
    task = server.show.value[2] or (server.operation.kind if server.operation else "unknown")
    return Refused(
        "Ecs.0603", f"The running state {task} of ECS {server.id} is unstable. Try again in 1 minute."
    )


def may_reinstall(world: World, server: Server | None, body: OrderBody, user_id: str, *, call: str) -> Order:
    """Return the order if the cloud takes it.

    Raises:
        Refused: It does not.
    """
    _check_body(body, call)
    if server is None:
        raise Refused("Ecs.0114")
    _check_server(world, server, body)
    change = call.startswith("changeOs")
    image_id = body.imageid if change else server.image
    _check_image(world.images.get(image_id))
    if body.keyname and (body.userid or user_id, body.keyname) not in world.key_pairs:
        raise Refused(
            "Ecs.0314",
            f"Failed to obtain the key pair. Reason: the key pair {body.keyname} could not be found.",
        )
    quota = world.behaviour.volume_quota
    if quota is not None and world.volumes() >= quota:
        raise Refused("Ecs.0021")
    return Order(
        key_name=body.keyname,
        user_data=base64.b64decode(body.metadata.user_data).decode("utf-8", "replace"),
        image=image_id if change else "",
        call=call,
    )


def _check_body(body: OrderBody, call: str) -> None:
    if body.keyname and body.adminpass:
        raise Refused("Ecs.0005", "Invalid request body: keyname and adminpass are exclusive.")
    with_cloud_init = call.endswith("V2")
    if not (body.keyname or body.adminpass or (with_cloud_init and body.metadata.user_data)):
        raise Refused("Ecs.0005", "Invalid request body: keyname or adminpass is needed.")
    if body.adminpass and not is_strong(body.adminpass):
        raise Refused("Ecs.0011")
    if body.mode not in {"", "withStopServer"}:
        raise Refused("Ecs.0005", f"Invalid request body: mode {body.mode!r}.")
    if call.startswith("changeOs") and not body.imageid:
        raise Refused("Ecs.0005", "Invalid request body: imageid is needed.")
    try:
        decoded = base64.b64decode(body.metadata.user_data, validate=True)
    except (binascii.Error, ValueError):
        raise Refused("Ecs.0005", "Invalid request body: user_data is not base64.") from None
    if len(decoded) > MAX_USER_DATA:
        raise Refused("Ecs.0005", "Invalid request body: user_data is larger than 32 KB.")


def is_strong(password: str) -> bool:
    """Tell whether a password has 8 to 26 characters of at least three classes (reference, section 2.3)."""
    classes = sum(re.search(pattern, password) is not None for pattern in _CLASSES)
    return _PASSWORD.fullmatch(password) is not None and classes >= 3


def _check_server(world: World, server: Server, body: OrderBody) -> None:
    if server.locked:
        raise Refused("Ecs.0605")
    if server.spec.metadata.get("EcmResStatus") == "freeze":
        raise Refused("Ecs.0030")
    busy = server.operation
    if busy:
        queued = busy.kind == "reinstall" and not busy.begun
        if queued and world.behaviour.doubles_while_queued:
            return
        raise unstable(server)
    stopped = server.show is Show.OFF or server.reinstall_failed
    tolerant = not world.behaviour.strict and server.show is Show.ACTIVE
    if not (stopped or tolerant or (body.mode and server.show is Show.ACTIVE)):
        raise Refused("Ecs.0100")
    if server.system_disk is None:
        raise Refused("Ecs.0105")


def _check_image(image: ImageRecord | None) -> None:
    if image is None:
        raise Refused("Ecs.0031")
    if image.status != "active":
        raise Refused("Ecs.0032")
    if image.kind != "FusionCompute":
        raise Refused("Ecs.0007", f"The image does not support this operation: {image.kind}.")
