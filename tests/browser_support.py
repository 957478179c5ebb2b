"""What the tests in a browser share: `fleet watch` as a process, and nights of many servers.

A night is written as the journal that it would have left, which is quicker than running it.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from process_support import Child, Fleet, wait_until
from support import event_for, make_run

from fleet.core import events as ev
from fleet.core.model import ServerId
from fleet.core.settings import Rollout
from fleet.journal import encode_line

WAY = (
    (ev.Stopped, 20), (ev.ReinstallRequested, 1), (ev.ReinstallAccepted, 2), (ev.Reinstalled, 160),
    (ev.Started, 4),
    (ev.ChecksPassed, 12), (ev.Verified, 1),
)  # fmt: skip
FAILURES = (
    ("the reinstall failed: quota exceeded for volumes", "Ecs.0050", ev.ReinstallAccepted),
    ("not verified within 5 min: tcp 22 is closed", None, ev.Reinstalled),
)

AROUND = {"user": "ann", "host": "bastion", "cloud": "https://ecs.eu-de.example", "project": "web"}

Line = tuple[datetime, ev.Event]

RULES = """{runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}"""
"""What axe-core looks for."""


def night(
    begin: datetime, servers: int = 3000, *, concurrency: int = 100, seed: int = 1, every: int = 400
) -> Iterator[Line]:
    """Yield the events of a run in order; every so-many-th server fails.

    Servers need 20 s to stop and 160 s to be reinstalled, more or less. A wave waits for the one before.
    """
    rng = random.Random(seed)
    sizes = (1, 20, max(1, servers // 10), max(1, servers // 5), servers)
    opened = make_run(servers, waves=sizes, concurrency=concurrency, hold_after=servers).opened
    (target,) = opened.settings.targets
    rollout: Rollout = msgspec.structs.replace(target.rollout, max_unavailable=concurrency + 20)
    target = msgspec.structs.replace(target, rollout=rollout)
    settings = msgspec.structs.replace(opened.settings, plan="web-tier", targets=(target,))
    run_id = f"web-tier-{begin:%Y%m%dT%H%M%SZ}-4k2m"
    members = tuple(
        msgspec.structs.replace(
            member, name=f"web-{number:04}", zone=f"eu-de-0{number % 3 + 1}", flavor="s3.large.2"
        )
        for number, member in enumerate(opened.members, 1)
    )
    yield begin, msgspec.structs.replace(opened, run=run_id, members=members, settings=settings, **AROUND)
    at, number = begin, 0
    for wave in range(1, max(member.wave for member in members) + 1):
        waiting = [member.id for member in members if member.wave == wave]
        ready = [at + timedelta(seconds=2)] * min(concurrency, len(waiting))
        lines: list[tuple[datetime, int, ev.Event]] = []
        for server in waiting:
            number += 1
            at = heapq.heappop(ready)
            for at, event in _way(server, at, rng, fails=number % every == every // 2):  # noqa: B020
                lines.append((at, len(lines), event))
            heapq.heappush(ready, at + timedelta(seconds=1))
        for at, _, event in sorted(lines, key=lambda line: line[:2]):
            yield at, event
    yield at + timedelta(seconds=1), ev.RunFinished(verified=0, failed=0, skipped=0)


def _way(server: ServerId, at: datetime, rng: random.Random, *, fails: bool) -> Iterator[Line]:
    yield at, event_for(ev.Admitted, server)
    reason, code, after = FAILURES[rng.randrange(len(FAILURES))]
    for kind, seconds in WAY:
        at += timedelta(seconds=seconds * rng.uniform(0.6, 1.6))
        yield at, event_for(kind, server)
        if fails and kind is after:
            at += timedelta(seconds=60)
            yield at, ev.Failed(server=server, reason=reason, code=code, request_id=f"req-{server}")
            return


def lines_of(story: Iterator[Line]) -> Iterator[tuple[datetime, bytes]]:
    """Yield a journal's lines."""
    crc = 0
    for seq, (at, event) in enumerate(story, 1):
        line, crc = encode_line(seq, at, event, crc)
        yield at, line


def cut_short(folder: Path) -> Path:
    """Write the first eleven minutes of a night of 60 servers, whose process has died just now."""
    path = folder / "night" / "journal.jsonl"
    path.parent.mkdir()
    begin = datetime.now(UTC) - timedelta(minutes=11)
    lines = lines_of(night(begin, 60, concurrency=8, every=20))
    path.write_bytes(b"".join(line for at, line in lines if at <= datetime.now(UTC)))
    return path


@contextmanager
def watched(fleet: Fleet, *arguments: str) -> Iterator[tuple[str, Child]]:
    """Start `fleet watch`; yield the address that it prints."""
    child = fleet.start("watch", *arguments)
    out = fleet.folder / f"{fleet.number}.out"
    yield wait_until(lambda: out.read_text().endswith("\n") and out.read_text().strip(), "the address"), child
    if child.process.poll() is None:
        child.signal(15)
        assert child.wait().code == 0
    assert "Traceback" not in child.err
