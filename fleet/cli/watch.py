"""``watch``: a run in the browser, live, and the orders that one may give from there."""

from __future__ import annotations

import asyncio

import click

from fleet import history
from fleet.cli.common import clean, name_of, run_argument, say
from fleet.cli.steer import give
from fleet.errors import Exit, PlanError, Problem
from fleet.runs import find, state_folder
from fleet.steering import Order
from fleet.whereami import whoami


@click.command()
@run_argument()
@click.option(
    "--port",
    default=0,
    type=click.IntRange(0, 65535),
    help="Port on 127.0.0.1; by default a free one. Name one to reach it through an SSH tunnel.",
)
@click.option("--read-only", is_flag=True, help="Show, and take no orders.")
def watch(run: str | None, *, port: int, read_only: bool) -> int:
    """Show a run in the browser, live: RUN is an id, a prefix, a plan's name, a path, or the newest.

    Prints an address that is good for one browser, once. From the page a run can be held, released,
    approved and drained, with a reason. Ctrl-C ends the page; the run goes on.

    \b
    Example:
      fleet watch
      fleet watch web-tier --read-only
      ssh -L 8099:127.0.0.1:8099 bastion fleet watch --port 8099
    """  # noqa: D301 - click's mark for "do not rewrap"
    from fleet.watch.live import Live  # noqa: PLC0415 - with the next one: aiohttp and jinja2
    from fleet.watch.server import Watch, Wish, serve  # noqa: PLC0415 - late: start-up stays fast

    journal = find(run, state_folder())
    live = Live(journal, clean=clean)
    live.seen = history.read(state_folder(), live.run.settings.plan)
    live.name = name_of(journal, live.run.id)

    def carried_out(wish: Wish) -> str:
        by = f"watch: {whoami()}"
        given = give(
            journal,
            Order(verb=wish.verb, reason=wish.reason, by=by, target=wish.target, wave=wish.wave),
        )
        if given.refused:
            raise PlanError(Problem(given.words))
        return clean(given.words)

    def ready(address: str) -> None:
        click.echo(address)
        say(f"shows {live.run.id}; the address is good once, for one browser. Ctrl-C ends the page alone")

    async def served() -> None:
        await serve(Watch(live, None if read_only else carried_out), port, ready)

    asyncio.run(served())
    return Exit.OK
