"""``run`` and ``resume``: decide which run it is, ask, and live it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import click
import msgspec

from fleet import history, logs, runs
from fleet.claims import check_unclaimed
from fleet.cli.common import (
    F,
    name_of,
    now,
    plan_argument,
    print_json,
    print_lines,
    run_argument,
    say,
    selection_options,
)
from fleet.cli.display import configure_logs, displayed, heartbeat_option
from fleet.cli.earlier import Earlier, is_over, latest, runs_of, tell_left_out
from fleet.cli.logged import log_file_option, logged, not_the_log
from fleet.cli.plans import load_for_action
from fleet.cli.surveys import look, read_manifest
from fleet.cli.telling import Telling
from fleet.clock import SystemClock
from fleet.cloud.api import Cloud
from fleet.cloud.registry import connect
from fleet.core.edits import edits
from fleet.core.forecast import Forecast
from fleet.core.model import Identity
from fleet.core.settings import Settings
from fleet.core.state import IN_FLIGHT, Phase, Run
from fleet.engine import outcome
from fleet.errors import Exit, FleetError, PlanError, Problem
from fleet.inhibit import inhibiting
from fleet.journal import load
from fleet.life import Life, check_edit, check_identity, live, open_run, resume_run
from fleet.logfile import LogFile
from fleet.manifest import SHOWN, Manifest
from fleet.objections import check_ground
from fleet.orders import Orders
from fleet.outlook import Outlook
from fleet.plan import LoadedPlan
from fleet.report import preview as preview_report
from fleet.report.beside import HEARTBEAT_S
from fleet.report.closing import closing_lines
from fleet.report.digest import keep_of
from fleet.report.pulse import Pulse, Took, watching
from fleet.report.status import as_data, headline, next_step, summary
from fleet.survey import opening, resolve_passwords
from fleet.systemd import notify, watched


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line said about how to run.

    Attributes:
        ignore_before: Runs opened before are not gone on with: the cloud that they were about is no more.
        wait: Wait for a window to open and for a person to approve, instead of ending.
        override_freeze: Why frozen days do not count, or None: they do.
        metrics_file: Where metrics are written, a file or a folder; None: nowhere.
        log_file: Gets the log too; None: nothing does.
        inhibit: Whether systemd is kept from shutting this machine down: `fleet.inhibit`.
        manifest: File of the manifest that is to be carried out.
        digest: Of the manifest that was approved, or the beginning of it.
    """

    yes: bool = False
    again: bool = False
    ignore_before: datetime | None = None
    skip_unfit: bool = False
    limit: tuple[str, ...] = ()
    log_format: str = "auto"
    heartbeat: float = HEARTBEAT_S / 60
    quiet: bool = False
    output: str = "text"
    manifest: Path | None = None
    digest: str | None = None
    wait: bool = False
    override_freeze: str | None = None
    metrics_file: Path | None = None
    log_file: LogFile | None = None
    inhibit: str = "auto"


