"""Nova's, Glance's and Keystone's answers, made into values.

Tolerant, and strict where it matters, as `fleet.cloud.ecs.parse` is: a field that is absent or of another
type is "not known"; an answer that lacks the very thing asked for is a `BadAnswer`. Nothing raw is kept: a
server's description can carry user data, and the answer to a rebuild carries a password.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from fleet.cloud.ecs.parse import BadAnswer, clean, decode
from fleet.core.model import Disk, Image, KeyPair, Server, ServerId

OLD_MARK = "fleet_reinstall"
"""Metadata that rebuilds of ours left, before they left all metadata alone."""

REQUEST_ID = re.compile(r"req-[0-9a-fA-F-]{8,64}")
"""Nova's ids of requests. They travel in URLs and journals, so nothing exotic is let in."""

INSTALLS = frozenset({"create", "rebuild", "evacuate"})
"""Actions that put an image onto a server's system disk. Evacuation does so on another host, unless the hosts
share their storage; which of the two is not shown, so it counts."""

POWER = frozenset({"start", "stop", "reboot", *INSTALLS})
"""Actions that Nova takes only when nothing else is being done: one of them ends whatever was before it."""

RUNS_INSTALL = "compute_rebuild_instance"
"""The event that is the work itself. The conductor's own (``rebuild_server``) ends before this one begins, so
"every event has ended" proves nothing."""

UNFIT_FORMATS = {"iso": "an ISO image", "aki": "a kernel image", "ari": "a ramdisk image"}


