"""YAML to plain data, with the line and column of everything in it.

The text is read as events, not with PyYAML's constructors: those let the second of two equal keys win,
turn ``22:00`` into 1320 and ``no`` into False, and walk aliases until memory ends. Scalars follow YAML
1.2 narrowed to JSON's words: ``true``, ``false``, ``null``, plain decimal numbers. Everything else
(``no``, ``0123``, ``22:00``, dates) arrives as the text that was typed, and the field that it was typed
into decides what to say about it.

Nothing here knows what a plan is, except which fields may hold secrets: their content is never shown.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

import yaml

from fleet.errors import PlanError, Problem
from fleet.plan.compose import MAX_DEPTH, MAX_NODES, Composer, Mark, Node

MAX_BYTES = 4 * 1024 * 1024
Loc = tuple[str | int, ...]

SECRET_FIELDS = frozenset({"admin_password", "webhook", "text", "url", "http", "endpoints", "ical"})
"""Fields below which neither values nor keys are shown. URLs and texts are there for what people put in."""

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,30})?(?:[eE][-+]?[0-9]{1,3})?")
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(slots=True)
class Document:
    """A file's content and where everything stands.

    Attributes:
        file: The path as the user gave it.
        data: Mappings, lists, text, numbers, true, false and None.
        values: Where each value starts.
        keys: Where each key of a mapping starts.
        typed: Each scalar as it was typed, so that ``1.10`` can be told from ``1.1``.
        problems: What is wrong with the YAML and did not stop the reading.
    """

    file: str
    data: object = None
    values: dict[Loc, Mark] = field(default_factory=dict)
    keys: dict[Loc, Mark] = field(default_factory=dict)
    typed: dict[Loc, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def has(self, *loc: str | int) -> bool:
        """Tell whether the file says anything there, right or wrong."""
        return loc in self.values

    def trace(self, loc: Loc) -> Loc:
        """Keep the parts of *loc* that lead somewhere; others are the validator's own (union tags)."""
        path: Loc = ()
        for part in loc:
            if (*path, part) in self.values:
                path = (*path, part)
        return path

    def get(self, *loc: str | int) -> object:
        """Return the plain value there, or None."""
        found = self.data
        for part in loc:
            if isinstance(found, dict):
                found = found.get(part)
            elif isinstance(found, list) and isinstance(part, int) and part < len(found):
                found = found[part]
            else:
                return None
        return found

    def problem(self, loc: Loc, message: str, hint: str | None = None, *, at_key: bool = False) -> Problem:
        """Make a problem about what stands at *loc*, or at the nearest place above it that exists.

        Args:
            loc: Keys and indexes, from the top.
            message: What was found and expected. The caller keeps secrets out of it.
            hint: What to write instead.
            at_key: Point at the key instead of at its value.
        """
        path = self.trace(loc)
        mark = (self.keys.get(path) if at_key else None) or self.values.get(path)
        line, column = (mark.line, mark.column) if mark else (None, None)
        return Problem(
            message, hint=hint, file=self.file, line=line, column=column, path=spell(show_no_secret(path))
        )


def spell(loc: Loc) -> str:
    """Write a path as people do: ``targets[0].select.name``."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def is_secret(loc: Loc) -> bool:
    """Tell whether what stands at *loc* must not be shown."""
    return any(part in SECRET_FIELDS for part in loc)


def show_no_secret(loc: Loc) -> Loc:
    """Cut *loc* behind the field that holds the secret: the keys below may be the secret itself."""
    for depth, part in enumerate(loc):
        if part in SECRET_FIELDS:
            # Known names below it are ours and help: admin_password.env
            below = loc[depth + 1 :]
            if all(isinstance(name, int) or name in _KNOWN_BELOW for name in below):
                return loc
            return loc[: depth + 1]
    return loc


_KNOWN_BELOW = frozenset(
    {"env", "file", "command", "url", "status", "query", "below", "above", "ecs", "iam", "ims", "timeout"}
)


def read(content: bytes, file: str) -> Document:
    """Read a plan file's bytes.

    Raises:
        PlanError: It is no YAML, or no mapping, or too big: nothing more can be said about it.
            Lesser mistakes (a key twice) are in the document's problems.
    """
    if len(content) > MAX_BYTES:
        raise PlanError(
            Problem(
                f"the file has {len(content):,} bytes; plans of more than {MAX_BYTES:,} are not read",
                hint="is this the right file? select servers by tag or name instead of listing them",
                file=file,
            )
        )
    text = _decode(content, file)
    try:
        root = Composer(text, file).compose()
    except yaml.MarkedYAMLError as error:
        raise PlanError(_syntax(error, text, file)) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        kind = type(error).__name__
        raise PlanError(
            Problem(f"this is no YAML ({kind})", hint="check its encoding: UTF-8", file=file)
        ) from None
    if root is None:
        raise PlanError(
            Problem(
                "the file is empty",
                hint="a plan needs at least `select:` and `key_pair:`; see plans/minimal.yaml",
                file=file,
                line=1,
                column=1,
            )
        )
    document = Document(file)
    document.data = _Walk(document).walk(root, ())
    if not isinstance(document.data, dict):
        raise PlanError(
            document.problem(
                (),
                f"a plan is a mapping, not {kind_of(document.data)}",
                "write fields such as `select:`, one a line",
            )
        )
    return document


def kind_of(value: object) -> str:
    """Name the kind of a value for a message; never the value itself."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
    return "a mapping"


