"""What is told of a run, to whom it may concern: which notices are due, and how each reads.

A notice follows from where the run stands (held, finished, waits for approval, who has failed), not from the
moment at which it came to stand there. So a crash loses none: the next process finds the run as it is, and
who has been told is on the disk (`fleet.notify.Told`). Every notice has keys that say what it is about.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fleet.core import causes
from fleet.core.rollout import approval_awaited
from fleet.core.settings import Settings
from fleet.core.settling import settling
from fleet.core.silence import last_progress, missed, nights_without_progress, ordinal
from fleet.core.state import Phase, Run, ServerState
from fleet.core.windows import spell
from fleet.errors import Exit
from fleet.report.status import Seen, headline, state_word
from fleet.told import Told

SHOWN = 10
"""Servers and windows that a notice names; the rest is counted."""

_SAID_BY_THE_RUN = frozenset({Exit.OK, Exit.FAILED, Exit.HELD, Exit.APPROVAL})
"""Exit codes that other notices stand for."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to tell.

    Attributes:
        event: Of `fleet.core.settings.NOTICES`.
        keys: What it is about, each told once to everybody who wants to hear of it.
        title: In one line, the plan's name first.
        lines: More of it.
        since: Since when it is so.
        servers: Whom it is about.
        nights: Nights without progress.
    """

    event: str
    keys: frozenset[str]
    title: str
    lines: tuple[str, ...] = ()
    since: datetime | None = None
    servers: tuple[ServerState, ...] = ()
    nights: int = 0


@dataclass(frozen=True, slots=True)
class Moment:
    """What one process knows besides the journal.

    Attributes:
        now: The time of day.
        began: When the command began.
        working: It works, or has worked, on the run itself.
        code: What it ends with; None: it goes on.
        why: Why it ends, when that is an error.
        before: The last sign of life before this command: an earlier one, or anything in the journal.
        scheduled: Nobody sits there: what goes wrong before a run begins is told as well.
        seen: Durations of earlier runs of the plan.
    """

    now: datetime
    began: datetime
    working: bool = False
    code: int | None = None
    why: str = ""
    before: datetime | None = None
    scheduled: bool = True
    seen: Seen = ()


def due(
    run: Run | None, settings: Settings, moment: Moment, told: AbstractSet[str] = frozenset()
) -> list[Notice]:
    """Return what is to be told now, less what was told already.

    Args:
        run: The plan's newest run, or None: there is none yet.
        settings: The plan.
        moment: What the process knows besides.
        told: Keys of what was told.
    """
    if moment.code == Exit.LOCKED:  # the process that has the lock tells everything else
        found = [*(_silence(run, moment) if run else ())]
    else:
        found = [*(_of_run(run, moment, told) if run else ()), *_of_call(run, settings, moment)]
    return [notice for notice in found if not notice.keys <= told]


def _of_run(run: Run, moment: Moment, told: AbstractSet[str]) -> Iterator[Notice]:
    """Yield what the run itself says."""
    plan = run.settings.plan
    if moment.working and moment.code is None:
        begun = "begins" if run.lives == 1 else f"is gone on with, for the {ordinal(run.lives - 1)} time"
        yield Notice(
            "started", _key(run, "started", run.lives), f"{plan} {begun}: {headline(run, brief=True)}"
        )
    failed = [
        server
        for server in (run.servers.values() if run.counts()[Phase.FAILED] else ())
        if server.phase is Phase.FAILED and not _key(run, "failed", server.id, server.since) <= told
    ]
    if failed:
        keys = frozenset().union(*(_key(run, "failed", each.id, each.since) for each in failed))
        many = f"{len(failed)} servers" if len(failed) > 1 else failed[0].label
        title = f"{plan}: {many} failed{'' if len(failed) > 1 else f': {failed[0].reason}'}"
        lines = [f"{each.label}: {each.reason}" for each in failed] if len(failed) > 1 else []
        yield Notice("failed", keys, title, _cut(lines), failed[0].since, tuple(failed))
    if run.is_settled:
        if run.finished_at is not None:
            title = f"{plan} is finished: {headline(run, brief=True)}"
            yield Notice("finished", _key(run, "finished", run.finished_at), title, since=run.finished_at)
        return
    if run.held is not None:
        title = f"{plan} is held: {run.held}"
        goes_on = moment.working and moment.code is None and run.in_flight
        settle = (settling(run, moment.now, moment.seen).words(moment.now),) if goes_on else ()
        yield Notice("held", _key(run, "held", run.held_at), title, settle, since=run.held_at)
    for group, reason in run.groups_held:
        words = causes.words(group)
        title = f"{plan}: {words} is held: {reason}"
        yield Notice("held", _key(run, "held", words, reason), title)
    if (awaited := approval_awaited(run)) is not None:
        target, wave = awaited
        since = run.targets[target].waves[wave - 1].settled_at
        title = f"{plan} waits for approval after wave {wave} of {target}"
        yield Notice("needs-approval", _key(run, "needs-approval", target, wave, since), title, since=since)
    yield from _silence(run, moment)


def _silence(run: Run, moment: Moment) -> Iterator[Notice]:
    """Yield that nothing moves: at the end of a command, and of one that goes on when a night is over."""
    ends = moment.code is not None and moment.code != Exit.LOCKED
    if moment.code is None and not nights_without_progress(
        run, moment.now, over=True, watched_from=moment.began
    ):
        return  # this process has not been at it for a night
    if nights := nights_without_progress(run, moment.now, over=not ends):
        since = last_progress(run)
        title = f"{run.settings.plan}: {ordinal(nights)} night without progress: {_why(run, moment)}"
        lines = (f"the last progress was at {spelt(since)}",)
        yield Notice(
            "no-progress", _key(run, "no-progress", since, nights), title, lines, since, nights=nights
        )


def _why(run: Run, moment: Moment) -> str:
    """Return what it waits for."""
    if moment.why:
        return moment.why
    return state_word(run, "it goes on" if moment.code is None else None)


def _of_call(run: Run | None, settings: Settings, moment: Moment) -> Iterator[Notice]:
    """Yield what a command says at its end, whether there is a run or not."""
    code, plan = moment.code, settings.plan
    if code is None:
        return
    settled = run is not None and run.is_settled
    if moment.working and run is not None and not settled and code not in _SAID_BY_THE_RUN:
        why = moment.why or run.drained or "it was stopped"
        yield Notice("unfinished", _key(run, "unfinished", run.lives), f"{plan} is unfinished: {why}")
    elif moment.why and not moment.working and moment.scheduled:
        title = f"{plan}: nothing was done: {moment.why}"
        yield Notice("unfinished", frozenset({f"{plan}/call/{code}/{moment.now:%Y-%m-%d}"}), title)
    windows = missed(settings, moment.before, moment.now) if moment.before and not settled else []
    if windows:
        words = [f"{spell(span.start)} to {spell(span.end)}" for span in windows]
        many = "a window was missed" if len(windows) == 1 else f"{len(windows)} windows were missed"
        title = f"{plan}: {many}, since fleet was not called in it: {words[-1]}"
        keys = frozenset(f"{plan}/window-missed/{_stamp(span.start)}" for span in windows)
        lines = _cut(words) if len(windows) > 1 else ()
        yield Notice("window-missed", keys, title, lines, windows[0].start)


def _key(run: Run, *parts: object) -> frozenset[str]:
    """Return what a notice of a run is about, in a form that a process of tomorrow makes anew."""
    words = (_stamp(part) if isinstance(part, datetime) else str(part) for part in parts)
    return frozenset({"/".join((run.id, *words))})


def _stamp(at: datetime) -> str:
    # As the journal keeps it: what is live has more digits.
    return at.astimezone(UTC).isoformat(timespec="milliseconds")


def spelt(at: datetime) -> str:
    """Return a moment for people who sit anywhere."""
    return f"{at.astimezone(UTC):%a %Y-%m-%d %H:%M} UTC"


def _cut(lines: list[str]) -> tuple[str, ...]:
    more = len(lines) - SHOWN
    return (*lines[:SHOWN], f"… and {more} more") if more > 0 else tuple(lines)


# -- status ---------------------------------------------------------------------------------------------


def status_lines(run: Run, told: Told, *, now: datetime, worked_on: str | None) -> Iterator[str]:
    """Yield what `fleet status` says below its first line: silence, who was asked, who was not reached."""
    if nights := nights_without_progress(run, now, over=worked_on is not None):
        yield f"{ordinal(nights)} night without progress; the last was at {spelt(last_progress(run))}"
    asked = {
        key: notice.event for notice in _of_run(run, Moment(now, now), frozenset()) for key in notice.keys
    }
    for to, key, at in told.moments(f"{run.id}/"):
        if (event := asked.get(key)) in {"held", "needs-approval"}:
            yield f"{'asked of' if event == 'needs-approval' else 'told to'} {to} at {spelt(at)}"
    for failure in told.failures():
        yield f"not delivered to {failure.to}: {failure.title} ({failure.why}, at {spelt(failure.at)})"


def told_data(run: Run, told: Told, *, now: datetime, worked_on: str | None) -> dict[str, Any]:
    """Return the same for JSON."""
    return {
        "nights_without_progress": nights_without_progress(run, now, over=worked_on is not None),
        "last_progress_at": last_progress(run),
        "told": [
            {"to": to, "what": key.removeprefix(f"{run.id}/"), "at": at}
            for to, key, at in told.moments(f"{run.id}/")
        ],
        "not_delivered": [
            {"to": each.to, "event": each.event, "title": each.title, "why": each.why, "at": each.at}
            for each in told.failures()
        ],
    }
