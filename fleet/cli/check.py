"""``check``: the independent referee on a run's journal."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fleet.cli.common import output_option, print_json, print_lines, run_argument, say
from fleet.errors import Exit, JournalError, PlanError, Problem
from fleet.referee import Fact, Report, judge
from fleet.runs import find, state_folder

PROMISES = {
    "P1": "no server is reinstalled twice",
    "P2": "the journal is whole",
    "P4": "limits, waves and the failure budget are kept",
    "P5": "what counts as accepted was accepted",
    "P6": "verified means reinstalled",
    "P8": "everybody has one end, with a reason",
    "P14": "only the run's own servers are touched",
    "P16": "every request has an earlier intent, every intent an outcome",
}
"""The promises that a journal and a record can be held to (docs/reliability.md)."""


@click.command()
@run_argument()
@click.option(
    "--record",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The cloud's own record, as `fleet simulator --record` writes it.",
)
@click.option(
    "--cloud",
    is_flag=True,
    help="Compare with the servers as they are now and, where the cloud has one, its record of reinstalls.",
)
@output_option
def check(run: str | None, *, record: Path | None, cloud: bool, output: str) -> int:
    """Judge a run by its journal: was a promise broken? RUN: an id, a prefix, a plan, a path; or the newest.

    The referee shares no code with what it judges. Changes nothing; ends with 3 when a promise was broken, or
    when the cloud shows something that the run does not explain.

    \b
    Example:
      fleet check
      fleet check web-tier --cloud
      fleet check web-tier --record record.jsonl
    """  # noqa: D301 - click's mark for "do not rewrap"
    journal = find(run, state_folder())
    try:
        data = journal.read_bytes()
    except OSError as error:
        raise JournalError(f"cannot read the journal {journal}: {error.strerror or error}") from error
    report = judge(data, None if record is None else _read(record))
    compared = None
    whole = not any(line.startswith("P2 ") for line in report.violations)
    if cloud and not whole:
        say("warning: not compared with the cloud: the journal is damaged")
    elif cloud:
        from fleet.cli.check_cloud import ask_cloud  # noqa: PLC0415 - a client only where a cloud is asked

        compared = ask_cloud(journal, data)
    if output == "json":
        print_json(_as_data(report, str(journal)) | ({"cloud": compared.as_data()} if compared else {}))
    else:
        print_lines([*_as_text(report, str(journal)), *(compared.as_text() if compared else ())])
    odd = report.violations or (compared and compared.found.odd)
    return Exit.FAILED if odd else Exit.OK


def _read(record: Path) -> list[Fact]:
    try:
        return [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines() if line]
    except (OSError, ValueError) as error:
        raise PlanError(Problem(f"no record of the cloud's: {error}", file=str(record))) from error


def _as_data(report: Report, journal: str) -> dict[str, object]:
    return {
        "journal": journal,
        "lines": report.lines,
        "torn_bytes": report.torn,
        "lives": report.lives,
        "finished": report.finished,
        "checked": dict(report.checked),
        "violations": report.violations,
    }


def _as_text(report: Report, journal: str) -> list[str]:
    lines = [f"{journal}: {report.lines} lines, {report.lives} lives"]
    if report.torn:
        lines.append(f"its last line is torn: {report.torn} bytes, which the next life cuts off")
    for promise, words in PROMISES.items():
        if tests := report.checked[promise]:
            broken = sum(line.startswith(f"{promise} ") for line in report.violations)
            lines.append(f"  {promise:<4}{words}: tested {tests} times, {broken or 'never'} broken")
    lines += report.violations
    lines.append(f"{len(report.violations)} violations" if report.violations else "no promise was broken")
    return lines
