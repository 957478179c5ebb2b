"""``settle``: pay what a run owes (undo its hooks, start whom it stopped), and do nothing else."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import click

from fleet.claims import claim_servers, half_done_of
from fleet.cli.common import me, name_of, print_lines, run_argument, say
from fleet.cli.completing import complete_owed
from fleet.clock import SystemClock
from fleet.cloud.registry import connect
from fleet.core.events import DebtPaid, RunDrained, RunFinished, RunResumed
from fleet.core.state import IN_FLIGHT, START, Phase, Run, ServerState, owes_undoing
from fleet.errors import Exit, PlanError, Problem
from fleet.hooks import CommandHooks
from fleet.journal import Journal, Recorder, load
from fleet.life import check_identity
from fleet.report.digest import keep_of
from fleet.report.status import headline, next_step, owed_lines
from fleet.runs import find, lock_run, state_folder
from fleet.settle import Settled, Settlement, failed_after_its_wipe, in_the_clouds_hands, is_open


@click.command()
@run_argument()
@click.argument("servers", nargs=-1, shell_complete=complete_owed)
@click.option("--all", "everybody", is_flag=True, help="Also servers that failed after their wipe.")
@click.option("--by-hand", is_flag=True, help="It was undone by hand: only write that down. Needs --reason.")
@click.option("--reason", default="", help="Why; goes into the journal.")
def settle(run: str | None, servers: tuple[str, ...], *, everybody: bool, by_hand: bool, reason: str) -> int:
    """Pay what RUN owes to SERVERS (names or ids; default: all): undo its hooks, start whom it has stopped.

    Nothing else is done: nobody is drained, stopped or wiped. Servers in flight that were not wiped yet are
    put back, and wait for `fleet resume`. A server that failed after its wipe may be broken, and gets its
    traffic back only when it is named, or with --all.

    \b
    Example:
      fleet settle web-tier
      fleet settle web-tier web-17
      fleet settle web-tier web-18 --by-hand --reason "deleted, CHG-1234"
    """  # noqa: D301 - click's mark for "do not rewrap"
    journal = find(run, state_folder()).absolute()
    if by_hand and not reason:
        raise PlanError(
            Problem("--by-hand says that somebody has undone it", hint="say who and why: --reason")
        )
    lock = lock_run(journal)  # a run that is being worked on pays by itself: exit 7
    try:
        found, _ = load(journal)
        chosen = _chosen(found, servers, everybody=everybody)
        if chosen:
            if by_hand:
                _note(journal, chosen, reason)
            else:
                asyncio.run(_settle(journal, chosen))
    finally:
        lock.release()
    found, _ = load(journal)
    print_lines([*owed_lines(found), headline(found)])
    if (step := next_step(found, None, name_of(journal, found.id))) is not None:
        print_lines([f"next: {step}"])
    return Exit.FAILED if any(owes_undoing(server) for server in found.servers.values()) else Exit.OK


def _chosen(found: Run, names: tuple[str, ...], *, everybody: bool) -> list[str]:
    """Return the ids of those who are meant and owed something.

    Raises:
        PlanError: A name means none or several, or nothing is owed to its server.
    """
    for server in in_the_clouds_hands(found):
        say(f"{server.label} is {server.phase}: `fleet resume` brings it to its end, and pays then")
    if not names:
        open_ones = [server for server in found.servers.values() if is_open(server)]
        left = [] if everybody else [server for server in open_ones if failed_after_its_wipe(server)]
        for server in left:
            say(f"{server.label} failed after its wipe, and is left alone: name it, or use --all")
        chosen = [server.id for server in open_ones if server not in left]
        if not open_ones:
            say(f"nothing is owed by run {found.id}")
        return [str(each) for each in chosen]
    picked, problems = [], []
    for name in names:
        meant = [server for server in found.servers.values() if name in {server.id, server.member.name}]
        if len(meant) != 1:
            problems.append(Problem(f"{len(meant)} servers of run {found.id} are called {name!r}"))
        elif not is_open(meant[0]):
            problems.append(Problem(f"nothing can be settled for {name}, which is {meant[0].phase}"))
        else:
            picked.append(str(meant[0].id))
    if problems:
        raise PlanError(*problems)
    return picked


def _of(found: Run, chosen: list[str]) -> list[ServerState]:
    return [server for server in found.servers.values() if server.id in chosen]


def _note(journal: Path, chosen: list[str], reason: str) -> None:
    """Write down that a person has undone what is owed."""
    found, tail = load(journal)
    at_rest = [server for server in _of(found, chosen) if server.phase not in IN_FLIGHT]
    book = Journal.reopen(journal, tail)
    try:
        recorder = Recorder(found, book, SystemClock().now)
        for server in at_rest:
            stopped = [START] if server.stopped_by_us and server.phase is Phase.FAILED else []
            for debt in (*stopped, *server.owed):
                recorder.record(DebtPaid(server=server.id, debt=debt, by=me(), reason=reason))
                say(f"{server.label}: noted as undone: {debt}")
    finally:
        book.close()
    keep_of(found, journal)


async def _settle(journal: Path, chosen: list[str]) -> None:
    clock, state = SystemClock(), state_folder()
    found, tail = load(journal)
    cloud = connect(found.settings.cloud, clock)
    try:
        check_identity(found, await cloud.whoami())
        claim = claim_servers(state, found.id, chosen, journal=journal)
        try:
            book = Journal.reopen(journal, tail)
            try:
                recorder = Recorder(found, book, clock.now)
                recorder.record(RunResumed(host=socket.gethostname(), pid=os.getpid()))
                hooks = CommandHooks(found.settings.folder, journal)
                settlement = Settlement(recorder, cloud=cloud, clock=clock, hooks=hooks)
                for done in await settlement.settle(_of(found, chosen)):
                    _tell(done)
                _close(found, recorder)
            finally:
                book.close()
        finally:
            claim.release(half_done_of(found))
    finally:
        await cloud.close()
    keep_of(found, journal)


def _close(found: Run, recorder: Recorder) -> None:
    """Write the last word of this life."""
    counts = found.counts()
    if found.is_settled:
        recorder.record(
            RunFinished(
                verified=counts[Phase.VERIFIED], failed=counts[Phase.FAILED], skipped=counts[Phase.SKIPPED]
            )
        )
    else:
        recorder.record(RunDrained(reason=f"`fleet settle` by {me()}"))


def _tell(done: Settled) -> None:
    words = "settled" if done.why is None else f"still owed something: {done.why}"
    say(f"{done.server.label}: {words}")
