"""A run as a document: every figure of it once, for HTML, JSON, CSV, JUnit and Markdown."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fleet.core.causes import in_common, signature
from fleet.core.rollout import allowed, why_waiting
from fleet.core.state import IN_FLIGHT, Phase, Run, ServerState
from fleet.report.status import Seen, as_data, outside_of
from fleet.report.timeline import Timeline

SHARES = (50, 95, 100)
"""Percentiles of a phase's durations that are told; 100 is the longest."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Servers that failed alike.

    Attributes:
        phase: Where they failed.
        words: The first one's reason.
        requests: Request ids that the cloud's support asks for.
        shared: What they have in common that no verified server has, in words.
        retry: The command that gives these very servers another try, once the cause is mended.
    """

    phase: str
    code: str
    words: str
    hint: str
    servers: tuple[ServerState, ...]
    requests: tuple[str, ...]
    shared: tuple[str, ...]
    retry: str


@dataclass(frozen=True, slots=True)
class PhaseTimes:
    """How long finished stays in a phase took: nearest-rank percentiles in seconds, by `SHARES`."""

    phase: str
    count: int
    seconds: tuple[float, ...]


def causes_of(run: Run, name: str) -> list[Cause]:
    """Return failed servers by cause, the commonest first.

    Args:
        run: As the journal tells it.
        name: What the command line finds the run by.
    """
    called = Counter(server.member.name for server in run.servers.values())
    alike: dict[tuple[Phase | None, str], list[ServerState]] = {}
    for server in run.servers.values():
        if server.phase is Phase.FAILED:
            alike.setdefault(signature(server), []).append(server)
    found = [
        Cause(
            phase=failed_while(servers[0]),
            code=servers[0].code or "",
            words=servers[0].reason,
            hint=servers[0].hint,
            servers=tuple(servers),
            requests=tuple(server.request_id for server in servers if server.request_id),
            shared=tuple(in_common(run, servers)),
            retry=shlex.join(
                ["fleet", "retry", name]
                + [each.label if called[each.member.name] == 1 else each.id for each in servers]
            )
            + " --reason …",
        )
        for servers in alike.values()
    ]
    return sorted(found, key=lambda cause: -len(cause.servers))


def failed_while(server: ServerState) -> str:
    """Return what failed, in a word: after a failed job a server is asked to stop for another attempt."""
    if server.failed_in is Phase.STOPPING and server.sent:
        return str(Phase.REINSTALLING)
    return str(server.failed_in or "")


def waiting_by_reason(
    run: Run, now: datetime, worked_on: str | None, seen: Seen | None = None
) -> list[tuple[str, list[ServerState]]]:
    """Return servers that were never touched, by the reason, the commonest first."""
    around = outside_of(run, now, worked_on, seen)
    found: dict[str, list[ServerState]] = {}
    for server in run.servers.values():
        if server.phase is Phase.WAITING:
            found.setdefault(why_waiting(run, server, around) or "", []).append(server)
    return sorted(found.items(), key=lambda pair: -len(pair[1]))


def phase_times(timeline: Timeline) -> list[PhaseTimes]:
    """Return the durations of every phase that somebody has been through."""
    found = []
    for phase in Phase:
        if phase in IN_FLIGHT and (took := sorted(timeline.seconds_in(phase))):
            ranks = tuple(took[max(0, -(-share * len(took) // 100) - 1)] for share in SHARES)
            found.append(PhaseTimes(str(phase), len(took), ranks))
    return found


def out_limit(run: Run) -> int | None:
    """Return how many servers the plan lets be out of service at once, or None where it sets no limit."""
    limits = [
        None
        if (most := target.rollout.max_unavailable) is None
        else allowed(most, run.targets[target.name].size)
        for target in run.settings.targets
    ]
    known = [limit for limit in limits if limit is not None]
    return sum(known) if len(known) == len(limits) else None


def as_document(
    timeline: Timeline, *, worked_on: str | None, now: datetime, name: str, seen: Seen | None = None
) -> dict[str, Any]:
    """Return everything, for JSON: what `status` says, and the story. Times are UTC, durations seconds."""
    run = timeline.run
    found = as_data(run, worked_on=worked_on, now=now, name=name, seen=seen)
    for row in found["servers"]:
        row["spans"] = [
            {"phase": str(span.phase), "begin": span.begin, "end": span.end}
            for span in timeline.spans.get(row["id"], ())
        ]
    return found | {
        "made_at": now,
        "journal_events": timeline.events,
        "most_out_of_service": timeline.most_out(),
        "max_unavailable": out_limit(run),
        "nights": [
            {
                "begin": life.begin, "end": life.end, "host": life.host, "admitted": life.admitted,
                "verified": life.verified, "failed": life.failed, "last_word": life.last_word,
            }
            for life in timeline.lives
        ],
        "phases": [
            {"phase": each.phase, "count": each.count}
            | {f"p{share}_s": took for share, took in zip(SHARES, each.seconds, strict=True)}
            for each in phase_times(timeline)
        ],
        "causes": [
            {
                "phase": cause.phase, "code": cause.code or None, "reason": cause.words,
                "hint": cause.hint or None,
                "servers": [server.label for server in cause.servers], "request_ids": list(cause.requests),
                "in_common": list(cause.shared), "next": cause.retry,
            }
            for cause in causes_of(run, name)
        ],
        "never_touched": [
            {"reason": reason, "servers": [server.label for server in servers]}
            for reason, servers in waiting_by_reason(run, now, worked_on, seen)
        ],
        "notes": [
            {"at": note.at, "what": note.what, "server": note.server, "by": note.by or None}
            for note in timeline.notes
        ],
    }  # fmt: skip


def out_series(timeline: Timeline) -> Iterator[tuple[datetime, int]]:
    """Yield the moments at which the number of servers out of service changed, with the new number."""
    for at, numbers in timeline.out:
        yield at, sum(numbers.values())