def _decode(content: bytes, file: str) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        last_line = before.rsplit(b"\n", 1)[-1].decode("utf-8-sig", errors="replace")
        raise PlanError(
            Problem(
                f"byte 0x{content[error.start]:02x} is not UTF-8",
                hint="save the file as UTF-8",
                file=file,
                line=before.count(b"\n") + 1,
                column=len(last_line) + 1,
            )
        ) from None
    if found := _UNPRINTABLE.search(text):
        raise PlanError(
            Problem(
                f"the character U+{ord(found[0]):04X} is not allowed in YAML",
                hint="remove it, or write it as an escape in double quotes",
                file=file,
                line=text.count("\n", 0, found.start()) + 1,
                column=found.start() - text.rfind("\n", 0, found.start()),
            )
        )
    return text


def _syntax(error: yaml.MarkedYAMLError, text: str, file: str) -> Problem:
    """Put the parser's complaint into a problem, without the source line: it may hold a password."""
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    lines = text.splitlines()
    source = lines[line - 1] if line <= len(lines) else ""
    said = re.sub(r"(['\"]).{2,}?\1", "…", error.problem or "it cannot be read")  # names out of the file
    if "\t" in source[: max(column, len(source) - len(source.lstrip()))]:
        return Problem(
            "a tab stands where YAML wants spaces",
            hint="indent with spaces",
            file=file,
            line=line,
            column=column,
        )
    context = f" {error.context}" if error.context and "'" not in error.context else ""
    return Problem(
        f"this is no YAML: {said}{context}",
        hint="look for a missing quote, bracket or colon on this line or the one before it",
        file=file,
        line=line,
        column=column,
    )


class _Walk:
    """Turn nodes into plain data, note every place, and count, since aliases multiply."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._count = 0

    def walk(self, node: Node, loc: Loc) -> object:
        self._count += 1
        self._document.values[loc] = node.mark
        if self._count > MAX_NODES or len(loc) > MAX_DEPTH:
            raise PlanError(
                self._document.problem(
                    loc,
                    "aliases blow this plan up: too many values",
                    "write the values out, or use `defaults:`",
                )
            )
        while node.kind == "alias":
            assert isinstance(node.value, Node)  # noqa: S101 - for the type checker: what the composer made
            node = node.value
        if isinstance(node.value, list):
            if node.kind == "list":
                return [self.walk(item, (*loc, index)) for index, item in enumerate(node.value)]
            return self._mapping(node.value, loc)
        return self._scalar(node, loc)

    def _mapping(self, pairs: list[tuple[Node, Node]], loc: Loc) -> dict[str, object]:
        found: dict[str, object] = {}
        for key_node, value_node in pairs:
            key = self._key(key_node, loc)
            if key is None:
                continue
            if key in found:
                first = self._document.keys[(*loc, key)]
                shown = "this field" if is_secret(loc) else f"`{key}`"
                self._complain(
                    key_node,
                    (*loc, key),
                    f"{shown} stands twice; first on line {first.line}",
                    "keep one of them",
                )
                continue
            self._document.keys[(*loc, key)] = key_node.mark
            found[key] = self.walk(value_node, (*loc, key))
        return found

    def _key(self, node: Node, loc: Loc) -> str | None:
        if node.kind != "scalar" or not isinstance(node.value, str):
            self._complain(node, loc, "a key must be text", "write `key: value`")
            return None
        if node.plain and node.value == "<<":
            self._complain(
                node,
                loc,
                "merge keys (`<<`) are not read",
                "put what targets share under `defaults:`; a target overrides it field by field",
            )
            return None
        if node.plain and not isinstance(plain_value(node.value), str):
            shown = "…" if is_secret(loc) else node.value
            self._complain(node, loc, "a key must be text", f'put it in quotes: "{shown}":')
        return node.value

    def _complain(self, node: Node, loc: Loc, message: str, hint: str) -> None:
        path = spell(show_no_secret(loc))
        line, column = node.mark.line, node.mark.column
        self._document.problems.append(
            Problem(message, hint=hint, file=self._document.file, line=line, column=column, path=path)
        )

    def _scalar(self, node: Node, loc: Loc) -> object:
        text = str(node.value)
        self._document.typed[loc] = text
        return plain_value(text) if node.plain else text


def plain_value(text: str) -> str | int | float | bool | None:
    """Return what an unquoted scalar means: JSON's words and numbers, else the text itself."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text
