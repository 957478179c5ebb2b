"""The audit trail (CTS): what was asked of a server and what came of it, minutes later.

Two traces of an asynchronous call, the request and its result, each 1 to 5 minutes late
(ECS API reference, sections 10 and 13). The way by which a lost job id comes back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from fleet.cloud.simulator.calls import Answer, Backend, Call, Route
from fleet.cloud.simulator.ledger import CallEntry
from fleet.cloud.simulator.settings import uniform
from fleet.cloud.simulator.world import World

_EARLIEST_S: Final = 60.0
_LATEST_S: Final = 300.0
_DEFAULT_LIMIT: Final = 10
_MAX_LIMIT: Final = 200
_NAMES: Final = {"stop": "stopServer", "start": "startServer", "reboot": "rebootServer"}


def _trace_name(entry: CallEntry) -> str | None:
    if entry.kind == "reinstall":
        name = "changeOs" if entry.path.endswith("/changeos") else "reinstallOs"
        return f"{name}V2" if entry.path.startswith("/v2/") else name
    return _NAMES.get(entry.kind)


def _traces(world: World, wanted: str | None, now: float) -> Iterator[dict[str, Any]]:
    """Return what can be seen by now, oldest first."""
    for number, entry in enumerate(world.ledger.entries):
        if not isinstance(entry, CallEntry) or (wanted and wanted not in entry.servers) or not entry.status:
            continue
        name = _trace_name(entry)
        if name is None:
            continue
        late = _EARLIEST_S + (_LATEST_S - _EARLIEST_S) * uniform(world.seed, number)
        for server_id in entry.servers:
            if entry.at + late <= now:
                response = {"job_id": entry.job} if entry.job else {"error": {"code": entry.code}}
                code = str(entry.status)
                yield _trace(world, entry, name, server_id, entry.at, response, code, accepted=entry.accepted)
            job = world.job(entry.job, now) if entry.job else None
            if job and job.end is not None and job.end + late <= now:
                response = {"job_id": entry.job, "status": job.status}
                done = job.status == "SUCCESS"
                yield _trace(
                    world, entry, name, server_id, job.end, response, job.code or "200", accepted=done
                )


def _trace(
    world: World,
    entry: CallEntry,
    name: str,
    server_id: str,
    at: float,
    response: dict[str, str] | dict[str, dict[str, str]],
    code: str,
    *,
    accepted: bool,
) -> dict[str, Any]:
    server = world.find(server_id)
    millis = int(world.calendar.timestamp(at) * 1000)
    return {
        "trace_id": f"{entry.request_id}-{millis}",
        "trace_name": name,
        "trace_rating": "normal" if accepted else "warning",
        "trace_type": "ApiCall",
        "service_type": "ECS",
        "resource_type": "ecs",
        "resource_id": server_id,
        "resource_name": server.name if server else "",
        "request_id": entry.request_id,
        "user": {"name": entry.user},
        "source_ip": "127.0.0.1",
        "response": msgspec.json.encode(response).decode(),  # text, by the vendor's own models
        "code": code,
        "time": millis,
        "record_time": millis,
    }


def list_traces(backend: Backend, call: Call, now: float) -> Answer:
    """``GET /v3/{project}/traces``: newest first, by resource, name and time."""
    world = backend.world

    def given(name: str, default: str) -> str:
        return (call.query.get(name) or (default,))[0]

    def number(name: str, default: int) -> int:
        text = given(name, str(default))
        return int(text) if text.isascii() and text.isdigit() else default

    until = number("to", int(world.calendar.timestamp(now) * 1000))
    since = number("from", until - 3_600_000)
    name = given("trace_name", "")
    found = [
        trace
        for trace in _traces(world, given("resource_id", "") or None, now)
        if since <= trace["time"] <= until and name in {"", trace["trace_name"]}
    ]
    found.sort(key=lambda trace: -int(trace["time"]))
    limit = min(number("limit", _DEFAULT_LIMIT), _MAX_LIMIT)
    ids = [trace["trace_id"] for trace in found]
    start = ids.index(given("next", "")) + 1 if given("next", "") in ids else 0
    page = found[start : start + limit]
    marker = page[-1]["trace_id"] if page and start + limit < len(found) else None
    return Answer(200, {"traces": page, "meta_data": {"count": len(page), "marker": marker}})


AUDIT: Final = (Route("GET", "/v3/{project}/traces", "traces", list_traces, "cts:trace:list"),)
