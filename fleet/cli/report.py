"""``report``: a run as a page that can be sent, or as data for other programs. From the journal alone."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import click
import msgspec

from fleet import history
from fleet.cli.common import clean, name_of, now, run_argument, say
from fleet.errors import Exit, FleetError
from fleet.report import tables, wipes
from fleet.report.document import as_document
from fleet.report.timeline import Timeline, read_timeline
from fleet.runs import find, is_locked, state_folder

_TO_STDOUT = "-"


@click.command()
@run_argument()
@click.option(
    "-o",
    "--output",
    type=click.Choice(["html", "json", "csv", "wipes", "junit", "markdown"]),
    default="html",
    help="A page for people; the others for programs, auditors (wipes: CSV, a line a wipe) and tickets.",
)
@click.option(
    "--to",
    metavar="FILE",
    help="Where to write; - is standard output. By default RUN.html in this folder; other forms are printed.",
)
def report(run: str | None, *, output: str, to: str | None) -> int:
    """Write what happened to every server of a run: RUN is an id, a prefix, a plan, a path, or the newest.

    \b
    Example:
      fleet report
      fleet report web-tier -o csv > servers.csv
      fleet report web-tier -o wipes > wipes.csv
      fleet report web-tier -o junit --to results.xml
    """  # noqa: D301 - click's mark for "do not rewrap"
    journal = find(run, state_folder())
    worked_on = is_locked(journal)
    timeline = read_timeline(journal)
    if output == "wipes":
        text = clean(wipes.as_csv(wipes.read_wipes(journal)))
    else:
        text = clean(_written(timeline, output, worked_on, name_of(journal, timeline.run.id)))
    if to is None and output == "html":
        to = f"{timeline.run.id}.html"
    if to is None or to == _TO_STDOUT:
        click.echo(text, nl=not text.endswith("\n"))
    else:
        _replace(Path(to), text.encode())
        say(f"wrote {to}")
    return Exit.OK


def _written(timeline: Timeline, output: str, worked_on: str | None, name: str) -> str:
    seen = history.read(state_folder(), timeline.run.settings.plan)
    if output == "html":
        from fleet.report.page import as_html  # noqa: PLC0415 - jinja2 only for those who use it

        return as_html(timeline, worked_on=worked_on, now=now(), name=name, seen=seen)
    document = as_document(timeline, worked_on=worked_on, now=now(), name=name, seen=seen)
    if output == "csv":
        return tables.as_csv(document)
    if output == "junit":
        return tables.as_junit(document)
    if output == "markdown":
        return tables.as_markdown(document)
    return msgspec.json.format(msgspec.json.encode(document, enc_hook=str), indent=2).decode()


def _replace(path: Path, data: bytes) -> None:
    """Write a file as a whole or not at all, readable by its owner only."""
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
        raise FleetError(
            f"cannot write {path}: {error.strerror or error}", hint="--to names another file, - is the screen"
        ) from error
