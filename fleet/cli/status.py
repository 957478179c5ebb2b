"""``status`` and ``runs``: from journals alone, without the cloud."""

from __future__ import annotations

from itertools import chain, islice

import click

from fleet import history
from fleet.cli.common import name_of, now, output_option, print_json, print_lines, run_argument
from fleet.errors import Exit, JournalError
from fleet.journal import load
from fleet.report import status as report
from fleet.report.closing import closing_data, closing_lines
from fleet.report.digest import digest_of
from fleet.report.inventory import GROUPS, as_inventory, names
from fleet.report.notices import status_lines, told_data
from fleet.runs import find, is_locked, journals, state_folder
from fleet.told import Told, told_path


@click.command()
@run_argument()
@click.option("--all", "everything", is_flag=True, help="Every server, however many.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json", "ansible", "inventory", "names"]),
    default="text",
    help="Text for people, JSON for pipes, an Ansible inventory (under either name), or one name a line.",
)
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(GROUPS),
    help="With -o names: only these. Can be given several times.",
)
@click.option(
    "-w",
    "--watch",
    is_flag=True,
    help="Show it live until it is over; Ctrl-C stops watching. Without a terminal: a text now and then.",
)
@click.option(
    "--every",
    type=click.FloatRange(1),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Of --watch without a terminal: how often, if anything has happened.",
)
def status(
    run: str | None, *, everything: bool, output: str, only: tuple[str, ...], watch: bool, every: float
) -> int:
    """Show where every server of a run stands: RUN is an id, a prefix, a plan's name, a path, or the newest.

    \b
    Example:
      fleet status
      fleet status --watch
      fleet status web-tier -o json | jq '.servers[] | select(.phase == "failed")'
      fleet status web-tier -o ansible > inventory.json
      ansible-playbook -i inventory.json -l verified site.yaml
    """  # noqa: D301 - click's mark for "do not rewrap"
    if only and output != "names":
        raise click.UsageError("--only goes with -o names")
    if watch:
        if output != "text":
            raise click.UsageError("--watch shows text; `-o json` is for one look")
        from fleet.cli.watching import watch as follow  # noqa: PLC0415 - rich only where somebody looks

        return follow(run, every_s=every)
    journal = find(run, state_folder())
    worked_on = is_locked(journal)
    found, _ = load(journal)
    name = name_of(journal, found.id)
    seen = history.read(state_folder(), found.settings.plan)
    told = Told(told_path(state_folder(), found.settings.plan))
    if output == "json":
        data = report.as_data(found, worked_on=worked_on, now=now(), name=name, seen=seen)
        data |= closing_data(found, now(), seen)
        print_json(data | told_data(found, told, now=now(), worked_on=worked_on))
    elif output in {"ansible", "inventory"}:
        print_json(as_inventory(found))
    elif output == "names":
        print_lines(names(found, only))
    else:
        lines = report.as_text(
            found,
            worked_on=worked_on,
            now=now(),
            name=name,
            everything=everything,
            closing=closing_lines(found, now(), seen, attended=worked_on is not None),
            seen=seen,
        )
        silence = status_lines(found, told, now=now(), worked_on=worked_on)
        print_lines(chain(islice(lines, 1), silence, lines))
    return Exit.OK


@click.command()
@output_option
def runs(output: str) -> int:
    """List runs, the newest first.

    \b
    Example:
      fleet runs
    """  # noqa: D301 - click's mark for "do not rewrap"
    rows = []
    for name, journal in journals(state_folder()):
        row: dict[str, object] = {"run": name, "journal": str(journal)}
        try:
            found = digest_of(journal)
        except JournalError as error:
            row |= {"state": f"unreadable: {error.message}", "figures": None, "opened_at": None}
        else:
            holder = None if found.state == "finished" else is_locked(journal)
            held = f", {found.state}" if found.state.startswith("held: ") else ""
            row |= {
                "state": f"running ({holder}){held}" if holder else found.state,
                "figures": found.figures,
                "opened_at": found.opened_at,
            }
        rows.append(row)
    if output == "json":
        print_json(rows)
    elif not rows:
        print_lines([f"no runs in {state_folder()}"])
    else:
        print_lines(_line(row) for row in rows)
    return Exit.OK


def _line(row: dict[str, object]) -> str:
    figures = row["figures"]
    counts = f"{figures['verified']}/{figures['selected']} verified, " if isinstance(figures, dict) else ""
    return f"{row['run']}  {counts}{row['state']}"