class Raw(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a server, without what only its list of actions tells.

    Attributes:
        server: All but `Server.system_disk`; its disks are the attached volumes.
        from_volume: It boots from a volume, so Nova names no image.
        in_doubt: Nova cannot reach the cell that knows the server, and gives a stump (microversion 2.69).
    """

    server: Server
    from_volume: bool
    in_doubt: bool

    @property
    def fingerprint(self) -> tuple[str, ...]:
        """What differs whenever Nova has written anything about the server, to the second."""
        seen = self.server
        return (seen.updated, seen.state(), seen.vm_state, seen.image, seen.launched_at, str(seen.power))


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """A line of Nova's log of a server.

    Attributes:
        name: ``rebuild``, ``stop`` …
        failed: Some part of it has failed.
        ended: The work is over; False also where the list does not say.
        reason: Of a failure, if Nova says it to us.
        at: When it was asked for, as Nova wrote it (UTC, without a zone letter); may be empty.
        by: Id of the user who asked.
    """

    name: str
    request: str
    at: str = ""
    by: str = ""
    failed: bool = False
    ended: bool = False
    reason: str = ""


def page(body: bytes) -> tuple[list[Raw], bool]:
    """Return the servers of a page, and whether another one follows."""
    raw = decode(body, dict[str, Any])
    items = raw.get("servers")
    if not isinstance(items, list):
        raise BadAnswer("the answer has no list of servers")
    more = any(link.get("rel") == "next" for link in _mappings(raw.get("servers_links")))
    return [_look(_mapping(item)) for item in items], more


def server(body: bytes, asked: ServerId) -> Raw:
    """Return the server that was asked for."""
    found = _look(_mapping(decode(body, dict[str, Any]).get("server")))
    if found.server.id != asked:
        raise BadAnswer("the answer is about another server")
    return found


def _look(raw: Mapping[str, Any]) -> Raw:
    if not (name := _string(raw.get("id"))):
        raise BadAnswer("a server has no id")
    addresses, public, networks = _addresses(raw.get("addresses"))
    metadata = {key: value for key, value in _mapping(raw.get("metadata")).items() if isinstance(value, str)}
    image = raw.get("image")
    status = _string(raw.get("status")) or "UNKNOWN"
    flavor = _mapping(raw.get("flavor"))
    zone = raw.get("OS-EXT-AZ:availability_zone")
    groups = [_string(group.get("name")) for group in _mappings(raw.get("security_groups"))]
    power = raw.get("OS-EXT-STS:power_state")
    volumes = _mappings(raw.get("os-extended-volumes:volumes_attached"))
    found = Server(
        id=ServerId(name),
        name=_string(raw.get("name")),
        status=status,
        task=_string(raw.get("OS-EXT-STS:task_state")) or None,
        vm_state=_string(raw.get("OS-EXT-STS:vm_state")),
        power=power if isinstance(power, int) and not isinstance(power, bool) else None,
        locked=raw.get("locked") is True,
        image=_string(_mapping(image).get("id")),
        flavor=_string(flavor.get("original_name")) or _string(flavor.get("id")),
        zone=_string(zone),
        key_pair=_string(raw.get("key_name")),
        disks=tuple(
            Disk(id=_string(each["id"]), system=False) for each in volumes if _string(each.get("id"))
        ),
        addresses=addresses,
        public_addresses=public,
        vpcs=networks,
        tags=_tags(raw.get("tags"), metadata),
        security_groups=tuple(dict.fromkeys(group for group in groups if group)),
        created=_string(raw.get("created")),
        updated=_string(raw.get("updated")),
        launched_at=_string(raw.get("OS-SRV-USG:launched_at")),
        fault=clean(_mapping(raw.get("fault")).get("message")),
    )
    stump = status == "UNKNOWN" and "OS-EXT-STS:task_state" not in raw
    return Raw(server=found, from_volume=image == "", in_doubt=stump)


def _tags(tags: object, metadata: Mapping[str, str]) -> dict[str, str]:
    """Return metadata and tags as one: Nova's tags are bare words, what others call tags is its metadata.

    A tag ``key=value`` counts as such. The mark of earlier rebuilds is none: it would look like a change.
    """
    found = {key: value for key, value in metadata.items() if key != OLD_MARK}
    for tag in tags if isinstance(tags, list) else []:
        if isinstance(tag, str) and tag:
            key, _, value = tag.partition("=")
            found.setdefault(key or tag, value)
    return found


def _addresses(value: object) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return fixed addresses, floating ones, and the names of the networks."""
    fixed: list[str] = []
    floating: list[str] = []
    networks = _mapping(value)
    for entries in networks.values():
        for entry in _mappings(entries):
            if address := _string(entry.get("addr")):
                (floating if entry.get("OS-EXT-IPS:type") == "floating" else fixed).append(address)
    return tuple(dict.fromkeys(fixed)), tuple(dict.fromkeys(floating)), tuple(networks)


def actions(body: bytes) -> list[Action]:
    """Return Nova's log of a server, the newest line first, as Nova gives it."""
    raw = decode(body, dict[str, Any]).get("instanceActions")
    if not isinstance(raw, list):
        raise BadAnswer("the answer has no list of actions")
    return [_action(item) for item in _mappings(raw)]


def action(body: bytes, asked: str) -> Action:
    """Return the line that was asked for, with what its events tell."""
    raw = _mapping(decode(body, dict[str, Any]).get("instanceAction"))
    if _string(raw.get("request_id")) != asked:
        raise BadAnswer("the answer is about another action")
    return _action(raw)


def _action(raw: Mapping[str, Any]) -> Action:
    events = _mappings(raw.get("events"))
    errors = [event for event in events if _string(event.get("result")).lower() == "error"]
    over = any(event.get("event") == RUNS_INSTALL and event.get("finish_time") for event in events)
    failed = bool(errors) or _string(raw.get("message")).lower() == "error"
    return Action(
        name=_string(raw.get("action")),
        request=_string(raw.get("request_id")),
        at=_string(raw.get("start_time")),
        by=_string(raw.get("user_id")),
        failed=failed,
        ended=failed or over,
        reason=next((why for event in errors if (why := clean(event.get("details")))), ""),
    )


def image(body: bytes, asked: str) -> Image:
    """Return the image that was asked for (Glance v2)."""
    raw = decode(body, dict[str, Any])
    if _string(raw.get("id")) != asked:
        raise BadAnswer("the answer is not about the image asked for")
    status = _string(raw.get("status"))
    fit = UNFIT_FORMATS.get(_string(raw.get("disk_format")), "")
    return Image(
        id=asked,
        name=_string(raw.get("name")),
        fit=f"status {clean(status, 40)}" if status and status != "active" else fit,
        os_type=_string(raw.get("os_type")).capitalize() or "Linux",
    )


def key_pair(body: bytes, asked: str) -> KeyPair:
    """Return the key pair that was asked for."""
    raw = _mapping(decode(body, dict[str, Any]).get("keypair"))
    if _string(raw.get("name")) != asked:
        raise BadAnswer("the answer is not about the key pair asked for")
    return KeyPair(
        name=asked, user_id=_string(raw.get("user_id")), fingerprint=_string(raw.get("fingerprint"))
    )


def newest_microversion(body: bytes) -> tuple[int, int]:
    """Return the newest microversion of a Nova, from the description of its version 2.1.

    Raises:
        BadAnswer: It is none, or one without microversions.
    """
    raw = decode(body, dict[str, Any])
    found = [_mapping(raw.get("version")), *_mappings(raw.get("versions"))]
    for version in found:
        words = _string(version.get("version")).split(".")
        if len(words) == 2 and all(word.isascii() and word.isdigit() for word in words):
            return int(words[0]), int(words[1])
    raise BadAnswer("the answer names no microversion")


def nothing(body: bytes) -> None:
    """Read nothing: stop and start answer with an empty body."""
    del body


def as_json(value: object) -> bytes:
    """Return a request's body."""
    return json.dumps(value, separators=(",", ":")).encode()


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _mappings(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
