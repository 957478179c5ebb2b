"""``run`` and ``resume``: decide which run it is, ask, and live it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import click

from fleet import logs, runs
from fleet.cli.common import (
    F,
    is_terminal,
    name_of,
    now,
    plan_argument,
    print_json,
    print_lines,
    run_argument,
    say,
    selection_options,
)
from fleet.cli.plans import load_for_action
from fleet.clock import SystemClock
from fleet.cloud.registry import connect
from fleet.core.edits import edits
from fleet.core.settings import Settings
from fleet.core.state import IN_FLIGHT, Phase, Run
from fleet.engine import outcome
from fleet.errors import Exit, FleetError, PlanError, Problem
from fleet.journal import Tail, load
from fleet.life import Life, check_edit, check_identity, live, open_run, resume_run
from fleet.orders import Orders
from fleet.plan import LoadedPlan
from fleet.report import preview as preview_report
from fleet.report.status import as_data, headline, summary
from fleet.survey import Survey, opening, resolve_passwords, survey
from fleet.whereami import own_server_ids


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line said about how to run.

    Attributes:
        ignore_before: Runs opened before are not gone on with: the cloud that they were about is no more.
    """

    yes: bool = False
    again: bool = False
    ignore_before: datetime | None = None
    skip_unfit: bool = False
    limit: tuple[str, ...] = ()
    log_format: str = "auto"
    quiet: bool = False
    output: str = "text"


@dataclass(frozen=True, slots=True)
class Earlier:
    """A run that is on the disk already."""

    journal: Path
    run: Run
    tail: Tail


def _log_options(function: F) -> F:
    """Add the options that `run` and `resume` share."""
    for option in (
        click.option(
            "-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Of the summary."
        ),
        click.option("-q", "--quiet", is_flag=True, help="Only warnings on standard error, for cron."),
        click.option(
            "--log-format",
            type=click.Choice(["auto", "live", "pretty", "json"]),
            default="auto",
            help="auto: a live display on a terminal, else one JSON line an event, on standard error.",
        ),
    ):
        function = option(function)
    return function


@click.command()
@plan_argument
@click.option("-y", "--yes", is_flag=True, help="Do not ask. For cron; without a terminal it is needed.")
@click.option(
    "--journal",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the journal is, or is to be. Default: a folder of its own in the state folder.",
)
@selection_options
@click.option("--again", is_flag=True, help="Reinstall anew although this plan's last run is finished.")
@click.option("--check", "--dry-run", "check", is_flag=True, help="The same as `fleet preview`.")
@_log_options
def run(plan: Path, journal: Path | None, *, check: bool, **options: object) -> int:
    """Reinstall the servers of a plan. Wipes their system disks.

    An unfinished run of this plan is gone on with, not started anew: after a crash, a reboot or Ctrl-C give
    the same command again. A finished one is not repeated without --again.

    \b
    Example:
      fleet run plans/web-tier.yaml
      fleet run plans/cron.yaml --yes --quiet
    """  # noqa: D301 - click's mark for "do not rewrap"
    chosen = Options(**options)  # type: ignore[arg-type]  # click has checked them
    if check:
        from fleet.cli.plans import preview  # noqa: PLC0415 - only for those who type another tool's word

        arguments = [
            str(plan),
            *(f"--limit={each}" for each in chosen.limit),
            *(["--skip-unfit"] if chosen.skip_unfit else []),
        ]
        return int(preview.main(arguments, standalone_mode=False) or 0)
    return asyncio.run(run_plan(load_for_action(plan), journal, chosen))


@click.command()
@run_argument()
@_log_options
def resume(run: str | None, **options: object) -> int:
    """Go on with a run, from its journal alone: RUN is an id, a unique prefix, a path, or the newest.

    \b
    Example:
      fleet resume web-tier
    """  # noqa: D301 - click's mark for "do not rewrap"
    chosen = Options(yes=True, **options)  # type: ignore[arg-type]  # click has checked them
    return asyncio.run(_resume(runs.find(run, runs.state_folder()), chosen))


# -- which run ------------------------------------------------------------------------------------------


def _plan_lock(state: Path, plan: str) -> runs.Lock:
    """Let no two processes decide about one plan at the same time: both would open a run."""
    runs.make_folder(state)
    runs.make_folder(state / "plans")
    return runs.Lock(state / "plans" / f"{plan}.lock", f"plan {plan}")


