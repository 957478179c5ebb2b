"""``release``, ``retry``, ``skip``: a person's decisions, as facts in the journal of a run at rest."""

from __future__ import annotations

import getpass
from collections.abc import Callable

import click

from fleet.cli.common import name_of, print_lines, run_argument, say
from fleet.clock import SystemClock
from fleet.core.events import Retried, RunReleased, Skipped
from fleet.core.state import Phase, Run, ServerState
from fleet.errors import Exit, PlanError, Problem
from fleet.journal import Journal, Recorder, load
from fleet.report.status import headline, next_step
from fleet.runs import find, lock_run, state_folder

_REASON = click.option("--reason", required=True, help="Why; goes into the journal.")


def _change(run: str, decide: Callable[[Run, Recorder], str]) -> int:
    """Append a person's decision to a run's journal, under its lock."""
    journal = find(run, state_folder())
    lock = lock_run(journal)  # a run that is being worked on cannot be changed from here: exit 7
    try:
        found, tail = load(journal)
        book = Journal.reopen(journal, tail)
        try:
            done = decide(found, Recorder(found, book, SystemClock().now))
        finally:
            book.close()
    finally:
        lock.release()
    say(done)
    print_lines([headline(found)])
    if (step := next_step(found, None, name_of(journal, found.id))) is not None:
        print_lines([f"next: {step}"])
    return Exit.OK


@click.command()
@run_argument(required=True)
@_REASON
def release(run: str, reason: str) -> int:
    """Let a held run go on; failures so far no longer count towards the next hold.

    \b
    Example:
      fleet release web-tier --reason "image fixed, CHG-1234"
      fleet resume web-tier
    """  # noqa: D301 - click's mark for "do not rewrap"

    def decide(found: Run, recorder: Recorder) -> str:
        if found.held is None:
            return f"run {found.id} is not held"
        recorder.record(RunReleased(reason=reason, by=_me()))
        return f"run {found.id} is released"

    return _change(run, decide)


@click.command()
@run_argument(required=True)
@click.argument("servers", nargs=-1)
@_REASON
def retry(run: str, servers: tuple[str, ...], reason: str) -> int:
    """Give failed SERVERS (names or ids; default: all failed ones) another try, from the beginning.

    They may be wiped again. Look at those that failed as undecidable before you do.

    \b
    Example:
      fleet retry web-tier web-17 --reason "console shows the old system"
      fleet resume web-tier
    """  # noqa: D301 - click's mark for "do not rewrap"

    def decide(found: Run, recorder: Recorder) -> str:
        chosen = _named(found, servers, {Phase.FAILED})
        for server in chosen:
            recorder.record(Retried(server=server.id, reason=f"{reason} ({_me()})"))
        return f"{len(chosen)} servers wait for another try: {_names(chosen)}"

    return _change(run, decide)


@click.command()
@run_argument(required=True)
@click.argument("servers", nargs=-1, required=True)
@_REASON
def skip(run: str, servers: tuple[str, ...], reason: str) -> int:
    """Take SERVERS (names or ids) out of a run: those that wait, or that failed.

    \b
    Example:
      fleet skip web-tier web-17 --reason "decommissioned"
    """  # noqa: D301 - click's mark for "do not rewrap"

    def decide(found: Run, recorder: Recorder) -> str:
        chosen = _named(found, servers, {Phase.WAITING, Phase.FAILED})
        for server in chosen:
            recorder.record(Skipped(server=server.id, reason=f"{reason} ({_me()})"))
        return f"{len(chosen)} servers skipped: {_names(chosen)}"

    return _change(run, decide)


def _named(found: Run, names: tuple[str, ...], phases: set[Phase]) -> list[ServerState]:
    """Return the servers that are meant, all of them in one of *phases*.

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
        elif meant[0].phase not in phases:
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


def _me() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"
