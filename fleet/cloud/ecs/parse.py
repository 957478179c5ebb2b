"""The cloud's answers, made into `fleet.core.model` values.

Tolerant, and strict where it matters. Any field can be absent, null or of another type (ECS API
reference: every field of a server but its id; recordings bear it out), and becomes "not known". But an
answer that is no JSON, that lacks the very thing asked for, or that is about something else than what was
asked, is a `BadAnswer`: a login page with status 200 must not read as "no servers".

Only what is used is decoded: user data, which may hold password hashes, is skipped by the decoder and
never becomes an object. No raw body is kept, in no error either.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Hashable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from functools import cache
from sys import intern
from typing import Any, TypeVar

import msgspec

from fleet.core import claimtag
from fleet.core.model import Disk, Image, Job, JobId, JobStatus, KeyPair, Server, ServerId
from fleet.secrets import redact

T = TypeVar("T")

MAX_TEXT = 300
"""Characters that are kept of a text of the cloud's: enough for its longest documented messages."""

JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
"""32 hex digits by the documents. It travels in URLs and journals, so nothing exotic is let in."""

UNFIT_FLAVORS = ("d2.", "h2.")
"""Families that cannot be reinstalled (ECS API reference, constraints: D2 in one edition, H2 in another)."""

BARE_METAL_TAG = "__type_baremetal"


class BadAnswer(Exception):
    """Not an answer to what was asked. The text has no part of the body in it."""


class _RawServer(msgspec.Struct):
    """The fields of a server that are looked at, of whatever type they arrive."""

    id: Any = None
    name: Any = None
    status: Any = None
    vm_state: Any = msgspec.field(name="OS-EXT-STS:vm_state", default=None)
    task_state: Any = msgspec.field(name="OS-EXT-STS:task_state", default=None)
    power_state: Any = msgspec.field(name="OS-EXT-STS:power_state", default=None)
    locked: Any = None
    fault: Any = None
    created: Any = None
    updated: Any = None
    launched_at: Any = msgspec.field(name="OS-SRV-USG:launched_at", default=None)
    key_name: Any = None
    image: Any = None
    flavor: Any = None
    addresses: Any = None
    security_groups: Any = None
    volumes: Any = msgspec.field(name="os-extended-volumes:volumes_attached", default=None)
    root_device: Any = msgspec.field(name="OS-EXT-SRV-ATTR:root_device_name", default=None)
    zone: Any = msgspec.field(name="OS-EXT-AZ:availability_zone", default=None)
    metadata: Any = None
    tags: Any = None
    sys_tags: Any = None
    enterprise_project_id: Any = None


class _RawId(msgspec.Struct):
    id: Any = None


class _RawPage(msgspec.Struct):
    """A page, its servers still JSON: who is not asked for is skipped, not decoded."""

    servers: list[msgspec.Raw]
    count: Any = None


class _RawOne(msgspec.Struct):
    server: _RawServer


@cache
def _decoder(kind: Hashable) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def decode(body: bytes | msgspec.Raw, kind: type[T]) -> T:
    """Decode JSON into *kind*.

    Raises:
        BadAnswer: It is no JSON, or not of that shape.
    """
    try:
        found: T = _decoder(kind).decode(body)  # type: ignore[arg-type]  # a type can be hashed
    except RecursionError:
        raise BadAnswer("the answer is nested too deeply") from None
    except msgspec.ValidationError as error:
        # Says types and a path, no values; but the path may quote a key.
        raise BadAnswer(f"the answer has another shape: {clean(str(error))}") from None
    except (msgspec.MsgspecError, ValueError):
        raise BadAnswer(f"the answer is no JSON ({len(bytes(body))} bytes)") from None
    return found


