"""``validate``, ``preview``, ``schema``: everything that only reads."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.cli.common import (
    name_of,
    now,
    output_option,
    plan_argument,
    print_json,
    print_lines,
    say,
    selection_options,
)
from fleet.errors import Exit, PlanError
from fleet.plan import LoadedPlan, load_plan, plan_schema

if TYPE_CHECKING:
    from fleet.cli.earlier import Earlier


def load_for_action(path: Path) -> LoadedPlan:
    """Load a plan that is to be previewed or run, and say what is odd about it.

    Raises:
        PlanError: It is wrong.
    """
    loaded = load_plan(path)
    for warning in loaded.warnings:
        say(f"warning: {warning}")
    return loaded


@click.command()
@plan_argument
@output_option
def validate(plan: Path, output: str) -> int:
    """Check a plan, offline: its form, its files, its sense.

    \b
    Example:
      fleet validate plans/web-tier.yaml
    """  # noqa: D301 - click's mark for "do not rewrap"
    try:
        loaded = load_plan(plan)
    except PlanError as error:
        if output == "json":
            print_json({"valid": False, "problems": [_problem(each) for each in error.problems]})
            return Exit.USAGE
        raise
    if output == "json":
        print_json(
            {
                "valid": True,
                "problems": [],
                "warnings": [_problem(each) for each in loaded.warnings],
            }
        )
        return Exit.OK
    for warning in loaded.warnings:
        say(f"warning: {warning}")
    names = ", ".join(target.name for target in loaded.settings.targets)
    print_lines([f"{plan}: a valid plan {loaded.settings.plan!r} with targets {names}"])
    return Exit.OK


def _problem(problem: object) -> dict[str, object]:
    return {name: getattr(problem, name) for name in ("message", "hint", "file", "line", "column", "path")}


@click.command()
@plan_argument
@selection_options
@click.option("--all", "everything", is_flag=True, help="Every name, however many.")
@click.option(
    "--save",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a manifest, which `fleet run --manifest` carries out: those servers or fewer.",
)
@click.option("--again", is_flag=True, help="As `fleet run --again` would: those done already included.")
@output_option
def preview(
    plan: Path,
    limit: tuple[str, ...],
    *,
    skip_unfit: bool,
    everything: bool,
    save: Path | None,
    again: bool,
    output: str,
) -> int:
    """Show what a plan would do to which servers, and every reason against it. Changes nothing.

    First the worst that the plan allows, as numbers; then waves, who is left out, and what is odd.

    \b
    Example:
      fleet preview plans/web-tier.yaml
      fleet preview plans/web-tier.yaml --save tonight.json
      fleet preview plans/web-tier.yaml -o json | jq '.servers[].name'
    """  # noqa: D301 - click's mark for "do not rewrap"
    loaded = load_for_action(plan)
    show = Show(everything=everything, output=output, save=save, again=again)
    return asyncio.run(_preview(loaded, limit, show, skip_unfit=skip_unfit))


@dataclass(frozen=True, slots=True)
class Show:
    """How a preview is told, and where its manifest goes."""

    everything: bool = False
    output: str = "text"
    save: Path | None = None
    again: bool = False


def _show_unfinished(going_on: Earlier, show: Show) -> int:
    """Show what `fleet run` would do: go on with the run that is unfinished, and open none."""
    from fleet import history  # noqa: PLC0415 - `validate` needs none of it
    from fleet.report import status  # noqa: PLC0415 - late: start-up stays fast
    from fleet.report.closing import closing_lines  # noqa: PLC0415 - late: start-up stays fast
    from fleet.runs import is_locked, state_folder  # noqa: PLC0415 - late: start-up stays fast

    run, worked_on, name = (
        going_on.run,
        is_locked(going_on.journal),
        name_of(going_on.journal, going_on.run.id),
    )
    say(f"run {run.id} of this plan is unfinished: `fleet run` goes on with it, and opens no other one")
    if show.output == "json":
        print_json({"goes_on_with": status.as_data(run, worked_on=worked_on, now=now(), name=name)})
        return Exit.OK
    seen = history.read(state_folder(), run.settings.plan)
    closing = closing_lines(run, now(), seen, attended=worked_on is not None)
    print_lines(
        status.as_text(
            run, worked_on=worked_on, now=now(), name=name, everything=show.everything, closing=closing
        )
    )
    return Exit.OK


async def _preview(loaded: LoadedPlan, limit: tuple[str, ...], show: Show, *, skip_unfit: bool) -> int:
    from fleet import manifest as manifests  # noqa: PLC0415 - `validate` needs no cloud
    from fleet.cli.earlier import is_over, latest  # noqa: PLC0415 - late: start-up stays fast
    from fleet.cli.surveys import look  # noqa: PLC0415 - late: start-up stays fast
    from fleet.clock import SystemClock  # noqa: PLC0415 - late: start-up stays fast
    from fleet.cloud.registry import connect  # noqa: PLC0415 - late: start-up stays fast
    from fleet.report import preview as report  # noqa: PLC0415 - late: start-up stays fast
    from fleet.runs import state_folder  # noqa: PLC0415 - late: start-up stays fast

    cloud, state = connect(loaded.settings.cloud, SystemClock()), state_folder()
    try:
        going_on = latest(state, loaded.settings.plan, await cloud.whoami())
        if going_on is not None and not is_over(going_on.run) and show.save is None:
            return _show_unfinished(going_on, show)
        found, ahead = await look(loaded, cloud, state, limit=limit, skip_unfit=skip_unfit, again=show.again)
    finally:
        await cloud.close()
    if show.output == "json":
        print_json(report.as_data(found, outlook=ahead))
    else:
        print_lines(report.as_text(found, everything=show.everything, outlook=ahead))
    found.refuse(loaded.located)
    if show.save is not None:
        made = manifests.make(
            found, limit=limit, worst=report.worst_data(found.worst), forecast=ahead.as_data(), now=now()
        )
        manifests.write(made, show.save)
        say(f"manifest of {len(made.servers)} servers: {show.save}")
        say(f"digest: {made.digest}")
    return Exit.OK


@click.command()
def schema() -> None:
    """Print the JSON Schema of plans, for editors.

    \b
    Example:
      fleet schema > plans/plan.schema.json
    """  # noqa: D301 - click's mark for "do not rewrap"
    print_json(plan_schema())
