"""Which call a request is: the table of calls, and what can be told of a request before it is answered."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

from fleet.cloud.simulator.audit import AUDIT
from fleet.cloud.simulator.calls import READING, Call, Route
from fleet.cloud.simulator.calls_around import AROUND
from fleet.cloud.simulator.calls_changing import CHANGING
from fleet.cloud.simulator.calls_discovery import DISCOVERY
from fleet.cloud.simulator.calls_nova import NOVA
from fleet.cloud.simulator.world import World

_KINDS: Final = {
    "os-stop": "stop",
    "os-start": "start",
    "reboot": "reboot",
    "lock": "lock",
    "unlock": "unlock",
    "rebuild": "reinstall",
}
_ROOT: Final = re.compile(rb'^\s*\{\s*"([a-z-]+)"')
_BATCH_ID: Final = re.compile(rb'"id"\s*:\s*"([^"\\]{1,64})"')


def _by_shape() -> dict[tuple[str, int], list[tuple[tuple[str, ...], Route]]]:
    """Sort the table by method and number of parts; fixed words come before names, as in the table."""
    table: dict[tuple[str, int], list[tuple[tuple[str, ...], Route]]] = {}
    for route in (*DISCOVERY, *READING, *CHANGING, *NOVA, *AUDIT, *AROUND):
        parts = tuple(route.path.split("/")[1:])
        table.setdefault((route.method, len(parts)), []).append((parts, route))
    return table


_TABLE: Final = _by_shape()


def read(method: str, url: str, headers: Mapping[str, str], body: bytes) -> Call:
    """Tell which call a request is; the kind is ``other`` and there is no handler when it is none."""
    split = urlsplit(url)
    lowered = {name.lower(): value for name, value in headers.items()}
    lowered.setdefault("host", split.netloc)
    query: dict[str, list[str]] = {}
    for part in split.query.split("&") if split.query else ():
        name, _, value = part.partition("=")
        query.setdefault(unquote(name), []).append(unquote(value.replace("+", " ")))
    call = Call(method, split.path, split.query, query, lowered, body)
    # A trailing slash is forgiven, as the gateway does.
    parts = tuple(split.path.rstrip("/").split("/")[1:])
    for pattern, route in _TABLE.get((method, len(parts)), ()):
        names = _matched(pattern, parts)
        if names is not None:
            call.project = names.pop("project", "")
            call.kind, call.handler, call.action, call.names = route.kind, route.handler, route.action, names
            break
    if call.kind == "other" and call.handler is not None:
        # An action says in its body what it is. Only its root matters here; the handler reads it properly.
        root = _ROOT.match(body)
        call.kind = _KINDS.get(root[1].decode(), "other") if root else "other"
    return call


def _matched(pattern: tuple[str, ...], parts: tuple[str, ...]) -> dict[str, str] | None:
    names: dict[str, str] = {}
    for wanted, part in zip(pattern, parts, strict=True):
        if wanted.startswith("{"):
            names[wanted[1:-1]] = unquote(part)
        elif wanted != part:
            return None
    return names


def servers_of(world: World, call: Call, now: float) -> tuple[str, ...]:
    """Return the ids of the servers that a call is about, before anybody has checked it."""
    if "server" in call.names:
        return (call.names["server"],)
    if "job" in call.names:
        job = world.job(call.names["job"], now)
        children = [job, *job.children] if job else []
        return tuple(each.server for each in children if each.server)
    if call.kind in {"stop", "start", "reboot"}:
        return tuple(found.decode("utf-8", "replace") for found in _BATCH_ID.findall(call.body))
    return ()
