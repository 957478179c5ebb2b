"""Write the pages under docs/reference from the code: `make reference`. Not shipped.

The plan's fields come from the JSON Schema that editors get, and their defaults from `fleet.core.settings`;
commands from click, exit codes from `fleet.errors.Exit`, events from the docstrings of `fleet.core.events`.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import click
import msgspec

from fleet.cli.main import cli
from fleet.core import events, settings
from fleet.errors import Exit
from fleet.plan import plan_schema

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
MADE = "<!-- Made by `make reference`: edit the code instead. -->\n"


def cell(text: str) -> str:
    """Return text for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def para(text: str) -> str:
    """Return a paragraph in lines as this project has them."""
    whole = re.sub(r"`[^`]*`", lambda span: span[0].replace(" ", "\0"), text)  # no line ends in a code span
    return textwrap.fill(whole, 110, break_long_words=False, break_on_hyphens=False).replace("\0", " ")


def table(*rows: tuple[str, ...]) -> Iterator[str]:
    """Yield the lines of a table; the first row is its head."""
    head, *others = rows
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in others:
        yield f"| {' | '.join(map(cell, row))} |"


# -- exit codes -----------------------------------------------------------------------------------------


def exit_codes() -> Iterator[str]:
    """Yield the page of exit codes."""
    yield "# Exit codes"
    yield ""
    yield para("They are stable, and made for cron. Every command ends with one of them.")
    yield ""
    yield from table(
        ("code", "meaning", "what to do"),
        *((str(int(code)), code.meaning, code.remedy or "nothing") for code in Exit),
    )
    yield ""
    yield para(
        "`fleet check` ends with 3 when a promise was broken, `fleet doctor` with the code "
        "that a run would end with. "
        "A run that is not finished ends with 4 if it is held, else 6 if a person has to "
        "approve, else 5; how many failed is "
        "told at its end. A run that still owes a server something (a hook that was not "
        "undone) never ends with 0."
    )


# -- commands -------------------------------------------------------------------------------------------


def commands() -> Iterator[str]:
    """Yield the page of commands."""
    yield "# Commands"
    yield ""
    yield para(
        "`fleet COMMAND --help` says the same. Data goes to standard output, talk to standard "
        "error. Every option can be "
        "given by the environment: `--log-format` of `run` as `FLEET_RUN_LOG_FORMAT`. RUN is a "
        "run's id, the beginning of "
        "one, a journal's path, or nothing for the newest. How they end: [exit "
        "codes](exit-codes.md)."
    )
    yield ""
    context = click.Context(cli, info_name="fleet")
    names = cli.list_commands(context)
    found = [(name, command) for name in names if (command := cli.get_command(context, name)) is not None]
    yield from table(
        ("command", ""),
        *(
            (f"[`{name}`](#{anchor(f'fleet {name}')})", command.get_short_help_str(200))
            for name, command in found
        ),
    )
    for name, command in found:
        yield ""
        yield from one_command(name, command, context)