def _at(journal: Path, plan: str) -> Earlier | None:
    """Return the run of *plan* in *journal*, or None when there is no such file yet."""
    if not journal.exists():
        return None
    if runs.is_stillborn(journal):
        raise PlanError(
            Problem(
                f"{journal} has no whole first line: its run died before it touched anything",
                hint="delete the file and give the same command again",
            )
        )
    found, tail = load(journal)
    if found.settings.plan != plan:
        raise PlanError(Problem(f"{journal} is the journal of plan {found.settings.plan!r}, not of {plan!r}"))
    return Earlier(journal, found, tail)


def _newest(state: Path, plan: str) -> Earlier | None:
    """Return the newest run of *plan*, or None."""
    for journal in runs.journals(state):
        if runs.plan_of(journal.parent.name) != plan or runs.is_stillborn(journal):
            continue
        found, tail = load(journal)
        if found.settings.plan == plan:
            return Earlier(journal, found, tail)
    return None


async def run_plan(loaded: LoadedPlan, journal: Path | None, options: Options) -> int:
    """Open a run of a plan, or go on with the one that is unfinished; return the exit code."""
    state = runs.state_folder()
    lock = _plan_lock(state, loaded.settings.plan)
    try:
        plan = loaded.settings.plan
        earlier = _at(journal, plan) if journal is not None else _newest(state, plan)
        if earlier and options.ignore_before and earlier.run.opened_at < options.ignore_before:
            earlier = None
        if earlier is not None and not earlier.run.is_settled:
            _no_limit(options, earlier.run)
            return await _go_on(earlier, state, options, loaded)
        if earlier is not None and not options.again and not _differs(earlier.run, loaded.settings, options):
            return _nothing_to_do(earlier.run, options)
        return await _open(loaded, journal, state, options, earlier)
    finally:
        lock.release()


def _differs(found: Run, settings: Settings, options: Options) -> bool:
    """Tell whether other servers are asked for, or something else to be installed, than then."""
    return found.opened.limit != options.limit or bool(edits(found.settings, settings)[0])


def _no_limit(options: Options, found: Run) -> None:
    if options.limit and options.limit != found.opened.limit:
        raise PlanError(
            Problem(
                f"run {found.id} is unfinished, and --limit cannot change whom it is about",
                hint="`fleet resume` goes on with it; `fleet skip` takes servers out of it",
            )
        )


def _nothing_to_do(found: Run, options: Options) -> int:
    code = outcome(found)
    if not options.quiet or code is not Exit.OK:
        say(
            f"nothing to do: run {found.id} of this plan is finished ({headline(found)})\n"
            "hint: --again reinstalls the servers once more; `fleet retry` gives failed ones another try"
        )
    return code


# -- a new run ------------------------------------------------------------------------------------------


async def _open(
    loaded: LoadedPlan, journal: Path | None, state: Path, options: Options, earlier: Earlier | None
) -> int:
    clock = SystemClock()
    cloud = connect(loaded.settings.cloud, clock)
    try:
        found = await survey(
            cloud,
            loaded.settings,
            loaded.user_data,
            limit=options.limit,
            skip_unfit=options.skip_unfit,
            own_ids=own_server_ids(),
        )
        if not options.quiet:
            for line in preview_report.as_text(found):
                say(line)
        # First, since a server that another run is reinstalling also looks unfit.
        runs.check_unclaimed(state, (member.id for member in found.members))
        found.refuse(loaded.located)
        if earlier is not None:
            _tell_repeats(earlier.run, found)
        _ask(len(found.members) - len(found.skipped), options)
        run_id = runs.new_run_id(loaded.settings.plan, clock.now())
        path = (journal or state / run_id / runs.JOURNAL).absolute()
        runs.make_folder(path.parent)
        lock = runs.lock_run(path)
        try:
            life = open_run(
                opening(found, run=run_id, plan_path=loaded.path, limit=options.limit),
                found.skipped,
                journal=path,
                state=state,
                clock=clock,
                cloud=cloud,
                orders=Orders(
                    loaded.settings,
                    passwords=found.passwords,
                    user_data=loaded.user_data,
                    user_id=found.identity.user_id,
                ),
                user_data=loaded.user_data,
            )
            del found  # the whole project's servers: for a night's run they are many and of no use
            return await _live(life, path, clock, options)
        finally:
            lock.release()
    finally:
        await cloud.close()


def _tell_repeats(earlier: Run, found: Survey) -> None:
    """Say who has been reinstalled by the plan's last run already: perhaps nobody means them again."""
    done = [
        member.name or member.id
        for member in found.members
        if (before := earlier.servers.get(member.id)) is not None and before.phase is Phase.VERIFIED
    ]
    if done:
        some = ", ".join(done[:3]) + (", …" if len(done) > 3 else "")
        say(f"warning: {len(done)} of these servers were reinstalled by run {earlier.id} ({some})")
        say("hint: --limit '!NAME' leaves servers out")


