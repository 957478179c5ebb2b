"""A run for other programs and for tickets: CSV, JUnit XML, Markdown. From `fleet.report.document` alone."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from xml.sax.saxutils import quoteattr

from fleet.report.figures import amounts_to, rows_amount_to, sentence

_COLUMNS = (
    "id", "name", "target", "wave", "phase", "in_doubt", "begin", "end", "seconds", "attempts", "job",
    "system_disk_before", "system_disk", "reason", "code", "request_id",
)  # fmt: skip

_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def as_csv(document: dict[str, Any]) -> str:
    """Return one line a server, with a heading; times in UTC (ISO 8601), durations in seconds.

    What a spreadsheet would take for a formula gets a quotation mark before it: names are foreign text.
    """
    rows_amount_to(document["figures"], (row["phase"] for row in document["servers"]))
    file = io.StringIO()
    writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in document["servers"]:
        cells = row | _times(row)
        writer.writerow({name: cell(cells[name]) for name in _COLUMNS})
    return file.getvalue()


def _times(row: dict[str, Any]) -> dict[str, Any]:
    """Return when a server's work began and ended, and its seconds over all goes."""
    spans = row["spans"]
    if not spans:
        return {"begin": None, "end": None, "seconds": None}
    took = [(span["end"] - span["begin"]).total_seconds() for span in spans if span["end"] is not None]
    return {"begin": spans[0]["begin"], "end": spans[-1]["end"], "seconds": round(sum(took), 1)}


def cell(value: object) -> object:
    """Return what is written into a cell of CSV: no formula, and times in UTC."""
    if isinstance(value, datetime):
        return stamp(value)
    if isinstance(value, str) and value.startswith(_FORMULAS):
        return f"'{value}"
    return value


def stamp(at: datetime) -> str:
    """Return ``2026-12-05T21:14:03Z``."""
    return f"{at:%Y-%m-%dT%H:%M:%S}Z"


def as_junit(document: dict[str, Any]) -> str:
    """Return JUnit XML: a suite a target, a case a server.

    Failed is a failure; skipped and never touched are skipped; in flight and in doubt are errors, since
    nobody may take them for done.
    """
    suites: dict[str, list[dict[str, Any]]] = {}
    told: Counter[str] = Counter()
    for row in document["servers"]:
        suites.setdefault(row["target"], []).append(row)
        told[_kind(row)] += 1
    for kind, keys in _KINDS.items():
        amounts_to(document["figures"], keys, told[kind], f"cases of kind {kind or 'passed'!r}")
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f"<testsuites name={quoteattr(document['run'])}>"]
    for target, rows in suites.items():
        kinds = [_kind(row) for row in rows]
        counts = " ".join(
            f'{plural}="{kinds.count(kind)}"'
            for kind, plural in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped"))
        )
        lines.append(f'  <testsuite name={quoteattr(target)} tests="{len(rows)}" {counts}>')
        lines += [line for row, kind in zip(rows, kinds, strict=True) for line in _case(row, kind)]
        lines.append("  </testsuite>")
    return "\n".join([*lines, "</testsuites>", ""])


_KINDS = {
    "": "verified",
    "failure": "failed",
    "skipped": "skipped+never_touched",
    "error": "in_flight+in_doubt",
}
"""What a case says, and which figures are its sum."""


def _kind(row: dict[str, Any]) -> str:
    return {"verified": "", "failed": "failure", "skipped": "skipped", "waiting": "skipped"}.get(
        row["phase"], "error"
    )


def _case(row: dict[str, Any], kind: str) -> Iterator[str]:
    name = quoteattr(row["name"] or row["id"])
    opening = (
        f'    <testcase classname={quoteattr(row["target"])} name={name} time="{_times(row)["seconds"] or 0}"'
    )
    if not kind:
        yield f"{opening}/>"
        return
    words = row["reason"] or ("in doubt" if row["in_doubt"] else row["phase"])
    yield f"{opening}><{kind} message={quoteattr(str(words))}/></testcase>"


def as_markdown(document: dict[str, Any]) -> str:
    """Return a summary for a ticket: figures, nights, causes, never touched, what is next."""
    figures = document["figures"]
    for key, groups in (("failed", document["causes"]), ("never_touched", document["never_touched"])):
        amounts_to(figures, key, sum(len(group["servers"]) for group in groups), "servers in its list")
    lines = [
        f"# {_md(document['run'])}", "",
        f"**{_md(document['state'])}** — {sentence(figures)}", "",
    ]  # fmt: skip
    if document["owed"]:
        lines += ["## Owed, and not paid", ""]
        lines += [
            f"- {_md(each['name'] or each['id'])}: {_md('; '.join(each['what']))}"
            for each in document["owed"]
        ]
        lines.append("")
    lines += [
        "## Nights",
        "",
        "| began (UTC) | last word | started | verified | failed |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {stamp(night['begin'])} | {_md(night['last_word'] or 'cut short')} "
        f"| {night['admitted']} | {night['verified']} | {night['failed']} |"
        for night in document["nights"]
    ]
    if document["causes"]:
        lines += ["", "## Failed, by cause", ""]
    for cause in document["causes"]:
        code = f" [{cause['code']}]" if cause["code"] else ""
        requests = f" (requests {_md(', '.join(cause['request_ids']))})" if cause["request_ids"] else ""
        shared = f"; all of {_md(' and '.join(cause['in_common']))}" if cause["in_common"] else ""
        what = f"{cause['phase']}: {_md(cause['reason'])}{code}{requests}{shared}"
        lines.append(f"- **{len(cause['servers'])}** while {what} — {_md(', '.join(cause['servers']))}")
        lines.append(f"  Next: `{cause['next'].replace('`', '')}`")
    if document["never_touched"]:
        lines += ["", "## Never touched", ""]
        lines += [f"- {len(each['servers'])} x {_md(each['reason'])}" for each in document["never_touched"]]
    if document["next"]:
        lines += ["", f"Next: `{document['next']}`"]
    return "\n".join([*lines, ""])


def _md(text: str) -> str:
    """Return foreign text that Markdown leaves as it is."""
    return "".join(f"\\{char}" if char in "\\`*_[]<>|#" else char for char in text.replace("\n", " "))
