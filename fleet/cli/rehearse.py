"""``rehearse``: the whole plan on virtual time, against a simulated copy of the fleet."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleet.cli.common import now, output_option, plan_argument, print_json, print_lines, say
from fleet.cli.plans import load_for_action
from fleet.errors import CloudError, Exit, PlanError, Problem
from fleet.plan import LoadedPlan

if TYPE_CHECKING:
    from fleet.cli.rehearsed import Night
    from fleet.rehearsal.rehearse import Crashes
    from fleet.rehearsal.stories import Story, Told


@click.command()
@plan_argument
@click.option(
    "--fleet-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Rehearse on these servers. Default: a copy of the cloud's.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed is the same night.")
@click.option(
    "--runs", type=click.IntRange(1), default=1, show_default=True, help="So many nights, one seed each."
)
@click.option(
    "--faults",
    type=click.Choice(["none", "mild", "nasty"]),
    default="none",
    show_default=True,
    help="What goes wrong in the cloud: nothing, for one server in twenty, for every second one.",
)
@click.option(
    "--crash-everywhere",
    is_flag=True,
    help="Kill this very plan at every write and every call that changes something, and resume it.",
)
@click.option(
    "--at-most",
    type=click.IntRange(1),
    default=500,
    show_default=True,
    help="Of those instants try so many, evenly spread.",
)
@click.option(
    "--durations",
    metavar="history|stated|FILE",
    help="How long servers take: as in earlier runs of the plan (default, if there are enough), as stated, "
    "or by a file: `reinstall: 12m`, or a plan's .durations.",
)
@click.option(
    "--reinstall-takes", metavar="12m", help="State how long the middle one of the reinstalls takes."
)
@click.option(
    "--at",
    metavar="TIME",
    help="When it begins, as 2026-12-05T22:00. Default: now, or when the plan's window opens next.",
)
@click.option(
    "--nights",
    type=click.IntRange(1),
    help="It must be done in so many windows. Default: as many as it takes.",
)
@output_option
def rehearse(plan: Path, *, fleet_file: Path | None, output: str, **options: Any) -> int:  # noqa: ANN401 - click's options
    """Run a plan on virtual time against a simulated copy of the fleet: seconds for a night. Changes nothing.

    The plan's own checks (tcp, http, command) are taken as passed, its password as known; gates and calendars
    of the day are left out, approvals are given at once. A plan with windows is played window after window.

    \b
    Exit codes, so that it can gate a change request; of several nights the worst, in this order:
      1   a promise of ours was broken
      4   it would hold
      5   it would not be done in its windows or in --nights, or a server would overrun one
      3   some servers would fail
      0   all verified, within windows and limits
      2   the plan or an option is wrong

    \b
    Example:
      fleet rehearse plans/web-tier.yaml
      fleet rehearse plans/demo.yaml --faults nasty --runs 20
      fleet rehearse plans/demo.yaml --reinstall-takes 12m --nights 1
      fleet rehearse plans/demo.yaml --crash-everywhere
    """  # noqa: D301 - click's mark for "do not rewrap"
    from fleet.cli.lasting import begins, lasting  # noqa: PLC0415 - as above
    from fleet.cli.rehearsed import Ends, Night, exit_code  # noqa: PLC0415 - as above
    from fleet.rehearsal import rehearse as rehearsal  # noqa: PLC0415 - a simulated cloud that few commands need

    loaded = load_for_action(plan)
    start, words = begins(loaded.settings, options["at"])
    if start is None and words:  # no window opens any more
        _say_never(words, output)
        return Exit.UNFINISHED
    story, source = lasting(
        _story(loaded, fleet_file, options["seed"]), options["durations"], options["reinstall_takes"]
    )
    if start is not None:
        story = replace(story, begins=start, nightly=True)
    _say_basis(loaded, source, words)
    nights = [
        rehearsal.rehearse(rehearsal.with_faults(story, options["faults"], options["seed"] + number))
        for number in range(options["runs"])
    ]
    if nights[0].opened_nothing:
        raise PlanError(Problem(nights[0].opened_nothing))
    seen = [Night(told, options["nights"]) for told in nights]
    crashes = None
    if options["crash_everywhere"]:
        calm = rehearsal.with_faults(story, options["faults"], options["seed"])
        crashes = rehearsal.crash_everywhere(replace(calm), at_most=options["at_most"], told_one=_progress)
    broken = crashes is not None and bool(crashes.failures)
    code = Exit.DEFECT if broken else exit_code(seen)
    if output == "json":
        print_json(
            {
                "nights": [_as_data(night) for night in seen],
                "ends": Ends(seen).data(),
                "durations": source,
                "exit_code": code,
                "crashes": asdict(crashes) if crashes else None,
            }
        )
    else:
        for night in seen:
            print_lines(_as_text(night))
        if len(seen) > 1:
            print_lines([Ends(seen).words()])
        if crashes:
            print_lines(_crash_lines(crashes))
    return code


def _say_never(words: str, output: str) -> None:
    if output == "json":
        data: dict[str, object] = {
            "nights": [],
            "ends": None,
            "durations": None,
            "exit_code": Exit.UNFINISHED,
            "crashes": None,
        }
        print_json({**data, "unfinished": words})
    else:
        print_lines([f"nobody would ever be started: {words}"])


def _say_basis(loaded: LoadedPlan, source: str, words: str) -> None:
    """Say what the figures rest on."""
    say(f"durations: {source}")
    if words:
        say(words)
    if loaded.settings.gates or any(each.dates is None for each in loaded.settings.freeze):
        say("gates and calendars of frozen days are left out")


def _progress(done: int, of: int) -> None:
    if done % 100 == 0:
        say(f"killed at {done} of {of} instants")


# -- whose servers --------------------------------------------------------------------------------------


def _story(loaded: LoadedPlan, fleet_file: Path | None, seed: int) -> Story:
    from fleet.cloud.simulator.fleetfile import default_fleet, read_fleet  # noqa: PLC0415 - as above
    from fleet.rehearsal.rehearse import from_fleet_file  # noqa: PLC0415 - as above

    if fleet_file is not None:
        return from_fleet_file(loaded.settings, read_fleet(fleet_file), loaded.user_data, seed)
    try:
        return asyncio.run(_copied(loaded, seed))
    except CloudError as error:
        if loaded.settings.cloud.provider != "simulator":
            raise
        say(f"no simulator answers ({error.message}); rehearsing on the demo's servers")
        return from_fleet_file(loaded.settings, default_fleet(seed=seed), loaded.user_data, seed)


async def _copied(loaded: LoadedPlan, seed: int) -> Story:
    """Copy the cloud's servers, and the images of those that the plan means. Only reads."""
    from fleet.clock import SystemClock  # noqa: PLC0415 - as above
    from fleet.cloud.registry import connect  # noqa: PLC0415 - as above
    from fleet.errors import NotFound  # noqa: PLC0415 - as above
    from fleet.rehearsal.rehearse import from_cloud  # noqa: PLC0415 - as above

    cloud = connect(loaded.settings.cloud, SystemClock())
    try:
        servers = await cloud.servers()
        wanted = {server.image for server in servers if server.image}
        wanted |= {target.reinstall.image for target in loaded.settings.targets if target.reinstall.image}
        images = {}
        for name in sorted(wanted):
            try:
                images[name] = await cloud.image(name)
            except NotFound:
                continue
    finally:
        await cloud.close()
    return from_cloud(loaded.settings, servers, images, loaded.user_data, seed, now())