def _ask(servers: int, options: Options) -> None:
    """Have a person type the number of servers.

    Raises:
        PlanError: Nobody is there to ask, and --yes was not given; or the answer was no.
    """
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise PlanError(Problem("there is no terminal to ask on", hint="--yes runs without asking"))
    say(f"The system disks of {servers} servers will be wiped.")
    answer = click.prompt("Type the number of servers to go on", default="", show_default=False, err=True)
    if answer.strip() != str(servers):
        raise PlanError(Problem("not agreed to: nothing was done"))


# -- an old run -----------------------------------------------------------------------------------------


async def _resume(journal: Path, options: Options) -> int:
    state = runs.state_folder()
    found, tail = load(journal)
    lock = _plan_lock(state, found.settings.plan)
    try:
        # Read again under the lock: the process that held it may have just finished the run.
        found, tail = load(journal)
        if found.is_settled:
            return _nothing_to_do(found, options)
        return await _go_on(Earlier(journal, found, tail), state, options, None)
    finally:
        lock.release()


async def _go_on(earlier: Earlier, state: Path, options: Options, loaded: LoadedPlan | None) -> int:
    journal = earlier.journal.absolute()
    edited = loaded.settings if loaded else None
    lock = runs.lock_run(journal)
    clock = SystemClock()
    cloud = None
    try:
        # Read once more: until the lock was ours, `fleet skip` and its like could still write.
        found, tail = load(journal)
        earlier = Earlier(journal, found, tail)
        changes = check_edit(found, edited)
        settings = edited or found.settings
        if found.held is not None and found.in_flight == 0:
            say(f"run {found.id} is held: {found.held}")
            say(f"hint: fleet release {name_of(journal, found.id)} --reason …, then the same command again")
            return Exit.HELD
        _tell_resume(earlier, changes, options)
        cloud = connect(settings.cloud, clock)
        identity = await cloud.whoami()
        check_identity(found, identity)
        passwords = await asyncio.to_thread(resolve_passwords, settings)
        user_data = {**(loaded.user_data if loaded else {}), **runs.read_files(journal)}
        orders = Orders(settings, passwords=passwords, user_data=user_data, user_id=identity.user_id)
        _ask(found.counts()[Phase.WAITING] + found.in_flight, options)
        life = resume_run(
            found,
            earlier.tail,
            journal=journal,
            state=state,
            clock=clock,
            cloud=cloud,
            orders=orders,
            edited=edited,
        )
        return await _live(life, journal, clock, options)
    finally:
        if cloud is not None:
            await cloud.close()
        lock.release()


def _tell_resume(earlier: Earlier, changes: tuple[str, ...], options: Options) -> None:
    counts = earlier.run.counts()
    if not options.quiet:
        flying = sum(counts[phase] for phase in IN_FLIGHT)
        doubt = counts[Phase.REQUESTED]
        say(f"resuming run {earlier.run.id}: {flying} in flight, {doubt} of them in doubt")
        say(headline(earlier.run))
        for change in changes:
            say(f"the plan was edited: {change}")
    if earlier.tail.torn:
        say(
            f"warning: the journal's last line was torn by a crash ({len(earlier.tail.torn)} bytes); "
            "it is kept beside the journal and cut off"
        )


# -- a life ---------------------------------------------------------------------------------------------


async def _live(life: Life, journal: Path, clock: SystemClock, options: Options) -> int:
    """Live with logs and a display; whatever happens, the last words say where everybody stands."""
    style = options.log_format
    if style == "auto":
        style = "live" if is_terminal() and not options.quiet else "json"
    with_display = style == "live"
    logs.configure(
        as_json=style == "json", level=logging.WARNING if options.quiet or with_display else logging.INFO
    )
    display: AbstractContextManager[None] = nullcontext()
    if with_display:
        from fleet.report.progress import shown  # noqa: PLC0415 - rich only where somebody looks

        display = shown(life.run, clock.now)
    code: int = Exit.DEFECT
    try:
        with display:
            code = await live(life, clock=clock, listeners=(logs.event_logger(life.run),))
    finally:
        life.close()
        _last_words(life.run, journal, options, code)
    return code


def _last_words(found: Run, journal: Path, options: Options, code: int) -> None:
    name = name_of(journal, found.id)
    with contextlib.suppress(OSError, ValueError, FleetError):  # nobody may be listening any more
        if options.output == "json":
            print_json(as_data(found, worked_on=None, now=now(), name=name))
        elif not options.quiet or code != Exit.OK:
            print_lines(summary(found, now=now(), name=name, journal=str(journal)))
