"""The audit trail (CTS) of reinstalls: who asked for which, by a record that is not ours.

Source: CTS API reference, "Querying a Trace List" (v3), and ECS operations that it records. An asynchronous
call has two traces, the request and minutes later its result; both carry the job.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import msgspec

from fleet.cloud.api import Wipe
from fleet.cloud.ecs.parse import BadAnswer
from fleet.core.model import JobId, ServerId

NAMES = ("reinstallOs", "reinstallOsV2", "changeOs", "changeOsV2")
PAGE = 200
"""Traces of a page; the documented maximum."""

KEPT = timedelta(days=7)
"""How long traces are kept."""

LATE_S = 600.0
"""Traces come after minutes; the built-in cloud's after up to five."""

_SKEW = timedelta(minutes=5)


class Trace(msgspec.Struct, frozen=True):
    """One trace, as far as we look at it."""

    trace_name: str = ""
    resource_id: str = ""
    resource_name: str | None = None
    user: Any = None
    code: Any = None
    trace_rating: str | None = None
    response: Any = None
    request_id: str | None = None
    trace_id: str = ""
    time: int = 0


class _Meta(msgspec.Struct, frozen=True):
    marker: str | None = None


class _Page(msgspec.Struct, frozen=True):
    traces: list[Trace]
    meta_data: _Meta = msgspec.field(default_factory=_Meta)


def path(name: str, since: datetime, until: datetime, marker: str | None) -> str:
    """Return the path of a page of the traces of one name."""
    begin, end = (int(at.timestamp() * 1000) for at in (since, until + _SKEW))
    behind = f"&next={quote(marker, safe='')}" if marker else ""
    return (
        f"/v3/{{project}}/traces?trace_type=system&service_type=ECS&resource_type=ecs&trace_name={name}"
        f"&from={begin}&to={end}&limit={PAGE}{behind}"
    )


def page(body: bytes) -> tuple[list[Trace], str | None]:
    """Return the traces of a page, and behind which the next page begins, if there is one."""
    try:
        found = msgspec.json.decode(body, type=_Page)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadAnswer(f"not what was asked for: {error}") from None
    return found.traces, found.meta_data.marker or None


def wipes(traces: Iterable[Trace]) -> tuple[Wipe, ...]:
    """Return the requests that the traces tell of, each once."""
    together: dict[tuple[str, str], list[Trace]] = {}
    for trace in traces:
        if trace.resource_id:
            about = _job(trace) or trace.request_id or trace.trace_id
            together.setdefault((trace.resource_id, about), []).append(trace)
    found = []
    for (server, _), some in together.items():
        first = min(some, key=lambda trace: trace.time)
        job = next(filter(None, map(_job, some)), None)
        found.append(
            Wipe(
                server=ServerId(server),
                at=datetime.fromtimestamp(first.time / 1000, UTC),
                by=_by(first),
                call=first.trace_name,
                accepted=job is not None or _is_good(first),
                job=JobId(job) if job else None,
                name=first.resource_name or "",
            )
        )
    return tuple(found)


def _is_good(trace: Trace) -> bool:
    code = str(trace.code or "")
    return code.startswith("2") if code.isdigit() else trace.trace_rating == "normal"


def _job(trace: Trace) -> str | None:
    """Return the job of a trace; answers are recorded as objects or as text."""
    answer = trace.response
    if isinstance(answer, str):
        try:
            answer = msgspec.json.decode(answer)
        except (msgspec.DecodeError, UnicodeError):
            return None
    job = answer.get("job_id") if isinstance(answer, dict) else None
    return job if isinstance(job, str) and job else None


def _by(trace: Trace) -> str:
    user = trace.user
    if isinstance(user, str):
        try:
            user = msgspec.json.decode(user)
        except (msgspec.DecodeError, UnicodeError):
            return str(user)
    if isinstance(user, dict):
        return str(user.get("name") or user.get("id") or "")
    return ""