# -- what is told ---------------------------------------------------------------------------------------


def _as_data(night: Night) -> dict[str, object]:
    from fleet.rehearsal.rehearse import most_in_flight, timeline  # noqa: PLC0415 - as above

    told = night.told
    return {
        "seed": told.story.seed,
        "took_s": round(night.took_s, 1),
        "most_in_flight": most_in_flight(told),
        "most_down": told.world.max_down,
        "servers": dict(Counter(told.phases().values())),
        "waves": [asdict(wave) for wave in timeline(told)],
        "calls": dict(told.world.ledger.requests),
        "exit_code": told.endings[-1].code,
        "held": told.run.held if told.run else None,
        "failed": _failed(told),
        "violations": told.violations,
        **night.data(),
    }


def _failed(told: Told) -> dict[str, str]:
    servers = told.run.servers.values() if told.run else ()
    return {server.label: server.reason for server in servers if server.phase == "failed"}


def _as_text(night: Night) -> list[str]:
    from fleet.cli.rehearsed import span  # noqa: PLC0415 - as above

    told, found = night.told, _as_data(night)
    counts = ", ".join(f"{count} {name}" for name, count in Counter(told.phases().values()).most_common())
    calls = sum(told.world.ledger.requests.values())
    took, most = span(night.took_s), found["most_in_flight"]
    lines = [f"seed {told.story.seed}: {took}; {counts}; most in flight {most}; {calls} calls"]
    from fleet.rehearsal.rehearse import timeline  # noqa: PLC0415 - as above

    lines += [
        f"  {wave.target} wave {wave.wave}: {wave.servers} servers, "
        f"{span(wave.start_s)} to {span(wave.end_s)}"
        for wave in timeline(told)
    ]
    lines += night.lines()
    lines += [f"  {name}: {reason}" for name, reason in list(_failed(told).items())[:20]]
    if told.run is not None and told.run.held is not None:
        lines.append(f"  held: {told.run.held}")
    lines += [f"  broken: {violation}" for violation in told.violations]
    return lines


def _crash_lines(crashes: Crashes) -> list[str]:
    from fleet.cli.rehearsed import span  # noqa: PLC0415 - as above

    tried = f"{crashes.told // 2:,} of " if crashes.told < 2 * crashes.effects else ""
    figures = (
        f"{crashes.crashes:,} crashes, {crashes.resumed:,} resumed, {crashes.wiped_twice} wiped twice, "
        f"{crashes.limits_broken} limits broken, longest extra time {span(crashes.longest_extra_s)}"
    )
    return [
        f"killed at {tried}{crashes.effects:,} instants, by SIGKILL and by a power cut: {figures}",
        *(f"  effect {at}, {kind}: {'; '.join(broken[:3])}" for at, kind, broken in crashes.failures[:10]),
    ]
