"""``unclaim``: who has claimed servers, since when; and a person takes the claims of a dead run off."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from datetime import timedelta
from pathlib import Path

import click

from fleet.claims import half_done_of
from fleet.cli.common import now, output_option, plan_argument, print_json, print_lines, say
from fleet.cli.plans import load_for_action
from fleet.clock import SystemClock
from fleet.cloud.api import CanTag
from fleet.cloud.registry import connect
from fleet.core.claimtag import read, tail_of
from fleet.core.model import Server
from fleet.core.settings import CloudSettings
from fleet.errors import Exit, FleetError, LockedError, NotFound, PlanError, Problem
from fleet.journal import load
from fleet.report.status import duration
from fleet.runs import is_locked, is_stillborn, journals, state_folder

STALE = timedelta(hours=24)
"""A claim that is older is said to be old. No server is worked on for a day; a run that is dead may be of any
age, and one that lives can have a wrong clock: so it is a word for people, and nothing is decided by it."""


@click.command()
@plan_argument
@click.argument("servers", nargs=-1)
@click.option("--run", "run", metavar="RUN", help="Take this run's claims off: its id, or the end of it.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@output_option
def unclaim(plan: Path, servers: tuple[str, ...], *, run: str | None, yes: bool, output: str) -> int:
    """Show which servers of PLAN's cloud are claimed by runs, or take the claims of a dead run off.

    A claim says that a run, maybe on another machine, works on the server. Take it off only when you know
    that this run's process is dead, and that nobody will resume it: it would not wipe the server any more,
    but somebody may be waiting for it. SERVERS (names or ids; default: all) narrow it.

    \b
    Example:
      fleet unclaim plans/web-tier.yaml
      fleet unclaim plans/web-tier.yaml --run 20261205T200000Z-7k3f
    """  # noqa: D301 - click's mark for "do not rewrap"
    loaded = load_for_action(plan)
    return asyncio.run(_unclaim(loaded.settings.cloud, servers, run, yes=yes, output=output))


async def _unclaim(
    settings: CloudSettings, servers: tuple[str, ...], run: str | None, *, yes: bool, output: str
) -> int:
    cloud = connect(settings, SystemClock())
    try:
        claimed = [each for each in await cloud.servers() if each.claims and _is_meant(each, servers)]
        if run is None:
            _show(claimed, output)
            return Exit.OK
        tail = tail_of(run) if run.count("-") > 1 else run
        chosen = [(server, keys) for server in claimed if (keys := _keys_of(server, tail))]
        if not chosen:
            raise PlanError(Problem(f"no server is claimed by run {run}", hint="without --run all are shown"))
        _refuse_ours(tail)
        _ask([server for server, _ in chosen], yes=yes)
        if not isinstance(cloud, CanTag):
            raise PlanError(Problem("this cloud's servers cannot be tagged by fleet"))
        for server, keys in chosen:
            with contextlib.suppress(NotFound):  # gone, with its tags
                await cloud.untag(server.id, keys)
            say(f"{server.label}: the claim of run …-{tail} is off")
        return Exit.OK
    finally:
        await cloud.close()


def _is_meant(server: Server, names: tuple[str, ...]) -> bool:
    return not names or server.name in names or server.id in names


def _keys_of(server: Server, tail: str) -> list[str]:
    claims = [read(key, value) for key, value in server.claims.items()]
    return [claim.key for claim in claims if claim is not None and claim.run == tail]


def _show(claimed: list[Server], output: str) -> None:
    rows = []
    for server in claimed:
        for key, value in server.claims.items():
            claim = read(key, value)
            age = now() - claim.since if claim else None
            rows.append(
                {
                    "server": server.id,
                    "name": server.name,
                    "run": claim.run if claim else None,
                    "life": claim.life if claim else None,
                    "host": claim.host if claim else None,
                    "since": claim.since if claim else None,
                    "old": age is not None and age > STALE,
                    "tag": f"{key}={value}",
                    "words": f"{claim} ({duration(age)} ago)" if claim and age else f"unreadable: {value}",
                }
            )
    if output == "json":
        print_json(rows)
    elif not rows:
        print_lines(["no server is claimed"])
    else:
        print_lines(
            f"{row['name'] or row['server']}: {row['words']}{', which is old' if row['old'] else ''}"
            for row in rows
        )


def _refuse_ours(tail: str) -> None:
    """Refuse to take off what a run of this state folder still needs, or will take off by itself.

    Raises:
        LockedError: It lives.
        PlanError: It has left servers half done.
    """
    for filed in journals(state_folder()):
        if tail_of(filed.run) != tail:
            continue
        if (holder := is_locked(filed.journal)) is not None:
            words = f"run {filed.run} is being worked on ({holder})"
            raise LockedError(words, hint="wait until it has ended")
        if _has_left_some(filed.journal):
            raise PlanError(
                Problem(
                    f"run {filed.run} has left servers half done",
                    hint=f"`fleet resume {filed.run}` finishes them and takes its claims off",
                )
            )


def _has_left_some(journal: Path) -> bool:
    """Tell whether a run has left servers half done; one that cannot be read says nothing."""
    try:
        return not is_stillborn(journal) and bool(half_done_of(load(journal)[0]))
    except FleetError as error:
        say(f"warning: {error.message}")
        return False


def _ask(servers: list[Server], *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise PlanError(Problem("there is no terminal to ask on", hint="--yes takes them off without asking"))
    names = ", ".join(server.label for server in servers[:10])
    say(f"The claims on {len(servers)} servers will be taken off: {names}{', …' if servers[10:] else ''}")
    if not click.confirm("Is that run's process dead, and will nobody resume it?", err=True):
        raise PlanError(Problem("not agreed to: nothing was done"))