def anchor(heading: str) -> str:
    """Return the name of a heading, as forges make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def one_command(name: str, command: click.Command, parent: click.Context) -> Iterator[str]:
    """Yield what there is to say about a command."""
    context = click.Context(command, info_name=name, parent=parent)
    yield f"## fleet {name}"
    yield ""
    yield f"`{' '.join(command.get_usage(context).removeprefix('Usage: ').split())}`"
    yield ""
    said, example = split_help(inspect.cleandoc(command.help or ""))
    yield said
    options = [each for each in command.get_params(context) if isinstance(each, click.Option)]
    records = (each.get_help_record(context) for each in options)
    rows = [record for record in records if record and "--help" not in record[0]]
    if rows:
        yield ""
        yield from table(("option", "meaning"), *((f"`{names}`", words) for names, words in rows))
    if example:
        yield ""
        yield "```text"
        yield example
        yield "```"


def split_help(text: str) -> tuple[str, str]:
    """Return what a help text says, and its example."""
    said, _, example = text.partition("\b\nExample:\n")
    said = said.replace("\b\n", "").strip()
    return said, textwrap.dedent(example).rstrip()


# -- events ---------------------------------------------------------------------------------------------

USUAL = {
    "server": "Id of the server.",
    "servers": "How many servers.",
    "target": "Name of the target.",
    "wave": "Number of the wave in its target, counted from 1.",
    "of": "How many waves the target has.",
    "reason": "Why, in words.",
    "why": "What went wrong, in words.",
    "by": "Who said so; empty: nobody, `fleet` itself did.",
    "hint": "What to do about it.",
    "host": "Machine that works on it.",
    "pid": "Process that works on it.",
    "job": "The cloud's job.",
    "code": "The cloud's own error code.",
    "request_id": "The cloud's id of the request, for its support.",
    "evidence": "What was seen.",
    "call": "Which call of the cloud's installs it.",
    "system_disk": "What identifies the present installation.",
    "data_disks": "Ids of its other disks.",
    "run": "Id of the run.",
    "fleet": "Version of `fleet`.",
    "settings": "The plan as resolved, without secrets.",
    "members": "The servers of every wave, as they were then.",
    "user": "Who the cloud says we are.",
    "hook": "Which hook.",
    "debt": "As in `DebtOwed`.",
    "force": "The power is cut, the guest is not asked.",
    "concurrency": "So many from now on.",
    "verified": "How many servers.",
    "failed": "How many servers.",
    "skipped": "How many servers.",
    "id": "Id of the server.",
    "name": "Its name.",
}
"""Fields that mean the same wherever they occur; a docstring that says more comes first."""

OF_MEMBERS = {
    "addresses": "Its addresses.",
    "security_groups": "Ids of its security groups.",
    "flavor": "Its flavor.",
    "zone": "Its availability zone.",
    "tags": "Its tags.",
    "key_pair": "The key pair that it had.",
}


def attributes(docstring: str) -> dict[str, str]:
    """Return what the ``Attributes:`` of a docstring say, by field."""
    _, _, text = inspect.cleandoc(docstring).partition("Attributes:\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in text.splitlines():
        if head := re.match(r" {4}([a-z_]+(?:, [a-z_]+)*): (.*)", line):
            names = head[1].split(", ")
            found |= dict.fromkeys(names, head[2])
        elif line.strip() and names:
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return {name: plain(words) for name, words in found.items()}


def plain(text: str) -> str:
    """Return the words of a docstring as Markdown has them."""
    return re.sub(r"``([^`]+)``", r"`\1`", text)


def event_types() -> list[type[msgspec.Struct]]:
    """Return every event, in the order of the file."""
    return sorted(get_args(events.Event), key=lambda each: inspect.getsourcelines(each)[1])


def journal_events() -> Iterator[str]:
    """Yield the page of events."""
    yield "# Events: the lines of a journal"
    yield ""
    yield para("A journal is JSON Lines, appended, one event a line, in the past tense. It is made for `jq`:")
    yield ""
    yield "```json"
    yield '{"seq": 7, "at": "2026-12-05T20:00:03.120Z", "event": "Stopped", "server": "8f0b…",'
    yield ' "state": "SHUTOFF", "crc": "9c3e01aa"}'
    yield "```"
    yield ""
    yield from table(
        ("in every line", "meaning"),
        ("`seq`", "Number of the line, counted from 1, without gaps."),
        ("`at`", "When, UTC."),
        ("`event`", "Which of those below."),
        (
            "`crc`",
            "CRC-32 of the line up to it, going on from the line before: a changed or lost line is noticed.",
        ),
    )
    yield ""
    yield para(
        f"The format's number is {events.FORMAT}, in the first line. Fields and events are "
        f"added, never renamed; a journal of "
        "a newer number is refused. A field that is not there has its default. *Synced* events "
        "are on the disk before "
        "anything else happens; the others may be lost in a power cut, and looking at the "
        "server finds them again."
    )
    run_events = set(get_args(events.RunEvent))
    found = event_types()
    for title, chosen in (
        ("Of the run", [each for each in found if each in run_events]),
        ("Of a server", [each for each in found if each not in run_events]),
    ):
        yield ""
        yield f"## {title}"
        for event in chosen:
            yield ""
            yield from one_event(event, event.__name__)
    yield ""
    yield "## A server in the first line"
    yield ""
    yield from one_event(events.Member, "`members` of RunOpened", more=OF_MEMBERS)


def one_event(event: type[msgspec.Struct], title: str, more: dict[str, str] | None = None) -> Iterator[str]:
    """Yield what an event says, and its fields."""
    said = inspect.getdoc(event) or ""
    words = " ".join(said.partition("Attributes:")[0].split())
    yield f"### {title}"
    yield ""
    yield plain(words) + (" *Synced.*" if event in events.SYNCED else "")
    rows = list(event_fields(event, more or {}))
    if rows:
        yield ""
        yield from table(("field", "type", "default", "meaning"), *rows)


def event_fields(event: type[msgspec.Struct], more: dict[str, str]) -> Iterator[tuple[str, str, str, str]]:
    """Yield the fields of an event: name, type, default, meaning."""
    told = attributes(event.__doc__ or "")
    hints = get_type_hints(event)
    for each in msgspec.structs.fields(event):
        meaning = told.get(each.name) or more.get(each.name) or USUAL.get(each.name)
        if meaning is None:
            raise SystemExit(f"{event.__name__}.{each.name}: its docstring does not say what it is")
        default = "needed" if each.required else shown(default_of(each))
        yield f"`{each.name}`", type_words(hints[each.name]), default, meaning


_TYPES = {str: "text", int: "number", float: "number", bool: "boolean"}


def type_words(hint: Any) -> str:
    """Return the type of an event's field, for people who write jq."""
    words = str(hint)
    name = getattr(hint, "__name__", "")
    if hint in _TYPES:
        return _TYPES[hint]
    if "None" in words:
        rest = [each for each in get_args(hint) if each is not type(None)]
        return " or ".join(map(type_words, rest)) + " or null"
    if words.startswith("tuple"):
        return f"list of {type_words(get_args(hint)[0])}"
    if words.startswith("dict"):
        return "mapping of text to text"
    return {"Settings": "the plan", "Member": "[server](#members-of-runopened)"}.get(name, "text")