def _log_options(function: F) -> F:
    """Add the options that `run` and `resume` share."""
    for option in (
        heartbeat_option,
        click.option(
            "--override-freeze",
            metavar="REASON",
            help="Start servers on frozen days too; goes into the journal.",
        ),
        click.option(
            "--metrics-file",
            type=click.Path(path_type=Path),
            envvar="FLEET_METRICS_FILE",
            help="Write Prometheus metrics there for node_exporter; into a folder: as fleet-PLAN.prom.",
        ),
        click.option(
            "--wait",
            is_flag=True,
            help="Wait for a window to open and for approvals, instead of ending with 5 or 6.",
        ),
        click.option(
            "-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Of the summary."
        ),
        click.option("-q", "--quiet", is_flag=True, help="Nothing but what needs a person, for cron."),
        log_file_option,
        click.option(
            "--inhibit",
            type=click.Choice(["auto", "yes", "no"]),
            default="auto",
            envvar="FLEET_INHIBIT",
            help="No shutdown of this machine while servers are in flight; auto: where systemd runs it.",
        ),
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
@click.option(
    "--manifest",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Do what `preview --save` wrote there: those servers or fewer, and nothing else. Once.",
)
@click.option("--digest", metavar="HEX", help="Only if this is the manifest's digest: what was approved.")
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
    if chosen.digest is not None and chosen.manifest is None:
        raise click.UsageError("--digest is the digest of a --manifest")
    if check:
        from fleet.cli.plans import preview  # noqa: PLC0415 - only for those who type another tool's word

        arguments = [
            str(plan),
            *(f"--limit={each}" for each in chosen.limit),
            *(["--skip-unfit"] if chosen.skip_unfit else []),
            *(["--again"] if chosen.again else []),
        ]
        return int(preview.main(arguments, standalone_mode=False) or 0)

    not_the_log(chosen.log_file, plan, journal, chosen.manifest)

    def work() -> int:
        loaded = load_for_action(plan)
        notify("READY=1")
        return asyncio.run(watched(run_plan(loaded, journal, chosen)))

    return logged(chosen.log_file, f"run {plan}", work)


@click.command()
@run_argument()
@_log_options
def resume(run: str | None, **options: object) -> int:
    """Go on with a run, from its journal alone: RUN is an id, a prefix, a plan's name, a path, or the newest.

    \b
    Example:
      fleet resume web-tier
    """  # noqa: D301 - click's mark for "do not rewrap"
    chosen = Options(yes=True, **options)  # type: ignore[arg-type]  # click has checked them

    def work() -> int:
        notify("READY=1")
        return asyncio.run(watched(_resume(runs.find(run, runs.state_folder()), chosen)))

    return logged(chosen.log_file, f"resume {run or ''}".strip(), work)


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


async def run_plan(loaded: LoadedPlan, journal: Path | None, options: Options) -> int:
    """Open a run of a plan, or go on with the one that is unfinished; return the exit code."""
    telling = _telling(loaded.settings, options)
    return await telling.through(_run_plan(loaded, journal, options, telling))


def _telling(settings: Settings, options: Options) -> Telling:
    return Telling(settings, runs.state_folder(), options.metrics_file, scheduled=options.yes)


async def _run_plan(loaded: LoadedPlan, journal: Path | None, options: Options, telling: Telling) -> int:
    state = runs.state_folder()
    plan = loaded.settings.plan
    manifest = (
        read_manifest(options.manifest, loaded, options.limit, options.digest) if options.manifest else None
    )
    lock = _plan_lock(state, plan)
    cloud: Cloud | None = None
    try:
        cloud = connect(loaded.settings.cloud, SystemClock())
        identity = await cloud.whoami()
        earlier = _at(journal, plan) if journal else latest(state, plan, identity)
        if earlier and options.ignore_before and earlier.run.opened_at < options.ignore_before:
            earlier = None
        if earlier is not None and not is_over(earlier.run):
            _no_limit(options, earlier.run)
            if manifest is not None:
                _same_manifest(manifest, earlier.run)
            return await _go_on(earlier, state, options, loaded, telling, cloud)
        if manifest is not None:
            _unused(manifest, state, identity)
        elif (
            earlier is not None and not options.again and not _differs(earlier.run, loaded.settings, options)
        ):
            telling.about(earlier.run, earlier.journal)
            return _nothing_to_do(earlier.run, options)
        if await _is_closed(loaded.settings, options):
            return Exit.UNFINISHED
        return await _open(loaded, journal, state, options, cloud, telling, manifest)
    finally:
        if cloud is not None:
            await cloud.close()
        lock.release()


async def _is_closed(settings: Settings, options: Options) -> bool:
    """Tell whether windows or frozen days leave nothing to do now, and say so; nobody is in flight."""
    if options.wait or not (settings.windows or settings.freeze):
        return False
    without_gates = msgspec.structs.replace(settings, gates=())
    clock = SystemClock()
    async with Outlook(without_gates, clock, Forecast(), override=options.override_freeze) as outlook:
        closed = outlook.state(clock.now()).closed
    if closed is None:
        return False
    if not options.quiet:  # a night between two windows is as it should be; a missed one is told otherwise
        say(f"nothing is started: {closed}")
        say("hint: the same command goes on when it opens; --wait waits for that")
    return True


def _same_manifest(manifest: Manifest, found: Run) -> None:
    """Refuse to take an unfinished run for that of a manifest which it is not of."""
    if found.opened.manifest != manifest.digest:
        of = f"manifest {found.opened.manifest[:SHOWN]}" if found.opened.manifest else "no manifest"
        raise PlanError(
            Problem(
                f"run {found.id} of this plan is unfinished, and it is of {of}, not of "
                f"{manifest.digest[:SHOWN]}",
                hint="`fleet resume` goes on with it; the manifest's turn comes when it is over",
            )
        )


def _unused(manifest: Manifest, state: Path, identity: Identity) -> None:
    """Refuse a manifest that a run has used up. Only this machine's runs are known here."""
    for _, earlier in runs_of(state, manifest.plan, identity):
        if earlier.manifest == manifest.digest:
            raise PlanError(
                Problem(
                    f"manifest {manifest.digest[:SHOWN]} was used up by run {earlier.run}",
                    hint="preview again and have the new manifest approved; `fleet retry` gives failed "
                    "servers of that run another try",
                )
            )


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
    loaded: LoadedPlan,
    journal: Path | None,
    state: Path,
    options: Options,
    cloud: Cloud,
    telling: Telling,
    manifest: Manifest | None = None,
) -> int:
    clock = SystemClock()
    limit = options.limit if manifest is None else manifest.limit
    found, ahead = await look(
        loaded,
        cloud,
        state,
        limit=limit,
        skip_unfit=options.skip_unfit,
        manifest=manifest,
        again=options.again,
    )
    if not options.quiet:
        for line in preview_report.as_text(found, outlook=ahead):
            say(line)
        tell_left_out(found)
    # First, since a server that another run is reinstalling also looks unfit.
    check_unclaimed(state, (member.id for member in found.members))
    found.refuse(loaded.located)
    if len(found.skipped) == len(found.members):
        failed = sum(reason.startswith("failed in") for reason in found.skipped.values())
        if failed:
            say(f"nothing to do: every server has been tried, and {failed} failed")
        elif not options.quiet:
            say("nothing to do")
        return Exit.FAILED if failed else Exit.OK
    _ask(len(found.members) - len(found.skipped), options, manifest)
    run_id = runs.new_run_id(loaded.settings.plan, clock.now())
    path = (journal or state / run_id / runs.JOURNAL).absolute()
    runs.make_folder(path.parent)
    lock = runs.lock_run(path)
    try:
        life = open_run(
            opening(found, run=run_id, plan_path=loaded.path, limit=limit),
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
                run=run_id,
            ),
            user_data=loaded.user_data,
        )
        del found  # the whole project's servers: for a night's run they are many and of no use
        return await _live(life, path, clock, options, telling)
    finally:
        lock.release()


