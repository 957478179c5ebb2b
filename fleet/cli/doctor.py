"""``doctor``: what works and what to mend, before a maintenance and not in it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import click

from fleet import freeze
from fleet.cli.common import clean, now, output_option, print_json, print_lines
from fleet.cli.openings import STEP, Opening, meet
from fleet.clock import SystemClock
from fleet.core.settings import CloudSettings, Settings
from fleet.core.windows import Schedule, Span, spell
from fleet.doctor import Doctor, Step, Verdict
from fleet.errors import Exit, FleetError, PlanError
from fleet.plan import LoadedPlan, load_plan
from fleet.runs import state_folder
from fleet.secrets import resolve

OPENINGS = 5
MARKS = {Verdict.WELL: "✓", Verdict.ODD: "!", Verdict.WRONG: "✗", Verdict.UNTRIED: "-"}


@click.command()
@click.argument("plan", type=click.Path(path_type=Path), required=False)
@click.option(
    "--provider",
    default="ecs",
    show_default=True,
    help="Without a plan: ecs, openstack, simulator or another.",
)
@click.option("--profile", help="Without a plan: an entry of clouds.yaml.")
@click.option("--region", help="Without a plan: the region.")
@click.option(
    "--cron",
    multiple=True,
    metavar="FIELDS",
    help="When cron starts it, instead of this machine's crontabs and timers; may begin with CRON_TZ=ZONE.",
)
@output_option
def doctor(
    plan: Path | None,
    *,
    provider: str,
    profile: str | None,
    region: str | None,
    cron: tuple[str, ...],
    output: str,
) -> int:
    """Say what works and what to mend: machine, login, network, clock, services; with PLAN, what it needs.

    Of a plan with windows the next five openings are shown, in local time and UTC, and which of them a
    crontab or a systemd timer of this machine meets.

    Changes nothing. Ends with 0 when nothing is wrong, else with the code that a run would end with: 2 for
    the plan, 8 for cloud and login, 9 for the state folder.

    \b
    Example:
      fleet doctor
      fleet doctor --profile otc-prod
      fleet doctor plans/web-tier.yaml
      fleet doctor plans/web-tier.yaml --cron '*/15 22-23,0-5 * * *'
    """  # noqa: D301 - click's mark for "do not rewrap"
    given = CloudSettings(provider=provider, profile=profile, region=region)
    return asyncio.run(_doctor(plan, given, cron, output))


async def _doctor(path: Path | None, given: CloudSettings, cron: tuple[str, ...], output: str) -> int:
    def report(step: Step) -> None:
        if output == "text":
            print_lines(_as_text(step))

    found = Doctor(SystemClock(), report)
    loaded: LoadedPlan | None = None
    openings: list[Opening] = []
    if path is not None:
        try:
            loaded = load_plan(path)
        except PlanError as error:
            for problem in error.problems:
                found.wrong("plan", f"{problem}".partition("\n")[0], problem.hint, Exit.USAGE)
        else:
            spans = await _windows(found, loaded)
            openings = [Opening(span) for span in spans]
            if loaded.settings.windows:
                plan = loaded.settings.plan
                openings = await asyncio.to_thread(_meet, found, spans, path, plan, cron)
            await asyncio.to_thread(_notify, found, loaded.settings)
    if path is None or loaded is not None:
        settings = loaded.settings if loaded else None
        await found.examine(settings.cloud if settings else given, settings, state_folder())
    wrong = [step.name for step in found.steps if step.verdict is Verdict.WRONG]
    if output == "json":
        print_json(
            {
                "well": not wrong,
                "steps": [_as_data(step) for step in found.steps],
                "openings": [each.as_data() for each in openings],
            }
        )
        return found.exit_code
    if loaded is not None and loaded.settings.windows:
        print_lines(["next openings:", *(line for each in openings for line in each.lines())])
    print_lines([f"to mend: {', '.join(dict.fromkeys(wrong))}" if wrong else "nothing is wrong"])
    return found.exit_code


async def _windows(found: Doctor, loaded: LoadedPlan) -> list[Span]:
    """Note what the plan says, and return when its servers may be worked on."""
    settings: Settings = loaded.settings
    targets = ", ".join(target.name for target in settings.targets)
    found.well("plan", f"{loaded.path}: valid, with targets {targets}")
    for problem in loaded.warnings:
        found.odd("plan", f"{problem}".partition("\n")[0], problem.hint)
    if not settings.windows and not settings.freeze:
        found.well("windows", "none: at any time")
        return []
    frozen, unread = await freeze.read(settings.freeze, settings.folder, dict(os.environ), now())
    if unread is not None:
        found.wrong("windows", unread, "as long as that is so, nothing is started", Exit.USAGE)
    schedule = Schedule(settings.windows, frozen)
    moment = now()
    state = schedule.at(moment)
    if state.closed is None:
        until = f" until {spell(state.closes_at)}" if state.closes_at else ""
        found.well("windows", f"open now{until}")
    elif state.opens_at is None:
        found.wrong("windows", state.closed, "write windows that are still to come", Exit.USAGE)
    else:
        found.well("windows", f"closed now: {state.closed}")
    return list(islice(schedule.openings(moment), OPENINGS))


def _notify(found: Doctor, settings: Settings) -> None:
    """Note whether the webhooks' URLs can be had here and now; nothing is sent."""
    for notify in settings.notify:
        if notify.webhook is None:
            continue
        try:
            resolve(notify.webhook, folder=settings.folder)
        except FleetError as error:
            found.odd("notify", f"{notify} would not be told: {error.message}", error.hint)
        else:
            found.well("notify", f"{notify}: the URL is there; `fleet notify PLAN` sends a test")


def _meet(found: Doctor, spans: list[Span], path: Path, plan: str, cron: tuple[str, ...]) -> list[Opening]:
    """Note who starts the plan, and return the openings with who meets them."""
    try:
        return meet(found, spans, path, plan, cron, now())
    except ValueError as error:
        found.wrong(STEP, f"--cron: {error}", "five fields as in a crontab, in quotes", Exit.USAGE)
        return [Opening(span) for span in spans]


def _as_data(step: Step) -> dict[str, object]:
    return {
        "step": step.name,
        "verdict": str(step.verdict),
        "said": clean(step.said),
        "remedy": None if step.remedy is None else clean(step.remedy),
    }


def _as_text(step: Step) -> Iterator[str]:
    yield f"{MARKS[step.verdict]} {step.name}: {step.said}"
    if step.remedy:
        yield f"    {step.remedy}"