def default_of(each: msgspec.structs.FieldInfo) -> object:
    """Return a field's default."""
    if each.default_factory is not msgspec.NODEFAULT:
        return each.default_factory()
    return each.default


# -- the plan -------------------------------------------------------------------------------------------

SETTINGS: dict[str, type[msgspec.Struct]] = {
    "Cloud": settings.CloudSettings,
    "Reinstall": settings.Reinstall,
    "Stop": settings.Stop,
    "Http": settings.HttpCheck,
    "Nonce": settings.NonceCheck,
    "NoncePage": settings.NonceCheck,
    "Check": settings.CommandCheck,
    "Verify": settings.Verify,
    "Rollout": settings.Rollout,
    "Around": settings.Around,
    "Hooks": settings.Hooks,
    "Backup": settings.Backup,
    "HttpGate": settings.HttpGate,
    "Notify": settings.Notify,
    "Target": settings.Target,
}
"""Where a mapping's defaults are."""

WORDED = {
    "plan.version": "1",
    "plan.name": "the file's name",
    "Cloud.provider": "`ecs`",
    "Reinstall.cloud_init": "`auto`",
    "Reinstall.user_id": "the authenticated user",
    "Reinstall.image": "the server's own",
    "Rollout.failures": "`{hold_after: 0}`",
    "Rollout.max_failures": "0",
    "Failures.hold_after": "0; of the plan's `failures`: no limit",
    "Target.needs": "the target before",
    "plan.claim": "`false`",
    "plan.leave": "`as-found`",
    "Defaults.leave": "`as-found`",
}
"""Defaults that no struct says."""


def durations(seconds: float) -> str:
    """Write seconds as a plan has them."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length and seconds % length == 0 and not (unit == "h" and seconds < 7200):
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s"


def shown(value: object) -> str:
    """Write a default as it would stand in YAML; nothing, where it is nothing."""
    match value:
        case None | () | "" | {} | msgspec.NODEFAULT:
            return ""
        case bool():
            return f"`{str(value).lower()}`"
        case settings.Share():
            return f"`{value}`"
        case tuple():
            return f"`[{', '.join(str(each) for each in value)}]`"
        case int() | float():
            return f"{value:g}"
        case str():
            return f"`{value}`"
    return ""


def default(part: str, name: str, *, required: bool) -> str:
    """Return the default of a plan's field, in words."""
    if required:
        return "needed"
    if words := WORDED.get(f"{part}.{name}"):
        return words
    struct = SETTINGS.get(part)
    fields = {each.name: each for each in msgspec.structs.fields(struct)} if struct else {}
    if f"{name}_s" in fields:
        value = default_of(fields[f"{name}_s"])
        return f"`{durations(value)}`" if isinstance(value, int | float) and value else ""
    return shown(default_of(fields[name])) if name in fields else ""


def kind(schema: dict[str, Any]) -> str:  # noqa: C901, PLR0912 - a table of kinds
    """Return the type of a field, in words."""
    if ref := schema.get("$ref"):
        name = ref.rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if words := schema.get("enum"):
        return ", ".join(f"`{str(each).lower() if isinstance(each, bool) else each}`" for each in words)
    if "const" in schema:
        return f"`{schema['const']}`"
    if ways := schema.get("anyOf"):
        real = [way for way in ways if way.get("type") != "null"]
        listed = real[1].get("items") if len(real) == 2 and real[1].get("type") == "array" else None
        if listed in (real[0], {"type": "string"}):
            if "\\S" in real[0].get("pattern", ""):
                return "command: a list of words"
            return f"{kind(real[0])}; or a list of them"
        text = " or ".join(dict.fromkeys(kind(way) for way in real))
        return text + (" or `null`" if len(real) < len(ways) and "default" not in schema else "")
    examples = schema.get("examples", [""])
    match schema.get("type"):
        case "integer" | "number" as number:
            low = schema.get("minimum", schema.get("ge"))
            high = schema.get("maximum", schema.get("le"))
            what = "whole number" if number == "integer" else "number"
            if low is not None and high is not None:
                return f"{what}, {low} to {high}" if low != high else str(low)
            if high is not None:
                return f"{what} up to {high}"
            return f"{what} from {low}" if low is not None else what
        case "boolean":
            return "`true`, `false`"
        case "array":
            return f"list of {kind(schema['items'])}"
        case "object":
            if "regex" in schema.get("properties", {}):
                return "`{regex: …}`"
            return f"mapping of text to {kind(schema['additionalProperties'])}"
    if examples[0] == "90s":
        return "duration"
    if examples[0] == "25%":
        return "share"
    if examples[0] == "22:00":
        return "time or moment"
    if "http" in schema.get("pattern", ""):
        return "URL"
    if "tag:" in schema.get("pattern", ""):
        return "`tag:KEY`"
    if "a-z0-9" in schema.get("pattern", ""):
        return "name"
    return "text"