def _ask(servers: int, options: Options, manifest: Manifest | None = None) -> None:
    """Have a person type the number of servers, or the beginning of the manifest's digest.

    Raises:
        PlanError: Nobody is there to ask, and --yes was not given; or the answer was no.
    """
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise PlanError(Problem("there is no terminal to ask on", hint="--yes runs without asking"))
    whose = "disk of 1 server" if servers == 1 else f"disks of {servers} servers"
    say(f"The system {whose} will be wiped.")
    if manifest is not None:
        say(f"digest of the manifest: {manifest.digest}")
        answer = click.prompt(
            f"Type the first {SHOWN} characters of the digest that was approved",
            default="",
            show_default=False,
            err=True,
        )
        if answer.strip().lower() != manifest.digest[:SHOWN]:
            raise PlanError(Problem("not agreed to: nothing was done"))
        return
    answer = click.prompt("Type the number of servers to go on", default="", show_default=False, err=True)
    if answer.strip() != str(servers):
        raise PlanError(Problem("not agreed to: nothing was done"))


# -- an old run -----------------------------------------------------------------------------------------


async def _resume(journal: Path, options: Options) -> int:
    found, _ = load(journal)
    telling = _telling(found.settings, options)
    telling.about(found, journal)
    return await telling.through(_resume_under_lock(journal, found.settings.plan, options, telling))