def clean(text: object, limit: int = MAX_TEXT) -> str:
    """Return a text of the cloud's fit to be shown: one line, short, no secrets, no control characters."""
    if not isinstance(text, str):
        return ""
    # Before cutting: half a secret is not recognised any more. Far beyond the limit nothing is looked at.
    shown = redact(text[: 64 * 1024])
    plain = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in shown[: 8 * limit])
    line = " ".join(plain.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


class Page(msgspec.Struct, frozen=True):
    """One page of the list of servers.

    Attributes:
        ids: Of all servers on it, in the cloud's order.
        servers: Those of them that were wanted.
        made_from: The same by the JSON that each was made from, where *only* some were.
        count: How many there are in all, as the cloud says.
    """

    ids: list[ServerId]
    servers: list[Server]
    count: int | None
    made_from: dict[bytes, Server] = {}


def page(
    body: bytes, only: AbstractSet[ServerId] | None = None, known: Mapping[bytes, Server] | None = None
) -> Page:
    """Return one page.

    Args:
        body: The answer.
        only: Make these servers of it and no others, which costs a tenth where they are few.
        known: Servers of an earlier page: whoever has not changed by one byte is not made anew.
    """
    raw = decode(body, _RawPage)
    if only is None:
        servers = [_server(decode(item, _RawServer)) for item in raw.servers]
        return Page([each.id for each in servers], servers, _integer(raw.count))
    known = known or {}
    # Of everybody's page little is known: reading an id costs less than looking all of its bytes up.
    look_up = len(raw.servers) <= 2 * len(only)
    ids: list[ServerId] = []
    made_from: dict[bytes, Server] = {}
    for item in raw.servers:
        text = bytes(item) if look_up else b""
        seen = known.get(text)
        identity = seen.id if seen is not None else _id(decode(item, _RawId).id)
        ids.append(identity)
        if identity in only:
            text = text or bytes(item)
            made_from[text] = seen or known.get(text) or _server(decode(item, _RawServer))
    return Page(ids, list(made_from.values()), _integer(raw.count), made_from)


def server(body: bytes, asked: ServerId) -> Server:
    """Return the one server that was asked for."""
    found = _server(decode(body, _RawOne).server)
    if found.id != asked:
        raise BadAnswer("the answer is about another server")
    return found


def _id(value: object) -> ServerId:
    if not (identity := _string(value)):
        raise BadAnswer("the answer has a server without an id")
    return ServerId(identity)


def _server(raw: _RawServer) -> Server:
    # What many servers have in common is kept once: half a kilobyte of each.
    metadata = _mapping(raw.metadata)
    tags = _tags(raw.tags)
    fixed, floating, networks = _addresses(raw.addresses)
    vpc = _string(metadata.get("vpc_id"))
    flavor = _mapping(raw.flavor)
    flavor_id = _string(flavor.get("id")) or _string(flavor.get("name"))
    return Server(
        id=_id(raw.id),
        name=_string(raw.name),
        status=intern(_string(raw.status).upper() or "UNKNOWN"),
        task=_string(raw.task_state) or None,
        vm_state=intern(_string(raw.vm_state)),
        power=_integer(raw.power_state),
        locked=_truth(raw.locked),
        # The original image is the one of the metadata: that is what a reinstall installs.
        image=intern(_string(metadata.get("metering.image_id")) or _string(_mapping(raw.image).get("id"))),
        flavor=intern(flavor_id),
        zone=intern(_string(raw.zone)),
        key_pair=intern(_string(raw.key_name)),
        enterprise_project=intern(_string(raw.enterprise_project_id) or _system_tag(raw.sys_tags)),
        disks=_disks(raw.volumes, _string(raw.root_device)),
        addresses=fixed,
        public_addresses=floating,
        vpcs=_unique([*([vpc] if vpc else []), *networks]),
        tags={key: value for key, value in tags.items() if not key.startswith(claimtag.PREFIX)},
        claims={key: value for key, value in tags.items() if key.startswith(claimtag.PREFIX)},
        security_groups=_unique(
            _string(group.get("name")) or _string(group.get("id")) for group in _mappings(raw.security_groups)
        ),
        created=_string(raw.created),
        updated=_string(raw.updated),
        launched_at=_string(raw.launched_at),
        fault=clean(_mapping(raw.fault).get("message") or raw.fault),
        bare_metal=BARE_METAL_TAG in tags,
        spot=_string(metadata.get("charging_mode")) == "2",
        unfit=_unfit(metadata, flavor_id),
    )


def _unfit(metadata: Mapping[str, object], flavor: str) -> tuple[str, ...]:
    """Say why the cloud would refuse a reinstall (ECS API reference, constraints and metadata fields)."""
    reasons = []
    if _string(metadata.get("EcmResStatus")).lower() == "freeze":
        reasons.append("frozen")
    if _string(metadata.get("lockSource")).upper() == "ORDER":
        reasons.append("order lock: its billing is being changed")
    if _string(metadata.get("virtual_env_type")).lower() == "isoimage":
        reasons.append("built from an ISO image")
    if flavor.lower().startswith(UNFIT_FLAVORS):
        reasons.append(f"flavor {flavor} cannot be reinstalled")
    return tuple(reasons)


def _disks(value: object, root_device: str) -> tuple[Disk, ...]:
    """Return the disks; the system disk by its boot index, or where none says so by its device."""
    volumes = [item for item in _mappings(value) if _string(item.get("id"))]
    indexes = [_integer(item.get("bootIndex")) for item in volumes]
    by_device = 0 not in indexes and bool(root_device)
    return tuple(
        Disk(
            id=_string(item["id"]),
            system=index == 0 or (by_device and index is None and _string(item.get("device")) == root_device),
            device=intern(_string(item.get("device"))),
        )
        for item, index in zip(volumes, indexes, strict=True)
    )


def _addresses(value: object) -> tuple[tuple[str, ...], tuple[str, ...], list[str]]:
    """Return fixed addresses, the primary first; floating ones; and the networks' ids."""
    fixed: list[tuple[bool, str]] = []
    floating: list[str] = []
    networks = _mapping(value)
    for entries in networks.values():
        for entry in _mappings(entries):
            if not (address := _string(entry.get("addr"))):
                continue
            if _string(entry.get("OS-EXT-IPS:type")) == "floating":
                floating.append(address)
            else:
                fixed.append((not _truth(entry.get("primary")), address))
    fixed.sort(key=lambda item: item[0])  # stable: the cloud's order otherwise
    return _unique(address for _, address in fixed), _unique(floating), list(networks)


def _tags(value: object) -> dict[str, str]:
    """Return tags from ``["key=value", "key"]``; from objects too, as the tag calls write them."""
    found: dict[str, str] = {}
    for item in value if isinstance(value, list) else []:
        if isinstance(item, str):
            key, _, text = item.partition("=")
            if key:
                found[intern(key)] = text
        elif isinstance(item, dict) and (key := _string(item.get("key"))):
            found[intern(key)] = _string(item.get("value"))
    return found


def _system_tag(value: object) -> str:
    return _tags(value).get("_sys_enterprise_project_id", "")


JOB_STATUSES = {
    "SUCCESS": JobStatus.SUCCESS,
    "FAIL": JobStatus.FAIL,
    # Waits for a payment that fleet will not make, and is cleaned away after 14 days.
    "PENDING_PAYMENT": JobStatus.FAIL,
}
"""Every other word, known (``INIT``, ``RUNNING``) or not, means that it is not over."""

GENERIC_FAILURES = frozenset({"", "Common.0020", "Common.0021", "Common.0022"})
"""Codes of a parent that only say that a part of it failed."""


def job(body: bytes, asked: JobId) -> Job:
    """Return the job that was asked for; sub jobs give the status by server."""
    raw = decode(body, dict[str, Any])
    if not (word := _string(raw.get("status"))):
        raise BadAnswer("the answer has no job status")
    if _string(raw.get("job_id")) not in {"", asked}:
        raise BadAnswer("the answer is about another job")
    status = _job_status(word)
    code, reason = _failure(raw)
    entities = _mapping(raw.get("entities"))
    servers: dict[ServerId, JobStatus] = {}
    if own := _string(entities.get("server_id")):
        servers[ServerId(own)] = status
    for sub in _mappings(entities.get("sub_jobs")):
        sub_status = _job_status(_string(sub.get("status")))
        if name := _string(_mapping(sub.get("entities")).get("server_id")):
            servers[ServerId(name)] = sub_status
        if sub_status is JobStatus.FAIL and code in GENERIC_FAILURES:
            sub_code, sub_reason = _failure(sub)
            code, reason = sub_code or code, sub_reason or reason
    failed = status is JobStatus.FAIL
    return Job(
        id=asked,
        status=status,
        servers=servers,
        code=code if failed else "",
        reason=(reason or f"job status {clean(word, 40)}") if failed else "",
    )


def _job_status(word: str) -> JobStatus:
    return JOB_STATUSES.get(word.upper(), JobStatus.RUNNING)


def _failure(raw: Mapping[str, object]) -> tuple[str, str]:
    if _string(raw.get("status")).upper() == "PENDING_PAYMENT":
        return _string(raw.get("error_code")), "the order waits for its payment"
    inner = _mapping(raw.get("entities")).get("errorcode_message")
    return clean(raw.get("error_code"), 40), clean(raw.get("fail_reason")) or clean(inner)


def job_id(body: bytes) -> JobId | None:
    """Return the id of the job that an order was answered with, or None when it is not there."""
    found = _string(decode(body, dict[str, Any]).get("job_id"))
    return JobId(found) if JOB_ID.fullmatch(found) else None


VIRTUAL_ENVIRONMENTS = {
    "dataimage": "a data disk image",
    "isoimage": "an ISO image",
    "ironic": "a bare-metal image",
}


def image(body: bytes, asked: str) -> Image:
    """Return the image that was asked for."""
    raw = decode(body, dict[str, Any])
    if _string(raw.get("id")) != asked:
        raise BadAnswer("the answer is not about the image asked for")
    return Image(
        id=asked,
        name=_string(raw.get("name")),
        # Set and true: injection by cloud-init is not supported (image attributes). Absent: it is.
        cloud_init=not _truth(raw.get("__support_fc_inject")),
        fit=_image_fit(raw),
        os_type=_string(raw.get("__os_type")) or "Linux",
    )


def _image_fit(raw: Mapping[str, object]) -> str:
    status = _string(raw.get("status"))
    if status and status.lower() != "active":
        return f"status {clean(status, 40)}"
    environment = _string(raw.get("virtual_env_type")).lower()
    if environment and environment != "fusioncompute":
        return VIRTUAL_ENVIRONMENTS.get(environment, "an image of another kind than a system disk's")
    if _string(raw.get("__isregistered")).lower() not in {"", "true"}:
        return "not registered"
    return ""


def key_pair(body: bytes, asked: str) -> KeyPair:
    """Return the key pair that was asked for."""
    raw = _mapping(decode(body, dict[str, Any]).get("keypair"))
    if _string(raw.get("name")) != asked:
        raise BadAnswer("the answer is not about the key pair asked for")
    return KeyPair(
        name=asked, user_id=_string(raw.get("user_id")), fingerprint=_string(raw.get("fingerprint"))
    )


def error_body(body: bytes) -> dict[str, Any]:
    """Return an error's body as an object; empty when it is anything else (HTML, nothing, half of it)."""
    try:
        return decode(body, dict[str, Any])
    except BadAnswer:
        return {}


def nested_object(text: str) -> dict[str, Any]:
    """Return the object that a message carries as text (``itemNotFound`` within ``Ecs.1000``), or nothing."""
    start, end = text.find("{"), text.rfind("}")
    return error_body(text[start : end + 1].encode("utf-8", "replace")) if 0 <= start < end else {}


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _mappings(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


_INTEGER = re.compile(r"\s*-?[0-9]{1,18}\s*", re.ASCII)


def _integer(value: object) -> int | None:
    """Return an integer from a number or a string of one; a truth value is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    return None


def _truth(value: object) -> bool:
    """Return whether a flag is set: it arrives as true, ``"true"`` or ``"True"``."""
    return value is True or (isinstance(value, str) and value.strip().lower() == "true")


def _unique(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(intern(item) for item in items if item))


def as_json(value: object) -> bytes:
    """Return a request's body."""
    return json.dumps(value, separators=(",", ":")).encode()