def places(schema: dict[str, Any]) -> dict[str, list[str]]:
    """Return where in a plan each mapping may stand."""
    found: dict[str, list[str]] = {}

    def walk(properties: dict[str, Any], path: str, above: tuple[str, ...]) -> None:
        for name, field in properties.items():
            inside = set(re.findall(r"#/\$defs/(\w+)", str(field)))
            here = f"{path}{name}" + ("[]" if "array" in str(field) and inside else "")
            for part in sorted(inside - set(above)):
                found.setdefault(part, []).append(here)
                walk(schema["$defs"][part]["properties"], f"{here}.", (*above, part))

    walk(schema["properties"], "", ())
    return found


def where(paths: list[str]) -> str:
    """Name the places of a mapping; those under `defaults` and `targets[]` in one."""
    short = [path for path in paths if not path.startswith(("defaults.", "targets[]."))]
    there = {
        prefix for path in paths for prefix in ("defaults", "targets[]") if path.startswith(f"{prefix}.")
    }
    if not short:
        return ", ".join(f"`{path}`" for path in paths)
    more = f"; the same under {' and '.join(f'`{each}`' for each in sorted(there))}" if there else ""
    return ", ".join(f"`{path}`" for path in short) + more


def plan_fields() -> Iterator[str]:
    """Yield the page of the plan."""
    schema = plan_schema()
    parts = schema["$defs"]
    yield "# The plan: every field"
    yield ""
    yield para(
        "Editors show the same where a plan's first line is "
        "`# yaml-language-server: $schema=./plan.schema.json`, and `fleet schema > plan.schema.json` was "
        "given in its folder. Nearly every field is optional. What limits, windows, checks and hooks exactly "
        "mean is on pages of their own ([the map](../README.md))."
    )
    yield ""
    yield from table(
        ("type", "is"),
        ("duration", "`90s`, `10m`, `1h30m`, `2d`; a number without a unit is refused"),
        (
            "share",
            "`25%`: of the target, as it was when the run was opened ([rounding](../limits.md#shares))",
        ),
        (
            "command",
            'a list of words, `[./checks/up, "{server.name}"]`, without a shell; one word may stand alone',
        ),
        ("name", "a-z, 0-9 and -, at most 64"),
        ("time or moment", '`"22:00"` (in quotes), or `2026-12-05T20:00+01:00`'),
        ("or a list of them", "one value may stand alone"),
    )
    yield ""
    yield "## The top of the file"
    yield ""
    yield para(
        "A plan has `targets`, or is one itself: `select` and a login at the top are a whole "
        "plan. What is said at the top is "
        "for every target, unless `defaults` or the target says otherwise."
    )
    yield ""
    yield from fields("plan", schema, [])
    found = places(schema)
    for part in sorted(parts, key=lambda each: list(found).index(each)):
        yield ""
        yield f"## {part}"
        yield ""
        yield f"{parts[part].get('description', '')} At {where(found[part])}."
        yield ""
        yield from fields(part, parts[part], parts[part].get("required", []))


def fields(part: str, schema: dict[str, Any], required: list[str]) -> Iterator[str]:
    """Yield the table of a mapping's fields."""
    rows = []
    for name, field in schema["properties"].items():
        words = field.get("description")
        if not words:
            raise SystemExit(f"{part}.{name} has no description in fleet/plan/model.py")
        rows.append((f"`{name}`", kind(field), default(part, name, required=name in required), words))
    yield from table(("field", "type", "default", "meaning"), *rows)


PAGES: dict[str, Callable[[], Iterator[str]]] = {
    "plan.md": plan_fields,
    "cli.md": commands,
    "exit-codes.md": exit_codes,
    "events.md": journal_events,
}


def page(name: str) -> str:
    """Return a page as it is to be."""
    return "\n".join((MADE.rstrip(), "", *PAGES[name]())) + "\n"


def main() -> int:
    """Write the pages."""
    FOLDER.mkdir(exist_ok=True)
    for name in PAGES:
        (FOLDER / name).write_text(page(name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
