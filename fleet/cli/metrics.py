"""``metrics``: what Prometheus reads, also when no run is at work."""

from __future__ import annotations

from pathlib import Path

import click

from fleet.cli.common import now, say
from fleet.errors import Exit, FleetError, JournalError
from fleet.journal import load
from fleet.report.metrics import Seen, file_for, metrics_of, write_metrics
from fleet.runs import Filed, is_locked, is_stillborn, journals, plan_of, state_folder
from fleet.told import Told, told_path


@click.command()
@click.argument("plans", metavar="[NAME]...", nargs=-1)
@click.option(
    "--file",
    type=click.Path(path_type=Path),
    help="Write them there instead of printing them; into a folder: to fleet-PLAN.prom, as runs do.",
)
def metrics(plans: tuple[str, ...], *, file: Path | None) -> int:
    """Print metrics of the newest run of every plan, or of the plans of these names. From journals alone.

    For cron, so that figures age aloud while no run is at work; a run writes its own with --metrics-file.

    \b
    Example:
      fleet metrics
      fleet metrics --file /var/lib/prometheus/node-exporter/
    """  # noqa: D301 - click's mark for "do not rewrap"
    state = state_folder()
    newest: dict[str, Filed] = {}
    for filed in journals(state):
        newest.setdefault(plan_of(filed.run), filed)
    unknown = [plan for plan in plans if plan not in newest]
    if unknown:
        raise click.UsageError(f"no run of a plan {unknown[0]!r}; there are: {', '.join(newest) or 'none'}")
    found = []
    for plan in plans or sorted(newest):
        try:
            found += [] if is_stillborn(newest[plan].journal) else [_seen(state, newest[plan])]
        except JournalError as error:  # the others are worth knowing all the same
            say(f"warning: {error.message}")
    if file is None:
        click.echo(metrics_of(found, now=now()), nl=False)
        return Exit.OK
    together = [[seen] for seen in found] if file.is_dir() else [found]
    try:
        for some in together:
            write_metrics(file_for(file, some[0].settings.plan if some else ""), metrics_of(some, now=now()))
    except OSError as error:
        raise FleetError(f"cannot write {file}: {error.strerror or error}", hint="check --file") from error
    return Exit.OK


def _seen(state: Path, filed: Filed) -> Seen:
    worked_on = is_locked(filed.journal)
    run, _ = load(filed.journal)
    told = Told(told_path(state, run.settings.plan))
    return Seen(
        run.settings,
        run,
        worked_on=worked_on,
        code=None if worked_on else told.code,
        undelivered=len(told.failures()) if run.settings.notify else None,
    )