async def _resume_under_lock(journal: Path, plan: str, options: Options, telling: Telling) -> int:
    state = runs.state_folder()
    lock = _plan_lock(state, plan)
    try:
        # Read again under the lock: the process that held it may have just finished the run.
        found, tail = load(journal)
        telling.about(found, journal)
        if is_over(found):
            return _nothing_to_do(found, options)
        return await _go_on(Earlier(journal, found, tail), state, options, None, telling)
    finally:
        lock.release()


async def _go_on(
    earlier: Earlier,
    state: Path,
    options: Options,
    loaded: LoadedPlan | None,
    telling: Telling,
    given: Cloud | None = None,
) -> int:
    """Go on with a run, on the cloud *given* or on one of our own."""
    journal = earlier.journal.absolute()
    edited = loaded.settings if loaded else None
    lock = runs.lock_run(journal)
    clock = SystemClock()
    cloud = given
    try:
        # Read once more: until the lock was ours, `fleet skip` and its like could still write.
        pulses: list[Pulse] = []
        found, tail = load(journal, watch=watching(pulses))
        earlier = Earlier(journal, found, tail)
        telling.about(found, journal)
        changes = check_edit(found, edited)
        settings = edited or found.settings
        if found.held is not None and found.in_flight == 0:
            say(f"run {found.id} is held: {found.held}")
            step = next_step(found, None, name_of(journal, found.id)) or ""
            say(f"hint: {step.partition(', then fleet resume')[0]}, then the same command again")
            return Exit.HELD
        if not found.in_flight and not found.owes and await _is_closed(settings, options):
            return Exit.UNFINISHED
        _tell_resume(earlier, changes, options)
        await asyncio.to_thread(check_ground, found, state)
        cloud = cloud or connect(settings.cloud, clock)
        identity = await cloud.whoami()
        check_identity(found, identity)
        passwords = await asyncio.to_thread(resolve_passwords, settings)
        user_data = {**(loaded.user_data if loaded else {}), **runs.read_files(journal)}
        orders = Orders(
            settings, passwords=passwords, user_data=user_data, user_id=identity.user_id, run=found.id
        )
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
        return await _live(life, journal, clock, options, telling, pulses[0].took)
    finally:
        if cloud is not None and given is None:
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


async def _live(
    life: Life,
    journal: Path,
    clock: SystemClock,
    options: Options,
    telling: Telling,
    took: Took | None = None,
) -> int:
    """Live with logs and a display; whatever happens, the last words say where everybody stands."""
    live_display = configure_logs(options.log_format, quiet=options.quiet, file=options.log_file)
    pulse = Pulse(life.run, took)
    code: int = Exit.DEFECT
    try:
        async with (
            displayed(
                pulse,
                journal,
                life.cloud,
                clock,
                live=live_display,
                heartbeat_min=options.heartbeat,
                kept=options.log_file is not None,
            ),
            telling.while_working(life.run, journal, life.cloud),
            inhibiting(life.run, options.inhibit) as inhibit,
        ):
            code = await live(
                life,
                clock=clock,
                listeners=(pulse.listen, logs.event_logger(life.run), telling.hear, inhibit),
                patient=options.wait,
                override_freeze=options.override_freeze,
            )
    finally:
        life.close()
        if life.recorder.journal.broken is None:
            keep_of(life.run, journal)
        _last_words(life.run, journal, options, code)
    return code


def _last_words(found: Run, journal: Path, options: Options, code: int) -> None:
    name = name_of(journal, found.id)
    with contextlib.suppress(OSError, ValueError, FleetError):  # nobody may be listening any more
        if options.output == "json":
            print_json(as_data(found, worked_on=None, now=now(), name=name))
        elif not options.quiet or _matters(found, code):
            seen = history.read(runs.state_folder(), found.settings.plan)
            closing = closing_lines(found, now(), seen)
            print_lines(summary(found, now=now(), name=name, journal=str(journal), closing=closing))


def _matters(found: Run, code: int) -> bool:
    """Tell whether a life's end is worth a mail: not one that went well, or that just goes on tomorrow."""
    if code != Exit.UNFINISHED:
        return code != Exit.OK
    return bool(found.in_flight or found.counts()[Phase.FAILED] or found.owes)
