"""A person's decisions about a run: hold, release, drain, approve, retry, skip.

The same functions serve a run at rest, whose journal the command writes itself, and a run that is being
worked on, whose process is given the order over its socket (`fleet.control`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from fleet.core.events import Approved, Event, Retried, RunHeld, RunReleased, Skipped
from fleet.core.rollout import approval_awaited, why_held_again
from fleet.core.state import Phase, Run, ServerState
from fleet.errors import PlanError, Problem

Verb = Literal["hold", "release", "drain", "approve", "retry", "skip"]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a person wants done.

    Attributes:
        by: Who; goes into the journal.
        servers: Names or ids, for `retry` and `skip`; none of them: every failed one, for `retry`.
        target, wave: What is approved; None: what is awaited.
    """

    verb: Verb
    reason: str
    by: str
    servers: tuple[str, ...] = ()
    target: str | None = None
    wave: int | None = None


def carry_out(run: Run, record: Callable[[Event], None], order: Order) -> str:
    """Record what *order* says; return what was done, in words.

    Raises:
        PlanError: It cannot be done as the run stands; nothing was recorded.
    """
    match order.verb:
        case "hold":
            return _hold(run, record, order)
        case "release":
            if run.held is None and not run.groups_held:
                return f"run {run.id} is not held"
            record(RunReleased(reason=order.reason, by=order.by))
            return f"run {run.id} is released{_but(run)}"
        case "approve":
            return _approve(run, record, order)
        case "retry":
            chosen = named(run, order.servers, {Phase.FAILED}, changed=True)
            for server in chosen:
                record(Retried(server=server.id, reason=f"{order.reason} ({order.by})"))
            count = "1 server waits" if len(chosen) == 1 else f"{len(chosen)} servers wait"
            return f"{count} for another try: {_names(chosen)}"
        case "skip":
            chosen = named(run, order.servers, {Phase.WAITING, Phase.FAILED})
            for server in chosen:
                record(Skipped(server=server.id, reason=f"{order.reason} ({order.by})"))
            return f"{len(chosen)} servers skipped: {_names(chosen)}"
        case "drain":
            raise PlanError(Problem(f"no process works on run {run.id}: there is nothing to drain"))


def _but(run: Run) -> str:
    """Say that a release will not do, where that is so."""
    if (why := why_held_again(run)) is None:
        return ""
    owed = ", or `fleet settle` what is owed" if run.owes else ""
    return (
        f", and would be held again at once: nobody else can be started ({why}). A release forgives failures "
        f"and brings nobody back into service: first `fleet retry` failed servers, or `fleet skip` them{owed}"
    )


def _hold(run: Run, record: Callable[[Event], None], order: Order) -> str:
    if run.is_settled:
        raise PlanError(Problem(f"run {run.id} is finished: there is nothing to hold"))
    if run.held is not None:
        return f"run {run.id} is held already: {run.held}"
    record(RunHeld(reason=f"{order.reason} ({order.by})", by=order.by))
    return f"run {run.id} is held"


def _approve(run: Run, record: Callable[[Event], None], order: Order) -> str:
    awaited = approval_awaited(run)
    target, wave = order.target, order.wave
    if wave is None:
        if awaited is None:
            raise PlanError(
                Problem(
                    f"run {run.id} waits for no approval",
                    hint="to approve a wave beforehand, name it with --wave (and --target)",
                )
            )
        target, wave = awaited
    if target is None:
        target = awaited[0] if awaited else next(iter(run.targets))
    state = run.targets.get(target)
    if state is None or not 1 <= wave <= len(state.waves):
        raise PlanError(Problem(f"run {run.id} has no wave {wave} of target {target!r}"))
    if wave not in run.plan_of(target).rollout.approve_after:
        raise PlanError(Problem(f"the plan asks for no approval after wave {wave} of {target}"))
    if state.waves[wave - 1].approved:
        return f"wave {wave} of {target} is approved already"
    record(Approved(target=target, wave=wave, reason=order.reason, by=order.by))
    return f"wave {wave} of {target} is approved"


def named(
    found: Run, names: tuple[str, ...], phases: set[Phase], *, changed: bool = False
) -> list[ServerState]:
    """Return the servers that are meant, all of them in one of *phases*.

    Args:
        found: The run.
        names: Names or ids; none of them: everybody in one of *phases*.
        phases: Where they have to be.
        changed: Those that were left alone because they had changed may be meant too, by name.

    Raises:
        PlanError: A name is unknown, means several, or its server is elsewhere.
    """
    if not names:
        chosen = [server for server in found.servers.values() if server.phase in phases]
        if not chosen:
            raise PlanError(Problem(f"no server of run {found.id} is {_words(phases)}"))
        return chosen
    chosen, problems = [], []
    for name in names:
        meant = [server for server in found.servers.values() if name in {server.id, server.member.name}]
        if len(meant) != 1:
            problems.append(Problem(f"{len(meant)} servers of run {found.id} are called {name!r}"))
        elif meant[0].phase not in phases and not (changed and meant[0].changed):
            problems.append(Problem(f"{name} is {meant[0].phase}, not {_words(phases)}"))
        else:
            chosen += meant
    if problems:
        raise PlanError(*problems)
    return chosen


def _words(phases: set[Phase]) -> str:
    return " or ".join(sorted(phases))


def _names(servers: list[ServerState]) -> str:
    names = [server.label for server in servers]
    return ", ".join(names) if len(names) <= 10 else f"{', '.join(names[:9])}, … ({len(names)})"
