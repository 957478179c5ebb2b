"""``validate``, ``preview``, ``schema``: everything that only reads."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from fleet.cli.common import output_option, plan_argument, print_json, print_lines, say, selection_options
from fleet.errors import Exit, PlanError
from fleet.plan import LoadedPlan, load_plan, plan_schema


def load_for_action(path: Path) -> LoadedPlan:
    """Load a plan that is to be previewed or run: nothing that it asks for may be missing from us.

    Raises:
        PlanError: It is wrong, or asks for something that is not built yet.
    """
    loaded = load_plan(path)
    for warning in loaded.warnings:
        say(f"warning: {warning}")
    if loaded.unbuilt:
        raise PlanError(*loaded.unbuilt)
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
                "not_built_yet": [_problem(each) for each in loaded.unbuilt],
            }
        )
        return Exit.OK
    for warning in loaded.warnings:
        say(f"warning: {warning}")
    for each in loaded.unbuilt:
        say(f"warning: {each}")
    names = ", ".join(target.name for target in loaded.settings.targets)
    more = " (preview and run refuse it: see the warnings)" if loaded.unbuilt else ""
    print_lines([f"{plan}: a valid plan {loaded.settings.plan!r} with targets {names}{more}"])
    return Exit.OK


def _problem(problem: object) -> dict[str, object]:
    return {name: getattr(problem, name) for name in ("message", "hint", "file", "line", "column", "path")}


@click.command()
@plan_argument
@selection_options
@click.option("--all", "everything", is_flag=True, help="Every name, however many.")
@output_option
def preview(plan: Path, limit: tuple[str, ...], *, skip_unfit: bool, everything: bool, output: str) -> int:
    """Show what a plan would do to which servers, and every reason against it. Changes nothing.

    \b
    Example:
      fleet preview plans/web-tier.yaml
      fleet preview plans/web-tier.yaml -o json | jq '.servers[].name'
    """  # noqa: D301 - click's mark for "do not rewrap"
    return asyncio.run(_preview(plan, limit, skip_unfit=skip_unfit, everything=everything, output=output))


async def _preview(
    plan: Path, limit: tuple[str, ...], *, skip_unfit: bool, everything: bool, output: str
) -> int:
    from fleet.clock import SystemClock  # noqa: PLC0415 - `validate` needs no cloud
    from fleet.cloud.registry import connect  # noqa: PLC0415
    from fleet.report import preview as report  # noqa: PLC0415
    from fleet.survey import survey  # noqa: PLC0415
    from fleet.whereami import own_server_ids  # noqa: PLC0415

    loaded = load_for_action(plan)
    cloud = connect(loaded.settings.cloud, SystemClock())
    try:
        found = await survey(
            cloud,
            loaded.settings,
            loaded.user_data,
            limit=limit,
            skip_unfit=skip_unfit,
            own_ids=own_server_ids(),
        )
    finally:
        await cloud.close()
    if output == "json":
        print_json(report.as_data(found))
    else:
        print_lines(report.as_text(found, everything=everything))
    found.refuse(loaded.located)
    return Exit.OK


@click.command()
def schema() -> None:
    """Print the JSON Schema of plans, for editors.

    \b
    Example:
      fleet schema > plans/plan.schema.json
    """  # noqa: D301 - click's mark for "do not rewrap"
    print_json(plan_schema())
