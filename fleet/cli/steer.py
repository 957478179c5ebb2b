"""``hold``, ``release``, ``drain``, ``approve``, ``retry``, ``skip``: a person's decisions, as facts.

Of a run at rest they are written into its journal here; a run that is being worked on is asked to.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from fleet.cli.common import name_of, now, print_lines, run_argument, say
from fleet.cli.completing import complete_failed, complete_skippable, complete_target
from fleet.clock import SystemClock
from fleet.control import ask
from fleet.core.settling import settling
from fleet.core.state import Run
from fleet.errors import Exit, LockedError
from fleet.journal import Journal, Recorder, load
from fleet.report.status import headline, next_step
from fleet.runs import find, lock_run, state_folder
from fleet.steering import Order, Verb, carry_out
from fleet.whereami import whoami

_REASON = click.option("--reason", required=True, help="Why; goes into the journal.")


@dataclass(frozen=True, slots=True)
class Given:
    """What became of an order.

    Attributes:
        words: What was done, or why not.
        refused: It was not done.
        run: As it is now, if it was done here; None: by the process that works on it.
    """

    words: str
    refused: bool = False
    run: Run | None = None


def give(journal: Path, order: Order) -> Given:
    """Carry an order out in the journal, or have the process do it that works on the run.

    Raises:
        FleetError: It cannot be done, or nobody knows whether it was.
    """
    try:
        return _at_rest(journal, order)
    except LockedError:
        words = ask(journal, order)
        if words is None:
            return _not_asked(journal, order)
        return Given(words.removeprefix("error: "), refused=words.startswith("error: "))


def _not_asked(journal: Path, order: Order) -> Given:
    """Do it here if the process has ended meanwhile; else say that it got no order."""
    try:
        return _at_rest(journal, order)
    except LockedError as error:
        raise LockedError(
            f"{error.message}, which takes no orders now: it starts or ends, or is stopped; it got none",
            hint="nothing was done and nothing will be: give the order again",
        ) from error


def _at_rest(journal: Path, order: Order) -> Given:
    lock = lock_run(journal)
    try:
        found, tail = load(journal)
        book = Journal.reopen(journal, tail)
        try:
            done = carry_out(found, Recorder(found, book, SystemClock().now).record, order)
            if order.verb == "hold":
                done = f"{done}; {settling(found, now()).at_rest()}"
        finally:
            book.close()
    finally:
        lock.release()
    return Given(done, run=found)


def _steer(
    run: str | None,
    verb: Verb,
    reason: str,
    *,
    servers: tuple[str, ...] = (),
    target: str | None = None,
    wave: int | None = None,
) -> int:
    """Give an order, and say what became of it."""
    journal = find(run, state_folder())
    given = give(
        journal, Order(verb=verb, reason=reason, by=whoami(), servers=servers, target=target, wave=wave)
    )
    say(given.words)
    if given.run is not None:
        print_lines([headline(given.run)])
        if (step := next_step(given.run, None, name_of(journal, given.run.id))) is not None:
            print_lines([f"next: {step}"])
    return Exit.USAGE if given.refused else Exit.OK


@click.command()
@run_argument()
@_REASON
def hold(run: str | None, reason: str) -> int:
    """Start nothing more. Whoever is wiped is brought to its end, whoever is not wiped yet is put back.

    Works on a running run too, at once. `fleet release` lets it go on.

    \b
    Example:
      fleet hold web-tier --reason INC-4711
    """  # noqa: D301 - click's mark for "do not rewrap"
    return _steer(run, "hold", reason)


@click.command()
@run_argument(required=True)
@_REASON
def release(run: str, reason: str) -> int:
    """Let a held run, or a held group, go on; failures so far no longer count towards the next hold.

    \b
    Example:
      fleet release web-tier --reason "image fixed, CHG-1234"
      fleet resume web-tier
    """  # noqa: D301 - click's mark for "do not rewrap"
    return _steer(run, "release", reason)


@click.command()
@run_argument()
@_REASON
def drain(run: str | None, reason: str) -> int:
    """End a running run gently: nothing more is started, everybody in flight is brought to the end.

    The same as one Ctrl-C in its terminal. `fleet resume` goes on.

    \b
    Example:
      fleet drain web-tier --reason "host reboots at four"
    """  # noqa: D301 - click's mark for "do not rewrap"
    return _steer(run, "drain", reason)


@click.command()
@run_argument()
@_REASON
@click.option(
    "--target", shell_complete=complete_target, help="Whose wave; default: the one that is awaited."
)
@click.option("--wave", type=int, help="Which wave, counted from 1; default: the one that is awaited.")
def approve(run: str | None, reason: str, target: str | None, wave: int | None) -> int:
    """Let the waves begin that wait for a person (`approve_after`).

    \b
    Example:
      fleet approve web-tier --reason "canary looked at, CHG-1234"
      fleet resume web-tier
    """  # noqa: D301 - click's mark for "do not rewrap"
    return _steer(run, "approve", reason, target=target, wave=wave)


@click.command()
@run_argument(required=True)
@click.argument("servers", nargs=-1, shell_complete=complete_failed)
@_REASON
def retry(run: str, servers: tuple[str, ...], reason: str) -> int:
    """Give failed SERVERS (names or ids; default: all failed ones) another try, from the beginning.

    They may be wiped again. Look at those that failed as undecidable before you do.

    \b
    Example:
      fleet retry web-tier web-17 --reason "console shows the old system"
      fleet resume web-tier
    """  # noqa: D301 - click's mark for "do not rewrap"
    return _steer(run, "retry", reason, servers=servers)


@click.command()
@run_argument(required=True)
@click.argument("servers", nargs=-1, required=True, shell_complete=complete_skippable)
@_REASON
def skip(run: str, servers: tuple[str, ...], reason: str) -> int:
    """Take SERVERS (names or ids) out of a run: those that wait, or that failed.

    \b
    Example:
      fleet skip web-tier web-17 --reason "decommissioned"
    """  # noqa: D301 - click's mark for "do not rewrap"
    return _steer(run, "skip", reason, servers=servers)
