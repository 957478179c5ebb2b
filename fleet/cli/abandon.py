"""``abandon``: a person gives up servers that a dead run has left half done, as they are."""

from __future__ import annotations

import click

from fleet.cli.common import me, name_of, print_lines, run_argument, say
from fleet.cli.completing import complete_in_flight
from fleet.clock import SystemClock
from fleet.core.events import Failed
from fleet.core.state import IN_FLIGHT, Run, ServerState
from fleet.errors import Exit, PlanError, Problem
from fleet.journal import Journal, Recorder, load
from fleet.report.status import headline, next_step
from fleet.runs import find, lock_run, state_folder

_HINT = "nobody looked at it again: it may be off, or being reinstalled; look at it in the console"


@click.command()
@run_argument(required=True)
@click.argument("servers", nargs=-1, shell_complete=complete_in_flight)
@click.option("--reason", required=True, help="Why; goes into the journal.")
def abandon(run: str, servers: tuple[str, ...], reason: str) -> int:
    """Give up SERVERS (names or ids; default: all) that a dead run has left half done.

    They are settled as failed, as they are: nothing is looked at, started or undone. Other runs may have
    them from then on. `fleet resume` is nearly always the better choice: it finds out where each of them
    is, and brings it to an end.

    \b
    Example:
      fleet abandon web-tier web-17 --reason "rebuilt by hand, CHG-1234"
    """  # noqa: D301 - click's mark for "do not rewrap"
    journal = find(run, state_folder())
    lock = lock_run(journal)  # a run that is being worked on cannot be changed from here: exit 7
    try:
        found, tail = load(journal)
        chosen = _named(found, servers)
        book = Journal.reopen(journal, tail)
        try:
            recorder = Recorder(found, book, SystemClock().now)
            for server in chosen:
                words = f"abandoned by {me()} while {server.phase}: {reason}"
                recorder.record(Failed(server=server.id, reason=words, hint=_HINT))
        finally:
            book.close()
    finally:
        lock.release()
    say(f"{len(chosen)} servers given up as they are: {', '.join(server.label for server in chosen[:10])}")
    print_lines([headline(found)])
    if found.owes:
        name = name_of(journal, found.id)
        say(f"hint: something is still owed (claims, hooks to undo); `fleet resume {name}` pays it")
    if (step := next_step(found, None, name_of(journal, found.id))) is not None:
        print_lines([f"next: {step}"])
    return Exit.OK


def _named(run: Run, names: tuple[str, ...]) -> list[ServerState]:
    """Return the servers that are meant, all of them half done.

    Raises:
        PlanError: There is none, or a name means none or several.
    """
    if not names:
        names = tuple(server.id for server in run.servers.values() if server.phase in IN_FLIGHT)
    if not names:
        raise PlanError(Problem(f"run {run.id} has left no server in flight"))
    chosen, problems = [], []
    for name in names:
        meant = [server for server in run.servers.values() if name in {server.id, server.member.name}]
        if len(meant) != 1:
            problems.append(Problem(f"{len(meant)} servers of run {run.id} are called {name!r}"))
        elif meant[0].phase not in IN_FLIGHT:
            problems.append(Problem(f"{name} is {meant[0].phase}, not in flight"))
        else:
            chosen += meant
    if problems:
        raise PlanError(*problems)
    return chosen
